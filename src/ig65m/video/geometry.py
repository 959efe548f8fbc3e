"""Sizes of resized pictures, and places of their crops: arithmetic only."""

from dataclasses import dataclass
from math import floor

from ig65m.types import Preprocessing

LONGEST = 32
"""Largest ratio of longer to shorter edge, if the aspect ratio is kept."""


@dataclass(frozen=True)
class PlacedCrop(Preprocessing):
    """Preprocessing for training, whose one crop is not in the centre."""

    place: tuple[float, float] = (0.5, 0.5)  # of the crop, down and right: from 0 (top, left) to 1 (bottom, right)


def resized_size(preprocessing: Preprocessing, height: int, width: int) -> tuple[int, int]:
    """Return height and width to which an upright picture of `height` x `width` is resized.

    Example: a shorter edge of 256 makes 256x455 of 720x1280, and 455x256 of 1280x720. Without a crop, both edges are multiplied
    by the scale in float64 and rounded down, as in `torch.nn.functional.interpolate`; a shorter edge of 128 becomes 127 if
    128 / 98 * 98 is less than 128.

    Raises ValueError if the picture is so long and thin that it would take too much memory.
    """
    if not isinstance(preprocessing.resize, int):
        return preprocessing.resize
    short = preprocessing.resize
    if max(height, width) > LONGEST * min(height, width):
        raise ValueError(f"its longer edge is more than {LONGEST} times the shorter one")
    if preprocessing.crop is None:
        scale = scale_of(preprocessing, height, width)
        return floor(height * scale), floor(width * scale)
    return (short, width * short // height) if height <= width else (height * short // width, short)


def scale_of(preprocessing: Preprocessing, height: int, width: int) -> float:
    """Return the factor by which both edges are multiplied, for a picture resized to a shorter edge."""
    assert isinstance(preprocessing.resize, int), "both edges have one factor if the aspect ratio is kept"
    return preprocessing.resize / min(height, width)


def crop_corners(preprocessing: Preprocessing, height: int, width: int) -> list[tuple[int, int]]:
    """Return top and left in pixels of each crop in a resized picture of `height` x `width`; the corner for a whole picture.

    From 128x171, the crop 112x112 is at row 8 and column 29, or 30 for "float_bilinear", which rounds 29.5 half to even. Three
    crops are at columns 0, 29 and 59. Source: VMZ's reader, Caffe2's video_input_op.
    """
    if preprocessing.crop is None:
        return [(0, 0)]
    down, right = height - preprocessing.crop[0], width - preprocessing.crop[1]
    if isinstance(preprocessing, PlacedCrop):
        top, left = (min(int(share * (room + 1)), room) for share, room in zip(preprocessing.place, (down, right), strict=True))
        return [(top, left)]
    corner = round if preprocessing.resampling == "float_bilinear" else int
    top, left, last = corner(down / 2), corner(right / 2), preprocessing.crops - 1
    if last == 0:
        return [(top, left)]
    if height < width:
        return [(top, number * right // last) for number in range(preprocessing.crops)]
    return [(number * down // last, left) for number in range(preprocessing.crops)]
