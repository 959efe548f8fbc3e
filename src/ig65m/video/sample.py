"""What clips are made of: resized frames with their times."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ig65m.types import Frames, Segment

Pixels = NDArray[np.uint8] | NDArray[np.float32]


class SeekError(Exception):
    """Frames cannot be read exactly without decoding the whole video; the message says why."""


@dataclass(frozen=True)
class Sample:
    """A sampled frame, displayed from `time` to `end` in seconds.

    pixels: (H, W, 3), with several crops (crops, H, W, 3); None if no clip contains the frame. lost: it was lost to damage.
    lost_before: a frame between the previous sample and this one was lost. beside: the frame in a second size, if asked for.
    shape: height and width of the upright frame before it was resized; None without pixels. begins: it is the first of another
    recording in a stream; samples are counted anew from it.
    """

    time: float
    end: float
    pixels: Pixels | None
    lost: bool = False
    lost_before: bool = False
    beside: Pixels | None = None
    shape: tuple[int, int] | None = None
    begins: bool = False


def name_of(source: object) -> str:
    """Return what messages call a video: its path."""
    return "the frames" if isinstance(source, Frames) else str(source.path if isinstance(source, Segment) else source)


def crops_of(frames: Sequence[Pixels]) -> list[Pixels]:
    """Stack the frames of `to_pixels`: (T, H, W, 3) for each crop."""
    stacked = np.stack(frames)
    return cast("list[Pixels]", list(np.moveaxis(stacked, 1, 0)) if stacked.ndim == 5 else [stacked])
