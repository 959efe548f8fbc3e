"""Which files are images, by their names and first bytes."""

import re
from pathlib import Path

from ig65m.errors import VideoError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

PHOTOGRAPHS = (".heic", ".heif", ".avif")
"""Formats in which FFmpeg decodes only a tile of the picture; they are refused."""

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


def image_codec(head: bytes) -> str | None:
    """Return FFmpeg's name of the format of an image that starts with `head`; None for any other file."""
    return next((name for magic, name in _CODECS if magic.match(head)), None)


def is_image(head: bytes) -> bool:
    """Return whether a file that starts with `head` is an image, and not a video such as APNG."""
    return is_photograph(head) or image_codec(head) is not None


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    # "shot2_10" -> [(0, "shot"), (2, ""), (0, "_"), (10, "")]
    parts = re.findall(r"[0-9]+|[^0-9]+", path.stem.lower())
    return [(int(part), "") if part[0].isdigit() and part.isascii() else (0, part) for part in parts], path.name
