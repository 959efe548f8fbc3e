"""Paths of the camera -> speeds, probabilities and label of each clip."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.motion.path import ClipPath
from ig65m.motion.weights import MotionWeights
from ig65m.types import ClipMotion, Speeds

MOVES: Final = {
    "pan_left": (0, -1),
    "pan_right": (0, 1),
    "tilt_up": (1, 1),
    "tilt_down": (1, -1),
    "zoom_in": (2, 1),
    "zoom_out": (2, -1),
    "roll_clockwise": (3, 1),
    "roll_counterclockwise": (3, -1),
}
"""Label of each move: which speed it is, and the sign of that."""

SLOWEST: Final = np.array([0.002, 0.002, 0.002, 0.15])
"""Slowest move of a camera a frame: shares of the picture, logarithm of the magnification, degrees."""

SLOWEST_RATE: Final = 25.0
"""Rate in frames a second above which the slowest move is that of a second: 5 % of the picture, 3.75 degrees."""

SURE: Final = 2.5
"""Standard deviations by which a speed must differ from 0 for a move."""

HANDHELD: Final = 2.0
"""Factor of the slowest move if the camera shakes: a hand also sways slowly."""

HALF: Final = 0.5
"""Probability from which something is taken to be so."""

UNKNOWN: Final = np.array([0.5, 0.5, 0.5, 45.0])
"""Largest standard deviations of speeds that are reported, as for a single frame or a black picture."""

LEAST: Final = 1e-4
"""Share of the picture that is added before logarithms are taken."""

LEAST_PROBABILITY: Final = 1e-4
"""Least probability whose logit is taken, and least distance from 1."""

EDGE: Final = np.array([1.0, 1.0, 0.5, math.radians(0.5)])
"""Displacement of the picture's edge as a share of the picture, for one unit of each speed."""


def clip_motion(path: ClipPath, weights: MotionWeights) -> tuple[ClipMotion, tuple[str, ...]]:
    """Return what the camera does on a path, and its moves as `moves_of`."""
    speeds, sigma = speeds_of(path, weights)
    rate = frame_rate(path)
    known = terms(facts(path))
    static, shake = (probability(known, weights, name) for name in ("static", "shake"))
    moves = moves_of(speeds, sigma, rate, shake, static)
    motion = ClipMotion(
        path.span.start,
        path.span.end,
        Speeds(*speeds.tolist()),
        Speeds(*np.minimum(sigma, UNKNOWN).tolist()),
        static,
        shake,
        path.cut,
        probability(parallax_terms(path.parallax), weights, "parallax"),
        label_of(moves),
    )
    return motion, moves


def frame_rate(path: ClipPath) -> float:
    """Return frames of the video a second; 0 for a single frame."""
    length = path.times[-1] - path.times[0]
    return float((path.numbers[-1] - path.numbers[0]) / length) if length > 0 else 0.0


def speeds_of(path: ClipPath, weights: MotionWeights) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return speeds and their standard deviations (4,), a second; for a single frame 0 and UNKNOWN."""
    length = path.times[-1] - path.times[0]
    if length <= 0:
        return np.zeros(4), UNKNOWN.copy()
    end = path.positions[-1]
    scale, share, floor = (weights.arrays[f"clip.{name}"].astype(np.float64) for name in ("scale", "share", "floor"))
    sigma = np.sqrt((scale * path.sigma) ** 2 + (share * end) ** 2 + floor**2)
    return end / length, sigma / length


def facts(path: ClipPath) -> NDArray[np.float64]:
    """Return what tells whether the camera stands still or shakes, as logarithms of shares of the picture: (5,).

    The mean speed a frame; how far the path is from a straight one; the largest step between neighbours; the median change from
    a step to the next, which a camera that starts or stops once leaves as it is; and the standard deviation of a step.
    """
    positions = path.positions * EDGE
    line = np.linspace(0, 1, len(positions))[:, None] * positions[-1]
    frames = max(int(path.numbers[-1] - path.numbers[0]), 1)
    steps = np.diff(positions, axis=0) if len(positions) > 1 else np.zeros((1, 4))
    bends = np.abs(np.diff(steps, axis=0)) if len(steps) > 1 else np.zeros((1, 4))
    known = np.where(np.isfinite(path.step_sigma), path.step_sigma, 1.0) * EDGE
    sizes = [
        np.abs(positions[-1]).max() / frames,
        np.sqrt(np.mean((positions - line) ** 2, axis=0)).max(),
        np.abs(steps).max(),
        np.median(bends, axis=0).max(),
        known.max(),
    ]
    return np.log(np.array(sizes) + LEAST)


def probability(values: NDArray[np.float64], weights: MotionWeights, name: str) -> float:
    """Return the probability of "static", "shake" or "parallax", by a logistic regression on its terms."""
    logit = values @ weights.arrays[f"{name}.weight"].astype(np.float64)
    return float(np.exp(-np.logaddexp(0, -logit)))


def terms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Facts (..., 5) -> 1, facts, and products of two (..., 21)."""
    rows, columns = np.triu_indices(values.shape[-1])
    ones = np.ones((*values.shape[:-1], 1))
    return np.concatenate([ones, values, values[..., rows] * values[..., columns]], -1)


def parallax_terms(mean: float) -> NDArray[np.float64]:
    """Return 1 and the logit of the mean probability that the network gives to parallax (2,)."""
    within = min(max(mean, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY)
    return np.array([1.0, math.log(within / (1 - within))])


def slowest(rate: float) -> NDArray[np.float64]:
    """Return the slowest speeds (4,) that are moves, in a video of that frame rate."""
    return SLOWEST * min(rate, SLOWEST_RATE)


def moves_of(
    speeds: NDArray[np.float64], sigma: NDArray[np.float64], rate: float, shake: float = 0.0, static: float = 0.0
) -> tuple[str, ...]:
    """Return the moves with these speeds and standard deviations (4,), that with the fastest edge first.

    A move is at least as fast as the slowest one, or HANDHELD times as fast if the camera shakes, and differs from 0 by SURE
    standard deviations. A camera that probably stands still has none.
    """
    if static >= HALF:
        return ()
    least = slowest(rate) * (HANDHELD if shake >= HALF else 1.0)
    found = [
        name for name, (column, sign) in MOVES.items() if speeds[column] * sign >= max(least[column], SURE * sigma[column])
    ]
    return tuple(sorted(found, key=lambda name: -abs(speeds[MOVES[name][0]]) * EDGE[MOVES[name][0]]))


def label_of(moves: Sequence[str]) -> str:
    """Return the one of nine labels that says most of a clip: its first move, or static."""
    return moves[0] if moves else "static"
