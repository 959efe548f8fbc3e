"""A video -> its clips, one at a time: reading, sampling and resizing put together."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ig65m.errors import UsageError, VideoError
from ig65m.types import Clip, ClipSpan, Frames, Preprocessing
from ig65m.video.frame import Frame
from ig65m.video.reader import read_frames
from ig65m.video.sampling import TOLERANCE, Sampling, needed, ticks, windows
from ig65m.video.transforms import Pixels, Scaler, to_pixels


@dataclass(frozen=True)
class _Tick:
    time: float
    end: float
    pixels: Pixels | None


@dataclass
class _Progress:
    """What was read so far: the first frame's time, the last one's end, the error that ended it."""

    first: float | None = None
    last: float | None = None
    failure: VideoError | None = None


def read_clips(
    source: Path | str | Frames, sampling: Sampling, preprocessing: Preprocessing, *, image_fps: float = 25.0, threads: int = 0
) -> Generator[Clip, None, None]:
    """The clips of a video file, a folder of images (`image_fps` a second) or frames in memory.

    Each frame is decoded and resized once, however many clips share it, and memory holds one clip's frames, however long
    the video. A clip's span is that of its real frames.

    Raises VideoError if nothing can be read, and after the last clip where a video breaks off; UsageError if no frame is
    within the sampling's start and end.
    """
    progress = _Progress()
    first = None if sampling.start is None else sampling.start - TOLERANCE
    with closing(read_frames(source, image_fps=image_fps, start=first, threads=threads)) as frames:
        prepared = _prepared(_noted(frames, progress), sampling, preprocessing)
        empty = True
        for window, real in windows(_until_failure(prepared, progress), sampling):
            empty = False
            pixels = np.stack([tick.pixels for tick in window if tick.pixels is not None])
            yield Clip(cast(Pixels, pixels), ClipSpan(window[0].time, window[real - 1].end))
    if progress.failure is not None:
        raise progress.failure
    if empty:
        raise UsageError(_nothing_within(source, sampling, progress))


def _noted(frames: Iterable[Frame], progress: _Progress) -> Iterator[Frame]:
    for frame in frames:
        if progress.first is None:
            progress.first = frame.time
        progress.last = frame.end
        yield frame


def _prepared(frames: Iterable[Frame], sampling: Sampling, preprocessing: Preprocessing) -> Iterator[_Tick]:
    scaler = Scaler()
    resized: tuple[Frame, Pixels] | None = None
    for number, frame in enumerate(ticks(frames, sampling)):
        pixels = None
        if needed(number, sampling):
            if resized is None or resized[0] is not frame:
                resized = frame, to_pixels(frame, preprocessing, scaler)
            pixels = resized[1]
        yield _Tick(frame.time, frame.end, pixels)


def _until_failure(prepared: Iterable[_Tick], progress: _Progress) -> Iterator[_Tick]:
    try:
        yield from prepared
    except VideoError as error:
        progress.failure = error


def _nothing_within(source: Path | str | Frames, sampling: Sampling, progress: _Progress) -> str:
    name = "the frames" if isinstance(source, Frames) else str(source)
    asked = f"from {'its beginning' if sampling.start is None else f'{sampling.start} s'}"
    asked += f" to {'its end' if sampling.end is None else f'{sampling.end} s'}"
    if sampling.end is not None and progress.first is not None and progress.first >= sampling.end:
        return f"{name}: no frame {asked}: its first frame is at {progress.first:.3f} s"
    if sampling.start is not None and progress.last is not None and progress.last <= sampling.start + TOLERANCE:
        return f"{name}: no frame {asked}: its frames end at {progress.last:.3f} s"
    return f"{name}: no frame {asked}: none of its frames begins then, ask for a longer range"
