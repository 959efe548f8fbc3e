"""Where training starts: a stem that already sees change, as random filters hardly do."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ig65m.models.resnet import ResNet

SMOOTHING = 1.2  # pixels: deviation of the blur of the first filters
REACH = 2.0  # pixels: deviation of the window over them
STILL = 16  # channels of the stem that keep seeing what stands still


def start_stem(network: ResNet, seed: int) -> None:
    """Set the stem to smooth filters without a mean in space, and to differences between frames in all but STILL channels.

    With He's white noise in their place the loss of the first thousands of clips does not fall at all: brightness is
    all that reaches the later layers, and it says nothing of motion.
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
    """A Gaussian (size, size) with its top at 1."""
    line = torch.exp(-0.5 * ((torch.arange(size) - size // 2) / deviation) ** 2)
    return line[:, None] * line[None]
