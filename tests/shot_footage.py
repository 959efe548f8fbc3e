"""Single takes of real footage, for tests of shots; no take has a cut of its own."""

from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.conftest import footage
from tests.videos import encode

Pictures = NDArray[np.uint8]

WIDTH, HEIGHT = 160, 96

_TAKES = {  # first frame; `bikes` has cuts after its frames 29, 75, 136, 186 and 241
    "rabbit": ("bigbuckbunny.mp4", 0),
    "street": ("bikes.mp4", 80),
    "square": ("bikes.mp4", 190),
}


@lru_cache
def take(name: str, count: int) -> Pictures:
    """(count, 96, 160, 3) RGB: the first frames of a take."""
    file, first = _TAKES[name]
    pictures = []
    with av.open(str(footage(file))) as video:
        for number, frame in enumerate(video.decode(video=0)):
            if number >= first + count:
                break
            if number >= first:
                pictures.append(frame.reformat(WIDTH, HEIGHT, "rgb24", interpolation="AREA").to_ndarray())
    assert len(pictures) == count
    return np.stack(pictures)


def lossless(path: Path, pictures: Pictures, *, times: list[int] | None = None) -> Path:
    """Writes pictures 40 ms apart, or at `times` in milliseconds, so that each frame decodes alike in whatever company."""
    return encode(path, pictures, times or [40 * number for number in range(len(pictures))], codec="ffv1")


def dissolve(before: Pictures, after: Pictures, count: int) -> Pictures:
    """One take after the other, `count` frames between them mixed from both: the last of one, the first of the other."""
    share = ((np.arange(count) + 1) / (count + 1))[:, None, None, None]
    mixed = before[-count:] * (1 - share) + after[:count] * share
    return np.concatenate([before[:-count], mixed.round().astype(np.uint8), after[count:]])
