"""A frame with its time and its orientation."""

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar, cast

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from numpy.typing import NDArray

NEWEST_KNOWN = max(cast(int, kind.value) for kind in SideDataType)
NEWEST_SIDE_DATA = 48
"""Kinds of AVFrameSideDataType: PyAV knows them up to the first value, and no FFmpeg has more than the second."""

Pixel = TypeVar("Pixel", np.uint8, np.float32)


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is turned to be displayed: transposed first, then flipped left-right and top-bottom."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def turn(self, picture: NDArray[Pixel]) -> NDArray[Pixel]:
        """(H, W, C) -> (H, W, C), or (W, H, C) if transposed; returns a view."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


@dataclass(frozen=True)
class Frame:
    """A decoded picture in its own pixel format, displayed from `time` to `end` in seconds of presentation time."""

    time: float
    end: float
    picture: av.VideoFrame
    orientation: Orientation = Orientation()
    begins: bool = False  # a recording ended before it, and another one starts

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright picture."""
        height, width = self.picture.height, self.picture.width
        return (width, height) if self.orientation.transpose else (height, width)


@dataclass(frozen=True)
class LostFrame:
    """A frame that was lost to damage; it would be displayed from `time` to `end`."""

    time: float
    end: float
    reason: str
    begins: bool = False  # as in `Frame`


def orientation_of(picture: av.VideoFrame) -> Orientation:
    """Return the orientation from a picture's display matrix. Rotations other than multiples of 90 degrees (within half a
    degree) are ignored.

    The matrix maps a stored (x, y), y downwards, to (a·x + c·y, b·x + d·y); source: libavutil/display.h.
    """
    for side_data in _side_data(picture):
        if side_data.type is SideDataType.DISPLAYMATRIX:
            a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
            if max(abs(a), abs(d)) * 100 < min(abs(b), abs(c)):
                return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)
            if max(abs(b), abs(c)) * 100 < min(abs(a), abs(d)):
                return Orientation(flip_x=a < 0, flip_y=d < 0)
    return Orientation()


class Orientations:
    """Orientation of the pictures of one video, read again only when the rotation changes.

    Reading a picture's side data makes PyAV create a reference cycle, so that the picture is not freed at once.
    """

    def __init__(self) -> None:
        self._known: dict[int, Orientation] = {}

    def of(self, picture: av.VideoFrame) -> Orientation:
        angle = picture.rotation
        if angle not in self._known:
            self._known[angle] = orientation_of(picture)
        return self._known[angle]


def _side_data(picture: av.VideoFrame) -> SideDataContainer:
    """Return a picture's side data. PyAV fails if one kind is newer than itself, such as EXIF; newer kinds are removed
    first.
    """
    try:
        return cast(SideDataContainer, picture.side_data)
    except ValueError:
        graph = Graph()
        source = graph.add_buffer(
            width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
        )
        newer = range(NEWEST_KNOWN + 1, NEWEST_SIDE_DATA)
        dropped = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in newer]
        graph.link_nodes(source, *dropped, graph.add("buffersink")).configure()
        graph.push(picture)
        return cast(SideDataContainer, cast(av.VideoFrame, graph.pull()).side_data)
