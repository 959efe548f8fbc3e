"""Initial filters of the stem that already see change, which random filters hardly do."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ig65m.models.resnet import ResNet

SMOOTHING = 1.2  # blur of the first filters: deviation in pixels
REACH = 2.0  # window over them: deviation in pixels
STILL = 16  # channels of the stem that see static content


def start_stem(network: ResNet, seed: int) -> None:
    """Set the stem to smooth filters without a spatial mean, and to differences between frames in all but STILL channels.

    With He's white noise instead, the loss of the first thousands of clips does not decrease: later layers receive only
    brightness, which says nothing about motion.
    """
    generator = torch.Generator().manual_seed(seed)
    space, time = network.stem[0], network.stem[3]
    if not isinstance(space, nn.Conv3d) or not isinstance(time, nn.Conv3d):
        raise TypeError("the stem is a convolution over space, batch norm, ReLU, a convolution over time")
    filters, colours, _, size, _ = space.weight.shape  # (45, 3, 1, 7, 7)
    noise = torch.randn(filters, 1, 2 * size - 1, 2 * size - 1, generator=generator)
    shapes = F.conv2d(noise, _bell(size, SMOOTHING)[None, None]) * _bell(size, REACH)
    shapes = shapes - shapes.mean((2, 3), keepdim=True)
    shapes = shapes / shapes.std((2, 3), keepdim=True)
    tints = 1 + 0.3 * torch.randn(filters, colours, 1, 1, 1, generator=generator)
    with torch.no_grad():
        space.weight.copy_(shapes[:, :, None] * tints * space.weight.std())
        spread = time.weight.std()
        time.weight.sub_(time.weight.mean(2, keepdim=True))  # (64, 45, 3, 1, 1)
        still = torch.randn(STILL, filters, 1, 1, 1, generator=generator) * spread
        time.weight[:STILL].add_(still)


def _bell(size: int, deviation: float) -> Tensor:
    """Return a Gaussian (size, size) with its maximum at 1."""
    line = torch.exp(-0.5 * ((torch.arange(size) - size // 2) / deviation) ** 2)
    return line[:, None] * line[None]
