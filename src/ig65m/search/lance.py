"""The LanceDB table of an index: a row for each clip. Each change is atomic."""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from math import isqrt
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import DamagedIndexError, UsageError, needs, plain
from ig65m.search.rows import COLUMNS, Rows, read_rows, wrong_columns

NAME: Final = "clips"
MACHINE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EROFS, errno.EMFILE, errno.ENFILE)
KEPT: Final = timedelta(hours=1)  # age of versions that other processes may still read
BATCH: Final = 8192  # rows
PART: Final = 32 << 20  # bytes of vectors read at once
PROBES: Final = 128  # cells of the approximate index that a search looks into
CANDIDATES: Final = 500  # least number of candidates compared by their own vectors
SAMPLE: Final = 256  # rows from which the centre of a cell is learned
ROUNDS: Final = 10  # iterations of learning; five times as many do not improve recall
PIECE: Final = 8  # numbers of a vector coded as one byte, or the largest divisor of its width below


class Table:
    """The table in a folder; it need not exist yet."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError if LanceDB is not installed, or the table is not one of ig65m."""
        self.folder = folder
        self._connection = _lancedb().connect(str(folder))
        self._table = self._opened()
        if self._table is not None and (wrong := wrong_columns(self._table.schema)):
            raise DamagedIndexError(f"{folder} has an unexpected table; expected {', '.join(wrong)}")

    @property
    def version(self) -> int:
        """Version of the table that is read; 0 if there is none yet."""
        return 0 if self._table is None else int(self._table.version)

    @property
    def width(self) -> int:
        """Length of a vector; 0 if there is no table yet."""
        return 0 if self._table is None else int(self._table.schema.field("vector").type.list_size)

    def latest(self) -> None:
        """Read the latest version from now on."""
        if self._table is None:
            self._table = self._opened()
        else:
            with self._explained():
                self._table.checkout_latest()

    def _opened(self) -> Any:
        """LanceDB's table; None if no version of it was ever complete."""
        if not any((self.folder / f"{NAME}.lance" / "_versions").glob("*.manifest")):
            return None
        with self._explained():
            return self._connection.open_table(NAME)

    def rows(self) -> Rows:
        """Read all columns but the vectors."""
        there = COLUMNS if self._table is None else [name for name in COLUMNS if name in self._table.schema.names]
        return read_rows(self._batches(there))

    def vectors(self, first: int = 0) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors of the rows from `first` on, in batches."""
        step = max(1, PART // (4 * max(self.width, 1)))  # a single query would read far ahead of the consumer
        while batches := list(self._batches(("vector",), first, step)):
            for batch in batches:
                first += len(batch)
                yield _finite(batch["vector"], self.width)

    def _batches(self, columns: Sequence[str], first: int = 0, count: int | None = None) -> Iterator[Any]:
        if self._table is not None:
            with self._explained():
                query = self._table.search().select(list(columns)).offset(first)
                yield from (query if count is None else query.limit(count)).to_batches(BATCH)

    def add(self, rows: Any) -> None:
        """Add the rows of an Arrow table; a table of an earlier version gets the columns that it lacks."""
        with self._explained():
            if self._table is None:
                self._table = self._connection.create_table(NAME, rows)
            else:
                if missing := [field for field in rows.schema if field.name not in self._table.schema.names]:
                    self._table.add_columns(missing)
                self._table.add(rows)

    def delete(self, results: Iterable[str]) -> None:
        """Delete the rows of these results, by their hexadecimal sha256."""
        if self._table is not None and (condition := _among(results)):
            with self._explained():
                self._table.delete(condition)

    def unlearned(self) -> int | None:
        """Number of rows outside the approximate index, which are found too; None without such an index."""
        if self._table is None:
            return None
        with self._explained():
            names = [index.name for index in self._table.list_indices() if index.columns == ["vector"]]
            return self._table.index_stats(names[0]).num_unindexed_rows if names else None

    def pieces(self) -> int:
        """Number of files of rows."""
        return 0 if self._table is None else int(self._table.stats()["fragment_stats"]["num_fragments"])

    def learn(self, rows: int) -> None:
        """Build the approximate index, replacing an existing one."""
        from lancedb.index import IvfPq

        piece = max(size for size in range(1, PIECE + 1) if self.width % size == 0)
        cells = max(1, min(isqrt(rows), rows // SAMPLE))
        config = IvfPq(
            "l2",
            num_partitions=cells,
            num_sub_vectors=self.width // piece,
            max_iterations=ROUNDS,
            sample_rate=SAMPLE,
        )
        with self._explained():
            self._table.create_index("vector", config=config, replace=True)

    def tidy(self) -> None:
        """Add missing rows to the approximate index, merge small files, and delete old versions."""
        if self._table is not None:
            with self._explained():
                self._table.optimize(cleanup_older_than=KEPT)

    def near(self, query: NDArray[np.float32], count: int) -> tuple[list[str], list[int], NDArray[np.float32]]:
        """Return about `count` rows nearest to a query (C,) of length 1, by the approximate index: results, clips, vectors."""
        search = self._table.search(query, vector_column_name="vector", query_type="vector").distance_type("l2")
        search = search.nprobes(PROBES).refine_factor(max(1, CANDIDATES // count)).limit(count)
        with self._explained():
            found = search.select(["result", "clip", "vector", "_distance"]).to_arrow()
        vectors = _finite(found["vector"].combine_chunks(), self.width)
        return found["result"].to_pylist(), found["clip"].to_pylist(), vectors

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Translate LanceDB's errors: a full disk to OSError, any other to a damaged table."""
        try:
            yield
        except RuntimeError as error:
            if "lance error" not in str(error):
                raise
            number = re.search(r"os error (\d+)", str(error))
            if number and int(number[1]) in MACHINE:
                raise OSError(int(number[1]), os.strerror(int(number[1])), str(self.folder)) from error
            if not self.folder.is_dir():
                raise DamagedIndexError(f"{self.folder} no longer exists; restore the index") from error
            raise DamagedIndexError(f"{self.folder} is damaged ({plain(error, 120)}); remove it and build it again") from error


def _finite(column: Any, width: int) -> NDArray[np.float32]:
    """Return vectors (n, width); one that is missing or not finite becomes zeros."""
    values = column.values.slice(column.offset * width, len(column) * width).to_numpy(zero_copy_only=False)
    vectors: NDArray[np.float32] = values.astype(np.float32, copy=False).reshape(-1, width)
    sound = np.isfinite(vectors).all(1) & column.is_valid().to_numpy(zero_copy_only=False)
    return vectors if sound.all() else np.where(sound[:, None], vectors, np.float32(0))


def _among(results: Iterable[str]) -> str:
    digests = sorted(set(results))
    if strange := [digest for digest in digests if not re.fullmatch("[0-9a-f]{64}", digest)]:
        raise UsageError(f"{strange[0]!a} is not a sha256")
    return f"result IN ({', '.join(repr(digest) for digest in digests)})" if digests else ""


def _lancedb() -> Any:
    os.environ.setdefault("LANCEDB_LOG", "error")  # LanceDB logs its decisions on stderr; it reads this when it is imported
    with needs("search", "an index"):
        import lancedb
    return lancedb
