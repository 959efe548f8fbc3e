"""Random weights, for measurements that do not depend on what a network has learned."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.models.card import Card
from ig65m.models.plan import COUNTER, shapes_of
from ig65m.models.weights import Weights

_CONSTANTS: Final = {"weight": 0.5, "running_var": 1.0}  # of batch norms; all others are 0


def random_weights(card: Card) -> Weights:
    """Return random weights of which values stay within the range of fp16 from layer to layer: He, fan-in."""
    return Weights(card, dict(_arrays(card)))


def _arrays(card: Card) -> Iterator[tuple[str, NDArray[Any]]]:
    random = np.random.default_rng(0)
    for key, shape in shapes_of(card.spec).items():
        if key.endswith(COUNTER):
            yield key, np.zeros((), np.int64)
        elif len(shape) > 1:
            yield key, random.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        else:
            yield key, np.full(shape, _CONSTANTS.get(key.rpartition(".")[2], 0.0), np.float32)
