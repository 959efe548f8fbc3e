"""Finds the files of the videos that a list names, by path or by name."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ig65m.collection.list_formats import VIDEOS, ListFormat, Row, read_list
from ig65m.errors import UsageError, shown

Videos = str | os.PathLike[str] | Sequence[str]
"""A folder of videos, or the paths of all videos that there are."""

_ODD = re.compile(r"/\.{0,2}(?:/|\Z)")  # in a path that can be written shorter: //, /./, /../, or / at its end


@dataclass(frozen=True)
class Placed:
    """A row of a list, and where its video is."""

    row: Row
    path: str | None  # None if it was not found
    expected: str  # where it was looked up first
    whole: bool  # whether all of the file belongs to the row


def place_rows(path: Path, videos: Videos | None = None, list_format: str | None = None) -> tuple[ListFormat, list[Placed]]:
    """Return the format of a list, and its rows with the places of their videos.

    Args:
        path: The list.
        videos: Folder of the videos, or the paths of all videos that there are. Default: paths are looked up beside the list
            and in the working folder; names without a path also in the subfolders of the list's folder.
        list_format: As in `read_list`.

    Raises UsageError as `read_list`, and if several files fit one row.
    """
    kind, found = read_list(path, list_format)
    rows = list(found)
    lookup = VideoLookup(path.parent, [row.name for row in rows], videos)
    anywhere = videos is not None or kind not in ("paths", "pairs", "table")

    def place(row: Row) -> Placed:
        expected = lookup.expected(row.name)
        find = lookup.find if anywhere else lookup.at
        if row.trimmed is not None and (trimmed := find(row.trimmed)) is not None:
            return Placed(row, trimmed, expected, whole=True)
        there = find(row.name)
        if there is None and kind == "activitynet":
            there = find(f"v_{row.name}")
        return Placed(row, there, expected, whole=row.start is None and row.end is None and row.first_frame is None)

    return kind, [place(row) for row in rows]


class VideoLookup:
    """Where the videos of a list are."""

    def __init__(self, beside: Path, names: Iterable[str], videos: Videos | None) -> None:
        """Prepare to find the videos `names` of a list in the folder `beside`; `videos` is as in `place_rows`."""
        self.root = Path(videos) if isinstance(videos, str | os.PathLike) else None
        self.known = None if videos is None or isinstance(videos, str | os.PathLike) else {absolute(each) for each in videos}
        if self.root is not None and not self.root.is_dir():
            raise UsageError(f"{self.root} is not a folder; expected the folder of the videos")
        self._walked = self.root or beside
        # Folders in which paths are looked up: as given, and absolute.
        self._folders = [(folder, absolute(folder)) for folder in ([str(self._walked)] if self.root else [str(beside), ""])]
        self._often = Counter(_stem(name) for name in set(names))
        self._by_stem: dict[str, list[str]] | None = None

    def at(self, name: str) -> str | None:
        """Return the path of a file or folder at just this place."""
        for folder, full in self._folders:
            if self.known is None:
                if os.path.lexists(path := _join(folder, name)):
                    return path
            elif absolute(_join(full, name)) in self.known:
                return _join(folder, name)
        return None

    def expected(self, name: str) -> str:
        """Return the path where a video is looked up first."""
        return _join(self._folders[0][0], name)

    def find(self, name: str) -> str | None:
        """Return the path of a video, at just this place or elsewhere under the same name.

        Elsewhere, the suffix may differ, and folders that are not needed to distinguish two names of the list.

        Raises UsageError if several files fit.
        """
        if (path := self.at(name)) is not None:
            return path
        parents = _parents(name)
        found = self._files().get(_stem(name), [])
        alike = {path: _common(parents, _parents(path)) for path in found}
        best = max(alike.values(), default=0)
        if not found or (best == 0 and parents and self._often[_stem(name)] > 1):
            return None
        nearest = [path for path in found if alike[path] == best]
        if len(nearest) > 1:
            suffix = PurePath(name).suffix
            nearest = [path for path in nearest if PurePath(path).suffix == suffix] or nearest
        if len(nearest) > 1:
            raise UsageError(f"{shown([name])} could be {shown(nearest, 2)}; name its folder in the list, or with --videos")
        return nearest[0]

    def _files(self) -> dict[str, list[str]]:
        if self._by_stem is None:
            self._by_stem = {}
            for path in sorted(_walk(self._walked) if self.known is None else self.known):
                self._by_stem.setdefault(_stem(path), []).append(path)
        return self._by_stem


def absolute(path: str) -> str:
    """Make a path absolute; links stay links."""
    path = os.fspath(path)
    if path.startswith("/") and _ODD.search(path) is None:
        return path
    return os.path.abspath(path)  # noqa: PTH100


def _join(folder: str, name: str) -> str:
    """Return str(Path(folder) / name), faster."""
    path = name if folder == "." else os.path.join(folder, name)  # noqa: PTH118
    return path if path and not path.startswith(".") and _ODD.search(path) is None else str(Path(path))


def _walk(root: Path) -> Iterable[str]:
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if PurePath(name).suffix.lower() in VIDEOS:
                yield os.path.join(place, name)  # noqa: PTH118


def _stem(name: str) -> str:
    last = name.rstrip("/").rpartition("/")[2]
    stem, _, suffix = last.rpartition(".")
    return stem if stem and f".{suffix}".lower() in VIDEOS else last


def _parents(name: str) -> tuple[str, ...]:
    """Folders in a name, the nearest first."""
    return tuple(part for part in name.rstrip("/").split("/")[-2::-1] if part not in ("", "."))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
