"""Clips with features and labels, from a folder of features and a list of labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from ig65m.collection.label_list import Example, LabelList
from ig65m.errors import UsageError, plain
from ig65m.learn.examples import groups_of, positives_of
from ig65m.store.features import Features
from ig65m.store.folder import read_journal
from ig65m.store.journal import Entry
from ig65m.store.verify import read_result
from ig65m.types import ClipSpan, Preprocessing, Segment

LEAST_OVERLAP: Final = 0.5
"""Share of a clip that must lie within a labelled part, for the clip to have its label."""


@dataclass(frozen=True)
class TrainingSet:
    """Features of clips, and the examples that the clips belong to."""

    features: NDArray[np.float32]  # (clips, C)
    owners: NDArray[np.int64]  # (clips,) index of each clip's example, ascending
    examples: tuple[Example, ...]  # those with clips
    positives: NDArray[np.bool_]  # (examples, classes)
    groups: NDArray[np.int64]  # (examples,) number of each example's group
    classes: tuple[str, ...]
    multi_label: bool
    without_clips: tuple[Example, ...] = ()  # of videos that failed or are not among the features

    def with_clips(self, chosen: NDArray[np.bool_]) -> "TrainingSet":
        """The set with the clips for which `chosen` (clips,) is true, at least one of each example."""
        return replace(self, features=self.features[chosen], owners=self.owners[chosen])

    def part(self, chosen: NDArray[np.bool_]) -> "TrainingSet":
        """The examples for which `chosen` (examples,) is true."""
        numbers = np.cumsum(chosen) - 1
        clips = chosen[self.owners]
        return TrainingSet(
            features=self.features[clips],
            owners=numbers[self.owners[clips]],
            examples=tuple(each for each, wanted in zip(self.examples, chosen, strict=True) if wanted),
            positives=self.positives[chosen],
            groups=self.groups[chosen],
            classes=self.classes,
            multi_label=self.multi_label,
        )


def videos_with_features(folder: Path) -> list[str]:
    """Paths of the videos in a folder of features. Raises UsageError if it is no such folder."""
    return list(dict.fromkeys(entry.video.path for entry in read_journal(folder)))


def read_training_set(folder: Path, labels: LabelList, width: int) -> TrainingSet:
    """Read the features of the labelled videos.

    A clip belongs to a labelled part of a video if at least half of it lies within the part; a part shorter than that has the
    clip that covers most of it. A last clip that is short of frames is left out if the example has complete clips.

    Args:
        folder: Folder of features.
        labels: Labelled videos, with the paths of the folder's journal.
        width: Length of a feature vector.

    Raises:
        UsageError: Features are damaged, not finite, or of another length.
    """
    entries: dict[str, list[Entry]] = {}
    for entry in read_journal(folder):
        entries.setdefault(entry.video.path, []).append(entry)
    rows: list[NDArray[np.float32]] = []
    owners: list[int] = []
    examples: list[Example] = []
    left_out: list[Example] = []
    wanted: dict[str, list[Example]] = {}
    for example in labels.examples:
        wanted.setdefault(example.video.path, []).append(example)
    for path, those in wanted.items():
        own = entries.get(path, [])
        there = {entry.video: _read(folder, entry, width) for entry in own if entry.sha256 is not None}
        for example in those:
            found = list(_clips(example, there))
            if not found:
                left_out.append(example)
                continue
            owners += [len(examples)] * len(found)
            rows += found
            examples.append(example)
    contents = {path: [entry.content for entry in own if entry.content is not None] for path, own in entries.items()}
    return TrainingSet(
        features=np.stack(rows) if rows else np.zeros((0, width), np.float32),
        owners=np.array(owners, np.int64),
        examples=tuple(examples),
        positives=positives_of(examples, labels.classes),
        groups=groups_of(examples, contents),
        classes=labels.classes,
        multi_label=labels.multi_label,
        without_clips=tuple(left_out),
    )


def check_settings(folder: Path, settings: Mapping[str, Any], name: str, sha256: str) -> None:
    """Raise UsageError unless the features of a folder are those that a last layer of the network takes."""
    sampling, preprocessing = settings.get("sampling"), settings.get("preprocessing")
    if not (isinstance(sampling, dict) and {"frames", "frame_step", "stride", "fps"} <= sampling.keys()):
        raise UsageError(f"settings.json of {folder} lacks how clips were chosen; extract the features again")
    try:
        whole = preprocessing_of(cast("dict[str, Any]", preprocessing)).crop is None
    except (TypeError, AttributeError, UsageError) as error:
        raise UsageError(f"settings.json of {folder} lacks how frames were preprocessed ({plain(error)})") from None
    if whole:
        raise UsageError(f"{folder} has features of whole pictures; a model needs those of one size, with a crop")
    if "layer" in settings:
        raise UsageError(f"{folder} has features of {settings['layer']}; a last layer takes those before it, without --layer")
    if "rows" in settings:
        raise UsageError(f"{folder} has {settings['rows']}, not features; give a folder of `ig65m extract`")
    if settings.get("sha256") != sha256:
        raise UsageError(
            f"{folder} has features of {settings.get('name')}, whose weights are not those of {name}; extract them with it, "
            "or give the model that they were extracted with (--model)"
        )
    pooling = settings.get("pooling")
    if pooling != {"spatial": "mean", "temporal": "mean"}:
        raise UsageError(f"{folder} has features with the pooling {pooling}; a last layer takes their mean over space and time")


def preprocessing_of(values: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing that settings of a folder of features describe."""
    read: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Preprocessing(**read)


def _read(folder: Path, entry: Entry, width: int) -> Features:
    features = read_result(folder, entry)
    if features.array.shape[1:] != (width,):
        raise UsageError(
            f"the features of {entry.video} have the shape {features.array.shape[1:]}; the network gives ({width},)"
        )
    if not np.isfinite(features.array).all():
        raise UsageError(f"the features of {entry.video} in {folder} contain numbers that are not finite; extract them again")
    return features


def _clips(example: Example, there: Mapping[Segment, Features]) -> Iterator[NDArray[np.float32]]:
    """Yield the features of the clips that belong to an example."""
    part = example.video
    own = {part: there[part]} if part in there else there
    for segment, features in own.items():
        if segment == part or part == Segment(part.path):
            chosen = list(range(len(features.spans)))
        elif part.starts is not None:
            chosen = [place for place, span in enumerate(features.spans) if span.first_frame in part.starts]
        elif segment.starts is None:
            chosen = _within(features.spans, part)
        else:
            continue
        yield from features.array[_complete(features, chosen) or chosen]


def _complete(features: Features, chosen: Sequence[int]) -> list[int]:
    """Return those of the chosen clips that are not short of frames."""
    sampling = features.model["sampling"]
    span = (sampling["frames"] - 1) * sampling["frame_step"]
    return [place for place in chosen if features.spans[place].last_frame - features.spans[place].first_frame >= span]


def _within(spans: Sequence[ClipSpan], part: Segment) -> list[int]:
    start = -np.inf if part.start is None else part.start
    end = np.inf if part.end is None else part.end
    shared = np.array([min(span.end, end) - max(span.start, start) for span in spans])
    lengths = np.array([span.end - span.start for span in spans])
    chosen = np.flatnonzero(shared >= LEAST_OVERLAP * lengths).tolist()
    if not chosen and len(shared) and shared.max() > 0:
        return [int(shared.argmax())]
    return [int(place) for place in chosen]
