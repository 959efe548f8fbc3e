"""ig65m learn"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ig65m.atomic import check_place
from ig65m.cli.inputs import check_inputs
from ig65m.cli.options import (
    INPUT,
    OUTPUT,
    ClipOptions,
    DecodingOptions,
    EngineOptions,
    Json,
    ListFormat,
    Model,
    Overwrite,
    flattened,
    option,
    video_options,
)
from ig65m.cli.terminal import printable, say
from ig65m.errors import UsageError, check_installed, shown

if TYPE_CHECKING:
    from ig65m.collection.label_list import LabelList
    from ig65m.learn.learner import Report
    from ig65m.models.weights import Weights

MOST_CLASSES = 12  # of a confusion table that is printed
MOST_NAMES = 10  # missing videos that are listed


@dataclass(frozen=True)
class Learned:
    """What a run made: the model, its report, and the names of videos that were not used."""

    weights: "Weights"
    report: "Report"
    missing: tuple[str, ...]
    failed: tuple[str, ...]


@flattened
def learn(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="Folder of features of `ig65m extract`, or folder of videos.",
            show_default=False,
        ),
    ],
    labels: Annotated[
        str | None,
        option(INPUT, "List of labelled videos. Default: INPUT has a folder of videos for each class.", show_default=False),
    ] = None,
    list_format: ListFormat = None,
    multi_label: Annotated[
        bool, option(INPUT, "Labels do not exclude each other. Default: if a video has several.", "--multi-label")
    ] = False,
    model: Model = None,
    *,
    output: Annotated[str, option(OUTPUT, "Model file to write (.safetensors).", "--output", "-o", show_default=False)],
    features: Annotated[
        str | None,
        option(OUTPUT, "Folder for the features of videos, which is continued. Default: beside the model.", show_default=False),
    ] = None,
    seed: Annotated[int, option(INPUT, "Seed of the order in which videos are held out.")] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
    clip_options: ClipOptions,
    engine_options: EngineOptions,
    decoding: DecodingOptions,
) -> None:
    """Learn your own labels from a few labelled videos: a new last layer on the features of a model.

    The result is a model file for all other commands. Its accuracy on held-out videos is printed before it is written.

    Example: ig65m learn features/ --labels labels.csv --output mine.safetensors

    Example: ig65m learn videos/ --output mine.safetensors --model r2plus1d_10_camera_motion
    """
    check_inputs([source])
    file = Path(output)
    _check_file(file, overwrite=overwrite)
    check_installed("sklearn", "learn", "learning")
    given = Path(source)
    if not given.is_dir():
        raise UsageError(f"{source} is not a folder; expected a folder of features of `ig65m extract`, or of videos")
    how = {"list_format": list_format, "multi_label": multi_label}
    if (given / "settings.json").exists():
        if features is not None:
            raise UsageError(f"--features is for videos, but {source} is a folder of features already")
        if labels is None:
            raise UsageError("features need a list of labels; give --labels")
        _check_not_given(clip_options, engine_options)
        done = _from_features(given, model, labels, how, file.stem, seed)
    else:
        options = {**video_options(clip_options, engine_options, decoding), "model": model}
        folder = Path(features or file.with_suffix(".features"))
        done = _from_videos(given, labels, how, folder, options, file.stem, seed)
    _say_unused(done)
    if not as_json:
        _print(done.report)
    _write(done.weights, file)
    if as_json:
        record = {"file": str(file), **done.report.to_record(), "missing": list(done.missing), "failed": list(done.failed)}
        print(json.dumps(record, indent=1, allow_nan=False))
    else:
        print(printable(f"wrote {file}, {file.stat().st_size / 1e6:.1f} MB"))
    if done.missing or done.failed:
        raise typer.Exit(3)


def _from_features(folder: Path, model: str | None, labels: str, how: dict[str, Any], name: str, seed: int) -> Learned:
    from ig65m.collection.label_list import read_label_list
    from ig65m.learn.training_set import videos_with_features
    from ig65m.store.folder import read_settings

    settings = read_settings(folder)
    listed = read_label_list(labels, videos=videos_with_features(folder), **how)
    return _learned(folder, settings, model or str(settings.get("name")), listed, name, seed)


def _from_videos(
    root: Path, labels: str | None, how: dict[str, Any], folder: Path, options: dict[str, Any], name: str, seed: int
) -> Learned:
    from ig65m.cli.folder import FolderOptions, process
    from ig65m.collection.label_list import read_label_list
    from ig65m.store.folder import read_settings
    from ig65m.tasks.extractor import DEFAULT_EXTRACTOR, Extractor

    is_folder = labels is None or Path(labels).is_dir()
    listed = read_label_list(labels or root, videos=None if is_folder else root, **how)
    videos = list(dict.fromkeys(example.video for example in listed.examples))
    options["model"] = options["model"] or DEFAULT_EXTRACTOR
    folder_options = FolderOptions(dtype="float32", content="sampled", shard=None, ray=None, retry_failed=False)
    process(videos, folder, Extractor, options, folder_options, [])
    return _learned(folder, read_settings(folder), options["model"], listed, name, seed)


def _learned(folder: Path, settings: dict[str, Any], model: str, listed: "LabelList", name: str, seed: int) -> Learned:
    from ig65m.learn.learner import learn_from_features
    from ig65m.learn.training_set import check_settings, read_training_set
    from ig65m.zoo.load import load_weights

    weights = load_weights(model)
    check_settings(folder, settings, model, weights.sha256)
    data = read_training_set(folder, listed, weights.spec.feature_width)
    learned, report = learn_from_features(weights, settings, data, name=name, labels_sha256=listed.sha256, seed=seed)
    return Learned(learned, report, listed.missing, tuple(str(each.video) for each in data.without_clips))


def _check_file(file: Path, *, overwrite: bool) -> None:
    if file.suffix != ".safetensors":
        raise UsageError(f"{file} must end in .safetensors")
    check_place(file)
    if file.is_dir():
        raise UsageError(f"{file} is a folder; choose another name")
    if file.exists() and not overwrite:
        raise UsageError(f"{file} is already there; choose another name or --overwrite")


def _check_not_given(clips: ClipOptions, engine: EngineOptions) -> None:
    """Raise UsageError for options of extraction, which features do not need."""
    for group, default in ((clips, ClipOptions()), (engine, EngineOptions())):
        for name, value in vars(group).items():
            if value != getattr(default, name):
                raise UsageError(f"--{name.replace('_', '-')} is for videos; these features are extracted already")


def _write(weights: "Weights", file: Path) -> None:
    from ig65m.models.weights import stored_arrays
    from ig65m.zoo.files import save_safetensors

    save_safetensors(stored_arrays(weights), weights.card, file)


def _say_unused(done: Learned) -> None:
    for names, what in (
        (done.missing, "videos of the list were not found"),
        (done.failed, "labelled videos have no clips, since they failed, or no features of theirs were found"),
    ):
        if names:
            more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
            say(f"ig65m: {len(names):,} {what}: {', '.join(map(printable, names[:MOST_NAMES]))}{more}")
    for warning in done.report.warnings:
        say(f"ig65m: warning: {warning}")


def _print(report: "Report") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    held_out = report.held_out
    matrix = None if held_out is None else held_out.confusion
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class")
    columns = ["videos", "clips"] + ([] if matrix is None else ["held out", "correct"])
    for name in columns:
        table.add_column(name, justify="right")
    for place, each in enumerate(report.counts):
        row = [f"{each.videos:,}", f"{each.clips:,}"]
        if matrix is not None:
            count, correct = int(matrix[place].sum()), int(matrix[place, place])
            row += [f"{count:,}", f"{correct / count:.0%}" if count else ""]
        table.add_row(Text(printable(each.label)), *row)
    console.print(table)
    if held_out is None:
        return
    for what, metrics, interval in (("videos", held_out.videos, held_out.interval), ("clips", held_out.clips, None)):
        figures = [
            f"{name} {value:.1%}" + (f" ({interval[0]:.1%} to {interval[1]:.1%})" if interval and place == 0 else "")
            for place, (name, value) in enumerate(
                (name, value)
                for name, value in (
                    ("top-1", metrics.top1),
                    ("mAP", metrics.map),
                    ("top-5", metrics.top5),
                    ("mean class accuracy", metrics.mean_class_accuracy),
                    ("calibration error", metrics.ece),
                )
                if value is not None
            )
        ]
        console.print(f"held-out {what}: {', '.join(figures)}")
    console.print(
        f"{held_out.examples:,} videos or parts held out by {held_out.how}; in parentheses 95 % of resamplings of videos"
    )
    if matrix is not None:
        _print_confusion(console, [each.label for each in report.counts], matrix)


def _print_confusion(console: Any, labels: list[str], matrix: Any) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if len(labels) <= MOST_CLASSES:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="videos by true class (rows) and predicted class (columns)")
        table.add_column("")
        for place, _ in enumerate(labels):
            table.add_column(str(place + 1), justify="right")
        for place, (label, row) in enumerate(zip(labels, matrix, strict=True)):
            cells = [Text(f"{count:,}" if count else ".", "bold" if own == place else "") for own, count in enumerate(row)]
            table.add_row(Text(f"{place + 1} {printable(label)}"), *cells)
        console.print(table)
        return
    wrong = [(int(count), labels[row], labels[column]) for (row, column), count in _entries(matrix) if row != column and count]
    for count, true, predicted in sorted(wrong, key=lambda each: -each[0])[:MOST_CLASSES]:
        console.print(f"{count:,} of {shown([true])} were taken for {shown([predicted])}", markup=False)


def _entries(matrix: Any) -> Any:
    from numpy import ndenumerate

    return ndenumerate(matrix)
