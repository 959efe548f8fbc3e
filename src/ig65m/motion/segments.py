"""Clips of a video -> segments in which the camera does the same."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise

import numpy as np

from ig65m.motion.clip_motion import EDGE, MOVES
from ig65m.types import ClipMotion, MotionSegment, Move


@dataclass(frozen=True)
class Part:
    """The time for which one clip speaks, and the camera's moves in it."""

    start: float
    end: float
    clip: ClipMotion
    moves: frozenset[str]


def segments_of(clips: Sequence[tuple[ClipMotion, tuple[str, ...]]], cuts: Sequence[float]) -> tuple[MotionSegment, ...]:
    """Put clips, with their moves and in order, together to segments; a segment ends at each of the `cuts`, in seconds.

    A move in a single clip that neither neighbour has does not make a segment of its own, and neither does a gap of one clip.
    """
    parts = _parts([clip for clip, _ in clips], _steady([frozenset(moves) for _, moves in clips]))
    groups: list[list[Part]] = []
    for part in parts:
        borders = [cut for cut in cuts if part.start < cut < part.end]
        edges = [part.start, *borders, part.end]
        for number, (start, end) in enumerate(pairwise(edges)):
            piece = Part(start, end, part.clip, part.moves)
            before = groups[-1][-1] if groups else None
            goes_on = before is not None and number == 0 and before.moves == part.moves and before.end == start
            if goes_on and start not in cuts:
                groups[-1].append(piece)
            else:
                groups.append([piece])
    return tuple(map(_segment, groups))


def _parts(clips: Sequence[ClipMotion], moves: Sequence[frozenset[str]]) -> list[Part]:
    """Divide the time between clips that overlap: each speaks for the time around its middle."""
    parts = []
    for index, (clip, names) in enumerate(zip(clips, moves, strict=True)):
        start, end = clip.start, clip.end
        if index and clips[index - 1].end > clip.start:
            start = (clip.start + clips[index - 1].end) / 2
        if index + 1 < len(clips) and clips[index + 1].start < clip.end:
            end = (clips[index + 1].start + clip.end) / 2
        parts.append(Part(start, end, clip, names))
    return parts


def _steady(moves: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """Let each move begin and end only where two clips in sequence agree: a running median of three."""
    if len(moves) < 3:
        return list(moves)
    padded = [moves[0], *moves, moves[-1]]
    return [
        frozenset(name for name in before | own | after if (name in before) + (name in own) + (name in after) >= 2)
        for before, own, after in zip(padded[:-2], padded[1:-1], padded[2:], strict=True)
    ]


def _segment(parts: Sequence[Part]) -> MotionSegment:
    length = np.array([part.end - part.start for part in parts])
    share = length / length.sum() if length.sum() > 0 else np.full(len(parts), 1 / len(parts))
    speeds, sigmas = (
        np.array([astuple(value) for value in values])
        for values in ([part.clip.speeds for part in parts], [part.clip.sigma for part in parts])
    )
    moves = []
    for name in parts[0].moves:
        column, sign = MOVES[name]
        # Clips overlap by half and share their errors, so the mean is no surer than a clip.
        moves.append(Move(name, max(0.0, float(sign * share @ speeds[:, column])), float(share @ sigmas[:, column])))
    order = list(MOVES)
    moves.sort(key=lambda move: (-move.speed * float(EDGE[MOVES[move.move][0]]), order.index(move.move)))
    mean = {
        name: float(share @ [getattr(part.clip, name) for part in parts]) for name in ("static", "shake", "cut", "parallax")
    }
    return MotionSegment(parts[0].start, parts[-1].end, tuple(moves), **mean)
