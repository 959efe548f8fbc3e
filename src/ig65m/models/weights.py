"""A network as data: its card and its weights as numpy arrays. Engines and exporters take it; no torch."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.models.card import Card
from ig65m.models.plan import Conv, head_shapes, plan_of
from ig65m.models.quantization import Quantization
from ig65m.models.spec import Spec

Arrays = Mapping[str, NDArray[Any]]

STEPS: Final = ".steps"
RANGE: Final = ".range"
"""Suffixes of an int8 network's steps and ranges in a model file, after the path of their module."""


@dataclass(frozen=True)
class Weights:
    """A network: card, weights by their keys in the state dict, and for an int8 network how it rounds.

    arrays: float32, counters of batch norms int64. Those of an int8 network have no batch norms.
    """

    card: Card
    arrays: dict[str, NDArray[Any]]
    quantization: Quantization | None = None

    @property
    def spec(self) -> Spec:
        """Specification of the network."""
        return self.card.spec

    def free(self) -> None:
        """Free the memory of the weights, which must not be used any more."""
        self.arrays.clear()

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal sha256 of all weights, names and values in order of the names, independent of the file.

        Computed once: it stays that of the weights after `free`.
        """
        digest = hashlib.sha256()
        for key, array in sorted(stored_arrays(self).items()):
            digest.update(key.encode())
            digest.update(np.asarray(array, order="C").data)
        return digest.hexdigest()


def stored_arrays(weights: Weights) -> Arrays:
    """Return the arrays of a model file: for an int8 network int8 where weights are multiples of `steps`, steps, and ranges."""
    quantization = weights.quantization
    if quantization is None:
        return weights.arrays
    arrays = dict(weights.arrays)
    for path, steps in quantization.steps.items():
        whole = np.rint(arrays[f"{path}.weight"] / steps.reshape(-1, 1, 1, 1, 1))
        arrays[f"{path}.weight"] = whole.astype(np.int8)
        arrays[f"{path}{STEPS}"] = steps
    return arrays | {f"{path}{RANGE}": np.array(ends, np.float32) for path, ends in quantization.ranges.items()}


def folded(weights: Weights, conv: Conv, eps: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return float32 weight and bias of the convolution that equals `conv` and its batch norm; computed in float64."""
    weight, bias = weights.arrays[f"{conv.path}.weight"], weights.arrays.get(f"{conv.path}.bias")
    if weights.quantization is not None and bias is not None:
        return weight, bias
    scale, shift, mean, variance = (
        weights.arrays[f"{conv.norm}.{leaf}"].astype(np.float64) for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    scale = scale / np.sqrt(variance + eps)
    own = 0.0 if bias is None else bias.astype(np.float64)
    return (weight * scale.reshape(-1, 1, 1, 1, 1)).astype(np.float32), ((own - mean) * scale + shift).astype(np.float32)


def fold(weights: Weights) -> dict[str, NDArray[Any]]:
    """Return the arrays of the network with all batch norms folded into the convolutions before them."""
    plan = plan_of(weights.spec)
    arrays: dict[str, NDArray[Any]] = {}
    for path, conv in plan.convolutions.items():
        arrays[f"{path}.weight"], arrays[f"{path}.bias"] = folded(weights, conv, plan.eps)
    return arrays | {key: weights.arrays[key] for key in head_shapes(weights.spec)}
