"""The aligner: which affine move of the content takes one frame to another, and how sure that is.

Frames are first aligned by their gradients alone, coarse to fine (Bergen et al., "Hierarchical model-based motion estimation",
ECCV 1992). A network then sees the first frame and the second one, aligned, and weighs each cell for the last steps: what moves
by itself, is covered, or has no texture should not count. If something large moves before a camera that stands still, the first
alignment follows the thing. So the network also sees the second frame as it is, and weighs its cells too.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ig65m.models.aligner_plan import (
    CELLS,
    CONTRAST,
    CONVS,
    DAMPING,
    DARK,
    DECODER,
    EDGE,
    ENCODER,
    FARTHEST,
    GRADIENT_NOISE,
    LEAST_DIFFERENCE,
    LEVELS,
    LONGEST_STEP,
    NOISE,
    REFINEMENTS,
    ROBUST,
    SCALES,
    coordinates,
    margin_at,
    slopes,
)

Pairs = Sequence[tuple[int, int]]


class Alignment(NamedTuple):
    """Alignment of P pairs of frames, x and y from -1 to 1 over the width and height of the picture.

    The content at (x, y) of the first frame is displaced to the right by p0 + p1·x + p2·y, and down by p3 + p4·x + p5·y.
    """

    start: Tensor  # (P, 6), p before the last step
    normal: Tensor  # (P, 6, 6), information about a further displacement of the second frame, aligned
    target: Tensor  # (P, 6), of that displacement d the normal equations are normal·d = target
    judged: Tensor  # (P, 2), logits that a cut lies between the frames, and of parallax
    camera: Tensor  # (P, 24, 24), logit that only the camera moves the content of a cell


class Bounds(NamedTuple):
    """Where the pictures of P pairs of frames are, within black bars: `bounds_of` the first and second ones."""

    one: Tensor  # (P, 2, 2)
    other: Tensor

    def inside(self, p: Tensor, size: int) -> Tensor:
        """Return which pixels of the first frames show its picture, and under p that of the second (P, 1, size, size)."""
        margin = margin_at(size)
        own = places(torch.zeros_like(p), size)
        result = torch.ones(len(p), 1, size, size, dtype=torch.bool, device=p.device)
        for seen, ends in ((own, self.one), (places(p, size), self.other)):
            low, high = ends[:, :, 0, None, None], ends[:, :, 1, None, None]
            low, high = torch.where(low > -1, low + margin, low), torch.where(high < 1, high - margin, high)
            result = result & ((seen > low) & (seen < high)).all(1, keepdim=True)
        return result.float()


class Aligner(nn.Module):
    """Aligns pairs of frames."""

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
        self.pair = nn.ParameterDict({name: nn.Parameter(torch.zeros(4)) for name in ("log_scale", "log_floor")})
        nn.init.constant_(self.pair["log_floor"], -3.0)
        self.register_buffer("kernels", torch.from_numpy(slopes()), persistent=False)

    def conv(self, path: str, x: Tensor) -> Tensor:
        """Apply the convolution at a path."""
        return cast(Tensor, self.get_submodule(path)(x))

    def forward(self, clips: Tensor, pairs: Pairs) -> Alignment:
        """Pixels (N, T, 96, 96, 3) on 0..255, pairs of frames -> alignment of N·len(pairs) pairs."""
        count, length = clips.shape[:2]
        x = clips.flatten(0, 1).permute(0, 3, 1, 2).float()
        bounds = bounds_of(x).view(count, length, 2, 2)
        x = x - x.mean((1, 2, 3), keepdim=True)
        x = x / (x.square().mean((1, 2, 3), keepdim=True).sqrt() + CONTRAST)
        starts, ends = (torch.tensor(each, device=x.device) for each in zip(*pairs, strict=True))
        frames = x.view(count, length, *x.shape[1:])
        one, other = frames[:, starts].flatten(0, 1), frames[:, ends].flatten(0, 1)
        pair = Bounds(bounds[:, starts].flatten(0, 1), bounds[:, ends].flatten(0, 1))
        with torch.no_grad():
            start = self.first_alignment(one.mean(1, keepdim=True), other.mean(1, keepdim=True), pair)
            warped, inside = self.warped(other, start, pair)
        encoded = self.encoded(x)
        context = encoded.reshape(count, length, *encoded.shape[1:])[:, starts].flatten(0, 1)
        grey, unaligned = one.mean(1, keepdim=True), other.mean(1, keepdim=True)
        statistics = [self.statistics(grey, warped.mean(1, keepdim=True), scale) for scale in SCALES]
        still = [self.statistics(grey, unaligned, scale) for scale in SCALES]
        seen = F.avg_pool2d(inside, EDGE // CELLS)
        shift = displacement(start, CELLS) * CELLS / 2  # (P, 2, 24, 24) in cells
        shown = [each for each, _ in (*statistics, *still)]
        x = torch.cat([context, self.encoded(warped), *shown, shift, seen], 1)
        x = F.relu(self.conv("merge", x.contiguous(memory_format=torch.channels_last)))
        for path in DECODER:
            x = F.relu(x + self.conv(path, x))
        x = F.relu(x + self.conv("whole", x.mean((2, 3), keepdim=True)))
        judged = self.conv("judge", x.mean((2, 3), keepdim=True))[:, :, 0, 0]
        cell = self.conv("cell", x)
        count = len(SCALES)
        normal, target = self.weighed([products for _, products in statistics], cell[:, :count], seen)
        both = F.avg_pool2d(pair.inside(torch.zeros_like(start), EDGE), EDGE // CELLS)
        more, rest = self.weighed([products for _, products in still], cell[:, count : 2 * count], both)
        # Both are about the displacement from the start; that of the frames as they are is about the whole one.
        normal, target = normal + more, target + rest - (more @ start[:, :, None])[:, :, 0]
        first = Alignment(start, normal, target, judged, cell[:, -1])
        return self.refined(first, grey, unaligned, cell[:, 2 * count : 2 * count + 1], pair)

    def weighed(self, products: Sequence[Tensor], logs: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Put products of cells (P, 6, 24, 24) of each scale together to normal equations, by logarithms of their weights."""
        normal, target = torch.zeros(len(logs), 6, 6, device=logs.device), torch.zeros(len(logs), 6, device=logs.device)
        for index, each in enumerate(products):
            weight = logs[:, index].clamp(-8, 8).exp() * seen[:, 0] / (each[:, 5] + NOISE)
            more = equations((each[:, :5] * weight[:, None]).flatten(2), coordinates_on(logs.device, CELLS))
            normal, target = normal + more[0], target + more[1]
        return normal, target

    def refined(self, first: Alignment, one: Tensor, other: Tensor, logs: Tensor, bounds: Bounds) -> Alignment:
        """Align grey frames (P, 1, 96, 96) again, from where an alignment leads, with weights of cells (P, 1, 24, 24)."""
        start, normal, target = first[:3]
        for scale in REFINEMENTS:
            with torch.no_grad():
                start = start + solved(damped(normal), target).clamp(-LONGEST_STEP, LONGEST_STEP)
                warped, inside = self.warped(other, start, bounds)
                _, products = self.statistics(one, warped, scale)
            normal, target = self.weighed([products], logs, F.avg_pool2d(inside, EDGE // CELLS))
        return first._replace(start=start, normal=normal, target=target)

    def encoded(self, x: Tensor) -> Tensor:
        """Standardised frames (N, 3, 96, 96) -> (N, C, 24, 24)."""
        x = x.contiguous(memory_format=torch.channels_last)
        for path in ENCODER:
            x = F.relu(self.conv(path, x))
        return x

    def first_alignment(self, one: Tensor, other: Tensor, bounds: Bounds) -> Tensor:
        """Align grey frames (P, 1, 96, 96) -> (P, 6); pixels that differ much count less."""
        p = torch.zeros(len(one), 6, device=one.device)
        for scale, steps in LEVELS:
            first, second = (smoothed(pooled(frame, scale), self.smooth) for frame in (one, other))
            size = EDGE // scale
            for _ in range(steps):
                warped, inside = self.warped(second, p, bounds)
                mean = F.pad((first + warped) / 2, (1, 1, 1, 1), "replicate")
                right = (mean[:, :, 1:-1, 2:] - mean[:, :, 1:-1, :-2]) * (size / 4)
                down = (mean[:, :, 2:, 1:-1] - mean[:, :, :-2, 1:-1]) * (size / 4)
                change = warped - first
                usual = (change.abs() * inside).mean((2, 3), keepdim=True) / (inside.mean((2, 3), keepdim=True) + 1e-3)
                weight = inside / (1 + (change / (ROBUST * usual + LEAST_DIFFERENCE)).square())
                products = torch.cat([right * right, right * down, down * down, right * change, down * change], 1) * weight
                normal, target = equations(products.flatten(2), coordinates_on(one.device, size))
                p = p + solved(damped(normal), target).clamp(-LONGEST_STEP, LONGEST_STEP)
        return p

    @property
    def smooth(self) -> Tensor:
        """The kernel that smooths a picture."""
        return cast(Tensor, self.kernels)[:1]

    def warped(self, frames: Tensor, p: Tensor, bounds: Bounds) -> tuple[Tensor, Tensor]:
        """Return second frames (P, C, S, S) as seen from the first, and where both pictures are (P, 1, S, S)."""
        size = frames.shape[2]
        grid = places(p, size).permute(0, 2, 3, 1)
        seen = F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
        return seen, bounds.inside(p, size)

    def statistics(self, one: Tensor, other: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        """Compare grey frames (P, 1, 96, 96) by their gradients.

        Returns what the network sees, in windows of three by three cells (P, STATISTICS, 24, 24): displacement to the right and
        down in cells by Lucas and Kanade (1981), the share of it that is known, and logarithms of the squared gradients and
        differences. Returns also the products of gradients and differences (P, 6, 24, 24), means over each cell, with x and y
        from -1 to 1.
        """
        parts = [
            F.conv2d(F.pad(pooled(frame, scale), (1, 1, 1, 1), "replicate"), cast(Tensor, self.kernels))
            for frame in (one, other)
        ]
        change = parts[1][:, :1] - parts[0][:, :1]
        right, down = ((parts[0][:, axis : axis + 1] + parts[1][:, axis : axis + 1]) / 2 for axis in (1, 2))
        products = torch.cat([right * right, right * down, down * down, right * change, down * change, change * change], 1)
        cell = EDGE // CELLS // scale  # in pixels of the scale
        means = pooled(products, cell)
        around = F.avg_pool2d(means, 3, 1, 1)
        xx, xy, yy, xt, yt, tt = around.unbind(1)
        determinant = xx * yy - xy * xy
        known, safe = xx + yy, (xx + GRADIENT_NOISE) * (yy + GRADIENT_NOISE) - xy * xy
        moved = torch.stack([xy * yt - (yy + GRADIENT_NOISE) * xt, xy * xt - (xx + GRADIENT_NOISE) * yt], 1) / safe[:, None]
        moved = moved.clamp(-FARTHEST, FARTHEST) / cell
        rest = [determinant / safe, (known + GRADIENT_NOISE).log() / 4, (tt + GRADIENT_NOISE).log() / 4]
        half = EDGE / scale / 2  # pixels of the scale in one unit
        units = torch.tensor([half * half] * 3 + [half] * 2 + [1], device=one.device).view(1, 6, 1, 1)
        return torch.cat([moved, torch.stack(rest, 1)], 1), means * units


def bounds_of(frames: Tensor) -> Tensor:
    """Return where the pictures of frames (N, 3, S, S) on 0..255 start and end, within black bars.

    (N, 2, 2), for x and y, from -1 to 1. A black frame has no bars.
    """
    size = frames.shape[2]
    lit = frames.amax(1) > DARK
    profiles = torch.stack([lit.any(1), lit.any(2)], 1).float()  # (N, 2, S)
    first, last = profiles.argmax(2), size - profiles.flip(2).argmax(2)
    return torch.stack([first, last], 2) * 2 / size - 1


def displacement(p: Tensor, size: int) -> Tensor:
    """Return the displacement (P, 2, size, size) of each pixel under p (P, 6), x and y from -1 to 1."""
    return (p.view(-1, 2, 3) @ coordinates_on(p.device, size)).view(-1, 2, size, size)


def places(p: Tensor, size: int) -> Tensor:
    """Return where each pixel goes under p (P, 6): (P, 2, size, size), x and y from -1 to 1."""
    return coordinates_on(p.device, size)[1:].view(2, size, size) + displacement(p, size)


def coordinates_on(device: torch.device, size: int) -> Tensor:
    """Return `coordinates` as a tensor."""
    return torch.from_numpy(coordinates(size)).to(device)


def pooled(frames: Tensor, scale: int) -> Tensor:
    """Reduce frames by averaging areas of scale x scale pixels."""
    return F.avg_pool2d(frames, scale) if scale > 1 else frames


def smoothed(frames: Tensor, kernel: Tensor) -> Tensor:
    """Smooth grey frames."""
    return F.conv2d(F.pad(frames, (1, 1, 1, 1), "replicate"), kernel)


def equations(products: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Put gradient products together to normal equations of six parameters.

    products: xx, xy, yy, xt, yt (P, 5, pixels); places: 1, x, y (3, pixels). Returns (P, 6, 6) and (P, 6).
    """
    outer = (places[:, None] * places[None]).flatten(0, 1)  # (9, pixels)
    xx, xy, yy = (products[:, :3] @ outer.T).view(-1, 3, 3, 3).unbind(1)
    normal = torch.cat([torch.cat([xx, xy], 2), torch.cat([xy, yy], 2)], 1)
    return normal, -(products[:, 3:5] @ places.T).flatten(1)


def damped(normal: Tensor) -> Tensor:
    """Add a little information to each parameter of normal equations (P, 6, 6), so that they have a solution."""
    information = torch.diagonal(normal, dim1=1, dim2=2).mean(1)
    return normal + (DAMPING * (information + 1))[:, None, None] * torch.eye(6, device=normal.device)


def solved(normal: Tensor, target: Tensor) -> Tensor:
    """Solve normal (P, 6, 6) · p = target (P, 6) by elimination, in float64."""
    whole = torch.cat([normal, target[:, :, None]], 2).double()
    for index in range(normal.shape[1]):
        row = whole[:, index : index + 1] / whole[:, index : index + 1, index : index + 1]
        column = whole[:, :, index : index + 1] - torch.eye(normal.shape[1], device=normal.device)[:, index : index + 1]
        whole = whole - column * row
    return whole[:, :, -1].to(target.dtype)
