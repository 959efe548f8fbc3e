"""A linear layer on features: regularised logistic regression, whose strength is chosen on held-out groups.

The layer minimises the mean log loss of the clips plus `strength` / 2 times the squared weights, on features scaled to mean 0
and deviation 1; the scaling is folded into the weights. Labels that are not exclusive have a logistic regression each.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError, needs
from ig65m.learn.calibration import UNKNOWN, log_loss
from ig65m.learn.examples import FOLDS, deal
from ig65m.learn.training_set import TrainingSet

with needs("learn", "learning"):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

STRENGTHS: Final = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
"""Strengths that are tried, the strongest first."""

FALLBACK: Final = 0.01
"""Strength if nothing can be held out."""

PATIENCE: Final = 2  # weaker strengths that are tried after the best one
MAX_CHOICE: Final = 20_000  # clips with which the strength is chosen; the layer itself is learned from all
MAX_STEPS: Final = 2000  # of the optimiser
TOLERANCE: Final = 1e-5  # largest component of the gradient, divided by the strength, at which the optimiser stops
ROUGH: Final = 1e-3  # the same while the strength is chosen
SMALL: Final = 5_000_000  # numbers in a set of features for which one thread is as fast as several


@dataclass(frozen=True)
class LinearHead:
    """A last layer: logits are `features @ weight.T + bias`."""

    weight: NDArray[np.float32]  # (classes, C)
    bias: NDArray[np.float32]  # (classes,)
    converged: bool = True

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logits (n, classes) of features (n, C)."""
        return features.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias

    def divided(self, temperature: float) -> "LinearHead":
        """The layer whose logits are divided by the temperature."""
        return LinearHead(self.weight / np.float32(temperature), self.bias / np.float32(temperature), self.converged)


def learn_head(data: TrainingSet, strength: float) -> LinearHead:
    """Learn a layer from all clips. Raises UsageError if exclusive labels have only one class."""
    return next(_learn(data, (strength,), TOLERANCE))


def choose_strength(data: TrainingSet, seed: int = 0) -> tuple[float, dict[float, float]]:
    """Choose the strength with the least mean log loss of held-out clips; return it, and the losses that were compared.

    Without any clip that could be held out, the strength is FALLBACK, and there are no losses.
    """
    data = _thinned(data, seed)
    folds = deal(data.positives, data.groups, seed)
    parts = [(held_out, _learn(rest, STRENGTHS, ROUGH)) for held_out, rest in _splits(data, folds)]
    tested = _tested(data, folds)
    if not tested.any():
        return FALLBACK, {}
    positives = data.positives[data.owners]
    losses: dict[float, float] = {}
    best = STRENGTHS[0]
    for strength in STRENGTHS:
        logits = np.full(positives.shape, UNKNOWN)
        for held_out, heads in parts:
            logits[held_out] = next(heads)(data.features[held_out])
        losses[strength] = float(log_loss(logits, positives, multi_label=data.multi_label)[tested].mean())
        if losses[strength] < losses[best]:
            best = strength
        if STRENGTHS.index(strength) - STRENGTHS.index(best) >= PATIENCE:
            break
    return best, losses


def held_out_logits(data: TrainingSet, strength: float, seed: int = 0) -> NDArray[np.float64] | None:
    """Logits (clips, classes) of each clip, from a layer that was learned without the clip's group.

    A class that occurs in no other fold has the logit UNKNOWN. Returns None if no clip's class occurs in another fold.
    """
    folds = deal(data.positives, data.groups, seed)
    if not _tested(data, folds).any():
        return None
    logits = np.full((len(data.features), len(data.classes)), UNKNOWN)
    for held_out, rest in _splits(data, folds):
        logits[held_out] = learn_head(rest, strength)(data.features[held_out])
    return logits


def _splits(data: TrainingSet, folds: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.bool_], TrainingSet]]:
    """Yield for each fold which clips are in it, and the other examples, if a layer can be learned from these."""
    for fold in range(FOLDS):
        rest = folds != fold
        if not rest.all() and data.positives[rest].any(axis=0).sum() >= (1 if data.multi_label else 2):
            yield ~rest[data.owners], data.part(rest)


def _tested(data: TrainingSet, folds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each clip's class can be known without the clip's fold, (clips,)."""
    learnable = [data.positives[folds != fold].any(axis=0) for fold in range(FOLDS)]  # classes that occur outside of the fold
    if data.multi_label:
        known = np.array([learnable[fold].any() for fold in folds], np.bool_)
    else:
        own = data.positives.argmax(axis=1)
        known = np.array(
            [learnable[fold].sum() > 1 and learnable[fold][label] for fold, label in zip(folds, own, strict=True)], np.bool_
        )
    return known[data.owners]


def _thinned(data: TrainingSet, seed: int) -> TrainingSet:
    """Return a set with about MAX_CHOICE clips: every so-manyth clip of each example, and then whole groups of examples."""
    every = -(-len(data.features) // MAX_CHOICE)
    if every > 1:
        first = np.searchsorted(data.owners, np.arange(len(data.examples)))
        data = data.with_clips((np.arange(len(data.owners)) - first[data.owners]) % every == 0)
    if len(data.examples) > MAX_CHOICE:
        drawn = np.random.default_rng(seed).random(int(data.groups.max()) + 1) < MAX_CHOICE / len(data.features)
        data = data.part(drawn[data.groups])
    return data


def _learn(data: TrainingSet, strengths: Sequence[float], tolerance: float) -> Iterator[LinearHead]:
    """Learn a layer for each strength; each starts from the one before."""
    mean, deviation = data.features.mean(axis=0, dtype=np.float64), data.features.std(axis=0, dtype=np.float64)
    deviation[deviation <= 1e-6 * np.abs(mean)] = np.inf  # a constant feature says nothing
    scaled = ((data.features - mean) / deviation).astype(np.float32 if data.features.nbytes > 1 << 28 else np.float64)
    positives = data.positives[data.owners]
    targets: list[NDArray[Any]] = list(positives.T) if data.multi_label else [positives.argmax(axis=1)]
    if not data.multi_label and len(np.unique(targets[0])) < 2:
        raise UsageError(f"all clips have the label {data.classes[int(targets[0][0])]!r}; expected at least two classes")
    models = [LogisticRegression(warm_start=True, max_iter=MAX_STEPS) for _ in targets]
    for strength in strengths:
        weight = np.zeros((len(data.classes), scaled.shape[1]))
        bias = np.full(len(data.classes), UNKNOWN)
        converged = True
        for place, (model, target) in enumerate(zip(models, targets, strict=True)):
            if data.multi_label and len(np.unique(target)) < 2:
                bias[place] = -UNKNOWN if target.all() else UNKNOWN
                continue
            model.C, model.tol = 1 / (strength * len(scaled)), strength * tolerance
            with warnings.catch_warnings(record=True) as caught, threadpool_limits(1 if scaled.size < SMALL else None):
                warnings.simplefilter("always", ConvergenceWarning)
                model.fit(scaled, target)
            converged &= not caught
            if data.multi_label:
                weight[place], bias[place] = model.coef_[0], model.intercept_[0]
            elif len(model.classes_) == 2:  # one logit for both: half of it for each, with opposite signs
                weight[model.classes_] = np.stack([-model.coef_[0], model.coef_[0]]) / 2
                bias[model.classes_] = np.stack([-model.intercept_[0], model.intercept_[0]]) / 2
            else:
                weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
        weight = weight / deviation
        yield LinearHead(weight.astype(np.float32), (bias - weight @ mean).astype(np.float32), converged)
