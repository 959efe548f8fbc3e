"""Finds flashes: for some frames the picture is brighter, then it returns. TransNetV2 takes many of them for cuts."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.video.sample import Pixels

REACH: Final = 12
"""Most frames from a frame of a flash to the unlit frames before and after it."""

RISE: Final = 12.0
"""Least rise of the mean brightness, on 0..255."""

SETTLED: Final = 1 / 8
"""Most change of the mean brightness within three frames before a flash, or after it, as a share of the rise."""

ALIKE: Final = 0.6
"""Least correlation of pictures of the same shot."""

LEAST_CONTRAST: Final = 1.0
"""Least standard deviation of a picture, on 0..255, from which on its contents can be compared."""

SATURATED: Final = 240.0
"""Brightness from which on a flash leaves no contents; LEAST_SEEN is the share of a picture below it that can be compared."""

LEAST_SEEN: Final = 0.1

DARKER: Final = 12.0
"""A value that falls by more than this is not lit by a flash; MOST_DARKER is the share of them that noise may cause."""

MOST_DARKER: Final = 0.05


def flash_frames(frames: Iterable[Pixels]) -> Iterator[bool]:
    """Yield for each RGB frame on 0..255 whether it is part of a flash, or next to one. They come REACH + 1 frames late.

    A frame is lit by a flash if a darker frame shortly before it and one shortly after it show the same, which it shows too
    where it is not white, and hardly any of its values is darker than theirs.
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
    start, lit, end = (_coarse(pictures[number]) for number in (before, place, after))
    is_darker = pictures[place] < np.maximum(pictures[before], pictures[after]) - np.float32(DARKER)
    if is_darker.mean() > MOST_DARKER or not _alike(start, end):
        return False
    unsaturated = lit < SATURATED
    return bool(unsaturated.mean() < LEAST_SEEN) or _alike(start[unsaturated], lit[unsaturated])


def _unlit(brightness: list[float], place: int, step: int) -> int | None:
    """Return the nearest frame in one direction that is darker, and from which on the brightness has settled."""
    for number in range(place + step, len(brightness) if step > 0 else -1, step):
        rise = brightness[place] - brightness[number]
        beyond = brightness[min(max(number + 3 * step, 0), len(brightness) - 1)]
        if rise >= RISE and abs(beyond - brightness[number]) <= SETTLED * rise:
            return number
    return None


def _coarse(picture: Pixels) -> NDArray[np.float64]:
    """Return means of 3x3 pixels, which change little while the camera moves by a pixel: (27, 48, 3) -> (9, 16, 3)."""
    means: NDArray[np.float64] = picture.reshape(9, 3, 16, 3, 3).mean((1, 3), dtype=np.float64)
    return means


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Return whether two pictures have contents, and these correlate."""
    one, other = one - one.mean(), other - other.mean()
    contrast, other_contrast = float(np.sqrt((one * one).mean())), float(np.sqrt((other * other).mean()))
    if min(contrast, other_contrast) < LEAST_CONTRAST:
        return False
    return float((one * other).mean()) >= ALIKE * contrast * other_contrast
