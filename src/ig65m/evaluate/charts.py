"""Charts of the report as inline SVG; their colours are in report.css."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.display.html import text
from ig65m.metrics import CalibrationBins

WITH_NAMES: Final = 30  # most classes whose names are beside the confusion matrix
_SIZE: Final = 300  # side of the reliability diagram's square
_CELL: Final = 34  # side of a cell with a number
_NAME: Final = 24  # most characters of a name
_LEVELS: Final = 9  # shades of the confusion matrix


def reliability_diagram(bins: CalibrationBins) -> str:
    """Accuracy over confidence in each bin, and below it the share of the scores in each bin."""
    counts, confidence, accuracy = _without_ones(bins)
    count = len(counts)
    width, strip = _SIZE / count, 60
    parts = [_grid()]
    for number in np.flatnonzero(counts):
        x, share = number * width, counts[number] / counts.sum()
        low, high = sorted((accuracy[number], confidence[number]))
        title = (
            f"<title>scores {number / count:.2f} to {(number + 1) / count:.2f}: {counts[number]:,} of them, "
            f"mean {confidence[number]:.3f}, correct {accuracy[number]:.3f}</title>"
        )
        parts.append(
            f'<g>{title}<rect class="bar" {_box(x + 1, _SIZE * (1 - accuracy[number]), width - 2, _SIZE * accuracy[number])}/>'
            f'<rect class="gap" {_box(x + 1, _SIZE * (1 - high), width - 2, _SIZE * (high - low))}/>'
            f'<rect class="count" {_box(x + 1, _SIZE + 40 + strip * (1 - share), width - 2, strip * share)}/></g>'
        )
    parts.append(f'<path class="ideal" d="M0 {_SIZE}L{_SIZE} 0"/>')
    parts.append(f'<path class="axis" d="M0 {_SIZE + 40 + strip}H{_SIZE}"/>')
    labels = (
        f'<text x="{_SIZE / 2}" y="{_SIZE + 34}" text-anchor="middle">score</text>'
        f'<text transform="translate(-36 {_SIZE / 2}) rotate(-90)" text-anchor="middle">share correct</text>'
        f'<text transform="translate(-12 {_SIZE + 40 + strip / 2}) rotate(-90)" text-anchor="middle">share</text>'
    )
    return (
        f'<svg class="reliability" viewBox="-48 -10 {_SIZE + 62} {_SIZE + strip + 58}" role="img" '
        f'aria-label="Reliability diagram">{"".join(parts)}{labels}</svg>'
    )


def _without_ones(bins: CalibrationBins) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Counts, confidence and accuracy with the scores of exactly 1 in the last of the equal bins."""
    starts = np.minimum(np.arange(len(bins.counts)), len(bins.counts) - 2)
    counts = np.bincount(starts, bins.counts).astype(np.int64)
    confidence, accuracy = (
        np.bincount(starts, each * bins.counts) / np.maximum(counts, 1) for each in (bins.confidence, bins.accuracy)
    )
    return counts, confidence, accuracy


def _grid() -> str:
    lines = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        at = round(_SIZE * (1 - tick), 2)
        lines.append(f'<path class="grid" d="M0 {at}H{_SIZE}"/><text x="-6" y="{at + 4}" text-anchor="end">{tick:g}</text>')
        lines.append(f'<text x="{_SIZE * tick:g}" y="{_SIZE + 16}" text-anchor="middle">{tick:g}</text>')
    return "".join(lines)


def confusion_chart(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Heat map of a confusion matrix: a row for each true class, shaded by its share of the row."""
    counts = np.array(matrix, np.int64)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    levels = np.ceil(shares * _LEVELS).astype(int)
    opening = '<svg role="img" aria-label="Confusion matrix"'
    if len(labels) <= WITH_NAMES:
        side, room = _CELL * len(labels), 10 + 6.6 * max(min(_NAME, len(label)) for label in labels)
        top = 14 + room * 0.75
        width, height = side + 1.75 * room, side + top + 4
        opening += (
            f' class="confusion" style="max-width:{width:.0f}px" viewBox="{-room:.0f} {-top:.0f} {width:.0f} {height:.0f}"'
        )
        squares = _squares(levels, _CELL, 0.12) + _names(labels) + _numbers(counts, levels)
    else:
        side = len(labels)
        opening += f' class="confusion many" viewBox="0 0 {side} {side}" shape-rendering="crispEdges"'
        squares = _squares(levels, 1, 0.45)  # single pixels, which would be too faint
    return f'{opening}><rect class="ground" width="{side}" height="{side}"/>{squares}</svg>'


def _squares(levels: NDArray[np.int64], cell: int, least: float) -> str:
    """A path for each level on and beside the diagonal; `least` is the opacity just above level 0."""
    correct = np.eye(len(levels), dtype=bool)
    paths = []
    for level in range(1, _LEVELS + 1):
        for kind, cells in (("hit", correct), ("miss", ~correct)):
            places = np.argwhere((levels == level) & cells)
            squares = "".join(f"M{column * cell} {row * cell}h{cell}v{cell}h-{cell}z" for row, column in places)
            if squares:
                paths.append(f'<path class="{kind}" fill-opacity="{least + (1 - least) * level / _LEVELS:.2f}" d="{squares}"/>')
    return "".join(paths)


def _names(labels: Sequence[str]) -> str:
    words = []
    for number, label in enumerate(labels):
        at, name = number * _CELL + _CELL / 2 + 4, text(label, _NAME)
        words.append(f'<text x="-8" y="{at}" text-anchor="end">{name}</text>')
        words.append(f'<text transform="translate({at} -8) rotate(-45)">{name}</text>')
    return "".join(words)


def _numbers(counts: NDArray[np.int64], levels: NDArray[np.int64]) -> str:
    words = []
    for row, column in np.argwhere(counts):
        kind = "number strong" if levels[row, column] > _LEVELS / 2 else "number"
        x, y = column * _CELL + _CELL / 2, row * _CELL + _CELL / 2 + 4
        words.append(f'<text class="{kind}" x="{x}" y="{y}" text-anchor="middle">{counts[row, column]}</text>')
    return "".join(words)


def _box(x: float, y: float, width: float, height: float) -> str:
    return f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
