"""A video -> its clips, one at a time: decoding, sampling and resizing put together."""

import logging
import os
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import count, repeat
from pathlib import Path
from typing import Any, Final

from ig65m.errors import UsageError, VideoError
from ig65m.types import Clip, ClipSpan, Frames, Limits, Preprocessing, Segment
from ig65m.video.isolation import Decoder
from ig65m.video.sample import Sample, SeekError, crops_of
from ig65m.video.sampling import Sampling, leaves_gaps, uniform_starts, windows
from ig65m.video.shot_clips import WithinShots, check_within, frames_of, shot_clips
from ig65m.video.stream import Stream
from ig65m.video.stream_clips import stream_clips

Source = Path | str | Frames | Segment | Stream
ReadSamples = Callable[[Sampling], Generator[Sample, None, None]]

_log: Final = logging.getLogger(__name__)


def clips_of(read: Generator[Sample, None, None], sampling: Sampling) -> Generator[Clip, None, None]:
    """Turn samples into clips; several crops of a clip follow each other.

    A clip that contains a lost frame is left out; all others are where they would be without damage. A video whose last frames
    are lost ends before them. Memory holds the frames of one clip. An error that ends the samples is raised after the last
    clip.
    """
    failure: VideoError | None = None
    losses: list[int] = []  # 2n for sample n, 2n - 1 for a loss between it and the one before

    def noted() -> Iterator[Sample]:
        nonlocal failure
        number, held = 0, 0  # lost samples are held until a good one follows, since the video ends with its last good one
        try:
            for sample in read:
                losses.extend([2 * (number + held) - 1] * sample.lost_before)
                held += sample.lost
                if not sample.lost:
                    losses.extend(2 * (number + each) for each in range(held))
                    yield from repeat(Sample(sample.time, sample.time, None, lost=True), held)
                    yield sample
                    number, held = number + held + 1, 0
        except VideoError as error:
            failure = error

    with closing(read):
        starts = count(0, sampling.hop) if sampling.starts is None else sampling.starts
        for (window, real), first in zip(windows(noted(), sampling), starts, strict=False):
            last = first + (real - 1) * sampling.frame_step
            del losses[: bisect_left(losses, 2 * first)]  # of no further clip
            if bisect_left(losses, 2 * first) < bisect_right(losses, 2 * last):
                continue
            span = ClipSpan(window[0].time, window[real - 1].end, first, last)
            crops = crops_of([sample.pixels for sample in window if sample.pixels is not None])
            yield from (Clip(crop, span, shape=window[0].shape) for crop in crops)
    if failure is not None:
        raise failure


def uniform_clips(read: ReadSamples, sampling: Sampling, clips: int) -> Generator[Clip, None, None]:
    """Yield `clips` clips, spread evenly. The video is read twice, since its frames must be counted first.

    If the video breaks off, the clips are spread over what can be read, and its error is raised after the last clip.
    """
    starts: tuple[int, ...] = (0,)
    failure: VideoError | None = None
    if clips > 1:
        samples_there = 0
        try:
            for _ in read(replace(sampling, starts=())):
                samples_there += 1
        except VideoError as error:
            failure = error
        starts = uniform_starts(samples_there, clips, sampling.span)
    if starts:
        sampling = replace(sampling, starts=starts)
        try:
            yield from clips_of(read(sampling), sampling)
        except VideoError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def clips_from(
    read: Callable[..., Generator[Sample, None, None]],
    seek: Callable[..., Generator[Clip, None, None]],
    source: Source,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    clips: int | None = None,
    within: WithinShots | None = None,
    image_fps: float = 25.0,
) -> Generator[Clip, None, None]:
    """Yield the clips of a source. `read` and `seek` are `read_samples` and `seek_clips`, or those of a `Decoder`.

    A segment's values override those of `sampling`. With `clips`, as many are spread evenly instead of following the stride.
    Where clips leave gaps, only the parts of a video file that they need are decoded, if that is exact. With `within`, clips
    do not cross shots.

    Raises UsageError for anything that is not a source, and for clips spread over a list of starts. Raises VideoError as
    `read` does, and if there is no complete clip at one of the starts.
    """
    check_source(source)
    if isinstance(source, Stream):
        return stream_clips(read(source, sampling=sampling, preprocessing=preprocessing), sampling, clips_of)
    path: Path | str | Frames
    if isinstance(source, Segment):
        sampling, path = sampling_of(source, sampling), source.path
    else:
        path = source

    if within is not None:
        check_within(source, sampling, clips)
        frames = read(
            path, sampling=frames_of(sampling), preprocessing=preprocessing, image_fps=image_fps, beside=within.beside
        )
        return shot_clips(source, frames, within, sampling, clips_of)

    def read_with(each: Sampling) -> Generator[Sample, None, None]:
        return read(path, sampling=each, preprocessing=preprocessing, image_fps=image_fps)

    if clips is not None:
        check_spread(source, clips)
        found = uniform_clips(read_with, sampling, clips)
    else:
        found = clips_of(read_with(sampling), sampling)
    has_gaps = leaves_gaps(sampling) if clips is None else clips > 1
    if has_gaps and not isinstance(path, Frames) and os.path.isfile(path):  # noqa: PTH113 - Path's raises for a long name
        found = _sought(seek(path, sampling, preprocessing, clips=clips), found, str(path))
    return found if sampling.starts is None else _one_for_each(found, str(path), sampling.starts)


def _sought(
    sought: Generator[Clip, None, None], decoded: Generator[Clip, None, None], path: str
) -> Generator[Clip, None, None]:
    """Yield the clips of `sought`. If seeking turns out not to be exact, continue with those of `decoded`.

    Raises VideoError as both do, and if they contradict each other.
    """
    given: Counter[ClipSpan] = Counter()
    last = -1
    with closing(sought), closing(decoded):
        try:
            for clip in sought:
                yield clip
                given[clip.span] += 1
                last = clip.span.first_frame
            _log.debug("%s: only the parts that its clips need were decoded", path)
            return
        except SeekError as error:
            _log.debug("%s: decoded as a whole, since seeking is not exact: %s", path, error)
        for clip in decoded:
            if given[clip.span] > 0:
                given[clip.span] -= 1
            elif clip.span in given or clip.span.first_frame > last:
                yield clip
            else:
                raise VideoError(f"{path}: its frames are not where its packets say; remux the file")


def sampling_of(segment: Segment, sampling: Sampling) -> Sampling:
    """Return the sampling of a segment, given that of whole videos."""
    own = {name: value for name in ("start", "end", "starts") if (value := getattr(segment, name)) is not None}
    return replace(sampling, **own)


def check_source(source: object) -> None:
    """Raise UsageError for anything that is not a video."""
    if not isinstance(source, str | os.PathLike | Frames | Segment | Stream):
        kind = type(source).__name__
        raise UsageError(f"expected a video (a path, ig65m.Frames or ig65m.Segment), got {kind} {source!r:.60}")


def check_spread(source: Source, clips: int) -> None:
    """Raise UsageError if the source lists the starts of its clips, so that none can be spread evenly."""
    if isinstance(source, Segment) and source.starts is not None:
        raise UsageError(f"{source}: {clips} clips cannot be spread over a list of starts; drop one of the two")


def _one_for_each(clips: Generator[Clip, None, None], path: str, starts: Sequence[int]) -> Generator[Clip, None, None]:
    """Yield the clips, one for each start. Raises VideoError after the last one if there are fewer."""
    given, until = 0, None
    with closing(clips):
        for clip in clips:
            given, until = given + 1, clip.span.end
            yield clip
    if given < len(starts):
        raise VideoError(f"{path}: no complete clip at frame {starts[given]}; the video ends", last_good_time=until)


def read_clips(
    source: Source,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    clips: int | None = None,
    within: WithinShots | None = None,
    image_fps: float = 25.0,
    limits: Limits | None = None,
    in_process: bool = False,
    decoder: Decoder | None = None,
) -> Generator[Clip, None, None]:
    """Yield the clips of a video, decoded in a worker process; memory holds the frames of one clip.

    Args:
        source: A video file, a folder of images, `ig65m.Frames` or `ig65m.Segment`.
        sampling: How clips are chosen.
        preprocessing: How frames are resized and cropped: `card.preprocessing`.
        clips: Number of clips, spread evenly over the video instead of following the stride. Default: all.
        within: How clips are kept within shots. Default: they may cross shots.
        image_fps: Frame rate of a folder of images, in frames a second.
        limits: What the video may cost. Default: `ig65m.Limits()`.
        in_process: Decode in this process instead of a worker process.
        decoder: A worker process to use, with its limits. Default: a new one.

    Yields:
        Clip: `pixels` (T, H, W, 3), RGB on 0..255, not normalised, uint8 (float32 if resized in float), and `span`.
            With several crops, there is a clip for each crop.

    Raises:
        UsageError: `source` is not a video, or no frame lies between start and end.
        VideoError: The video cannot be read; or, after its last clip, it is damaged or breaks off.

    Example:
        >>> card = ig65m.cards["r2plus1d_10_camera_motion"]
        >>> sampling = ig65m.Sampling(frames=card.frames, frame_step=card.frame_step)
        >>> for clip in ig65m.read_clips("video.mp4", sampling, card.preprocessing):
        ...     print(clip.pixels.shape, clip.span.start)
        (8, 64, 64, 3) 0.0
        (8, 64, 64, 3) 0.6
        (8, 64, 64, 3) 1.2
        (8, 64, 64, 3) 1.8
        (8, 64, 64, 3) 2.4
    """
    options: dict[str, Any] = {"clips": clips, "within": within, "image_fps": image_fps}
    if in_process or isinstance(source, Frames):
        from ig65m.video.sample_reader import read_samples
        from ig65m.video.seeking import seek_clips

        limits = limits or Limits()
        read, seek = partial(read_samples, limits=limits), partial(seek_clips, limits=limits)
        yield from clips_from(read, seek, source, sampling, preprocessing, **options)
    elif decoder is not None:
        yield from clips_from(decoder.read_samples, decoder.seek_clips, source, sampling, preprocessing, **options)
    else:
        with Decoder(limits or Limits()) as own:
            yield from clips_from(own.read_samples, own.seek_clips, source, sampling, preprocessing, **options)
