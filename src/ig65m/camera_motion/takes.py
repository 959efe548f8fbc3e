"""Takes as long as a chunk, by tripods, hands, moving and translating cameras, on which results of clips are calibrated."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ig65m.camera_motion.known_scenes import FACTS, Take, facts_of, film, with_translation
from ig65m.camera_motion.paths import EDGE_SHARE, PAN, ROLL, TILT, ZOOM
from ig65m.camera_motion.scenes import ASPECTS, Library
from ig65m.models.aligner_plan import WINDOW
from ig65m.motion.chunks import FRAME_STEP
from ig65m.motion.path import FRAMES

KINDS = {"tripod": 0.25, "hand": 0.25, "move": 0.35, "hand and move": 0.15}
SLOWEST, FASTEST = 0.0015, 0.05  # speeds of moves: shares of the picture at its edge, a frame of the video
# Standard deviation of a hand's displacement in the direction that it sways most, as share of the picture.
SWAY = (0.001, 0.015)
PLAIN = 0.75  # share of takes that are clean, as films by a good camera are
EASED, BROKEN = 0.3, 0.2  # shares of moves that speed up or slow down, and that start, stop or turn around at once
FPS = (12, 24, 25, 25, 30, 30, 50, 60)
SPAN = (WINDOW - 1) * FRAME_STEP + 1  # frames of the video


@dataclass(frozen=True)
class KnownTake:
    """A take with the true path of the camera."""

    take: Take
    aspect: float
    fps: float
    kind: str  # of KINDS, or translation
    plain: bool  # whether it is clean
    # Of the camera (WINDOW, 4): pan in widths, tilt in heights, zoom as logarithm, roll in degrees.
    positions: NDArray[np.float64]


def random_take(rng: np.random.Generator, library: Library) -> KnownTake:
    """Return a take of a random kind, clean or degraded as the scenes of the training."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    fps, aspect = float(rng.choice(FPS)), float(ASPECTS[rng.integers(len(ASPECTS))])
    offsets = np.zeros((SPAN, 4))
    if "move" in kind:
        offsets += _move(rng)
    if "hand" in kind:
        offsets += sway(rng, fps)
    offsets = offsets[::FRAME_STEP] - offsets[0]
    plain = bool(rng.random() < PLAIN)
    take = film(rng, library, aspect, offsets, np.zeros_like(offsets), [0.0], plain=plain)
    return KnownTake(take, aspect, fps, kind, plain, _camera_positions(offsets))


def random_translation(rng: np.random.Generator, library: Library) -> KnownTake:
    """Return a clean take of a camera that translates before layers of different depths, so that a clip shows parallax."""
    while True:
        fps, aspect = float(rng.choice(FPS)), float(ASPECTS[rng.integers(len(ASPECTS))])
        offsets = _move(rng)[::FRAME_STEP]
        take = film(rng, library, aspect, *with_translation(rng, offsets), plain=True)
        if facts_of(take, aspect, 0, FRAMES - 1)[FACTS.index("parallax")] == 1:
            return KnownTake(take, aspect, fps, "translation", True, _camera_positions(offsets))


def _move(rng: np.random.Generator) -> NDArray[np.float64]:
    """Offsets (SPAN, 4) of one to three moves at once, at a speed that is even, eases in or out, or changes at once."""
    count = int(rng.choice([1, 2, 3], p=[0.55, 0.35, 0.1]))
    speed = math.exp(rng.uniform(math.log(SLOWEST), math.log(FASTEST)))
    rates = np.zeros(4)
    for index, column in enumerate(rng.permutation(4)[:count]):
        share = 1.0 if index == 0 else math.exp(rng.uniform(math.log(0.25), 0))
        rates[column] = rng.choice([-1, 1]) * speed * share / EDGE_SHARE[column]
    pace, kind = np.ones(SPAN - 1), rng.random()
    if kind < EASED:
        pace += rng.uniform(-1, 1) * np.linspace(-1, 1, SPAN - 1)  # by 1: starts from rest; by -1: comes to rest
    elif kind < EASED + BROKEN:
        pace[: int(rng.integers(1, SPAN - 1))] = rng.choice([0, -1])
        pace = pace[:: rng.choice([-1, 1])]
    return np.concatenate([np.zeros((1, 4)), np.cumsum(pace[:, None] * rates, axis=0)])


def sway(rng: np.random.Generator, fps: float) -> NDArray[np.float64]:
    """Offsets (SPAN, 4) of a camera in a hand.

    A sum of waves of 0.3 to 10 Hz whose amplitude falls with the frequency, as the spectrum of hand-held footage does, more
    in pan and tilt than in roll, and hardly in zoom.
    """
    seconds = np.arange(SPAN)[:, None] / fps
    waves = np.zeros((SPAN, 4))
    power = np.zeros(4)
    for frequency in np.geomspace(0.3, 10, 12):
        height = rng.normal(0, 1, 4) / frequency**1.2
        waves += height * np.sin(2 * math.pi * frequency * rng.uniform(0.85, 1.15) * seconds + rng.uniform(0, 2 * math.pi, 4))
        power += height**2 / 2
    size = math.exp(rng.uniform(*np.log(SWAY)))
    return np.asarray(waves / np.sqrt(power) * size * rng.uniform(0.5, 1, 4) * [1, 1, 0.1, 0.4] / EDGE_SHARE)


def _camera_positions(offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Offsets of `CameraPath` (frames, 4) -> positions of the camera, with tilt upwards and roll in degrees."""
    return np.stack([offsets[:, PAN], -offsets[:, TILT], offsets[:, ZOOM], np.degrees(offsets[:, ROLL])], -1)
