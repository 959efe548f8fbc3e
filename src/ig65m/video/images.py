"""Reads a folder of images as a video."""

from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.filter import Graph

from ig65m.errors import UsageError, VideoError
from ig65m.types import Limits
from ig65m.video.decoding import describe_error, options, too_large
from ig65m.video.frame import Frame, LostFrame, orientation_of
from ig65m.video.image_files import image_codec, list_images

MOST_BYTES = 1 << 30
"""Largest image file in bytes."""


def read_images(folder: Path, *, fps: float, limits: Limits) -> Generator[Frame | LostFrame, None, None]:
    """Yield the images of a folder as frames, `fps` a second, the first at 0 s; sizes may differ.

    An image that cannot be decoded becomes a LostFrame. Raises VideoError if there are no images, or none that can be decoded
    after the last good one; UsageError if `fps` is not positive.
    """
    if not 0 < fps < float("inf"):
        raise UsageError(f"image_fps must be a positive number of frames a second, got {fps}")
    failure: VideoError | None = None
    until: float | None = None
    for i, path in enumerate(list_images(folder)):
        if i == limits.frames:
            raise VideoError(f"{path}: more than {i:,} images; raise --max-frames to read them", last_good_time=until)
        try:
            picture = read_image(path, limits, last_good_time=until)
        except VideoError as error:
            failure = failure or error
            yield LostFrame(i / fps, (i + 1) / fps, f"{path.name} is not a readable image")
            continue
        failure, until = None, (i + 1) / fps
        yield Frame(i / fps, until, picture, orientation_of(_stamp_sized(picture)))
    if failure is not None:
        raise failure


def read_image(path: Path, limits: Limits, *, last_good_time: float | None = None) -> av.VideoFrame:
    """Read an image. Raises VideoError with `last_good_time` if it cannot be decoded."""
    try:
        return _decode(path, limits)
    except (av.FFmpegError, OSError) as error:
        reason = describe_error(error, limits) if isinstance(error, av.FFmpegError) else error
        raise VideoError(
            f"{path}: not a readable image ({reason}); repair or remove it", last_good_time=last_good_time
        ) from error


def _decode(path: Path, limits: Limits) -> av.VideoFrame:
    if not path.is_file():
        raise OSError("no regular file")
    if path.stat().st_size > MOST_BYTES:
        raise OSError(f"more than {MOST_BYTES:,} bytes")
    data = path.read_bytes()
    codec = image_codec(data)
    if codec is None:
        raise OSError("expected JPEG, PNG, BMP or WebP")
    decoder = cast(av.VideoCodecContext, av.VideoCodecContext.create(codec, "r"))
    decoder.options = options(limits)
    pictures = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
    if not pictures:
        raise OSError("no picture in it")
    if pictures[0].is_corrupt or (codec == "mjpeg" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")):
        raise OSError(
            "damaged or truncated"
        )  # JPEG has an end marker after its last scan; the decoder fills in missing data silently
    large = too_large(pictures[0].width, pictures[0].height, limits)
    if large is not None:
        raise OSError(large)
    return pictures[0]


def _stamp_sized(picture: av.VideoFrame) -> av.VideoFrame:
    """Return a picture of 2 x 2 pixels with the same side data.

    A picture whose side data were read is not freed at once, being in a reference cycle, and photographs are large.
    """
    graph = Graph()
    source = graph.add_buffer(width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000))
    graph.link_nodes(source, graph.add("scale", "2:2:flags=neighbor"), graph.add("buffersink")).configure()
    graph.push(picture)
    return cast(av.VideoFrame, graph.pull())
