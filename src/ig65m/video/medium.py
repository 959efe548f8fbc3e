"""Source of a video's bytes for integrity checks: a file, or the kept part of a stream."""

from typing import BinaryIO, Literal, Protocol


class BytesDiscarded(Exception):
    """These bytes of a stream are no longer kept."""


class Medium(Protocol):
    """A file, or what is kept of a stream; its text is the name of the video. Reading may raise BytesDiscarded."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO: ...
