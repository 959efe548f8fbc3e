"""Convolutions of the residual networks; the order of submodules is that of torchvision's VideoResNet, for its state-dict
keys.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ig65m.models.spec import Convolution, middle_channels

Norm = Callable[[int], nn.BatchNorm3d]


class Conv3d(nn.Conv3d):
    """3-D convolution without bias (folding adds one), padded so that stride 1 keeps the size."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1), groups: int = 1
    ) -> None:
        time, height, width = kernel
        padding = (time // 2, height // 2, width // 2)
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False)

    def forward(self, x: Tensor, keep_time: bool = False) -> Tensor:
        """(N, inputs, T, H, W) -> (N, outputs, T', H', W'); `keep_time` drops the temporal stride for this call."""
        stride = (1, *self.stride[1:]) if keep_time else self.stride
        return F.conv3d(x, self.weight, self.bias, stride, self.padding, groups=self.groups)


class Strided(nn.Sequential):
    """Modules in sequence, of which the first may have a temporal stride."""

    def forward(self, x: Tensor, keep_time: bool = False) -> Tensor:
        """(N, inputs, T, H, W) -> (N, outputs, T', H', W'); `keep_time` drops the temporal stride for this call."""
        first, *rest = self
        x = first(x, keep_time)
        for module in rest:
            x = module(x)
        return x


def batch_norm(channels: int, eps: float = 1e-3) -> nn.BatchNorm3d:
    """Batch norm as in VMZ: eps 1e-3. Caffe2's momentum 0.9 weighs the old value; PyTorch's weighs the new one."""
    return nn.BatchNorm3d(channels, eps=eps, momentum=0.1)


class Conv2Plus1d(nn.Sequential):
    """A 1x3x3 convolution over space, batch norm, ReLU, and a 3x1x1 convolution over time."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm, middle: int | None = None) -> None:
        middle = middle_channels(inputs, outputs) if middle is None else middle
        super().__init__(
            Conv3d(inputs, middle, (1, 3, 3), (1, stride, stride)),
            norm(middle),
            nn.ReLU(inplace=True),
            Conv3d(middle, outputs, (3, 1, 1), (stride, 1, 1)),
        )

    def forward(self, x: Tensor, keep_time: bool = False) -> Tensor:
        """(N, inputs, T, H, W) -> (N, outputs, T', H', W')."""
        space, bn, relu, time = self
        out: Tensor = time(relu(bn(space(x))), keep_time)
        return out


class ReducedDepthwise(nn.Sequential):
    """A 1x1x1 convolution and batch norm without ReLU, then a depthwise 3x3x3 convolution: ip-CSN's replacement of 3x3x3."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__(
            Conv3d(inputs, outputs, (1, 1, 1)),
            norm(outputs),
            Conv3d(outputs, outputs, (3, 3, 3), (stride, stride, stride), groups=outputs),
        )

    def forward(self, x: Tensor, keep_time: bool = False) -> Tensor:
        """(N, inputs, T, H, W) -> (N, outputs, T', H', W')."""
        reduce, bn, depthwise = self
        out: Tensor = depthwise(bn(reduce(x)), keep_time)
        return out


def convolution(kind: Convolution, inputs: int, outputs: int, stride: int, norm: Norm, middle: int | None = None) -> nn.Module:
    """Return the 3x3x3 convolution of a block for an architecture; a 2-D one has no temporal stride."""
    match kind:
        case "2plus1d":
            return Conv2Plus1d(inputs, outputs, stride, norm, middle)
        case "ip":
            return ReducedDepthwise(inputs, outputs, stride, norm)
        case "ir":
            return Conv3d(inputs, outputs, (3, 3, 3), (stride, stride, stride), groups=inputs)
        case "2d":
            return Conv3d(inputs, outputs, (1, 3, 3), (1, stride, stride))
    return Conv3d(inputs, outputs, (3, 3, 3), (stride, stride, stride))


class ElementwiseLinear(nn.Module):
    """y = weight * x + bias for each class: VMZ's layer after the last one of a multi-label network."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(classes))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        """(N, classes, ...) -> the same shape."""
        shape = (-1, *(1 for _ in x.shape[2:]))
        return x * self.weight.view(shape) + self.bias.view(shape)
