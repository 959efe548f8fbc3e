"""Formats of lists of videos and labels: a list file -> its rows."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from ig65m.collection.list_file import ListFile, open_list
from ig65m.errors import UsageError, check_choice, plain, shown

Split = Literal["train", "val", "test"]
ListFormat = Literal["paths", "pairs", "table", "kinetics", "ucf101", "hmdb51", "activitynet"]

LISTS: Final = (".txt", ".lst", ".list", ".csv", ".tsv", ".json")
_SUFFIXES: Final = """3g2 3gp asf avi divx dv f4v flv gif h264 h265 hevc ivf m1v m2ts m2v m4v mjpeg mjpg mkv mov mp4 mpe mpeg
mpg mts mxf nut ogm ogv rm rmvb vob webm wmv y4m"""
VIDEOS: Final = frozenset(f".{name}" for name in _SUFFIXES.split())
LABEL_SEPARATOR: Final = ";"

_PATHS: Final = ("path", "video", "org_video", "filename", "file")  # names of that column in tables
_LABELS: Final = ("label", "labels", "class")
SPLITS: Final[dict[str, Split]] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_MAX_SECONDS: Final = 1e9
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_PAIR = re.compile(r"(\S.*?)\s+(\S+)")
_VIDEO_AND_LABEL = re.compile(rf"(\S.*\.(?:{'|'.join(_SUFFIXES.split())}))\s+(\S.*)", re.IGNORECASE)
_UCF101 = re.compile(r"([^/\s]+)/(v_([A-Za-z0-9]+)_g[0-9]+)_c[0-9]+\.\w+(?:\s+([0-9]{1,9}))?")
_HMDB51 = re.compile(r"(.+)_test_split([0-9]+)\.txt")
_HMDB51_LINE = re.compile(r"(\S.*?\.\w+)\s+([012])")


@dataclass(frozen=True)
class Row:
    """A row of a list."""

    line: int  # number, from 1
    name: str  # of the video: a path, or an identifier without folder and suffix
    labels: tuple[str, ...] = ()
    start: float | None = None  # seconds
    end: float | None = None  # seconds
    first_frame: int | None = None  # frame at which a clip starts, in VMZ's lists
    split: Split | None = None
    group: str | None = None  # examples of one group show the same scene; None: the video itself
    trimmed: str | None = None  # name of a file that holds just the part from `start` to `end`


def read_list(path: Path, list_format: str | None = None) -> tuple[ListFormat, Iterator[Row]]:
    """Return the format of a list and its rows.

    - "paths": a path on each line. "pairs": a path and a label, with white space between, on each line. A label may
      have several words after a video's suffix; otherwise it is the last word.
    - "table": a table with a column `path` (or `video`, `org_video`, `filename`, `file`), and optionally `label` (several
      separated by ;), `start` and `end` in seconds, `split`, `group`, or `start_frm`: VMZ's number of a clip's first frame.
    - "kinetics": a table with `label`, `youtube_id`, `time_start`, `time_end`, `split`.
    - "ucf101": trainlist01.txt or testlist01.txt. "hmdb51": any NAME_test_split1.txt, which stands for all of that split in its
      folder.
    - "activitynet": JSON with segments of each video, as for ActivityNet and THUMOS14.

    list_format: the format; by default it is recognised from the contents.

    Raises UsageError for anything else, naming the line.
    """
    if list_format is not None:
        check_choice("list format", list_format, get_args(ListFormat))
    source = open_list(path)
    found = next(name for name, fits in _RECOGNISERS if (name == list_format if list_format else fits(source)))
    return found, _READERS[found](source)


def class_index(path: Path) -> tuple[str, ...]:
    """Return the classes in UCF101's classInd.txt, in order. Raises UsageError, naming the line, if it is something else."""
    source = open_list(path)
    classes: list[str] = []
    for line, text in source.lines:
        match = re.fullmatch(r"([0-9]{1,9})\s+(\S.*)", text.strip())
        if match is None or int(match[1]) != len(classes) + 1:
            raise source.error(line, f"expected {len(classes) + 1} and the name of a class, got {shown([text])}")
        classes.append(match[2])
    return tuple(classes)


def _paths(source: ListFile) -> Iterator[Row]:
    yield from (Row(line, text.strip()) for line, text in source.lines)


def _pairs(source: ListFile) -> Iterator[Row]:
    for line, text in source.lines:
        pair = _video_and_label(text) or _PAIR.fullmatch(text.strip())
        if pair is None or _is_video(pair[2]):
            raise source.error(line, f"expected a path and a label, got {shown([text])}")
        yield Row(line, pair[1], _labels(pair[2]))


def _video_and_label(text: str) -> "re.Match[str] | None":
    """Return the name of a video, with its suffix, and what follows unless that is a video too."""
    match = _VIDEO_AND_LABEL.fullmatch(text.strip())
    return None if match is None or _is_video(match[2]) else match


def _table(source: ListFile) -> Iterator[Row]:
    names = source.header
    column = next((name for name in _PATHS if name in names), None)
    if column is None:
        found = f"columns {shown(names)}" if names else "no columns"
        expected = f"expected one of {', '.join(_PATHS)} in its first line"
        raise UsageError(f"{source.path} has {found}; {expected}{_separator_hint(names)}")
    for line, cells in source.cells():
        if not cells.get(column):
            raise source.error(line, f"no {column}")
        start, end = (_seconds(source, line, key, cells.get(key)) for key in ("start", "end"))
        yield Row(
            line,
            cells[column],
            _labels(next((cells[name] for name in _LABELS if name in cells), "")),
            *_part(source, line, start, end),
            first_frame=_frame(source, line, cells["start_frm"]) if "start_frm" in cells else None,
            split=_split(source, line, cells.get("split")),
            group=cells.get("group") or None,
        )


def _separator_hint(names: Sequence[str]) -> str:
    """What to do about a header that has other separators than its suffix says."""
    for separator, todo in ((";", "write commas, or name it .tsv for tabs"), ("\t", "name it .tsv"), (",", "name it .csv")):
        if len(names) == 1 and separator in names[0]:
            return f". Is it separated by {'tabs' if separator == chr(9) else separator}? Then {todo}"
    return ""


def _kinetics(source: ListFile) -> Iterator[Row]:
    if missing := [name for name in ("youtube_id", "time_start", "time_end") if name not in source.header]:
        raise UsageError(f"{source.path} has columns {shown(source.header)}; a list of Kinetics has {shown(missing)} too")
    for line, cells in source.cells():
        if not (name := cells.get("youtube_id")):
            raise source.error(line, "no youtube_id")
        start, end = (_seconds(source, line, key, cells.get(key)) for key in ("time_start", "time_end"))
        trimmed = None if start is None or end is None else f"{name}_{int(start):06d}_{int(end):06d}"
        labels = (label,) if (label := cells.get("label")) else ()
        split = _split(source, line, cells.get("split"))
        yield Row(line, name, labels, *_part(source, line, start, end), split=split, group=name, trimmed=trimmed)


def _ucf101(source: ListFile) -> Iterator[Row]:
    split = SPLITS.get(source.path.name.partition("list")[0])
    index = source.path.with_name("classInd.txt")
    classes = class_index(index) if index.is_file() else None
    for line, text in source.lines:
        match = _UCF101.fullmatch(text.strip())
        if match is None:
            raise source.error(line, f"expected a name such as Archery/v_Archery_g08_c01.avi, got {shown([text])}")
        label, number = match[1], match[4]
        if classes is not None and (
            label not in classes or (number is not None and classes[int(number) - 1 : int(number)] != (label,))
        ):
            raise source.error(line, f"class {shown([label])} with number {number} is not that of {index}")
        yield Row(line, text.split()[0], (label,), split=split, group=match[2].lower())


def _hmdb51(source: ListFile) -> Iterator[Row]:
    own = _HMDB51.fullmatch(source.path.name)
    if own is None:
        raise UsageError(f"{source.path}: a list of HMDB51 is named such as brush_hair_test_split1.txt")
    for path in sorted(source.path.parent.glob(f"*_test_split{own[2]}.txt")):
        label = path.name.removesuffix(f"_test_split{own[2]}.txt")
        part = open_list(path)
        for line, text in part.lines:
            match = _HMDB51_LINE.fullmatch(text.strip())
            if match is None:
                raise part.error(line, f"expected a file and 0, 1 or 2, got {shown([text])}")
            if match[2] != "0":
                split: Split = "train" if match[2] == "1" else "test"
                scene = match[1].partition(f"_{label}_")[0]  # NAME_label_..._0.avi: all parts of NAME show the same scene
                yield Row(line, f"{label}/{match[1]}", (label,), split=split, group=f"{label}/{scene}")


def _activitynet(source: ListFile) -> Iterator[Row]:
    try:
        contents: Any = json.loads(source.text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source.path} is not JSON ({plain(error)})") from None
    database = contents.get("database") if isinstance(contents, dict) else None
    if not isinstance(database, dict):
        raise UsageError(f"{source.path}: expected JSON with an object `database` of videos and their annotations")
    for name, video in database.items():
        where = f"{source.path}, {shown([name])}"
        try:
            split = SPLITS.get(str(video.get("subset", "")).lower())
            segments = [(each["label"], each["segment"]) for each in video.get("annotations", ())]
        except (AttributeError, LookupError, TypeError):
            raise UsageError(f"{where}: expected `annotations` with `label` and `segment` [start, end] in seconds") from None
        for label, segment in segments:
            if not (isinstance(label, str) and label.strip()):
                raise UsageError(f"{where}: a label must be text that is not empty, got {plain(repr(label), 40)}")
            if not _is_segment(segment):
                raise UsageError(f"{where}: a segment must be [start, end] in seconds, got {plain(repr(segment), 40)}")
            start, end = map(float, segment)
            if end > max(start, 0):  # annotators left some empty ones
                yield Row(1, name, (label.strip(),), start, end, split=split, group=name)
        if not segments:
            yield Row(1, name, split=split, group=name)


def _is_segment(value: object) -> bool:
    """Whether JSON's value is a list of two numbers of seconds."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(time) in (int, float) and abs(time) < _MAX_SECONDS for time in value)
    )


def _labels(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for each in text.split(LABEL_SEPARATOR) if (label := each.strip())))


def _split(source: ListFile, line: int, text: str | None) -> Split | None:
    if not text:
        return None
    if text.lower() not in SPLITS:
        raise source.error(line, f"split must be one of {', '.join(SPLITS)}, got {shown([text])}")
    return SPLITS[text.lower()]


def _part(source: ListFile, line: int, start: float | None, end: float | None) -> tuple[float | None, float | None]:
    if start is not None and end is not None and start >= end:
        raise source.error(line, f"start must be before end, got {start:g} s and {end:g} s")
    if end is not None and end <= 0:
        raise source.error(line, f"end must be after 0 s, got {end:g} s")
    return start, end


def _seconds(source: ListFile, line: int, key: str, text: str | None) -> float | None:
    if not text:
        return None
    if _NUMBER.fullmatch(text) is None or not abs(seconds := float(text)) < _MAX_SECONDS:
        raise source.error(line, f"{key} must be a number of seconds, got {shown([text])}")
    return seconds


def _frame(source: ListFile, line: int, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise source.error(line, f"start_frm must be the number of a frame, got {shown([digits])}")
    return int(digits)


def _all_lines(pattern: "re.Pattern[str]") -> Callable[[ListFile], bool]:
    return lambda source: all(pattern.fullmatch(text.strip()) for _, text in source.lines)


def _is_pairs(source: ListFile) -> bool:
    return all(_video_and_label(text) for _, text in source.lines)


def _is_video(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEOS


def _is_table(source: ListFile) -> bool:
    return source.path.suffix.lower() in (".csv", ".tsv")


def _has_column(source: ListFile, *names: str) -> bool:
    """Whether a list is a table with one of these columns; a header that cannot be read is reported by its reader."""
    try:
        return _is_table(source) and not {*names}.isdisjoint(source.header)
    except UsageError:
        return False


# Formats and whether a list has one, in the order in which they are tried.
_RECOGNISERS: Final[Sequence[tuple[ListFormat, Callable[[ListFile], bool]]]] = (
    ("activitynet", lambda source: source.path.suffix.lower() == ".json" or source.text.lstrip().startswith("{")),
    ("hmdb51", lambda source: bool(_HMDB51.fullmatch(source.path.name)) and _all_lines(_HMDB51_LINE)(source)),
    ("ucf101", _all_lines(_UCF101)),
    ("kinetics", lambda source: _has_column(source, "youtube_id")),
    ("pairs", lambda source: not _has_column(source, *_PATHS) and _is_pairs(source)),
    ("table", _is_table),
    ("paths", lambda source: True),
)
_READERS: Final[dict[ListFormat, Callable[[ListFile], Iterator[Row]]]] = {
    "paths": _paths,
    "pairs": _pairs,
    "table": _table,
    "kinetics": _kinetics,
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "activitynet": _activitynet,
}
