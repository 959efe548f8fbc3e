"""Reads one picture of a video, for thumbnails."""

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ig65m.errors import UsageError, VideoError
from ig65m.types import Limits
from ig65m.video.decoding import too_large
from ig65m.video.frame import orientation_of
from ig65m.video.frame_index import CONTAINERS, read_index
from ig65m.video.image_files import list_images
from ig65m.video.images import read_image
from ig65m.video.jobs import View
from ig65m.video.reader import has_format, open_video
from ig65m.video.sample import SeekError
from ig65m.video.seeking import frames_at

MOST_EDGE: Final = 4096
MOST_DECODED: Final = 2_000
"""Most pictures decoded without an index; from the start of a file, the last one is returned then."""


def read_picture(path: Path, view: View, *, image_fps: float, limits: Limits) -> NDArray[np.uint8]:
    """Return the picture displayed at a time as RGB (height, width, 3): upright, with its aspect ratio, never enlarged.

    In a container without an exact index it may be a neighbouring picture. Before the start it is the first picture, after the
    end the last. Most often a seek and a few pictures are enough; else the index of frames is read.

    Raises VideoError if nothing can be decoded there, UsageError if `edge` is out of range.
    """
    if not 1 <= view.edge <= MOST_EDGE:
        raise UsageError(f"the edge of a picture must be from 1 to {MOST_EDGE} pixels, got {view.edge}")
    if path.is_dir():
        images = list_images(path)
        number = min(len(images) - 1, max(0, int(view.time * image_fps)))
        return _shown(read_image(images[number], limits), Fraction(1), view.edge)
    with open_video(path, limits) as (container, stream):
        aspect = stream.sample_aspect_ratio or Fraction(1)
        picture = _by_seeking(container, stream, view.time, limits)
    for find in (_by_index, _from_start):
        picture = picture or find(path, view.time, limits)
    if picture is None:
        raise VideoError(f"{path}: no picture can be decoded")
    return _shown(picture, aspect, view.edge)


def _by_seeking(container: InputContainer, stream: VideoStream, time: float, limits: Limits) -> av.VideoFrame | None:
    """Return the picture if decoding starts at a key frame displayed before it; else None.

    Where no index would be exact, decoding may start anywhere before it.
    """
    if time <= (stream.start_time or 0) * (stream.time_base or 0):
        return None
    try:
        container.seek(int(time * av.time_base))
    except av.FFmpegError:
        return None
    found = _last_until(time, container.decode(stream), limits)
    if found is None or (_due(found.first) or 0.0) > time:
        return None
    is_exact = found.first.key_frame and found.is_reached
    return found.last if is_exact or not has_format(container, *CONTAINERS) else None


def _by_index(path: Path, time: float, limits: Limits) -> av.VideoFrame | None:
    """Return the picture by the index of frames; None if that is not exact."""
    limits = replace(limits, frames=Limits().frames)  # few of them are decoded
    try:
        index = read_index(path, limits)
        number = max(0, int(np.searchsorted(index.times[:-1], time, side="right")) - 1)
        with closing(frames_at(path, index, [number], limits)) as frames:
            return next(frames).picture
    except SeekError:
        return None


def _from_start(path: Path, time: float, limits: Limits) -> av.VideoFrame | None:
    """Return the picture by decoding everything before it; None if nothing can be decoded."""
    with open_video(path, limits) as (container, stream):
        found = _last_until(time, container.decode(stream), limits)
        return None if found is None else found.last


class _Found(NamedTuple):
    """Good pictures: the first one, and the last one displayed at a time or before; if there is none, the first again."""

    first: av.VideoFrame
    last: av.VideoFrame
    is_reached: bool  # whether decoding got as far as that time, or as the pictures could be decoded


def _last_until(time: float, pictures: Iterator[av.VideoFrame], limits: Limits) -> _Found | None:
    """Decode up to a time; return None if there is no good picture."""
    first = last = None
    is_reached = True
    with suppress(av.FFmpegError):
        for count, picture in enumerate(pictures):
            if count == MOST_DECODED:
                is_reached = False
                break
            if picture.is_corrupt or too_large(picture.width, picture.height, limits):
                continue
            if last is not None and (due := _due(picture)) is not None and due > time:
                break
            first, last = first or picture, picture
    return None if first is None or last is None else _Found(first, last, is_reached)


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
