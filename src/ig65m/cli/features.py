"""ig65m features"""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from ig65m.cli.terminal import printable, say

app = typer.Typer(
    help="Look at, check and convert a folder of features that `ig65m extract` made.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(help="The folder that extract wrote.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command()
def info(folder: Folder, as_json: Json = False) -> None:
    """What is in a folder of features: how many videos and clips, and what computed them.

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
    for key in ("sampling", "preprocessing", "pooling"):
        parts = settings.get(key) or {}
        print(printable(f"{key}: {', '.join(f'{part} {value}' for part, value in parts.items() if value is not None)}"))


@app.command()
def verify(folder: Folder, as_json: Json = False) -> None:
    """Check each result against the checksum in the journal. Exit code 3 if one is damaged or missing.

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
    folder: Folder,
    output: Annotated[Path, typer.Argument(help="A new folder; for h5 and tsp a new file.", show_default=False)],
    to: Annotated[
        str,
        typer.Option(
            help="npy, npz, h5, video-features, actionformer, opentad, qvhighlights or tsp: who is to read it.",
            show_default=False,
        ),
    ],
    names: Annotated[str, typer.Option(help="stem: the video's name; unique: the one in the folder of features.")] = "stem",
    prefix: Annotated[str, typer.Option(help="What stands before each name, such as v_.")] = "",
    subset: Annotated[str, typer.Option(help="In the annotation files of actionformer and opentad.")] = "validation",
    key: Annotated[str, typer.Option(help="In the names of video-features' files.")] = "r21d",
    gaps: Annotated[
        str,
        typer.Option(
            help="leave-out: videos of which damage has cost clips, where times come from the rows' numbers; zeros: rows of "
            "zeros in place of those clips."
        ),
    ] = "leave-out",
    from_first_frame: Annotated[
        bool, typer.Option("--from-first-frame", help="Count times from each video's first clip, where that is not at 0 s.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Files as other programs read them, and the settings that make their times right.

    A video whose clips do not lie where such a program would take them to be, to 1 ms, is left out and named. Exit code 3 then.

    Example: ig65m features export features/ thumos/ --to actionformer
    """
    from ig65m.store.export import Options
    from ig65m.store.export import export as run

    options = Options(
        names=cast(Any, names),
        prefix=prefix,
        subset=subset,
        key=key,
        from_first_frame=from_first_frame,
        gaps=cast(Any, gaps),
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
