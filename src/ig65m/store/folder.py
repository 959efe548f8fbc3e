"""A folder of features: a Parquet file for each video, a journal, and the settings that computed them.

    settings.json           all that the features depend on besides the video; written once
    features/NAME.parquet   features of one video
    journal.jsonl           a line for each video that was processed
    errors.jsonl            the lines of partial and failed videos
    .locks                  empty; processes lock bytes of it

A result counts once it is in the journal. Its file is complete on the disk before that.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from ig65m.atomic import check_place, finished_file, sync
from ig65m.errors import UsageError
from ig65m.store.features import Features, read_parquet, sought_record, to_parquet
from ig65m.store.journal import Entry, Journal
from ig65m.store.locks import Locks
from ig65m.types import Segment

FORMAT: Final = 1
ERRORS: Final = "errors.jsonl"
LOCKS: Final = ".locks"
_JOURNAL: Final = "journal"
_WRITERS: Final = "writers"


def result_name(video: Segment) -> str:
    """Return the name of a video's result: its stem, and a digest of its path and segment."""
    key = json.dumps([video.path, video.start, video.end, video.starts])
    stem = os.fsencode(Path(video.path).stem)[:180].decode(errors="ignore")
    return f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


class Store:
    """A folder of features, open for writing. Several processes may write at the same time; each video is claimed by one."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Create or open the folder. Raises UsageError, naming the differences, if it holds features of other settings."""
        check_place(folder / "journal.jsonl")
        self.folder = folder
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        (folder / "features").mkdir(parents=True, exist_ok=True)
        self.locks = Locks(folder / LOCKS)
        self.entries: dict[str, Entry] = {}
        self._thread = threading.RLock()
        self._tidy()
        self.locks.take(_JOURNAL, wait=True)
        try:
            self._settle()
        finally:
            self.locks.free(_JOURNAL)
        self.journal = Journal(folder / "journal.jsonl")
        with self._locked():
            pass  # reads the journal

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.journal.close()
        self.locks.close()

    def file(self, name: str) -> Path:
        """Return the path of a result, whether it exists or not."""
        return self.folder / "features" / f"{name}.parquet"

    def claim(self, name: str) -> bool:
        """Claim a result for this process. Returns False if another process has claimed it."""
        with self._thread:
            return self.locks.take(name)

    def release(self, name: str) -> None:
        """Give up a claim."""
        with self._thread:
            self.locks.free(name)

    def latest(self, name: str, content: str | None) -> Entry | None:
        """Return the latest entry of a result with that content, from any process; None if it must be computed."""
        with self._thread, self._locked():
            entry = self.entries.get(name)
        if entry is None or entry.content != content:
            return None
        return entry if entry.size is None or _size(self.file(name)) == entry.size else None

    def adopt(self, name: str, video: Segment, content: str | None) -> Entry | None:
        """Record a claimed result whose file is complete, although its process was killed before it wrote the journal.

        Returns None if there is no such file.
        """
        path = self.file(name)
        try:
            features, description = read_parquet(path)
        except (OSError, UsageError):
            return None
        whose = [description.get(key) for key in ("name", "content", "settings")]
        if content is None or whose != [name, content, self.settings]:
            return None
        return self._journalled(Entry(name, video, content, features.status, len(features.array), *_sums(path), features.error))

    def commit(self, video: Segment, content: str | None, features: Features) -> Entry:
        """Write the result of a claimed video, durably. Raises OSError if the disk is full or faulty."""
        name = result_name(video)
        path = self.file(name)
        size, digest = None, None
        if features.status == "failed":
            path.unlink(missing_ok=True)
        else:
            description = sought_record(features) | {
                "name": name,
                "path": video.path,
                "content": content,
                "status": features.status,
                "error": features.error.to_record() if features.error else None,
                "shape": list(features.array.shape[1:]),
                "model": dict(features.model),
                "settings": self.settings,
            }
            data = to_parquet(features, description, self.settings["features"])
            size, digest = len(data), hashlib.sha256(data).hexdigest()
            with finished_file(path) as temporary:
                temporary.write_bytes(data)
                sync(temporary)
                if _sums(temporary) != (size, digest):
                    raise OSError(None, "the file reads back differently than it was written; check the disk", str(path))
        return self._journalled(Entry(name, video, content, features.status, len(features.array), size, digest, features.error))

    def _journalled(self, entry: Entry) -> Entry:
        with self._thread:
            with self._locked():
                self.journal.append(entry)
                self.entries[entry.name] = entry
                if entry.status != "ok":
                    with (self.folder / ERRORS).open("a", encoding="utf-8") as errors:
                        errors.write(f"{entry.to_json()}\n")
            self.release(entry.name)
        return entry

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the journal and read it to its end."""
        self.locks.take(_JOURNAL, wait=True)
        try:
            self.entries |= {entry.name: entry for entry in self.journal.news()}
            yield
        finally:
            self.locks.free(_JOURNAL)

    def _settle(self) -> None:
        path = self.folder / "settings.json"
        settings = {"format": FORMAT, **self.settings}
        if not path.exists():
            with finished_file(path) as temporary:
                temporary.write_text(json.dumps(settings, indent=1) + "\n", "utf-8")
            return
        there = read_settings(self.folder)
        if different := list(differences(there, settings)):
            raise UsageError(
                f"{self.folder} holds features of other settings ({'; '.join(different)}); use those, or another folder"
            )

    def _tidy(self) -> None:
        """Remove temporary files of killed processes, unless another process is writing here."""
        if self.locks.take(_WRITERS):
            for place in (self.folder, self.folder / "features"):
                for left in place.glob(".ig65m-*.part"):
                    left.unlink(missing_ok=True)
        self.locks.take(_WRITERS, wait=True, shared=True)


def write_errors(folder: Path) -> None:
    """Rewrite errors.jsonl with the videos that are partial or failed now; during a run, lines are only appended."""
    locks = Locks(folder / LOCKS)
    try:
        locks.take(_JOURNAL, wait=True)
        lines = [
            entry.to_json() for entry in sorted(read_journal(folder), key=lambda entry: entry.name) if entry.status != "ok"
        ]
        if lines or (folder / ERRORS).exists():
            with finished_file(folder / ERRORS) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    finally:
        locks.close()


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings that computed the features in a folder. Raises UsageError if there are none."""
    path = folder / "settings.json"
    try:
        settings = json.loads(path.read_text("utf-8"))
        if not isinstance(settings, dict) or settings.get("format") != FORMAT:
            raise UsageError(f"{path} has an unknown format: {settings!r:.80}")
    except FileNotFoundError:
        raise UsageError(f"{folder} is not a folder of features of `ig65m extract`: it has no settings.json") from None
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} is damaged ({error}); restore it, for it says what computed the features") from None
    return settings


def read_journal(folder: Path) -> list[Entry]:
    """Return the latest entry of each result, without changing anything.

    Raises UsageError as `read_settings`, and for an invalid line.
    """
    read_settings(folder)
    latest: dict[str, Entry] = {}
    path = folder / "journal.jsonl"
    data = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break  # still being written, or its process was killed
        try:
            entry = Entry.from_json(line.decode())
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UsageError(f"{path}, line {number}: invalid entry ({error})") from None
        latest[entry.name] = entry
    return list(latest.values())


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """Yield a line for each difference between settings; names of models are ignored."""
    for key in sorted({*there, *wanted}):
        old, new = there.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{name}{key}.")
        elif old != new and f"{name}{key}" != "model.name":
            yield f"{name}{key} is {old} there, {new} here"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _sums(path: Path) -> tuple[int, str]:
    data = path.read_bytes()
    return len(data), hashlib.sha256(data).hexdigest()
