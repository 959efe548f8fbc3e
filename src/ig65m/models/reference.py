"""The networks in numpy, written for clarity, not for speed: what conversions are compared with.

Nothing is folded here, and no graph is made: each layer is computed as its definition says, in float32.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.models.plan import Conv, Layer, MaxPool, Triple, plan_of
from ig65m.models.spec import C3DSpec
from ig65m.models.weights import Weights


def outputs_of(weights: Weights, clips: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Normalised clips (N, 3, T, H, W) -> features (N, C), and logits (N, classes) if there are classes."""
    rows = [_outputs_of_one(weights, clip) for clip in clips]
    features = np.stack([features for features, _ in rows])
    return features, np.stack([logits for _, logits in rows]) if weights.spec.classes else None


def _outputs_of_one(weights: Weights, clip: NDArray[np.float32]) -> tuple[Any, Any]:
    plan, spec = plan_of(weights.spec), weights.spec
    x = _chain(weights, clip, plan.stem, plan.eps)
    for stage, keep_time in zip(plan.stages, spec.keeps_time(clip.shape[1]), strict=True):
        for number, block in enumerate(stage):
            first = keep_time and number == 0
            shortcut = _chain(weights, x, block.shortcut, plan.eps, keep_time=first)
            x = np.maximum(_chain(weights, x, block.layers, plan.eps, keep_time=first) + shortcut, 0)
    if isinstance(spec, C3DSpec):
        features = np.maximum(_linear(weights, "fc6", x.reshape(-1)), 0)
        hidden = np.maximum(_linear(weights, "fc7", features), 0)
    else:
        features = hidden = x.mean(axis=(1, 2, 3))
    if not spec.classes:
        return features, None
    logits = _linear(weights, "fc", hidden)
    if spec.multi_label:
        logits = logits * weights.arrays["pred_logit.weight"] + weights.arrays["pred_logit.bias"]
    return features, logits


def _chain(weights: Weights, x: Any, layers: Sequence[Layer], eps: float, *, keep_time: bool = False) -> Any:
    """(C, T, H, W) -> (C', T', H', W')."""
    for layer in layers:
        if isinstance(layer, Conv):
            x = _norm(weights, layer, _convolved(weights, layer, x, keep_time=keep_time), eps)
        elif isinstance(layer, MaxPool):
            views = _views(x, layer.kernel, layer.stride, layer.padding, -np.inf)
            x = np.maximum.reduce([view for _, view in views])
        else:
            x = np.maximum(x, 0)
    return x


def _convolved(weights: Weights, conv: Conv, x: Any, *, keep_time: bool) -> Any:
    """Sum over the places of the kernel: weights at that place times all input values that lie under it."""
    weight = weights.arrays[f"{conv.path}.weight"].reshape(conv.groups, conv.outputs // conv.groups, -1, *conv.kernel)
    stride = (1, *conv.stride[1:]) if keep_time else conv.stride
    total: Any = 0.0
    for (t, h, w), view in _views(x, conv.kernel, stride, conv.padding, 0.0):
        rows = view.reshape(conv.groups, conv.inputs // conv.groups, -1)
        total = total + (weight[..., t, h, w] @ rows).reshape(conv.outputs, *view.shape[1:])
    bias = weights.arrays.get(f"{conv.path}.bias")
    return total if bias is None else total + bias[:, None, None, None]


def _norm(weights: Weights, conv: Conv, x: Any, eps: float) -> Any:
    scale, shift, mean, variance = (
        weights.arrays[f"{conv.norm}.{leaf}"][:, None, None, None] for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(variance + np.float32(eps)) * scale + shift


def _views(x: Any, kernel: Triple, stride: Triple, padding: Triple, fill: float) -> list[tuple[tuple[int, ...], Any]]:
    """Return for each place (t, h, w) of a kernel the input values that lie under it, (C, T', H', W')."""
    whole = np.pad(x, [(0, 0), *((size, size) for size in padding)], constant_values=fill)
    ends = [size - length + 1 for size, length in zip(whole.shape[1:], kernel, strict=True)]
    views = []
    for place in product(*map(range, kernel)):
        along = (slice(first, first + end, step) for first, end, step in zip(place, ends, stride, strict=True))
        views.append((place, whole[:, *along]))
    return views


def _linear(weights: Weights, path: str, x: NDArray[Any]) -> Any:
    return weights.arrays[f"{path}.weight"] @ x + weights.arrays[f"{path}.bias"]
