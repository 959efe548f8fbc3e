"""Inputs that a user names -> videos: files, folders, lists."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ig65m.errors import UsageError, shown
from ig65m.types import Segment
from ig65m.video.image_files import PHOTOGRAPHS, is_photograph
from ig65m.video.image_files import SUFFIXES as IMAGES

LISTS: Final = (".txt", ".lst", ".list", ".csv", ".tsv")
_SUFFIXES: Final = """3g2 3gp asf avi divx dv f4v flv gif h264 h265 hevc ivf m1v m2ts m2v m4v mjpeg mjpg mkv mov mp4 mpe mpeg
mpg mts mxf nut ogm ogv rm rmvb vob webm wmv y4m"""
VIDEOS: Final = frozenset(f".{name}" for name in _SUFFIXES.split())
MAX_LIST: Final = 1 << 28  # bytes
_PATHS: Final = ("path", "video", "org_video", "filename", "file")  # names of that column in lists
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


def find_videos(inputs: Sequence[str], *, absolute: bool = True) -> list[Segment]:
    """Return the videos that inputs name, each once, in order.

    - A file is a video, whether it exists or not, unless it is a list (LISTS).
    - A .txt, .lst or .list has a path on each line. A .csv or .tsv is a table with a column `path` (or `video`, `org_video`,
      `filename`, `file`), and optionally `start` and `end` in seconds. In VMZ's lists, `start_frm` is the frame at which a clip
      starts, and all rows of a video are its clips. Relative paths are looked up beside the list, then in the working folder.
    - A folder stands for all videos in it and in its subfolders: files with a video's suffix, and files without a known suffix
      that begin like a video. A folder without videos stands for the folders of images in it.

    `absolute` makes paths absolute; otherwise they stay as they were given.

    Raises UsageError for a list that cannot be read, and for a folder without videos and images.
    """
    found: dict[Segment, None] = {}
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            videos: Iterable[Segment] = (Segment(video) for video in _in_folder(name))
        elif path.suffix.lower() in LISTS and path.is_file():
            videos = _in_list(path)
        else:
            videos = [Segment(name)]
        if absolute:
            videos = (replace(video, path=os.path.abspath(video.path)) for video in videos)  # noqa: PTH100 - keeps links
        found |= dict.fromkeys(videos)
    return list(found)


def _in_folder(folder: str) -> list[str]:
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


def _in_list(path: Path) -> Iterator[Segment]:
    size = path.stat().st_size
    if size > MAX_LIST:
        raise UsageError(f"{path} has {size:,} bytes; a list of videos has at most {MAX_LIST:,}")
    text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        raise UsageError(f"{path}: expected a text file with a list of videos, found binary data")
    lines = [
        line for line in re.split(r"\r\n|\r|\n", text) if line.strip()
    ]  # str.splitlines also splits at characters that names may contain
    if not lines:
        raise UsageError(f"{path}: the list is empty; expected a video on each line")
    if path.suffix.lower() not in (".csv", ".tsv"):
        yield from (Segment(_beside(path, line.strip())) for line in lines)
        return
    try:
        yield from _in_table(path, lines)
    except csv.Error as error:
        raise UsageError(f"{path}: {error}; expected a table with commas (.csv) or tabs (.tsv)") from None


def _in_table(path: Path, lines: Sequence[str]) -> Iterator[Segment]:
    rows = csv.DictReader(
        [f"{line}\n" for line in lines], delimiter="\t" if path.suffix.lower() == ".tsv" else ",", skipinitialspace=True
    )
    names = [name.strip() for name in rows.fieldnames or []]
    rows.fieldnames = names
    column = next((name for name in _PATHS if name in names), None)
    if column is None:
        raise UsageError(f"{path} has columns {shown(names)}; expected one of {', '.join(_PATHS)} in its first line")
    clips: dict[str, list[int]] = {}
    for number, row in enumerate(rows, 2):
        where = f"{path}, row {number}"
        if not (row[column] or "").strip():
            raise UsageError(f"{where}: no {column}")
        video = _beside(path, row[column].strip())
        if "start_frm" in names:
            clips.setdefault(video, []).append(_frame(row["start_frm"], where))
        else:
            yield _segment(video, row, where)
    yield from (Segment(video, starts=tuple(sorted(set(starts)))) for video, starts in clips.items())


def _beside(listed_in: Path, name: str) -> str:
    beside = listed_in.parent / name
    return str(beside) if beside.exists() or not Path(name).exists() else name


def _segment(video: str, row: Mapping[str, str | None], where: str) -> Segment:
    start, end = (_seconds(row.get(key), key, where) for key in ("start", "end"))
    if start is not None and end is not None and start >= end:
        raise UsageError(f"{where}: start must be before end, got {start:g} s and {end:g} s")
    return Segment(video, start, end)


def _seconds(text: str | None, key: str, where: str) -> float | None:
    if not (text or "").strip():
        return None
    try:
        seconds = float(text or "")
    except ValueError:
        seconds = float("nan")
    if not -1e9 < seconds < 1e9:
        raise UsageError(f"{where}: {key} must be a number of seconds, got {shown([text or ''])}")
    return seconds


def _frame(text: str | None, where: str) -> int:
    digits = (text or "").strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise UsageError(f"{where}: start_frm must be the number of a frame, got {shown([digits])}")
    return int(digits)
