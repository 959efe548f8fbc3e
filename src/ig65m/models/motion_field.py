"""The motion-field network: where each part of a frame went in a later frame."""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ig65m.models.motion_field_plan import (
    CELLS,
    CONTRAST,
    CONVS,
    DECODER,
    EDGE,
    ENCODER,
    FARTHEST,
    GRADIENT_NOISE,
    REACH,
    SCALES,
)

Pairs = Sequence[tuple[int, int]]


class MotionField(nn.Module):
    """Compares pairs of frames, cell by cell.

    Each frame is encoded at a quarter of its size; a cell of the first frame is compared with the cells around its place in
    the second (cosines, as in PWC-Net's cost volume, arXiv 1709.02371), and convolutions make a field of that.
    """

    def __init__(self) -> None:
        super().__init__()
        for path, conv in CONVS.items():
            layer = nn.Conv2d(
                conv.inputs,
                conv.outputs,
                conv.kernel,
                stride=conv.stride,
                padding=conv.padding,
                dilation=conv.dilation,
            )
            parent, _, name = path.rpartition(".")
            if parent and not hasattr(self, parent):
                self.add_module(parent, nn.Module())
            self.get_submodule(parent).add_module(name, layer)
        self.match.register_parameter("log_factor", nn.Parameter(torch.tensor(math.log(8.0))))  # type: ignore[union-attr]
        self.pair = nn.ParameterDict({name: nn.Parameter(torch.zeros(4)) for name in ("log_scale", "log_floor")})
        nn.init.constant_(self.pair["log_floor"], -3.0)
        around = torch.arange(CELLS)
        wide = CELLS + 2 * REACH
        down, right = torch.meshgrid(torch.arange(2 * REACH + 1), torch.arange(2 * REACH + 1), indexing="ij")
        cells = around[:, None, None, None] * wide + around[None, :, None, None] + (down * wide + right)[None, None]
        self.register_buffer("near", cells.reshape(1, CELLS * CELLS, -1), persistent=False)
        steps = torch.stack([right, down], -1).reshape(-1, 2).float() - REACH
        self.register_buffer("steps", steps, persistent=False)
        smooth, slope = torch.tensor([0.25, 0.5, 0.25]), torch.tensor([-0.5, 0.0, 0.5])
        kernels = [smooth[:, None] * smooth, smooth[:, None] * slope, slope[:, None] * smooth]
        self.register_buffer("kernels", torch.stack(kernels)[:, None], persistent=False)

    def conv(self, path: str, x: Tensor) -> Tensor:
        """Apply the convolution at a path."""
        return cast(Tensor, self.get_submodule(path)(x))

    def forward(self, clips: Tensor, pairs: Pairs) -> Tensor:
        """Pixels (N, T, 96, 96, 3) on 0..255, pairs of frames -> fields (N, len(pairs), 6, 24, 24).

        Channels: displacement of the cell's content to the right and down, in cells; natural logarithm of the displacement's
        standard deviation in cells; logit that only the camera moves the cell's content; logit that a cut lies between the
        frames, and logit of parallax (each the same in all cells).
        """
        count, length = clips.shape[:2]
        x = clips.flatten(0, 1).permute(0, 3, 1, 2).float()
        spread = (x - x.mean((1, 2, 3), keepdim=True)).square().mean((1, 2, 3), keepdim=True).sqrt()
        x = (x - x.mean((1, 2, 3), keepdim=True)) / (spread + CONTRAST)
        grey = x.mean(1, keepdim=True)
        x = x.contiguous(memory_format=torch.channels_last)
        for path in ENCODER:
            x = F.relu(self.conv(path, x))
        matched = F.normalize(self.conv("match.project", x), dim=1).unflatten(0, (count, length))
        context = self.conv("context", x).unflatten(0, (count, length))
        first, second = (torch.tensor(ends) for ends in zip(*pairs, strict=True))
        gradients = [self.from_gradients(grey.unflatten(0, (count, length)), first, second, scale) for scale in SCALES]
        near = self.correlate(matched[:, first].flatten(0, 1), matched[:, second].flatten(0, 1))
        likely = (near.softmax(1).flatten(2).transpose(1, 2) @ cast(Tensor, self.steps)).transpose(1, 2)
        likely = likely.unflatten(2, (CELLS, CELLS))
        x = torch.cat([near, likely, *gradients, context[:, first].flatten(0, 1), context[:, second].flatten(0, 1)], 1)
        x = F.relu(self.conv("merge", x.contiguous(memory_format=torch.channels_last)))
        for path in DECODER:
            x = F.relu(x + self.conv(path, x))
        x = F.relu(x + self.conv("whole", x.mean((2, 3), keepdim=True)))
        judged = self.conv("judge", x.mean((2, 3), keepdim=True)).expand(-1, -1, CELLS, CELLS)
        cell = self.conv("cell", x)
        share = cell[:, 4:].softmax(1)  # of each estimate
        displacement = cell[:, :2]
        for index, estimate in enumerate((likely, *(gradient[:, :2] for gradient in gradients))):
            displacement = displacement + share[:, index : index + 1] * estimate
        return torch.cat([displacement, cell[:, 2:4], judged], 1).unflatten(0, (count, len(pairs)))

    def correlate(self, first: Tensor, second: Tensor) -> Tensor:
        """Unit vectors (P, C, 24, 24) of two frames -> cosines (P, 49, 24, 24), times a factor; 0 beyond the edge."""
        flat = first.flatten(2).transpose(1, 2)  # (P, 576, C)
        padded = F.pad(second, (REACH,) * 4).flatten(2)  # (P, C, 900)
        cosines = flat @ padded  # (P, 576, 900)
        near = cast(Tensor, self.near)
        factor = cast(Tensor, self.match.log_factor).exp()  # type: ignore[union-attr]
        chosen = cosines.gather(2, near.expand(len(flat), -1, -1)) * factor  # (P, 576, 49)
        return chosen.transpose(1, 2).unflatten(2, (CELLS, CELLS))

    def from_gradients(self, grey: Tensor, first: Tensor, second: Tensor, scale: int) -> Tensor:
        """Estimate small displacements as Lucas and Kanade (1981), in windows of three by three cells.

        Standardised grey frames (N, T, 1, 96, 96), first and second frames of pairs -> (P, 3, 24, 24): displacement to the right
        and down in cells, and the share of it that is known.
        """
        pictures = F.avg_pool2d(grey.flatten(0, 1), scale) if scale > 1 else grey.flatten(0, 1)
        parts = F.conv2d(F.pad(pictures, (1, 1, 1, 1), "replicate"), cast(Tensor, self.kernels)).unflatten(0, grey.shape[:2])
        one, other = parts[:, first].flatten(0, 1), parts[:, second].flatten(0, 1)  # (P, 3, H, W)
        change = other[:, :1] - one[:, :1]
        right, down = ((one[:, axis : axis + 1] + other[:, axis : axis + 1]) / 2 for axis in (1, 2))
        products = torch.cat([right * right, right * down, down * down, right * change, down * change], 1)
        cell = EDGE // CELLS // scale  # in pixels
        xx, xy, yy, xt, yt = F.avg_pool2d(products, 3 * cell, cell, cell).unbind(1)
        determinant = xx * yy - xy * xy
        xx, yy = xx + GRADIENT_NOISE, yy + GRADIENT_NOISE
        safe = xx * yy - xy * xy
        solved = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], 1) / safe[:, None] / cell
        return torch.cat([solved.clamp(-FARTHEST, FARTHEST), (determinant / safe)[:, None]], 1)
