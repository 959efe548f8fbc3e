"""Clips on an even grid in time, which is all that programs know that compute a row's time from its number."""

from dataclasses import dataclass
from typing import Final

from ig65m.errors import UsageError
from ig65m.types import Features

TOLERANCE: Final = 1e-3  # seconds


@dataclass(frozen=True)
class Grid:
    """Row i shows the frames i·stride .. i·stride + span of `fps` a second: it is centred at (i·stride + span/2) / fps.

    frames: how many there are, as far as the rows reach.
    """

    stride: int
    span: int
    fps: float
    frames: int

    def start(self, row: int) -> float:
        """Seconds at which that row's clip starts."""
        return row * self.stride / self.fps

    @property
    def duration(self) -> float:
        """Seconds that the frames last."""
        return self.frames / self.fps


def grid_of(features: Features, *, from_first_frame: bool = False) -> Grid:
    """The grid that the clips of a video lie on, whose first frame is at 0 s, or with `from_first_frame` counted from there.

    The last clip may be short of frames: it starts on the grid too. Where frames were chosen by a rate, a clip starts when
    its first frame was due; it had been on display for less than a frame's time.

    Raises UsageError if a clip starts more than TOLERANCE off.
    """
    sampling, spans = features.model["sampling"], features.spans
    span = (sampling["frames"] - 1) * sampling["frame_step"] + 1
    stride = sampling["stride"] or span
    if not spans:
        raise UsageError(f"{features.path}: no clips")
    if sampling["starts"] is not None or any(each.first_frame != row * stride for row, each in enumerate(spans)):
        raise UsageError(f"{features.path}: its clips do not start every {stride} frames")
    zero = spans[0].start
    if abs(zero) > TOLERANCE and not from_first_frame:
        raise UsageError(
            f"{features.path}: its first clip starts at {zero:.3f} s, and this format counts from 0; count from there with "
            "--from-first-frame if the times that you compare with do"
        )
    fps = sampling["fps"] or _rate(features, stride)
    grid = Grid(stride, span, fps, spans[-1].last_frame + 1)
    if sampling["fps"] is None:
        for row, each in enumerate(spans):
            if abs(off := each.start - zero - grid.start(row)) > TOLERANCE:
                raise UsageError(
                    f"{features.path}: clip {row} starts {1000 * abs(off):.1f} ms off an even grid, for its frames are not "
                    "evenly spaced; extract it with --fps"
                )
    return grid


def _rate(features: Features, stride: int) -> float:
    """Frames a second, of the starts of the first clip and the last, or of the only one's length."""
    first, last = features.spans[0], features.spans[-1]
    if first is not last:
        return (len(features.spans) - 1) * stride / (last.start - first.start)
    return (first.last_frame - first.first_frame + 1) / (first.end - first.start)
