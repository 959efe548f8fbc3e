"""Clips of a stream: none goes on where a sender starts again, or a lost connection is made again."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from typing import Protocol, TypeVar

from ig65m.types import Clip
from ig65m.video.sample import Sample
from ig65m.video.sampling import Sampling

ClipsOf = Callable[[Generator[Sample, None, None], Sampling], Generator[Clip, None, None]]


class Part(Protocol):
    """A frame or sample of a stream."""

    @property
    def begins(self) -> bool: ...


PartT = TypeVar("PartT", bound=Part)


def recordings(parts: Iterable[PartT]) -> Iterator[Iterator[PartT]]:
    """Split a stream before each part that begins a recording; each must be read before the next one."""
    count = 0

    def number(part: PartT) -> int:
        nonlocal count
        count += part.begins
        return count

    for _, each in groupby(parts, key=number):
        yield each


def stream_clips(read: Generator[Sample, None, None], sampling: Sampling, clips_of: ClipsOf) -> Generator[Clip, None, None]:
    """Yield the clips of each recording in a stream, as if it were a video of its own; frame numbers continue.

    An error that ends the samples is raised after the last clip.
    """
    count = 0

    def counted(samples: Iterator[Sample]) -> Generator[Sample, None, None]:
        nonlocal count
        for sample in samples:
            count += 1
            yield sample

    with closing(read):
        for recording in recordings(read):
            before = count
            for clip in clips_of(counted(recording), sampling):
                span = clip.span
                yield replace(
                    clip, span=replace(span, first_frame=before + span.first_frame, last_frame=before + span.last_frame)
                )
