"""Exact search: products of vectors in blocks, the best of them once more in float64."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 1 << 24  # scores that are held at once
CLOSE: Final = 1e-5  # by which float32 may be wrong, with room to spare; in order of it nothing is decided


def cosines(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each row (n, C) with the query (n, C) or (C,), in float64 and the same wherever a row stands; 0 of zero vectors."""
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
    """Of the rows of a matrix (n, C) those whose best cosine with any of the queries (Q, C) is highest: row numbers, cosines,
    queries; at least `count`, where there are so many, and all that float32 cannot tell from these, in no order.

    All vectors are of length 1 (or 0). allowed: (n,), which rows may be taken. own: for each query the rows that it is not to
    be held against.
    """
    step = max(1024, min(1 << 18, BLOCK // len(queries)))
    rows, scores, asked = np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64)
    for first in range(0, len(matrix), step):
        part = None if allowed is None else allowed[first : first + step]
        if part is not None and not part.any():
            continue
        products = matrix[first : first + step] @ queries.T
        for query, theirs in enumerate(own):
            products[theirs[(theirs >= first) & (theirs < first + len(products))] - first, query] = -np.inf
        if part is not None:
            products[~part] = -np.inf
        which = products.argmax(1)
        highest = products[np.arange(len(products)), which]
        chosen = _highest(highest, count)
        rows = np.concatenate([rows, first + chosen])
        scores, asked = np.concatenate([scores, highest[chosen]]), np.concatenate([asked, which[chosen]])
        kept = _highest(scores, count)
        rows, scores, asked = rows[kept], scores[kept], asked[kept]
    exact = np.zeros(len(rows), np.float64)
    for first in range(0, len(rows), 4096):
        some = slice(first, first + 4096)
        exact[some] = cosines(matrix[rows[some]], queries[asked[some]])
    return rows, exact, asked


def _highest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Where the `count` highest stand and those that are as high but for CLOSE; never where it is -inf."""
    least = -np.inf if len(scores) <= count else np.partition(scores, len(scores) - count)[len(scores) - count] - CLOSE
    return np.flatnonzero((scores >= least) & (scores > -np.inf))
