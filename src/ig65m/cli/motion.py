"""ig65m motion"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ig65m.atomic import finished_file
from ig65m.cli.inputs import check_videos
from ig65m.cli.options import (
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
from ig65m.errors import UsageError, check_installed
from ig65m.motion.select import check_listable, compile_filter, list_text, selected_parts
from ig65m.types import CameraMotion, Segment, check_image_fps

SELECTED: Final = "selected.csv"


@flattened
def motion(
    inputs: Videos,
    image_fps: ImageFps = 25.0,
    *,
    network_options: NetworkOptions,
    output: Annotated[
        Path | None,
        option(
            OUTPUT, "Folder for the motion of each video, as JSON and as a picture, and a table of all clips.", "--output", "-o"
        ),
    ] = None,
    as_json: Json = False,
    select: Annotated[
        str | None,
        option(
            OUTPUT,
            "Print a list (CSV) of the parts whose clips fulfil an expression, such as 'pan_right>0.05 and shake<0.3', for "
            "`ig65m extract`.",
            metavar="EXPRESSION",
        ),
    ] = None,
    decoding: DecodingOptions,
) -> None:
    """Measure what the camera does in videos: pan, tilt, zoom, roll, and whether it stands still or shakes in a hand.

    A folder can be interrupted and continued: the same command does only what is missing. Of a part of a video in a list, the
    whole video is taken.

    Example: ig65m motion holiday.mp4

    Example: ig65m motion videos/ --output motion/

    Example: ig65m motion videos/ --select 'pan_right>0.05 and shake<0.3' > pans.csv
    """
    if as_json and select is not None:
        raise UsageError("--json and --select exclude each other, for both print on stdout; choose one")
    keep = None if select is None else compile_filter(select)
    check_videos(inputs)
    options = {**asdict(network_options), **decoding_options(decoding), "image_fps": image_fps}
    from ig65m.collection.listing import find_videos
    from ig65m.motion.record import video_values

    named = find_videos(inputs, absolute=output is not None or select is not None)
    videos = list(dict.fromkeys(Segment(video.path) for video in named))
    if keep is not None:
        check_listable([video.path for video in videos])
    done: list[CameraMotion] = []
    rows: list[tuple[str, float, float]] = []
    count: Counter[str] = Counter()
    with json_at_end(as_json, done, lambda: {"videos": list(map(video_values, done))}), ProgressBar(len(videos)) as progress:
        for number, found in enumerate(_estimate(videos, output, options, progress)):
            progress.video_done()
            count.update({found.status: 1, "segments": len(found.segments)})
            if as_json:
                done.append(found)
            elif keep is not None:
                parts = [(found.path, *part) for part in selected_parts(found.clips, keep)]
                _print_exactly(list_text(parts, header=number == 0))
                rows += parts
            elif output is None:
                _print_timeline(found)
            if found.error is not None:
                say_failure(found.status, found.error)
    if output is not None and keep is not None:
        with finished_file(output / SELECTED) as temporary:
            temporary.write_text(list_text(rows), "utf-8", errors="surrogateescape", newline="")
    elif output is not None and not as_json:
        print(printable(_summary(output, count)))
    if count["partial"] or count["failed"]:
        raise typer.Exit(3)


def _estimate(
    videos: Sequence[Segment], output: Path | None, options: dict[str, Any], progress: ProgressBar
) -> Iterator[CameraMotion]:
    """Yield the camera motion of each video, in order; with an output, once it is in that folder."""
    from ig65m.tasks.motion import estimate_motion_many, motion_settings

    options = {**options, "on_engine": say_engine, "on_frame": progress.on_frame}
    if output is None:
        yield from estimate_motion_many(videos, **options)
        return
    from ig65m.motion.folder import MotionWriter
    from ig65m.motion.weights import load_weights
    from ig65m.store.digest import digest_or_none

    check_image_fps(options["image_fps"])
    settings = motion_settings(load_weights().sha256)
    folder = MotionWriter(output, settings, image_fps=options["image_fps"], pictures=_can_draw())
    there = [folder.done(video, digest_or_none(Path(video.path))) for video in videos]
    missing = [video for video, motion in zip(videos, there, strict=True) if motion is None]
    if len(missing) < len(videos):
        say(f"ig65m: {len(videos) - len(missing):,} of {len(videos):,} videos were done before")
    found = estimate_motion_many(missing, **options) if missing else iter(())
    for video, before in zip(videos, there, strict=True):
        if before is not None:
            folder.draw(video, before)
            yield before
            continue
        content = digest_or_none(Path(video.path))  # again: the file may have changed since the run began
        motion = next(found)
        folder.write(video, content, motion)
        yield motion
    folder.finish()


def _can_draw() -> bool:
    """Return whether pictures can be drawn; otherwise a line on stderr says what to install."""
    try:
        check_installed("matplotlib", "explain", "drawing them")
    except UsageError as error:
        say(f"ig65m: pictures of the curves are left out: {error}")
        return False
    return True


def _print_timeline(found: CameraMotion) -> None:
    from ig65m.motion.describe import describe_segment

    console = print_title(found.path, found.status)
    for segment in found.segments:
        console.print(describe_segment(segment), markup=False)


def _print_exactly(text: str) -> None:
    """Print rows of a list: names as they are, also those that are not UTF-8, but not on a terminal, which might obey them."""
    if sys.stdout.isatty():
        print("\n".join(map(printable, text.splitlines())))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()


def _summary(folder: Path, count: Counter[str]) -> str:
    states = [status for status in ("ok", "partial", "failed") if count[status]]
    words = ", ".join(f"{count[status]:,} {status}" for status in states)
    return f"{sum(count[status] for status in states):,} videos -> {folder}: {words}; {count['segments']:,} segments"
