"""Reads one picture of a video, for thumbnails."""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, cast

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from ig65m.errors import UsageError, VideoError
from ig65m.types import Limits
from ig65m.video.decoding import too_large
from ig65m.video.frame import orientation_of
from ig65m.video.images import list_images, read_image
from ig65m.video.reader import open_video

MOST_EDGE: Final = 4096
MOST_DECODED: Final = 2_000
"""Most pictures decoded from a key frame to the requested time; the last one is returned then."""


class View(NamedTuple):
    """The picture at `time` in seconds of the stream, at most `edge` pixels on either side."""

    time: float
    edge: int


def read_picture(path: Path, view: View, *, image_fps: float, limits: Limits) -> NDArray[np.uint8]:
    """Return the picture displayed at a time as RGB (height, width, 3): upright, with its aspect ratio, never enlarged.

    In a container without an exact index it may be a neighbouring picture. Before the start it is the first picture, after the
    end the last. Raises VideoError if nothing can be decoded there, UsageError if `edge` is out of range.
    """
    if not 1 <= view.edge <= MOST_EDGE:
        raise UsageError(f"the edge of a picture must be from 1 to {MOST_EDGE} pixels, got {view.edge}")
    if path.is_dir():
        images = list_images(path)
        number = min(len(images) - 1, max(0, int(view.time * image_fps)))
        return _shown(read_image(images[number], limits), Fraction(1), view.edge)
    late: av.VideoFrame | None = None
    for is_seeking in (True, False) if view.time > 0 else (False,):
        with open_video(path, limits) as (container, stream):  # reopened, since a failed seek has moved the position
            if is_seeking:
                try:
                    container.seek(int(view.time * av.time_base))
                except av.FFmpegError:
                    continue
            picture = _last_until(view.time, container.decode(stream), limits)
            if picture is not None and (not is_seeking or (_due(picture) or 0.0) <= view.time):
                return _shown(picture, stream.sample_aspect_ratio or Fraction(1), view.edge)
            late = late or picture
    if late is None:
        raise VideoError(f"{path}: no picture can be decoded")
    return _shown(late, Fraction(1), view.edge)


def _last_until(time: float, pictures: Iterator[av.VideoFrame], limits: Limits) -> av.VideoFrame | None:
    """Return the last good picture displayed at `time` or before, else the first after it; None if there is none."""
    last = None
    with suppress(av.FFmpegError):
        for picture in islice(pictures, MOST_DECODED):
            if picture.is_corrupt or too_large(picture.width, picture.height, limits):
                continue
            if last is not None and (due := _due(picture)) is not None and due > time:
                break
            last = picture
    return last


def _due(picture: av.VideoFrame) -> float | None:
    """Return the presentation time of a picture; without one, as in AVI, its decoding time."""
    stamp = picture.dts if picture.pts is None else picture.pts
    return None if stamp is None or picture.time_base is None else float(stamp * picture.time_base)


def _shown(picture: av.VideoFrame, pixel_aspect: Fraction, edge: int) -> NDArray[np.uint8]:
    width, height = float(picture.width * pixel_aspect), float(picture.height)
    scale = min(1.0, edge / max(width, height))
    try:
        small = picture.reformat(
            max(1, round(width * scale)), max(1, round(height * scale)), "rgb24", interpolation=Interpolation.AREA
        )
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"cannot convert a picture of pixel format {picture.format.name} ({error})") from error
    return np.ascontiguousarray(orientation_of(picture).turn(cast("NDArray[np.uint8]", small.to_ndarray())))
