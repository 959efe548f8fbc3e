"""Camera motion of one video: alignments of chunks in, clips and segments out."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ig65m.motion.chunks import ChunkSpan
from ig65m.motion.clip_motion import clip_motion
from ig65m.motion.path import ClipPath, Paths, pairs_of
from ig65m.motion.segments import segments_of
from ig65m.motion.weights import MotionWeights
from ig65m.types import ClipMotion, MotionSegment


class Estimate:
    """What the camera did so far."""

    def __init__(self, weights: MotionWeights) -> None:
        self._weights = weights
        self._paths = Paths()
        self._clips: list[tuple[ClipMotion, tuple[str, ...]]] = []

    def add(self, alignments: NDArray[np.float32], span: ChunkSpan) -> None:
        """Add the next chunk of the video, and the network's alignments (len(PAIRS), sum(SIZES)) of it."""
        self._take(self._paths.add(span, pairs_of(alignments, span, self._weights)))

    def finish(self) -> tuple[tuple[ClipMotion, ...], tuple[MotionSegment, ...]]:
        """Return all clips and segments, after the last chunk."""
        self._take(self._paths.finish())
        return tuple(clip for clip, _ in self._clips), segments_of(self._clips, self._paths.cuts)

    def _take(self, paths: Iterable[ClipPath]) -> None:
        self._clips.extend(clip_motion(path, self._weights) for path in paths)
