"""One picture with its time, and which way up it is to be shown."""

from dataclasses import dataclass
from typing import TypeVar, cast

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", np.uint8, np.float32)


@dataclass(frozen=True)
class Orientation:
    """From a picture as stored to one as shown: rows and columns exchanged first, then left and right, top and bottom."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def turn(self, picture: NDArray[Pixel]) -> NDArray[Pixel]:
        """(H, W, C) -> (H, W, C), or (W, H, C) if transposed; a view."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


@dataclass(frozen=True)
class Frame:
    """A decoded picture in its own pixel format, on display from `time` to `end` (seconds of presentation time)."""

    time: float
    end: float
    picture: av.VideoFrame
    orientation: Orientation = Orientation()


def orientation_of(picture: av.VideoFrame) -> Orientation:
    """From the picture's display matrix; a turn that is no multiple of 90 degrees (within half a degree) is left out.

    The matrix maps a stored (x, y), y downwards, to (a·x + c·y, b·x + d·y); source: libavutil/display.h.
    """
    for side_data in cast(SideDataContainer, picture.side_data):
        if side_data.type is SideDataType.DISPLAYMATRIX:
            a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
            if max(abs(a), abs(d)) * 100 < min(abs(b), abs(c)):
                return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)
            if max(abs(b), abs(c)) * 100 < min(abs(a), abs(d)):
                return Orientation(flip_x=a < 0, flip_y=d < 0)
    return Orientation()
