"""Videos of camera moves with known speeds, several at once, made with OpenCV from pictures that are not in the training data.

Independent of the trainer, and defined by the content: if the camera pans to the right, the content moves left.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from synthetic_motion import BORDERS, FPS, PHOTOGRAPHS, SIZES, Picture, encode, source_picture, with_intruder

NAMES = ("pan", "tilt", "zoom", "roll")
# Fastest move of each kind for 1 % a frame: shares of width and height, logarithm of the magnification, degrees.
UNIT = {"pan": 0.01, "tilt": 0.01, "zoom": 0.01, "roll": 1.0}
STATIC = (*PHOTOGRAPHS, "bigbuckbunny_static")  # pictures, and footage of a camera that does not move at all
PAIRS = (("pan", "zoom"), ("tilt", "roll"), ("pan", "tilt"))


@dataclass(frozen=True)
class Film:
    """One video to be made. speeds: a frame, of the camera, in widths, heights, logarithm, degrees; as `ig65m.Speeds`."""

    speeds: dict[str, float]
    source: str
    size: tuple[int, int]
    fps: Fraction
    crf: int
    intruder: bool
    seed: int
    hand: float = 0.0  # standard deviation of a hand's sway, as a share of the width
    frames: int = 45

    def rate(self, name: str) -> float:
        """The speed a second."""
        return self.speeds.get(name, 0.0) * float(self.fps)


def draw(rng: np.random.Generator, names: tuple[str, ...], low: float, high: float) -> Film:
    """Return a film with these moves at speeds of `low` to `high` % a frame, spread evenly in logarithm, either way."""
    speeds = {name: float(rng.choice([-1, 1]) * UNIT[name] * low * (high / low) ** rng.random()) for name in names}
    return Film(
        speeds=speeds,
        source=STATIC[int(rng.integers(len(STATIC)))],
        size=SIZES[int(rng.integers(len(SIZES)))],
        fps=FPS[int(rng.integers(len(FPS)))],
        crf=int(rng.integers(18, 31)),
        intruder=bool(rng.random() < 0.3),
        seed=int(rng.integers(2**31)),
    )


def handheld(rng: np.random.Generator) -> Film:
    """Return a film by a hand that means to hold still."""
    return replace(draw(rng, (), 1, 1), hand=math.exp(rng.uniform(math.log(0.001), math.log(0.006))), frames=75)


def make(film: Film, path: Path) -> None:
    """Write the film as H.264."""
    pictures: Iterator[Picture] = frames_of(film)
    if film.intruder:
        pictures = with_intruder(pictures, film.seed)
    encode(pictures, path, film.fps, film.crf)


def frames_of(film: Film) -> Iterator[Picture]:
    """Make the frames by warpAffine: magnified, turned, then shifted in the axes of the screen."""
    rng = np.random.default_rng(film.seed)
    width, height = film.size
    pan, tilt, zoom, roll = (film.speeds.get(name, 0.0) for name in NAMES)
    first = source_picture(film.source, 0)
    cover = max(width / first.shape[1], height / first.shape[0]) * rng.uniform(1.2, 2.2)
    border = BORDERS[rng.integers(3)] if rng.random() < 0.3 else cv2.BORDER_REFLECT_101
    place = rng.uniform(-0.05, 0.05, 2) * (width, height)
    shake = _sway(rng, film) * (width, width)
    matrix = np.asarray(cv2.getRotationMatrix2D((first.shape[1] / 2, first.shape[0] / 2), 0, cover), dtype=np.float64)
    matrix[:, 2] += place + np.array([width - first.shape[1], height - first.shape[0]]) / 2
    start = np.vstack([matrix, [0, 0, 1]])
    # One frame's move of the content, about the centre of the screen; start in the middle of the film.
    turn = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), roll, math.exp(zoom)), dtype=np.float64)
    turn[:, 2] += (-pan * width, tilt * height)
    step = np.vstack([turn, [0, 0, 1]])
    current = np.linalg.matrix_power(np.linalg.inv(step), film.frames // 2) @ start
    for index in range(film.frames):
        shaken = current.copy()
        shaken[:2, 2] += shake[index]
        flags = cv2.INTER_AREA if cover < 1 else cv2.INTER_CUBIC
        picture = source_picture(film.source, index)
        yield np.asarray(cv2.warpAffine(picture, shaken[:2], film.size, flags=flags, borderMode=border), dtype=np.uint8)
        current = step @ current


def _sway(rng: np.random.Generator, film: Film) -> NDArray[np.float64]:
    """Displacements (frames, 2) of a hand: noise filtered twice by a first-order low pass of 1 Hz."""
    noise = rng.normal(size=(film.frames + 200, 2))
    keep = math.exp(-2 * math.pi / float(film.fps))
    for _ in range(2):
        for index in range(1, len(noise)):
            noise[index] = keep * noise[index - 1] + (1 - keep) * noise[index]
    noise = noise[200:] - noise[200:].mean(0)
    return np.asarray(noise / noise.std(0) * film.hand)
