"""Labelled videos: an example is a video, or a part of one, with its labels."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from ig65m.types import Segment

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Example:
    """A labelled video, or a labelled part of one."""

    video: Segment  # with the path of a file that exists
    labels: tuple[str, ...]  # one, or any number in a multi-label list
    group: str  # examples of one group, such as parts of one video, are never on both sides of a split
    split: Split | None = None
    line: int | None = None  # in the list; None for a folder


@dataclass(frozen=True)
class LabelList:
    """The labelled videos of a list.

    `classes` are in the order of the list's own index of classes if it has one, else sorted. `missing` has the names of videos
    that are in the list but were not found.
    """

    format: str
    classes: tuple[str, ...]
    examples: tuple[Example, ...]
    missing: tuple[str, ...] = ()
    multi_label: bool = False  # whether an example has several labels, or none

    @property
    def sha256(self) -> str:
        """Digest of all examples, in any order."""
        rows = sorted(json.dumps({**asdict(each), "line": None}, sort_keys=True) for each in self.examples)
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()
