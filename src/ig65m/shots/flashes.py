"""Finds flashes: for some frames the picture is brighter, then it returns. TransNetV2 takes many of them for cuts."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.models.transnetv2_plan import BINS
from ig65m.video.sample import Pixels

REACH: Final = 12
"""Most frames from a frame of a flash to the unlit frames before and after it."""

RISE: Final = 12.0
"""Least rise of the mean brightness, on 0..255."""

SETTLED: Final = 1 / 8
"""Most change of the mean brightness within three frames before a flash, or after it, as a share of the rise."""

ALIKE: Final = 0.8
"""Least share of pixels in which the colours of the pictures before and after a flash agree."""

DARKER: Final = 12.0
"""A value that falls by more than this is not lit by a flash; MOST_DARKER is the share of them that noise may cause."""

MOST_DARKER: Final = 0.05


def flash_frames(frames: Iterable[Pixels]) -> Iterator[bool]:
    """Yield for each RGB frame on 0..255 whether it is part of a flash, or next to one. They come REACH + 1 frames late.

    A frame is lit by a flash if a darker frame shortly before it and one shortly after it have the same colours, and hardly any
    of its values is darker than theirs.
    """
    before = False
    for lit, after in _with_next(_lit(frames)):
        yield before or lit or after
        before = lit


def _with_next(values: Iterable[bool]) -> Iterator[tuple[bool, bool]]:
    """Yield each value and the next one; after the last one comes False."""
    held: bool | None = None
    for value in values:
        if held is not None:
            yield held, value
        held = value
    if held is not None:
        yield held, False


def _lit(frames: Iterable[Pixels]) -> Iterator[bool]:
    pictures: list[Pixels] = []  # at most REACH before and after frame `place`
    brightness: list[float] = []
    place = 0
    for frame in frames:
        pictures.append(frame)
        brightness.append(float(frame.mean()))
        if len(pictures) - place > REACH:
            yield _is_lit(pictures, brightness, place)
            if place == REACH:
                del pictures[0], brightness[0]
            else:
                place += 1
    for rest in range(place, len(pictures)):
        yield _is_lit(pictures[max(0, rest - REACH) :], brightness[max(0, rest - REACH) :], min(rest, REACH))


def _is_lit(pictures: list[Pixels], brightness: list[float], place: int) -> bool:
    before = _unlit(brightness, place, -1)
    after = _unlit(brightness, place, 1)
    if before is None or after is None:
        return False
    start, end = pictures[before].astype(np.float32), pictures[after].astype(np.float32)
    is_darker = pictures[place] < np.maximum(start, end) - DARKER
    shared = np.minimum(_colours(pictures[before]), _colours(pictures[after])).sum()
    return bool(is_darker.mean() <= MOST_DARKER and shared >= ALIKE)


def _unlit(brightness: list[float], place: int, step: int) -> int | None:
    """Return the nearest frame in one direction that is darker, and from which on the brightness has settled."""
    for number in range(place + step, len(brightness) if step > 0 else -1, step):
        rise = brightness[place] - brightness[number]
        beyond = brightness[min(max(number + 3 * step, 0), len(brightness) - 1)]
        if rise >= RISE and abs(beyond - brightness[number]) <= SETTLED * rise:
            return number
    return None


def _colours(picture: Pixels) -> NDArray[np.float64]:
    """Return the share of pixels of each of 512 colours, eight levels a channel; a moving camera changes it little."""
    levels = (picture.reshape(-1, 3) // 32).astype(np.intp)
    colours = levels @ np.array([64, 8, 1])
    return np.bincount(colours, minlength=BINS) / len(colours)
