"""The vectors of an index as one memory-mapped matrix: derived from the table, verified when opened, rebuilt if wrong.

The file has HEADER bytes, JSON padded with spaces, and the rows in float32. The header has the number of rows, a digest of
their clips, and the sum of their words, which damage changes.
"""

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.atomic import finished_file, sync
from ig65m.search.metadata import locked
from ig65m.search.rows import Rows

FILE: Final = "vectors.f32"
HEADER: Final = 4096
PART: Final = 16 << 20  # bytes summed at once
_READ_ONLY: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
FORMAT: Final = 1

Vectors = NDArray[np.float32]


def load_matrix(folder: Path, rows: Rows, width: int, vectors: Callable[[int], Iterator[Vectors]]) -> Vectors:
    """Return the vectors (n, width) of these rows, mapped from the folder's file, after updating it with what `vectors` yields
    from a row on; in memory if the file cannot be written.

    Raises OSError if the disk is full or faulty.
    """
    path = folder / FILE
    if len(rows) == 0:
        return np.zeros((0, width), np.float32)
    found = read_matrix(path, rows, width)
    if found is None or len(found[0]) < len(rows):
        try:
            with locked(folder, "mapping"):
                found = read_matrix(path, rows, width)
                if found is None:
                    write_matrix(path, rows, width, vectors(0))
                elif len(found[0]) < len(rows):
                    extend_matrix(path, rows, *found, vectors(len(found[0])))
                found = read_matrix(path, rows, width)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            return np.concatenate([np.zeros((0, width), np.float32), *vectors(0)])
    if found is None or len(found[0]) != len(rows):
        raise OSError(None, "the file reads back differently than it was written; check the disk", str(path))
    return found[0]


def read_matrix(path: Path, rows: Rows, width: int) -> tuple[Vectors, int] | None:
    """Return the vectors (n, width) of the first n rows in the file, mapped, and the sum of their words.

    None if the file is missing, damaged, or of other rows.
    """
    try:
        with path.open("rb", buffering=0) as file:
            said = json.loads(file.read(HEADER))
            count, digest, total = said["rows"], said["clips"], said["sum"]
            if [said["format"], said["width"]] != [FORMAT, width] or not 0 <= count <= len(rows):
                return None
            if digest != rows.digest(count) or _sum_of(file, count, width) != total:
                return None
            if count == 0:
                return np.zeros((0, width), np.float32), 0
            matrix = np.memmap(file, np.float32, "r", HEADER, (count, width))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return matrix.view(np.ndarray), total


def _sum_of(file: BinaryIO, count: int, width: int) -> int | None:
    """Sum a file's rows by reading, not mapping, so that they do not count as this process's memory."""
    step = max(1, PART // (4 * width)) if width else 1
    buffer = np.empty((min(step, count), width), np.float32)
    total = 0
    for first in range(0, count, step):
        part = buffer[: min(step, count - first)]
        view, filled = part.reshape(-1).view(np.uint8).data, 0
        while filled < len(view):
            if not (got := file.readinto(view[filled:])):  # type: ignore[attr-defined]
                return None
            filled += got
        total += word_sum(part)
    return total % (1 << 64)


def write_matrix(path: Path, rows: Rows, width: int, vectors: Iterable[Vectors]) -> None:
    """Write the whole file atomically. `vectors` yields the vectors of the rows in batches."""
    total = 0
    with finished_file(path) as temporary, temporary.open("wb") as file:
        file.write(_header(rows, 0, width, 0))
        for some in vectors:
            file.write(some.data)
            total += word_sum(some)
        file.seek(0)
        file.write(_header(rows, len(rows), width, total))


def extend_matrix(path: Path, rows: Rows, there: Vectors, total: int, vectors: Iterable[Vectors]) -> None:
    """Append to the file, which has the vectors `there` with the sum `total`; its header changes once that is on the disk."""
    count, width = there.shape
    with path.open("r+b") as file:
        file.seek(HEADER + 4 * count * width)
        for some in vectors:
            file.write(some.data)
            total += word_sum(some)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
        os.pwrite(file.fileno(), _header(rows, len(rows), width, total), 0)
    sync(path)


def word_sum(vectors: Vectors) -> int:
    """Return the sum, modulo 2 to the 64, of the 64-bit words in rows (n, width); of 32-bit words if the width is odd."""
    even = vectors.shape[1] % 2 == 0
    words = vectors.reshape(-1).view(np.uint64 if even else np.uint32)
    return int(words.sum(dtype=np.uint64))


def _header(rows: Rows, count: int, width: int, total: int) -> bytes:
    text = json.dumps({"format": FORMAT, "rows": count, "width": width, "clips": rows.digest(count), "sum": total % (1 << 64)})
    return text.encode().ljust(HEADER)
