"""Recall of an index against exact search."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError
from ig65m.search.hits import Hit
from ig65m.search.index import Index, Kind

ALIKE: Final = 1e-6  # hits whose cosine is this close to the last exact hit's are equal in float32


@dataclass(frozen=True)
class Recall:
    """Recall and latency of an index."""

    kind: Kind
    clips: int
    queries: int
    count: int  # hits of each query
    recall: float  # share of the nearest clips that is found, mean over queries
    least: float  # the lowest share of a query
    median_ms: float
    p99_ms: float
    exact_median_ms: float
    exact_p99_ms: float


def measure_recall(
    index: Index, *, queries: int = 100, count: int = 10, vectors: NDArray[np.float32] | None = None, seed: int = 0
) -> Recall:
    """Compare the index with exact search, for `queries` random clips of its own, or for `vectors` (Q, C).

    Raises UsageError for an empty index, or numbers below 1.
    """
    if queries < 1 or count < 1:
        raise UsageError(f"expected at least one query and one hit, got {queries} and {count}")
    if len(index) == 0:
        raise UsageError(f"{index.folder} is empty; add features to it first")
    if vectors is None:
        vectors = index.sample(queries, seed)
    shares, times, exact_times = [], [], []
    index.search(vectors[:1], count)
    index.search(vectors[:1], count, exact=True)
    for query in vectors[:, None]:
        took, found = _timed(partial(index.search, query, count))
        exact_took, wanted = _timed(partial(index.search, query, count, exact=True))
        least = wanted[-1].score - ALIKE
        shares.append(sum(hit.score >= least for hit in found[: len(wanted)]) / len(wanted))
        times.append(took)
        exact_times.append(exact_took)
    return Recall(
        kind=index.kind,
        clips=len(index),
        queries=len(vectors),
        count=count,
        recall=float(np.mean(shares)),
        least=min(shares),
        median_ms=float(np.median(times)),
        p99_ms=float(np.quantile(times, 0.99)),
        exact_median_ms=float(np.median(exact_times)),
        exact_p99_ms=float(np.quantile(exact_times, 0.99)),
    )


def _timed(work: Callable[[], list[Hit]]) -> tuple[float, list[Hit]]:
    start = time.perf_counter()
    hits = work()
    return 1e3 * (time.perf_counter() - start), hits
