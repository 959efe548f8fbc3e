"""Labelled videos: an example is a video, or a part of one, with its labels."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args
from unicodedata import category, normalize

from ig65m.collection.list_formats import LISTS, SPLITS, ListFormat, Row, Split, class_index
from ig65m.collection.listing import in_folder
from ig65m.collection.video_lookup import Placed, Videos, absolute, place_rows
from ig65m.errors import UsageError, check_choice, shown
from ig65m.models.card import check_text
from ig65m.types import Segment

FOLDERS = "folders"  # format of a folder with a folder for each class

_SPACES = re.compile(r"[\s_]+")


@dataclass(frozen=True)
class Example:
    """A labelled video, or a labelled part of one."""

    video: Segment  # with an absolute path
    labels: tuple[str, ...]  # one, or any number in a multi-label list
    group: str  # examples of one group, such as parts of one video, are never on both sides of a split
    split: Split | None = None
    line: int | None = None  # in the list; None for a folder


@dataclass(frozen=True)
class LabelList:
    """The labelled videos of a list: see `ig65m.read_label_list`."""

    format: str
    classes: tuple[str, ...]  # in the order of the list's own index of classes if it has one, else sorted
    examples: tuple[Example, ...]  # each with `video` (a Segment), `labels`, `group`, `split` and `line`
    missing: tuple[str, ...] = ()  # names of videos that are in the list but were not found
    multi_label: bool = False  # whether an example may have several labels, or none

    @property
    def sha256(self) -> str:
        """Digest of the examples: file names without folders, parts, labels and splits, in any order."""
        rows = []
        for each in self.examples:
            video = each.video
            rows.append([Path(video.path).name, video.start, video.end, video.starts, sorted(each.labels), each.split])
        return hashlib.sha256("\n".join(sorted(map(json.dumps, rows))).encode()).hexdigest()


def read_label_list(
    source: str | os.PathLike[str],
    *,
    videos: Videos | None = None,
    list_format: str | None = None,
    split: Split | None = None,
    multi_label: bool = False,
) -> LabelList:
    """Read labelled videos from a list, or from a folder with a folder of videos for each class.

    Args:
        source: A list, in a format of docs/labels.md; or a folder, which may have the folders train, val and test above those
            of the classes. Folders of features and of evaluations are no classes.
        videos: Folder of the videos of a list, or the paths of all videos that there are. Default: paths are looked up beside
            the list and in the working folder; names without a path also in the subfolders of the list's folder.
        list_format: "paths", "pairs", "table", "kinetics", "ucf101", "hmdb51" or "activitynet". Default: recognised from the
            contents.
        split: Only examples of this split. Default: all.
        multi_label: Whether an example may have several labels, or none. Default: if one has several, of whatever split.

    Raises:
        UsageError: A line is wrong, has no label, or contradicts another one; two labels differ in spelling only; or no video
            was found.

    Example:
        >>> numpy.savetxt("labels.csv", ["path,label", "video.mp4,rabbit", "missing.mp4,dog"], fmt="%s")
        >>> found = ig65m.read_label_list("labels.csv")
        >>> found.classes, found.examples[0].labels, found.missing
        (('rabbit',), ('rabbit',), ('missing.mp4',))
    """
    if split is not None:
        check_choice("split", split, get_args(Split))
    path = Path(source)
    classes: tuple[str, ...] = ()
    missing: list[str] = []
    if path.is_dir():
        if list_format not in (None, FOLDERS):
            raise UsageError(f"{path} is a folder, not a list in the format {list_format}")
        kind = FOLDERS
        examples = list(_in_folders(path))
    else:
        if not path.is_file():
            raise UsageError(f"{path}: no such list of labels; expected a file ({', '.join(LISTS)}) or a folder for each class")
        if list_format == FOLDERS:
            raise UsageError(f"{path} is a file; the format {FOLDERS} is a folder with a folder for each class")
        found, placed = place_rows(path, videos, list_format)
        kind = str(found)
        index = path.with_name("classInd.txt")
        if found == "ucf101" and index.is_file():
            classes = tuple(normalize("NFC", label) for label in class_index(index))
        rows = [each for each in placed if split in (None, each.row.split)]
        missing = list(dict.fromkeys(each.row.trimmed or each.row.name for each in rows if each.path is None))
        multi_label = multi_label or _is_multi_label(found, [each.row for each in placed])
        _check_labels(path, found, [each.row for each in placed], split, multi_label=multi_label)
        examples = [_example(each, each.path) for each in rows if each.path is not None and _is_example(found, each)]
    examples = list(_normalised(path, (each for each in examples if split in (None, each.split))))
    if not examples:
        raise UsageError(_nothing(path, split, missing))
    merged = _merged(path, examples, may_merge=multi_label or kind == "activitynet")
    multi_label = multi_label or any(len(each.labels) > 1 for each in merged)
    used = {label for each in merged for label in each.labels}
    _check_spelling(path, merged)
    ordered = tuple(label for label in classes if label in used) if classes else tuple(sorted(used, key=_in_order))
    return LabelList(kind, ordered, tuple(merged), tuple(missing), multi_label)


def _in_folders(root: Path) -> Iterator[Example]:
    names = _folders(root)
    if names and all(name.lower() in SPLITS for name in names):
        for name in names:
            yield from (replace(each, split=SPLITS[name.lower()]) for each in _in_folders(root / name))
        return
    if len(names) < 1:
        raise UsageError(f"{root} has no folders; expected one for each class, with its videos")
    for name in names:
        for video in in_folder(str(root / name)):
            path = absolute(video)
            yield Example(Segment(path), (name,), path)


def _folders(root: Path) -> list[str]:
    found = (each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    return sorted(each.name for each in found if not _is_output(each))


def _is_output(folder: Path) -> bool:
    """Whether a folder was made by this package: features with their journal, or an evaluation with its scores."""
    is_features = (folder / "settings.json").is_file() and (folder / "journal.jsonl").is_file()
    return is_features or (folder / "scores" / "settings.json").is_file()


def _example(placed: Placed, path: str) -> Example:
    row, path = placed.row, absolute(path)
    if row.first_frame is not None:
        video = Segment(path, starts=(row.first_frame,))
    else:
        video = Segment(path) if placed.whole else Segment(path, row.start, row.end)
    return Example(video, row.labels, row.group or path, row.split, row.line)


def _normalised(path: Path, examples: Iterable[Example]) -> Iterator[Example]:
    """Yield examples with their labels in Unicode's form NFC, so that equal text is one class.

    Raises UsageError if a model card cannot hold a label.
    """
    names: dict[str, str] = {}
    for each in examples:
        for label in each.labels:
            if label not in names:
                names[label] = normalize("NFC", label)
                _check_label(path, each.line, label)
        labels = tuple(dict.fromkeys(names[label] for label in each.labels))
        yield each if labels == each.labels else replace(each, labels=labels)


def _check_label(path: Path, line: int | None, label: str) -> None:
    where = str(path) if line is None else f"{path}, line {line}"
    if any("\udc80" <= c <= "\udcff" for c in label):  # bytes that are no UTF-8
        what, todo = ("name of the folder", "rename it") if line is None else ("label", "save the list as UTF-8")
        raise UsageError(f"{where}: the {what} {shown([label])} is not UTF-8; {todo}")
    try:
        check_text("label", normalize("NFC", label))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _is_multi_label(kind: ListFormat, rows: Sequence[Row]) -> bool:
    """Whether a row has several labels, or ActivityNet several for the same part of a video."""
    if kind == "activitynet":
        labels: dict[tuple[str, float | None, float | None], tuple[str, ...]] = {}
        return any(labels.setdefault((row.name, row.start, row.end), row.labels) != row.labels for row in rows)
    return any(len(row.labels) > 1 for row in rows)


def _is_example(kind: ListFormat, placed: Placed) -> bool:
    """Whether a row is an example; ActivityNet lists videos without annotations too."""
    return kind != "activitynet" or bool(placed.row.labels)


def _check_labels(path: Path, kind: ListFormat, rows: Sequence[Row], split: Split | None, *, multi_label: bool) -> None:
    """Raise UsageError if a list has no labels, or if a row of the split has none and needs one."""
    if kind == "activitynet":
        return
    if kind == "paths":
        raise UsageError(
            f"{path} lists videos without labels; expected a table with the columns path and label, or a path and a label on "
            "each line: if it has these, give the format with --list-format pairs (in Python: list_format='pairs')"
        )
    if rows and not any(row.labels for row in rows):
        raise UsageError(f"{path} has no labels; expected a column `label`")
    for row in rows:
        if not (row.labels or multi_label) and split in (None, row.split):
            raise UsageError(f"{path}, line {row.line}: {shown([row.name])} has no label")


def _merged(path: Path, examples: Iterable[Example], *, may_merge: bool) -> list[Example]:
    """Return each video or part once.

    Raises UsageError if it has two splits or groups, or two labels that may not be merged.
    """
    found: dict[Segment, Example] = {}
    for each in examples:
        first = found.setdefault(each.video, each)
        if first.split != each.split:
            raise UsageError(
                f"{path}: {each.video} is of the split {first.split or 'none'} in line {first.line} and of "
                f"{each.split or 'none'} in line {each.line}; leave one out"
            )
        if first.group != each.group:
            groups = ["none" if one.group == one.video.path else shown([one.group]) for one in (first, each)]
            raise UsageError(
                f"{path}: {each.video} is of the group {groups[0]} in line {first.line} and of {groups[1]} in line "
                f"{each.line}; leave one out"
            )
        if first is each or set(first.labels) == set(each.labels):
            continue
        if not may_merge:
            raise UsageError(
                f"{path}: {each.video} has the label {shown(first.labels)} in line {first.line} and {shown(each.labels)} in "
                f"line {each.line}; correct one, or write both in one line, separated by ;, if both are right"
            )
        found[each.video] = replace(first, labels=tuple(dict.fromkeys((*first.labels, *each.labels))))
    return list(found.values())


def _check_spelling(path: Path, examples: Iterable[Example]) -> None:
    """Raise UsageError if two labels differ in spelling only."""
    lines: dict[str, int | None] = {}
    for each in examples:
        for label in each.labels:
            lines.setdefault(label, each.line)
    found: dict[str, str] = {}
    for label, line in lines.items():
        if (other := found.setdefault(spelling(label), label)) != label:
            where = "" if line is None else f" (line {lines[other]}), (line {line})"
            raise UsageError(f"{path}: the labels {shown([other, label])} differ in spelling only{where}; make them one")


def spelling(label: str) -> str:
    """Return a label without what its spelling in another list may differ in: case, spaces, punctuation, Unicode form.

    Symbols, marks of letters, and punctuation beside a digit stay: C and C++, 1 and -1, 15 and 1.5 are different labels. A
    label of nothing else stays as it is.
    """
    text = normalize("NFKC", normalize("NFKC", label).casefold())
    text = _SPACES.sub(" ", text).strip()
    before, after = f" {text}", f"{text[1:]} "
    return "".join(c for c, *sides in zip(text, before, after, strict=False) if _matters(c, *sides)) or label


def _matters(character: str, before: str, after: str) -> bool:
    """Whether a character distinguishes labels, between its neighbours."""
    if character == " ":
        return before.isdigit() and after.isdigit()
    return not category(character).startswith("P") or character == "#" or before.isdigit() or after.isdigit()


def _in_order(label: str) -> tuple[int, str]:
    """Numbers in the order of numbers, other labels in that of the alphabet."""
    return (int(label), label) if label.isascii() and label.isdigit() and len(label) < 10 else (0, label)


def _nothing(path: Path, split: Split | None, missing: list[str]) -> str:
    if missing:
        return (
            f"{path}: none of its {len(missing):,} videos was found, such as {shown(missing, 2)}; name their folder with "
            "--videos (in Python: videos=)"
        )
    return f"{path} has no examples" + ("" if split is None else f" of the split {split!r}")
