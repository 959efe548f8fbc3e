"""What the bytes of a video can be read from once more, for checks beside FFmpeg."""

from typing import BinaryIO, Literal, Protocol


class Forgotten(Exception):
    """These bytes of a stream are no longer kept."""


class Medium(Protocol):
    """A file, or what is kept of a stream; its text is the name of the video. Reading may raise Forgotten."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO: ...
