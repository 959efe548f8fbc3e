"""Frames, each with the number of its shot -> clips that never cross the boundary of a shot."""

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

from ig65m.errors import UsageError, VideoError
from ig65m.types import Clip, Limits, Preprocessing
from ig65m.video.sample import Sample, name_of
from ig65m.video.sampling import Sampling, samples

Numbered = tuple[Sample, int | None]


@dataclass(frozen=True)
class WithinShots:
    """How the frames of a video get the numbers of their shots.

    `number` takes the source and all its frames, and yields them, in order, each with the number of its shot; None for a frame
    within a transition. Frames may come late, as many as the network must see first. Frames at the end may be left out.
    """

    number: Callable[[object, Iterable[Sample]], Iterator[Numbered]]
    beside: Preprocessing | None = None  # second size in which it needs the frames
    most: int = Limits().frames  # most samples of a video


def frames_of(sampling: Sampling) -> Sampling:
    """Return the sampling whose samples are all frames of the range."""
    return Sampling(frames=1, start=sampling.start, end=sampling.end)


def check_within(source: object, sampling: Sampling, clips: int | None) -> None:
    """Raise UsageError for clips whose places are given otherwise."""
    if clips is not None:
        raise UsageError(f"{clips} clips spread over a video would cross shots; leave one of clips and within_shots out")
    if sampling.starts is not None:
        raise UsageError(f"{source}: clips at given frames may cross shots; leave one of starts and within_shots out")


def shot_clips(
    source: object,
    read: Generator[Sample, None, None],
    within: WithinShots,
    sampling: Sampling,
    clips_of: Callable[[Generator[Sample, None, None], Sampling], Generator[Clip, None, None]],
) -> Generator[Clip, None, None]:
    """Yield the clips of each shot, as if the shot were a video of its own; `read` yields all frames of the range.

    Frame numbers of spans count from the start of the range, with `fps` samples. An error that ends the frames is raised after
    the last clip.
    """
    failure: VideoError | None = None

    def sound() -> Iterator[Sample]:
        nonlocal failure
        try:
            yield from read
        except VideoError as error:
            failure = error

    own = replace(sampling, start=None, end=None)
    before = 0  # samples of the shots so far
    with closing(read):
        for shot, group in groupby(within.number(source, sound()), key=itemgetter(1)):
            shown = _Samples(name_of(source), group, own, within.most, before)
            if shot is None:
                for _ in shown.read():
                    pass
            else:
                for clip in clips_of(shown.read(), own):
                    span = clip.span
                    numbers = before + span.first_frame, before + span.last_frame
                    yield replace(clip, span=replace(span, first_frame=numbers[0], last_frame=numbers[1], shot=shot))
            before = shown.count
    if failure is not None:
        raise failure


class _Samples:
    """The samples of a shot; `count` is the number of samples of the video up to now."""

    def __init__(self, name: str, frames: Iterable[Numbered], sampling: Sampling, most: int, count: int) -> None:
        self._name, self._frames, self._sampling, self._most = name, frames, sampling, most
        self._lost: list[float] = []  # times of lost frames that no sample has reached
        self._failed: VideoError | None = None  # of the frames, which names the video
        self.count = count

    def read(self) -> Generator[Sample, None, None]:
        """Yield the samples; one after a lost frame that is not sampled itself says so."""
        shown = -math.inf
        try:
            for sample in samples(self._noted(), self._sampling):
                if self.count == self._most:
                    message = f"more than {self._most:,} frames sampled; raise --max-frames to read them"
                    raise VideoError(message, last_good_time=shown if math.isfinite(shown) else None)
                torn = any(shown < time < sample.time for time in self._lost)
                self._lost = [time for time in self._lost if time >= sample.time]
                yield replace(sample, lost_before=torn) if torn else sample
                self.count += 1
                shown = sample.time
        except VideoError as error:
            if error is self._failed:
                raise
            raise VideoError(f"{self._name}: {error}", last_good_time=error.last_good_time) from error

    def _noted(self) -> Iterator[Sample]:
        try:
            for frame, _ in self._frames:
                if frame.lost:
                    self._lost.append(frame.time)
                yield frame
        except VideoError as error:
            self._failed = error
            raise
