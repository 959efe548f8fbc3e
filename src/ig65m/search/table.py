"""The LanceDB table of an index, where all that is in it stands: a row a clip. Each change of it is whole or not there."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError
from ig65m.search.rows import COLUMNS, Rows, read_rows, schema

NAME: Final = "clips"
KEPT: Final = timedelta(hours=1)  # of versions that others may still read
BATCH: Final = 8192  # rows
PROBES: Final = 20  # cells of the index that are looked into
REFINE: Final = 20  # times as many candidates as hits, which are held against their own vectors
BITS: Final = 8
LEAST: Final = 1000  # rows from which there can be an approximate index: it learns 256 centres


class Table:
    """The table in a folder, which need not be there yet."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError if LanceDB is not installed or what is there is no table of ours."""
        self._connection = _lancedb().connect(str(folder))
        self._table: Any = None
        with suppress(FileNotFoundError, ValueError):  # LanceDB's ways to say that there is none
            self._table = self._connection.open_table(NAME)
        if self._table is not None and (found := set(COLUMNS) - set(self._table.schema.names)):
            raise UsageError(f"{folder} has a table that is not ours: it lacks {', '.join(sorted(found))}")

    @property
    def version(self) -> int:
        """Of what is read; 0 if there is no table yet."""
        return 0 if self._table is None else int(self._table.version)

    @property
    def width(self) -> int:
        """Of the vectors; 0 if there is no table yet."""
        return 0 if self._table is None else int(self._table.schema.field("vector").type.list_size)

    def latest(self) -> None:
        """Read from now on what is there now."""
        if self._table is None:
            with suppress(FileNotFoundError, ValueError):
                self._table = self._connection.open_table(NAME)
        else:
            self._table.checkout_latest()

    def rows(self) -> Rows:
        """All but the vectors."""
        return read_rows(self._batches(COLUMNS))

    def vectors(self, first: int = 0) -> Iterator[NDArray[np.float32]]:
        """Those of the rows from `first` on, some at a time."""
        for batch in self._batches(("vector",), first):
            yield batch["vector"].flatten().to_numpy().reshape(-1, self.width)

    def _batches(self, columns: Sequence[str], first: int = 0) -> Iterator[Any]:
        if self._table is not None:
            query = self._table.search().select(list(columns)).offset(first)
            yield from query.to_batches(BATCH)

    def add(self, batch: Any) -> None:
        """Add the rows of a record batch."""
        if self._table is None:
            self._table = self._connection.create_table(NAME, batch, schema=schema(batch["vector"].type.list_size))
        else:
            self._table.add(batch)

    def delete(self, results: Iterable[str]) -> None:
        """Take out the rows of these results, sha256 in hexadecimal."""
        if self._table is not None and (condition := _among(results)):
            self._table.delete(condition)


def _among(results: Iterable[str]) -> str:
    digests = sorted(set(results))
    if strange := [digest for digest in digests if not re.fullmatch("[0-9a-f]{64}", digest)]:
        raise UsageError(f"{strange[0]!a} is no sha256")
    return f"result IN ({', '.join(repr(digest) for digest in digests)})" if digests else ""


def _lancedb() -> Any:
    try:
        import lancedb
    except ModuleNotFoundError as error:
        if error.name != "lancedb":
            raise
        raise UsageError("an index needs lancedb: pip install 'ig65m[search]'") from None
    return lancedb
