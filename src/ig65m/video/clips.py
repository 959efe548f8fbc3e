"""A video -> its clips, one at a time: reading, sampling and resizing put together."""

import math
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count, islice, repeat
from pathlib import Path
from typing import Final, cast

import numpy as np

from ig65m.errors import UsageError, VideoError
from ig65m.types import Clip, ClipSpan, Frames, Limits, Preprocessing, Segment
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.reader import read_frames
from ig65m.video.sampling import TOLERANCE, Sampling, is_within, needed, ticks, uniform_starts, windows
from ig65m.video.transforms import Pixels, Scaler, to_pixels

MOST_GAPS: Final = 1000
"""Parts of a video that may be lost to damage; in one that has more, what comes after them is given up."""


Source = Path | str | Frames | Segment


@dataclass(frozen=True)
class Tick:
    """A frame that clips are counted in, on display from `time` to `end`; `pixels` (H, W, 3) if some clip shows it.

    lost: damage has cost it. lost_before: damage has cost a frame between the tick before and this one.
    """

    time: float
    end: float
    pixels: Pixels | None
    lost: bool = False
    lost_before: bool = False


ReadTicks = Callable[[Sampling], Generator[Tick, None, None]]


def clips_of(read: Generator[Tick, None, None], sampling: Sampling) -> Generator[Clip, None, None]:
    """Ticks -> clips, crop by crop where there are several; a clip's span is that of its real frames.

    A clip that spans a lost frame is left out; the others are where they would be without damage. Where only lost frames are
    left, the video ends before them. Memory holds one clip's frames, however long the video. The error that ends the ticks is
    raised after the last clip that they fill.
    """
    failure: VideoError | None = None
    losses: list[int] = []  # 2n for tick n, 2n - 1 for what lies between it and the one before

    def noted() -> Iterator[Tick]:
        nonlocal failure
        number, held = 0, 0  # lost ticks are held until a good one comes: at the end of a video they are no part of it
        try:
            for tick in read:
                losses.extend([2 * (number + held) - 1] * tick.lost_before)
                held += tick.lost
                if not tick.lost:
                    losses.extend(2 * (number + each) for each in range(held))
                    yield from repeat(Tick(tick.time, tick.time, None, lost=True), held)
                    yield tick
                    number, held = number + held + 1, 0
        except VideoError as error:
            failure = error

    with closing(read):
        starts = count(0, sampling.hop) if sampling.starts is None else sampling.starts
        for (window, real), first in zip(windows(noted(), sampling), starts, strict=False):
            last = first + (real - 1) * sampling.frame_step
            if bisect_left(losses, 2 * first) < bisect_right(losses, 2 * last):
                continue
            pixels = np.stack([tick.pixels for tick in window if tick.pixels is not None])
            span = ClipSpan(window[0].time, window[real - 1].end, first, last)
            crops = np.moveaxis(pixels, 1, 0) if pixels.ndim == 5 else pixels[None]  # (crops, T, H, W, 3)
            yield from (Clip(cast(Pixels, crop), span) for crop in crops)
    if failure is not None:
        raise failure


def uniform_clips(read: ReadTicks, sampling: Sampling, clips: int) -> Generator[Clip, None, None]:
    """`clips` clips spread evenly over what `read` reads, which it does twice: the frames of a video must be counted first.

    Where it breaks off, they are spread over what is there, and its error is raised after the last. Raises what `read` does.
    """
    starts: tuple[int, ...] = (0,)
    failure: VideoError | None = None
    if clips > 1:
        ticks_there = 0
        try:
            for _ in read(replace(sampling, starts=())):
                ticks_there += 1
        except VideoError as error:
            failure = error
        starts = uniform_starts(ticks_there, clips, sampling.span)
    if starts:
        sampling = replace(sampling, starts=starts)
        try:
            yield from clips_of(read(sampling), sampling)
        except VideoError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def clips_from(
    read: Callable[..., Generator[Tick, None, None]],
    source: Source,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    clips: int | None = None,
    image_fps: float = 25.0,
) -> Generator[Clip, None, None]:
    """The clips of a source, whose ticks `read` gives: `read_ticks`, or that of a `Decoder`.

    A segment's own values override those of `sampling`. clips: as many, spread evenly, in place of the stride.

    Raises UsageError for what is no source and for clips spread over a list of starts; VideoError as `read`, and if a start
    that was asked for has no whole clip.
    """
    check_source(source)
    path = source
    if isinstance(source, Segment):
        sampling, path = sampling_of(source, sampling), source.path

    def read_with(each: Sampling) -> Generator[Tick, None, None]:
        return read(path, sampling=each, preprocessing=preprocessing, image_fps=image_fps)

    if clips is not None:
        check_spread(source, clips)
        return uniform_clips(read_with, sampling, clips)
    found = clips_of(read_with(sampling), sampling)
    return found if sampling.starts is None else _one_for_each(found, str(path), sampling.starts)


def sampling_of(segment: Segment, sampling: Sampling) -> Sampling:
    """The sampling of a segment, where `sampling` is that of whole videos."""
    own = {name: value for name in ("start", "end", "starts") if (value := getattr(segment, name)) is not None}
    return replace(sampling, **own)


def check_source(source: object) -> None:
    """Raise UsageError for what is no video."""
    if not isinstance(source, str | os.PathLike | Frames | Segment):
        kind = type(source).__name__
        raise UsageError(f"a video is a path, a folder of images, ig65m.Frames or a Segment; got {kind} {source!r:.60}")


def check_spread(source: Source, clips: int) -> None:
    """Raise UsageError if so many clips cannot be spread over a video, because it says itself where they start."""
    if isinstance(source, Segment) and source.starts is not None:
        raise UsageError(f"{source}: {clips} clips cannot be spread over a list of starts; leave one of them out")


def _one_for_each(clips: Generator[Clip, None, None], path: str, starts: Sequence[int]) -> Generator[Clip, None, None]:
    """The clips, one for each start. Raises VideoError after the last one if there are fewer."""
    given, until = 0, None
    with closing(clips):
        for clip in clips:
            given, until = given + 1, clip.span.end
            yield clip
    if given < len(starts):
        raise VideoError(f"{path}: no whole clip at frame {starts[given]}, its frames end", last_good_time=until)


def read_ticks(
    source: Path | str | Frames,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    image_fps: float = 25.0,
    limits: Limits | None = None,
    on_frame: Callable[[Frame | LostFrame], None] | None = None,
) -> Generator[Tick, None, None]:
    """The ticks of a video file, a folder of images (`image_fps` a second) or frames in memory.

    Each frame is decoded and resized once, however many clips share it. `on_frame` is told of each frame decoded.

    Raises VideoError after the last tick where a video breaks off or frames within start and end were lost, and if nothing can
    be read; UsageError if no frame is within the sampling's start and end.
    """
    limits = limits or Limits()
    start = None if sampling.start is None else sampling.start - TOLERANCE
    frames = read_frames(source, image_fps=image_fps, start=start, limits=limits)
    noted = _Noted(frames, sampling, on_frame)
    scaler = Scaler()
    resized: tuple[Frame, Pixels] | None = None
    number, shown = -1, -math.inf
    with closing(frames):
        try:
            chosen = ticks(noted, sampling, most=limits.frames)
            for number, frame in enumerate(chosen if sampling.last is None else islice(chosen, sampling.last + 1)):
                pixels = None
                if isinstance(frame, Frame) and needed(number, sampling):
                    if resized is None or resized[0] is not frame:
                        resized = frame, to_pixels(frame, preprocessing, scaler)
                    pixels = resized[1]
                lost_before = number > 0 and noted.lost_between(shown, frame.time)
                yield Tick(frame.time, frame.end, pixels, isinstance(frame, LostFrame), lost_before)
                shown = frame.time
        except VideoError as error:
            named = error is noted.error  # the reader's, which names the video
            message = str(error) if named else f"{_name(source)}: {error}"
            raise noted.with_gaps(message, _name(source), error.last_good_time) from error
    if number < 0:
        raise UsageError(_nothing_within(source, sampling, noted.first, noted.last))
    if noted.gaps:
        raise noted.with_gaps("", _name(source), noted.last_good)


class _Noted:
    """Frames as they come, and what is to be said of them afterwards."""

    def __init__(
        self, frames: Iterable[Frame | LostFrame], sampling: Sampling, on_frame: Callable[[Frame | LostFrame], None] | None
    ) -> None:
        self._frames, self._sampling, self._on_frame = frames, sampling, on_frame
        self.first: Frame | LostFrame | None = None
        self.last: Frame | LostFrame | None = None
        self.last_good: float | None = None
        self.error: VideoError | None = None
        self.gaps: list[tuple[float, float]] = []
        self.reasons: list[str] = []
        self._lost: list[float] = []  # times of lost frames that no tick has reached

    def __iter__(self) -> Iterator[Frame | LostFrame]:
        try:
            for frame in self._frames:
                self.first = self.first or frame
                self.last = frame
                if isinstance(frame, Frame):
                    self.last_good = frame.end
                elif is_within(frame, self._sampling):
                    self._note_lost(frame)
                if self._on_frame is not None:
                    self._on_frame(frame)
                yield frame
        except VideoError as error:
            self.error = error
            raise

    def _note_lost(self, frame: LostFrame) -> None:
        self._lost.append(frame.time)
        if self.gaps and frame.time <= self.gaps[-1][1]:
            self.gaps[-1] = self.gaps[-1][0], frame.end
        elif len(self.gaps) == MOST_GAPS:
            raise VideoError(f"damaged in more than {MOST_GAPS} places", last_good_time=self.last_good)
        else:
            self.gaps.append((frame.time, frame.end))
            self.reasons.append(frame.reason)

    def lost_between(self, before: float, time: float) -> bool:
        """Whether frames are lost whose times lie between those two; they come in order, and are asked for once."""
        passed = [lost for lost in self._lost if lost <= time]
        self._lost = self._lost[len(passed) :]
        return any(before < lost < time for lost in passed)

    def with_gaps(self, message: str, name: str, last_good_time: float | None) -> VideoError:
        """The error of a video that has these gaps, and otherwise ended as the message says."""
        if self.last_good is None:
            return VideoError(message or f"{name}: no frame of it can be decoded ({self.reasons[0]})")
        told = [
            f"{start:.3f} to {end:.3f} s ({reason})"
            for (start, end), reason in zip(self.gaps, self.reasons, strict=True)
            if not message or start < self.last_good
        ]
        if told:
            more = f" and {len(told) - 3} more parts" if len(told) > 3 else ""
            lost = f"damage has cost {', '.join(told[:3])}{more}; clips that touch these parts are left out"
            message = f"{message}; before that, {lost}" if message else f"{name}: {lost}"
        return VideoError(message, last_good_time=last_good_time, gaps=self.gaps)


def _name(source: Path | str | Frames) -> str:
    return "the frames" if isinstance(source, Frames) else str(source)


def _nothing_within(
    source: Path | str | Frames, sampling: Sampling, first: Frame | LostFrame | None, last: Frame | LostFrame | None
) -> str:
    asked = f"from {'its beginning' if sampling.start is None else f'{sampling.start} s'}"
    asked += f" to {'its end' if sampling.end is None else f'{sampling.end} s'}"
    if sampling.end is not None and first is not None and first.time >= sampling.end:
        return f"{_name(source)}: no frame {asked}: its first frame is at {first.time:.3f} s"
    if sampling.start is not None and last is not None and last.end <= sampling.start + TOLERANCE:
        return f"{_name(source)}: no frame {asked}: its frames end at {last.end:.3f} s"
    return f"{_name(source)}: no frame {asked}: none of its frames begins then, ask for a longer range"
