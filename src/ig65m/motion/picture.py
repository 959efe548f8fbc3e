"""Draws the camera motion of a video over time: a curve of each speed with its uncertainty, and bands of segments below."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ig65m.atomic import finished_file
from ig65m.errors import plain
from ig65m.motion.describe import LIKELY
from ig65m.motion.select import TOUCH
from ig65m.types import CameraMotion, ClipMotion, MotionSegment, Speeds

_DPI: Final = 150
_WIDTH: Final = 12.0  # inches
_MARGINS: Final = (0.9, 1.0, 0.35, 0.5)  # left, right, top, bottom, inches
_SPACE: Final = 0.12  # between curves, inches
_CURVE: Final = 1.15  # height of a curve, inches
_BAND: Final = 0.27  # height of a band, inches
_COLUMNS: Final = 1000  # most columns of a band; narrower ones could fall between pixels
_INK: Final = "#334155"
_GREY: Final = "#cbd5e1"
_MOVES: Final = {"pan": "#2563eb", "tilt": "#059669", "zoom": "#d97706", "roll": "#db2777"}
_COLOURS: Final = {**_MOVES, "static": "#94a3b8", "shake": "#7c3aed", "cut": "#0f172a"}
_BANDS: Final = tuple(_COLOURS)


@dataclass(frozen=True)
class _Curve:
    """How a speed is drawn."""

    name: str
    unit: str
    scaled: Callable[[NDArray[np.float64]], NDArray[np.float64]]  # to the unit
    least: float  # reach of the axis at least, in the unit, so that noise of a static camera looks small
    directions: tuple[str, str]  # of positive and negative speeds


_CURVES: Final = (
    _Curve("pan", "%/s", lambda speed: 100 * speed, 5.0, ("right", "left")),
    _Curve("tilt", "%/s", lambda speed: 100 * speed, 5.0, ("up", "down")),
    _Curve("zoom", "%/s", lambda speed: 100 * np.expm1(speed), 5.0, ("in", "out")),
    _Curve("roll", "°/s", lambda speed: speed, 3.0, ("clockwise", "counter-\nclockwise")),
)


def draw_motion(motion: CameraMotion, path: Path, *, title: str) -> None:
    """Write the picture as PNG; the motion has clips. Raises OSError if the disk is full or faulty."""
    heights = [_CURVE] * len(_CURVES) + [_BAND * len(_BANDS)]
    left, right, top, bottom = _MARGINS
    tall = sum(heights) + _SPACE * (len(heights) - 1) + top + bottom
    figure = Figure(figsize=(_WIDTH, tall))
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        *(len(heights), 1),
        sharex=True,
        height_ratios=heights,
        gridspec_kw={
            **{"left": left / _WIDTH, "right": 1 - right / _WIDTH, "bottom": bottom / tall, "top": 1 - top / tall},
            "hspace": _SPACE * len(heights) / sum(heights),  # of the mean height
        },
    )
    runs = _runs(motion.clips)
    for place, curve in zip(axes[:-1], _CURVES, strict=True):
        _draw_curve(place, curve, runs)
    axes[0].set_title(plain(title, 100), loc="left", fontsize=11, color=_INK, parse_math=False)
    axes[0].set_title("band: one standard deviation", loc="right", fontsize=8, color=_INK)
    _draw_bands(axes[-1], motion, runs)
    axes[-1].set_xlabel("seconds", color=_INK)
    start, end = motion.clips[0].start, max(clip.end for clip in motion.clips)
    axes[-1].set_xlim(start, max(end, start + 1e-3))
    with finished_file(path) as temporary, temporary.open("wb") as file:
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})


def _runs(clips: Sequence[ClipMotion]) -> list[list[ClipMotion]]:
    """Return the clips in groups without a gap, of parts of the video that were lost."""
    runs = [[clips[0]]]
    for before, clip in pairwise(clips):
        if clip.start > before.end + TOUCH:
            runs.append([])
        runs[-1].append(clip)
    return runs


def _draw_curve(axes: Any, curve: _Curve, runs: Sequence[Sequence[ClipMotion]]) -> None:
    axes.axhline(0, color=_GREY, linewidth=0.8, zorder=0)
    reaches = [curve.least]
    for clips in runs:
        # A clip's speed is that of its middle; the first and the last one's hold up to the ends.
        times = [clips[0].start, *((clip.start + clip.end) / 2 for clip in clips), clips[-1].end]
        speed, sigma = (
            np.array([_of(each, curve.name) for each in (values[0], *values, values[-1])])
            for values in ([clip.speeds for clip in clips], [clip.sigma for clip in clips])
        )
        low, middle, high = (curve.scaled(speed + sign * sigma) for sign in (-1, 0, 1))
        axes.fill_between(times, low, high, color=_COLOURS[curve.name], alpha=0.22, linewidth=0)
        axes.plot(times, middle, color=_COLOURS[curve.name], linewidth=1.2)
        reaches += [np.abs(middle).max(), np.quantile(np.abs([low, high]), 0.98)]  # a few wide bands may be cut off
    axes.set_ylim(-1.1 * max(reaches), 1.1 * max(reaches))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.text(-0.055, 0.5, f"{curve.name}\n{curve.unit}", transform=axes.transAxes, color=_INK, va="center", ha="center")
    for word, edge, side in zip(curve.directions, (0.97, 0.03), ("top", "bottom"), strict=True):
        axes.text(1.005, edge, word, transform=axes.transAxes, color=_INK, fontsize=8, va=side, ha="left")
    _plain_frame(axes)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _draw_bands(axes: Any, motion: CameraMotion, runs: Sequence[Sequence[ClipMotion]]) -> None:
    spans: dict[str, list[tuple[float, float]]] = {name: [] for name in _BANDS}
    for segment in motion.segments:
        for name in _bands_of(segment):
            spans[name].append((segment.start, segment.end - segment.start))
    for row, name in enumerate(_BANDS):
        axes.broken_barh(spans[name], (row + 0.1, 0.8), color=_COLOURS[name], linewidth=0)
        if name in ("shake", "cut"):
            for clips in runs:
                _draw_probability(axes, row, name, clips)
    axes.set_ylim(len(_BANDS), 0)
    axes.set_yticks([row + 0.5 for row in range(len(_BANDS))], _BANDS)
    axes.tick_params(axis="y", length=0)
    _plain_frame(axes)


def _draw_probability(axes: Any, row: int, name: str, clips: Sequence[ClipMotion]) -> None:
    """Draw the probability of each clip, up to the start of the next: the darker the likelier."""
    first = list(range(0, len(clips), 1 + len(clips) // _COLUMNS))  # of the clips that share a column; the likeliest is seen
    shares = np.maximum.reduceat([_of(clip, name) for clip in clips], first)[None]
    edges = np.maximum.accumulate([*(clips[number].start for number in first), clips[-1].end])
    fade = LinearSegmentedColormap.from_list(name, ["white", _COLOURS[name]])
    axes.pcolormesh(edges, [row + 0.1, row + 0.9], shares, cmap=fade, vmin=0, vmax=1, rasterized=True, antialiased=False)


def _bands_of(segment: MotionSegment) -> list[str]:
    if segment.moves or max(segment.shake, segment.cut) > LIKELY:
        return [move.move.partition("_")[0] for move in segment.moves]
    return ["static"]


def _of(values: Speeds | ClipMotion, name: str) -> float:
    return float(getattr(values, name))


def _plain_frame(axes: Any) -> None:
    axes.tick_params(colors=_INK, labelsize=8)
    axes.grid(axis="x", color=_GREY, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_INK)
