"""Exact search: matrix products in blocks; the best rows are compared again in float64."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 1 << 24  # most scores in memory at once
CLOSE: Final = 1e-5  # scores closer than this are compared again in float64


def cosines(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines of rows (n, C) with the query (n, C) or (C,), in float64 and independent of a row's position; 0 for zero
    vectors.
    """
    exact, other = vectors.astype(np.float64), queries.astype(np.float64)
    norms = np.sqrt((exact * exact).sum(-1)) * np.sqrt((other * other).sum(-1))
    products: NDArray[np.float64] = (exact * other).sum(-1)
    exact_cosines: NDArray[np.float64] = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return exact_cosines.clip(-1.0, 1.0)


def best(
    matrix: NDArray[np.float32],
    queries: NDArray[np.float32],
    count: int,
    *,
    allowed: NDArray[np.bool_] | None = None,
    own: Sequence[NDArray[np.int64]] = (),
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Find the rows of a matrix (n, C) with the highest cosine to any query (Q, C).

    Returns row numbers, cosines, and query numbers, in no order: at least `count` rows if there are as many, and all that
    float32 cannot tell from these.

    All vectors have length 1 or 0. allowed: (n,), whether a row may be returned. own: for each query, rows that it is not
    compared with.
    """
    step = max(1024, min(1 << 18, BLOCK // len(queries)))
    some = None
    if allowed is not None and 4 * np.count_nonzero(allowed) < len(allowed):
        some, step = np.flatnonzero(allowed), min(step, max(1, BLOCK // matrix.shape[1]))
    rows, scores, asked = np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64)
    for first in range(0, len(matrix) if some is None else len(some), step):
        here = np.arange(first, min(first + step, len(matrix))) if some is None else some[first : first + step]
        products = (matrix[first : first + step] if some is None else matrix[here]) @ queries.T
        products[np.isnan(products)] = -np.inf  # from a damaged file of vectors
        for query, theirs in enumerate(own):
            places = np.searchsorted(here, theirs[(theirs >= here[0]) & (theirs <= here[-1])])
            products[places[np.isin(here[places], theirs)], query] = -np.inf
        if some is None and allowed is not None:
            products[~allowed[first : first + step]] = -np.inf
        which = products.argmax(1) if len(queries) > 1 else np.zeros(len(products), np.int64)
        highest = products[:, 0] if len(queries) == 1 else np.take_along_axis(products, which[:, None], 1)[:, 0]
        chosen = _highest(highest, count)
        rows = np.concatenate([rows, here[chosen]])
        scores, asked = np.concatenate([scores, highest[chosen]]), np.concatenate([asked, which[chosen]])
        kept = _highest(scores, count)
        rows, scores, asked = rows[kept], scores[kept], asked[kept]
    exact = np.zeros(len(rows), np.float64)
    for first in range(0, len(rows), 4096):
        part = slice(first, first + 4096)
        exact[part] = cosines(matrix[rows[part]], queries[asked[part]])
    return rows, exact, asked


def _highest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the positions of the `count` highest scores, and of those within CLOSE of them; never of -inf."""
    least = -np.inf if len(scores) <= count else np.partition(scores, len(scores) - count)[len(scores) - count] - CLOSE
    return np.flatnonzero((scores >= least) & (scores > -np.inf))
