"""Clips on an even grid in time, which is all that programs know that compute a row's time from its number."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError
from ig65m.types import Features

TOLERANCE: Final = 1e-3
"""Seconds that a clip may start off the grid; never more than half a frame."""


@dataclass(frozen=True)
class Grid:
    """Row i shows the frames i·stride .. i·stride + span of `fps` a second: it is centred at (i·stride + span/2) / fps."""

    stride: int
    span: int
    fps: float
    frames: int  # as far as the rows reach
    rows: tuple[int, ...]  # that the clips have; the others were lost to damage

    @property
    def count(self) -> int:
        """Rows up to the last clip, lost ones included."""
        return self.rows[-1] + 1

    def start(self, row: int) -> float:
        """Seconds at which that row's clip starts."""
        return row * self.stride / self.fps

    @property
    def duration(self) -> float:
        """Seconds that the frames last."""
        return self.frames / self.fps

    def filled(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (clips, C) -> (count, C), lost rows as zeros."""
        if len(array) == self.count:
            return array
        whole = np.zeros((self.count, *array.shape[1:]), array.dtype)
        whole[list(self.rows)] = array
        return whole


def grid_of(features: Features, *, from_first_frame: bool = False) -> Grid:
    """The grid that the clips of a video lie on, whose first frame is at 0 s, or with `from_first_frame` counted from there.

    The last clip may be short of frames: it starts on the grid too. Clips that damage has cost leave rows out. Where frames
    were chosen by a rate, a clip starts when its first frame was due; it had been on display for less than a frame's time.

    Raises UsageError if a clip starts more than TOLERANCE off.
    """
    sampling, spans = features.model["sampling"], features.spans
    span = (sampling["frames"] - 1) * sampling["frame_step"] + 1
    stride = sampling["stride"] or span
    if not spans:
        raise UsageError(f"{features.path}: no clips")
    rows = tuple(each.first_frame // stride for each in spans)
    in_order = all(before < after for before, after in pairwise(rows))
    on_stride = all(each.first_frame % stride == 0 for each in spans)
    lost = features.error.gaps if features.error else ()
    if sampling["starts"] is not None or not in_order or not on_stride or (rows[-1] + 1 > len(rows) and not lost):
        raise UsageError(f"{features.path}: its clips do not start every {stride} frames")
    fps = sampling["fps"] or _rate(features, rows, stride)
    zero = spans[0].start - rows[0] * stride / fps
    if abs(zero) > TOLERANCE and not from_first_frame:
        raise UsageError(
            f"{features.path}: its first clip starts at {zero:.3f} s, and this format counts from 0; count from there with "
            "--from-first-frame if the times that you compare with do"
        )
    grid = Grid(stride, span, fps, spans[-1].last_frame + 1, rows)
    if sampling["fps"] is None:
        for row, each in zip(rows, spans, strict=True):
            if abs(off := each.start - zero - grid.start(row)) > min(TOLERANCE, 0.5 / fps):
                raise UsageError(
                    f"{features.path}: clip {row} starts {1000 * abs(off):.1f} ms off an even grid, for its frames are not "
                    "evenly spaced; extract it with --fps"
                )
    return grid


def _rate(features: Features, rows: tuple[int, ...], stride: int) -> float:
    """Frames a second, of the starts of the first clip and the last, or of the only one's length."""
    first, last = features.spans[0], features.spans[-1]
    if first is not last:
        return (rows[-1] - rows[0]) * stride / (last.start - first.start)
    return (first.last_frame - first.first_frame + 1) / (first.end - first.start)
