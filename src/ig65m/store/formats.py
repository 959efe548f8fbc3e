"""Features of one video <-> a file, in the format that its suffix names."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.atomic import check_place, finished_file
from ig65m.errors import UsageError, plain
from ig65m.store.parquet import read_parquet, to_parquet
from ig65m.types import ClipSpan, Failure, Features

Contents = dict[Path, bytes | memoryview]
"""Files and what they are to hold, in the order in which they appear."""


def describe(features: Features) -> dict[str, Any]:
    """What a features file says of itself: video, status, model, shape of a row, spans in seconds."""
    return {
        "path": features.path,
        "status": features.status,
        "error": features.error.to_record() if features.error else None,
        "model": dict(features.model),
        "shape": list(features.array.shape[1:]),
        "spans": [[span.start, span.end] for span in features.spans],
        "frames": [[span.first_frame, span.last_frame] for span in features.spans],
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
    """`features` (clips, C) float32, `spans` (clips, 2) float64 in seconds, `frames` (clips, 2) int64, the first and the last
    frame of each, `info` JSON text, and `logits` if asked for."""
    arrays: dict[str, Any] = {
        "features": features.array,
        "spans": np.array([(span.start, span.end) for span in features.spans], np.float64).reshape(-1, 2),
        "frames": np.array([(span.first_frame, span.last_frame) for span in features.spans], np.int64).reshape(-1, 2),
        "info": np.array(json.dumps(describe(features))),
    }
    if features.logits is not None:
        arrays["logits"] = features.logits
    out = io.BytesIO()
    np.savez(out, **arrays)
    return {path: out.getbuffer()}


def _parquet(features: Features, path: Path) -> Contents:
    """A row a clip, as `parquet.to_parquet` says; the description in the schema's metadata."""
    return {path: to_parquet(features, describe(features))}


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


def load(path: Path) -> Features:
    """The features in a file of ours: what `save` wrote, or one of a folder of features.

    Raises UsageError if it is none, OSError if it cannot be read.
    """
    if path.suffix == ".parquet":
        return read_parquet(path)[0]
    try:
        if path.suffix == ".npy":
            arrays = {"features": np.load(path, allow_pickle=False)}
            if (logits := path.with_suffix(".logits.npy")).exists():
                arrays["logits"] = np.load(logits, allow_pickle=False)
            info = json.loads(path.with_suffix(".json").read_text("utf-8"))
        else:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ("features", "logits") if name in file}
                info = json.loads(str(file["info"]))
        return Features(
            path=info["path"],
            status=info["status"],
            array=arrays["features"],
            spans=tuple(ClipSpan(*span, *frames) for span, frames in zip(info["spans"], info["frames"], strict=True)),
            model=info["model"],
            logits=arrays.get("logits"),
            error=None if info["error"] is None else Failure.from_record(info["error"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        kinds = "; expected what `ig65m extract` writes: .npz, .parquet, or .npy with its .json beside it"
        raise UsageError(f"{path} is no file of features of ours ({plain(error)}){kinds}") from None


def files_at(path: Path) -> list[Path]:
    """`path` and the files beside it that belong to features there, whether this run writes each of them or not."""
    return [path] if path.suffix != ".npy" else [path, path.with_suffix(".json"), path.with_suffix(".logits.npy")]


def check_file(path: Path, videos: Sequence[str], *, overwrite: bool = False) -> None:
    """Raise UsageError unless the features of one video can be written to `path`; nothing is made.

    What forbids it: several videos, files that are there and not to be overwritten, or are the video itself, a place where
    nothing can be written.
    """
    if len(videos) > 1:
        raise UsageError(f"{path} is one file but there are {len(videos)} inputs; name a folder to keep them in")
    written = files_at(path)
    check_place(max(written, key=lambda file: len(os.fsencode(file.name))))
    present = [file for file in written if os.path.lexists(file)]
    if folders := [str(file) for file in present if file.is_dir()]:
        raise UsageError(f"{folders[0]} is a folder; choose another place")
    inputs = {identity for video in videos if (identity := _identity(Path(video)))}
    if same := [str(file) for file in present if _identity(file) in inputs]:
        raise UsageError(f"{same[0]} is one of the inputs; choose another place")
    if present and not overwrite:
        raise UsageError(f"{', '.join(map(str, present))} already there; choose another place or --overwrite")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file whatever its name, behind links too; None if there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
