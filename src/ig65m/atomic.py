"""Files that stand under their final name only when they are whole."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ig65m.errors import UsageError


@contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; what was written there gets the final name when the block ends without an error.

    It is on the disk before it has that name, so that neither a kill nor a power cut leaves half a file there. Missing
    folders are made then. Raises UsageError if a file stands where a folder is needed; an OSError says `path`.
    """
    temporary = nearest_folder(path.parent) / f".ig65m-{uuid.uuid4().hex}.part"
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        sync(temporary)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None and str(error.filename) in ("None", str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder that only this user can enter; removed at the end of the block, also if a signal comes while it is made."""
    folder = parent / f"{prefix}{uuid.uuid4().hex}"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Return when the disk has what was written to the file."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_folder(folder: Path) -> None:
    """Return when the disk has the folder's names, where the file system can say so of a folder."""
    with suppress(OSError):
        sync(folder)


def nearest_folder(folder: Path) -> Path:
    """`folder` if it exists, else the nearest above it that does. Raises UsageError if a file is in the way."""
    while not os.path.isdir(folder):  # noqa: PTH112 - Path's raises where the name is too long
        if os.path.lexists(folder) or folder == folder.parent:
            raise UsageError(f"{folder} is not a folder; choose another place")
        folder = folder.parent
    return folder


def check_place(path: Path) -> None:
    """Raise UsageError if no file can be written at `path`: better before the long work than after it. Nothing is made."""
    folder = nearest_folder(path.parent)
    longest = os.pathconf(folder, "PC_NAME_MAX")
    for name in path.parts:
        if len(os.fsencode(name)) > longest:
            raise UsageError(f"{name[:40]}... is a name of {len(os.fsencode(name))} bytes; choose one of at most {longest}")
    try:
        with tempfile.TemporaryFile(prefix=".ig65m-", dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"nothing can be written in {folder} ({error.strerror}); choose another place") from error
