"""Probabilities of transitions -> shots: pure arithmetic on frames."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import isfinite
from operator import itemgetter
from typing import Final

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


def shots_of(times: Sequence[tuple[float, float]], scores: Sequence[tuple[float, float]], threshold: float) -> tuple[Shot, ...]:
    """Return the shots of a video, given start and end of each frame in seconds, and both its probabilities."""
    numbers = list(shot_numbers((middle for middle, _ in scores), threshold))
    runs = [
        (shot, [frame for frame, _ in group])
        for shot, group in groupby(enumerate(numbers), key=itemgetter(1))
        if shot is not None
    ]
    firsts = [frames[0] for _, frames in runs]
    shots = []
    for (_, frames), following in zip(runs, [*firsts, None][1:], strict=True):
        first, last = frames[0], frames[-1]
        transition: Transition = "end"
        score = None
        if following is not None:
            transition = kind_of(scores, last, following, threshold)
            score = max(middle for middle, _ in scores[last:following])
        shots.append(Shot(times[first][0], times[last][1], first, last, transition, score))
    return tuple(shots)


def kind_of(scores: Sequence[tuple[float, float]], last: int, following: int, threshold: float) -> Transition:
    """Return the kind of the transition from the shot whose last frame is `last` to the one whose first is `following`.

    It is gradual if more than LONGEST_CUT frames in sequence around it belong to a transition, by their second probability.
    """
    peak = max(range(last, following), key=lambda frame: scores[frame][1])
    start = end = peak
    while start > 0 and scores[start - 1][1] > threshold:
        start -= 1
    while end + 1 < len(scores) and scores[end + 1][1] > threshold:
        end += 1
    return "gradual" if end - start + 1 > LONGEST_CUT else "cut"
