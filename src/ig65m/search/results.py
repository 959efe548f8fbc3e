"""Rows of an index that were found -> hits, merged as asked for."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ig65m.search.hits import Hit, Merge, best_moments
from ig65m.search.rows import Rows


def found_hits(find: Callable[[int], list[Hit]], count: int, rows: Rows, merge: Merge) -> list[Hit]:
    """Return `count` hits or moments of `find`, which is asked for more until they are enough or all."""
    if not merge:
        return find(min(count, len(rows)))
    fetched = min(4 * count, len(rows))
    while True:
        hits = find(fetched)
        moments = best_moments(hits, count, by_shot=merge == "shot")
        if len(moments) >= count or len(hits) < fetched or fetched == len(rows):
            return [_whole_shot(rows, moment) for moment in moments] if merge == "shot" else moments
        fetched = min(4 * fetched, len(rows))


def _whole_shot(rows: Rows, hit: Hit) -> Hit:
    """Extend a hit to the span of its shot, if that is known."""
    if hit.shot is None:
        return hit
    clips = rows.of_shot(hit.video, hit.shot)
    return replace(hit, start=float(rows.start[clips].min()), end=float(rows.end[clips].max()))


def hits_of(
    rows: Rows, found: NDArray[np.int64], scores: NDArray[np.float64], asked: NDArray[np.int64], count: int
) -> list[Hit]:
    """Return the best `count` of the rows found, with their scores and the numbers of their queries, as hits."""
    order = np.lexsort((rows.clip[found], rows.rank[rows.source[found]], -scores))[:count]
    hits = []
    for place in order:
        row = int(found[place])
        source, span = rows.sources[rows.source[row]], rows.span(row)
        score, query = float(scores[place]), int(asked[place])
        hits.append(Hit(source.name, source.path, score, span.start, span.end, rows.labels(row), query, span.shot))
    return hits
