"""Metadata of an index, and the lock for changing it."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from ig65m.atomic import finished_file
from ig65m.errors import DamagedIndexError, UsageError
from ig65m.store.folder import differences
from ig65m.store.locks import Locks

FORMAT: Final = 1
FILE: Final = "index.json"
SAME: Final = ("sha256", "preprocessing", "pooling", "layer")  # settings that comparable features share
SAME_SAMPLING: Final = ("frames", "frame_step", "fps")
# POSIX locks belong to a process and end when it closes any descriptor of the file: so a file each, and a lock for threads.
_THREADS: Final = {"changing": threading.RLock(), "mapping": threading.RLock()}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the metadata atomically. Raises OSError."""
    with finished_file(folder / FILE) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def read_record(folder: Path) -> dict[str, Any]:
    """Read the metadata of the index in a folder. Raises UsageError if there is none, or of an unknown version."""
    path = folder / FILE
    try:
        record = json.loads(path.read_text("utf-8"))
        known = isinstance(record, dict) and record.get("format") == FORMAT
        if not known or not isinstance(record.get("settings"), dict) or type(record.get("exact_up_to")) is not int:
            raise DamagedIndexError(f"{path} has an unknown format: {record!r:.80}")
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedIndexError(
            f"{folder} is not an index (it has no {FILE}); build one with `ig65m index build FEATURES {folder}`"
        ) from None
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise DamagedIndexError(f"{path} is damaged ({error}); build the index again") from None
    return dict(record)


def pooled(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings of a folder of features. Raises UsageError unless it has one vector for each clip."""
    if "none" in (settings.get("pooling") or {}).values():
        raise UsageError(
            f"the features in {folder} are not pooled; extract them without --pool-spatial and --pool-temporal none"
        )
    return settings


def different(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Yield a line for each difference between settings that comparable features must share."""

    def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
        sampling = settings.get("sampling") or {}
        return {name: settings.get(name) for name in SAME} | {name: sampling.get(name) for name in SAME_SAMPLING}

    return list(differences(deciding(there), deciding(json.loads(json.dumps(here)))))


@contextmanager
def locked(folder: Path, what: Literal["changing", "mapping"], say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Lock a folder for one thread of one process."""
    with _THREADS[what]:
        locks = Locks(folder / f".{what}")
        try:
            if not locks.take(what):
                if say is not None:
                    say(f"another process is {what} {folder}; waiting for it")
                locks.take(what, wait=True)
            yield
        finally:
            locks.close()
