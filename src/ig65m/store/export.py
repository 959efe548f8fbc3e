"""A folder of features -> the files that other programs read. Where these are described: docs/exports.md."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import h5py
import numpy as np

from ig65m.atomic import finished_file
from ig65m.errors import UsageError
from ig65m.store.folder import read_journal
from ig65m.store.formats import save
from ig65m.store.grid import TOLERANCE, Grid, grid_of
from ig65m.store.journal import Entry
from ig65m.store.parquet import read_parquet
from ig65m.types import Features

Names = Literal["stem", "unique"]
SECONDS: Final = 2.0  # a row in QVHighlights
MOST_ROWS: Final = 75  # that its readers take


@dataclass(frozen=True, kw_only=True)
class Options:
    """names: a video is called by its stem, or by the name it has in the folder of features. prefix: stands before the name.

    subset: in annotation files. key: in names of video_features. from_first_frame: as in `grid_of`.
    """

    names: Names = "stem"
    prefix: str = ""
    subset: str = "validation"
    key: str = "r21d"
    from_first_frame: bool = False


@dataclass(frozen=True)
class Exported:
    """What was written of how many videos, the settings for the program that reads it, and why a video was left out."""

    written: int
    settings: dict[str, Any]
    left_out: list[str]
    remarks: list[str]


@dataclass
class _Run:
    """The videos of a folder, one at a time, and what is to be said of them."""

    folder: Path
    options: Options
    left_out: list[str]
    remarks: list[str]
    missing: list[str]  # names of videos of which nothing is written
    videos_there: int = 0

    def videos(self, *, pooled: bool = True) -> Iterator[tuple[str, Features]]:
        """Name and features of each video that has any."""
        entries = sorted(read_journal(self.folder), key=lambda entry: (entry.video.path, entry.name))
        names = _names(entries, self.options)
        self.videos_there = len(names)
        for entry, name in zip(entries, names, strict=True):
            if entry.sha256 is None:
                self.missing.append(name)
                self.remarks.append(f"{entry.video} failed when its features were extracted")
                continue
            features, _ = read_parquet(self.folder / "features" / f"{entry.name}.parquet")
            if pooled and features.array.ndim != 2:
                raise UsageError("these features are not pooled, which this format has no place for; take npy, npz or h5")
            if entry.status == "partial":
                self.remarks.append(f"{entry.video} is partial: {'' if entry.error is None else entry.error.message}")
            yield name, features

    def on_grid(self) -> Iterator[tuple[str, Features, Grid]]:
        """Those whose clips lie on a grid; the others are left out."""
        for name, features in self.videos():
            try:
                grid = grid_of(features, from_first_frame=self.options.from_first_frame)
            except UsageError as error:
                self.leave_out(name, str(error))
                continue
            yield name, features, grid

    def leave_out(self, name: str, why: str) -> None:
        self.left_out.append(why)
        self.missing.append(name)


def _names(entries: Sequence[Entry], options: Options) -> list[str]:
    if options.names == "unique":
        return [options.prefix + entry.name for entry in entries]
    stems = [Path(entry.video.path).stem for entry in entries]
    if twice := [name for name, count in Counter(stems).items() if count > 1]:
        both = [str(entry.video) for entry, stem in zip(entries, stems, strict=True) if stem == twice[0]][:2]
        raise UsageError(f"{' and '.join(both)} have the same name; take --names unique")
    return [options.prefix + stem for stem in stems]


def export(folder: Path, output: Path, kind: str, options: Options) -> Exported:
    """Write the features of a folder as `kind` (of EXPORTERS) to `output`, a new folder, or a new file for h5 and tsp.

    Raises UsageError if something is there already, for names that are not unique, and as `read_journal`.
    """
    if kind not in EXPORTERS:
        raise UsageError(f"{kind!r} is none of {', '.join(EXPORTERS)}")
    if kind in ("h5", "tsp") and output.suffix not in (".h5", ".hdf5"):
        raise UsageError(f"{output} should end in .h5 or .hdf5: all videos go to that one file")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise UsageError(f"{output} is already there; choose another place")
    run = _Run(folder, options, [], [], [])
    settings = EXPORTERS[kind](run, output)
    return Exported(run.videos_there - len(run.missing), settings, run.left_out, run.remarks)


def _as_files(suffix: str) -> Callable[[_Run, Path], dict[str, Any]]:
    def write(run: _Run, output: Path) -> dict[str, Any]:
        for name, features in run.videos(pooled=False):
            save(replace(features, labels=None), output / f"{name}{suffix}")
        return {}

    return write


def _h5(run: _Run, output: Path) -> dict[str, Any]:
    with _h5_file(output) as file:
        for name, features in run.videos(pooled=False):
            dataset = _dataset(file, name, features)
            for part in ("start", "end", "first_frame", "last_frame"):
                dataset.attrs[part] = np.array([getattr(span, part) for span in features.spans])
            dataset.attrs["path"] = features.path
            dataset.attrs["status"] = features.status
            dataset.attrs["model"] = json.dumps(dict(features.model))
    return {}


@contextmanager
def _h5_file(output: Path) -> Iterator[h5py.File]:
    # In HDF5 1.8's format, which all read, long attributes are allowed; in the default's they are not.
    with finished_file(output) as temporary, h5py.File(temporary, "w", libver=("v108", "v108")) as file:
        yield file


def _dataset(file: h5py.File, name: str, features: Features) -> h5py.Dataset:
    if "/" in name or not _is_utf8(name):
        raise UsageError(f"{name!a}: a name in HDF5 has no / and is UTF-8; take another --prefix, or rename the video")
    return file.create_dataset(name, data=features.array, chunks=True, compression="gzip", compression_opts=9)


def _is_utf8(name: str) -> bool:
    return name == name.encode(errors="replace").decode()


def _is_line(name: str) -> bool:
    return _is_utf8(name) and not {"\n", "\r"} & set(name)


def _video_features(run: _Run, output: Path) -> dict[str, Any]:
    for name, features in run.videos():
        _array(output / f"{name}_{run.options.key}.npy", features)
    return {}


def _actionformer(run: _Run, output: Path) -> dict[str, Any]:
    database, settings = {}, {}
    for name, features, grid in run.on_grid():
        _array(output / "features" / f"{name}.npy", features)
        database[name.removeprefix(run.options.prefix)] = {
            "subset": run.options.subset,
            "duration": grid.duration,
            "fps": grid.fps,
            "annotations": [],
        }
        settings = {"feat_stride": grid.stride, "num_frames": grid.span, "input_dim": features.array.shape[1]}
    _json(output / "annotations.json", {"database": database})
    fixed = {"downsample_rate": 1, "default_fps": None, "file_prefix": run.options.prefix, "file_ext": ".npy"}
    return settings | fixed


def _opentad(run: _Run, output: Path) -> dict[str, Any]:
    """Its offset, half a clip, must be a whole number: where it is none, all is counted in half frames."""
    database, unit, settings = {}, 1, {}
    for name, features, grid in run.on_grid():
        unit = 1 + grid.span % 2
        _array(output / "features" / f"{name}.npy", features)
        database[name.removeprefix(run.options.prefix)] = {
            "subset": run.options.subset,
            "duration": grid.duration,
            "frame": unit * grid.frames,
            "fps": unit * grid.fps,
            "annotations": [],
        }
        settings = {"feature_stride": unit * grid.stride, "offset_frames": unit * grid.span // 2}
    _json(output / "annotations.json", {"database": database})
    missing = [name.removeprefix(run.options.prefix) for name in run.missing if _is_line(name)]
    _text(output / "features" / "missing_files.txt", "\n".join(missing))
    return settings | {"sample_stride": 1, "fps": -1, "prefix": run.options.prefix, "feat_format": "npy"}


def _tsp(run: _Run, output: Path) -> dict[str, Any]:
    fps, settings = None, {}
    with _h5_file(output) as file:
        for name, features, grid in run.on_grid():
            fps = fps or grid.fps
            if abs(grid.duration - grid.frames / fps) > TOLERANCE:
                why = f"{grid.fps:g} frames a second, others {fps:g}, and this format is for one rate; extract with --fps 15"
                run.leave_out(name, f"{features.path}: {why}")
                continue
            _dataset(file, name, features)
            settings = {"feat_stride": grid.stride, "num_frames": grid.span, "default_fps": fps}
    return settings | {"file_prefix": run.options.prefix}


def _qvhighlights(run: _Run, output: Path) -> dict[str, Any]:
    for name, features, grid in run.on_grid():
        hop, length = grid.stride / grid.fps, grid.span / grid.fps
        sampling = features.model["sampling"]
        if max(abs(hop - SECONDS), abs(length - SECONDS)) * len(features.spans) > TOLERANCE or sampling["tail"] != "pad":
            how = f"--fps {sampling['frames'] / SECONDS:g} --frame-step 1 --tail pad"
            why = f"clips of {length:g} s every {hop:g} s, and here each row is for 2 s, up to the end; extract with {how}"
            run.leave_out(name, f"{features.path}: {why}")
            continue
        if len(features.spans) > MOST_ROWS:
            run.remarks.append(f"{features.path} has {len(features.spans)} rows, of which these readers take {MOST_ROWS}")
        with finished_file(output / f"{name}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, features=features.array)
    return {"clip_length": 2}


def _array(path: Path, features: Features) -> None:
    with finished_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, features.array, allow_pickle=False)


def _json(path: Path, content: Any) -> None:
    _text(path, json.dumps(content, indent=1) + "\n")


def _text(path: Path, text: str) -> None:
    with finished_file(path) as temporary:
        temporary.write_text(text, "utf-8")


EXPORTERS: Final[dict[str, Callable[[_Run, Path], dict[str, Any]]]] = {
    "npy": _as_files(".npy"),
    "npz": _as_files(".npz"),
    "h5": _h5,
    "video-features": _video_features,
    "actionformer": _actionformer,
    "opentad": _opentad,
    "qvhighlights": _qvhighlights,
    "tsp": _tsp,
}
