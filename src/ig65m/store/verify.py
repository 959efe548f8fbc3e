"""Verifies a folder of features against its journal."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ig65m.errors import UsageError
from ig65m.store.features import Features, read_parquet
from ig65m.store.folder import read_journal
from ig65m.store.journal import Entry


@dataclass(frozen=True)
class Verified:
    """Number of results in the journal, number of sound ones, and the problems of the others."""

    results: int
    sound: int
    problems: list[str]


def verify(folder: Path) -> Verified:
    """Compare size, sha256 and rows of each result with the journal. Raises UsageError as `read_journal`."""
    entries = [entry for entry in read_journal(folder) if entry.sha256 is not None]
    problems = [problem for entry in entries if (problem := _problem(folder, entry))]
    known = {f"{entry.name}.parquet" for entry in entries}
    strangers = sorted(path.name for path in (folder / "features").iterdir() if path.name not in known)
    strange = [f"{name} is not in the journal; the next extraction records or replaces it" for name in strangers]
    return Verified(len(entries), len(entries) - len(problems), problems + strange)


def _problem(folder: Path, entry: Entry) -> str | None:
    try:
        read_result(folder, entry)
    except UsageError as error:
        return str(error)
    return None


def read_result(folder: Path, entry: Entry) -> Features:
    """Read the features of a journal entry. Raises UsageError, saying what to do, if they differ from the journal."""
    path = folder / "features" / f"{entry.name}.parquet"
    again = f"remove it, and extract {entry.video} again"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path.name} is missing; extract {entry.video} again") from None
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read ({error.strerror})") from error
    if (len(data), hashlib.sha256(data).hexdigest()) != (entry.size, entry.sha256):
        raise UsageError(f"{path.name} was changed ({len(data):,} bytes; the journal has {entry.size:,}); {again}")
    try:
        features, _ = read_parquet(path)
    except UsageError as error:
        raise UsageError(f"{error}; {again}") from error
    if len(features.array) != entry.clips:
        raise UsageError(f"{path.name} has {len(features.array)} rows, but the journal has {entry.clips}; {again}")
    return features
