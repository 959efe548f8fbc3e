"""Summary of each video in an index."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ig65m.search.rows import Rows
from ig65m.types import Label, Status


@dataclass(frozen=True)
class IndexedVideo:
    """A video of an index, with its labels by their mean score over all clips."""

    video: str  # name in the index
    path: str
    title: str  # file name
    duration: float  # end of the last clip in seconds
    clips: int
    status: Status
    labels: tuple[Label, ...]  # best first


def list_videos(rows: Rows) -> list[IndexedVideo]:
    """Return all videos, by path."""
    clips = np.bincount(rows.source, minlength=len(rows.sources))
    ends = np.full(len(rows.sources), -np.inf)
    np.maximum.at(ends, rows.source, rows.end)
    labels = _mean_labels(rows, clips.tolist())
    every = [
        IndexedVideo(
            video=source.name,
            path=source.path,
            title=Path(source.path).name,
            duration=float(ends[number]),
            clips=int(clips[number]),
            status=cast(Status, source.status),
            labels=labels.get(number, ()),
        )
        for number, source in enumerate(rows.sources)
        if source.name  # otherwise its rows are damaged
    ]
    return sorted(every, key=lambda video: (video.path, video.video))


def _mean_labels(rows: Rows, clips: list[int]) -> dict[int, tuple[Label, ...]]:
    """Return, by number of the video, its labels' mean scores over its clips, best first."""
    owners = np.repeat(rows.source, np.diff(rows.label_starts)).astype(np.int64)
    pairs, places = np.unique(owners * max(len(rows.label_names), 1) + rows.label, return_inverse=True)
    sums = np.bincount(places, weights=rows.label_score, minlength=len(pairs))
    labels: dict[int, list[Label]] = {}
    for pair, total in zip(pairs.tolist(), sums.tolist(), strict=True):
        number, label = divmod(pair, len(rows.label_names))
        labels.setdefault(number, []).append(Label(rows.label_names[label], total / clips[number]))
    return {number: tuple(sorted(each, key=lambda label: -label.score)) for number, each in labels.items()}
