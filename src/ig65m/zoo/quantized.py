"""Int8 networks as arrays of a model file: see `models.weights.stored_arrays`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import CheckpointError, shown
from ig65m.models.card import Card
from ig65m.models.plan import plan_of, shapes_of
from ig65m.models.quantization import INPUT, LARGEST, LEVELS, Quantization
from ig65m.models.weights import RANGE, STEPS, Weights


def is_quantized(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether these are arrays of an int8 network."""
    return any(array.dtype == np.int8 for array in arrays.values())


def quantized_weights(arrays: Mapping[str, NDArray[Any]], card: Card) -> Weights:
    """Return the network of `stored_arrays`. Raises CheckpointError if they do not fit the card."""
    plan = plan_of(card.spec)
    convolutions = plan.convolutions
    paths = {INPUT, *(layer.path for layer in plan.layers), *(block.path for stage in plan.stages for block in stage)}
    state, steps, ranges = {}, {}, {}
    for key, array in arrays.items():
        if key.endswith(STEPS) and (path := key.removesuffix(STEPS)) in convolutions:
            steps[path] = _steps(key, array, convolutions[path].outputs)
        elif key.endswith(RANGE) and (path := key.removesuffix(RANGE)) in paths:
            ranges[path] = _range(key, array)
        else:
            state[key] = array
    expected = shapes_of(card.spec, folded=True)
    if odd := sorted(expected.keys() ^ state.keys()):
        raise CheckpointError(f"expected {card.spec} in int8: {shown(odd)} are missing or unexpected")
    for key, array in state.items():
        path = key.removesuffix(".weight")
        kind = np.dtype(np.int8 if key.endswith(".weight") and path in steps else np.float32)
        if array.shape != expected[key] or array.dtype != kind:
            raise CheckpointError(f"{key} is {array.dtype} {array.shape}; expected {kind} {expected[key]}")
        if kind == np.int8:
            if array.min() < -LARGEST:
                raise CheckpointError(f"{key} has the number {array.min()}; expected -{LARGEST} to {LARGEST}")
            with np.errstate(over="ignore"):
                state[key] = array.astype(np.float32) * steps[path].reshape(-1, 1, 1, 1, 1)
        if not np.isfinite(state[key]).all():
            raise CheckpointError(f"{key} contains numbers that are not finite")
    if plan.stem[0].path in steps and INPUT not in ranges:
        raise CheckpointError(f"{INPUT}{RANGE} is missing: an int8 network rounds its input")
    return Weights(card, {key: state[key] for key in expected}, Quantization(steps, ranges))


def _steps(key: str, array: NDArray[Any], channels: int) -> NDArray[np.float32]:
    if array.dtype != np.float32 or array.shape != (channels,) or not ((array > 0) & np.isfinite(array)).all():
        raise CheckpointError(f"{key} is {array.dtype} {array.shape}; expected {channels} positive float32 numbers")
    return array


def _range(key: str, array: NDArray[Any]) -> tuple[float, float]:
    if array.dtype != np.float32 or array.shape != (2,):
        raise CheckpointError(f"{key} is {array.dtype} {array.shape}; expected two float32 numbers")
    low, high = map(float, array)
    if not (-3e38 < low <= 0 <= high < 3e38 and high - low > LEVELS * 1e-37):
        raise CheckpointError(f"{key} is {low} to {high}; expected a finite range that contains zero")
    return low, high
