"""What a search gives, what it may be narrowed to, and which hits are one moment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ig65m.errors import UsageError
from ig65m.types import Label

TOUCHING: Final = 1e-3
"""Seconds between two spans that touch: Matroska rounds times to whole milliseconds. Never more than a quarter of a span."""


def touching(length: float) -> float:
    """Seconds by which times of spans of that length may differ and be the same."""
    return min(TOUCHING, length / 4)


@dataclass(frozen=True)
class Hit:
    """A clip, or a moment of several, that was found.

    video: its name in the index. path: of the video, as it was when its features were computed. score: cosine, or a label's
    probability. start, end: seconds of the stream. labels: that were stored with the clip, best first. query: the number of
    the query it is most like.
    """

    video: str
    path: str
    score: float
    start: float
    end: float
    labels: tuple[Label, ...] = ()
    query: int = 0


@dataclass(frozen=True)
class Moment:
    """A part of a video, in seconds."""

    video: str
    start: float
    end: float


@dataclass(frozen=True)
class Where:
    """Which clips may be hits: of `videos` and not of `not_videos` (names in the index), with `label` among their stored
    labels, and between `start` and `end`, in seconds, with all of their span.

    Raises UsageError for times that are none or in disorder.
    """

    videos: tuple[str, ...] | None = None
    not_videos: tuple[str, ...] = ()
    label: str | None = None
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        for name, time in (("start", self.start), ("end", self.end)):
            if time is not None and not math.isfinite(time):
                raise UsageError(f"the {name} must be a finite number of seconds, got {time}")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise UsageError(f"the start must be before the end, got {self.start:g} s and {self.end:g} s")


def merged(hits: Sequence[Hit]) -> list[Hit]:
    """Moments: hits of one video that overlap or touch are one, with the best hit's score, labels and query and the span of
    all; best first."""
    moments: list[Hit] = []
    ranked = sorted(range(len(hits)), key=lambda number: (hits[number].video, hits[number].start, hits[number].end))
    best: list[int] = []  # the place in `hits` of each moment's best
    for number in ranked:
        hit = hits[number]
        if moments and moments[-1].video == hit.video and hit.start <= moments[-1].end + touching(hit.end - hit.start):
            last = moments[-1]
            if (-hit.score, number) < (-last.score, best[-1]):
                best[-1], last = number, replace(hit, start=last.start, end=last.end)
            moments[-1] = replace(last, end=max(last.end, hit.end))
        else:
            moments.append(hit)
            best.append(number)
    order = sorted(range(len(moments)), key=lambda place: (-moments[place].score, best[place]))
    return [moments[place] for place in order]


def best_moments(hits: Sequence[Hit], count: int) -> list[Hit]:
    """The moments that as few hits, best first, as make `count` of them are merged to; all of them where they make fewer."""
    spans: dict[str, list[tuple[float, float]]] = {}
    there = 0
    for number, hit in enumerate(hits, 1):
        others = spans.setdefault(hit.video, [])
        near = touching(hit.end - hit.start)
        touched = [each for each in others if each[0] <= hit.end + near and hit.start <= each[1] + near]
        apart = [each for each in others if each not in touched]
        whole = min([hit.start, *(each[0] for each in touched)]), max([hit.end, *(each[1] for each in touched)])
        spans[hit.video] = [*apart, whole]
        there += 1 - len(touched)
        if there == count:
            return merged(hits[:number])
    return merged(hits)
