"""Makes a network that PyTorch runs faster: batch norms folded, channels last and padded, flat convolutions in 2-D, ReLU and
shortcut within convolutions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ig65m.engines.operators import FUSED, ConvCall, Operator, unfused
from ig65m.models.fused import FusedConv, fuse
from ig65m.models.layers import Strided
from ig65m.models.network import Network, empty, network_of
from ig65m.models.plan import MaxPool, head_shapes, plan_of
from ig65m.models.resnet import ResNet
from ig65m.models.weights import Weights


@dataclass(frozen=True)
class Form:
    """How a network is prepared for inference."""

    input_multiple: int = 1  # channels of the input are padded to a multiple of it
    channel_multiple: int = 1  # and channels between layers to a multiple of this; GPUs compute in blocks of 8 or 16
    flat: bool = True  # (1, k, k) and (k, 1, 1) convolutions run in 2-D
    fused: bool = False  # oneDNN or cuDNN computes ReLU and shortcut within the convolution


class Convolution(nn.Module):
    """A convolution with channels-last weights; a flat one, (1, k, k) or (k, 1, 1), runs in 2-D.

    It runs over (N·T, H, W) or (N, T, H·W), which are views with channels last. On a CPU PyTorch's 2-D kernels are up to 1.7
    times as fast in float32 and ten times in float16; in bfloat16 they are equal within 5 %.
    """

    def __init__(
        self, layer: FusedConv, arrays: tuple[NDArray[Any], NDArray[Any]], dtype: torch.dtype, *, flat: bool, operator: Operator
    ) -> None:
        super().__init__()
        weight, bias = (torch.from_numpy(array).to(dtype) for array in arrays)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last_3d), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.padding = layer.conv.stride, layer.conv.padding
        self.inputs, self.groups, self.relu = layer.inputs, layer.groups, layer.relu
        self.flat, self.operator = flat, operator

    def forward(self, x: Tensor, keep_time: bool = False, shortcut: Tensor | None = None) -> Tensor:
        """Convolve (N, inputs, T, H, W) -> (N, outputs, T', H', W'), add the shortcut of that shape, apply ReLU.

        `keep_time` drops the temporal stride for this call. The input may lack the padded channels.
        """
        time, *space = self.weight.shape[2:]
        stride = (1, *self.stride[1:]) if keep_time else self.stride
        if missing := self.inputs - x.shape[1]:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, 0, missing))
        if self.flat and time == stride[0] == 1:
            added = None if shortcut is None else _pictures(shortcut)
            out = self._run(_pictures(x), self.weight[:, :, 0], stride[1:], self.padding[1:], added)
            return out.view(len(x), -1, *out.shape[1:]).transpose(1, 2)
        if self.flat and (*space, *stride[1:]) == (1, 1, 1, 1):
            added = None if shortcut is None else _lines(shortcut)
            out = self._run(_lines(x), self.weight[..., 0], (stride[0], 1), (self.padding[0], 0), added)
            return out.view(*out.shape[:3], *x.shape[3:])
        return self._run(x, self.weight, stride, self.padding, shortcut)

    def _run(
        self, x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...], shortcut: Tensor | None
    ) -> Tensor:
        return self.operator(ConvCall(x, weight, self.bias, stride, padding, self.groups, shortcut, self.relu))


class Block(nn.Module):
    """A residual block."""

    def __init__(self, layers: Sequence[Convolution], shortcut: Convolution | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.shortcut = shortcut

    def forward(self, x: Tensor, keep_time: bool = False) -> Tensor:
        """(N, inputs, T, H, W) -> (N, outputs, T', H', W')."""
        shortcut = x if self.shortcut is None else self.shortcut(x, keep_time)
        *layers, last = self.layers
        for layer in layers:
            x = layer(x, keep_time)
        return cast(Tensor, last(x, keep_time, shortcut))


def inference_form(weights: Weights, device: torch.device, dtype: torch.dtype, form: Form) -> Network:
    """Return the network on that device; its convolutions run in `dtype`, all layers after the feature maps in float32."""
    plan = plan_of(weights.spec)
    fused = fuse(plan, form.channel_multiple, form.input_multiple)
    operator = FUSED[device.type] if form.fused else unfused

    def made(layer: FusedConv) -> Convolution:
        return Convolution(layer, layer.arrays(weights, plan.eps), dtype, flat=form.flat, operator=operator)

    result = empty(weights.spec)
    if isinstance(result, ResNet):
        result.stem = nn.Sequential(
            *(made(layer) if isinstance(layer, FusedConv) else _max_pool(layer) for layer in fused.stem)
        )
        for number, blocks in enumerate(fused.stages, 1):
            stage = (
                Block([made(layer) for layer in block.layers], made(block.shortcut) if block.shortcut else None)
                for block in blocks
            )
            setattr(result, f"layer{number}", Strided(*stage))
    else:
        for layer in fused.stem:
            if isinstance(layer, FusedConv):
                result.set_submodule(layer.conv.path, made(layer))
                for path in (layer.conv.norm, f"{layer.conv.path}_relu"):
                    result.set_submodule(path, nn.Identity())
    head = {key: torch.from_numpy(weights.arrays[key]) for key in head_shapes(weights.spec)}
    result.load_state_dict(result.state_dict() | head, assign=True)
    return result.eval().to(device)


def plain_form(weights: Weights, device: torch.device, dtype: torch.dtype) -> Network:
    """Return the network on that device as it is; as above, all layers after the feature maps stay in float32."""
    result = network_of(weights)
    for conv in plan_of(weights.spec).convolutions.values():
        result.get_submodule(conv.path).to(dtype)
        result.get_submodule(conv.norm).to(dtype)
    return result.to(device)


def _max_pool(layer: MaxPool) -> nn.MaxPool3d:
    return nn.MaxPool3d(layer.kernel, layer.stride, layer.padding)


def _pictures(x: Tensor) -> Tensor:
    """(N, C, T, H, W) -> (N·T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def _lines(x: Tensor) -> Tensor:
    """(N, C, T, H, W) -> (N, C, T, H·W)."""
    return x.flatten(3)
