"""Clips of synthetic camera moves: a source seen by a virtual camera, independently moving objects, and a bad camera."""

import math
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ig65m.camera_motion.degrade import degrade, halve, reduce
from ig65m.camera_motion.paths import (
    FRAME_STEP,
    FRAMES,
    LABELS,
    SPAN,
    CameraPath,
    matrices,
    mirrored,
    random_path,
    shift,
    similarity,
)
from ig65m.camera_motion.sources import Source, smooth_noise

Matrices = NDArray[np.float64]

RENDER = 128  # edge in pixels while rendering; the network's input is smaller
ASPECTS = (4 / 3, 16 / 9, 16 / 9, 2.35, 1.0, 9 / 16, 3 / 4)
STATIC_SHARE = 0.2  # share of static clips; the moves share the rest equally
BUSY_STATIC_SHARE = 0.28
MIDDLE = np.array([(SPAN - 1) / 2])
DETAIL = 1.5  # mean difference (0..255) of neighbours at 48x48 below which another part of the source is tried
COPIES = (2.0, 10.0)  # of a source side by side in a pattern
MASKS = 64  # number of shapes for moving objects


class Disturbed(Enum):
    """How much happens in the scene besides the camera's move; most with a static camera."""

    NOT = auto()
    LITTLE = auto()
    MUCH = auto()
    MOST = auto()


THINGS = {  # shares of scenes with 0, 1, 2, 3, 4 moving objects
    Disturbed.NOT: (1.0, 0.0, 0.0, 0.0, 0.0),
    Disturbed.LITTLE: (0.5, 0.25, 0.15, 0.1, 0.0),
    Disturbed.MUCH: (0.3, 0.25, 0.2, 0.15, 0.1),
    Disturbed.MOST: (0.15, 0.3, 0.25, 0.2, 0.1),
}
# Shares of scenes with ripples, and with footage.
WAVES = {Disturbed.NOT: 0.0, Disturbed.LITTLE: 0.08, Disturbed.MUCH: 0.2, Disturbed.MOST: 0.2}
FOOTAGE = {Disturbed.NOT: 0.0, Disturbed.LITTLE: 0.1, Disturbed.MUCH: 0.2, Disturbed.MOST: 0.2}


@dataclass(frozen=True)
class Library:
    """All that may be shown. `masks` (N, 1, 64, 64) in 0..1 are outlines of moving objects."""

    photos: list[Source]
    footage: list[Source]
    textures: list[Source]
    masks: Tensor

    def draw(self, rng: np.random.Generator) -> Source:
        """Return a photograph or frame of footage mostly, else a texture."""
        if rng.random() < 0.3:
            return self.textures[rng.integers(len(self.textures))]
        index = int(rng.integers(len(self.photos) + len(self.footage)))
        if index < len(self.photos):
            return self.photos[index]
        shot = self.footage[index - len(self.photos)]
        frame = int(rng.integers(len(shot.levels[0])))
        return Source(tuple(level[frame : frame + 1] for level in shot.levels))


def make_masks(rng: np.random.Generator) -> Tensor:
    """Draw boxes, ellipses, people (a head on a body) and blobs: (MASKS, 1, 64, 64) in 0..1, clear at the border."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    masks = []
    for index in range(MASKS):
        wide, tall = rng.uniform(0.35, 0.95, 2)
        kind = index % 4
        if kind == 0:
            distance = np.maximum(np.abs(x) / wide, np.abs(y) / tall)
        elif kind == 1:
            distance = np.hypot(x / wide, y / tall)
        elif kind == 2:
            body = np.maximum(np.abs(x + 0.15 * np.sin(3 * y)) / (0.6 * wide), np.abs(y - 0.25) / 0.68)
            distance = np.minimum(body, np.hypot(x, (y + 0.65) / 1.2) / 0.25)
        else:
            distance = np.hypot(x / wide, y / tall) + 0.25 * smooth_noise(rng, (64, 64), 2.0)
        masks.append(np.clip((1 - distance) * 12, 0, 1) * (np.maximum(np.abs(x), np.abs(y)) < 0.98))
    return torch.from_numpy(np.stack(masks)[:, None].astype(np.float32))


def random_clip(
    rng: np.random.Generator, library: Library, *, plain: bool = False, busy: bool = False, handheld: bool = False
) -> tuple[Tensor, int]:
    """Return a clip (3, FRAMES, 64, 64) uint8 and the index of its label.

    In a plain clip, only the camera moves, in one way, and the picture is clean. More of the busy clips are static, and large
    objects pass before a static camera. `handheld` is as in `random_path`.
    """
    target = 0 if rng.random() < (BUSY_STATIC_SHARE if busy else STATIC_SHARE) else int(rng.integers(1, len(LABELS)))
    standing = Disturbed.MOST if busy else Disturbed.MUCH
    disturbed = Disturbed.NOT if plain else standing if target == 0 else Disturbed.LITTLE
    frames = _scene(rng, library, LABELS[target], disturbed, handheld)
    if not plain and rng.random() < 0.1:  # the end of a short video: its last frame is repeated
        kept = int(rng.integers(2, FRAMES))
        frames = torch.cat([frames[:kept], frames[kept - 1 : kept].expand(FRAMES - kept, -1, -1, -1)])
    elif not plain and rng.random() < 0.03:  # a cut: another scene for less than half of the clip
        label = LABELS[rng.integers(len(LABELS))]
        other = _scene(rng, library, label, standing if label == "static" else Disturbed.LITTLE, handheld)
        cut = int(rng.integers(1, 4))
        frames = torch.cat([other[:cut], frames[cut:]] if rng.random() < 0.5 else [frames[:-cut], other[-cut:]])
    return frames.permute(1, 0, 2, 3).contiguous(), target


def mirror(rng: np.random.Generator, clip: Tensor, target: int) -> tuple[Tensor, int]:
    """Return the clip (3, T, H, W) played backwards and sometimes flipped: the same pictures, usually with another label."""
    across, down = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    axes = [1, *([3] if across else []), *([2] if down else [])]
    label = mirrored(LABELS[target], horizontally=across, vertically=down, in_time=True)
    return clip.flip(axes), LABELS.index(label)


def _scene(rng: np.random.Generator, library: Library, label: str, disturbed: Disturbed, handheld: bool) -> Tensor:
    """Return one shot, degraded (unless undisturbed) and resized: (FRAMES, 3, 64, 64) uint8."""
    plain = disturbed is Disturbed.NOT
    aspect = ASPECTS[rng.integers(len(ASPECTS))]
    path = random_path(rng, label, plain=plain, handheld=handheld)
    exposures = 3 if not plain and rng.random() < 0.2 else 1  # instants averaged into a frame: motion blur
    times = np.arange(FRAMES)[:, None] * FRAME_STEP + np.linspace(0, rng.uniform(0.3, 1.0), exposures)[None]
    size = (RENDER, RENDER) if plain else render_size(rng, aspect, edge=RENDER, square=0.8, sizes=(100, 180))
    pictures = render(rng, library, path, aspect, times.ravel(), size, disturbed)
    pictures = pictures.view(FRAMES, exposures, 3, *size).mean(1)
    if plain:
        return halve(pictures)
    return reduce(degrade(rng, add_overlay(rng, pictures)), rng)


def render_size(
    rng: np.random.Generator, aspect: float, *, edge: int, square: float, sizes: tuple[float, float]
) -> tuple[int, int]:
    """Return height and width: `edge` for a share `square` of clips, else the shape of a small video as large as a square of
    an edge within `sizes`.
    """
    if rng.random() < square:
        return edge, edge
    height = int(math.sqrt(rng.uniform(*sizes) ** 2 / aspect)) // 2 * 2
    return height, int(height * aspect) // 2 * 2


def render(
    rng: np.random.Generator,
    library: Library,
    path: CameraPath,
    aspect: float,
    times: NDArray[np.float64],
    size: tuple[int, int],
    disturbed: Disturbed,
) -> Tensor:
    """Render the scene at `times` (in source frames): (len(times), 3, *size) float32 on 0..255."""
    height, width = size
    offsets = path.at(np.concatenate([MIDDLE, times]))
    views = matrices(offsets, aspect, path.anchor)
    views = np.linalg.inv(views[0]) @ views[1:]  # frame t -> the middle frame of the clip
    x = (np.arange(width) * 2 + 1) / width - 1
    y = (np.arange(height) * 2 + 1) / height - 1
    grid = torch.from_numpy(np.stack(np.broadcast_arrays(x[None] * aspect, y[:, None]), -1).astype(np.float32))
    seen = transformed(views, grid)  # (T, H, W, 2): positions of frame t's pixels in the middle frame
    ground = seen
    if disturbed is not Disturbed.NOT and rng.random() < 0.2:  # some objects are nearer than others
        depth = 1 + np.clip(rng.uniform(0, 0.25) * smooth_noise(rng, size, 2.5), -0.5, 0.5)
        ground = grid + (seen - grid) * torch.from_numpy(depth[..., None].astype(np.float32))
    if rng.random() < WAVES[disturbed]:  # water, leaves in the wind, a face
        ground = ground + waves(rng, size, times)
    pictures = background(rng, library, ground, views, aspect, times, disturbed)
    for _ in range(int(rng.choice(5, p=THINGS[disturbed]))):
        pictures, _ = add_object(rng, library, pictures, seen, grid, aspect, times, disturbed)
    return pictures


def transformed(transforms: Matrices, points: Tensor) -> Tensor:
    """Apply affine maps (T, 3, 3) to points (H, W, 2) or (T, H, W, 2) -> (T, H, W, 2).

    In complex numbers z = x + iy, an affine map is a z + b conj(z) + c: three times as fast as matrices of two rows.
    """
    (xx, xy, x), (yx, yy, y) = transforms[:, :2].transpose(1, 2, 0)
    a, b, c = (
        torch.from_numpy(value.astype(np.complex64))[:, None, None]
        for value in ((xx + yy + 1j * (yx - xy)) / 2, (xx - yy + 1j * (yx + xy)) / 2, x + 1j * y)
    )
    z = torch.view_as_complex(points)
    return torch.view_as_real(a * z + b * z.conj() + c)


def sampled(pictures: Tensor, points: Tensor, padding: str) -> Tensor:
    """Sample pictures (1 or T, C, H, W) at points (T, h, w, 2) in -1..1 -> (T, C, h, w)."""
    count, height, width, _ = points.shape
    if len(pictures) == 1:
        flat = F.grid_sample(pictures, points.reshape(1, count * height, width, 2), padding_mode=padding, align_corners=False)
        return flat.view(-1, count, height, width).transpose(0, 1)
    return F.grid_sample(pictures, points, padding_mode=padding, align_corners=False)


def waves(rng: np.random.Generator, size: tuple[int, int], times: NDArray[np.float64]) -> Tensor:
    """Return displacements (T, H, W, 2) that come and go, of up to some hundredths of the height."""
    waves = np.zeros((len(times), *size, 2), dtype=np.float32)
    reach = rng.uniform(0.003, 0.04)
    for axis in range(2):
        field = smooth_noise(rng, size, rng.uniform(1.8, 3)) * reach
        waves[..., axis] = np.sin(times * rng.uniform(0.1, 1.2) + rng.uniform(0, 6.3))[:, None, None] * field
    return torch.from_numpy(waves)


def background(
    rng: np.random.Generator,
    library: Library,
    points: Tensor,
    views: Matrices,
    aspect: float,
    times: NDArray[np.float64],
    disturbed: Disturbed,
    *,
    patterned: bool = False,
) -> Tensor:
    """A source seen by the virtual camera; footage plays meanwhile. If `patterned`, the source is small and repeated."""
    if library.footage and rng.random() < FOOTAGE[disturbed]:
        shot = library.footage[rng.integers(len(library.footage))]
        start = int(rng.integers(len(shot.levels[0]) - SPAN))
        playing = torch.from_numpy(start + np.floor(times).astype(int))
        picture = Source(tuple(level[playing] for level in shot.levels))
    else:
        picture = library.draw(rng)
    flip = rng.random() < 0.5
    for _ in range(5):
        shown = _look(rng, picture, points, views, aspect, flip, patterned)
        thumbnail = F.adaptive_avg_pool2d(shown[len(shown) // 2].mean(0, keepdim=True), 48)
        if min(thumbnail.diff(dim=1).abs().mean(), thumbnail.diff(dim=2).abs().mean()) > DETAIL:
            break
    return shown


def _look(
    rng: np.random.Generator, picture: Source, points: Tensor, views: Matrices, aspect: float, flip: bool, patterned: bool
) -> Tensor:
    """Show a random part of the source, or copies of it side by side."""
    padding = "zeros"
    fills = rng.random() < 0.75 and not patterned  # the source extends far enough around the frame
    if not fills:
        padding = "reflection" if patterned else ("zeros", "reflection", "border")[rng.integers(3)]
    place = _placement(rng, views, aspect, picture.aspect, fills)
    if patterned:
        place[:2] *= math.exp(rng.uniform(*np.log(COPIES)))
    scale = math.hypot(place[0, 0], place[0, 1])
    height, width = points.shape[1:3]
    texels = scale * picture.levels[0].shape[2] * math.sqrt(aspect / (height * width))
    blur = 2 ** rng.uniform(0, 2.5) if rng.random() < 0.2 else rng.uniform(0.8, 1.2)  # out of focus
    level = picture.level(texels * blur).float()
    normalised = np.diag([(-1 if flip else 1) / picture.aspect, 1, 1]) @ place
    return sampled(level, transformed(normalised[None], points), padding)


def _placement(rng: np.random.Generator, views: Matrices, aspect: float, source_aspect: float, fills: bool) -> Matrices:
    """Map the middle frame into the source (x in -source_aspect..source_aspect, y in -1..1)."""
    angle = rng.uniform(-0.1, 0.1) if rng.random() < 0.5 else rng.uniform(-math.pi, math.pi) if rng.random() < 0.4 else 0.0
    corners = np.array([[x * aspect, y, 1.0] for x in (-1, 1) for y in (-1, 1)]).T
    reached = (similarity(1, angle) @ views @ corners)[:, :2].transpose(1, 0, 2).reshape(2, -1)
    low, high = reached.min(1), reached.max(1)
    extent = np.array([source_aspect, 1.0])
    fit = float((2 * extent / (high - low)).min())
    if fills:
        scale = fit * rng.uniform(0.25, 1.0) ** (1 if rng.random() < 0.7 else 2)
        room = np.maximum(extent - scale * (high - low) / 2, 0)
        centre = rng.uniform(-1, 1, 2) * room - scale * (high + low) / 2
    else:
        scale = fit * rng.uniform(0.7, 1.6)
        centre = rng.uniform(-0.5, 0.5, 2) * extent
    return similarity(scale, angle, *centre.tolist())


def add_object(
    rng: np.random.Generator,
    library: Library,
    pictures: Tensor,
    seen: Tensor,
    grid: Tensor,
    aspect: float,
    times: NDArray[np.float64],
    disturbed: Disturbed,
    *,
    living: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Add an object with a motion of its own, in the world or kept in the frame by the camera.

    `living` is the share of objects that bend, as an animal does. Returns the pictures, and the opacity of the object.
    """
    static = disturbed in (Disturbed.MUCH, Disturbed.MOST)
    in_world = static or rng.random() < 0.75
    half = math.exp(rng.uniform(math.log(0.08), math.log(1.6 if static and rng.random() < 0.5 else 0.5 if in_world else 0.4)))
    if disturbed is Disturbed.MOST and rng.random() < 0.5:  # a bus, someone close to the camera
        half = math.exp(rng.uniform(math.log(0.35), math.log(1.7)))
    outline = _motion(rng, times, aspect, half, still=rng.random() < 0.15)
    points = transformed(outline, seen if in_world else grid)
    if living and rng.random() < living:
        points = points + waves(rng, (grid.shape[0], grid.shape[1]), times) * (rng.uniform(1, 6) / half)
    mask = library.masks[rng.integers(MASKS)][None]
    alpha = sampled(mask, points, "zeros")
    if rng.random() < 0.15:  # glass, shadow, smoke
        alpha = alpha * rng.uniform(0.2, 0.8)
    if rng.random() < 0.25:
        red, green, blue = rng.uniform(0, 255, 3)
        colour = torch.tensor([red, green, blue], dtype=torch.float32).view(1, 3, 1, 1).expand_as(pictures)
    else:
        if rng.random() < 0.15:  # a window, a screen, running water: its content moves independently
            points = transformed(_motion(rng, times, aspect, half, still=False), seen if in_world else grid)
        picture = library.draw(rng)
        part = similarity(rng.uniform(0.2, 0.9), rng.uniform(-0.3, 0.3), *rng.uniform(-0.3, 0.3, 2).tolist())
        texels = part[0, 0] / half * picture.levels[0].shape[2] / math.sqrt(grid.shape[0] * grid.shape[1])
        colour = sampled(picture.level(texels * rng.uniform(1, 2)).float(), transformed(part[None], points), "reflection")
        colour = colour * rng.uniform(0.5, 1.2) + rng.uniform(-30, 30)
    return pictures + (colour.clamp(0, 255) - pictures) * alpha, alpha


def _motion(rng: np.random.Generator, times: NDArray[np.float64], aspect: float, half: float, *, still: bool) -> Matrices:
    """Return (T, 3, 3): maps a point of the frame to the object's square -1..1, of `half` half heights."""
    from_middle = times - MIDDLE
    speed = 0 if still else math.exp(rng.uniform(math.log(0.002), math.log(0.12)))  # half heights in a frame
    way = rng.uniform(0, 2 * np.pi) if rng.random() < 0.4 else rng.integers(4) * np.pi / 2 + rng.normal(0, 0.1)
    x0, y0 = rng.uniform(-1, 1) * aspect, rng.uniform(-1, 1)
    swing = 0 if still else rng.uniform(0, 0.15) * (rng.random() < 0.4)
    beat, phase = rng.uniform(0.1, 0.8), rng.uniform(0, 6.3)
    gone = speed * from_middle * (1 + rng.uniform(-0.04, 0.04) * from_middle) + swing * np.sin(beat * times + phase)
    turning = rng.uniform(-0.05, 0.05) if not still and rng.random() < 0.3 else 0.0
    growing = rng.uniform(-0.03, 0.03) if not still and rng.random() < 0.3 else 0.0
    stretch = np.diag([1 / rng.uniform(0.6, 1.6), 1, 1])
    tilt = rng.normal(0, 0.3)
    result = []
    for moment, travelled in zip(from_middle, gone, strict=True):
        back = shift(-x0 - travelled * math.cos(way), -y0 - travelled * math.sin(way))
        size = 1 / (half * math.exp(growing * moment))
        result.append(stretch @ similarity(size, tilt + turning * moment) @ back)
    return np.stack(result)


def add_overlay(rng: np.random.Generator, pictures: Tensor, *, often: float = 1.0) -> Tensor:
    """Add black bars or a line of writing that stays in place, sometimes: to a share of 0.14 of pictures, times `often`."""
    choice = rng.random() / often
    height, width = pictures.shape[2:]
    if choice < 0.04:
        bar = int(height * rng.uniform(0.04, 0.16))
        pictures[:, :, :bar] = 0
        pictures[:, :, height - bar :] = 0
    elif choice < 0.08:
        bar = int(width * rng.uniform(0.04, 0.3))
        pictures[..., :bar] = 0
        pictures[..., width - bar :] = 0
    elif choice < 0.14:
        tall, wide = int(height * rng.uniform(0.04, 0.12)), int(width * rng.uniform(0.1, 0.6))
        top, left = int(rng.integers(height - tall)), int(rng.integers(width - wide))
        noise = torch.from_numpy((rng.random((1, 1, tall, wide // 3 + 1)) < 0.4).astype(np.float32))
        letters = noise.repeat_interleave(3, 3)[..., :wide]
        patch = pictures[:, :, top : top + tall, left : left + wide]
        pictures[:, :, top : top + tall, left : left + wide] = patch + (rng.uniform(0, 255) - patch) * letters
    return pictures
