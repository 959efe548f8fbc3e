"""Features of one video -> a file, in the format that its suffix names."""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
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
    logits = path.with_suffix(".logits.npy")
    if features.logits is None:
        logits.unlink(missing_ok=True)  # of an earlier run, which this one replaces
    else:
        with finished_file(logits) as temporary, temporary.open("wb") as out:
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


def names_in_folder(videos: Sequence[str]) -> list[str]:
    """A different file name for each video: its stem, with folders in front and then its suffix behind as far as needed.

    Raises UsageError if a video is there twice.
    """
    paths = [Path(os.path.abspath(video)) for video in videos]  # noqa: PTH100 - a link keeps its own name
    for names in ([path.stem for path in paths], [path.name for path in paths]):
        parents = [list(path.parts[-2:0:-1]) for path in paths]
        while twice := _repeated(names):
            longer = [index for index in twice if parents[index]]
            if not longer:
                break
            for index in longer:
                names[index] = f"{parents[index].pop(0)}-{names[index]}"
        if not twice:
            return names
    raise UsageError(f"the same input is given twice: {', '.join(videos[index] for index in twice)}")


def _repeated(names: list[str]) -> list[int]:
    count = Counter(names)
    return [index for index, name in enumerate(names) if count[name] > 1]


def written_files(path: Path, *, logits: bool) -> list[Path]:
    """Every file that `save` writes for features at `path`."""
    if path.suffix != ".npy":
        return [path]
    return [path, path.with_suffix(".json"), *([path.with_suffix(".logits.npy")] if logits else [])]


def output_files(
    videos: Sequence[str], output: str, file_format: str | None = None, *, logits: bool = False, overwrite: bool = False
) -> list[Path]:
    """The file that each video's features go to: `output` itself if its suffix names a format, else one each in that folder.

    Folders that are missing are made. Raises UsageError if one file is to hold several videos, if two videos' files would
    be the same, or if a file is already there and not to be overwritten; OSError if a folder cannot be made.
    """
    if not output:
        raise UsageError("the output has no name; give a file (.npy, .npz, .parquet) or a folder")
    if file_format is not None and f".{file_format}" not in FORMATS:
        raise UsageError(f"format {file_format!r} is none of {', '.join(suffix[1:] for suffix in FORMATS)}")
    path = Path(output)
    is_folder = output.endswith("/") or path.is_dir()
    if path.suffix in FORMATS and not is_folder:
        if len(videos) > 1:
            raise UsageError(f"{output} is one file but there are {len(videos)} inputs; name a folder to write one file each")
        if file_format is not None and path.suffix != f".{file_format}":
            raise UsageError(f"{output} is not a file of format {file_format}; leave --format out, or name a folder")
        files = [path]
    elif path.suffix and not is_folder and len(videos) == 1:
        raise UsageError(f"{output}: features are written as {', '.join(FORMATS)}; a folder's name ends in / if it has a dot")
    else:
        files = [path / f"{name}.{file_format or 'npy'}" for name in names_in_folder(videos)]
    written = [file for target in files for file in written_files(target, logits=logits)]
    if repeated := _repeated([str(file) for file in written]):
        raise UsageError(f"two inputs would be written to {written[repeated[0]]}; extract them into different folders")
    if folders := [str(file) for file in written if file.is_dir()]:
        raise UsageError(f"{folders[0]} is a folder; choose another place")
    if (present := [str(file) for file in written if file.exists()]) and not overwrite:
        raise UsageError(f"{', '.join(present[:3])} already there; choose another place or --overwrite")
    for folder in {file.parent for file in files}:
        folder.mkdir(parents=True, exist_ok=True)
    return files
