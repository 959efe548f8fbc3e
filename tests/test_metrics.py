"""Metrics equal those of scikit-learn and torchmetrics."""

import warnings

import numpy as np
import pytest
import sklearn.metrics
import torch

from ig65m import metrics
from ig65m.errors import UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torchmetrics.functional.classification as reference

SEEDS = range(40)


def drawn(seed):
    """Random scores (n, classes) that sum to 1, and targets, of which some classes never occur."""
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(1, 300)), int(rng.integers(2, 30))
    scores = rng.dirichlet(np.full(classes, rng.choice([0.05, 0.5, 5.0])), n)
    targets = rng.choice(rng.choice(classes, max(1, classes // 2), replace=False), n)
    return scores, np.where(rng.random(n) < 0.4, scores.argmax(axis=1), targets)


def drawn_positives(seed):
    """Random scores (n, classes) with some equal ones, and positives, of which some classes have none."""
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(2, 200)), int(rng.integers(2, 12))
    positives = rng.random((n, classes)) < rng.choice([0.0, 0.1, 0.6], classes)
    positives[0, 0] = True
    scores = np.clip(rng.random((n, classes)) * 0.7 + 0.3 * positives, 0, 1)
    return (np.round(scores, 1) if seed % 2 else scores), positives


@pytest.mark.parametrize("seed", SEEDS)
def test_single_label(seed):
    scores, targets = drawn(seed)
    classes = scores.shape[1]
    predicted = scores.argmax(axis=1)
    for k in {1, 2, 5} - {each for each in (2, 5) if each >= classes}:
        ours = metrics.top_k_accuracy(scores, targets, k)
        assert ours == pytest.approx(
            reference.multiclass_accuracy(torch.tensor(scores), torch.tensor(targets), classes, top_k=k, average="micro").item()
        )
        if classes > 2:
            assert ours == sklearn.metrics.top_k_accuracy_score(targets, scores, k=k, labels=range(classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that are predicted but never occur
        balanced = sklearn.metrics.balanced_accuracy_score(targets, predicted)
    assert metrics.mean_class_accuracy(scores, targets) == pytest.approx(balanced, abs=1e-12)
    matrix = metrics.confusion_matrix(scores, targets)
    assert matrix.dtype == np.int64
    assert np.array_equal(matrix, sklearn.metrics.confusion_matrix(targets, predicted, labels=range(classes)))
    error = reference.multiclass_calibration_error(torch.tensor(scores), torch.tensor(targets), classes, n_bins=15, norm="l1")
    assert metrics.calibration_error(scores, targets) == pytest.approx(error.item(), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_multi_label(seed):
    scores, positives = drawn_positives(seed)
    there = positives.any(axis=0)
    macro = sklearn.metrics.average_precision_score(positives[:, there], scores[:, there], average="macro")
    assert metrics.mean_average_precision(scores, positives) == pytest.approx(macro, abs=1e-12)
    assert np.array_equal(np.isnan(metrics.average_precisions(scores, positives)), ~there)
    shifted = np.clip(scores + 0.003, 0, 1)  # off the bins' edges, which torchmetrics has in float32
    error = reference.binary_calibration_error(
        torch.tensor(shifted).flatten(), torch.tensor(positives).flatten().long(), n_bins=15, norm="l1"
    )
    assert metrics.multi_label_calibration_error(shifted, positives) == pytest.approx(error.item(), abs=1e-6)


@pytest.mark.parametrize("bins", [1, 7, 10, 100])
def test_any_number_of_bins_and_certain_scores(bins):
    rng = np.random.default_rng(bins)
    scores = np.concatenate([np.eye(3), rng.dirichlet(np.ones(3), 50)]).astype(np.float32)
    targets = rng.integers(0, 3, 53)
    error = reference.multiclass_calibration_error(torch.tensor(scores), torch.tensor(targets), 3, n_bins=bins, norm="l1")
    assert metrics.calibration_error(scores, targets, bins) == pytest.approx(error.item(), abs=1e-6)
    assert metrics.calibration_bins(scores, targets, bins).counts.sum() == 53


def test_equal_scores_keep_the_order_of_the_classes():
    scores = np.full((4, 4), 0.25)
    targets = np.arange(4)
    assert [metrics.top_k_accuracy(scores, targets, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    assert metrics.confusion_matrix(scores, targets)[:, 0].tolist() == [1, 1, 1, 1]


def test_metrics_that_have_no_meaning_are_none():
    scores, targets = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0])
    assert metrics.measure(scores, targets) == metrics.Metrics(
        top1=0.5, top5=None, mean_class_accuracy=0.5, map=None, ece=pytest.approx(0.45)
    )
    wide = np.full((1, 6), 1 / 6)
    assert metrics.measure(wide, np.array([4])).top5 == 1
    assert metrics.measure(wide, np.array([5])).top5 == 0
    positives = np.array([[True, True], [False, True]])
    assert metrics.measure_multi_label(scores, positives) == metrics.Metrics(map=1.0, ece=pytest.approx(0.35))
    assert metrics.measure_multi_label(scores, ~positives & False) == metrics.Metrics(ece=pytest.approx(0.5))
    assert metrics.measure(scores[:0], targets[:0]) == metrics.Metrics()
    assert metrics.measure_multi_label(scores[:0], positives[:0]) == metrics.Metrics()


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "at least one example"),
        (np.zeros(3), np.zeros(3, int), "shape"),
        (np.zeros((3, 0)), np.zeros(3, int), "shape"),
        (np.full((1, 2), np.nan), np.zeros(1, int), "without NaN"),
        (np.full((1, 2), 1.5), np.zeros(1, int), "from 0 to 1"),
        (np.zeros((2, 2)), np.zeros(3, int), "2 whole numbers"),
        (np.zeros((2, 2)), np.zeros(2), "2 whole numbers"),
        (np.zeros((2, 2)), np.array([0, 2]), "from 0 to 1"),
        (np.zeros((2, 2)), np.array([0, -1]), "from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(scores, targets, message):
    for metric in (metrics.mean_class_accuracy, metrics.calibration_error, metrics.confusion_matrix):
        with pytest.raises(UsageError, match=message):
            metric(scores, targets)


def test_positives_that_do_not_fit_are_refused():
    scores = np.zeros((2, 2))
    for positives in (np.zeros((2, 3), bool), np.zeros((2, 2))):
        with pytest.raises(UsageError, match="positives must be booleans"):
            metrics.measure_multi_label(scores, positives)
    with pytest.raises(UsageError, match="at least one positive example"):
        metrics.mean_average_precision(scores, np.zeros((2, 2), bool))
