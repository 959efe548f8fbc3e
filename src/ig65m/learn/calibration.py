"""Log loss of logits, and the temperature that makes their scores probabilities.

`logits` (n, classes) have a row for each clip, `positives` (n, classes) its labels: one, or any number if `multi_label`.
"""

from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import needs

with needs("learn", "learning"):
    import scipy.optimize
    import scipy.special

TEMPERATURES: Final = (0.05, 20.0)
"""Lowest and highest temperature."""

UNKNOWN: Final = -1e4
"""Logit of a class of which nothing was known when the logits were computed."""


def scores_of(logits: NDArray[np.float64], *, multi_label: bool) -> NDArray[np.float64]:
    """Scores (n, classes) of logits: their softmax, or their sigmoid if labels are not exclusive."""
    scores = scipy.special.expit(logits) if multi_label else scipy.special.softmax(logits, axis=1)
    return cast("NDArray[np.float64]", scores)


def log_loss(logits: NDArray[np.float64], positives: NDArray[np.bool_], *, multi_label: bool) -> NDArray[np.float64]:
    """Log loss of each clip, (n,); with several labels, the mean over them."""
    if multi_label:
        return cast("NDArray[np.float64]", np.logaddexp(0, np.where(positives, -logits, logits)).mean(axis=1))
    return cast("NDArray[np.float64]", scipy.special.logsumexp(logits, axis=1) - logits[positives])


def best_temperature(logits: NDArray[np.float64], positives: NDArray[np.bool_], *, multi_label: bool, examples: int) -> float:
    """The temperature T with the least log loss of `logits / T`; clips whose class is UNKNOWN are left out.

    Guo et al., "On Calibration of Modern Neural Networks", section 4.2. One correct and one wrong example count in addition to
    the `examples`. Otherwise, clips that are all classified correctly would get scores of 1, however few they are. Platt,
    "Probabilistic Outputs for Support Vector Machines", section 2.2.
    """
    if not multi_label:
        clips = logits[positives] > UNKNOWN / 2
        logits, positives = logits[clips], positives[clips]
    known = logits > UNKNOWN / 2
    sure = (examples + 1) / (examples + 2)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if multi_label:
            wrong = np.logaddexp(0, np.where(positives, scaled, -scaled))
            return float((sure * np.logaddexp(0, np.where(positives, -scaled, scaled)) + (1 - sure) * wrong)[known].mean())
        losses = scipy.special.logsumexp(scaled, axis=1, keepdims=True) - scaled
        others = np.where(known & ~positives, losses, 0).sum(axis=1) / (logits.shape[1] - 1)
        return float((sure * losses[positives] + (1 - sure) * others).mean())

    found = scipy.optimize.minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))
