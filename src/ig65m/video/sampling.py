"""Which frames make which clip: pure arithmetic on counts and times.

Frames in the requested range become samples, at another rate if `fps` is given. Clip i consists of the samples i·hop +
j·frame_step for j = 0 .. frames-1.
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
"""Seconds by which equal times may differ: Matroska rounds to milliseconds. Never more than a quarter of a frame's duration."""


LEAST_GAP = 50
"""Fewest frames between two wanted ones that are worth seeking over; fewer are decoded."""

LONGEST_STILL = 3600
"""Seconds for which one frame may be repeated when sampling at a rate; more is a broken clock."""


class Timed(Protocol):
    """Something displayed from `time` to `end`, in seconds."""

    @property
    def time(self) -> float: ...

    @property
    def end(self) -> float: ...


TimedT = TypeVar("TimedT", bound=Timed)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How clips are chosen from a video.

    Samples are the video's frames from `start` to `end`, or with `fps` the frames displayed at that rate. Raises UsageError if
    a value is out of range.

    Example:
        >>> sampling = ig65m.Sampling(frames=8, frame_step=2, stride=4)
        >>> sampling.span
        15
    """

    frames: int  # in a clip
    frame_step: int = 1  # samples from one frame of a clip to the next
    stride: int | None = None  # samples from one clip's start to the next; None: the clip's span
    fps: float | None = None  # sampling rate in frames a second; None: every frame is a sample
    start: float | None = None  # in seconds of the stream; frames with start <= time < end are sampled
    end: float | None = None
    tail: Tail = "pad"  # a last clip short of frames: pad or drop; a video shorter than a clip still gives one
    starts: tuple[int, ...] | None = None  # first samples of the clips, instead of the stride; empty: only count samples

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
        """Samples from a clip's first frame to its last, both counted."""
        return (self.frames - 1) * self.frame_step + 1

    @property
    def last(self) -> int | None:
        """The last sample to be read; None for the last one of the video."""
        return self.starts[-1] + self.span - 1 if self.starts else None

    @property
    def hop(self) -> int:
        """Samples from one clip's start to the next one's."""
        return self.span if self.stride is None else self.stride


def samples(frames: Iterable[TimedT], sampling: Sampling, *, most: int | None = None) -> Iterator[TimedT]:
    """Yield the samples of frames that come in order of time; nothing after the end of the range is read.

    With `fps`, sample k is at t0 + k/fps up to the end of the last frame, where t0 is the time of the first frame in the
    range. It is the last frame whose time is not after that, give or take TOLERANCE. So a frame may be sampled several times
    or never.

    Raises VideoError instead of sample number `most`: gaps in the times of a broken video are filled with samples too.
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
            raise VideoError(f"more than {most:,} frames sampled; raise --max-frames to read them", last_good_time=end)
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
    """Return whether a frame starts at `start` or later, and before `end`."""
    return any(_within([frame], sampling.start, sampling.end))


def _retimed(frames: Iterable[TimedT], fps: float, end: float | None) -> Iterator[TimedT]:
    """Raise VideoError if a frame would be repeated for more than LONGEST_STILL seconds."""
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
                f"no new frame for {until - shown.time:.0f} s after {shown.time:.3f} s; with --fps, more than "
                f"{LONGEST_STILL} s count as damage",
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
    """Return the first sample of each clip of `count` samples; only the last clip may be short of frames.

    Example for clips of span 8: 20 samples give 0, 8, 16 (four real frames in the last one); with tail "drop" 0, 8. 5 samples
    give 0 either way.
    """
    if sampling.starts is None:
        starts = list(range(0, count - sampling.span + 1, sampling.hop))
    else:
        starts = [start for start in sampling.starts if start + sampling.span <= count]
    tail = _tail_start(count, sampling)
    return starts if tail is None else [*starts, tail]


def clip_samples(count: int, sampling: Sampling) -> list[range]:
    """Return the samples of each clip of `count` samples; only the last clip may be short of frames."""
    starts = clip_starts(count, sampling)
    return [range(start, min(start + sampling.span, count), sampling.frame_step) for start in starts]


def leaves_gaps(sampling: Sampling) -> bool:
    """Return whether clips leave out at least LEAST_GAP samples somewhere before the last one."""
    if sampling.starts is None:
        return sampling.hop - sampling.span >= LEAST_GAP
    ends = (0, *(start + sampling.span for start in sampling.starts))
    return any(start - end >= LEAST_GAP for start, end in zip(sampling.starts, ends, strict=False))


def _tail_start(count: int, sampling: Sampling) -> int | None:
    """Return where the short last clip starts: it must contain a sample that no complete clip contains."""
    if count == 0 or sampling.starts == ():
        return None
    if count < sampling.span:
        first = 0 if sampling.starts is None else sampling.starts[0]
        return first if first < count else None
    if sampling.starts is not None:
        return None
    last = (count - sampling.span) // sampling.hop * sampling.hop
    reached, start = last + sampling.span, last + sampling.hop
    return start if sampling.tail == "pad" and start < count and reached < count else None


def uniform_starts(count: int, clips: int, span: int) -> tuple[int, ...]:
    """Return the first samples of `clips` clips of `span` samples, spread evenly: floor(i * (count - span) / (clips - 1)).

    Example: 3 clips of 8 in 21 samples start at 0, 6, 13. Fewer than `span` samples give one clip. Source: VMZ's reader,
    Caffe2's video_io.
    """
    if count < span:
        return (0,) if count else ()
    return tuple(number * (count - span) // max(clips - 1, 1) for number in range(clips))


def needed(sample: int, sampling: Sampling) -> bool:
    """Return whether a sample is part of some clip of an endless video; others need no resizing and no memory."""
    if (starts := sampling.starts) is not None:
        near = range(bisect_right(starts, sample - sampling.span), bisect_right(starts, sample))
        return any((sample - starts[place]) % sampling.frame_step == 0 for place in near)
    places = range(sample, sample - sampling.span, -sampling.frame_step)
    return any(start >= 0 and start % sampling.hop == 0 for start in places)


def windows(items: Iterable[T], sampling: Sampling) -> Iterator[tuple[list[T], int]]:
    """Yield for each clip its `frames` items and how many of them are real; a short clip repeats its last item.

    There is an item for each sample. A clip is yielded with its last item; at most one span is held.
    """
    kept: dict[int, T] = {}
    count = 0
    starts = count_from(0, sampling.hop) if sampling.starts is None else iter(sampling.starts)
    start = next(starts, -1)
    for sample, item in enumerate(items):
        count = sample + 1
        if needed(sample, sampling):
            kept[sample] = item
        while start >= 0 and count == start + sampling.span:  # equal clips are yielded each time
            yield [kept[i] for i in range(start, count, sampling.frame_step)], sampling.frames
            start = next(starts, -1)
            kept = {i: value for i, value in kept.items() if i >= start}
    if _tail_start(count, sampling) is not None:
        short = [kept[i] for i in range(start, count, sampling.frame_step)]
        yield short + short[-1:] * (sampling.frames - len(short)), len(short)
