"""Results as HTML for notebooks: without scripts, in the notebook's own colours, foreign text escaped."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.display.feature_map import SMALL_CHANGE, changes, feature_levels, run_starts, viridis
from ig65m.display.png import indexed_png
from ig65m.errors import plain

MOST_ROWS: Final = 20  # most clips in a table
MOST_LABELS: Final = 10  # most labels of the whole video
_PICTURE: Final = (32, 400)  # most rows and columns of the picture of features
_BAR: Final = "rgba(95, 125, 220, 0.4)"  # seen on white and on black, with text upon it

ScoredLabels = Sequence[tuple[str, float]]
"""Labels and their scores, best first."""


def text(value: object, most: int = 200) -> str:
    """Foreign text as HTML: on one line, shortened, escaped."""
    return escape(plain(value, most))


def prediction_html(
    summary: Sequence[object],
    problem: str | None,
    labels: ScoredLabels,
    clips: Sequence[tuple[float, float, ScoredLabels]],
) -> str:
    """The labels of a video, and a table of its clips (start and end in seconds, labels): the first and last ones if there are
    more than MOST_ROWS.

    `summary`: what the video and the model are, the most important first. `problem`: why the video is partial or failed.
    """
    half, left_out = MOST_ROWS // 2, len(clips) - MOST_ROWS
    if left_out <= 0:
        rows = _rows(clips)
    else:
        rows = [*_rows(clips[:half]), ("…", "…", f"{left_out:,} more clips", ""), *_rows(clips[-half:])]
    best = [(text(label), _bar(score)) for label, score in labels[:MOST_LABELS]]
    heading = "In the whole video" if len(best) == len(labels) else f"The best {MOST_LABELS} of {len(labels)} labels"
    whole = _table(heading, ("label", "score"), best)
    shown = f"{len(clips):,} clips" if left_out <= 0 else f"The first and last {half} of {len(clips):,} clips"
    table = _table(shown, ("start (s)", "end (s)", "best label", "score"), rows)
    return _section(summary, problem, (whole if labels else "") + (table if clips else ""))


def features_html(summary: Sequence[object], problem: str | None, features: NDArray[np.floating]) -> str:
    """The features of a video (clips, C) as a picture: a column for each clip, and the curve of changes above.

    Features that are not pooled or not finite have no picture.
    """
    if features.ndim != 2 or features.size == 0 or not np.isfinite(features).all():
        return _section(summary, problem, "")
    levels = feature_levels(features, *_PICTURE)
    source = b64encode(indexed_png(levels, viridis())).decode()
    what = "A column for each clip, similar features in neighbouring rows; above, the change from clip to clip"
    wide = "display:block;width:100%;max-width:none;margin:0"
    picture = (
        f'{_curve(changes(features), wide)}<img alt="Features over time" src="data:image/png;base64,{source}" '
        f'style="{wide};height:96px;image-rendering:pixelated"/><small>{what}</small>'
    )
    return _section(summary, problem, f'<div style="max-width:720px">{picture}</div>')


def _curve(distances: NDArray[np.float64], style: str) -> str:
    """An area as high as the largest change of each column, between its clips."""
    if len(distances) == 0:
        return ""
    columns = run_starts(len(distances), _PICTURE[1])
    tops = np.maximum.reduceat(distances, columns)
    places = (columns + 1) / (len(distances) + 1)
    high = 24 * (1 - tops / max(SMALL_CHANGE, tops.max()))
    points = " ".join(f"{1000 * x:.0f},{y:.1f}" for x, y in zip(places, high, strict=True))
    first, last = f"{1000 * places[0]:.0f},24", f"{1000 * places[-1]:.0f},24"
    return (
        f'<svg role="img" aria-label="Change from clip to clip; the largest is {distances.max():.2f}" viewBox="0 0 1000 24" '
        f'preserveAspectRatio="none" style="{style};height:24px">'
        f'<polygon points="{first} {points} {last}" fill="currentColor" fill-opacity="0.6"/></svg>'
    )


def _section(summary: Sequence[object], problem: str | None, body: str) -> str:
    first, *others = [text(part) for part in summary]
    words = " · ".join([f"<strong>{first}</strong>", *others])
    warning = "" if problem is None else f'<p role="alert">⚠ {text(problem, 500)}</p>'
    return f"<div><p>{words}</p>{warning}{body}</div>"


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the cells are HTML."""
    left = ' style="text-align:left"'
    names = "".join(f'<th scope="col"{left}>{name}</th>' for name in head)
    lines = "".join(f"<tr>{''.join(f'<td{left}>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<table><caption style="text-align:left;color:inherit;font-weight:bold;padding-top:0.6em">{caption}</caption>'
        f"<thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>"
    )


def _rows(clips: Sequence[tuple[float, float, ScoredLabels]]) -> list[tuple[str, ...]]:
    return [(f"{start:.2f}", f"{end:.2f}", *_best(labels)) for start, end, labels in clips]


def _best(labels: ScoredLabels) -> tuple[str, str]:
    if not labels:
        return "none", ""
    label, score = labels[0]
    return text(label), _bar(score)


def _bar(score: float) -> str:
    """A score in percent, upon a bar as long as it."""
    percent = f"{100 * score:.0f}"
    style = f"min-width:8em;padding:0 0.4em;background:linear-gradient(to right, {_BAR} {percent}%, transparent {percent}%)"
    return f'<div style="{style}">{percent} %</div>'
