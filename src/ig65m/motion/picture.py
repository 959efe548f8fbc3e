"""Draws the camera motion of a video over time: a curve of each speed with its uncertainty, and bands of segments below."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from ig65m.types import CameraMotion, ClipMotion, MotionSegment, Speeds

_DPI: Final = 150
_WIDTH: Final = 12.0  # inches
_CURVE: Final = 1.15  # height of a curve, inches
_BAND: Final = 0.27  # height of a band, inches
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
    figure = Figure(figsize=(_WIDTH, sum(heights) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    times = np.array([(clip.start + clip.end) / 2 for clip in motion.clips])
    for place, curve in zip(axes, _CURVES, strict=False):
        _draw_curve(place, curve, times, motion.clips)
    axes[0].set_title(plain(title, 100), loc="left", fontsize=11, color=_INK, parse_math=False)
    _draw_bands(axes[-1], motion)
    axes[-1].set_xlabel("seconds", color=_INK)
    start, end = motion.clips[0].start, max(clip.end for clip in motion.clips)
    axes[-1].set_xlim(start, max(end, start + 1e-3))
    with finished_file(path) as temporary, temporary.open("wb") as file:
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})


def _draw_curve(axes: Any, curve: _Curve, times: NDArray[np.float64], clips: Sequence[ClipMotion]) -> None:
    speed = np.array([_of(clip.speeds, curve.name) for clip in clips])
    sigma = np.array([_of(clip.sigma, curve.name) for clip in clips])
    colour = _COLOURS[curve.name]
    axes.axhline(0, color=_GREY, linewidth=0.8, zorder=0)
    low, middle, high = (curve.scaled(speed + sign * sigma) for sign in (-1, 0, 1))
    if len(clips) == 1:
        axes.errorbar(times, middle, [middle - low, high - middle], color=colour, marker="o", capsize=3, linewidth=1.2)
    else:
        axes.fill_between(times, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(times, middle, color=colour, linewidth=1.2)
    reach = 1.1 * max(curve.least, float(np.abs(middle).max()), float(np.quantile(np.abs([low, high]), 0.98)))
    axes.set_ylim(-reach, reach)
    axes.yaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    axes.set_ylabel(f"{curve.name}\n{curve.unit}", color=_INK, rotation=0, ha="right", va="center")
    for word, edge, side in zip(curve.directions, (0.97, 0.03), ("top", "bottom"), strict=True):
        axes.text(1.005, edge, word, transform=axes.transAxes, color=_INK, fontsize=8, va=side, ha="left")
    _plain_frame(axes)


def _draw_bands(axes: Any, motion: CameraMotion) -> None:
    spans: dict[str, list[tuple[float, float]]] = {name: [] for name in _BANDS}
    for segment in motion.segments:
        for name in _bands_of(segment):
            spans[name].append((segment.start, segment.end - segment.start))
    for row, name in enumerate(_BANDS):
        axes.broken_barh(spans[name], (row + 0.1, 0.8), color=_COLOURS[name], linewidth=0)
    edges = np.maximum.accumulate([*(clip.start for clip in motion.clips), motion.clips[-1].end])
    for name in ("shake", "cut"):  # of each clip, up to the start of the next, the darker the likelier
        row = _BANDS.index(name)
        shares = np.array([[_of(clip, name) for clip in motion.clips]])
        fade = LinearSegmentedColormap.from_list(name, ["white", _COLOURS[name]])
        axes.pcolormesh(edges, [row + 0.1, row + 0.9], shares, cmap=fade, vmin=0, vmax=1, rasterized=True, antialiased=False)
    axes.set_ylim(len(_BANDS), 0)
    axes.set_yticks([row + 0.5 for row in range(len(_BANDS))], _BANDS)
    axes.tick_params(axis="y", length=0)
    _plain_frame(axes)


def _bands_of(segment: MotionSegment) -> list[str]:
    if segment.moves or max(segment.shake, segment.cut) > LIKELY:
        return [move.move.partition("_")[0] for move in segment.moves]
    return ["static"]


def _of(values: Speeds | ClipMotion, name: str) -> float:
    return float(getattr(values, name))


def _plain_frame(axes: Any) -> None:
    axes.tick_params(colors=_INK, labelsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_INK)
