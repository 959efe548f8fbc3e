"""Bytes of a pipe: FFmpeg reads them in order, and the newest ones are kept for the checks beside it."""

import io
import os
import re
import select
import time
from collections.abc import Callable
from typing import BinaryIO, Final, Literal, cast

from ig65m.errors import VideoError
from ig65m.video.medium import BytesDiscarded

PIECE: Final = 1 << 16
HEAD: Final = 1 << 16
"""Bytes at the start that are kept."""

TAIL: Final = 1 << 18
"""Bytes at the end that are kept at least."""

MOST_KEPT: Final = 256 << 20
"""Most bytes that may come between two pictures."""

EBML: Final = b"\x1a\x45\xdf\xa3"
"""What a recording in Matroska starts with; source: RFC 8794, 8.1."""

HEADER: Final = 80
"""Bytes of its header in which the type of the document is expected."""

_DOCUMENT: Final = re.compile(rb"\x42\x82.(matroska|webm)", re.DOTALL)
WAIT: Final = 0.5  # seconds


class PipeBuffer:
    """Bytes that came from a pipe, up to the end of a recording; its text is the name of the stream.

    A recording in Matroska ends where the header of another one follows: a sender has restarted. `rest` has that one.

    Attributes:
        size: Number of bytes that came, those of another recording included.
        stalled: Whether the recording ends because nothing came for `seconds`.
    """

    def __init__(
        self, pipe: int, name: str, *, seconds: float, on_wait: Callable[[], None] | None = None, data: bytes = b""
    ) -> None:
        """`on_wait` is called every half second while nothing comes. `data` came before."""
        self.name, self.stalled, self.size = name, False, 0
        self._pipe, self._seconds, self._on_wait = pipe, seconds, on_wait
        self._kept, self._floor = bytearray(), 0  # bytes from that place on
        self._head = b""
        self._given = 0  # bytes that FFmpeg has read
        self._ended = False
        self._waited = 0.0  # seconds since the last frame
        self._clear = 0  # bytes that certainly belong to this recording
        self._boundary: int | None = None  # where another recording starts
        self._add(data)

    def __str__(self) -> str:
        return self.name

    @property
    def end(self) -> int:
        """Number of bytes of this recording that came."""
        return self.size if self._boundary is None else self._boundary

    def read(self, count: int) -> bytes:
        """Return at most `count` further bytes, as soon as there are any; none at the end of the recording."""
        while self._given == self._clear:
            if self._boundary is not None or self._ended:
                return b""
            self._receive()
        stop = min(self._given + count, self._clear)
        piece = bytes(self._kept[self._given - self._floor : stop - self._floor])
        self._given = stop
        return piece

    def head(self, count: int) -> bytes:
        """Return the first `count` bytes, or fewer if it ends before; at most HEAD."""
        while self.size < count and self._receive():
            pass
        return self._head[:count]

    def open(self, _: Literal["rb"] = "rb", /) -> BinaryIO:
        """Open what is kept as a file; other bytes raise BytesDiscarded."""
        return cast(BinaryIO, _BufferFile(self))

    def part(self, place: int, count: int) -> bytes:
        """Return bytes of this recording that came before, or fewer at its end. Raises BytesDiscarded."""
        count = max(0, min(count, self.end - place))
        if place + count <= len(self._head):
            return self._head[place : place + count]
        if place < self._floor:
            raise BytesDiscarded
        return bytes(self._kept[place - self._floor : place - self._floor + count])

    def frame_came(self, place: int | None) -> None:
        """Note that decoding goes on, and that bytes before the place are not needed again."""
        self._waited = 0.0
        floor = max(self._floor, min(self._given if place is None else place, self._given, self.size - TAIL))
        del self._kept[: floor - self._floor]
        self._floor = floor

    def rest(self) -> "PipeBuffer | None":
        """Return the recording that follows; None if there is none."""
        if self._boundary is None:
            return None
        data = bytes(self._kept[self._boundary - self._floor :])
        return PipeBuffer(self._pipe, self.name, seconds=self._seconds, on_wait=self._on_wait, data=data)

    def _receive(self) -> bool:
        """Wait for further bytes. Returns False at the end."""
        while not self._ended:
            begun = time.monotonic()
            ready = select.select([self._pipe], [], [], min(WAIT, self._seconds))[0]
            if ready:
                data = os.read(self._pipe, PIECE)
                self._ended = not data
                self._add(data)
                return not self._ended
            self._waited += time.monotonic() - begun
            if self._waited >= self._seconds:
                self._ended = self.stalled = True
                self._add(b"")
            if self._on_wait is not None:
                self._on_wait()
        return False

    def _add(self, data: bytes) -> None:
        self._kept += data
        self.size += len(data)
        if len(self._head) < HEAD:
            self._head += data[: HEAD - len(self._head)]
        if len(self._kept) > MOST_KEPT:
            raise VideoError(f"{self.name}: no picture within {MOST_KEPT >> 20} MB; is this a video?")
        self._look_for_header()

    def _look_for_header(self) -> None:
        """Look for the header of another recording in Matroska among the bytes that came."""
        if self._boundary is not None:
            return
        place = self.size
        if self._head.startswith(EBML):
            found = self._kept.find(EBML, max(self._clear, 1) - self._floor)
            while found >= 0:
                header = self._kept[found : found + HEADER]
                if _DOCUMENT.search(header):
                    self._boundary = place = self._floor + found
                    break
                if len(header) < HEADER and not self._ended:
                    place = self._floor + found
                    break
                found = self._kept.find(EBML, found + 1)
            else:
                if not self._ended:
                    place -= next((count for count in (3, 2, 1) if self._kept.endswith(EBML[:count])), 0)
        self._clear = place


class _BufferFile(io.RawIOBase):
    """What is kept, as a file."""

    def __init__(self, buffer: PipeBuffer) -> None:
        self._buffer, self._place = buffer, 0

    def seek(self, place: int, whence: int = os.SEEK_SET, /) -> int:
        self._place = place + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._buffer.end}[whence]
        return self._place

    def read(self, count: int = -1, /) -> bytes:
        data = self._buffer.part(self._place, count if count >= 0 else self._buffer.end)
        self._place += len(data)
        return data
