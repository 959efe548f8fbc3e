"""How good a learned network is on held-out videos, and what it was learned from."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.learn.calibration import scores_of
from ig65m.metrics import Metrics, confusion_matrix, mean_average_precision, measure, measure_multi_label
from ig65m.models.card import Scalar

FEW: Final = 5  # videos of a class below which little can be learned, and its accuracy is not known
RESAMPLINGS: Final = 1000  # of examples with one label
FEW_RESAMPLINGS: Final = 200  # of others, since mAP takes longer
CONFIDENCE: Final = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class ClassCount:
    """What there is of a class."""

    label: str
    videos: int
    clips: int


@dataclass(frozen=True)
class HeldOut:
    """Metrics of videos, or parts of videos, that were not learned from. A score of a video is the mean over its clips."""

    how: str  # how they were held out
    examples: int
    videos: Metrics
    clips: Metrics
    interval: Interval | None  # of the videos' top-1 accuracy, or mAP: 95 %, resampling whole groups
    confusion: NDArray[np.int64] | None  # (classes, classes) videos, a row for each true class; None for labels not exclusive

    def to_record(self) -> dict[str, Any]:
        """Return the metrics as JSON values."""
        return {
            **asdict(self.videos),
            "how": self.how,
            "examples": self.examples,
            "interval": self.interval,
            "clips": asdict(self.clips),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
        }


@dataclass(frozen=True)
class Report:
    """What was learned from, and how good the result is."""

    counts: tuple[ClassCount, ...]
    held_out: HeldOut | None  # None if nothing could be held out
    temperature: float
    settings: Mapping[str, Scalar]
    warnings: tuple[str, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "classes": [vars(each) for each in self.counts],
            "held_out": None if self.held_out is None else self.held_out.to_record(),
            "temperature": self.temperature,
            "settings": dict(self.settings),
            "warnings": list(self.warnings),
        }


def count_classes(
    classes: tuple[str, ...], positives: NDArray[np.bool_], owners: NDArray[np.int64], groups: NDArray[np.int64]
) -> tuple[ClassCount, ...]:
    """Count the videos (groups) and clips of each class."""
    clips = positives[owners].sum(axis=0)
    videos = [len(np.unique(groups[own])) for own in positives.T]
    return tuple(ClassCount(label, *map(int, each)) for label, *each in zip(classes, videos, clips, strict=True))


def measure_held_out(
    how: str,
    logits: NDArray[np.float64],
    positives: NDArray[np.bool_],
    owners: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    multi_label: bool,
) -> HeldOut:
    """Measure held-out clips.

    Args:
        how: How they were held out.
        logits: Logits (clips, classes), divided by the temperature.
        positives: Labels (examples, classes) of the examples.
        owners: Index (clips,) of each clip's example.
        groups: Number (examples,) of each example's group.
        multi_label: Whether labels are not exclusive.
    """
    scores = scores_of(logits, multi_label=multi_label)
    means = np.zeros(positives.shape)
    np.add.at(means, owners, scores)
    there = np.bincount(owners, minlength=len(positives))
    means = means[there > 0] / there[there > 0, None]
    own, groups = positives[there > 0], groups[there > 0]
    if multi_label:
        videos, clips = measure_multi_label(means, own), measure_multi_label(scores, positives[owners])
        interval = _interval(groups, FEW_RESAMPLINGS, lambda chosen: _average_precision(means[chosen], own[chosen]))
        return HeldOut(how, len(own), videos, clips, interval, None)
    targets = own.argmax(axis=1)
    videos, clips = measure(means, targets), measure(scores, positives[owners].argmax(axis=1))
    correct = means.argmax(axis=1) == targets
    interval = _interval(groups, RESAMPLINGS, lambda chosen: float(correct[chosen].mean()))
    return HeldOut(how, len(own), videos, clips, interval, confusion_matrix(means, targets))


def _average_precision(scores: NDArray[np.float64], positives: NDArray[np.bool_]) -> float:
    return mean_average_precision(scores, positives) if positives.any() else float("nan")


def _interval(groups: NDArray[np.int64], draws: int, metric: Callable[[NDArray[np.int64]], float]) -> Interval | None:
    """The bootstrap interval of a metric of examples; whole groups are drawn. None for a single group."""
    names, numbers = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return None
    order = np.argsort(numbers, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(names), size=len(names)) for _ in range(draws))
    values = np.array([metric(np.concatenate([members[group] for group in draw])) for draw in drawn])
    low, high = np.nanquantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
