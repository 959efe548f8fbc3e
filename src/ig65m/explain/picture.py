"""Draws the features of a video over time: how much they change, the features as colours, and labels as bands below."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ig65m.atomic import finished_file
from ig65m.display.chart import best_lanes, draw_lanes
from ig65m.display.feature_map import MOST_COLUMNS, SMALL_CHANGE, cell_edges, changes, feature_levels, run_starts, viridis
from ig65m.errors import plain
from ig65m.explain.semcode import HUE, original_code
from ig65m.store.features import Features

_DPI: Final = 150
_WIDTH: Final = 12.0  # inches
_INK: Final = "#334155"
_ROWS: Final = 128  # most rows of colours; lower ones could fall between pixels


def draw_original(features: Features, path: Path, *, hue: float = HUE) -> None:
    """Write the semantic code of ig65m-pytorch as PNG, a pixel for each feature of each clip. Raises as `draw_semcode`."""
    code = original_code(features.array, hue)
    with finished_file(path) as temporary, temporary.open("wb") as file:
        Image.fromarray(code).save(file, "PNG", optimize=True)


def draw_semcode(features: Features, path: Path, *, title: str) -> None:
    """Write the picture as PNG. Raises UsageError if features are not pooled or not finite, OSError if the disk is full or
    faulty.
    """
    levels = feature_levels(features.array, _ROWS)
    edges = cell_edges(
        np.array([span.start for span in features.spans]),
        np.array([span.end for span in features.spans]),
    )
    lanes = best_lanes([{each.label: each.score for each in labels} for labels in features.labels or ()])
    heights = [0.9, 3.2] + ([0.3 * len(lanes) + 0.1] if lanes else [])
    figure = Figure(figsize=(_WIDTH, sum(heights) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _draw_changes(axes[0], changes(features.array), edges)
    axes[0].set_title(plain(title, 100), loc="left", fontsize=11, color=_INK, parse_math=False)
    axes[0].set_title("change: 1 - cosine similarity to the clip before", loc="right", fontsize=8, color=_INK)
    _draw_levels(axes[1], levels, edges, features.array.shape[1])
    if lanes:
        draw_lanes(axes[2], lanes, edges)
    for part in axes:
        _plain_frame(part)
    axes[-1].set_xlabel("seconds", color=_INK)
    axes[-1].set_xlim(edges[0], edges[-1])
    with finished_file(path) as temporary, temporary.open("wb") as file:
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})


def _draw_changes(axes: Any, distances: NDArray[np.float64], edges: NDArray[np.float64]) -> None:
    top = max(SMALL_CHANGE, distances.max(initial=0))
    axes.fill_between(edges[1:-1], distances, color=_INK, alpha=0.15, linewidth=0)
    axes.plot(edges[1:-1], distances, color=_INK, linewidth=1)
    axes.set_ylim(0, 1.05 * top)
    axes.set_ylabel("change", color=_INK)


def _draw_levels(axes: Any, levels: NDArray[np.uint8], edges: NDArray[np.float64], width: int) -> None:
    columns = np.append(edges[run_starts(len(edges) - 1, MOST_COLUMNS)], edges[-1])
    axes.pcolormesh(columns, np.linspace(0, width, len(levels) + 1), viridis()[levels], rasterized=True, antialiased=False)
    axes.set_ylim(width, 0)
    axes.set_yticks([0, width])
    axes.set_ylabel("features, grouped", color=_INK)


def _plain_frame(axes: Any) -> None:
    axes.tick_params(colors=_INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_INK)
