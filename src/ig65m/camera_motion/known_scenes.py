"""Scenes of three frames, filmed by a virtual camera whose moves are known: what the aligner learns from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ig65m.camera_motion.degrade import degrade, reduce
from ig65m.camera_motion.paths import EDGE_SHARE, PAN, ROLL, TILT, ZOOM, matrices, shift, similarity
from ig65m.camera_motion.scenes import (
    ASPECTS,
    MASKS,
    MIDDLE,
    THINGS,
    WAVES,
    Disturbed,
    Library,
    Matrices,
    add_object,
    add_overlay,
    background,
    render_size,
    sampled,
    transformed,
    waves,
)
from ig65m.models.aligner_plan import CELLS, EDGE

FRAMES = 3
PAIRS = ((0, 1), (1, 2), (0, 2))
FACTS = ("valid", "a", "b", "s", "r", "aspect", "cut", "parallax")
"""What is known of a pair: 1 if the same camera took both frames; the content's move as in `motion.fit`, of all cells in the
mean; width divided by height; 1 for a cut; and 1 for parallax, 0 without, -1 where it cannot be seen.
"""

SLOWEST, FASTEST = 0.0005, 0.1  # displacement of the picture's edge between two frames, as a share of the picture
FARTHEST = 0.14  # between the first and the last frame
MOVES = (0.13, 0.36, 0.32, 0.12, 0.07)  # shares of scenes with 0, 1, 2, 3, 4 moves at once
HARD_MOVES = (0.23, 0.31, 0.29, 0.11, 0.06)  # of hard scenes: before a camera that stands still, large objects pass
OVERLAID = 3.0  # factor of the shares of bars and writing in hard scenes
PATTERNED = 0.1  # share of hard scenes before a pattern
CUTS, DISSOLVES = 0.04, 0.02  # shares of scenes
LAYERED = 0.22  # share of moving scenes with layers of different depths
LIVING = 0.4  # share of objects that bend
COVERED = 0.3  # opacity of an object from which it hides a cell
SEEN_PARALLAX = 0.25  # difference in cells between layers from which parallax can be seen


@dataclass(frozen=True)
class Scene:
    """Frames, and what is known of their pairs."""

    frames: Tensor  # (FRAMES, EDGE, EDGE, 3) uint8
    facts: Tensor  # (len(PAIRS), len(FACTS)) float32
    camera: Tensor  # (len(PAIRS), CELLS, CELLS) float32: 1 where only the camera moves the content of the first frame


def random_scene(rng: np.random.Generator, library: Library, *, plain: bool = False, hard: bool = False) -> Scene:
    """Return a scene with one camera, sometimes two with a cut or a dissolve between them.

    A plain one is clean. Of hard ones, more have bars, writing, patterns, or a camera that stands still.
    """
    scene = _one_camera(rng, library, plain, hard)
    choice = rng.random()
    if plain or choice > CUTS + DISSOLVES:
        return scene
    other = _one_camera(rng, library, plain, hard)
    if choice < CUTS:
        first = int(rng.integers(1, FRAMES))
        share = (torch.arange(FRAMES) >= first).float()
    else:
        share = torch.linspace(0, 1, FRAMES) * float(rng.uniform(0.7, 1.0))
    mixed = scene.frames.float().lerp(other.frames.float(), share.view(-1, 1, 1, 1)).round().to(torch.uint8)
    facts, camera = scene.facts.clone(), scene.camera.clone()
    for index, (start, end) in enumerate(PAIRS):
        if share[start] == share[end] == 1:
            facts[index], camera[index] = other.facts[index], other.camera[index]
        elif share[start] != share[end]:
            for name, value in (("valid", 0), ("cut", 1), ("parallax", -1)):
                facts[index, FACTS.index(name)] = value
    return Scene(mixed, facts, camera)


def _one_camera(rng: np.random.Generator, library: Library, plain: bool, hard: bool) -> Scene:
    aspect = float(ASPECTS[rng.integers(len(ASPECTS))])
    take = film(rng, library, aspect, *_camera(rng, plain, hard), plain=plain, hard=hard)
    facts = torch.stack([facts_of(take, aspect, *pair) for pair in PAIRS])
    camera = torch.stack([(take.opacity[start] < COVERED).float() for start, _ in PAIRS])
    return Scene(take.frames, facts, camera)


@dataclass(frozen=True)
class Take:
    """What a camera filmed: frames (T, EDGE, EDGE, 3) uint8, and what is known of them.

    views: for each layer, maps of each frame to the first one (T, 3, 3). opacity: of objects and writing in each cell, and
    owner: the layer seen in it (T, CELLS, CELLS).
    """

    frames: Tensor
    views: list[Matrices]
    opacity: Tensor
    owner: Tensor


def film(
    rng: np.random.Generator,
    library: Library,
    aspect: float,
    rotation: NDArray[np.float64],
    translation: NDArray[np.float64],
    depths: Sequence[float],
    *,
    plain: bool = False,
    hard: bool = False,
) -> Take:
    """Film a scene with a camera that rotates and translates: offsets (T, 4) of `CameraPath`; depths of layers, farthest first.

    The displacement of a layer by translation is multiplied by its depth, which is a nearness. `plain` and `hard` are as in
    `random_scene`.
    """
    length = len(rotation)
    moving = bool(np.abs(rotation + translation).max() > 0)
    disturbed = Disturbed.NOT if plain else Disturbed.LITTLE if moving and rng.random() < 0.6 else Disturbed.MOST
    exposures = 3 if not plain and moving and rng.random() < 0.12 else 1  # instants averaged into a frame: motion blur
    shutter = np.linspace(0, rng.uniform(0.2, 0.8), exposures) if exposures > 1 else np.zeros(1)
    size = (2 * EDGE, 2 * EDGE) if plain else render_size(rng, aspect, edge=2 * EDGE, square=0.75, sizes=(130, 250))
    layers = [_instants(rotation + depth * translation, shutter) for depth in depths]
    # Objects move for some frames between the frames of a scene; footage has frames for a long take at a spacing of one.
    spacing = rng.choice([1, 2, 2, 3])
    moments = np.arange(length) * (spacing if length <= FRAMES else 1)
    times = MIDDLE + np.repeat(moments, exposures) + np.tile(shutter, length)
    views = [_relative(offsets, aspect) for offsets in layers]
    patterned = hard and rng.random() < PATTERNED
    pictures, opacity, owner = _compose(rng, library, views, aspect, times, size, disturbed, patterned)
    pictures = pictures.view(length, exposures, *pictures.shape[1:]).mean(1)
    opacity, owner = opacity[::exposures], owner[::exposures]
    if not plain:
        before = pictures.clone()
        pictures = add_overlay(rng, pictures, often=OVERLAID if hard else 1.0)
        written = F.adaptive_avg_pool2d((pictures != before).any(1, keepdim=True).float(), CELLS)[:, 0]
        opacity = torch.maximum(opacity, (written > 0.25).float())
        pictures = degrade(rng, _night(rng, pictures))
    frames = reduce(pictures, rng, EDGE) if not plain else F.avg_pool2d(pictures, 2).round().to(torch.uint8)
    return Take(frames.permute(0, 2, 3, 1).contiguous(), [view[::exposures] for view in views], opacity, owner)


def _camera(rng: np.random.Generator, plain: bool, hard: bool) -> tuple[NDArray[np.float64], NDArray[np.float64], list[float]]:
    """Return offsets (FRAMES, 4) by rotation and by translation, and the layers' nearness, farthest first."""
    count = 1 if plain else int(rng.choice(5, p=HARD_MOVES if hard else MOVES))
    speeds = np.zeros(4)
    columns = rng.permutation(4)[:count]
    low = 0.01 if plain else SLOWEST
    fastest = math.exp(rng.uniform(math.log(low), math.log(FASTEST)))
    for index, column in enumerate(columns):
        share = 1.0 if index == 0 else math.exp(rng.uniform(math.log(0.2), 0))
        speeds[column] = rng.choice([-1, 1]) * fastest * share / EDGE_SHARE[column]
    second = rng.choice([1.0, 1.0, 0.5, 2.0]) * (rng.uniform(0.4, 1.6) if rng.random() < 0.5 else 1.0)
    rates = np.stack([np.zeros(4), speeds, speeds * (1.0 if plain else second)])
    offsets = np.cumsum(rates, axis=0)
    if not plain and rng.random() < 0.35:  # a hand
        offsets += (
            rng.normal(0, math.exp(rng.uniform(math.log(0.0003), math.log(0.012))), (FRAMES, 4)) * [1, 1, 0.4, 0.8] / EDGE_SHARE
        )
        offsets -= offsets[0]
    reach = float(np.abs(offsets * EDGE_SHARE).max())
    offsets *= min(1.0, FARTHEST / max(reach, 1e-9))
    if plain or not count or rng.random() > LAYERED:
        return offsets, np.zeros_like(offsets), [0.0]
    return with_translation(rng, offsets)


def with_translation(
    rng: np.random.Generator, offsets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[float]]:
    """Divide offsets (T, 4) between rotation and translation; return both, and the layers' nearness, farthest first."""
    translation = offsets.copy()
    translation[:, ROLL] = 0
    if rng.random() < 0.5:  # also turns
        turned = rng.uniform(-0.5, 0.5, 3)
        translation[:, [PAN, TILT, ZOOM]] *= 1 - turned
    rotation = offsets - translation
    nearest = float(rng.uniform(1.2, 2.2))
    depths = np.sort(rng.uniform(0.1, nearest, int(rng.integers(2, 5))))
    depths[-1] = nearest
    return rotation, translation / float(depths.mean()), depths.tolist()


def _instants(offsets: NDArray[np.float64], shutter: NDArray[np.float64]) -> NDArray[np.float64]:
    """Offsets (FRAMES, 4) -> (FRAMES * len(shutter), 4), at shares of the way to the next frame."""
    onward = np.diff(offsets, axis=0, append=2 * offsets[-1:] - offsets[-2:-1])
    return np.asarray((offsets[:, None] + shutter[None, :, None] * onward[:, None]).reshape(-1, 4))


def _relative(offsets: NDArray[np.float64], aspect: float) -> Matrices:
    """Map each frame to the first one."""
    views = matrices(offsets, aspect)
    return np.asarray(np.linalg.inv(views[0]) @ views)


def _compose(
    rng: np.random.Generator,
    library: Library,
    views: list[Matrices],
    aspect: float,
    times: NDArray[np.float64],
    size: tuple[int, int],
    disturbed: Disturbed,
    patterned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Render the layers, farthest first, then moving objects. If `patterned`, the farthest layer is a pattern.

    Returns pictures (T, 3, H, W), whether an object covers a cell (T, CELLS, CELLS), and the layer seen in it.
    """
    height, width = size
    x, y = (np.arange(width) * 2 + 1) / width - 1, (np.arange(height) * 2 + 1) / height - 1
    grid = torch.from_numpy(np.stack(np.broadcast_arrays(x[None] * aspect, y[:, None]), -1).astype(np.float32))
    owner = torch.zeros(len(times), CELLS, CELLS, dtype=torch.int64)
    for index, view in enumerate(views):
        seen = transformed(view, grid)
        points = seen + waves(rng, size, times) if rng.random() < WAVES[disturbed] else seen
        if index == 0:
            pictures = background(rng, library, points, view, aspect, times, disturbed, patterned=patterned)
            ground = seen
            continue
        layer = background(rng, library, points, view, aspect, times, Disturbed.NOT)
        alpha = _outline(rng, library, seen, aspect)
        pictures = pictures + (layer - pictures) * alpha
        owner[F.adaptive_avg_pool2d(alpha, CELLS)[:, 0] > 0.5] = index
    opacity = torch.zeros(len(times), CELLS, CELLS)
    for _ in range(int(rng.choice(5, p=THINGS[disturbed]))):
        pictures, alpha = add_object(rng, library, pictures, ground, grid, aspect, times, disturbed, living=LIVING)
        opacity = torch.maximum(opacity, F.adaptive_avg_pool2d(alpha, CELLS)[:, 0])
    return pictures, opacity, owner


def _outline(rng: np.random.Generator, library: Library, seen: Tensor, aspect: float) -> Tensor:
    """Opacity (T, 1, H, W) of a layer that stands in the world: a thing, several, or the ground."""
    if rng.random() < 0.35:  # the ground, a wall
        edge = rng.uniform(-0.6, 0.8)
        angle = rng.choice([0.0, 0.0, math.pi / 2, -math.pi / 2]) + rng.normal(0, 0.15)
        across = seen[..., 1] * math.cos(angle) + seen[..., 0] / aspect * math.sin(angle)
        return (((across - edge) * 30).clamp(0, 1))[:, None]
    alpha = torch.zeros(len(seen), 1, *seen.shape[1:3])
    for _ in range(int(rng.integers(1, 5))):
        half = math.exp(rng.uniform(math.log(0.2), math.log(1.0)))
        place = similarity(1 / half, rng.normal(0, 0.3)) @ shift(-rng.uniform(-1, 1) * aspect, -rng.uniform(-1, 1))
        mask = library.masks[rng.integers(MASKS)][None]
        alpha = torch.maximum(alpha, sampled(mask, transformed(place[None], seen), "zeros"))
    return alpha


def _night(rng: np.random.Generator, pictures: Tensor) -> Tensor:
    """Darken a clip and add the noise of a sensor in the dark, sometimes."""
    if rng.random() > 0.08:
        return pictures
    noise = torch.from_numpy(rng.standard_normal(pictures.shape, dtype=np.float32)) * float(rng.uniform(2, 12))
    return (pictures * float(rng.uniform(0.06, 0.3)) + float(rng.uniform(0, 15)) + noise).clamp(0, 255)


def facts_of(take: Take, aspect: float, start: int, end: int) -> Tensor:
    """Return what is known of two frames of a take, in the order of FACTS."""
    places = (np.arange(CELLS) * 2 + 1) / CELLS - 1
    x, y = np.meshgrid(places * aspect, places)
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    moved = np.stack([(np.linalg.inv(view[end]) @ view[start] @ points - points)[:2] for view in take.views])
    seen = take.owner[start].numpy().ravel()
    content = moved[seen, :, np.arange(len(seen))]  # (cells, 2)
    if len(take.views) == 1:
        whole = np.linalg.inv(take.views[0][end]) @ take.views[0][start]
        similar = [whole[0, 2] / (2 * aspect), whole[1, 2] / 2, whole[0, 0] - 1, whole[1, 0]]
    else:
        similar = _least_squares(points, content, aspect)
    spread = np.ptp(content * [CELLS / (2 * aspect), CELLS / 2] - _similarity(points, similar, aspect), axis=0).max()
    parallax = 1.0 if spread > SEEN_PARALLAX else 0.0 if len(take.views) == 1 else -1.0
    return torch.tensor([1.0, *similar, aspect, 0.0, parallax], dtype=torch.float32)


def _similarity(points: NDArray[np.float64], similar: list[float], aspect: float) -> NDArray[np.float64]:
    """Return displacements (cells, 2) in cells under (a, b, s, r)."""
    a, b, s, r = similar
    x, y = points[0], points[1]
    u, v = 2 * aspect * a + s * x - r * y, 2 * b + s * y + r * x
    return np.stack([u / (2 * aspect) * CELLS, v / 2 * CELLS], -1)


def _least_squares(points: NDArray[np.float64], content: NDArray[np.float64], aspect: float) -> list[float]:
    """Fit (a, b, s, r) to the displacements (cells, 2) of all cells."""
    x, y = points[0], points[1]
    one, none = np.ones_like(x), np.zeros_like(x)
    across = np.stack([2 * aspect * one, none, x, -y], -1) / (2 * aspect)
    along = np.stack([none, 2 * one, y, x], -1) / 2
    known = np.concatenate([content[:, 0] / (2 * aspect), content[:, 1] / 2])
    return list(map(float, np.linalg.lstsq(np.concatenate([across, along]), known, rcond=None)[0]))
