"""ig65m features"""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ig65m.cli.options import OUTPUT, FeaturesFolder, Json, option
from ig65m.cli.terminal import printable, say

app = typer.Typer(
    help="Inspect, verify and export a folder of features that `ig65m extract` made.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command()
def info(folder: FeaturesFolder, as_json: Json = False) -> None:
    """Print how many videos and clips a folder of features has, and what computed them.

    Example: ig65m features info features/
    """
    from ig65m.store.folder import read_journal, read_settings

    settings, entries = read_settings(folder), read_journal(folder)
    count = Counter(entry.status for entry in entries)
    record: dict[str, Any] = {
        "folder": str(folder),
        "videos": {status: count[status] for status in ("ok", "partial", "failed")},
        "clips": sum(entry.clips for entry in entries),
        "bytes": sum(entry.size or 0 for entry in entries),
        "settings": settings,
    }
    if as_json:
        print(json.dumps(record, indent=1))
        return
    print(printable(f"{folder}: {len(entries):,} videos, {record['clips']:,} clips, {record['bytes'] / 1e6:,.1f} MB"))
    print(", ".join(f"{number:,} {status}" for status, number in record["videos"].items()))
    for key in ("name", "sha256", "precision", "features", "content"):
        print(printable(f"{key}: {settings.get(key)}"))
    for key in ("sampling", "preprocessing", "pooling", *(["shots"] if "shots" in settings else [])):
        parts = settings.get(key) or {}
        print(printable(f"{key}: {', '.join(f'{part} {value}' for part, value in parts.items() if value is not None)}"))


@app.command()
def verify(folder: FeaturesFolder, as_json: Json = False) -> None:
    """Verify each result against its checksum in the journal. The exit code is 3 if one is damaged or missing.

    Example: ig65m features verify features/
    """
    from ig65m.store.verify import verify as run

    found = run(folder)
    if as_json:
        print(json.dumps({"folder": str(folder), **asdict(found)}, indent=1))
    else:
        for problem in found.problems:
            print(printable(problem))
        print(printable(f"{found.sound:,} of {found.results:,} results are sound"))
    if found.problems:
        raise typer.Exit(3)


@app.command()
def export(
    folder: FeaturesFolder,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="New folder; for h5 and tsp a new file.", show_default=False)
    ],
    to: Annotated[
        Literal["npy", "npz", "h5", "video-features", "actionformer", "opentad", "qvhighlights", "tsp"],
        option(OUTPUT, "Format: plain files, or those that this program reads.", show_default=False),
    ],
    names: Annotated[
        Literal["stem", "unique"], option(OUTPUT, "Name each file after its video's stem, or as in the folder of features.")
    ] = "stem",
    prefix: Annotated[str, option(OUTPUT, "Prefix of each name, such as v_.")] = "",
    subset: Annotated[str, option(OUTPUT, "Subset in the annotation files of actionformer and opentad.")] = "validation",
    key: Annotated[str, option(OUTPUT, "Suffix of the names of video-features.")] = "r21d",
    gaps: Annotated[
        Literal["leave-out", "zeros"],
        option(
            OUTPUT,
            "A video with clips lost to damage, in formats that compute times from row numbers: leave it out, or write zeros "
            "in place of the lost clips.",
        ),
    ] = "leave-out",
    from_first_frame: Annotated[
        bool, option(OUTPUT, "Count times from each video's first clip if it does not start at 0 s.", "--from-first-frame")
    ] = False,
    as_json: Json = False,
) -> None:
    """Export features to the files that other programs read, and print the settings for them.

    A video whose clips are not where such a program would expect them, to 1 ms, is named and left out; the exit code is 3 then.

    Example: ig65m features export features/ thumos/ --to actionformer
    """
    from ig65m.store.exporters import Options
    from ig65m.store.exporters import export as run

    options = Options(
        names=names,
        prefix=prefix,
        subset=subset,
        key=key,
        from_first_frame=from_first_frame,
        gaps=gaps,
    )
    done = run(folder, output, to, options)
    for line in (*done.remarks, *done.left_out):
        say(f"ig65m: {printable(line)}")
    if as_json:
        print(json.dumps({"output": str(output), **asdict(done)}, indent=1))
    else:
        print(printable(f"{done.written:,} videos -> {output}, {len(done.left_out):,} left out"))
        for name, value in done.settings.items():
            print(f"{name}: {json.dumps(value)}")
    if done.left_out:
        raise typer.Exit(3)
