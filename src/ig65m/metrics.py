"""Metrics of classification: accuracy, mean average precision, calibration error, confusion matrix.

`scores` (n, classes) are on 0..1, a row for each example. `targets` (n,) are the classes of single-label examples, `positives`
(n, classes) those of multi-label ones. Of equal scores, that of the first class counts as higher.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError

BINS: Final = 15
TOP: Final = 5

Scores = NDArray[np.floating[Any]]
Targets = NDArray[np.integer[Any]]
Positives = NDArray[np.bool_]


@dataclass(frozen=True)
class Metrics:
    """Metrics of many examples, on 0..1; None where a metric has no meaning or there is no example."""

    top1: float | None = None  # single-label only
    top5: float | None = None  # single-label only, with more than 5 classes
    mean_class_accuracy: float | None = None  # single-label only
    map: float | None = None  # multi-label only
    ece: float | None = None


@dataclass(frozen=True)
class CalibrationBins:
    """Scores in equal-width bins [i/bins, (i+1)/bins), and one more for scores of exactly 1, as in torchmetrics."""

    counts: NDArray[np.int64]  # (bins + 1,) scores in each bin
    confidence: NDArray[np.float64]  # (bins + 1,) their mean; 0 in an empty bin
    accuracy: NDArray[np.float64]  # (bins + 1,) share of them that is correct; 0 in an empty bin

    @property
    def error(self) -> float:
        """Expected calibration error: the mean of |accuracy - confidence|, weighted by the counts."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.counts))


def measure(scores: Scores, targets: Targets) -> Metrics:
    """Metrics of single-label examples. Raises UsageError if shapes or values do not fit."""
    _check(scores)
    _check_targets(scores, targets)
    if not len(scores):
        return Metrics()
    return Metrics(
        top1=top_k_accuracy(scores, targets, 1),
        top5=top_k_accuracy(scores, targets, TOP) if scores.shape[1] > TOP else None,
        mean_class_accuracy=mean_class_accuracy(scores, targets),
        ece=calibration_error(scores, targets),
    )


def measure_multi_label(scores: Scores, positives: Positives) -> Metrics:
    """Metrics of multi-label examples. Raises UsageError if shapes or values do not fit."""
    _check(scores)
    _check_positives(scores, positives)
    if not len(scores):
        return Metrics()
    return Metrics(
        map=mean_average_precision(scores, positives) if positives.any() else None,
        ece=multi_label_calibration_error(scores, positives),
    )


def top_k_accuracy(scores: Scores, targets: Targets, k: int) -> float:
    """Share of the examples whose target is among the `k` classes with the highest scores."""
    _check_examples(scores, targets)
    own = scores[np.arange(len(targets)), targets][:, None]
    before = np.arange(scores.shape[1]) < targets[:, None]
    ranks = (scores > own).sum(axis=1) + ((scores == own) & before).sum(axis=1)
    return float(np.mean(ranks < k))


def mean_class_accuracy(scores: Scores, targets: Targets) -> float:
    """Mean over the classes that occur in `targets` of the share of their examples that is classified correctly."""
    return float(np.nanmean(class_accuracies(scores, targets)))


def class_accuracies(scores: Scores, targets: Targets) -> NDArray[np.float64]:
    """Share of each class's examples that is classified correctly, (classes,); NaN for a class that does not occur."""
    matrix = confusion_matrix(scores, targets)
    counts = matrix.sum(axis=1)
    shares = np.full(len(matrix), np.nan)
    np.divide(matrix.diagonal(), counts, out=shares, where=counts > 0)
    return shares


def mean_average_precision(scores: Scores, positives: Positives) -> float:
    """Mean of the average precisions of the classes with at least one positive example."""
    each = average_precisions(scores, positives)
    if np.isnan(each).all():
        raise UsageError("mean average precision needs at least one positive example")
    return float(np.nanmean(each))


def average_precisions(scores: Scores, positives: Positives) -> NDArray[np.float64]:
    """Average precision of each class, (classes,): the sum over thresholds of (change in recall) x precision.

    Equal scores are one threshold. NaN for a class without a positive example.
    """
    _check_examples(scores, positives=positives)
    columns = zip(scores.T, positives.T, strict=True)
    return np.array([_average_precision(*column) for column in columns], np.float64)


def _average_precision(scores: Scores, positive: Positives) -> float:
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    thresholds = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # the last of equal scores
    hits = np.cumsum(positive[order])[thresholds]
    precision = hits / (thresholds + 1)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / hits[-1])


def calibration_error(scores: Scores, targets: Targets, bins: int = BINS) -> float:
    """Expected calibration error of the highest score of each example."""
    return calibration_bins(scores, targets, bins).error


def calibration_bins(scores: Scores, targets: Targets, bins: int = BINS) -> CalibrationBins:
    """Bins of the highest score of each example; it is correct if it is the target's."""
    _check_examples(scores, targets)
    return _binned(scores.max(axis=1), scores.argmax(axis=1) == targets, bins)


def multi_label_calibration_error(scores: Scores, positives: Positives, bins: int = BINS) -> float:
    """Expected calibration error over all pairs of an example and a class."""
    return multi_label_calibration_bins(scores, positives, bins).error


def multi_label_calibration_bins(scores: Scores, positives: Positives, bins: int = BINS) -> CalibrationBins:
    """Bins of all scores; one is correct if its class is positive."""
    _check_examples(scores, positives=positives)
    return _binned(scores.ravel(), positives.ravel(), bins)


def _binned(confidence: Scores, correct: Positives, bins: int) -> CalibrationBins:
    index = np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="right") - 1
    counts, confidences, hits = (
        np.bincount(index, weights, minlength=bins + 1) for weights in (None, confidence.astype(np.float64), correct)
    )
    least = np.maximum(counts, 1)
    return CalibrationBins(counts.astype(np.int64), confidences / least, hits / least)


def confusion_matrix(scores: Scores, targets: Targets) -> NDArray[np.int64]:
    """Number of examples of each true class (row) that were classified as each class (column), (classes, classes)."""
    _check_examples(scores, targets)
    classes = scores.shape[1]
    counts = np.bincount(targets.astype(np.int64) * classes + scores.argmax(axis=1), minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def confused_pairs(matrix: NDArray[np.int64], most: int) -> list[tuple[int, int, int]]:
    """Return true class, predicted class and count of the most frequent mistakes in a confusion matrix."""
    wrong = np.array(matrix)
    np.fill_diagonal(wrong, 0)
    pairs = [(int(true), int(predicted), int(wrong[true, predicted])) for true, predicted in np.argwhere(wrong)]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]


def _check_examples(scores: Scores, targets: Targets | None = None, positives: Positives | None = None) -> None:
    _check(scores)
    if targets is not None:
        _check_targets(scores, targets)
    if positives is not None:
        _check_positives(scores, positives)
    if not len(scores):
        raise UsageError("metrics need at least one example")


def _check(scores: Scores) -> None:
    if scores.ndim != 2 or not scores.shape[1]:
        raise UsageError(f"scores must have the shape (examples, classes), got {scores.shape}")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise UsageError("scores must be from 0 to 1, without NaN")


def _check_targets(scores: Scores, targets: Targets) -> None:
    if targets.shape != (len(scores),) or not np.issubdtype(targets.dtype, np.integer):
        raise UsageError(f"targets must be {len(scores)} whole numbers, got {targets.dtype} {targets.shape}")
    if len(targets) and (targets.min() < 0 or targets.max() >= scores.shape[1]):
        raise UsageError(f"targets must be classes from 0 to {scores.shape[1] - 1}")


def _check_positives(scores: Scores, positives: Positives) -> None:
    if positives.shape != scores.shape or positives.dtype != np.bool_:
        raise UsageError(f"positives must be booleans of the shape {scores.shape}, got {positives.dtype} {positives.shape}")
