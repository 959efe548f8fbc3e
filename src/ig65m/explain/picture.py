"""Draws the features of a video over time: semantic code, and labels as bands below."""

from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ig65m.atomic import finished_file
from ig65m.errors import plain
from ig65m.explain.semcode import semantic_code
from ig65m.store.features import Features

MOST_LANES: Final = 10  # most labels with a band; the most likely of the video
_DPI: Final = 150
_WIDTH: Final = 12.0  # inches
_INK: Final = "#334155"


def draw_semcode(features: Features, path: Path, *, title: str) -> None:
    """Write the picture as PNG. Raises UsageError as `semantic_code`, OSError if the disk is full or faulty."""
    code = semantic_code(features.array)
    edges = clip_edges(features)
    lanes = _lanes(features)
    heights = [3.2] + ([0.28 * len(lanes) + 0.1] if lanes else [])
    figure = Figure(figsize=(_WIDTH, sum(heights) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _draw_code(axes[0], code, edges)
    axes[0].set_title(plain(title, 100), loc="left", fontsize=11, color=_INK, parse_math=False)
    if lanes:
        _draw_lanes(axes[1], lanes, edges)
    axes[-1].set_xlabel("seconds", color=_INK)
    axes[-1].set_xlim(edges[0], edges[-1])
    with finished_file(path) as temporary, temporary.open("wb") as file:
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})


def clip_edges(features: Features) -> NDArray[np.float64]:
    """Return where each clip's column starts in seconds, and where the last one ends: a clip extends to the next one's
    start.
    """
    starts = [span.start for span in features.spans]
    return np.maximum.accumulate(np.array([*starts, max(span.end for span in features.spans)]))


def _draw_code(axes: Any, code: NDArray[np.uint8], edges: NDArray[np.float64]) -> None:
    axes.pcolormesh(edges, np.arange(len(code) + 1), code, rasterized=True, antialiased=False)
    axes.set_ylim(len(code), 0)
    axes.set_yticks([0, len(code)])
    axes.set_ylabel("feature", color=_INK)
    _plain_frame(axes)


def _lanes(features: Features) -> dict[str, list[float]]:
    """Return, for the most frequent labels of a video, the score in each clip; 0 if it is not among the best there."""
    if features.labels is None:
        return {}
    scores = [{each.label: each.score for each in labels} for labels in features.labels]
    names = {name for clip in scores for name in clip}
    lanes = {name: [clip.get(name, 0.0) for clip in scores] for name in sorted(names)}
    best = sorted(lanes, key=lambda name: (-sum(lanes[name]), name))[:MOST_LANES]
    return {name: lanes[name] for name in best}


def _draw_lanes(axes: Any, lanes: dict[str, list[float]], edges: NDArray[np.float64]) -> None:
    for row, scores in enumerate(lanes.values()):
        for (start, end), score in zip(pairwise(edges), scores, strict=True):
            band = [(start, end - start)], (row + 0.08, 0.84)
            axes.broken_barh(*band, color=f"C{row}", alpha=min(1.0, score), linewidth=0)
    axes.set_ylim(len(lanes), 0)
    axes.set_yticks([row + 0.5 for row in range(len(lanes))], [plain(name, 40) for name in lanes])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.tick_params(axis="y", length=0)
    _plain_frame(axes)


def _plain_frame(axes: Any) -> None:
    axes.tick_params(colors=_INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_INK)
