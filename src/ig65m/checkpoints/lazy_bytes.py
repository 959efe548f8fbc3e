"""Bytes and text in a file, by position and notation; read when needed, in pieces."""

import codecs
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from ig65m.errors import CheckpointError

_PIECE = 1 << 20  # bytes
_WINDOW = 1 << 13  # bytes read at once for small pieces
_ESCAPED = re.compile(rb"(?:[^\\]++|\\x[0-9a-fA-F]{2}|\\[\\'\"nrt])*+")


class Truncated(CheckpointError):
    """The file ends too early."""


class Source:
    """A file with random access; its size is that when it was opened."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        self._start, self._window = 0, b""

    def read(self, start: int, size: int) -> bytes:
        """Read `size` bytes from `start` on. Raises Truncated if the file ends before."""
        offset = start - self._start
        if not 0 <= offset <= len(self._window) - size:
            if start + size > self.size:
                raise Truncated(f"it is truncated: expected {size} bytes, {self.size - start} are left")
            self._start, self._window, offset = start, self._fetch(start, min(max(size, _WINDOW), self.size - start)), 0
        return self._window[offset : offset + size]

    def find(self, byte: bytes, start: int) -> int:
        """Return the first position of `byte` from `start` on. Raises Truncated if there is none."""
        if (offset := start - self._start) >= 0 and (found := self._window.find(byte, offset)) >= 0:
            return self._start + found
        while start < self.size:
            window = self.read(start, min(_WINDOW, self.size - start))
            if (found := window.find(byte)) >= 0:
                return start + found
            start += len(window)
        raise Truncated("it is truncated within a line")

    def pieces(self, start: int, size: int) -> Iterator[bytes]:
        """Yield `size` bytes from `start` on, in pieces."""
        for position in range(start, start + size, _PIECE):
            yield self._fetch(position, min(_PIECE, start + size - position))

    def _fetch(self, start: int, size: int) -> bytes:
        self.file.seek(start)
        data = self.file.read(size)
        if len(data) != size:
            raise CheckpointError("the file was truncated while it was read")
        return data


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Bytes or text of a pickle. A `str` of Python 2 may be either."""

    source: Source
    start: int
    size: int  # bytes in the file
    kind: Literal["bytes", "str", "text"]
    notation: Literal["plain", "quoted", "utf-8", "raw-unicode-escape"] = "plain"

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes; text as latin-1. Raises CheckpointError if it is malformed or has other characters."""
        return _NOTATIONS[self.notation](self.source.pieces(self.start, self.size))

    def __str__(self) -> str:
        return f"{self.kind} of {self.size} bytes"


def _unquoted(pieces: Iterator[bytes]) -> Iterator[bytes]:
    r"""The escapes of Python 2's repr: \\, \', \", \n, \r, \t and \xhh, which a piece's end may cut."""
    rest = b""
    for piece in pieces:
        rest += piece
        match = _ESCAPED.match(rest)
        end = match.end() if match else 0
        yield codecs.escape_decode(rest[:end])[0]
        rest = rest[end:]
        if len(rest) > 3:
            break
    if rest:
        raise CheckpointError(f"a quoted string has the malformed escape {rest[:4]!r}")


def _encoded(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Text in which each character is a byte: how Python 3 pickles bytes in protocols 0 to 2."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for piece in pieces:
            yield decoder.decode(piece).encode("latin-1")
        yield decoder.decode(b"", final=True).encode("latin-1")
    except UnicodeError:
        raise CheckpointError(f"text that should contain bytes is not {encoding} of characters up to 255") from None


_NOTATIONS: dict[str, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    "plain": lambda pieces: pieces,
    "quoted": _unquoted,
    "utf-8": lambda pieces: _encoded(pieces, "utf-8"),
    "raw-unicode-escape": lambda pieces: _encoded(pieces, "raw-unicode-escape"),
}
