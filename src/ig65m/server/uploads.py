"""Receives uploads: request body -> temporary file, within limits; the file is removed when the block ends."""

import asyncio
import errno
import fcntl
import logging
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from ig65m.server.errors import ApiError, busy

logging.getLogger("python_multipart").setLevel(
    logging.CRITICAL + 1
)  # a malformed form is the client's error, and reported to it

PREFIX: Final = "ig65m-serve-"
FIELD: Final = "file"
_FORM: Final = "multipart/form-data"
# The last one is curl's default for --data-binary.
_RAW: Final = ("video/", "audio/", "application/octet-stream", "application/mp4", "application/x-www-form-urlencoded")
_OVERHEAD: Final = 1 << 16  # most bytes of a form besides its file
_MIB: Final = 1 << 20


@dataclass(frozen=True)
class UploadLimits:
    """Limits of one upload."""

    size: int  # largest file in bytes
    seconds: float = 300.0  # seconds for the whole upload
    idle: float = 15.0  # longest time without a byte
    pace: "Pace" = field(default_factory=lambda: Pace())


@dataclass(frozen=True)
class Pace:
    """How fast a client must send its upload and read its response: `rate` bytes a second on average, after `seconds`."""

    rate: float = 16 << 10
    seconds: float = 10.0

    def is_fast_enough(self, count: int, elapsed: float) -> bool:
        """Return whether `count` bytes in `elapsed` seconds are enough."""
        return elapsed < self.seconds or count >= self.rate * elapsed


class ClientDisconnected(Exception):
    """The client has disconnected: there is nobody to respond to."""


class ReceiveTimeout(Protocol):
    """Holds the timeout of a receiving upload, and may reschedule it to stop receiving."""

    def wait_with(self, timeout: asyncio.Timeout) -> None: ...

    def late(self) -> ApiError: ...


class UploadFolder:
    """A private temporary folder. The folder of a service that was killed is removed by the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder, self._number = _locked_folder()

    def path(self) -> Path:
        """Return the folder; it is created again if somebody has removed it. Raises OSError if that fails."""
        with self._lock:
            if not _is_same(self._folder, self._number):
                os.close(self._number)
                self._number = -1
                self._folder, self._number = _locked_folder()
            return self._folder

    def close(self) -> None:
        """Remove the folder and its contents."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._number >= 0:
            os.close(self._number)
            self._number = -1


@contextmanager
def private_folder() -> Iterator[UploadFolder]:
    """Provide a folder for uploads for the block."""
    _tidy()
    folder = UploadFolder()
    try:
        yield folder
    finally:
        folder.close()


def _locked_folder() -> tuple[Path, int]:
    """Create a folder, and return it with the descriptor that holds its lock: an unlocked folder may be removed by anybody.

    If another service removes it before it is locked, another folder is created.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        fcntl.flock(number, fcntl.LOCK_EX)
        if _is_same(folder, number):
            return folder, number
        os.close(number)


def _is_same(folder: Path, number: int) -> bool:
    """Return whether a folder exists and is the one open under that descriptor."""
    try:
        there, held = folder.stat(), os.fstat(number)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def _tidy() -> None:
    """Remove the folders of services that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(number).st_uid == os.geteuid():
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if _is_same(folder, number):
                        shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(number)


@asynccontextmanager
async def received(
    request: Request, folder: UploadFolder, limits: UploadLimits, waiting: ReceiveTimeout
) -> AsyncIterator[Path]:
    """Receive the upload into a file of a random name: the body, or the field `file` of a form.

    Raises ApiError: 400 empty or malformed form, 408 too slow, 413 too large, 415 not a video, 503 disk full.
    Raises ClientDisconnected, and OSError for other faults of the machine.
    """
    kind, form = _kind(request)
    _check_length(request, limits.size + (_OVERHEAD if form else 0), limits.size)
    path = folder.path() / uuid.uuid4().hex
    try:
        try:
            with path.open("xb") as file:
                sink = _FormBody(file, limits.size, kind) if form else _RawBody(file, limits.size)
                await _read(request, limits, waiting, sink)
                sink.finish()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise busy("no disk space for the upload at the moment", 30) from None
        yield path
    finally:
        path.unlink(missing_ok=True)


def _kind(request: Request) -> tuple[str, bool]:
    """Return the body's content type, and whether it is a form."""
    kind = request.headers.get("content-type", "application/octet-stream")
    name = kind.partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(415, "wrong_kind", "the body is compressed; send the video as it is")
    if name != _FORM and not name.startswith(_RAW):
        raise ApiError(415, "wrong_kind", f"expected the bytes of a video, or {_FORM} with a field `{FIELD}`")
    return kind, name == _FORM


def _check_length(request: Request, most: int, size: int) -> None:
    length = request.headers.get("content-length")
    if length is not None and int(length) > most:
        raise _too_large(size)


def _too_large(most: int) -> ApiError:
    return ApiError(413, "too_large", f"an upload may have at most {most / _MIB:.4g} MiB")


async def _read(request: Request, limits: UploadLimits, waiting: ReceiveTimeout, sink: "_RawBody | _FormBody") -> None:
    loop = asyncio.get_running_loop()
    begun, received, more = loop.time(), 0, True
    while more:
        pace = limits.pace
        in_time = [begun + limits.seconds, loop.time() + limits.idle]
        in_pace = max(begun + pace.seconds, begun + received / pace.rate + 1.0)
        try:
            async with asyncio.timeout_at(min(*in_time, in_pace)) as timeout:
                waiting.wait_with(timeout)
                message = await request.receive()
        except TimeoutError:
            raise waiting.late() from None
        if message["type"] != "http.request":
            raise ClientDisconnected
        data = message.get("body", b"")
        received += len(data)
        sink.write(data)
        more = message.get("more_body", False)
        if more and not pace.is_fast_enough(received, loop.time() - begun):
            raise waiting.late()


class _RawBody:
    """The body is the file."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self.file, self.most, self.size = file, most, 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.most:
            raise _too_large(self.most)
        self.file.write(data)

    def finish(self) -> None:
        if not self.size:
            raise ApiError(400, "empty", "the upload is empty; send a video")


class _FormBody:
    """The file is in a field of a form; its name is ignored."""

    def __init__(self, file: BinaryIO, most: int, kind: str) -> None:
        self.raw = _RawBody(file, most)
        self.most, self.around = most + _OVERHEAD, 0
        self.name, self.value, self.ended, self.files = b"", b"", False, 0
        self.is_file = False
        boundary = parse_options_header(kind)[1].get(b"boundary", b"")
        if not 1 <= len(boundary) <= 200:
            raise _no_form("it has no boundary")
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def write(self, data: bytes) -> None:
        self.around += len(data)
        if self.around > self.most:
            raise _too_large(self.raw.most)
        try:
            self.parser.write(data)
        except FormParserError:
            raise _no_form("it is damaged") from None

    def finish(self) -> None:
        if not self.ended:
            raise _no_form("it is truncated")
        if not self.files:
            raise _no_form(f"it has no field `{FIELD}`")
        self.raw.finish()

    def _begin(self) -> None:
        self.name, self.value, self.disposition = b"", b"", b""

    def _header(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def _header_end(self) -> None:
        if self.name.lower() == b"content-disposition":
            self.disposition = self.value
        self.name, self.value = b"", b""

    def _headers_end(self) -> None:
        if parse_options_header(self.disposition)[1].get(b"name") != FIELD.encode():
            raise _no_form(f"it has another field than `{FIELD}`")
        self.files += 1
        if self.files > 1:
            raise _no_form("it has more than one file")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.raw.write(data[start:end])

    def _end(self) -> None:
        self.ended = True


def _no_form(why: str) -> ApiError:
    return ApiError(400, "bad_form", f"not a form with a file in its field `{FIELD}`: {why}")
