"""Adds the videos of a folder of features to an index, in batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ig65m.errors import UsageError
from ig65m.search.lance import Table
from ig65m.search.rows import NUMBERS, TEXTS, schema, to_text
from ig65m.search.vectors import Vectors
from ig65m.store.features import Features
from ig65m.store.journal import Entry
from ig65m.store.verify import read_result

PART: Final = 64 << 20  # bytes of vectors in one batch


@dataclass(frozen=True)
class IngestResult:
    """What became of the videos of a folder of features, by their names in the index."""

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]
    left_out: tuple[str, ...]  # a line for each, with the reason
    clips: int  # number of clips that were added


class Ingest:
    """Videos on their way into a table, in batches."""

    def __init__(self, table: Table, known: Mapping[str, str]) -> None:
        """known: the results in the index, by video."""
        self.table = table
        self.known = known
        self.added: list[str] = []
        self.replaced: list[str] = []
        self.unchanged: list[str] = []
        self.left_out: list[str] = []
        self.clips = 0
        self.width = table.width
        self._batches: list[Any] = []
        self._gone: list[str] = []
        self._bytes = 0

    def take(self, folder: Path, entry: Entry) -> None:
        """Add, replace or leave out one video of a folder of features; a video that cannot be searched is named, not raised."""
        before = self.known.get(entry.name)
        if entry.sha256 is None:
            self._leave_out(entry, f"failed: {'' if entry.error is None else entry.error.message}")
            if before is not None:
                self._gone.append(before)  # of the video's earlier content
            return
        if before == entry.sha256:
            self.unchanged.append(entry.name)
            return
        try:
            features = read_result(folder, entry)
            batch = _batch(entry, features, self.width)
        except UsageError as error:
            self._leave_out(entry, str(error))
            return
        self.width = features.array.shape[1]
        (self.added if before is None else self.replaced).append(entry.name)
        self._gone += [] if before is None else [before]
        self._batches.append(batch)
        self._bytes += features.array.nbytes
        self.clips += len(features.array)
        if self._bytes >= PART:
            self.write()

    def write(self) -> None:
        """Write the pending videos to the table; a video is added with all its clips, or not at all."""
        self.table.delete(self._gone)
        if self._batches:
            self.table.add(pa.Table.from_batches(self._batches))
        self._batches, self._gone, self._bytes = [], [], 0

    def done(self) -> IngestResult:
        return IngestResult(tuple(self.added), tuple(self.replaced), tuple(self.unchanged), tuple(self.left_out), self.clips)

    def _leave_out(self, entry: Entry, why: str) -> None:
        self.left_out.append(f"{entry.video}: {why}")


def unit_length(vectors: NDArray[np.float32]) -> Vectors:
    """Scale rows (n, C) to length 1 as float32; zero vectors stay zero."""
    exact = vectors.astype(np.float64)
    largest = np.abs(exact).max(1, initial=0.0, keepdims=True)
    exact = np.divide(exact, largest, out=np.zeros_like(exact), where=largest > 0)
    norms = np.sqrt((exact * exact).sum(1, keepdims=True))
    unit: Vectors = np.divide(exact, norms, out=exact, where=norms > 0).astype(np.float32)
    return unit


def _batch(entry: Entry, features: Features, width: int) -> Any:
    """Return the rows of a video. Raises UsageError for features that cannot be searched."""
    array = features.array
    if array.ndim != 2 or (width and array.shape[1] != width):
        raise UsageError(
            f"its features have {' x '.join(map(str, array.shape[1:]))} numbers for each clip, those in the index {width}"
        )
    if len(array) == 0:
        raise UsageError("it has no clips")
    if not np.isfinite(array).all():
        raise UsageError("its features contain numbers that are not finite")
    video = [entry.name, to_text(entry.video.path), entry.sha256, entry.status]
    labels = features.labels or ((),) * len(array)
    columns: dict[str, Any] = {
        **{name: [value] * len(array) for name, value in zip(TEXTS, video, strict=True)},
        "clip": range(len(array)),
        **{name: [getattr(span, name) for span in features.spans] for name in (*NUMBERS[1:], "shot")},
        "labels": [[{"label": each.label, "score": each.score} for each in row] for row in labels],
    }
    kinds = schema(array.shape[1])
    arrays = {name: pa.array(values, kinds.field(name).type) for name, values in columns.items()}
    arrays["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(unit_length(array).reshape(-1)), array.shape[1])
    return pa.RecordBatch.from_arrays([arrays[name] for name in kinds.names], schema=kinds)
