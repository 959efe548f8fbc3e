"""Probabilities of transitions -> shots: pure arithmetic on frames."""

from collections.abc import Iterable, Iterator
from itertools import pairwise, takewhile
from math import isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError
from ig65m.types import Shot, Transition

THRESHOLD: Final = 0.5

LONGEST_CUT: Final = 2
"""Most frames that belong to a cut, by the second probability; more make a gradual transition."""


def check_threshold(threshold: float) -> None:
    """Raise UsageError unless the threshold is between 0 and 1."""
    if not (isinstance(threshold, int | float) and isfinite(threshold) and 0 < threshold < 1):
        raise UsageError(f"the threshold must be between 0 and 1, got {threshold!r}")


def shot_numbers(scores: Iterable[float], threshold: float) -> Iterator[int | None]:
    """Yield the number of each frame's shot, given the probability that the frame is the middle of a transition.

    A frame above the threshold after one that is not is the last of its shot. The frames above it that follow belong to no
    shot: None. A video that is above the threshold from its first frame to its last is one shot. Numbers come with the scores,
    but for those of a transition with which the video begins, which come after it.

    Source: `predictions_to_scenes` of TransNetV2.
    """
    shot, leading = 0, 0
    is_within = is_closed = False  # within a transition; which has closed a shot
    for frame, score in enumerate(scores):
        is_above = score > threshold
        if is_above and (frame == 0 or leading):
            leading += 1
        elif is_above:
            yield None if is_within else shot
            is_within = is_closed = True
        else:
            for _ in range(leading):
                yield None
            shot += is_closed
            leading, is_within, is_closed = 0, False, False
            yield shot
    for _ in range(leading):
        yield 0


def shots_of(
    times: NDArray[np.float64], middle: NDArray[np.float64], part: NDArray[np.float64], threshold: float
) -> tuple[Shot, ...]:
    """Return the shots of a video of n frames.

    Args:
        times: (n, 2) start and end of each frame in seconds.
        middle: (n,) probability that a frame is the middle of a transition.
        part: (n,) probability that a frame is part of a transition.
        threshold: Probability above which it is.
    """
    numbers = np.array([-1 if shot is None else shot for shot in shot_numbers(middle.tolist(), threshold)], np.int64)
    edges = np.flatnonzero(np.diff(numbers, prepend=-2, append=-2))
    spans = [(int(first), int(end)) for first, end in pairwise(edges) if numbers[first] >= 0]
    shots = []
    for (first, end), following in zip(spans, [*spans, None][1:], strict=True):
        transition: Transition = "end"
        score = None
        if following is not None:
            within = slice(end - 1, following[0])  # from the last frame of this shot on
            transition = kind_of(part, within, threshold)
            score = float(middle[within].max())
        shots.append(Shot(float(times[first, 0]), float(times[end - 1, 1]), first, end - 1, transition, score))
    return tuple(shots)


def kind_of(part: NDArray[np.float64], within: slice, threshold: float) -> Transition:
    """Return the kind of the transition whose middle is `within` these frames.

    It is gradual if more than LONGEST_CUT frames in sequence around it belong to a transition.
    """
    peak = within.start + int(part[within].argmax())
    before, after = part[max(0, peak - LONGEST_CUT) : peak][::-1], part[peak + 1 : peak + 1 + LONGEST_CUT]
    beside = [takewhile(lambda value: value > threshold, side.tolist()) for side in (before, after)]
    return "gradual" if 1 + sum(len(list(side)) for side in beside) > LONGEST_CUT else "cut"
