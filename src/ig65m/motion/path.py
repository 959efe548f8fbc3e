"""The camera's path: displacements between pairs of frames, put together over the frames of a clip."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.models.aligner_plan import CELLS, PAIRS, SIZES
from ig65m.motion.chunks import FRAME_STEP, ChunkSpan
from ig65m.motion.fit import fit
from ig65m.motion.weights import MotionWeights
from ig65m.types import ClipSpan

FRAMES: Final = 8
"""Frames of a clip, FRAME_STEP apart."""

HOP: Final = 4
"""Of these, frames from one clip's start to the next one's."""

CUT: Final = 0.5
"""Probability of a cut between two frames from which the camera's path is not followed across it."""

EDGE_CELLS: Final = np.array([CELLS, CELLS, CELLS / 2, CELLS / 2])
"""Displacement of the picture's edge in cells, for one unit of a, b, s, r of `fit`."""

Moves = NDArray[np.float64]  # (..., 4): pan in widths, tilt in heights, zoom as logarithm, roll in degrees, of the camera


@dataclass(frozen=True)
class Pair:
    """The camera's move between two frames."""

    first: int  # of the frames that the network saw in a chunk, from 0
    second: int
    move: Moves  # (4,)
    sigma: Moves  # (4,), standard deviations
    cut: float  # probability of a cut between them
    parallax: float  # probability of parallax


@dataclass(frozen=True)
class ClipPath:
    """Position of the camera at the frames of a clip, relative to the first one, and how sure it is."""

    times: NDArray[np.float64]  # (frames,) in seconds
    numbers: NDArray[np.int64]  # (frames,) in the video
    positions: Moves  # (frames, 4)
    sigma: Moves  # (4,), standard deviation of the last position
    step_sigma: Moves  # (4,), that of a move between neighbours in the mean
    cut: float  # probability of a cut within the clip; the path is that of the longest part without one
    parallax: float
    span: ClipSpan


def pairs_of(alignments: NDArray[np.float32], span: ChunkSpan, weights: MotionWeights) -> list[Pair]:
    """Return the moves between the real frames of a chunk.

    alignments: of the network, (len(PAIRS), sum(SIZES)).
    """
    real = [pair for pair in PAIRS if pair[1] < len(span.times)]
    if not real:
        return []
    rows = alignments[[PAIRS.index(pair) for pair in real]].astype(np.float64)
    start, normal, target, judged = np.split(rows, np.cumsum(SIZES)[:-1], axis=1)
    similar, covariance = fit(np, start, normal.reshape(-1, 6, 6), target, np.full(len(rows), span.aspect))
    variance = np.diagonal(covariance, axis1=1, axis2=2) * EDGE_CELLS**2
    scale, floor = (weights.arrays[f"pair.{name}"].astype(np.float64) for name in ("log_scale", "log_floor"))
    sigma = np.sqrt(variance * np.exp(2 * scale) + np.exp(2 * floor)) / EDGE_CELLS
    sigma[:, 3] = np.degrees(sigma[:, 3])
    moves = steady_moves(similar, span.aspect)
    cut, parallax = _probability(judged).T.tolist()
    return [Pair(*pair, *values) for pair, *values in zip(real, moves, sigma, cut, parallax, strict=True)]


def steady_moves(similar: NDArray[np.float64], aspect: float) -> Moves:
    """Return the steady moves (P, 4) of the camera that move the content as a, b, s, r (P, 4) of `fit` say.

    In complex numbers, in half heights from the centre, content at z goes to m·z + t. A camera that turns and magnifies
    steadily while it pans has gone by t·log(m) / (m - 1) in its own axes: the generator of the similarity.
    """
    a, b, s, r = similar.T
    m, t = 1 + s + 1j * r, 2 * aspect * a + 2j * b
    generator = np.log(m)
    straight = np.abs(generator) < 1e-6
    gone = t * np.where(straight, 1, generator / np.where(straight, 1, m - 1))
    return np.stack([-gone.real / (2 * aspect), gone.imag / 2, generator.real, -np.degrees(generator.imag)], -1)


def _probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))


class Paths:
    """Puts pairs together: frames and pairs in, in order, the path of each clip out."""

    def __init__(self) -> None:
        self.cuts: list[float] = []  # in seconds
        self._frames: list[tuple[float, int]] = []  # time, and number in the video, of frames that belong to no clip yet
        self._pairs: list[Pair] = []  # of these frames
        self._given = False  # whether the first of these frames have been part of a clip
        self._end = 0.0
        self._cutting = -math.inf  # end of the last cut

    def add(self, span: ChunkSpan, pairs: Sequence[Pair]) -> Iterator[ClipPath]:
        """Take the frames of a chunk, and yield the paths of the clips that are complete."""
        if not span.joined:
            yield from self.finish()
        before = max(len(self._frames) - span.joined, 0)
        frames = [(time, span.first_frame + FRAME_STEP * index) for index, time in enumerate(span.times)]
        self._frames[before:] = frames
        self._pairs += [replace(pair, first=before + pair.first, second=before + pair.second) for pair in pairs]
        self._note_cuts(pairs, span.times)
        self._end = span.end
        while len(self._frames) >= FRAMES:
            yield self._path(FRAMES)
            self._frames = self._frames[HOP:]
            moved = [replace(pair, first=pair.first - HOP, second=pair.second - HOP) for pair in self._pairs]
            self._pairs = [pair for pair in moved if pair.first >= 0]
            self._given = True

    def _note_cuts(self, pairs: Sequence[Pair], times: Sequence[float]) -> None:
        """Note the middle of each run of neighbours between which there is a cut."""
        found = [pair for pair in pairs if pair.second == pair.first + 1 and pair.cut >= CUT]
        for pair in found:
            if self.cuts and self._cutting == times[pair.first]:
                self.cuts[-1] += (times[pair.second] - times[pair.first]) / 2
            else:
                self.cuts.append((times[pair.first] + times[pair.second]) / 2)
            self._cutting = times[pair.second]

    def finish(self) -> Iterator[ClipPath]:
        """Yield the path of the last frames, which are fewer than those of a clip."""
        fresh = len(self._frames) - (FRAMES - HOP if self._given else 0)
        if fresh > 0:
            yield self._path(len(self._frames))
        self._frames, self._pairs, self._given = [], [], False

    def _path(self, count: int) -> ClipPath:
        times = np.array([time for time, _ in self._frames[:count]])
        numbers = np.array([number for _, number in self._frames[:count]])
        inside = [pair for pair in self._pairs if pair.second < count]
        steps = {pair.first: pair for pair in inside if pair.second == pair.first + 1}
        cuts = [index + 1 for index, pair in sorted(steps.items()) if pair.cut >= CUT]
        start, end = max(pairwise([0, *cuts, count]), key=lambda part: part[1] - part[0])
        kept = [pair for pair in inside if pair.first >= start and pair.second < end and pair.cut < CUT]
        positions, sigma = solve(kept, start, end - start)
        # The last frame is shown until the next one starts.
        shown = (
            self._end if count == len(self._frames) else float(times[-1] + (times[-1] - times[0]) / (count - 1) / FRAME_STEP)
        )
        return ClipPath(
            times[start:end],
            numbers[start:end],
            positions,
            sigma,
            np.sqrt(np.mean([pair.sigma**2 for pair in kept], axis=0)) if kept else np.full(4, np.inf),
            max((pair.cut for pair in steps.values()), default=0.0),
            float(np.mean([pair.parallax for pair in kept])) if kept else 0.0,
            ClipSpan(float(times[0]), max(shown, float(times[0])), int(numbers[0]), int(numbers[-1])),
        )


def solve(pairs: Sequence[Pair], first: int, count: int) -> tuple[Moves, Moves]:
    """Return the positions (count, 4) of frames from `first` on that agree best with pairs, and the sigma (4,) of the last.

    A least-squares solution, weighted by the precision of each pair; the first position is 0.
    """
    positions = np.zeros((count, 4))
    if not pairs:
        return positions, np.full(4, np.inf)
    design = np.zeros((len(pairs), count))
    for row, pair in enumerate(pairs):
        design[row, pair.second - first] += 1
        design[row, pair.first - first] -= 1
    design = design[:, 1:]
    weight = np.stack([pair.sigma for pair in pairs], -1) ** -2  # (4, pairs)
    inverse = np.linalg.pinv(design.T @ (weight[:, :, None] * design), hermitian=True)
    target = design.T @ (weight * np.stack([pair.move for pair in pairs], -1))[:, :, None]
    positions[1:] = (inverse @ target)[:, :, 0].T
    return positions, np.sqrt(inverse[:, -1, -1])
