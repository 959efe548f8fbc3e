"""A video -> its clips, one at a time: reading, sampling and resizing put together."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ig65m.errors import UsageError, VideoError
from ig65m.types import Clip, ClipSpan, Frames, Limits, Preprocessing
from ig65m.video.frame import Frame
from ig65m.video.reader import read_frames
from ig65m.video.sampling import TOLERANCE, Sampling, needed, ticks, windows
from ig65m.video.transforms import Pixels, Scaler, to_pixels


@dataclass(frozen=True)
class Tick:
    """A frame that clips are counted in, on display from `time` to `end`; `pixels` (H, W, 3) if some clip shows it."""

    time: float
    end: float
    pixels: Pixels | None


def read_clips(
    source: Path | str | Frames,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    image_fps: float = 25.0,
    limits: Limits | None = None,
) -> Generator[Clip, None, None]:
    """The clips of a video file, a folder of images (`image_fps` a second) or frames in memory.

    Each frame is decoded and resized once, however many clips share it, and memory holds one clip's frames, however long
    the video. A clip's span is that of its real frames.

    Raises VideoError if nothing can be read, and after the last clip where a video breaks off; UsageError if no frame is
    within the sampling's start and end.
    """
    return clips_of(read_ticks(source, sampling, preprocessing, image_fps=image_fps, limits=limits), sampling)


def clips_of(read: Generator[Tick, None, None], sampling: Sampling) -> Generator[Clip, None, None]:
    """Ticks -> clips; the error that ends the ticks is raised after the last clip that they fill."""
    failure: VideoError | None = None

    def good() -> Iterator[Tick]:
        nonlocal failure
        try:
            yield from read
        except VideoError as error:
            failure = error

    with closing(read):
        for window, real in windows(good(), sampling):
            pixels = np.stack([tick.pixels for tick in window if tick.pixels is not None])
            yield Clip(cast(Pixels, pixels), ClipSpan(window[0].time, window[real - 1].end))
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
    """What `read_clips` makes clips of; `on_frame` is told of each frame decoded. Raises what `read_clips` does."""
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
            for number, frame in enumerate(ticks(noted(frames), sampling, most=limits.frames)):
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
