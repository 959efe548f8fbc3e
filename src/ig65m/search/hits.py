"""Search results: hits, filters, and merging of hits into moments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from ig65m.errors import UsageError
from ig65m.types import Label

TOUCHING: Final = 1e-3
"""Largest gap in seconds between spans that touch: Matroska rounds to milliseconds. Never more than a quarter of a span."""

Merge = bool | Literal["shot"]
"""Which hits become one: none, those of a video that touch, or those of a shot."""


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
    shot: int | None = None  # number of its shot in the video; None if unknown, or if its clips are of several shots


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


def _group(hit: Hit, by_shot: bool) -> tuple[tuple[str, int], float]:
    """Return video and shot, within which hits may be merged, and the largest gap in seconds between those that are."""
    if by_shot and hit.shot is not None:
        return (hit.video, hit.shot), math.inf
    return (hit.video, -1), touching(hit.end - hit.start)


def merged(hits: Sequence[Hit], *, by_shot: bool = False) -> list[Hit]:
    """Merge hits of one video that overlap or touch to moments with the best hit's score, labels and query; best first.

    by_shot: merge the hits of each shot instead; those whose shot is unknown are merged if they touch.
    """
    moments: list[Hit] = []
    groups = [_group(hit, by_shot) for hit in hits]
    ranked = sorted(range(len(hits)), key=lambda number: (groups[number][0], hits[number].start, hits[number].end))
    best: list[int] = []  # index in `hits` of each moment's best
    for number in ranked:
        hit, (group, near) = hits[number], groups[number]
        if moments and groups[best[-1]][0] == group and hit.start <= moments[-1].end + near:
            last = moments[-1]
            shot = hit.shot if hit.shot == last.shot else None
            if (-hit.score, number) < (-last.score, best[-1]):
                best[-1], last = number, replace(hit, start=last.start, end=last.end)
            moments[-1] = replace(last, end=max(last.end, hit.end), shot=shot)
        else:
            moments.append(hit)
            best.append(number)
    order = sorted(range(len(moments)), key=lambda place: (-moments[place].score, best[place]))
    return [moments[place] for place in order]


def best_moments(hits: Sequence[Hit], count: int, *, by_shot: bool = False) -> list[Hit]:
    """Return the moments of the fewest hits, best first, that make `count` moments; of all hits if they make fewer.

    by_shot: as in `merged`.
    """
    spans: dict[tuple[str, int], list[tuple[float, float]]] = {}
    there = 0
    for number, hit in enumerate(hits, 1):
        group, near = _group(hit, by_shot)
        others = spans.setdefault(group, [])
        touched = [each for each in others if each[0] <= hit.end + near and hit.start <= each[1] + near]
        apart = [each for each in others if each not in touched]
        whole = min([hit.start, *(each[0] for each in touched)]), max([hit.end, *(each[1] for each in touched)])
        spans[group] = [*apart, whole]
        there += 1 - len(touched)
        if there == count:
            return merged(hits[:number], by_shot=by_shot)
    return merged(hits, by_shot=by_shot)
