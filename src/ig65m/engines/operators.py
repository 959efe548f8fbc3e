"""Convolution, bias, shortcut and ReLU: one after the other, or fused in one operator of oneDNN or cuDNN."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor


class ConvCall(NamedTuple):
    """Arguments of a 2-D or 3-D convolution, channels last."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int
    shortcut: Tensor | None  # added to the output
    relu: bool  # whether ReLU follows


Operator = Callable[[ConvCall], Tensor]


def unfused(call: ConvCall) -> Tensor:
    """Convolve, then add the shortcut, then apply ReLU."""
    convolve = F.conv2d if call.x.dim() == 4 else F.conv3d
    out = convolve(call.x, call.weight, call.bias, call.stride, call.padding, groups=call.groups)
    if call.shortcut is not None:
        out += call.shortcut
    return out.relu_() if call.relu else out


def by_onednn(call: ConvCall) -> Tensor:
    """Compute the same as `unfused` on a CPU, in one operator of oneDNN if there is a ReLU."""
    if not call.relu:
        return unfused(call)
    x, weight, bias, stride, padding, groups, shortcut, _ = call
    shape = ([1] * len(stride), groups)
    operator = torch.ops.mkldnn._convolution_pointwise
    if shortcut is None:
        return cast(Tensor, operator(x, weight, bias, padding, stride, *shape, "relu", [], ""))
    return cast(Tensor, operator.binary(x, shortcut, weight, bias, padding, stride, *shape, "add", 1.0, "relu", [], ""))


def by_cudnn(call: ConvCall) -> Tensor:
    """Compute the same as `unfused` on a GPU, in one operator of cuDNN if the convolution is 2-D and there is a ReLU."""
    x, weight, bias, stride, padding, groups, shortcut, relu = call
    if not relu or x.dim() > 4:
        return unfused(call)
    rest = (bias, stride, padding, [1] * len(stride), groups)
    if shortcut is None:
        return cast(Tensor, torch.ops.aten.cudnn_convolution_relu(x, weight, *rest))
    return cast(Tensor, torch.ops.aten.cudnn_convolution_add_relu(x, weight, shortcut, 1.0, *rest))


FUSED: Final[Mapping[str, Operator]] = {"cpu": by_onednn, "cuda": by_cudnn}
"""By the type of the device."""
