"""Files that get their final name only once they are complete on the disk."""

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
    """Yield a temporary path beside `path`; the file there is renamed to `path` when the block ends without an error.

    It is synced before, so that neither a kill nor a power cut leaves half a file. Missing folders are created. Raises
    UsageError if a file is where a folder is needed; an OSError names `path`.
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


def create_file(path: Path, text: str) -> None:
    """Write a file that appears complete, unless there is one already, perhaps of another process at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".ig65m-{uuid.uuid4().hex}.part")
    try:
        temporary.write_text(text, "utf-8")
        sync(temporary)
        with suppress(FileExistsError):
            os.link(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new private folder, and remove it when the block ends, also by a signal."""
    folder = parent / f"{prefix}{uuid.uuid4().hex}"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Flush a file to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, if the file system supports it."""
    with suppress(OSError):
        sync(folder)


def nearest_folder(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists. Raises UsageError if a file is in the way."""
    while not os.path.isdir(folder):  # noqa: PTH112 - Path's raises where the name is too long
        if os.path.lexists(folder) or folder == folder.parent:
            raise UsageError(f"{folder} is not a folder; choose another place")
        folder = folder.parent
    return folder


def check_place(path: Path) -> None:
    """Raise UsageError if no file can be written at `path`; called before long work. Nothing is created."""
    folder = nearest_folder(path.parent)
    longest = os.pathconf(folder, "PC_NAME_MAX")
    for name in path.parts:
        if len(os.fsencode(name)) > longest:
            raise UsageError(f"{name[:40]}... has {len(os.fsencode(name))} bytes; choose a name of at most {longest}")
    try:
        with tempfile.TemporaryFile(prefix=".ig65m-", dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to {folder} ({error.strerror}); choose another place") from error
