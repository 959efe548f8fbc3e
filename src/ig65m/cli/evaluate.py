"""ig65m evaluate"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ig65m.cli.options import (
    CROPS,
    INPUT,
    OUTPUT,
    ClipOptions,
    Clips,
    DecodingOptions,
    EngineOptions,
    Full,
    FullHash,
    Json,
    Labels,
    ListFormat,
    ModelArgument,
    Ray,
    RetryFailed,
    Shard,
    VideosIn,
    flattened,
    option,
    video_options,
)
from ig65m.cli.terminal import printable, say
from ig65m.errors import UsageError, shown

if TYPE_CHECKING:
    from ig65m.cli.folder import FolderOptions
    from ig65m.collection.extraction import Outcome
    from ig65m.collection.label_list import LabelList
    from ig65m.evaluate.protocol import Protocol
    from ig65m.models.card import Card

Split = Literal["train", "val", "test"]
MOST_NAMED = 5  # missing videos and labels of another spelling


@flattened
def evaluate(
    model: ModelArgument,
    examples: Annotated[
        str,
        typer.Argument(
            metavar="LIST", help="List of videos with labels, or a folder with a folder for each class.", show_default=False
        ),
    ],
    *,
    output: Annotated[Path, option(OUTPUT, "Folder of the results.", "--output", "-o", show_default=False)],
    videos_in: VideosIn = None,
    list_format: ListFormat = None,
    split: Annotated[Split | None, option(INPUT, "Only examples of this split. Default: all.")] = None,
    clip_options: ClipOptions,
    clips: Clips = None,
    crops: Annotated[int | None, CROPS] = None,
    full: Full = False,
    vmz: Annotated[
        bool, option(INPUT, "Clips and crops as VMZ chose them to measure the published accuracy of the model.", "--vmz")
    ] = False,
    labels: Labels = None,
    engine_options: EngineOptions,
    as_json: Json = False,
    shard: Shard = None,
    retry_failed: RetryFailed = False,
    full_hash: FullHash = False,
    ray: Ray = None,
    decoding: DecodingOptions,
) -> None:
    """Measure how good a model is on videos with labels.

    Prints accuracy, average precision and calibration error, and writes them with all predictions and a report into a folder.
    An interrupted evaluation is resumed by the same command.

    Example: ig65m evaluate r2plus1d_10_camera_motion moves.csv --output evaluation/

    Example: ig65m evaluate r2plus1d_34_32_kinetics val.csv --videos kinetics/ --output evaluation/ --vmz
    """
    chosen = {
        **{"--clips": clips, "--crops": crops, "--full": full or None, "--frame-step": clip_options.frame_step},
        **{
            "--stride": clip_options.stride,
            "--fps": clip_options.fps,
            "--start": clip_options.start,
            "--end": clip_options.end,
        },
        "--tail": None if clip_options.tail == "pad" else clip_options.tail,
        "--preprocessing": clip_options.preprocessing,
    }
    if vmz and (given := [name for name, value in chosen.items() if value is not None]):
        raise UsageError(f"--vmz chooses clips, crops and preprocessing itself; leave {given[0]} out")
    from ig65m.cli.folder import FolderOptions, check_shard
    from ig65m.evaluate.protocol import Protocol

    how = FolderOptions(
        dtype="float32", content="full" if full_hash else "sampled", shard=shard, ray=ray, retry_failed=retry_failed
    )
    check_shard(how)
    options = {**video_options(clip_options, engine_options, decoding), "model": model}
    protocol = None if vmz else Protocol(clips, 1 if crops is None else crops, full)
    source = _Source(examples, videos_in, list_format, split, labels)
    if not _evaluate(source, output, options, protocol, how, as_json=as_json):
        raise typer.Exit(3)


@dataclass(frozen=True)
class _Source:
    """Options that say which videos there are, and how they are labelled."""

    path: str
    videos: str | None
    list_format: str | None
    split: Split | None
    labels: str | None  # file of the names of the network's classes


def _evaluate(
    source: _Source,
    folder: Path,
    options: dict[str, Any],
    protocol: "Protocol | None",
    how: "FolderOptions",
    *,
    as_json: bool,
) -> bool:
    """Evaluate into a folder, by VMZ's protocol if there is no other; return whether every video is there and complete."""
    from ig65m.cli.folder import process, shard_of
    from ig65m.collection.label_list import read_label_list
    from ig65m.evaluate.folder import check_folder, scores_in, write_results
    from ig65m.evaluate.matching import labels_of, match_labels, respelt
    from ig65m.evaluate.protocol import check_starts, published, vmz_protocol
    from ig65m.evaluate.results import read_results
    from ig65m.evaluate.summary import Context
    from ig65m.store.folder import read_settings
    from ig65m.tasks.scorer import Scorer
    from ig65m.zoo.cards import check_use
    from ig65m.zoo.labels import read_labels

    card = _card(options["model"])
    labels = None if source.labels is None else read_labels(source.labels)
    vmz, figures = protocol is None, None
    if protocol is None:
        if None not in (card.frames, options["frames"]) and card.frames != options["frames"]:
            raise UsageError(f"VMZ tested {card.name} with clips of {card.frames} frames; leave --frames or --vmz out")
        protocol, figures = vmz_protocol(card), published(card)
    check_use(card, frames=options["frames"], logits=True, maps=protocol.full, labels=labels, classes_known=True)
    names = labels_of(card, labels)
    found = read_label_list(
        source.path,
        videos=source.videos,
        list_format=source.list_format,
        split=source.split,
        multi_label=card.spec.multi_label,
    )
    classes = match_labels(found.examples, names, where=source.path)
    check_starts(found.examples, protocol, where=source.path)
    check_folder(folder, source=source.path, split=source.split)
    _say_facts(found, respelt(classes, names), None if not vmz or figures else card.name)

    outcomes: list[Outcome] = []
    videos = shard_of([example.video for example in found.examples], options, how)
    with scores_in(folder, source=source.path, split=source.split) as scores:
        process(videos, scores, Scorer, {**options, **asdict(protocol)}, how, outcomes)
    results, undone = read_results(scores, found, classes, names)
    if undone:
        _say_undone(undone, len(found.examples), how.shard, as_json=as_json)
        return not found.missing and all(outcome.entry is not None and outcome.entry.status == "ok" for outcome in outcomes)
    context = Context(source.path, source.split, found, read_settings(scores), vmz, figures)
    reading = {name: options[name] for name in ("image_fps", "limits", "in_process")}
    record = write_results(folder, results, context, **reading)
    if as_json:
        print(json.dumps({key: value for key, value in record.items() if key != "confusion"}, indent=1, allow_nan=False))
    else:
        _print_table(record, folder)
    return not (record["failed"] or record["missing"] or record["partial"])


def _card(model: str) -> "Card":
    """The card of a model; that of a file is in the file."""
    from ig65m.memory import release_memory
    from ig65m.zoo.cards import CARDS
    from ig65m.zoo.load import load_weights

    if model in CARDS and not CARDS[model].classes_unpublished:
        return CARDS[model]
    with release_memory():
        return load_weights(model).card


def _say_facts(found: "LabelList", spellings: Mapping[str, str], unpublished: str | None) -> None:
    """Print which videos are missing, which labels are spelt otherwise, and whose accuracy was not published."""
    if found.missing:
        count = f"{len(found.missing):,} of {len(found.missing) + len(found.examples):,} videos of the list were"
        say(f"ig65m: {count} not found: {shown(found.missing, MOST_NAMED)}; --videos names their folder")
    if spellings:
        pairs = [f"{shown([label])} is {shown([name])}" for label, name in spellings.items()]
        more = f" and {len(pairs) - MOST_NAMED} more" if len(pairs) > MOST_NAMED else ""
        say(f"ig65m: labels of the list, and classes of the model: {', '.join(pairs[:MOST_NAMED])}{more}")
    if unpublished is not None:
        say(f"ig65m: no accuracy of {unpublished} was published")


def _say_undone(undone: int, count: int, shard: str | None, *, as_json: bool) -> None:
    what = "run the other shards, then this command without --shard"
    if shard is None:
        what = "another process is working on them; run this command again later"
    say(f"ig65m: {undone:,} of {count:,} videos are not done yet; {what}")
    if as_json:
        print(json.dumps({"undone": undone, "videos": count - undone}, indent=1))


def _print_table(record: Mapping[str, Any], folder: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ig65m.evaluate.report import NAMES, counts, percent

    console = Console(highlight=False, soft_wrap=True)
    console.print(printable(f"{record['model']['name']}: {counts(record)}"), style="bold", markup=False)
    published = record["published"] or {}
    columns = {"videos": record, "clips": record["clips"]}
    if published:
        columns["published"] = published
    if published.get("clip_top1") is not None:
        columns["published, clips"] = {"top1": published["clip_top1"]}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for key, name in NAMES.items():
        if record[key] is not None:
            table.add_row(name, *(percent(figures.get(key)) for figures in columns.values()))
    console.print(table)
    if published:
        sound = "; they include sound, and this is the visual branch alone" if published["with_sound"] else ""
        console.print(f"published accuracies are VMZ's for {published['data_set']}{sound}", markup=False)
    console.print(printable(folder / "report.html"), markup=False)
