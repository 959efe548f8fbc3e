"""The vectors of an index as one memory-mapped matrix: derived from the table, checked when it is opened, made again if wrong.

A file of HEADER bytes, JSON filled up with spaces, and the rows in float32. What it says of itself: how many rows, of which
clips (a digest), and the sum of its words, which damage changes.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.atomic import finished_file, sync
from ig65m.search.rows import Rows

HEADER: Final = 4096
FORMAT: Final = 1

Vectors = NDArray[np.float32]


def read_matrix(path: Path, rows: Rows, width: int) -> tuple[Vectors, int] | None:
    """The vectors (n, width) that the file has of the first n rows, mapped, and the sum of their words.

    None if it is not there, is damaged, or is not of these rows.
    """
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(HEADER))
            count, digest, total = said["rows"], said["clips"], said["sum"]
            if [said["format"], said["width"]] != [FORMAT, width] or not 0 <= count <= len(rows):
                return None
            if os.fstat(file.fileno()).st_size < HEADER + 4 * count * width or digest != rows.digest(count):
                return None
            if count == 0:
                return np.zeros((0, width), np.float32), 0
            matrix: Any = np.memmap(file, np.float32, "r", HEADER, (count, width))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    matrix = matrix.view(np.ndarray)
    return (matrix, total) if word_sum(matrix) == total else None


def write_matrix(path: Path, rows: Rows, width: int, vectors: Iterable[Vectors]) -> None:
    """Write the whole file; it appears whole or not at all. `vectors` are those of the rows, some at a time."""
    total = 0
    with finished_file(path) as temporary, temporary.open("wb") as file:
        file.write(_header(rows, 0, width, 0))
        for some in vectors:
            file.write(some.data)
            total += word_sum(some)
        file.seek(0)
        file.write(_header(rows, len(rows), width, total))


def extend_matrix(path: Path, rows: Rows, width: int, count: int, total: int, vectors: Iterable[Vectors]) -> None:
    """Add to the file, which has `count` rows that sum to `total`, what comes after; it says so when that is on the disk."""
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
    """The sum, modulo 2 to the 64, of the words of 64 bits in rows (n, width); of 32 bits where the width is odd."""
    even = vectors.shape[1] % 2 == 0
    words = vectors.reshape(-1).view(np.uint64 if even else np.uint32)
    return int(words.sum(dtype=np.uint64))


def _header(rows: Rows, count: int, width: int, total: int) -> bytes:
    text = json.dumps({"format": FORMAT, "rows": count, "width": width, "clips": rows.digest(count), "sum": total % (1 << 64)})
    return text.encode().ljust(HEADER)
