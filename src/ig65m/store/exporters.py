"""Exports a folder of features to the files that other programs read (docs/exports.md)."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ig65m.atomic import finished_file
from ig65m.errors import UsageError, check_choice, check_name, needs
from ig65m.store.features import Features, files_at, save, shots_of
from ig65m.store.folder import read_journal, read_settings
from ig65m.store.grid import TOLERANCE, Grid, grid_of
from ig65m.store.journal import Entry
from ig65m.store.verify import read_result

if TYPE_CHECKING:
    import h5py

Names = Literal["stem", "unique"]
Gaps = Literal["leave-out", "zeros"]
SECONDS: Final = 2.0  # covered by a row of QVHighlights
MOST_ROWS: Final = 75  # that its readers use


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of an export. Raises UsageError if a value is out of range."""

    names: Names = "stem"  # name of a video: its stem, or its name in the folder of features
    prefix: str = ""  # of each name
    subset: str = "validation"  # of the annotation files
    key: str = "r21d"  # suffix of the names of video_features
    from_first_frame: bool = False  # as in `grid_of`
    gaps: Gaps = "leave-out"  # a video with clips lost to damage, in formats that compute times from row numbers

    def __post_init__(self) -> None:
        check_choice("names", self.names, get_args(Names))
        check_choice("gaps", self.gaps, get_args(Gaps))
        for what, value, name in (("the prefix", self.prefix, f"{self.prefix}x"), ("the key", self.key, f"x{self.key}")):
            check_name(what, name)
            if "\\" in value:  # Windows reads it as a folder
                raise UsageError(f"{what} {value!r} must have no \\, for it becomes part of a file's name")


@dataclass(frozen=True)
class Exported:
    """Result of an export: number of videos written, settings for the reader, reasons of videos left out, remarks."""

    written: int
    settings: dict[str, Any]
    left_out: list[str]
    remarks: list[str]


@dataclass
class _Run:
    """State of one export."""

    folder: Path
    options: Options
    left_out: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # names of videos that are not written
    files: set[Path] = field(default_factory=set)  # claimed so far
    videos_there: int = 0

    def videos(self) -> Iterator[tuple[str, Features]]:
        """Yield name and features of each video that has features."""
        entries = sorted(read_journal(self.folder), key=lambda entry: (entry.video.path, entry.name))
        names = _names(entries, self.options)
        self.videos_there = len(names)
        for entry, name in zip(entries, names, strict=True):
            if entry.sha256 is None:
                self.missing.append(name)
                self.remarks.append(f"{entry.video} failed during extraction")
                continue
            with self.or_left_out(name):
                features = read_result(self.folder, entry)
                if entry.status == "partial":
                    self.remarks.append(f"{entry.video} is partial: {'' if entry.error is None else entry.error.message}")
                yield name, features

    def on_grid(self) -> Iterator[tuple[str, Features, Grid]]:
        """Yield the videos whose clips lie on an even grid, with the grid; leave the others out."""
        for name, features in self.videos():
            with self.or_left_out(name):
                grid = grid_of(features, from_first_frame=self.options.from_first_frame)
                if lost := grid.count - len(grid.rows):
                    if self.options.gaps == "leave-out":
                        raise UsageError(
                            f"{features.path}: {lost} of its {grid.count} clips are lost to damage, but readers of this format "
                            "compute times from row numbers; use --gaps zeros to write zeros in their place"
                        )
                    self.remarks.append(f"{features.path}: {lost} rows are zeros in place of clips lost to damage")
                yield name, features, grid

    @contextmanager
    def or_left_out(self, name: str) -> Iterator[None]:
        """Leave the video out if the block raises UsageError."""
        try:
            yield
        except UsageError as error:
            self.left_out.append(str(error))
            self.missing.append(name)

    def claim(self, *paths: Path) -> Path:
        """Reserve paths for new files and return the first. Raises UsageError if one is invalid or already reserved."""
        for path in paths:
            check_name("the name", path.name)
            if path in self.files:
                raise UsageError(f"{path.name}: another video has the same name; use --names unique")
        self.files |= {*paths}
        return paths[0]


def _names(entries: Sequence[Entry], options: Options) -> list[str]:
    if options.names == "unique":
        return [options.prefix + entry.name for entry in entries]
    stems = [Path(entry.video.path).stem for entry in entries]
    if twice := [name for name, count in Counter(stems).items() if count > 1]:
        both = [str(entry.video) for entry, stem in zip(entries, stems, strict=True) if stem == twice[0]][:2]
        raise UsageError(f"{' and '.join(both)} have the same name; use --names unique")
    return [options.prefix + stem for stem in stems]


def export(folder: Path, output: Path, kind: str, options: Options) -> Exported:
    """Export a folder of features.

    `kind` is one of EXPORTERS; `output` is a new folder, or a new file for h5 and tsp. A video that cannot be written is left
    out, with the reason.

    Raises UsageError if the output exists, names are not unique, or the format needs pooled features and these are not.
    """
    check_choice("the format", kind, EXPORTERS)
    if kind in ("h5", "tsp") and output.suffix not in (".h5", ".hdf5"):
        raise UsageError(f"{output} must end in .h5 or .hdf5: all videos are written to one file")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise UsageError(f"{output} already exists; choose another place")
    if kind not in ("npy", "npz", "h5") and "none" in (read_settings(folder).get("pooling") or {}).values():
        raise UsageError("these features are not pooled, but this format needs pooled ones; use npy, npz or h5")
    run = _Run(folder, options)
    settings = EXPORTERS[kind](run, output)
    return Exported(run.videos_there - len(run.missing), settings, run.left_out, run.remarks)


def _as_files(suffix: str) -> Callable[[_Run, Path], dict[str, Any]]:
    def write(run: _Run, output: Path) -> dict[str, Any]:
        for name, features in run.videos():
            with run.or_left_out(name):
                path = output / f"{name}{suffix}"
                save(replace(features, labels=None), run.claim(path, *files_at(path)))
        return {}

    return write


def _h5(run: _Run, output: Path) -> dict[str, Any]:
    with _h5_file(output) as file:
        for name, features in run.videos():
            with run.or_left_out(name):
                dataset = _dataset(file, name, features.array)
                for part in ("start", "end", "first_frame", "last_frame"):
                    dataset.attrs[part] = np.array([getattr(span, part) for span in features.spans])
                if (shots := shots_of(features)) is not None:
                    dataset.attrs["shot"] = np.array(shots)
                dataset.attrs["path"] = features.path.encode(errors="backslashreplace").decode()
                dataset.attrs["status"] = features.status
                dataset.attrs["gaps"] = np.array(features.error.gaps if features.error else [], np.float64).reshape(-1, 2)
                dataset.attrs["model"] = json.dumps(dict(features.model))
    return {}


@contextmanager
def _h5_file(output: Path) -> "Iterator[h5py.File]":
    with needs("h5", "an HDF5 file"):
        import h5py
    # HDF5 1.8 allows long attributes, which the default version does not, and every reader knows it.
    with finished_file(output) as temporary, h5py.File(temporary, "w", libver=("v108", "v108")) as file:
        yield file


def _dataset(file: "h5py.File", name: str, array: NDArray[np.float32]) -> "h5py.Dataset":
    if "/" in name or not _is_utf8(name) or name in ("", ".", ".."):
        raise UsageError(f"{name!a}: a name in HDF5 must be UTF-8 without /; use --names unique, or rename the video")
    if name in file:
        raise UsageError(f"{name!a}: another video has the same name; use --names unique")
    return file.create_dataset(name, data=array, chunks=True, compression="gzip", compression_opts=9)


def _is_utf8(name: str) -> bool:
    return name == name.encode(errors="replace").decode()


def _is_line(name: str) -> bool:
    return _is_utf8(name) and not {"\n", "\r"} & set(name)


def _video_features(run: _Run, output: Path) -> dict[str, Any]:
    for name, features in run.videos():
        with run.or_left_out(name):
            _array(run.claim(output / f"{name}_{run.options.key}.npy"), features.array)
    return {}


def _actionformer(run: _Run, output: Path) -> dict[str, Any]:
    database, settings = {}, {}
    for name, features, grid in run.on_grid():
        with run.or_left_out(name):
            _array(run.claim(output / "features" / f"{name}.npy"), grid.filled(features.array))
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
    """OpenTAD's offset, half a clip, must be a whole number: for an odd clip length, everything is counted in half frames."""
    database, unit, settings = {}, 1, {}
    for name, features, grid in run.on_grid():
        with run.or_left_out(name):
            unit = 1 + grid.span % 2
            _array(run.claim(output / "features" / f"{name}.npy"), grid.filled(features.array))
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
            with run.or_left_out(name):
                if fps is not None and abs(grid.duration - grid.frames / fps) > TOLERANCE:
                    why = f"{grid.fps:g} frames a second, others {fps:g}, but this format has one rate for all"
                    raise UsageError(f"{features.path}: {why}; extract with --fps 15")
                _dataset(file, name, grid.filled(features.array))
                fps = fps or grid.fps
                settings = {"feat_stride": grid.stride, "num_frames": grid.span, "default_fps": fps}
    return settings | {"file_prefix": run.options.prefix}


def _qvhighlights(run: _Run, output: Path) -> dict[str, Any]:
    for name, features, grid in run.on_grid():
        with run.or_left_out(name):
            hop, length = grid.stride / grid.fps, grid.span / grid.fps
            sampling = features.model["sampling"]
            if max(abs(hop - SECONDS), abs(length - SECONDS)) * grid.count > TOLERANCE or sampling["tail"] != "pad":
                how = f"--fps {sampling['frames'] / SECONDS:g} --frame-step 1 --tail pad"
                why = f"clips of {length:g} s every {hop:g} s, but each row must cover 2 s, up to the end; extract with {how}"
                raise UsageError(f"{features.path}: {why}")
            if grid.count > MOST_ROWS:
                run.remarks.append(f"{features.path} has {grid.count} rows; these readers use the first {MOST_ROWS}")
            path = run.claim(output / f"{name}.npz")
            with finished_file(path) as temporary, temporary.open("wb") as file:
                np.savez(file, features=grid.filled(features.array))
    return {"clip_length": 2}


def _array(path: Path, array: NDArray[np.float32]) -> None:
    with finished_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


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
