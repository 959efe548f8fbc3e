"""A real `ig65m serve` process for tests, and what they ask of it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

PROGRAM = Path(sys.executable).parent / "ig65m"
ROOM = 4  # uploads at a time, of the service that is attacked
TIMEOUT = 3  # seconds for one to come, and to work at it
LEAKS = (b"/tmp", b"ig65m-serve", b"site-packages", b"Traceback", b".py", b"/home", b"/root")


@dataclass
class Served:
    """The process, where it listens, what it says, and the folder for its temporary files."""

    process: subprocess.Popen[bytes]
    host: str
    port: int
    log: Path
    temporary: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def client(self, **how: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **how)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def left(self) -> list[Path]:
        """Files of uploads."""
        return [path for path in self.temporary.rglob("*") if path.is_file()]

    def wait_until_empty(self) -> None:
        until = time.monotonic() + 20
        while self.left() and time.monotonic() < until:
            time.sleep(0.05)
        assert self.left() == []

    def workers(self) -> list[psutil.Process]:
        """The processes that decode."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "ig65m.video.worker" in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def say(self, data: bytes, *, until_closed: bool = True, seconds: float = 20) -> bytes:
        """Bytes to a fresh connection, and what comes back."""
        with socket.create_connection((self.host, self.port), timeout=seconds) as connection:
            with suppress(ConnectionError):  # it may hear enough before the end
                connection.sendall(data)
            return read_answer(connection, until_closed=until_closed)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40)


def read_answer(connection: socket.socket, *, until_closed: bool = True) -> bytes:
    """All that comes until the connection is closed, or one answer."""
    answer = b""
    while until_closed or not _is_whole(answer):
        try:
            piece = connection.recv(1 << 16)
        except ConnectionResetError:
            break
        if not piece:
            break
        answer += piece
    return answer


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: ([0-9]+)", head.lower())
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


@contextmanager
def serving(
    index: Path,
    temporary: Path,
    *args: object,
    env: Mapping[str, str] | None = None,
    first: str = "",
    program: Path = PROGRAM,
) -> Iterator[Served]:
    """The service at a free port until the block ends; `first` is Python that runs before it."""
    temporary.mkdir(parents=True, exist_ok=True)
    log = temporary.parent / f"{temporary.name}.log"
    start = [sys.executable, "-c", f"{first}; from ig65m.cli import main; main()"] if first else [program]
    command = [*start, "serve", index, "--port", "0", *args]
    environment = {**os.environ, "TMPDIR": str(temporary), **(env or {})}
    with log.open("wb") as out:
        process = subprocess.Popen([str(part) for part in command], stderr=out, stdout=out, env=environment)
    try:
        until = time.monotonic() + 60
        while not (found := re.search(r"serving at http://(.*):([0-9]+)/", log.read_text(errors="replace"))):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < until, "it does not start"
            time.sleep(0.05)
        yield Served(process, found[1].strip("[]"), int(found[2]), log, temporary)
    finally:
        process.kill()
        process.wait()


def settled(served: Served) -> dict[str, Any]:
    """Its health, once it has got over what was done to it."""
    until = time.monotonic() + 20
    while True:
        with served.client() as client:
            health = client.get("/api/health").json()
        if health["requests"]["room"] == ROOM or time.monotonic() > until:
            return health
        time.sleep(0.1)


def check_unharmed(served: Served) -> None:
    """It goes on, with all its room, no file, no fault."""
    assert served.process.poll() is None
    served.wait_until_empty()
    assert settled(served)["requests"] == {"running": 0, "waiting": 0, "room": ROOM}
    assert len(served.workers()) <= 4
    assert "fault of" not in served.said()
    assert "Traceback" not in served.said()


def checked(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The error in an answer, which is JSON with the right status and says nothing about the machine."""
    assert answer.status_code == status, answer.text
    assert not [leak for leak in LEAKS if leak in answer.content], answer.text
    assert answer.headers["content-security-policy"]
    error = answer.json()["error"]
    assert error["code"] == code or code is None, error
    assert error["message"]
    return error


def raw_error(answer: bytes) -> tuple[int, str]:
    """Status and code of an answer as bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-security-policy" in head.lower(), answer
    assert not [leak for leak in LEAKS if leak in answer], answer
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def request(served: Served, line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([line, f"Host: {served.host}:{served.port}", *headers, "", ""]).encode() + body


def post(served: Served, body: bytes, *headers: str, path: str = "/api/classify") -> bytes:
    return request(served, f"POST {path} HTTP/1.1", "Content-Type: video/mp4", *headers, body=body)
