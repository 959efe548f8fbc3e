"""The body of a request -> a file of our own, under limits; it is gone when the block ends, however that is."""

import asyncio
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from ig65m.server.refusal import Refusal, busy

PREFIX: Final = "ig65m-serve-"
FIELD: Final = "file"
_FORM: Final = "multipart/form-data"
# What curl says of --data-binary by itself is the last one.
_RAW: Final = ("video/", "audio/", "application/octet-stream", "application/mp4", "application/x-www-form-urlencoded")
_OVERHEAD: Final = 1 << 16  # bytes of a form around its file
_MIB: Final = 1 << 20


@dataclass(frozen=True)
class UploadLimits:
    """size: bytes of the file. seconds: for all of it. idle: seconds without a byte."""

    size: int
    seconds: float = 300.0
    idle: float = 15.0


class Gone(Exception):
    """The client has gone away in the middle: there is nobody to answer."""


class Waiting(Protocol):
    """Who must know that an upload is waited for, and may reschedule the timeout to break that off."""

    def wait_with(self, timeout: asyncio.Timeout) -> None: ...

    def late(self) -> Refusal: ...


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user can enter; it goes with the block, or when the next service starts after a kill."""
    _tidy()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)  # whoever finds it unlocked may remove it
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(number)


def _tidy() -> None:
    """Remove the folders of services that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(number).st_uid == os.geteuid():
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(number)


@asynccontextmanager
async def received(request: Request, folder: Path, limits: UploadLimits, waiting: Waiting) -> AsyncIterator[Path]:
    """The upload in a file of a random name: the body, or the field `file` of a form.

    Raises Refusal: 400 empty or no form, 408 too slow, 413 too large, 415 of a kind that is no video; Gone.
    """
    kind, form = _kind(request)
    _check_length(request, limits.size + (_OVERHEAD if form else 0), limits.size)
    path = folder / uuid.uuid4().hex
    try:
        try:
            with path.open("xb") as file:
                sink = _Form(file, limits.size, kind) if form else _Raw(file, limits.size)
                await _read(request, limits, waiting, sink)
                sink.finish()
        except OSError:
            raise busy("there is no room for the upload at the moment", 30) from None
        yield path
    finally:
        path.unlink(missing_ok=True)


def _kind(request: Request) -> tuple[str, bool]:
    """The body's content type, and whether that is a form."""
    kind = request.headers.get("content-type", "application/octet-stream")
    name = kind.partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "wrong_kind", "the body is compressed; send the video as it is")
    if name != _FORM and not name.startswith(_RAW):
        raise Refusal(415, "wrong_kind", f"expected the bytes of a video, or {_FORM} with a field `{FIELD}`")
    return kind, name == _FORM


def _check_length(request: Request, most: int, size: int) -> None:
    length = request.headers.get("content-length")
    if length is not None and int(length) > most:
        raise _too_large(size)


def _too_large(most: int) -> Refusal:
    return Refusal(413, "too_large", f"an upload may have at most {most / _MIB:.4g} MiB")


async def _read(request: Request, limits: UploadLimits, waiting: Waiting, sink: "_Raw | _Form") -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + limits.seconds
    more = True
    while more:
        try:
            async with asyncio.timeout_at(min(until, loop.time() + limits.idle)) as timeout:
                waiting.wait_with(timeout)
                message = await request.receive()
        except TimeoutError:
            raise waiting.late() from None
        if message["type"] != "http.request":
            raise Gone
        sink.write(message.get("body", b""))
        more = message.get("more_body", False)


class _Raw:
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
            raise Refusal(400, "empty", "the upload is empty; send a video")


class _Form:
    """The file is in a field of a form; what its sender calls it is not looked at."""

    def __init__(self, file: BinaryIO, most: int, kind: str) -> None:
        self.raw = _Raw(file, most)
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
            raise _no_form("it ends too early")
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


def _no_form(why: str) -> Refusal:
    return Refusal(400, "bad_form", f"not a form with a file in its field `{FIELD}`: {why}")
