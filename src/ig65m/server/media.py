"""Thumbnails and files of the videos in the index."""

import asyncio
import io
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ig65m.errors import IgError
from ig65m.server.errors import ApiError, busy, closing, public_message, unreadable
from ig65m.types import Limits
from ig65m.video.isolation import Decoder
from ig65m.video.jobs import View

EDGE: Final = 320  # longer edge of a thumbnail in pixels
_CACHED: Final = 1 << 25  # bytes of cached pictures
_MOST_WAITING: Final = 128
_CHUNK: Final = 1 << 18  # bytes read at a time


class Cache:
    """Cache of bytes: beyond `most` bytes, the least recently used go. May be used by several threads."""

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, data: bytes) -> None:
        with self._lock:
            self.size += len(data) - len(self._kept.pop(key, b""))
            self._kept[key] = data
            while self.size > self.most and self._kept:
                self.size -= len(self._kept.popitem(last=False)[1])


class Thumbnails:
    """Thumbnails: decoded by a few workers, and cached."""

    def __init__(self, limits: Limits, threads: int = 2) -> None:
        self.limits = limits
        self.cache = Cache(_CACHED)
        self.pool = ThreadPoolExecutor(threads, "ig65m-picture")
        self.closed = False
        self._waiting = 0

    async def thumbnail(self, path: Path, title: str, time: float) -> bytes:
        """Return a JPEG of the video at that time; its longer edge is EDGE. Raises ApiError: 410, 422, 503."""
        facts = regular(path)
        key = (path, facts.st_mtime_ns, facts.st_size, round(time, 2))
        kept = self.cache.get(key)
        if kept is not None:
            return kept
        if self.closed:
            raise closing()
        if self._waiting >= _MOST_WAITING:
            raise busy("too many pictures at a time; try again later", 2)
        self._waiting += 1
        try:
            made = await asyncio.get_running_loop().run_in_executor(self.pool, self._made, path, title, time)
        finally:
            self._waiting -= 1
        self.cache.put(key, made)
        return made

    def _made(self, path: Path, title: str, time: float) -> bytes:
        try:
            with Decoder(self.limits) as decoder:
                return encoded(decoder.read_picture(path, View(time, EDGE)), "JPEG")
        except (IgError, OSError) as error:
            raise unreadable(public_message(str(error), path, title), None) from None

    def close(self) -> None:
        """Make no more pictures."""
        self.closed = True
        self.pool.shutdown(wait=False, cancel_futures=True)


def encoded(picture: NDArray[np.uint8], kind: str) -> bytes:
    """Encode a picture (H, W, 3)."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind, quality=82)
    return out.getvalue()


def regular(path: Path) -> os.stat_result:
    """Return the status of a video's file or folder of images. Raises ApiError 410 if it no longer exists."""
    try:
        facts = path.stat()
    except (OSError, ValueError):
        raise missing() from None
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        raise missing()
    return facts


def missing() -> ApiError:
    """410: the file of a video no longer exists."""
    return ApiError(410, "gone", "the video's file was moved or deleted since it was indexed")


@dataclass(frozen=True)
class Opened:
    """A video's open file: descriptor, status and content type."""

    number: int
    size: int
    etag: str
    kind: str


def open_video(path: Path) -> Opened:
    """Open a file that is regular and starts like a video. Raises ApiError 410 if it is not."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        raise missing() from None
    try:
        facts = os.fstat(number)
        kind = container_type(os.pread(number, 400, 0)) if stat.S_ISREG(facts.st_mode) else None
        if kind is None:
            raise missing()
        return Opened(number, facts.st_size, f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"', kind)
    except BaseException:
        os.close(number)
        raise


def container_type(head: bytes) -> str | None:
    """Return the content type of a container by its first bytes; None if it is not a video. It is never one that browsers
    execute.
    """
    if len(head) >= 377 and {head[0], head[188], head[376]} == {0x47}:
        return "video/mp2t"
    if head[4:12] == b"ftypqt  ":
        return "video/quicktime"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    return next((kind for place, magic, kind in _CONTAINERS if head.startswith(magic, place)), None)


_CONTAINERS: Final = (
    (4, b"ftyp", "video/mp4"),
    (4, b"moov", "video/quicktime"),
    (4, b"mdat", "video/quicktime"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"OggS", "video/ogg"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (0, b"GIF8", "image/gif"),
)


def wanted(header: str | None, size: int) -> tuple[int, int] | None:
    """Parse a Range header to first byte and end; None (the whole file) if there is none, several, or an invalid one.

    Raises ApiError 416 for a range after the end.
    """
    unit, _, text = (header or "").partition("=")
    first, dash, last = text.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or not all(part == "" or _is_number(part) for part in (first, last)):
        return None
    if first == last == "":
        return None
    if first == "":
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < int(first):
            return None
    if start >= size or start >= end:
        raise ApiError(416, "bad_range", f"the file has {size} bytes", {"Content-Range": f"bytes */{size}"})
    return start, end


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


class FileAnswer(Response):
    """Streams an open file or the requested part of it, and closes it."""

    def __init__(self, file: Opened, request: Request) -> None:
        self.file = file
        asked = request.headers.get("if-range", file.etag) == file.etag
        try:
            part = wanted(request.headers.get("range"), file.size) if asked else None
        except ApiError:
            os.close(file.number)
            raise
        self.start, self.end = part or (0, file.size)
        headers = {
            "content-length": str(self.end - self.start),
            "content-disposition": "inline",
            "accept-ranges": "bytes",
            "etag": file.etag,
            "cache-control": "private, no-cache",
        }
        if part:
            headers["content-range"] = f"bytes {self.start}-{self.end - 1}/{file.size}"
        super().__init__(None, 206 if part else 200, headers, file.kind)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(scope["method"] == "HEAD", send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            sending.cancel()
            await asyncio.wait({sending})
            os.close(self.file.number)
        if not sending.cancelled():
            sending.result()

    async def _send(self, without_body: bool, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        place = self.end if without_body else self.start
        loop = asyncio.get_running_loop()
        while place < self.end:
            size = min(_CHUNK, self.end - place)
            chunk = await loop.run_in_executor(None, os.pread, self.file.number, size, place)
            if not chunk:
                raise ConnectionAbortedError("the file was truncated while it was sent")
            place += len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
