"""Features over time as a picture that people can read: features that rise and fall together are neighbours.

1. More than `columns` clips become as many means of equal runs.
2. Each feature is standardised over the columns: minus its mean, divided by its standard deviation; 0 if it does not
   change.
3. Rows are in the order of `feature_order`; more than `rows` of them become as many means of equal runs.
4. The colours of viridis reach from the 2nd to the 98th percentile of all these numbers.
"""

from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError

MOST_COLUMNS: Final = 2000
CONTRAST: Final = (2, 98)  # percentiles of the file at the ends of the colour map
SMALL_CHANGE: Final = 0.2  # a curve of changes reaches it at least, so that noise of a still video looks small
_CONSTANT: Final = 1e-6  # a smaller standard deviation, relative to the feature's largest value, is rounding
_VIRIDIS: Final = (  # of matplotlib (CC0): every fifth of its 256 colours
    "44015446085c471063481769481d6f482475472a7a46307e453781433d844142873f48893d4e8a3a538b38598c355e8d33638d31688e2e6d8e2c718e"
    "2a768e297b8e27808e25848e23898e218e8d20928c1f978b1e9c891fa18821a58524aa8328ae802eb37c35b7793dbc7446c06f50c46a5ac86465cb5e"
    "70cf577cd25089d54895d840a2da37b0dd2fbddf26cae11fd8e219e5e419f1e51dfde725"
)


@cache
def viridis() -> NDArray[np.uint8]:
    """Return the RGB colours of levels 0 to 255, (256, 3)."""
    anchors = np.frombuffer(bytes.fromhex(_VIRIDIS), np.uint8).reshape(-1, 3)
    levels = np.arange(256)
    columns = [np.interp(levels, levels[::5], column) for column in anchors.T]
    return np.rint(np.stack(columns, axis=1)).astype(np.uint8)


def run_starts(length: int, most: int) -> NDArray[np.int64]:
    """Return where each of at most `most` equal runs of so many items starts."""
    count = min(length, most)
    return np.arange(count) * length // count


def run_means(rows: NDArray[np.floating], most: int) -> NDArray[np.float64]:
    """Return the means of at most `most` equal runs of rows: (N, M) -> (at most `most`, M)."""
    edges = [*run_starts(len(rows), most), len(rows)]
    return np.stack([rows[start:end].mean(axis=0, dtype=np.float64) for start, end in pairwise(edges)])


def check_features(features: NDArray[np.floating]) -> None:
    """Raise UsageError unless features are finite, (clips, C), of at least one clip."""
    if features.ndim != 2 or 0 in features.shape:
        raise UsageError(f"a semantic code needs features (clips, C) of at least one clip, got {features.shape}")
    if not np.isfinite(features).all():
        raise UsageError("a semantic code needs finite features, but some are infinite or not a number")


def feature_levels(features: NDArray[np.floating], rows: int, columns: int = MOST_COLUMNS) -> NDArray[np.uint8]:
    """Features (clips, C) -> levels of the colour map (rows, columns), at most so many of each; 255 is the brightest.

    Raises UsageError as `check_features`.
    """
    check_features(features)
    scaled = _standardised(run_means(features, columns))
    ordered = run_means(scaled[:, feature_order(scaled)].T, rows)
    low, high = np.percentile(ordered, CONTRAST)
    share = (ordered - low) / (high - low) if high > low else np.zeros_like(ordered)
    return np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values (N, C) with mean 0 and standard deviation 1 in each column; 0 where a column is constant."""
    spread = values.std(axis=0)
    varies = spread > _CONSTANT * np.abs(values).max(axis=0)
    return np.asarray(np.where(varies, (values - values.mean(axis=0)) / np.where(varies, spread, 1), 0.0))


def feature_order(scaled: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the numbers of standardised features (N, C) in the order of rows: similar ones are neighbours, constant ones last.

    It is the order of the leaves of a tree: of all groups, the two whose features have the highest mean correlation are joined
    first (average linkage). Of the four ways to put two groups end to end, the one with the most similar neighbours is taken
    (Gruvaeus and Wainer, 1972). Ties are decided by the features' numbers, so that equal features give an equal order.
    """
    varying = np.flatnonzero(scaled.any(axis=0))
    constant = np.flatnonzero(~scaled.any(axis=0))
    if len(varying) == 0:
        return constant
    product = scaled[:, varying].T @ scaled[:, varying] / len(scaled)
    correlations = np.round((product + product.T) / 2, 6)  # symmetric, and without the last bits, which differ by machine
    return np.concatenate([varying[_leaves(correlations)], constant])


def _leaves(correlations: NDArray[np.float64]) -> list[int]:
    """Return the leaves of the tree in order, by chains of nearest neighbours: O(C²) for C features."""
    near = correlations.copy()
    np.fill_diagonal(near, -np.inf)
    groups = [[number] for number in range(len(near))]
    chain: list[int] = []
    for _ in range(len(groups) - 1):
        chain = chain or [next(number for number, group in enumerate(groups) if group)]
        while True:
            nearest = int(near[chain[-1]].argmax())
            if len(chain) > 1 and near[chain[-1], chain[-2]] >= near[chain[-1], nearest]:
                break  # the last two are nearest to each other
            chain.append(nearest)
        kept, joined = sorted((chain.pop(), chain.pop()))
        sizes = len(groups[kept]), len(groups[joined])
        near[kept] = near[:, kept] = (sizes[0] * near[kept] + sizes[1] * near[joined]) / sum(sizes)
        near[kept, kept] = near[joined] = near[:, joined] = -np.inf
        groups[kept] = _end_to_end(groups[kept], groups[joined], correlations)
        groups[joined] = []
    return groups[0]


def _end_to_end(first: list[int], second: list[int], correlations: NDArray[np.float64]) -> list[int]:
    ways = [(a, b) for a in (first, first[::-1]) for b in (second, second[::-1])]
    before, after = max(ways, key=lambda way: float(correlations[way[0][-1], way[1][0]]))
    return before + after


def changes(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the distance of each clip to the one before, (clips - 1,): 1 minus the cosine of the angle between their features.

    It is from 0 to 1 for features that are not negative, otherwise to 2. A zero vector has the distance 0 to another one, and 1
    to all others.
    """
    before, after = features[:-1], features[1:]
    lengths = np.sqrt(np.einsum("ij,ij->i", features, features, dtype=np.float64))
    products = lengths[:-1] * lengths[1:]
    dots = np.einsum("ij,ij->i", before, after, dtype=np.float64)
    cosines = np.where(products > 0, dots / np.where(products > 0, products, 1), lengths[:-1] == lengths[1:])
    return np.asarray(np.clip(1 - cosines, 0, 2))


def cell_edges(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges of the clips' columns in seconds, (clips + 1,).

    Between two clips that overlap it is halfway between their centres; otherwise as near to that as possible in the gap
    between them.
    """
    centres = (starts + ends) / 2
    between = (centres[:-1] + centres[1:]) / 2
    low, high = np.minimum(starts[1:], ends[:-1]), np.maximum(starts[1:], ends[:-1])
    return np.maximum.accumulate(np.concatenate([starts[:1], np.clip(between, low, high), [ends.max()]]))
