"""Clips on an even grid in time, for programs that compute a row's time from its number."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError
from ig65m.store.features import Features

TOLERANCE: Final = 1e-3
"""Seconds that a clip may start off the grid; never more than half a frame."""


@dataclass(frozen=True)
class Grid:
    """Row i covers frames i·stride to i·stride + span at `fps` frames a second; its centre is at (i·stride + span/2) / fps."""

    stride: int
    span: int
    fps: float
    frames: int  # up to the end of the last row
    rows: tuple[int, ...]  # of the clips; the other rows were lost to damage

    @property
    def count(self) -> int:
        """Number of rows up to the last clip, lost ones included."""
        return self.rows[-1] + 1

    def start(self, row: int) -> float:
        """Start of a row's clip in seconds."""
        return row * self.stride / self.fps

    @property
    def duration(self) -> float:
        """Duration of the frames in seconds."""
        return self.frames / self.fps

    def filled(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (clips, C) -> (count, C) with zeros for lost rows."""
        if len(array) == self.count:
            return array
        whole = np.zeros((self.count, *array.shape[1:]), array.dtype)
        whole[list(self.rows)] = array
        return whole


def grid_of(features: Features, *, from_first_frame: bool = False) -> Grid:
    """Return the grid that the clips of a video lie on.

    Times count from 0 s, or with `from_first_frame` from the first clip. The last clip may be short of frames; it starts on the
    grid too. Clips lost to damage leave rows out. In a video sampled at a rate, a clip starts at the sampling time of its first
    frame, which was on display for less than a frame's duration by then.

    Raises UsageError if a clip starts more than TOLERANCE off the grid.
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
        hint = "; extract it without --within-shots" if "shots" in features.model else ""
        raise UsageError(f"{features.path}: its clips do not start every {stride} frames{hint}")
    fps = sampling["fps"] or _rate(features, rows, stride)
    zero = spans[0].start - rows[0] * stride / fps
    if abs(zero) > TOLERANCE and not from_first_frame:
        raise UsageError(
            f"{features.path}: its first clip starts at {zero:.3f} s, but this format counts from 0 s; use "
            "--from-first-frame if your annotations count from the first frame"
        )
    grid = Grid(stride, span, fps, spans[-1].last_frame + 1, rows)
    if sampling["fps"] is None:
        for row, each in zip(rows, spans, strict=True):
            if abs(off := each.start - zero - grid.start(row)) > min(TOLERANCE, 0.5 / fps):
                raise UsageError(
                    f"{features.path}: clip {row} starts {1000 * abs(off):.1f} ms off an even grid, since its frames are not "
                    "evenly spaced; extract it with --fps"
                )
    return grid


def _rate(features: Features, rows: tuple[int, ...], stride: int) -> float:
    """Return frames a second, from the starts of the first and last clip, or from the length of the only one."""
    first, last = features.spans[0], features.spans[-1]
    if first is not last:
        return (rows[-1] - rows[0]) * stride / (last.start - first.start)
    return (first.last_frame - first.first_frame + 1) / (first.end - first.start)
