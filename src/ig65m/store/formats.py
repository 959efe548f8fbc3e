"""Features of one video -> a file, in the format that its suffix names."""

import io
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ig65m.atomic import check_place, finished_file
from ig65m.errors import UsageError
from ig65m.types import Features

Contents = dict[Path, bytes | memoryview]
"""Files and what they are to hold, in the order in which they appear."""


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


def _npy(features: Features, path: Path) -> Contents:
    """The rows alone, (clips, C) float32; what they are stands in the .json beside (and logits in NAME.logits.npy)."""
    description = json.dumps(describe(features), indent=1) + "\n"
    contents: Contents = {path.with_suffix(".json"): description.encode()}
    if features.logits is not None:
        contents[path.with_suffix(".logits.npy")] = _array_file(features.logits)
    return contents | {path: _array_file(features.array)}


def _array_file(array: NDArray[np.float32]) -> memoryview:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getbuffer()


def _npz(features: Features, path: Path) -> Contents:
    """`features` (clips, C) float32, `spans` (clips, 2) float64 in seconds, `info` JSON text, and `logits` if asked for."""
    arrays: dict[str, Any] = {
        "features": features.array,
        "spans": np.array([(span.start, span.end) for span in features.spans], np.float64).reshape(-1, 2),
        "info": np.array(json.dumps(describe(features))),
    }
    if features.logits is not None:
        arrays["logits"] = features.logits
    out = io.BytesIO()
    np.savez(out, **arrays)
    return {path: out.getbuffer()}


def _parquet(features: Features, path: Path) -> Contents:
    """A row a clip: start, end, features (fixed-size list of float32, un-pooled ones flattened), logits if asked for."""
    columns: dict[str, Any] = {
        "start": pa.array([span.start for span in features.spans], pa.float64()),
        "end": pa.array([span.end for span in features.spans], pa.float64()),
        "features": _lists(features.array),
    }
    if features.logits is not None:
        columns["logits"] = _lists(features.logits)
    table = pa.table(columns).replace_schema_metadata({"ig65m": json.dumps(describe(features))})
    out = io.BytesIO()
    pq.write_table(table, out)
    return {path: out.getbuffer()}


def _lists(rows: Any) -> Any:
    width = int(np.prod(rows.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1), pa.float32()), width)


FORMATS: dict[str, Callable[[Features, Path], Contents]] = {".npy": _npy, ".npz": _npz, ".parquet": _parquet}


def save(features: Features, path: Path) -> None:
    """Write features to `path` in the format that its suffix names; the file appears whole or not at all.

    Of several files `path` is the last to appear: while it is there, those beside it are whole and belong to it. Raises
    UsageError for another suffix or a place where no file can be, OSError if the disk refuses.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"features are written as {', '.join(FORMATS)}, not as {path.name}")
    contents = FORMATS[path.suffix](features, path)
    with ExitStack() as names:  # given in the order of contents, which is that of leaving, once all of them are written
        for file, data in reversed(contents.items()):
            names.enter_context(finished_file(file)).write_bytes(data)
        if len(contents) > 1:
            for old in files_at(path):  # the old array first: it must not stand beside a new description
                old.unlink(missing_ok=True)


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


def files_at(path: Path) -> list[Path]:
    """`path` and the files beside it that belong to features there, whether this run writes each of them or not."""
    return [path] if path.suffix != ".npy" else [path, path.with_suffix(".json"), path.with_suffix(".logits.npy")]


def output_files(videos: Sequence[str], output: str, file_format: str | None = None, *, overwrite: bool = False) -> list[Path]:
    """The file that each video's features go to: `output` itself if its suffix names a format, else one each in that folder.

    Nothing is made. Raises UsageError if one file is to hold several videos, if two videos' files would be the same, if a
    file is already there and not to be overwritten or is itself one of the videos, or if nothing can be written there.
    """
    if not output:
        raise UsageError("the output has no name; give a file (.npy, .npz, .parquet) or a folder")
    if file_format is not None and f".{file_format}" not in FORMATS:
        raise UsageError(f"format {file_format!r} is none of {', '.join(suffix[1:] for suffix in FORMATS)}")
    path = Path(output)
    is_folder = output.endswith("/") or os.path.isdir(path)  # noqa: PTH112 - Path's raises where the name is too long
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
    written = [file for target in files for file in files_at(target)]
    if repeated := _repeated([str(file) for file in written]):
        raise UsageError(f"two inputs would be written to {written[repeated[0]]}; extract them into different folders")
    check_place(max(written, key=lambda file: len(os.fsencode(file.name))))
    present = [file for file in written if os.path.lexists(file)]
    if folders := [str(file) for file in present if file.is_dir()]:
        raise UsageError(f"{folders[0]} is a folder; choose another place")
    inputs = {identity for video in videos if (identity := _identity(Path(video)))}
    if same := [str(file) for file in present if _identity(file) in inputs]:
        raise UsageError(f"{same[0]} is one of the inputs; choose another place")
    if present and not overwrite:
        more = f" and {len(present) - 3} more" if len(present) > 3 else ""
        raise UsageError(f"{', '.join(map(str, present[:3]))}{more} already there; choose another place or --overwrite")
    return files


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file whatever its name, behind links too; None if there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
