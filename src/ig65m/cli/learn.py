"""ig65m learn"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ig65m.cli.inputs import check_inputs, check_model_file
from ig65m.cli.learn_report import print_report, say_unused
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
from ig65m.cli.progress import ProgressBar
from ig65m.cli.terminal import printable, say
from ig65m.errors import UsageError, check_installed, needs, shown
from ig65m.models.card import name_from

if TYPE_CHECKING:
    from ig65m.collection.label_list import LabelList
    from ig65m.learn.report import Report
    from ig65m.models.weights import Weights
    from ig65m.train.finetune import Epoch

TRAINING = "Fine-tuning"
OPTIONS = {"first": "from"}  # names of options that are not those of their parameters
USED_IN_TRAINING = ("frames", "frame_step", "fps", "batch_size", "device", "precision", "threads")


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions:
    """How all layers are trained."""

    finetune: Annotated[
        bool, option(TRAINING, "Train the network itself, not only a last layer on its features.", "--finetune")
    ] = False
    first: Annotated[
        Literal["stem", "layer1", "layer2", "layer3", "layer4", "fc"],
        option(TRAINING, "First stage that is trained; those before it stay as they are.", "--from"),
    ] = "stem"
    epochs: Annotated[int, option(TRAINING, "Most passes over the videos.")] = 10
    rate: Annotated[float | None, option(TRAINING, "Highest learning rate. Default: 0.00005 for each clip of a batch.")] = None
    schedule: Annotated[Literal["cosine", "step"], option(TRAINING, "How the learning rate falls.")] = "cosine"
    patience: Annotated[int, option(TRAINING, "Epochs without a lower held-out loss after which training stops.")] = 3
    balance: Annotated[bool, option(TRAINING, "Draw each class equally often.", "--balance")] = False
    flip: Annotated[bool, option(TRAINING, "Mirror half of the clips; wrong for labels such as pan_left.", "--flip")] = False
    workers: Annotated[int, option(TRAINING, "Processes that read clips in advance; 0: none.", min=0, max=64)] = 1
    checkpoint: Annotated[
        str | None,
        option(TRAINING, "State of the training, which is resumed from it. Default: beside the model.", show_default=False),
    ] = None


@dataclass(frozen=True)
class Learned:
    """What a run made: the model, its report, and the names of videos that were not used."""

    weights: "Weights"
    report: "Report"
    missing: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class LabelSource:
    """Where the labels of the videos are."""

    source: str | None
    list_format: str | None
    multi_label: bool

    def read(self, videos: list[str]) -> "LabelList":
        """Read the labels of these videos."""
        from ig65m.collection.label_list import read_label_list

        if self.source is None:
            raise UsageError("features need a list of labels; give --labels")
        return read_label_list(self.source, videos=videos, list_format=self.list_format, multi_label=self.multi_label)

    def read_with(self, root: Path) -> "LabelList":
        """Read the labels of the videos in a folder, which may have a folder for each class."""
        from ig65m.collection.label_list import read_label_list

        in_folders = self.source is None or Path(self.source).is_dir()
        videos = None if in_folders else root
        return read_label_list(self.source or root, videos=videos, list_format=self.list_format, multi_label=self.multi_label)


@flattened
def learn(
    source: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="Folder of features of `ig65m extract`, or folder of videos.", show_default=False),
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
    seed: Annotated[int, option(INPUT, "Decides which videos are held out, and all else that is random.", min=0)] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
    tuning: FinetuneOptions,
    clip_options: ClipOptions,
    engine_options: EngineOptions,
    decoding: DecodingOptions,
) -> None:
    """Learn your own labels from a few labelled videos: a new last layer on the features of a model, or with --finetune all
    layers.

    The result is a model file for all other commands. Its accuracy on held-out videos is printed before it is written.

    Example: ig65m learn features/ --labels labels.csv --output mine.safetensors

    Example: ig65m learn videos/ --output mine.safetensors --model r2plus1d_10_camera_motion

    Example: ig65m learn videos/ --labels labels.csv --output mine.safetensors --finetune --from layer4
    """
    check_inputs([source])
    file, given = Path(output), Path(source)
    check_model_file(file, model, overwrite=overwrite)
    check_installed("sklearn", "learn", "learning")
    if not given.is_dir():
        raise UsageError(f"{source} is not a folder; expected a folder of features of `ig65m extract`, or of videos")
    has_features = (given / "settings.json").exists()
    if features is not None and (has_features or tuning.finetune):
        raise UsageError("--features is for a last layer on features of videos; leave it out")
    listed = LabelSource(labels, list_format, multi_label)
    if tuning.finetune:
        if has_features:
            raise UsageError(f"--finetune needs videos, but {source} is a folder of features")
        _check_not_given(clip_options, engine_options, why="not for --finetune", but=USED_IN_TRAINING)
        options: dict[str, Any] = {"tuning": tuning, "clips": clip_options, "engine": engine_options, "decoding": decoding}
        done = _by_finetuning(given, listed, model, file, seed, **options)
    elif has_features:
        _check_not_given(tuning, why="for --finetune")
        _check_not_given(clip_options, engine_options, decoding, why="for videos; these features are extracted already")
        done = _from_features(given, listed, model, name_from(file.stem), seed)
    else:
        _check_not_given(tuning, why="for --finetune")
        extraction = {**video_options(clip_options, engine_options, decoding), "model": model}
        done = _from_videos(
            given, listed, Path(features or file.with_suffix(".features")), extraction, name_from(file.stem), seed
        )
    if tuning.finetune and int(os.environ.get("RANK", "0")) > 0:
        return  # of the processes of torchrun, the first one writes
    _finish(done, file, as_json=as_json)
    if done.missing or done.failed:
        raise typer.Exit(3)


def _finish(done: Learned, file: Path, *, as_json: bool) -> None:
    """Print the report, and write the model."""
    from ig65m.models.weights import stored_arrays
    from ig65m.zoo.files import save_safetensors

    say_unused(done.missing, "videos of the list were not found")
    say_unused(done.failed, "labelled videos were not used, since they failed, or no features of theirs were found")
    for warning in done.report.warnings:
        say(f"ig65m: warning: {warning}")
    if not as_json:
        print_report(done.report)
    save_safetensors(stored_arrays(done.weights), done.weights.card, file)
    if as_json:
        record = {"file": str(file), **done.report.to_record(), "missing": list(done.missing), "failed": list(done.failed)}
        print(json.dumps(record, indent=1, allow_nan=False))
    else:
        print(printable(f"wrote {file}, {file.stat().st_size / 1e6:.1f} MB"))


def _from_features(folder: Path, labels: LabelSource, model: str | None, name: str, seed: int) -> Learned:
    from ig65m.learn.training_set import videos_with_features
    from ig65m.store.folder import read_settings
    from ig65m.zoo.cards import CARDS

    settings = read_settings(folder)
    base = model or settings.get("name")
    if not isinstance(base, str) or (model is None and base not in CARDS):
        raise UsageError(f"the features in {folder} are those of {shown([str(base)])}, a model file; give it with --model")
    listed = labels.read(videos_with_features(folder))
    return _learned(folder, settings, base, listed, name, seed)


def _from_videos(root: Path, labels: LabelSource, folder: Path, options: dict[str, Any], name: str, seed: int) -> Learned:
    from ig65m.cli.folder import FolderOptions, process
    from ig65m.store.folder import read_settings
    from ig65m.tasks.extractor import DEFAULT_EXTRACTOR, Extractor

    listed = labels.read_with(root)
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


def _by_finetuning(
    root: Path,
    labels: LabelSource,
    model: str | None,
    file: Path,
    seed: int,
    *,
    tuning: FinetuneOptions,
    clips: ClipOptions,
    engine: EngineOptions,
    decoding: DecodingOptions,
) -> Learned:
    with needs("train", "--finetune"):
        import torch

        from ig65m.learn.tuning import learn_by_finetuning
        from ig65m.train.recipe import Recipe
    from ig65m.tasks.extractor import DEFAULT_EXTRACTOR
    from ig65m.zoo.load import load_weights

    if engine.threads is not None:
        torch.set_num_threads(engine.threads)
    batch_size = Recipe.batch_size if engine.batch_size is None else engine.batch_size
    recipe = Recipe(
        epochs=tuning.epochs,
        batch_size=batch_size,
        rate=Recipe.rate * batch_size / Recipe.batch_size if tuning.rate is None else tuning.rate,
        warmup=min(Recipe.warmup, tuning.epochs / 2),
        schedule=tuning.schedule,
        first=tuning.first,
        balance=tuning.balance,
        patience=tuning.patience,
        precision="bf16" if engine.precision == "bf16" else "fp32",
        seed=seed,
    )
    listed = labels.read_with(root)
    bar = ProgressBar(recipe.epochs)

    def on_epoch(epoch: "Epoch") -> None:
        bar.video_done()
        best = ", the best so far" if epoch.best else ""
        figures = f"loss {epoch.loss:.3f}; held out: loss {epoch.held_out_loss:.3f}, accuracy {epoch.held_out_accuracy:.1%}"
        say(f"ig65m: epoch {epoch.number}: {figures}{best}")

    with bar:
        weights, report, failed = learn_by_finetuning(
            load_weights(model or DEFAULT_EXTRACTOR),
            listed,
            recipe,
            name=name_from(file.stem),
            checkpoint=Path(tuning.checkpoint or file.with_suffix(".checkpoint")),
            frames=clips.frames,
            frame_step=clips.frame_step,
            fps=clips.fps,
            flip=tuning.flip,
            limits=decoding.limits(),
            in_process=decoding.in_process,
            device=engine.device,
            workers=tuning.workers,
            on_step=lambda step, steps, loss: bar.show(f"step {step:,} of {steps:,}, loss {loss:.3f}"),
            on_epoch=on_epoch,
        )
    return Learned(weights, report, listed.missing, failed)


def _check_not_given(*groups: object, why: str, but: Sequence[str] = ()) -> None:
    """Raise UsageError for options that differ from their defaults, except those in `but`, which have no meaning here."""
    for group in groups:
        for name, value in vars(group).items():
            if name not in but and value != getattr(type(group)(), name):
                raise UsageError(f"--{OPTIONS.get(name, name).replace('_', '-')} is {why}")
