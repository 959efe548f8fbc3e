"""Charts over time with matplotlib: a band of each label, as high as its score."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import needs, plain

MOST_LANES: Final = 10  # most labels with a band
_WORTH_A_LANE: Final = 0.1  # least score that a label has in some clip, if other labels have more
_BAND: Final = 0.84  # height of a band with a score of 1; lanes are 1 apart


def best_lanes(scores: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    """Scores by label for each clip -> for the labels with the highest totals, the score in each clip; 0 where it has none."""
    names = {name for clip in scores for name in clip}
    lanes = {name: np.array([clip.get(name, 0.0) for clip in scores]) for name in names}
    worth = [name for name in names if lanes[name].max() >= _WORTH_A_LANE] or names
    best = sorted(worth, key=lambda name: (-lanes[name].sum(), name))[:MOST_LANES]
    return {name: lanes[name] for name in best}


def draw_lanes(axes: Any, lanes: Mapping[str, NDArray[np.float64]], edges: NDArray[np.float64]) -> None:
    """Draw a lane for each label, the first on top; `edges` of the clips' columns in seconds."""
    for row, scores in enumerate(lanes.values()):
        floor = -row - 1.0
        axes.axhline(floor, color=f"C{row}", linewidth=0.6, alpha=0.4)
        axes.stairs(floor + _BAND * scores, edges, baseline=floor, fill=True, color=f"C{row}")
    axes.set_ylim(-len(lanes) - 0.1, 0)
    axes.set_yticks([-row - 0.6 for row in range(len(lanes))], [plain(name, 40) for name in lanes])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def plot_labels(scores: Sequence[Mapping[str, float]], edges: NDArray[np.float64], *, title: str, axes: Any | None) -> Any:
    """Draw the best lanes into axes, or into those of a new figure of pyplot, and return them."""
    lanes = best_lanes(scores)
    if axes is None:
        with needs("explain", "a chart"):
            import matplotlib.pyplot as plt
        axes = plt.figure(figsize=(10, 0.8 + 0.35 * max(1, len(lanes))), layout="constrained").subplots()
    draw_lanes(axes, lanes, edges)
    axes.set_title(plain(title, 100), loc="left", fontsize="medium", parse_math=False)
    axes.set_xlabel("seconds")
    axes.set_xlim(edges[0], edges[-1])
    return axes
