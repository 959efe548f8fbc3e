"""What the Python API takes as a video, checked; and its frames."""

import os
import warnings
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError
from ig65m.types import Frames, Limits, Preprocessing, Segment
from ig65m.video.clips import Source, check_source
from ig65m.video.isolation import Decoder
from ig65m.video.sample import Sample
from ig65m.video.sampling import Sampling
from ig65m.video.stream import Stream


def as_source(video: Source | NDArray[np.uint8], fps: float | None) -> tuple[Source, float | None]:
    """The source that a video stands for, and the rate to sample it at.

    An array with `fps` is taken for `Frames` of that rate, with a DeprecationWarning: `fps` is the rate to sample at.

    Raises UsageError for anything that is not a video.
    """
    if not isinstance(video, np.ndarray):
        check_source(video)
        return video, fps
    if fps is None:
        raise UsageError("an array of frames needs a frame rate; pass ig65m.Frames(array, fps=25)")
    warnings.warn(
        "fps= with an array is deprecated; pass ig65m.Frames(array, fps=...), for fps= is the rate to sample a video at",
        DeprecationWarning,
        stacklevel=3,
    )
    return Frames(video, fps), None


def check_several(videos: Iterable[Source]) -> None:
    """Raise UsageError for one video where an iterable of videos is expected."""
    if isinstance(videos, str | bytes | os.PathLike | Frames | Segment | np.ndarray) or not isinstance(videos, Iterable):
        raise UsageError(f"expected several videos, got {type(videos).__name__}; pass a list, such as [video]")


def path_of(source: Source) -> str:
    """The path of a source as results carry it; empty for frames in memory."""
    if isinstance(source, Segment):
        return source.path
    return "" if isinstance(source, Frames) else str(source)


def samples_of(
    video: Source,
    decoder: Decoder | None,
    *,
    sampling: Sampling,
    preprocessing: Preprocessing,
    image_fps: float,
    limits: Limits,
) -> Generator[Sample, None, None]:
    """Read the frames of a source, resized; in this process without a decoder. Raises as `read_samples`."""
    check_source(video)
    path: Path | str | Frames | Stream
    if isinstance(video, Segment):
        sampling, path = replace(sampling, start=video.start, end=video.end), video.path
    else:
        path = video
    if decoder is None or isinstance(path, Frames):
        from ig65m.video.sample_reader import read_samples

        return read_samples(path, sampling, preprocessing, image_fps=image_fps, limits=limits)
    return decoder.read_samples(path, sampling, preprocessing, image_fps=image_fps)
