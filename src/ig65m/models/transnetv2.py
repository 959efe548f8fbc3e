"""TransNetV2, which finds the transitions between shots: see `transnetv2_plan.py` for its source and sizes."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ig65m.models.layers import batch_norm
from ig65m.models.transnetv2_plan import BINS, DILATIONS, EPS, HEIGHT, HIDDEN, REACH, SIMILARITY, STAGES, WIDTH


class TransNetV2(nn.Module):
    """Windows of frames -> for each frame the logit of a transition.

    Modules have the names of the published state dict, which loads strictly.
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = [3, *(width * len(DILATIONS) for width in STAGES)]
        self.SDDCNN = nn.ModuleList(Stage(*widths) for widths in zip(inputs[:-1], STAGES, strict=True))
        self.frame_sim_layer = FrameSimilarity(sum(inputs[1:]))
        self.color_hist_layer = ColourSimilarity()
        places = (HEIGHT >> len(STAGES)) * (WIDTH >> len(STAGES))
        self.fc1 = nn.Linear(inputs[-1] * places + 2 * SIMILARITY, HIDDEN)
        self.dropout = nn.Dropout(0.5)
        self.cls_layer1 = nn.Linear(HIDDEN, 1)
        self.cls_layer2 = nn.Linear(HIDDEN, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB pixels (N, 100, 27, 48, 3) uint8 -> logits (N, 100, 2) float32.

        The first logit says that a frame is the middle of a transition, the second that it is part of one.
        """
        x = pixels.permute(0, 4, 1, 2, 3).float() / 255
        means = []
        for stage in self.SDDCNN:
            x = stage(x)  # (N, 64 | 128 | 256, 100, 13 | 6 | 3, 24 | 12 | 6)
            means.append(x.mean(dim=(3, 4)))
        maps = x.permute(0, 2, 3, 4, 1).flatten(2)  # (N, 100, 4608)
        similar = self.frame_sim_layer(torch.cat(means, 1).transpose(1, 2))
        colours = self.color_hist_layer(pixels)
        hidden = self.dropout(F.relu(self.fc1(torch.cat([colours, similar, maps], 2))))
        return torch.cat([self.cls_layer1(hidden), self.cls_layer2(hidden)], 2)


class Stage(nn.Module):
    """Two dilated blocks with a shortcut from the first one, and pooling over space."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList([DilatedBlock(inputs, width), DilatedBlock(width * len(DILATIONS), width)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, H, W) -> (N, 4·width, T, H/2, W/2)."""
        first, second = self.DDCNN
        shortcut = F.relu(first(x))
        return F.avg_pool3d(F.relu(second(shortcut)) + shortcut, (1, 2, 2))


class DilatedBlock(nn.Module):
    """Branches of factorised convolutions, each with its own dilation in time, and batch norm over all of them."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branches = [f"Conv3D_{dilation}" for dilation in DILATIONS]
        for name, dilation in zip(self.branches, DILATIONS, strict=True):
            self.add_module(name, Branch(inputs, width, dilation))
        self.bn = batch_norm(width * len(DILATIONS), EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, H, W) -> (N, 4·width, T, H, W)."""
        return cast(Tensor, self.bn(torch.cat([self.get_submodule(name)(x) for name in self.branches], 1)))


class Branch(nn.Module):
    """A 1x3x3 convolution over space and a dilated 3x1x1 convolution over time, with nothing between them."""

    def __init__(self, inputs: int, width: int, dilation: int) -> None:
        super().__init__()
        space = nn.Conv3d(inputs, 2 * width, (1, 3, 3), padding=(0, 1, 1), bias=False)
        time = nn.Conv3d(2 * width, width, (3, 1, 1), padding=(dilation, 0, 0), dilation=(dilation, 1, 1), bias=False)
        self.layers = nn.Sequential(space, time)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, H, W) -> (N, width, T, H, W)."""
        return cast(Tensor, self.layers(x))


class FrameSimilarity(nn.Module):
    """Compares each frame's features with those of the frames around it."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.projection = nn.Linear(inputs, SIMILARITY)
        self.fc = nn.Linear(2 * REACH + 1, SIMILARITY)

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, T, inputs) of the frames -> (N, T, 128)."""
        return F.relu(cast(Tensor, self.fc(similarities(self.projection(features)))))


class ColourSimilarity(nn.Module):
    """Compares each frame's colour histogram with those of the frames around it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * REACH + 1, SIMILARITY)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB pixels (N, T, H, W, 3) uint8 -> (N, T, 128)."""
        return F.relu(cast(Tensor, self.fc(similarities(histograms(pixels)))))


def histograms(pixels: Tensor) -> Tensor:
    """Count the colours of each frame, eight levels a channel: (N, T, H, W, 3) uint8 -> (N, T, 512) float32."""
    levels = pixels.long() >> 5
    colours = ((levels[..., 0] << 6) + (levels[..., 1] << 3) + levels[..., 2]).flatten(2)
    counts = torch.zeros(*colours.shape[:2], BINS, device=pixels.device)
    return counts.scatter_add_(2, colours, torch.ones_like(colours, dtype=counts.dtype))


def similarities(features: Tensor) -> Tensor:
    """Return cosines of each frame with the 50 before it, itself and the 50 after it: (N, T, C) -> (N, T, 101).

    They are 0 beyond the ends of the window.
    """
    unit = F.normalize(features, dim=2)
    padded = F.pad(unit @ unit.transpose(1, 2), (REACH, REACH))
    frame = torch.arange(features.shape[1], device=features.device)
    around = frame[:, None] + torch.arange(2 * REACH + 1, device=features.device)
    return padded.gather(2, around.expand(len(features), -1, -1))
