"""Runs the service: binds the socket, serves requests, shuts down."""

import asyncio
import contextlib
import ipaddress
import json
import logging
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ig65m.errors import UsageError, plain
from ig65m.server.app import create_app
from ig65m.server.security import HEADERS, WAITING, AccessPolicy
from ig65m.server.service import Service
from ig65m.server.uploads import Pace

HEAD_SECONDS: Final = 15.0
"""Seconds in which the first line and the headers of a request must arrive."""

MOST_CONNECTIONS: Final = 500
KERNEL_BUFFER: Final = 1 << 18  # bytes that the kernel buffers for a client; it doubles this
STILL_SECONDS: Final = 1.0  # seconds without a byte after which a connection may be closed for a new one
GRACE: Final = 10.0  # seconds for uploads being processed to finish when the service ends
_LEAST_TOKEN: Final = 16
_USUAL_PORT: Final = 80  # the port that browsers omit


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket to an address and port (0: any free one). Raises UsageError if that fails."""
    if not 0 <= port <= 65535:
        raise UsageError(f"the port must be from 0 to 65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{host} is not an address of this machine ({error}); try 127.0.0.1") from None
    listener = socket.socket(family, kind, protocol)  # asyncio disables Nagle's algorithm if it knows that this is TCP
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)  # otherwise another program could bind the port until we listen
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on {host}:{port} ({error.strerror}); choose another --port or --host") from None
    return listener


def access_policy(listener: socket.socket, token: str | None, others: Sequence[str] = ()) -> AccessPolicy:
    """Return who may use the service at that socket; `others` are further host names, NAME or NAME:PORT.

    Raises UsageError for an invalid token, and for an address that other machines can reach without one.
    """
    address, port = listener.getsockname()[:2]
    _check_token(address, token)
    written = [f"[{address}]" if ":" in address else address, "127.0.0.1", "localhost", "[::1]"]
    names = [name.lower() for name in others]
    if wrong := [name for name in names if not re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", name)]:
        raise UsageError(f"{plain(wrong[0], 60)} is not a host name; expected NAME or NAME:PORT")
    with_port = {name for name in names if re.search(r"[^:\]]:[0-9]+$|\]:[0-9]+$", name)}
    hosts = {f"{name}:{port}" for name in written} | (set(written) if port == _USUAL_PORT else set()) | with_port
    return AccessPolicy(frozenset(hosts), frozenset(set(names) - with_port), token)


def _check_token(host: str, token: str | None) -> None:
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise UsageError(f"a token must have at least {_LEAST_TOKEN} printable ASCII characters without spaces")
    if token is None and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        raise UsageError(
            f"{host} can be reached from other machines: set a token (--token-file, IG65M_TOKEN), or listen on 127.0.0.1"
        )


class _Protocol(H11Protocol):
    """uvicorn's protocol with limits on slow clients and on connections, and JSON responses to invalid HTTP.

    A client must send a request's headers within HEAD_SECONDS, and read its response at `pace`. At the limit of connections, a
    new one replaces the one idle for longest.
    """

    pace = Pace()
    _head: asyncio.TimerHandle | None = None
    _slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.moved = self.loop.time()  # when bytes last came or went
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
        if len(self.connections) > MOST_CONNECTIONS and not self._make_room():
            self._refuse(503, "busy", "too many connections at a time; try again later", (b"retry-after: 5",))
        else:
            self._expect_head()

    def _make_room(self) -> bool:
        """Close the connection idle for longest, if one is idle for a second. Returns False if all are busy."""
        others = [each for each in self.connections if isinstance(each, _Protocol) and each is not self and each.is_idle]
        latest = min(others, key=lambda each: each.moved, default=None)
        if latest is None or self.loop.time() - latest.moved < STILL_SECONDS:
            return False
        latest.transport.abort()
        return True

    @property
    def is_idle(self) -> bool:
        """Whether the client is waited for: for a request, to read a response, or after a wrong token."""
        is_idle = self.cycle is None or self.cycle.response_complete
        return is_idle or self._slow is not None or WAITING in self.cycle.scope

    def data_received(self, data: bytes) -> None:
        self.moved = self.loop.time()
        super().data_received(data)
        self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._expect_no_head()
        self._expect_no_reading()

    def pause_writing(self) -> None:
        """The client reads its response more slowly than it is made."""
        super().pause_writing()
        if self._slow is None:
            waiting = self.transport.get_write_buffer_size()
            self._slow = self.loop.call_later(self.pace.seconds, self._check_pace, waiting)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.moved = self.loop.time()
        self._expect_no_reading()

    def _check_pace(self, before: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if self.pace.is_fast_enough(before - waiting, self.pace.seconds):
            self.moved = self.loop.time()
            self._slow = self.loop.call_later(self.pace.seconds, self._check_pace, waiting)
        else:
            self._slow = None
            self.transport.abort()

    def _expect_no_reading(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def timeout_keep_alive_handler(self) -> None:
        """Close idle connections as uvicorn does; also give up a response that the client has not read by then."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _expect_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_no_head()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _expect_no_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
            return
        self._refuse(400, "bad_request", "this is not an HTTP request, or its headers are too long")

    def _refuse(self, status: int, code: str, message: str, more: Sequence[bytes] = ()) -> None:
        """Respond before, or instead of, a request, and close the connection."""
        body = json.dumps({"error": {"code": code, "message": message}}).encode()
        lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()), b"content-type: application/json"]
        lines += [b"connection: close", b"content-length: %d" % len(body), *more, *(b": ".join(header) for header in HEADERS)]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve_on(listener: socket.socket, service: Service, stopping: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Serve until `stopping` returns True; then uploads being processed have GRACE seconds, and everything else ends at
    once.
    """
    for name in ("uvicorn.error", "uvicorn.access", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # the handlers of app.py log what matters
    protocol = type("Protocol", (_Protocol,), {"pace": service.rules.upload.pace})
    config: dict[str, Any] = {
        "http": protocol,
        "ws": "none",
        "loop": "asyncio",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "backlog": 512,
        "timeout_keep_alive": 10,
        "timeout_graceful_shutdown": int(GRACE) + 10,
        "h11_max_incomplete_event_size": 1 << 15,
    }
    server = _Server(uvicorn.Config(create_app(service, say=say), **config))
    asyncio.run(_run(server, service, listener, stopping))


async def _run(server: _Server, service: Service, listener: socket.socket, stopping: Callable[[], bool]) -> None:
    running = asyncio.create_task(server.serve([listener]))
    while not stopping() and not running.done():
        await asyncio.sleep(0.1)
    service.admission.close()
    service.thumbnails.close()
    server.should_exit = True
    asyncio.get_running_loop().call_later(GRACE, service.admission.stop)
    await running
