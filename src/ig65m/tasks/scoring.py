"""Logits -> scores and labels, of clips and of whole videos."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError
from ig65m.models.card import Card
from ig65m.pipeline import ClipResult, VideoResult
from ig65m.tasks.sources import path_of
from ig65m.types import ClipPrediction, Label, Prediction


def check_top_k(top_k: int) -> None:
    """Raise UsageError unless `top_k` is a whole number of at least 1."""
    if type(top_k) is not int or top_k < 1:
        raise UsageError(f"top-k must be a whole number of at least 1, got {top_k!r}")


def check_threshold(threshold: float) -> None:
    """Raise UsageError unless the threshold is a score, from 0 to 1."""
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise UsageError(f"the threshold must be a score from 0 to 1, got {threshold!r}")


def class_scores(logits: NDArray[np.float32], *, multi_label: bool = False) -> NDArray[np.float64]:
    """Scores (classes,) in float64 of one clip's logits: their softmax, or their sigmoid in a multi-label network.

    The scores of a class map (classes, places) are the mean over its places. VMZ's softmax is over classes and places together
    (Caffe2's Softmax takes all axes but the first), so these scores sum to 1/places.
    """
    exact = logits.astype(np.float64)
    if multi_label:
        scores = np.exp(-np.logaddexp(0, -exact))
    else:
        scores = np.exp(exact - exact.max())
        scores /= scores.sum()
    return cast("NDArray[np.float64]", scores if scores.ndim == 1 else scores.mean(axis=1))


def best_labels(scores: NDArray[Any], card: Card, top_k: int, threshold: float = 0.0) -> tuple[Label, ...]:
    """The `top_k` labels with the highest scores, without scores below the threshold; best first, equal scores in the order of
    the classes.
    """
    order = np.argsort(-scores, kind="stable")[:top_k]
    return tuple(Label(card.label(int(index)), float(scores[index])) for index in order if scores[index] >= threshold)


def clip_labels(logits: NDArray[np.float32], card: Card, top_k: int) -> tuple[Label, ...]:
    """The best labels of one clip."""
    return best_labels(class_scores(logits, multi_label=card.spec.multi_label), card, top_k)


def predict(result: VideoResult, card: Card, top_k: int, crops: int, threshold: float = 0.0) -> Prediction:
    """The prediction for a video: scores of a clip are the mean over its crops, those of the video the mean over its clips."""
    scores = clip_scores(result, card, crops)
    rows = zip(result.clips[::crops], scores, strict=True)
    clips = tuple(_clip_prediction(each, row, card, top_k, threshold) for each, row in rows)
    labels = best_labels(np.mean(scores, axis=0), card, top_k, threshold) if len(scores) else ()
    return Prediction(card.name, path_of(result.source), result.status, labels, clips, result.error, result.sought)


def clip_scores(result: VideoResult, card: Card, crops: int) -> NDArray[np.float64]:
    """Scores of each clip, (clips, classes): the mean over its crops."""
    by_clip = [result.clips[start : start + crops] for start in range(0, len(result.clips), crops)]
    return np.array([_mean_scores(each, card) for each in by_clip], np.float64).reshape(len(by_clip), card.spec.classes)


def predict_clip(crops: Sequence[ClipResult], card: Card, top_k: int, threshold: float) -> ClipPrediction:
    """The prediction for one clip from the results of its crops."""
    return _clip_prediction(crops[0], _mean_scores(crops, card), card, top_k, threshold)


def _mean_scores(crops: Sequence[ClipResult], card: Card) -> NDArray[np.float64]:
    scores = [class_scores(crop.logits, multi_label=card.spec.multi_label) for crop in crops]
    return cast("NDArray[np.float64]", np.mean(scores, axis=0))


def _clip_prediction(clip: ClipResult, scores: NDArray[np.float64], card: Card, top_k: int, threshold: float) -> ClipPrediction:
    return ClipPrediction(clip.span.start, clip.span.end, best_labels(scores, card, top_k, threshold), clip.span.shot)
