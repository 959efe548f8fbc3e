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
"""In which the first line and the headers of a request must come, the first one of a connection or any after it."""

MOST_CONNECTIONS: Final = 500
KERNEL_BUFFER: Final = 1 << 18  # bytes that the kernel holds for a client that does not take them, twice that with its own
STILL_SECONDS: Final = 1.0  # without a byte after which a connection may be closed in favour of a new one
GRACE: Final = 10.0  # seconds in which uploads that are worked at may be finished when the service ends
_LEAST_TOKEN: Final = 16
_USUAL_PORT: Final = 80  # which browsers leave out


def bound(host: str, port: int) -> socket.socket:
    """A socket of that address and port (0: any that is free). Raises UsageError if it cannot be had."""
    if not 0 <= port <= 65535:
        raise UsageError(f"the port must be from 0 to 65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{host} is no address of this machine ({error}); try 127.0.0.1") from None
    listener = socket.socket(family, kind, protocol)  # asyncio sends answers at once where it reads there that it is TCP
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)  # or another program could have the port too until we listen
    except OSError as error:
        listener.close()
        raise UsageError(f"{host}:{port} cannot be had ({error.strerror}); choose another --port or --host") from None
    return listener


def access_policy(listener: socket.socket, token: str | None, others: Sequence[str] = ()) -> AccessPolicy:
    """Who may ask the service at that socket; `others` are further names of it, NAME or NAME:PORT.

    Raises UsageError for a token that is none, and for an address that others can reach without one.
    """
    address, port = listener.getsockname()[:2]
    _check_token(address, token)
    written = [f"[{address}]" if ":" in address else address, "127.0.0.1", "localhost", "[::1]"]
    names = [name.lower() for name in others]
    if wrong := [name for name in names if not re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", name)]:
        raise UsageError(f"{plain(wrong[0], 60)} is no name of a host; expected NAME or NAME:PORT")
    with_port = {name for name in names if re.search(r"[^:\]]:[0-9]+$|\]:[0-9]+$", name)}
    hosts = {f"{name}:{port}" for name in written} | (set(written) if port == _USUAL_PORT else set()) | with_port
    return AccessPolicy(frozenset(hosts), frozenset(set(names) - with_port), token)


def _check_token(host: str, token: str | None) -> None:
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise UsageError(f"a token must have at least {_LEAST_TOKEN} letters, digits or signs, without spaces")
    if token is None and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        raise UsageError(
            f"{host} can be reached from other machines: give a token (--token-file, IG65M_TOKEN), or take 127.0.0.1"
        )


class _Protocol(H11Protocol):
    """uvicorn's protocol with limits on slow clients and on connections, and JSON responses to invalid HTTP.

    A client must send a request's headers within HEAD_SECONDS, and take its response as fast as `pace` says. At the limit of
    connections a new one takes the place of the one that has stood still longest.
    """

    pace = Pace()
    _head: asyncio.TimerHandle | None = None
    _slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.moved = self.loop.time()  # when bytes last came or went
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
        if len(self.connections) > MOST_CONNECTIONS and not self._take_a_place():
            self._refuse(503, "busy", "too many connections at a time; try again later", (b"retry-after: 5",))
        else:
            self._expect_head()

    def _take_a_place(self) -> bool:
        """Close the connection that has stood still longest, if one has for a second; False if all are busy."""
        others = [each for each in self.connections if isinstance(each, _Protocol) and each is not self and each.stands_still]
        latest = min(others, key=lambda each: each.moved, default=None)
        if latest is None or self.loop.time() - latest.moved < STILL_SECONDS:
            return False
        latest.transport.abort()
        return True

    @property
    def stands_still(self) -> bool:
        """Whether it is the client that is waited for: for a request, to take a response, or after a wrong token."""
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
        """The client takes its response more slowly than it is made."""
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
        if self.pace.is_kept(before - waiting, self.pace.seconds):
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
        """As uvicorn's; a response that the client has not taken by then is given up."""
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
        self._refuse(400, "bad_request", "this is no HTTP request, or too long a one")

    def _refuse(self, status: int, code: str, message: str, more: Sequence[bytes] = ()) -> None:
        """Answer before, or instead of, a request, and close the connection."""
        body = json.dumps({"error": {"code": code, "message": message}}).encode()
        lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()), b"content-type: application/json"]
        lines += [b"connection: close", b"content-length: %d" % len(body), *more, *(b": ".join(header) for header in HEADERS)]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's, which leaves signals to the command line."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve_on(listener: socket.socket, service: Service, stopping: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Answer until `stopping` says so; then uploads that are worked at have GRACE seconds, everything else ends at once."""
    for name in ("uvicorn.error", "uvicorn.access", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what matters is said by the handlers of app.py
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
