"""What a worker process is asked for, and how it answers; the parent need not load a decoder to know."""

import struct
from pathlib import Path
from typing import Final, NamedTuple

from ig65m.types import Limits, Preprocessing
from ig65m.video.sampling import Sampling
from ig65m.video.stream import Stream


class View(NamedTuple):
    """The picture at `time` in seconds of the stream, at most `edge` pixels on either side."""

    time: float
    edge: int


class Job(NamedTuple):
    """What to read: samples; with `seek`, clips; with `view`, one picture; without `sampling` and `view`, the duration.

    folder: where a relative source is looked up. clips: number of clips to spread evenly; only with `seek`. beside: a second
    size in which each frame is sent, after the first.
    """

    folder: str | None
    source: Path | str | Stream
    sampling: Sampling | None
    preprocessing: Preprocessing | None
    image_fps: float
    limits: Limits
    view: View | None = None
    seek: bool = False
    clips: int | None = None
    beside: Preprocessing | None = None


HEAD: Final = struct.Struct("<cddI")  # kind of answer, time, end, number of bytes that follow
READY: Final = b"R"
ALIVE: Final = b"A"  # frames are decoded, but none needs to be sent
SAMPLE: Final = b"T"  # a sample; if a clip contains it, SIZE of its frame and its pixels follow
SAME: Final = b"S"  # a sample with the pixels of the last one
LOST: Final = b"X"  # a sample lost to damage
TORN: Final = b"G"  # a frame between the last sample and the next one is lost
BREAK: Final = b"B"  # the next sample is the first of another recording in a stream
NEWS: Final = b"N"  # a line about the connection of a live source
CLIP: Final = b"C"  # a clip of `seek`: CLIP_HEAD and its pixels follow
CLIP_HEAD: Final = struct.Struct("<qqIIII")  # first and last frame of a clip; height and width of its pixels, and of its frames
LENGTH: Final = b"L"  # duration from the header
PICTURE: Final = b"P"  # one picture: SIZE and RGB bytes follow
SIZE: Final = struct.Struct("<II")  # height, width
END: Final = b"E"  # end of the video; an error follows as JSON
WORDS: Final = 100_000  # most bytes of an error: its message, and some fifty for each gap
