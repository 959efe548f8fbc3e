"""ig65m index"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ig65m.cli.options import INPUT, OUTPUT, FeaturesFolder, Json, option
from ig65m.cli.options import Index as Folder
from ig65m.cli.progress import ProgressBar
from ig65m.cli.terminal import printable, say

if TYPE_CHECKING:
    from ig65m.search.index import Index
    from ig65m.search.ingest import IngestResult

app = typer.Typer(
    help="Build and maintain an index of clips, for `ig65m search` and `ig65m serve`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command()
def build(
    features: FeaturesFolder,
    folder: Folder,
    exact_up_to: Annotated[
        int, option(OUTPUT, "Number of clips up to which search is exact; a larger index is approximate.")
    ] = 100_000,
    as_json: Json = False,
) -> None:
    """Build an index of all clips in a folder of features.

    Videos without usable features are named and left out; the exit code is 3 then.

    Example: ig65m index build features/ index/
    """
    from ig65m.search.index import Index
    from ig65m.store.folder import read_journal

    with ProgressBar(len(read_journal(features))) as progress:
        index, added = Index.build(
            features, folder, exact_up_to=exact_up_to, on_video=lambda _: progress.video_done(), say=_say
        )
    _report(index, added, as_json=as_json)


@app.command()
def add(features: FeaturesFolder, folder: Folder, as_json: Json = False) -> None:
    """Add the clips of a folder of features that the index lacks or that have changed.

    It can be repeated at any time. The exit code is 3 as for build.

    Example: ig65m index add features/ index/
    """
    from ig65m.search.index import Index
    from ig65m.store.folder import read_journal

    index = Index.open(folder)
    with ProgressBar(len(read_journal(features))) as progress:
        added = index.add(features, on_video=lambda _: progress.video_done(), say=_say)
    _report(index, added, as_json=as_json)


@app.command()
def remove(
    folder: Folder,
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO", help="Names in the index, paths, file names or stems.", show_default=False),
    ],
    as_json: Json = False,
) -> None:
    """Remove videos from an index. The next `ig65m index add` of their features restores them.

    Example: ig65m index remove index/ holiday.mp4
    """
    from ig65m.search.index import Index
    from ig65m.search.query import find_video

    index = Index.open(folder)
    names = sorted({find_video(index, video) for video in videos})
    clips = index.remove(names)
    if as_json:
        print(json.dumps({"index": str(folder), "removed": names, "clips": clips}, indent=1))
    else:
        print(printable(f"{folder}: {len(names):,} videos with {clips:,} clips removed; {index.described()}"))


@app.command()
def info(folder: Folder, as_json: Json = False) -> None:
    """Print the contents of an index, how it searches, and what computed its features.

    Example: ig65m index info index/
    """
    from ig65m.search.index import Index

    index = Index.open(folder)
    record: dict[str, Any] = {
        "index": str(folder),
        "kind": index.kind,
        "videos": len(index.sources()),
        "clips": len(index),
        **({"shots": index.shots} if index.shots else {}),
        "width": index.width,
        "labels": index.labels(),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "exact_up_to": index.exact_up_to,
        "settings": index.settings,
    }
    if as_json:
        print(json.dumps(record, indent=1))
        return
    print(printable(f"{folder}: {index.described()}, {record['bytes'] / 1e6:,.1f} MB"))
    print(printable(f"model: {index.model_name}, {index.width} numbers a clip, clips of {index.clip_seconds:.2f} s"))
    if "shots" in record:
        print(f"shots: {record['shots']:,}")
    shown = [f"{label} ({clips:,})" for label, clips in list(record["labels"].items())[:10]]
    print(printable(f"labels: {', '.join(shown) or 'none'}{' ...' if len(record['labels']) > len(shown) else ''}"))
    for key in ("sha256", "precision"):
        print(printable(f"{key}: {index.settings.get(key)}"))
    for key in ("sampling", "preprocessing", "pooling"):
        parts = index.settings.get(key) or {}
        print(printable(f"{key}: {', '.join(f'{part} {value}' for part, value in parts.items() if value is not None)}"))


@app.command()
def recall(
    folder: Folder,
    queries: Annotated[int, option(INPUT, "Number of random clips of the index to search with.")] = 100,
    count: Annotated[int, option(INPUT, "Number of hits to compare.")] = 10,
    as_json: Json = False,
) -> None:
    """Measure recall and latency of an index against exact search.

    Example: ig65m index recall index/ --queries 200
    """
    from ig65m.search.index import Index
    from ig65m.search.recall import measure_recall

    found = measure_recall(Index.open(folder), queries=queries, count=count)
    if as_json:
        print(json.dumps({"index": str(folder), **asdict(found)}, indent=1))
        return
    print(f"{found.clips:,} clips, {found.kind} search, {found.queries:,} queries for {found.count} hits")
    print(f"recall@{found.count}: {found.recall:.4f} (worst query {found.least:.2f})")
    print(f"{found.kind} search: median {found.median_ms:.1f} ms, p99 {found.p99_ms:.1f} ms")
    if found.kind == "approximate":
        print(f"exact search: median {found.exact_median_ms:.1f} ms, p99 {found.exact_p99_ms:.1f} ms")


def _say(line: str) -> None:
    say(f"ig65m: {line}")


def _report(index: "Index", added: "IngestResult", *, as_json: bool) -> None:
    for line in added.left_out:
        _say(f"left out: {line}")
    if as_json:
        facts = {"kind": index.kind, "videos": len(index.sources()), "clips": len(index)}
        print(json.dumps({"index": str(index.folder), **facts, "done": asdict(added)}, indent=1))
    else:
        parts = (("added", added.added), ("replaced", added.replaced), ("unchanged", added.unchanged))
        counts = [f"{len(videos):,} {word}" for word, videos in (*parts, ("left out", added.left_out))]
        print(printable(f"{index.folder}: {', '.join(counts)}; {index.described()}"))
    if added.left_out:
        raise typer.Exit(3)
