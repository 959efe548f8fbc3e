"""Features of one video, and the files that hold them: .npy, .npz and .parquet."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ig65m.atomic import check_place, finished_file
from ig65m.display.html import features_html
from ig65m.errors import UsageError, needs, plain
from ig65m.types import ClipSpan, Failure, Label, Status, time_range

if TYPE_CHECKING:
    import pandas

Dtype = Literal["float32", "float16"]
_KEY = b"ig65m"  # of the description in a Parquet file's metadata

Contents = dict[Path, bytes | memoryview]
"""Files and their contents, in the order in which they appear."""


@dataclass(frozen=True)
class Features:
    """Features of a video: a row for each clip. A notebook shows them as a picture of similar features side by side.

    Example:
        >>> features = ig65m.extract("video.mp4", model="r2plus1d_10_camera_motion")
        >>> features.save("features.npz")
    """

    path: str
    status: Status
    array: NDArray[np.float32]  # (clips, C); without pooling (clips, C, T', H', W')
    spans: tuple[ClipSpan, ...]  # one for each row
    model: Mapping[str, Any] = field(default_factory=dict)  # what computed them: name, sha256, preprocessing, sampling, ...
    logits: NDArray[np.float32] | None = None  # (clips, classes), if asked for
    labels: tuple[tuple[Label, ...], ...] | None = None  # best labels of each clip, if asked for
    error: Failure | None = None
    sought: bool = False  # whether only the parts of the video that its clips need were decoded; `status` is that of these

    def __post_init__(self) -> None:
        if len(self.array) != len(self.spans):
            raise UsageError(f"{len(self.array)} rows of features but {len(self.spans)} spans")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the features: see `ig65m.save_features`."""
        save(self, path)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a table with a row for each clip: start and end in seconds, first_frame, last_frame, the features f0, f1, ...

        Before the features are shot, if it is known, and label and score of the best label, if there are labels.

        Raises UsageError for features that are not pooled, (clips, C), and without pandas (extra `pandas`).

        Example:
            >>> table = ig65m.extract("video.mp4", model="r2plus1d_10_camera_motion").to_pandas()
            >>> table.shape
            (5, 132)
        """
        with needs("pandas", "Features.to_pandas"):
            import pandas
        if self.array.ndim != 2:
            raise UsageError(f"a table needs pooled features (clips, C), got {self.array.shape}; extract them with pooling")
        columns: dict[str, Sequence[object]] = {
            name: [getattr(span, name) for span in self.spans] for name in ("start", "end", "first_frame", "last_frame")
        }
        if (shots := shots_of(self)) is not None:
            columns["shot"] = shots
        if self.labels is not None:
            best = [labels[0] if labels else None for labels in self.labels]
            columns["label"] = [each and each.label for each in best]
            columns["score"] = [each and each.score for each in best]
        names = [f"f{number}" for number in range(self.array.shape[1])]
        return pandas.concat([pandas.DataFrame(columns), pandas.DataFrame(self.array, columns=names)], axis=1)

    def _repr_html_(self) -> str:
        size = " x ".join(f"{length:,}" for length in self.array.shape)
        what = f"features ({size}) {self.array.dtype}"
        summary = (self.path, self.model.get("name", "unknown model"), what, time_range(self.spans), self.status)
        problem = None if self.error is None else self.error.describe(self.status)
        return features_html(summary, problem, self.array)


def describe(features: Features) -> dict[str, Any]:
    """Return the metadata of a file of features: video, status, model, shape of a row, spans in seconds."""
    return sought_record(features) | {
        "path": features.path,
        "status": features.status,
        "error": features.error.to_record() if features.error else None,
        "model": dict(features.model),
        "shape": list(features.array.shape[1:]),
        "spans": [[span.start, span.end] for span in features.spans],
        "frames": [[span.first_frame, span.last_frame] for span in features.spans],
        **({"shots": shots} if (shots := shots_of(features)) is not None else {}),
    }


def shots_of(features: Features) -> list[int] | None:
    """Return the number of the shot of each clip; None if clips may cross the boundaries of shots."""
    shots = [span.shot for span in features.spans if span.shot is not None]
    return shots if shots and len(shots) == len(features.spans) else None


def sought_record(features: Features) -> dict[str, Any]:
    """Return the metadata "sought", which is left out if all of the video was decoded."""
    return {"sought": True} if features.sought else {}


def _npy(features: Features, path: Path) -> Contents:
    """NAME.npy: features (clips, C) float32. NAME.json: metadata. NAME.logits.npy: logits, if there are any."""
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
    """`features` (clips, C) float32; `spans` (clips, 2) float64 in seconds; `frames` (clips, 2) int64, first and last frame;
    `info`, metadata as JSON; `logits` (clips, classes) float32 and `shots` (clips,) int64, if there are any."""
    arrays: dict[str, Any] = {
        "features": features.array,
        "spans": np.array([(span.start, span.end) for span in features.spans], np.float64).reshape(-1, 2),
        "frames": np.array([(span.first_frame, span.last_frame) for span in features.spans], np.int64).reshape(-1, 2),
        "info": np.array(json.dumps(describe(features))),
    }
    if features.logits is not None:
        arrays["logits"] = features.logits
    if (shots := shots_of(features)) is not None:
        arrays["shots"] = np.array(shots, np.int64)
    out = io.BytesIO()
    np.savez(out, **arrays)
    return {path: out.getbuffer()}


def _parquet(features: Features, path: Path) -> Contents:
    """A row for each clip, as in `to_parquet`."""
    return {path: to_parquet(features, describe(features))}


FORMATS: dict[str, Callable[[Features, Path], Contents]] = {".npy": _npy, ".npz": _npz, ".parquet": _parquet}


def save(features: Features, path: str | os.PathLike[str]) -> None:
    """Save features of one video to a .npy, .npz or .parquet file.

    The file appears complete or not at all. Of several files, `path` appears last: once it exists, the files beside it are
    complete and belong to it.

    Args:
        features: Features of one video.
        path: Where to write; the suffix selects the format.

    Raises:
        UsageError: The suffix is unknown, or no file can be written there.
        OSError: The disk is full or faulty.

    Example:
        >>> features = ig65m.extract("video.mp4", model="r2plus1d_10_camera_motion")
        >>> ig65m.save_features(features, "features.npz")
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise UsageError(f"features are written as {', '.join(FORMATS)}, not as {path.name}")
    contents = FORMATS[path.suffix](features, path)
    with ExitStack() as names:  # renamed in the order of contents, once all of them are written
        for file, data in reversed(contents.items()):
            names.enter_context(finished_file(file)).write_bytes(data)
        if len(contents) > 1:
            for old in files_at(path):  # the old array goes first: it must not be seen beside new metadata
                old.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Features:
    """Load features of one video from a file of `ig65m extract`, of `save_features`, or in a folder of features.

    Raises:
        UsageError: The file does not hold features.
        OSError: The file cannot be read.

    Example:
        >>> features = ig65m.extract("video.mp4", model="r2plus1d_10_camera_motion")
        >>> ig65m.save_features(features, "features.npz")
        >>> ig65m.load_features("features.npz").array.shape
        (5, 128)
    """
    path = Path(path)
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
        shots = info.get("shots") or [None] * len(info["spans"])
        rows = zip(info["spans"], info["frames"], shots, strict=True)
        return Features(
            path=info["path"],
            status=info["status"],
            array=arrays["features"],
            spans=tuple(ClipSpan(span[0], span[1], frames[0], frames[1], shot) for span, frames, shot in rows),
            model=info["model"],
            logits=arrays.get("logits"),
            error=None if info["error"] is None else Failure.from_record(info["error"]),
            sought=info.get("sought", False),
        )
    except (ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        kinds = "; expected a file of `ig65m extract`: .npz, .parquet, or .npy with its .json beside it"
        raise UsageError(f"{path} is not a file of features ({plain(error)}){kinds}") from None


def files_at(path: Path) -> list[Path]:
    """Return `path` and all files beside it that may belong to features there."""
    return [path] if path.suffix != ".npy" else [path, path.with_suffix(".json"), path.with_suffix(".logits.npy")]


def check_file(path: Path, videos: Sequence[str], *, overwrite: bool = False) -> None:
    """Raise UsageError unless the features of these videos can be written to `path`; nothing is written.

    Reasons are several videos, existing files without `overwrite`, a path of the video itself, and an unwritable place.
    """
    if len(videos) > 1:
        raise UsageError(f"{path} is one file, but there are {len(videos)} inputs; give a folder")
    written = files_at(path)
    check_place(max(written, key=lambda file: len(os.fsencode(file.name))))
    present = [file for file in written if os.path.lexists(file)]
    if folders := [str(file) for file in present if file.is_dir()]:
        raise UsageError(f"{folders[0]} is a folder; choose another place")
    inputs = {identity for video in videos if (identity := _identity(Path(video)))}
    if same := [str(file) for file in present if _identity(file) in inputs]:
        raise UsageError(f"{same[0]} is one of the inputs; choose another place")
    if present and not overwrite:
        raise UsageError(f"{', '.join(map(str, present))} already exists; choose another place, or use --overwrite")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file, links resolved; None if it does not exist."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def to_parquet(features: Features, description: Mapping[str, Any], dtype: Dtype = "float32") -> memoryview:
    """Return the bytes of the file; equal features give equal bytes.

    Columns: start and end in seconds, first_frame, last_frame, features (a fixed-size list; un-pooled ones are flattened), and
    if there are any, shot (number of the clip's shot), logits (a fixed-size list) and labels (a list of label and score). The
    description is in the schema's metadata.

    Raises UsageError if the features do not fit `dtype`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "start": pa.array([span.start for span in features.spans], pa.float64()),
        "end": pa.array([span.end for span in features.spans], pa.float64()),
        "first_frame": pa.array([span.first_frame for span in features.spans], pa.int64()),
        "last_frame": pa.array([span.last_frame for span in features.spans], pa.int64()),
        "features": _lists(features.array, dtype),
    }
    if (shots := shots_of(features)) is not None:
        columns["shot"] = pa.array(shots, pa.int64())
    if features.logits is not None:
        columns["logits"] = _lists(features.logits, dtype)
    if features.labels is not None:
        kind = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))
        rows = [[{"label": each.label, "score": each.score} for each in row] for row in features.labels]
        columns["labels"] = pa.array(rows, kind)
    text = json.dumps(description, sort_keys=True)
    out = io.BytesIO()
    distinct = [name for name in columns if name in ("features", "logits", "start", "end")]  # a dictionary would save nothing
    pq.write_table(
        pa.table(columns).replace_schema_metadata({_KEY: text}),
        out,
        use_dictionary=[name for name in columns if name not in distinct],
        compression={name: "none" if name in ("features", "logits") else "zstd" for name in columns},
    )
    return out.getbuffer()


def _lists(rows: NDArray[np.float32], dtype: Dtype) -> Any:
    import pyarrow as pa

    width = int(np.prod(rows.shape[1:]))
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(rows.reshape(-1).astype(dtype))
    if not np.isfinite(values).all():
        raise UsageError(f"features up to {np.abs(rows).max():g} exceed the range of {dtype}; use float32")
    kind = pa.list_(pa.field("element", pa.from_numpy_dtype(values.dtype), nullable=False), width)
    return pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind)


def read_parquet(path: Path) -> tuple[Features, dict[str, Any]]:
    """Read features and their description. Raises UsageError if the file holds none, OSError if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, use_threads=False)
        description = json.loads((table.schema.metadata or {})[_KEY])
        columns = ["start", "end", "first_frame", "last_frame", *(["shot"] if "shot" in table.column_names else [])]
        spans = zip(*(table[name].to_pylist() for name in columns), strict=True)
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
            sought=description.get("sought", False),
        )
    except (pa.ArrowException, LookupError, ValueError, TypeError) as error:
        raise UsageError(f"{path} is not a complete file of features ({error})") from None
    return features, description


def _rows(column: Any, shape: Sequence[int]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return values.reshape(len(column), *shape)


def _labels(column: Any) -> tuple[tuple[Label, ...], ...]:
    return tuple(tuple(Label(each["label"], each["score"]) for each in row) for row in column.to_pylist())
