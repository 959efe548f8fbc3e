"""Which frames make which clip: pure arithmetic on counts and times, no video needed.

Frames become ticks (those in the range asked for, re-timed if a rate was asked for), ticks become clips. Clip i takes the
ticks i·hop + j·frame_step for j = 0 .. frames-1.
"""

import operator
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count as count_from
from typing import Literal, Protocol, TypeVar, get_args

from ig65m.errors import UsageError, VideoError, check_choice
from ig65m.types import MAX_FPS, MAX_FRAMES, ascending_starts, check_range

Tail = Literal["pad", "drop"]

TOLERANCE = 1e-3
"""Seconds by which two times may differ and be the same: Matroska rounds every time to a whole millisecond. Never more than a
quarter of what a frame lasts."""


LONGEST_STILL = 3600
"""Seconds that one frame may be repeated for, where frames are chosen by a rate: more is a clock that broke."""


class Timed(Protocol):
    """What is on display from `time` to `end`, in seconds."""

    @property
    def time(self) -> float: ...

    @property
    def end(self) -> float: ...


TimedT = TypeVar("TimedT", bound=Timed)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How clips are chosen from a video.

    frames: in one clip. frame_step: ticks from one of its frames to the next. stride: ticks from a clip's start to the
    next one's, None for the clip's span. fps: ticks a second, each showing the frame on display then; None makes every
    frame one tick. start, end: presentation times in seconds; frames with start <= time < end are taken. tail: what
    becomes of a last clip that is short of frames; "drop" still gives one clip of a video that is shorter than that. starts:
    the first ticks of the clips, in place of the stride, in ascending order; nothing behind the last clip is read. If there
    are none, all is read, to be counted.

    Raises UsageError if a value is out of range.
    """

    frames: int
    frame_step: int = 1
    stride: int | None = None
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    tail: Tail = "pad"
    starts: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, count in (("frames", self.frames), ("frame_step", self.frame_step), ("stride", self.stride)):
            if count is not None:
                try:
                    object.__setattr__(self, name, operator.index(count))
                except TypeError:
                    raise UsageError(f"{name} must be a whole number, got {count!r}") from None
                if count < 1:
                    raise UsageError(f"{name} must be at least 1, got {count}")
        for name, count in (("frames", self.frames), ("frame_step", self.frame_step)):
            if count > MAX_FRAMES:
                raise UsageError(f"{name} must be at most {MAX_FRAMES}, got {count}")
        if self.fps is not None and not 0 < self.fps <= MAX_FPS:
            raise UsageError(f"fps must be a positive number of at most {MAX_FPS:g}, got {self.fps}")
        check_range(self.start, self.end)
        check_choice("tail", self.tail, get_args(Tail))
        if self.starts is not None:
            object.__setattr__(self, "starts", ascending_starts(self.starts))

    @property
    def span(self) -> int:
        """Ticks from a clip's first frame to its last, both counted."""
        return (self.frames - 1) * self.frame_step + 1

    @property
    def last(self) -> int | None:
        """The last tick to be read, None for the video's."""
        return self.starts[-1] + self.span - 1 if self.starts else None

    @property
    def hop(self) -> int:
        """Ticks from one clip's start to the next one's."""
        return self.span if self.stride is None else self.stride


def ticks(frames: Iterable[TimedT], sampling: Sampling, *, most: int | None = None) -> Iterator[TimedT]:
    """The frames that clips are counted in; `frames` come in order of time, and are read no further than the end asked for.

    With a rate, tick k is at t0 + k/fps, t0 the time of the first frame taken, up to the end of the last one. It is the
    last frame with a time not after that (give or take TOLERANCE), so a frame may come several times or never.

    Raises VideoError in place of tick number `most`, for a gap in the times of a broken video is filled with ticks too.
    """
    chosen = _within(frames, sampling.start, sampling.end)
    if sampling.fps is not None:
        chosen = _retimed(chosen, sampling.fps, sampling.end)
    return chosen if most is None else _at_most(chosen, most)


def _at_most(frames: Iterable[TimedT], most: int) -> Iterator[TimedT]:
    last = None
    for count, frame in enumerate(frames):
        if count == most:
            end = None if last is None else last.end
            raise VideoError(f"more than {most:,} frames chosen; raise --max-frames if they are wanted", last_good_time=end)
        last = frame
        yield frame


def _within(frames: Iterable[TimedT], start: float | None, end: float | None) -> Iterator[TimedT]:
    for frame in frames:
        tolerance = min(TOLERANCE, (frame.end - frame.time) / 4)
        if end is not None and frame.time >= end - tolerance:
            return
        if start is None or frame.time >= start - tolerance:
            yield frame


def is_within(frame: Timed, sampling: Sampling) -> bool:
    """Whether a frame is one of those from `start` on and before `end`."""
    return any(_within([frame], sampling.start, sampling.end))


def _retimed(frames: Iterable[TimedT], fps: float, end: float | None) -> Iterator[TimedT]:
    """Raises VideoError where a frame would have to be repeated for more than LONGEST_STILL seconds."""
    tolerance = min(TOLERANCE, 0.25 / fps)
    shown, t0, k = None, 0.0, 0

    def still(shown: TimedT, until: float) -> Iterator[TimedT]:
        nonlocal k
        endless = until - shown.time > LONGEST_STILL
        while t0 + k / fps < (shown.time if endless else until) - tolerance:
            yield shown
            k += 1
        if endless:
            raise VideoError(
                f"nothing new comes for {until - shown.time:.0f} s after {shown.time:.3f} s; with --fps, more than "
                f"{LONGEST_STILL} s are taken for a fault",
                last_good_time=shown.time,
            )

    for frame in frames:
        if shown is None:
            t0 = frame.time
        else:
            yield from still(shown, frame.time)
        shown = frame
    if shown is None:
        return
    if k == 0:
        yield shown
        k = 1
    yield from still(shown, shown.end if end is None else min(shown.end, end))


def clip_starts(count: int, sampling: Sampling) -> list[int]:
    """The first tick of each clip of `count` ticks; only the last clip may lack frames.

    Worked example, 8 frames of a span 8: 20 ticks give 0, 8, 16 (four real frames in the last); with tail "drop" 0, 8;
    5 ticks give 0 either way.
    """
    starts = list(range(0, count - sampling.span + 1, sampling.hop))
    tail = _tail_start(count, sampling)
    return starts if tail is None else [*starts, tail]


def _tail_start(count: int, sampling: Sampling) -> int | None:
    """Where the short last clip starts: it must show a tick that no full clip reached."""
    if count == 0 or sampling.starts == ():
        return None
    if count < sampling.span:
        return 0
    if sampling.starts is not None:
        return None
    last = (count - sampling.span) // sampling.hop * sampling.hop
    reached, start = last + sampling.span, last + sampling.hop
    return start if sampling.tail == "pad" and start < count and reached < count else None


def uniform_starts(count: int, clips: int, span: int) -> tuple[int, ...]:
    """The first ticks of `clips` clips of `span` ticks, spread evenly: floor(i * (count - span) / (clips - 1)).

    Worked example: 3 clips of 8 in 21 ticks start at 0, 6, 13. Fewer than `span` ticks are one clip. Source: VMZ's reader,
    Caffe2's video_io.
    """
    if count < span:
        return (0,) if count else ()
    return tuple(number * (count - span) // max(clips - 1, 1) for number in range(clips))


def needed(tick: int, sampling: Sampling) -> bool:
    """Whether tick number `tick` is in some clip of an endless video; the others need no resizing and no memory."""
    if (starts := sampling.starts) is not None:
        near = range(bisect_right(starts, tick - sampling.span), bisect_right(starts, tick))
        return any((tick - starts[place]) % sampling.frame_step == 0 for place in near)
    places = range(tick, tick - sampling.span, -sampling.frame_step)
    return any(start >= 0 and start % sampling.hop == 0 for start in places)


def windows(items: Iterable[T], sampling: Sampling) -> Iterator[tuple[list[T], int]]:
    """For each clip its `frames` items and how many of them are real; a short clip repeats its last one.

    Items come one for each tick. A clip is given as soon as its last item came, and no more than one span is held.
    """
    kept: dict[int, T] = {}
    count = 0
    starts = count_from(0, sampling.hop) if sampling.starts is None else iter(sampling.starts)
    start = next(starts, -1)
    for tick, item in enumerate(items):
        count = tick + 1
        if needed(tick, sampling):
            kept[tick] = item
        while start >= 0 and count == start + sampling.span:  # clips that are the same are given each time
            yield [kept[i] for i in range(start, count, sampling.frame_step)], sampling.frames
            start = next(starts, -1)
            kept = {i: value for i, value in kept.items() if i >= start}
    if _tail_start(count, sampling) is not None:
        short = [kept[i] for i in range(start, count, sampling.frame_step)]
        yield short + short[-1:] * (sampling.frames - len(short)), len(short)
