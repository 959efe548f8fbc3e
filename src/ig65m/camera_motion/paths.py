"""Camera paths: the camera's motion, and where each frame of a clip looks in the plane of the picture.

Coordinates are in half heights: x (rightwards) in -aspect..aspect, y (downwards) in -1..1. Angles are in radians, positive
clockwise on the screen. Labels describe the camera: in a pan_right the content moves left.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LABELS = (
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "zoom_in",
    "zoom_out",
    "roll_clockwise",
    "roll_counterclockwise",
)
FRAMES = 8
FRAME_STEP = 2
SPAN = (FRAMES - 1) * FRAME_STEP + 1  # source frames in a clip

PAN, TILT, ZOOM, ROLL = range(4)  # columns of a path
# Label -> the column that it moves, and the sign.
MOVES = {
    "pan_left": (PAN, -1),
    "pan_right": (PAN, 1),
    "tilt_up": (TILT, -1),
    "tilt_down": (TILT, 1),
    "zoom_in": (ZOOM, 1),
    "zoom_out": (ZOOM, -1),
    "roll_clockwise": (ROLL, 1),
    "roll_counterclockwise": (ROLL, -1),
}
# Slowest and fastest move in a source frame: share of the picture, share of its size, radians.
SPEEDS = {
    PAN: (0.0035, 0.032),
    TILT: (0.0035, 0.032),
    ZOOM: (0.005, 0.04),
    ROLL: (math.radians(0.35), math.radians(3.2)),
}
# Displacement of the picture's edge, as a share of the picture, for one unit of each column.
EDGE_SHARE = np.array([1.0, 1.0, 0.5, 0.5])
STATIC_DRIFT = 0.001  # largest share of the picture in a frame that counts as no motion
# With a hand-held camera: a share of the slowest move counts as no motion, and moves start above it.
HANDHELD_DRIFT = 0.9
HANDHELD_SLOWEST = 1.22


@dataclass(frozen=True)
class CameraPath:
    """Position of the camera over a clip's source frames.

    offsets (SPAN, 4): pan in widths, tilt in heights, log magnification, roll, relative to the first frame. anchor: fixed
    point of zoom and roll, in shares of half width and half height.
    """

    offsets: NDArray[np.float64]
    anchor: tuple[float, float] = (0.0, 0.0)

    def at(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return offsets (len(times), 4) at times in source frames, interpolated and extrapolated linearly."""
        low = np.clip(np.floor(times).astype(int), 0, len(self.offsets) - 2)
        share = (times - low)[:, None]
        return np.asarray(self.offsets[low] * (1 - share) + self.offsets[low + 1] * share)


def steady_path(label: str, speed: float, *, anchor: tuple[float, float] = (0.0, 0.0)) -> CameraPath:
    """Return a path at constant speed for each source frame: a share of the picture (pan, tilt, zoom) or radians; 0 for
    static.
    """
    rates = np.zeros((SPAN - 1, 4))
    if label != "static":
        column, sign = MOVES[label]
        rates[:, column] = sign * (math.log1p(speed) if column == ZOOM else speed)
    return CameraPath(_integrate(rates), anchor)


def random_path(rng: np.random.Generator, label: str, *, plain: bool = False, handheld: bool = False) -> CameraPath:
    """Return a realistic path: uneven speed, small other moves, a shaking hand.

    A plain path is steady and at least twice as fast as the slowest. With `handheld`, slow drift and sway count as static.
    """
    if plain:
        low, high = SPEEDS[MOVES[label][0]] if label in MOVES else (0.0, 0.0)
        return steady_path(label, rng.uniform(2 * low, high))
    rates = np.zeros((SPAN - 1, 4))
    anchor = (0.0, 0.0)
    if label == "static":
        if handheld and rng.random() < 0.6:
            slowest = np.array([SPEEDS[column][0] for column in range(4)])
            rates += rng.uniform(-1, 1, 4) * HANDHELD_DRIFT * slowest * (rng.random(4) < 0.6)
        elif rng.random() < 0.4:
            rates += rng.uniform(-1, 1, 4) * rng.uniform(0, STATIC_DRIFT) / EDGE_SHARE
    else:
        column, sign = MOVES[label]
        low, high = SPEEDS[column]
        if handheld:
            low *= HANDHELD_SLOWEST
        speed = math.exp(rng.uniform(math.log(low), math.log(high)))
        change = rng.uniform(-0.5, 0.5) if rng.random() < 0.5 else 0.0  # from the middle to the end of the clip
        rates[:, column] = sign * speed * (1 + change * np.linspace(-1, 1, SPAN - 1))
        if rng.random() < 0.4:
            others = rng.uniform(-0.15, 0.15, 4) * speed * EDGE_SHARE[column] / EDGE_SHARE
            others[column] = 0
            rates += others
        if column in (ZOOM, ROLL) and rng.random() < 0.5:
            anchor = (float(rng.uniform(-0.25, 0.25)), float(rng.uniform(-0.25, 0.25)))
    offsets = _integrate(rates)
    if rng.random() < 0.45:
        most = 0.012 if handheld and label == "static" else 0.006
        offsets += _shake(rng, size=rng.uniform(0.0003, most)) / EDGE_SHARE
    if rng.random() < 0.3:
        offsets[:, :2] += rng.normal(0, rng.uniform(0.0002, 0.0015), (SPAN, 2))
    return CameraPath(offsets, anchor)


def mirrored(label: str, *, horizontally: bool, vertically: bool, in_time: bool) -> str:
    """Return the label of the clip flipped and played backwards."""
    if label == "static":
        return label
    column, sign = MOVES[label]
    flips = in_time + (horizontally and column in (PAN, ROLL)) + (vertically and column in (TILT, ROLL))
    return next(name for name, move in MOVES.items() if move == (column, sign * (-1) ** flips))


def _integrate(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros((1, 4)), np.cumsum(rates, axis=0)])


def _shake(rng: np.random.Generator, size: float) -> NDArray[np.float64]:
    """Return a hand's sway (SPAN, 4) in shares of the picture: slow waves, with less zoom and roll."""
    times = np.arange(SPAN)[:, None]
    sway = np.zeros((SPAN, 4))
    for _ in range(3):
        sway += rng.normal(0, 1, 4) * np.sin(times * rng.uniform(0.15, 1.5, 4) + rng.uniform(0, 2 * np.pi, 4))
    return np.asarray(size * sway * rng.uniform(0, 1, 4) * [1, 1, 0.3, 0.5])


def matrices(offsets: NDArray[np.float64], aspect: float, anchor: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
    """Offsets (T, 4) -> (T, 3, 3): maps a point of frame t to the plane, which frame 0 covers unchanged.

    Pan and tilt follow the camera's own axes: a pan in a rolled view is not level.
    """
    count = len(offsets)
    scale = np.exp(-offsets[:, ZOOM])
    cos, sin = np.cos(offsets[:, ROLL]) * scale, np.sin(offsets[:, ROLL]) * scale
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)  # (T, 2, 2)
    steps = np.diff(offsets[:, :2], axis=0, prepend=0.0) * [2 * aspect, 2.0]
    centre = np.cumsum(np.einsum("tij,tj->ti", turn, steps), axis=0)
    fixed = np.array([anchor[0] * aspect, anchor[1]])
    result = np.zeros((count, 3, 3))
    result[:, :2, :2] = turn
    result[:, :2, 2] = centre + fixed - turn @ fixed
    result[:, 2, 2] = 1
    return result


def shift(x: float, y: float) -> NDArray[np.float64]:
    """Return a translation as 3x3 matrix."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=float)


def similarity(scale: float, angle: float, x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    """Return rotation by `angle`, scaling, then translation by (x, y), as 3x3 matrix."""
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]], dtype=float)
