"""A folder of images as a video."""

import re
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

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

PHOTOGRAPHS = (".heic", ".heif", ".avif")
"""Formats in which FFmpeg decodes only a tile of the picture; they are refused."""

MOST_BYTES = 1 << 30
"""Largest image file in bytes."""

_CODECS = (
    (re.compile(rb"\xff\xd8\xff"), "mjpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"BM"), "bmp"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp"),
)


_PHOTOGRAPHS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")  # brands of single images; source: ISO/IEC 23008-12


def list_images(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order (frame2 before frame10), without hidden files.

    Raises VideoError if there is none.
    """
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not paths:
        raise VideoError(f"{folder}: no images found; expected files with suffix {', '.join(SUFFIXES)}")
    return sorted(paths, key=_natural)


def is_photograph(head: bytes) -> bool:
    """Return whether a file that starts with `head` is a HEIC or AVIF photograph."""
    return head[4:8] == b"ftyp" and head[8:12] in _PHOTOGRAPHS


def is_image(head: bytes) -> bool:
    """Return whether a file that starts with `head` is an image, and not a video such as APNG."""
    return is_photograph(head) or any(magic.match(head) for magic, _ in _CODECS)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    # "shot2_10" -> [(0, "shot"), (2, ""), (0, "_"), (10, "")]
    parts = re.findall(r"[0-9]+|[^0-9]+", path.stem.lower())
    return [(int(part), "") if part[0].isdigit() and part.isascii() else (0, part) for part in parts], path.name


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
    codec = next((name for magic, name in _CODECS if magic.match(data)), None)
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
