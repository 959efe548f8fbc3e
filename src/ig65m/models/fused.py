"""The plan of a network for inference: convolutions that contain what follows them, with channels padded. No torch.

Batch norms are folded into convolutions; ReLU, and the sum with the shortcut of a block, belong to the convolution before them.
Channels are zero-padded to multiples that matrix units of GPUs take. That is exact: a padded channel has weights and bias 0, so
it is 0 after ReLU, and the weights by which the next layer multiplies it are 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.models.plan import Conv, Layer, MaxPool, Plan
from ig65m.models.weights import Weights, folded


@dataclass(frozen=True)
class FusedConv:
    """A convolution with bias, with the numbers of its channels and groups after padding, and whether ReLU follows."""

    conv: Conv
    inputs: int
    outputs: int
    groups: int
    relu: bool = False

    def arrays(self, weights: Weights, eps: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the padded weight (outputs, inputs / groups, T, H, W) and bias (outputs,), float32."""
        weight, bias = folded(weights, self.conv, eps)
        more, ahead = self.outputs - weight.shape[0], self.inputs // self.groups - weight.shape[1]
        return np.pad(weight, [(0, more), (0, ahead), (0, 0), (0, 0), (0, 0)]), np.pad(bias, (0, more))


FusedLayer = FusedConv | MaxPool


@dataclass(frozen=True)
class FusedBlock:
    """A residual block: its shortcut, None where the input passes, is added within the last layer, before the ReLU."""

    layers: tuple[FusedConv, ...]
    shortcut: FusedConv | None


@dataclass(frozen=True)
class FusedPlan:
    """All layers up to the feature maps, whose channels are not padded."""

    stem: tuple[FusedLayer, ...]
    stages: tuple[tuple[FusedBlock, ...], ...]


def fuse(plan: Plan, multiple: int = 1, input_multiple: int = 1) -> FusedPlan:
    """Fold, fuse and pad a plan.

    multiple, input_multiple: Channels between layers, and channels of the input, are padded to multiples of these. Channels of
    the feature maps are not padded.
    """
    first = next(layer for layer in plan.stem if isinstance(layer, Conv))
    stem, channels = _chain(plan.stem, _padded(first.inputs, input_multiple), multiple, exact=not plan.stages)
    stages = []
    for number, blocks in enumerate(plan.stages, 1):
        exact = number == len(plan.stages)
        stage = []
        for block in blocks:
            shortcut, _ = _chain(block.shortcut, channels, multiple, exact=exact)
            layers, channels = _chain(block.layers, channels, multiple, exact=exact)
            *before, last = (layer for layer in layers if isinstance(layer, FusedConv))
            projection = shortcut[0] if shortcut else None
            assert projection is None or isinstance(projection, FusedConv), "a shortcut is a convolution"
            stage.append(FusedBlock((*before, replace(last, relu=True)), projection))
        stages.append(tuple(stage))
    return FusedPlan(stem, tuple(stages))


def _padded(channels: int, multiple: int) -> int:
    return -(-channels // multiple) * multiple


def _chain(layers: Sequence[Layer], channels: int, multiple: int, *, exact: bool) -> tuple[tuple[FusedLayer, ...], int]:
    """Fuse layers in sequence, of which the first takes `channels`; return them and the number of their outputs.

    If `exact`, the outputs of the last convolution are not padded.
    """
    last = next((layer for layer in reversed(layers) if isinstance(layer, Conv)), None)
    result: list[FusedLayer] = []
    for layer in layers:
        if isinstance(layer, Conv):
            if layer.groups > 1:  # as many as inputs
                groups, outputs = channels, channels * (layer.outputs // layer.groups)
            else:
                groups, outputs = 1, layer.outputs if exact and layer is last else _padded(layer.outputs, multiple)
            result.append(FusedConv(layer, channels, outputs, groups))
            channels = outputs
        elif isinstance(layer, MaxPool):
            result.append(layer)
        else:
            before = result.pop()
            assert isinstance(before, FusedConv), "ReLU follows a convolution"
            result.append(replace(before, relu=True))
    return tuple(result), channels
