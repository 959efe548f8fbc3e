"""A folder of features: a Parquet file for each video, a journal of what was done, and what computed it.

    settings.json     what the features depend on, besides the video; written once
    features/NAME.parquet
    journal.jsonl     a line for each video that was done
    errors.jsonl      those of them that are partial or failed
    .locks            no content

A result counts when it is in the journal. It is on the disk under its own name before that, and is there whole or not at all.
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
from ig65m.store.journal import Entry, Journal
from ig65m.store.locks import Locks
from ig65m.store.parquet import read_parquet, to_parquet
from ig65m.types import Features, Segment

FORMAT: Final = 1
ERRORS: Final = "errors.jsonl"
LOCKS: Final = ".locks"
_JOURNAL: Final = "journal"
_WRITERS: Final = "writers"


def result_name(video: Segment) -> str:
    """What a video's result is called: its stem, and a digest of its path and part that tells it from any other."""
    key = json.dumps([video.path, video.start, video.end, video.starts])
    stem = os.fsencode(Path(video.path).stem)[:180].decode(errors="ignore")
    return f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


class Store:
    """Such a folder, open for writing by this process; others may write to it at the same time, each video is one's."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Make or open the folder. Raises UsageError, saying what differs, if other settings computed what is there."""
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
            pass  # the journal is read

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.journal.close()
        self.locks.close()

    def file(self, name: str) -> Path:
        """Where the result of that name is, or would be."""
        return self.folder / "features" / f"{name}.parquet"

    def claim(self, name: str) -> bool:
        """Make a result this process's to compute; False if another process is at it."""
        with self._thread:
            return self.locks.take(name)

    def release(self, name: str) -> None:
        """Let another process have it."""
        with self._thread:
            self.locks.free(name)

    def latest(self, name: str, content: str | None) -> Entry | None:
        """What became of the video with that content, by anybody's hand; None if that is still to be done."""
        with self._thread, self._locked():
            entry = self.entries.get(name)
        if entry is None or entry.content != content:
            return None
        return entry if entry.size is None or _size(self.file(name)) == entry.size else None

    def adopt(self, name: str, video: Segment, content: str | None) -> Entry | None:
        """The entry, now made, of a claimed result that was finished by somebody who was killed before the journal had it."""
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
        """Write the result of a claimed video: when this returns, it is done. Raises OSError if the disk refuses."""
        name = result_name(video)
        path = self.file(name)
        size, digest = None, None
        if features.status == "failed":
            path.unlink(missing_ok=True)
        else:
            description = {
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
                    raise OSError(None, "what was written is not what is read back; the disk is not sound", str(path))
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
        """The journal is this process's alone, and read to its end."""
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
                f"{self.folder} holds features of other settings ({'; '.join(different)}); take those, or another folder"
            )

    def _tidy(self) -> None:
        """Remove what was left by processes that were killed, if no other is at work here."""
        if self.locks.take(_WRITERS):
            for place in (self.folder, self.folder / "features"):
                for left in place.glob(".ig65m-*.part"):
                    left.unlink(missing_ok=True)
        self.locks.take(_WRITERS, wait=True, shared=True)


def write_errors(folder: Path) -> None:
    """Leave in errors.jsonl the videos that are partial or failed now; while a run goes on, each is added as it fails."""
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
    """What computed the features in a folder. Raises UsageError if there are none."""
    path = folder / "settings.json"
    try:
        settings = json.loads(path.read_text("utf-8"))
        if not isinstance(settings, dict) or settings.get("format") != FORMAT:
            raise UsageError(f"{path} is of a format that this version does not know: {settings!r:.80}")
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no features of `ig65m extract` (there is no settings.json)") from None
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} is damaged ({error}); it says what computed the features here") from None
    return settings


def read_journal(folder: Path) -> list[Entry]:
    """What became of each video, as it is now; nothing is changed. Raises UsageError as `read_settings`, or for a line that
    is no entry."""
    read_settings(folder)
    latest: dict[str, Entry] = {}
    path = folder / "journal.jsonl"
    data = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break  # it is being written, or was when somebody was killed
        try:
            entry = Entry.from_json(line.decode())
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UsageError(f"{path}, line {number}: not what is written there ({error})") from None
        latest[entry.name] = entry
    return list(latest.values())


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """What differs between settings, a line each; a model may be called otherwise."""
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
