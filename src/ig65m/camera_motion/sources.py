"""What the virtual camera sees: photographs, footage and procedural textures, kept as pyramids in memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ig65m.errors import UsageError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FOOTAGE_SUFFIXES = (".avi", ".mp4", ".mkv", ".webm")
LONG_EDGE = 640  # longest edge kept of a photograph, in pixels
SMALLEST = 480  # shortest edge in pixels; a smaller file is an icon or a preview
SAME_PICTURE = 5.0  # mean difference of 16x16 thumbnails (0..255) below which two files show one picture
FLAT = 1.2  # mean absolute gradient (0..255) at 128x128 below which a picture cannot show motion


@dataclass(frozen=True)
class Source:
    """A picture, or frames of one shot: `levels[i]` is (T, 3, H >> i, W >> i) uint8; T is 1 for a picture."""

    levels: tuple[Tensor, ...]

    @property
    def aspect(self) -> float:
        """Width divided by height."""
        return self.levels[0].shape[3] / self.levels[0].shape[2]

    def level(self, texels: float) -> Tensor:
        """Return the level closest to one texel for each pixel, if `texels` of level 0 are seen across."""
        index = round(math.log2(max(texels, 1.0)))
        return self.levels[min(index, len(self.levels) - 1)]


def source(pictures: NDArray[np.uint8]) -> Source:
    """(T, H, W, 3) uint8 -> its pyramid."""
    levels = [torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))]
    while min(levels[-1].shape[2:]) >= 48:
        levels.append(F.avg_pool2d(levels[-1].float(), 2).round().to(torch.uint8))
    return Source(tuple(levels))


def load_sources(paths: Sequence[Path]) -> tuple[list[Source], list[Source]]:
    """Load photographs and shots of a static camera from files and folders, in order of their paths.

    Previews, pictures without texture, and copies of a picture in another size are left out.

    Raises UsageError if there is no photograph.
    """
    files = sorted({file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()})
    photos: list[Source] = []
    thumbnails: list[NDArray[np.float32]] = []
    for file in files:
        if file.suffix.lower() not in PHOTO_SUFFIXES:
            continue
        picture = _photo(file)
        if picture is None:
            continue
        thumbnail = np.asarray(Image.fromarray(picture).convert("L").resize((16, 16), Image.Resampling.BOX), dtype=np.float32)
        if all(np.abs(thumbnail - other).mean() > SAME_PICTURE for other in thumbnails):
            thumbnails.append(thumbnail)
            photos.append(source(picture[None]))
    if not photos:
        raise UsageError(
            f"no photograph with a shorter edge of at least {SMALLEST} pixels found in {', '.join(map(str, paths))}"
        )
    footage = [shot for file in files if file.suffix.lower() in FOOTAGE_SUFFIXES for shot in _shots(file)]
    return photos, footage


def _photo(file: Path) -> NDArray[np.uint8] | None:
    """Return the picture as (H, W, 3), at most LONG_EDGE pixels; None if it is too small or flat."""
    with Image.open(file) as image:
        if min(image.size) < SMALLEST:
            return None
        image.draft("RGB", (2 * LONG_EDGE, 2 * LONG_EDGE))
        picture = image.convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "grey"), picture).convert("RGB")
    picture.thumbnail((LONG_EDGE, LONG_EDGE), Image.Resampling.BOX)
    grey = np.asarray(picture.convert("L").resize((128, 128), Image.Resampling.BOX), dtype=np.float32)
    if np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean() < FLAT:
        return None
    return np.asarray(picture)


def _shots(file: Path, length: int = 40) -> list[Source]:
    """Return shots of `length` frames, 480 pixels wide, from a video of a static camera."""
    frames: list[NDArray[np.uint8]] = []
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            height = round(480 * frame.height / frame.width)
            picture = frame.to_ndarray(width=480, height=height, format="rgb24", interpolation="AREA")
            frames.append(picture.astype(np.uint8, copy=False))
    return [source(np.stack(frames[start : start + length])) for start in range(0, len(frames) - length + 1, length)]


def textures(rng: np.random.Generator, count: int) -> list[Source]:
    """Return procedural pictures, of all kinds in turn."""
    kinds = (_dead_leaves, _noise, _cells, _text, _dots)
    return [source(kinds[index % len(kinds)](rng)[None]) for index in range(count)]


def _canvas(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height."""
    return [(512, 384), (512, 288), (384, 384), (300, 480)][rng.integers(4)]


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    grey = rng.uniform(0, 255)
    red, green, blue = np.clip(grey + rng.normal(0, 40, 3), 0, 255).astype(int).tolist()
    return red, green, blue


def _dead_leaves(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw overlapping shapes of all sizes: the statistics of natural scenes with occlusion."""
    width, height = _canvas(rng)
    image = Image.new("RGB", (width, height), _colour(rng))
    draw = ImageDraw.Draw(image)
    smallest, largest = rng.uniform(3, 12), rng.uniform(60, 200)
    for _ in range(int(rng.integers(60, 900))):
        size = smallest * (largest / smallest) ** rng.random() ** 1.7
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        if rng.random() < 0.3:
            draw.ellipse((x - size / 2, y - size / 3, x + size / 2, y + size / 3), fill=_colour(rng))
        else:
            draw.polygon([(x + size / 2 * np.cos(a), y + size / 2 * np.sin(a)) for a in angles], fill=_colour(rng))
    return np.asarray(image)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], exponent: float) -> NDArray[np.float64]:
    """Return noise (H, W) of mean 0 and deviation 1 with the spectrum 1 / f ** exponent."""
    rows = np.fft.fftfreq(shape[0])[:, None] * shape[0]
    columns = np.fft.rfftfreq(shape[1])[None] * shape[1]
    spectrum = np.fft.rfft2(rng.normal(size=shape)) / np.maximum(np.hypot(rows, columns), 1.0) ** exponent
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, shape)
    return np.asarray(field / field.std())


def _noise(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw clouds, bark, sand: noise of falling spectrum, sometimes in few levels."""
    width, height = _canvas(rng)
    field = smooth_noise(rng, (height, width), rng.uniform(0.8, 2.0))
    if rng.random() < 0.3:
        field = np.round(field * rng.uniform(0.7, 2)) / 1.5
    colour = np.array(_colour(rng), dtype=float)
    tint = smooth_noise(rng, (height, width), 2.0)[..., None] * rng.normal(0, 20, 3)
    return np.clip(colour + field[..., None] * rng.uniform(12, 60) + tint, 0, 255).astype(np.uint8)


def _cells(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw bricks, tiles and windows: a jittered grid whose cells differ."""
    width, height = _canvas(rng)
    image = Image.new("RGB", (width, height), _colour(rng))
    draw = ImageDraw.Draw(image)
    base = np.array(_colour(rng), dtype=float)
    step_x, step_y = rng.uniform(20, 90), rng.uniform(16, 70)
    gap, spread, jitter = rng.uniform(0, 8), rng.uniform(10, 70), rng.uniform(0, 0.3)
    for row in range(int(height / step_y) + 2):
        for column in range(int(width / step_x) + 2):
            x = (column - (row % 2) / 2 + rng.normal(0, jitter)) * step_x
            y = (row + rng.normal(0, jitter / 2) - 0.5) * step_y
            red, green, blue = np.clip(base + rng.normal(0, spread) + rng.normal(0, 10, 3), 0, 255).astype(int).tolist()
            draw.rectangle((x, y, x + max(step_x - gap, 2), y + max(step_y - gap, 2)), fill=(red, green, blue))
    return np.asarray(image)


def _text(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a page, a sign, a screen: lines of made-up words."""
    width, height = _canvas(rng)
    image = Image.new("RGB", (width, height), _colour(rng))
    draw = ImageDraw.Draw(image)
    y = rng.uniform(0, 20)
    while y < height:
        size = float(rng.uniform(10, 60) if rng.random() < 0.3 else 16)
        font = ImageFont.load_default(size)
        words = ["".join(chr(rng.integers(97, 123)) for _ in range(rng.integers(1, 9))) for _ in range(14)]
        draw.text((rng.uniform(-30, 60), y), " ".join(words), fill=_colour(rng), font=font)
        y += size * rng.uniform(1.1, 2.5)
    return np.asarray(image)


def _dots(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a sky or a plain wall with few objects: a smooth ground, some spots and lines."""
    width, height = _canvas(rng)
    rows = np.linspace(0, 1, height)[:, None, None]
    ground = np.array(_colour(rng)) * (1 - rows) + np.array(_colour(rng)) * rows
    field = smooth_noise(rng, (height, width), 2.2)[..., None] * rng.uniform(0, 12)
    image = Image.fromarray(np.clip(ground + field, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(8, 60))):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(2, 50)
        if rng.random() < 0.7:
            draw.ellipse((x, y, x + size, y + size * rng.uniform(0.5, 2)), fill=_colour(rng))
        else:
            draw.line((x, y, *rng.uniform(0, (width, height))), fill=_colour(rng), width=int(rng.integers(1, 9)))
    return np.asarray(image)
