"""Convolutions with all that belongs to them - bias, shortcut, ReLU - apart, or in one operator of oneDNN or cuDNN."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor


class Convolved(NamedTuple):
    """What a convolution is computed from: in 2-D or 3-D, plus the shortcut if there is one, after ReLU if `relu`."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int
    shortcut: Tensor | None
    relu: bool


Operator = Callable[[Convolved], Tensor]


def apart(given: Convolved) -> Tensor:
    """Convolve, then add the shortcut, then apply ReLU."""
    convolve = F.conv2d if given.x.dim() == 4 else F.conv3d
    out = convolve(given.x, given.weight, given.bias, given.stride, given.padding, groups=given.groups)
    if given.shortcut is not None:
        out += given.shortcut
    return out.relu_() if given.relu else out


def by_onednn(given: Convolved) -> Tensor:
    """As `apart`, in one operator of a CPU if there is a ReLU."""
    if not given.relu:
        return apart(given)
    x, weight, bias, stride, padding, groups, shortcut, _ = given
    shape = ([1] * len(stride), groups)
    operator = torch.ops.mkldnn._convolution_pointwise
    if shortcut is None:
        return cast(Tensor, operator(x, weight, bias, padding, stride, *shape, "relu", [], ""))
    return cast(Tensor, operator.binary(x, shortcut, weight, bias, padding, stride, *shape, "add", 1.0, "relu", [], ""))


def by_cudnn(given: Convolved) -> Tensor:
    """As `apart`, in one operator of a GPU if the convolution is in 2-D and there is a ReLU."""
    x, weight, bias, stride, padding, groups, shortcut, relu = given
    if not relu or x.dim() > 4:
        return apart(given)
    rest = (bias, stride, padding, [1] * len(stride), groups)
    if shortcut is None:
        return cast(Tensor, torch.ops.aten.cudnn_convolution_relu(x, weight, *rest))
    return cast(Tensor, torch.ops.aten.cudnn_convolution_add_relu(x, weight, shortcut, 1.0, *rest))


FUSED: Final[Mapping[str, Operator]] = {"cpu": by_onednn, "cuda": by_cudnn}
"""By the type of the device."""
