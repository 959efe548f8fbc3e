"""Features <-> a Parquet file: a row a clip."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ig65m.errors import UsageError
from ig65m.types import ClipSpan, Failure, Features, Label

Dtype = Literal["float32", "float16"]
_KEY = b"ig65m"


def to_parquet(features: Features, description: Mapping[str, Any], dtype: Dtype = "float32") -> memoryview:
    """The file's bytes, the same for the same features.

    Columns: start, end (seconds), first_frame, last_frame, features (a fixed-size list, un-pooled ones flattened), and where
    they were asked for logits (the same) and labels (a list of label and score). The description is in the schema's metadata.

    Raises UsageError if the features do not fit `dtype`.
    """
    columns: dict[str, Any] = {
        "start": pa.array([span.start for span in features.spans], pa.float64()),
        "end": pa.array([span.end for span in features.spans], pa.float64()),
        "first_frame": pa.array([span.first_frame for span in features.spans], pa.int64()),
        "last_frame": pa.array([span.last_frame for span in features.spans], pa.int64()),
        "features": _lists(features.array, dtype),
    }
    if features.logits is not None:
        columns["logits"] = _lists(features.logits, dtype)
    if features.labels is not None:
        kind = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))
        rows = [[{"label": each.label, "score": each.score} for each in row] for row in features.labels]
        columns["labels"] = pa.array(rows, kind)
    text = json.dumps(description, sort_keys=True)
    out = io.BytesIO()
    plain = [name for name in columns if name in ("features", "logits", "start", "end")]  # all different: nothing to gain
    pq.write_table(
        pa.table(columns).replace_schema_metadata({_KEY: text}),
        out,
        use_dictionary=[name for name in columns if name not in plain],
        compression={name: "none" if name in ("features", "logits") else "zstd" for name in columns},
    )
    return out.getbuffer()


def _lists(rows: NDArray[np.float32], dtype: Dtype) -> Any:
    width = int(np.prod(rows.shape[1:]))
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(rows.reshape(-1).astype(dtype))
    if not np.isfinite(values).all():
        raise UsageError(f"features up to {np.abs(rows).max():g} do not fit {dtype}; write float32")
    kind = pa.list_(pa.field("element", pa.from_numpy_dtype(values.dtype), nullable=False), width)
    return pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind)


def read_parquet(path: Path) -> tuple[Features, dict[str, Any]]:
    """The features in a file of ours, and its description. Raises UsageError if it is none, OSError if it cannot be read."""
    try:
        table = pq.read_table(path, use_threads=False)
        description = json.loads((table.schema.metadata or {})[_KEY])
        spans = zip(*(table[name].to_pylist() for name in ("start", "end", "first_frame", "last_frame")), strict=True)
        error = description["error"]
        features = Features(
            path=description["path"],
            status=description["status"],
            array=_rows(table["features"], description["shape"]),
            spans=tuple(ClipSpan(*span) for span in spans),
            model=description["model"],
            logits=_rows(table["logits"], [table["logits"].type.list_size]) if "logits" in table.column_names else None,
            labels=_labels(table["labels"]) if "labels" in table.column_names else None,
            error=None if error is None else Failure.from_record(error),
        )
    except (pa.ArrowException, LookupError, ValueError, TypeError) as error:
        raise UsageError(f"{path} is no whole file of features of ours ({error})") from None
    return features, description


def _rows(column: Any, shape: Sequence[int]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return values.reshape(len(column), *shape)


def _labels(column: Any) -> tuple[tuple[Label, ...], ...]:
    return tuple(tuple(Label(each["label"], each["score"]) for each in row) for row in column.to_pylist())
