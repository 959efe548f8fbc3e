"""predictions.parquet: a row for each example of the list that was found."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from ig65m.atomic import finished_file
from ig65m.evaluate.results import Result, Results

TOP: Final = 5


def write_predictions(path: Path, results: Results) -> None:
    """Write the table; the names of the classes are in the schema's metadata under `ig65m`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ranked = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))
    rows = [_row(result, results.labels) for result in results.all]
    kinds = {
        "path": pa.string(),
        "start": pa.float64(),
        "end": pa.float64(),
        "status": pa.string(),
        "error": pa.string(),
        "labels": pa.list_(pa.string()),
        "classes": pa.list_(pa.int32()),
        "clips": pa.int32(),
        "predicted": pa.string(),
        "score": pa.float32(),
        "correct": pa.bool_(),
        f"top{TOP}": ranked,
    }
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
    columns["scores"] = _scores(results)
    metadata = {"ig65m": json.dumps({"labels": results.labels, "multi_label": results.multi_label})}
    with finished_file(path) as temporary:
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), temporary, compression="zstd")


def _row(result: Result, labels: tuple[str, ...]) -> dict[str, Any]:
    video, error = result.example.video, result.entry.error
    row = {
        "path": _text(video.path),
        "start": video.start,
        "end": video.end,
        "status": result.entry.status,
        "error": None if error is None else _text(error.message),
        "labels": [_text(label) for label in result.example.labels],
        "classes": result.targets,
        "clips": len(result.clips),
        "predicted": None,
        "score": None,
        "correct": None,
        f"top{TOP}": None,
    }
    if not len(result.clips):
        return row
    order = np.argsort(-result.scores, kind="stable")[:TOP]
    best = [{"label": _text(labels[number]), "score": float(result.scores[number])} for number in order]
    correct = result.predicted in result.targets
    return row | {"predicted": best[0]["label"], "score": best[0]["score"], "correct": correct, f"top{TOP}": best}


def _scores(results: Results) -> Any:
    import pyarrow as pa

    classes = len(results.labels)
    values = np.zeros((len(results.all), classes), np.float32)
    absent = np.array([not len(result.clips) for result in results.all], np.bool_)
    values[~absent] = results.videos.scores
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), classes)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind, mask=pa.array(absent))


def _text(text: str) -> str:
    """Names of files may not be UTF-8; Parquet's texts are."""
    return text.encode(errors="backslashreplace").decode()
