"""What stands before every route: who may ask, and what every answer says to browsers."""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ig65m.server.refusal import Refusal

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
LINGER_SECONDS: Final = 5.0
LINGER_BYTES: Final = 1 << 28
_OPEN: Final = ("/", "/docs", "/api/login")  # what may be seen before a token is shown
_OPEN_FOLDERS: Final = ("/static/", "/docs/")


@dataclass(frozen=True)
class Door:
    """Who may ask. hosts: names with their ports by which the service is called; names: those that hold with any port."""

    hosts: frozenset[str]
    names: frozenset[str] = frozenset()
    token: str | None = None

    @property
    def cookie(self) -> str:
        """What the browser of who knows the token is given: it shows that, and is not the token."""
        return hmac.digest((self.token or "").encode(), b"ig65m cookie", hashlib.sha256).hex()

    def knows(self, token: str) -> bool:
        """Whether that is the token; how long this takes does not tell how much of it is right."""
        return self.token is not None and hmac.compare_digest(token.encode(errors="replace"), self.token.encode())

    def check(self, scope: Scope) -> Refusal | None:
        """Why a request may not go on, None if it may."""
        headers = [(name, value.decode("latin-1")) for name, value in scope["headers"]]
        host = [value.lower() for name, value in headers if name == b"host"]
        if len(host) != 1 or not self._is_ours(host[0]):
            return Refusal(421, "wrong_host", "this service is not called so; allow the name with --allow-host")
        origins = [value for name, value in headers if name == b"origin"]
        sites = [value for name, value in headers if name == b"sec-fetch-site"]
        if any(not _same(origin, host[0]) for origin in origins):
            return Refusal(403, "wrong_origin", "another site must not use this service")
        if any(site not in ("same-origin", "none") for site in sites) and not _is_link(scope, headers):
            return Refusal(403, "wrong_origin", "another site must not use this service")
        if self.token is not None and not _is_open(scope["path"]) and not self._shown(headers):
            message = "show the token: Authorization: Bearer TOKEN, or POST /api/login"
            return Refusal(401, "no_token", message, {"WWW-Authenticate": "Bearer"})
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        return host in self.hosts or name in self.names

    def _shown(self, headers: Iterable[tuple[bytes, str]]) -> bool:
        shown = False
        for name, value in headers:
            if name == b"authorization":
                kind, _, token = value.partition(" ")
                shown |= kind.lower() == "bearer" and self.knows(token.strip())
            elif name == b"cookie":
                for part in value.split(";"):
                    key, _, given = part.strip().partition("=")
                    shown |= key == COOKIE and hmac.compare_digest(given.encode(), self.cookie.encode())
        return shown


def _same(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and origin.lower() == f"{parts.scheme}://{host}"


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)


def _is_link(scope: Scope, headers: Iterable[tuple[bytes, str]]) -> bool:
    """Whether somebody has followed a link of another site to the page, which does nothing by itself."""
    said = dict(headers)
    return (
        scope["method"] == "GET"
        and scope["path"] in ("/", "/docs")
        and (said.get(b"sec-fetch-mode"), said.get(b"sec-fetch-dest")) == ("navigate", "document")
    )


class Guard:
    """Around the routes: checks, headers for every answer, and an orderly end where a body was not read.

    A client that still sends would not see the answer if the connection was closed under its hands: it gets the answer, then
    what it sends is thrown away for a few seconds.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app = app
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        refusal = self.door.check(scope)
        app = self.app if refusal is None else refusal.response()
        await app(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = dict(scope["headers"])
        self.unread = b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"
        self._receive, self._send = receive, send

    async def receive(self) -> Message:
        message = await self._receive()
        self.unread = self.unread and message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            close = [(b"connection", b"close")] if self.unread else []
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
