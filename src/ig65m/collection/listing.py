"""Inputs that a user names -> videos: files, folders, lists."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ig65m.collection.list_formats import LISTS, VIDEOS
from ig65m.collection.video_lookup import absolute as to_absolute
from ig65m.collection.video_lookup import place_rows
from ig65m.errors import UsageError
from ig65m.types import Segment
from ig65m.video.image_files import PHOTOGRAPHS, is_photograph
from ig65m.video.image_files import SUFFIXES as IMAGES

_HEAD: Final = 400  # bytes that are read to recognise a file without a known suffix
# Offsets and magic bytes of video containers.
_MAGIC: Final = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (8, b"AVI "),
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b"FLV\x01"),
    (0, b"OggS"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"\x00\x00\x01\xb3"),
    (0, b"YUV4MPEG2"),
)


def find_videos(
    inputs: Sequence[str],
    *,
    absolute: bool = True,
    videos_in: str | os.PathLike[str] | None = None,
    list_format: str | None = None,
) -> list[Segment]:
    """Return the videos that inputs name, each once, in order.

    - A file is a video, whether it exists or not, unless it is a list (LISTS; formats as in `read_list`). A video of a list
      stands for itself even if it is not found. All rows of a video in VMZ's lists are its clips; a video of ActivityNet is
      taken as a whole.
    - A folder stands for all videos in it and in its subfolders: files with a video's suffix, and files without a known suffix
      that begin like a video. A folder without videos stands for the folders of images in it.

    Args:
        inputs: Files and folders.
        absolute: Whether to make paths absolute; otherwise they stay as they were given.
        videos_in: Folder of the videos in lists. Default: see `VideoLookup`.
        list_format: Format of lists. Default: recognised from their contents.

    Raises UsageError for a list that cannot be read, and for a folder without videos and images.
    """
    found: dict[Segment, None] = {}
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            videos: Iterable[Segment] = (Segment(video) for video in in_folder(name))
        elif path.suffix.lower() in LISTS and path.is_file():
            videos = _in_list(path, videos_in, list_format)
        else:
            videos = [Segment(name)]
        if absolute:
            videos = (replace(video, path=to_absolute(video.path)) for video in videos)
        found |= dict.fromkeys(videos)
    return list(found)


def in_folder(folder: str) -> list[str]:
    """Return the videos in a folder, or the folders of images. Raises UsageError if there are none."""
    videos, images = [], []
    photographs = 0

    def fail(error: OSError) -> None:
        raise UsageError(f"{error.filename}: {error.strerror}; a folder in {folder} cannot be read") from error

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown_names = sorted(name for name in names if not name.startswith("."))
        videos += [file for name in shown_names if _is_video(Path(file := os.path.join(place, name)))]  # noqa: PTH118
        if any(name.lower().endswith(IMAGES) for name in shown_names):
            images.append(place)
        photographs += sum(name.lower().endswith(PHOTOGRAPHS) for name in shown_names)
    if not (videos or images):
        hint = f"; it has {photographs} photographs in HEIC or AVIF, which must be converted to JPEG" if photographs else ""
        raise UsageError(f"{folder}: no videos or images found in it or its subfolders{hint}")
    return videos or images


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()  # that of transport streams, .ts, is that of TypeScript too
    if suffix in VIDEOS:
        return True
    if suffix in IMAGES or suffix in LISTS or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    if is_photograph(head):
        return False
    in_packets = len(head) >= 377 and {head[0], head[188], head[376]} == {0x47}
    return in_packets or any(head.startswith(magic, place) for place, magic in _MAGIC)


def _in_list(path: Path, videos_in: str | os.PathLike[str] | None, list_format: str | None) -> Iterator[Segment]:
    kind, placed = place_rows(path, videos_in, list_format)
    clips: dict[str, set[int]] = {}
    for each in placed:
        row, video = each.row, each.path or each.expected
        if row.first_frame is not None:
            clips.setdefault(video, set()).add(row.first_frame)
        elif each.whole or kind == "activitynet":
            yield Segment(video)
        else:
            yield Segment(video, row.start, row.end)
    yield from (Segment(video, starts=tuple(sorted(starts))) for video, starts in clips.items())
