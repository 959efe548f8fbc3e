"""A web server on this machine that a test has misbehave as it likes."""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ETAG = '"first"'


class Handler(BaseHTTPRequestHandler):
    """One request; `server.behave(self)` answers it. Every connection is closed after one answer."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.close_connection = True
        with self.server.guard:
            self.server.requests.append(dict(self.headers.items()))
            self.number = len(self.server.requests)
        self.server.behave(self)

    @property
    def start(self) -> int | None:
        """The byte that the client asks to go on from, None if it asks for the whole file."""
        asked = self.headers["Range"]
        return int(asked.removeprefix("bytes=").removesuffix("-")) if asked else None

    def head(self, status: int = 200, **headers: object) -> None:
        """Status line and headers; `Content_Length=3` gives `Content-Length: 3`."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def say(self, body: bytes) -> None:
        self.wfile.write(body)
        self.server.sent += len(body)

    def whole(self, content: bytes, **headers: object) -> None:
        self.head(200, **{"Content_Length": len(content), **headers})
        self.say(content)

    def rest(self, content: bytes, **headers: object) -> None:
        """What a server that keeps to the rules answers: what is missing, or all of it."""
        etag = headers.setdefault("ETag", ETAG)
        if self.start is None or self.headers.get("If-Range", etag) != etag:
            self.whole(content, **headers)
        elif self.start >= len(content):
            self.head(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        else:
            body = content[self.start :]
            where = f"bytes {self.start}-{len(content) - 1}/{len(content)}"
            self.head(206, **{"Content_Length": len(body), "Content_Range": where, **headers})
            self.say(body)

    def reset(self) -> None:
        """End the connection as a crashed machine does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def drip(self, letter: bytes = b"x") -> None:
        """A byte every 50 ms until the client has enough of it."""
        with contextlib.suppress(ConnectionError):
            while not self.server.over.wait(0.05):
                self.wfile.write(letter)

    def pour(self, drop: bytes) -> None:
        """The same bytes over and over until the client has enough of it."""
        with contextlib.suppress(ConnectionError):
            while not self.server.over.is_set():
                self.wfile.write(drop)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, behave: Callable[[Handler], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave = behave
        self.guard = threading.Lock()
        self.over = threading.Event()
        self.requests: list[dict[str, str]] = []
        self.sent = 0  # bytes of bodies
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what many tests are about."""


@contextmanager
def serving(behave: Callable[[Handler], None]) -> Iterator[Server]:
    with Server(behave) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
