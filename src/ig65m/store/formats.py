"""Features of one video -> a file, in the format that its suffix names."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ig65m.atomic import finished_file
from ig65m.errors import UsageError
from ig65m.types import Features


def describe(features: Features) -> dict[str, Any]:
    """What a features file says of itself: video, status, model, shape of a row, spans in seconds."""
    return {
        "path": features.path,
        "status": features.status,
        "error": asdict(features.error) if features.error else None,
        "model": dict(features.model),
        "shape": list(features.array.shape[1:]),
        "spans": [[span.start, span.end] for span in features.spans],
    }


def _save_npy(features: Features, path: Path) -> None:
    """The rows alone, (clips, C) float32; what they are stands in the .json beside (and logits in NAME.logits.npy)."""
    with finished_file(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(describe(features), indent=1) + "\n", "utf-8")
    if features.logits is not None:
        with finished_file(path.with_suffix(".logits.npy")) as temporary, temporary.open("wb") as out:
            np.save(out, features.logits, allow_pickle=False)
    with finished_file(path) as temporary, temporary.open("wb") as out:
        np.save(out, features.array, allow_pickle=False)


def _save_npz(features: Features, path: Path) -> None:
    """`features` (clips, C) float32, `spans` (clips, 2) float64 in seconds, `info` JSON text, and `logits` if asked for."""
    arrays: dict[str, Any] = {
        "features": features.array,
        "spans": np.array([(span.start, span.end) for span in features.spans], np.float64).reshape(-1, 2),
        "info": np.array(json.dumps(describe(features))),
    }
    if features.logits is not None:
        arrays["logits"] = features.logits
    with finished_file(path) as temporary, temporary.open("wb") as out:
        np.savez(out, **arrays)


def _save_parquet(features: Features, path: Path) -> None:
    """A row a clip: start, end, features (fixed-size list of float32, un-pooled ones flattened), logits if asked for."""
    columns: dict[str, Any] = {
        "start": pa.array([span.start for span in features.spans], pa.float64()),
        "end": pa.array([span.end for span in features.spans], pa.float64()),
        "features": _lists(features.array),
    }
    if features.logits is not None:
        columns["logits"] = _lists(features.logits)
    table = pa.table(columns).replace_schema_metadata({"ig65m": json.dumps(describe(features))})
    with finished_file(path) as temporary:
        pq.write_table(table, temporary)


def _lists(rows: Any) -> Any:
    width = int(np.prod(rows.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1), pa.float32()), width)


FORMATS: dict[str, Callable[[Features, Path], None]] = {".npy": _save_npy, ".npz": _save_npz, ".parquet": _save_parquet}


def save(features: Features, path: Path) -> None:
    """Write features to `path` in the format that its suffix names; the file appears whole or not at all.

    Raises UsageError for another suffix, OSError if the place cannot be written.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"features are written as {', '.join(FORMATS)}, not as {path.name}")
    FORMATS[path.suffix](features, path)


def names_in_folder(videos: list[str]) -> list[str]:
    """A different file name for each video: its stem, with folders in front and then its suffix behind as far as needed.

    Raises UsageError if a video is there twice.
    """
    paths = [Path(video).resolve() for video in videos]
    for names in ([path.stem for path in paths], [path.name for path in paths]):
        parents = [list(path.parts[-2:0:-1]) for path in paths]
        while twice := [index for index, name in enumerate(names) if names.count(name) > 1]:
            longer = [index for index in twice if parents[index]]
            if not longer:
                break
            for index in longer:
                names[index] = f"{parents[index].pop(0)}-{names[index]}"
        if not twice:
            return names
    raise UsageError(f"the same input is given twice: {', '.join(videos[index] for index in twice)}")


def output_files(videos: list[str], output: Path, file_format: str, *, overwrite: bool) -> list[Path]:
    """The file that each video's features go to: `output` itself if its suffix names a format, else one each in that folder.

    Raises UsageError if one file is to hold several videos, or a file is already there and not to be overwritten.
    """
    if f".{file_format}" not in FORMATS:
        raise UsageError(f"format {file_format!r} is none of {', '.join(suffix[1:] for suffix in FORMATS)}")
    if output.suffix in FORMATS:
        if len(videos) > 1:
            raise UsageError(f"{output} is one file but there are {len(videos)} inputs; name a folder to write one file each")
        files = [output]
    elif output.suffix and not output.is_dir():
        raise UsageError(f"{output}: features are written as {', '.join(FORMATS)}, or into a folder")
    else:
        files = [output / f"{name}.{file_format}" for name in names_in_folder(videos)]
    if (present := [str(file) for file in files if file.exists()]) and not overwrite:
        raise UsageError(f"{', '.join(present[:3])} already there; choose another place or --overwrite")
    return files
