"""A video -> its clips, one at a time: reading, sampling and resizing put together."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import cast

import numpy as np

from ig65m.errors import UsageError, VideoError
from ig65m.types import Clip, ClipSpan, Frames, Limits, Preprocessing
from ig65m.video.frame import Frame
from ig65m.video.reader import read_frames
from ig65m.video.sampling import TOLERANCE, Sampling, needed, ticks, uniform_starts, windows
from ig65m.video.transforms import Pixels, Scaler, to_pixels


@dataclass(frozen=True)
class Tick:
    """A frame that clips are counted in, on display from `time` to `end`; `pixels` (H, W, 3) if some clip shows it."""

    time: float
    end: float
    pixels: Pixels | None


def clips_of(read: Generator[Tick, None, None], sampling: Sampling) -> Generator[Clip, None, None]:
    """Ticks -> clips, crop by crop where there are several; a clip's span is that of its real frames.

    Memory holds one clip's frames, however long the video. The error that ends the ticks is raised after the last clip that
    they fill.
    """
    failure: VideoError | None = None

    def good() -> Iterator[Tick]:
        nonlocal failure
        try:
            yield from read
        except VideoError as error:
            failure = error

    with closing(read):
        starts = count(0, sampling.hop) if sampling.starts is None else sampling.starts
        for (window, real), first in zip(windows(good(), sampling), starts, strict=False):
            pixels = np.stack([tick.pixels for tick in window if tick.pixels is not None])
            last = first + (real - 1) * sampling.frame_step
            span = ClipSpan(window[0].time, window[real - 1].end, first, last)
            crops = np.moveaxis(pixels, 1, 0) if pixels.ndim == 5 else pixels[None]  # (crops, T, H, W, 3)
            yield from (Clip(cast(Pixels, crop), span) for crop in crops)
    if failure is not None:
        raise failure


def uniform_clips(
    read: Callable[[Sampling], Generator[Tick, None, None]], sampling: Sampling, clips: int
) -> Generator[Clip, None, None]:
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
        yield from clips_of(read(sampling), sampling)
    if failure is not None:
        raise failure


def read_ticks(
    source: Path | str | Frames,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    image_fps: float = 25.0,
    limits: Limits | None = None,
    on_frame: Callable[[Frame], None] | None = None,
) -> Generator[Tick, None, None]:
    """The ticks of a video file, a folder of images (`image_fps` a second) or frames in memory.

    Each frame is decoded and resized once, however many clips share it. `on_frame` is told of each frame decoded.

    Raises VideoError if nothing can be read, and after the last tick where a video breaks off; UsageError if no frame is
    within the sampling's start and end.
    """
    first = last = None
    own: VideoError | None = None  # the reader's, which names the video

    def noted(frames: Iterable[Frame]) -> Iterator[Frame]:
        nonlocal first, last, own
        try:
            for frame in frames:
                first = frame if first is None else first
                last = frame
                if on_frame is not None:
                    on_frame(frame)
                yield frame
        except VideoError as error:
            own = error
            raise

    limits = limits or Limits()
    start = None if sampling.start is None else sampling.start - TOLERANCE
    scaler = Scaler()
    resized: tuple[Frame, Pixels] | None = None
    number = -1
    with closing(read_frames(source, image_fps=image_fps, start=start, limits=limits)) as frames:
        try:
            chosen = ticks(noted(frames), sampling, most=limits.frames)
            for number, frame in enumerate(chosen if sampling.last is None else islice(chosen, sampling.last + 1)):
                pixels = None
                if needed(number, sampling):
                    if resized is None or resized[0] is not frame:
                        resized = frame, to_pixels(frame, preprocessing, scaler)
                    pixels = resized[1]
                yield Tick(frame.time, frame.end, pixels)
        except VideoError as error:
            if error is own:
                raise
            raise VideoError(f"{_name(source)}: {error}", last_good_time=error.last_good_time) from error
    if number < 0:
        raise UsageError(_nothing_within(source, sampling, first, last))


def _name(source: Path | str | Frames) -> str:
    return "the frames" if isinstance(source, Frames) else str(source)


def _nothing_within(source: Path | str | Frames, sampling: Sampling, first: Frame | None, last: Frame | None) -> str:
    asked = f"from {'its beginning' if sampling.start is None else f'{sampling.start} s'}"
    asked += f" to {'its end' if sampling.end is None else f'{sampling.end} s'}"
    if sampling.end is not None and first is not None and first.time >= sampling.end:
        return f"{_name(source)}: no frame {asked}: its first frame is at {first.time:.3f} s"
    if sampling.start is not None and last is not None and last.end <= sampling.start + TOLERANCE:
        return f"{_name(source)}: no frame {asked}: its frames end at {last.end:.3f} s"
    return f"{_name(source)}: no frame {asked}: none of its frames begins then, ask for a longer range"
