"""ASGI middleware: checks host, origin and token; adds security headers."""

import hashlib
import hmac
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ig65m.server.errors import ApiError

COOKIE: Final = "ig65m"
HEADERS: Final = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
            b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"x-frame-options", b"DENY"),
)
WAITING: Final = "ig65m.waiting"
SHORTEST_DELAY: Final = 1.0  # seconds that a wrong token costs
LONGEST_DELAY: Final = 10.0
FORGOTTEN_SECONDS: Final = 60.0
MOST_ADDRESSES: Final = 1000
LINGER_SECONDS: Final = 5.0
LINGER_BYTES: Final = 1 << 28
_OPEN: Final = ("/", "/docs", "/api/login")  # paths that need no token
_OPEN_FOLDERS: Final = ("/static/", "/docs/")


@dataclass(frozen=True)
class AccessPolicy:
    """Who may use the service."""

    hosts: frozenset[str]  # host names of the service with their ports
    names: frozenset[str] = frozenset()  # host names that are valid with any port
    token: str | None = None
    throttle: "Throttle" = field(default_factory=lambda: Throttle())

    @property
    def cookie(self) -> str:
        """Value of the cookie that proves knowledge of the token, without being the token."""
        return hmac.digest((self.token or "").encode(), b"ig65m cookie", hashlib.sha256).hex()

    def knows(self, token: str) -> bool:
        """Return whether the token is right; the time taken does not reveal how much of it is."""
        return self.token is not None and hmac.compare_digest(token.encode(errors="replace"), self.token.encode())

    def check(self, scope: Scope) -> ApiError | None:
        """Return why a request is refused; None if it is not."""
        headers = [(name, value.decode("latin-1")) for name, value in scope["headers"]]
        host = [value.lower() for name, value in headers if name == b"host"]
        if len(host) != 1 or not self._is_ours(host[0]):
            return ApiError(421, "wrong_host", "unknown host name; allow it with --allow-host")
        origins = [value for name, value in headers if name == b"origin"]
        sites = [value for name, value in headers if name == b"sec-fetch-site"]
        if any(not _same(origin, host[0]) for origin in origins):
            return ApiError(403, "wrong_origin", "another site must not use this service")
        if any(site not in ("same-origin", "none") for site in sites) and not _is_link(scope, headers):
            return ApiError(403, "wrong_origin", "another site must not use this service")
        if self.token is not None and not _is_open(scope["path"]):
            shown, is_guess = self._shown(headers)
            if not shown:
                message = "a token is needed: Authorization: Bearer TOKEN, or POST /api/login"
                return ApiError(401, "no_token", message, {"WWW-Authenticate": "Bearer"}, is_delayed=is_guess)
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        return host in self.hosts or name in self.names

    def _shown(self, headers: Iterable[tuple[bytes, str]]) -> tuple[bool, bool]:
        """Return whether the request has the right token or cookie, and whether it has any token."""
        shown = is_guess = False
        for name, value in headers:
            if name == b"authorization":
                kind, _, token = value.partition(" ")
                is_guess = True
                shown |= kind.lower() == "bearer" and self.knows(token.strip())
            elif name == b"cookie":
                for part in value.split(";"):
                    key, _, given = part.strip().partition("=")
                    shown |= key == COOKIE and hmac.compare_digest(given.encode(), self.cookie.encode())
        return shown, is_guess


def _same(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and origin.lower() == f"{parts.scheme}://{host}"


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)


def _is_link(scope: Scope, headers: Iterable[tuple[bytes, str]]) -> bool:
    """Return whether a link of another site leads to the page, which is harmless."""
    said = dict(headers)
    return (
        scope["method"] == "GET"
        and scope["path"] in ("/", "/docs")
        and (said.get(b"sec-fetch-mode"), said.get(b"sec-fetch-dest")) == ("navigate", "document")
    )


class Throttle:
    """Delays responses to wrong tokens, the more of them an address sends the longer. The right token never waits.

    A waiting connection may be closed for a new one: WAITING in its scope marks it.
    """

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[float, float]] = (
            OrderedDict()
        )  # by address: number of recent wrong tokens, and when

    def delay(self, address: str, now: float) -> float:
        """Return the delay in seconds for another wrong token from an address; half of the earlier ones are forgotten each
        minute.
        """
        count, last = self._wrong.pop(address, (0.0, now))
        count = 1 + count * math.exp2(-(now - last) / FORGOTTEN_SECONDS)
        self._wrong[address] = count, now
        while len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)
        return min(LONGEST_DELAY, SHORTEST_DELAY * (1 + count / 10))

    async def wait(self, scope: Scope) -> None:
        """Wait as long as the client of that request must."""
        scope[WAITING] = True
        client = scope.get("client") or ("", 0)
        await anyio.sleep(self.delay(client[0], anyio.current_time()))


class AccessMiddleware:
    """ASGI middleware around the routes: checks, headers for every response, and an orderly end if a body was not read.

    A client that is still sending would lose the response if the connection was closed at once. So what it sends is discarded
    for a few seconds.
    """

    def __init__(self, app: ASGIApp, access: AccessPolicy) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        refusal = self.access.check(scope)
        if refusal is not None and refusal.is_delayed:
            await self.access.throttle.wait(scope)
        app = self.app if refusal is None else refusal.response()
        await app(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = dict(scope["headers"])
        self.unread = b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"
        # A message with both may smuggle another request past a proxy; source: RFC 9112, 6.3.
        self.must_close = b"transfer-encoding" in names and b"content-length" in names
        self._receive, self._send = receive, send

    async def receive(self) -> Message:
        message = await self._receive()
        self.unread = self.unread and message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            close = [(b"connection", b"close")] if self.unread or self.must_close else []
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS, *close]}
        if message["type"] != "http.response.body" or message.get("more_body") or not self.unread:
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._linger()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        dropped = 0
        with anyio.move_on_after(LINGER_SECONDS):
            while self.unread and dropped < LINGER_BYTES:
                dropped += len((await self.receive()).get("body", b""))
