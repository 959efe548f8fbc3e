"""ig65m shots"""

import csv
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ig65m.cli.inputs import check_videos
from ig65m.cli.options import (
    INPUT,
    OUTPUT,
    DecodingOptions,
    ImageFps,
    Json,
    NetworkOptions,
    Videos,
    decoding_options,
    flattened,
    option,
)
from ig65m.cli.progress import ProgressBar, json_at_end, say_engine, say_failure
from ig65m.cli.terminal import print_title, printable, say
from ig65m.errors import UsageError
from ig65m.types import Segment, ShotList, check_image_fps

COLUMNS: Final = ("path", "shot", "start", "end", "first_frame", "last_frame", "transition", "score")


@flattened
def shots(
    inputs: Videos,
    image_fps: ImageFps = 25.0,
    *,
    network_options: NetworkOptions,
    threshold: Annotated[
        float,
        option(INPUT, "Probability above which a frame is the middle of a transition, between 0 and 1; lower finds more."),
    ] = 0.5,
    output: Annotated[
        Path | None,
        option(OUTPUT, "Folder for the shots of each video: as JSON, PySceneDetect's CSV, and EDL.", "--output", "-o"),
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, option(OUTPUT, "Print one CSV table on stdout, with a row for each shot.", "--csv")] = False,
    decoding: DecodingOptions,
) -> None:
    """Find the shots of videos: start, end, and the transition to the next shot.

    A folder can be interrupted and continued: the same command does only what is missing. Of a part of a video in a list, the
    whole video is taken.

    Example: ig65m shots holiday.mp4

    Example: ig65m shots videos/ --output shots/
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other, for both print on stdout; choose one")
    check_videos(inputs)
    options = {**asdict(network_options), **decoding_options(decoding), "threshold": threshold, "image_fps": image_fps}
    from ig65m.collection.listing import find_videos

    named = find_videos(inputs, absolute=output is not None)
    videos = list(dict.fromkeys(Segment(video.path) for video in named))
    done: list[ShotList] = []
    failed = False
    with json_at_end(as_json, done, lambda: _as_json(done)), ProgressBar(len(videos)) as progress:
        for found in _find(videos, output, options, progress):
            progress.video_done()
            done.append(replace(found, probabilities=None))
            if as_csv:
                _print_rows(found, header=len(done) == 1)
            elif output is None and not as_json:
                _print_table(found)
            if found.error is not None:
                failed = True
                say_failure(found.status, found.error)
    if output is not None and not (as_json or as_csv):
        print(printable(_summary(output, done)))
    if failed:
        raise typer.Exit(3)


def _find(videos: Sequence[Segment], output: Path | None, options: dict[str, Any], progress: ProgressBar) -> Iterator[ShotList]:
    """Yield the shots of each video, in order; with an output, once they are in that folder."""
    from ig65m.tasks.shots import detect_shots_many, shot_settings

    options = {**options, "on_engine": say_engine, "on_frame": progress.on_frame}
    if output is None:
        yield from detect_shots_many(videos, **options)
        return
    from ig65m.shots.boundaries import check_threshold
    from ig65m.shots.folder import ShotWriter
    from ig65m.shots.weights import load_weights
    from ig65m.store.digest import digest_or_none

    check_threshold(options["threshold"])
    check_image_fps(options["image_fps"])
    folder = ShotWriter(output, shot_settings(load_weights().sha256, options["threshold"]), image_fps=options["image_fps"])
    there = [folder.done(video, digest_or_none(Path(video.path))) for video in videos]
    missing = [video for video, shots in zip(videos, there, strict=True) if shots is None]
    if len(missing) < len(videos):
        say(f"ig65m: {len(videos) - len(missing):,} of {len(videos):,} videos were done before")
    found = detect_shots_many(missing, **options) if missing else iter(())
    for video, before in zip(videos, there, strict=True):
        if before is not None:
            yield before
            continue
        content = digest_or_none(Path(video.path))  # again: the file may have changed since the run began
        shots = next(found)
        folder.write(video, content, shots)
        yield shots


def _as_json(lists: Sequence[ShotList]) -> dict[str, Any]:
    return {
        "videos": [
            {
                "path": found.path,
                "status": found.status,
                "error": None if found.error is None else found.error.to_record(),
                "shots": [asdict(shot) for shot in found.shots],
            }
            for found in lists
        ]
    }


def _print_rows(found: ShotList, *, header: bool) -> None:
    rows = csv.writer(sys.stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    if header:
        rows.writerow(COLUMNS)
    path = printable(found.path)
    if path[0] in "=+-@":  # a spreadsheet would take it for a formula, but not the same path with its folder
        path = f"./{path}"
    for number, shot in enumerate(found.shots):
        rows.writerow([path, number, *asdict(shot).values()])
    sys.stdout.flush()


def _print_table(found: ShotList) -> None:
    from rich import box
    from rich.table import Table

    console = print_title(found.path, found.status)
    if not found.shots:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("shot", "from (s)", "to (s)", "frames"):
        table.add_column(name, justify="right")
    table.add_column("transition")
    table.add_column("score", justify="right")
    for number, shot in enumerate(found.shots):
        frames = f"{shot.first_frame}-{shot.last_frame}"
        score = "" if shot.score is None else f"{shot.score:.2f}"
        table.add_row(f"{number}", f"{shot.start:.2f}", f"{shot.end:.2f}", frames, shot.transition, score)
    console.print(table)


def _summary(folder: Path, lists: Sequence[ShotList]) -> str:
    count = Counter(found.status for found in lists)
    words = [f"{count[status]:,} {status}" for status in ("ok", "partial", "failed") if count[status]]
    return f"{len(lists):,} videos -> {folder}: {', '.join(words)}; {sum(len(found.shots) for found in lists):,} shots"
