"""Search results: hits, filters, and merging of hits into moments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ig65m.errors import UsageError
from ig65m.types import Label

TOUCHING: Final = 1e-3
"""Largest gap in seconds between spans that touch: Matroska rounds to milliseconds. Never more than a quarter of a span."""


def touching(length: float) -> float:
    """Return the seconds by which equal times of spans of that length may differ."""
    return min(TOUCHING, length / 4)


@dataclass(frozen=True)
class Hit:
    """A clip, or a moment of several clips, that was found."""

    video: str  # name in the index
    path: str  # of the video, when its features were extracted
    score: float  # cosine, or score of a label
    start: float  # in seconds of the stream
    end: float  # likewise
    labels: tuple[Label, ...] = ()  # stored with the clip, best first
    query: int = 0  # number of the most similar query


@dataclass(frozen=True)
class Moment:
    """A part of a video, in seconds."""

    video: str
    start: float
    end: float


@dataclass(frozen=True)
class Where:
    """Which clips may be hits.

    Raises UsageError for invalid times.
    """

    videos: tuple[str, ...] | None = None  # only these, by their names in the index
    not_videos: tuple[str, ...] = ()  # none of these
    label: str | None = None  # only clips with this label
    start: float | None = None  # only clips that start at this time or later, in seconds
    end: float | None = None  # only clips that end at this time or earlier, in seconds

    def __post_init__(self) -> None:
        for name, time in (("start", self.start), ("end", self.end)):
            if time is not None and not math.isfinite(time):
                raise UsageError(f"the {name} must be a finite number of seconds, got {time}")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise UsageError(f"the start must be before the end, got {self.start:g} s and {self.end:g} s")


def merged(hits: Sequence[Hit]) -> list[Hit]:
    """Merge hits of one video that overlap or touch to moments with the best hit's score, labels and query; best first."""
    moments: list[Hit] = []
    ranked = sorted(range(len(hits)), key=lambda number: (hits[number].video, hits[number].start, hits[number].end))
    best: list[int] = []  # index in `hits` of each moment's best
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
    """Return the moments of the fewest hits, best first, that make `count` moments; of all hits if they make fewer."""
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
