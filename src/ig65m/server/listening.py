"""The service on a socket: from binding to the orderly end."""

import asyncio
import contextlib
import ipaddress
import json
import logging
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ig65m.errors import UsageError, plain
from ig65m.server.app import create_app
from ig65m.server.guard import HEADERS, Door
from ig65m.server.service import Service

HEAD_SECONDS: Final = 15.0
"""In which the first line and the headers of a request must come, the first one of a connection or any after it."""

MOST_CONNECTIONS: Final = 500
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


def door(listener: socket.socket, token: str | None, others: Sequence[str] = ()) -> Door:
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
    return Door(frozenset(hosts), frozenset(set(names) - with_port), token)


def _check_token(host: str, token: str | None) -> None:
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise UsageError(f"a token must have at least {_LEAST_TOKEN} letters, digits or signs, without spaces")
    if token is None and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        raise UsageError(
            f"{host} can be reached from other machines: give a token (--token-file, IG65M_TOKEN), or take 127.0.0.1"
        )


class _Protocol(H11Protocol):
    """uvicorn's, with a limit on the time for headers and on the number of connections, and JSON for what is no HTTP."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._expect_no_head()

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
        body = json.dumps({"error": {"code": "bad_request", "message": "this is no HTTP request, or too long a one"}}).encode()
        lines = [b"HTTP/1.1 400 Bad Request", b"content-type: application/json", b"connection: close"]
        lines += [b"content-length: %d" % len(body), *(b": ".join(header) for header in HEADERS)]
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
    config: dict[str, Any] = {
        "http": _Protocol,
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
    service.desk.close()
    service.pictures.close()
    server.should_exit = True
    asyncio.get_running_loop().call_later(GRACE, service.desk.stop)
    await running
