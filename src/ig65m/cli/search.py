"""ig65m search"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ig65m.cli import options as opt
from ig65m.cli.terminal import printable, say
from ig65m.errors import UsageError

if TYPE_CHECKING:
    from ig65m.search.hits import Hit
    from ig65m.search.index import Index
    from ig65m.search.query import Query


def search(
    folder: Annotated[Path, typer.Argument(metavar="INDEX", help="The index's folder.", show_default=False)],
    video: Annotated[
        str | None,
        typer.Argument(
            metavar="[VIDEO[@12.5s]]",
            help="What to find the like of: a video of the index (name, path, file name or stem) or another file; all of it, "
            "or its clip at a time.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Clips that have this label stored; without VIDEO, those where its score is highest.")
    ] = None,
    count: Annotated[int, typer.Option(help="Hits to give.")] = 10,
    merge: Annotated[bool, typer.Option("--merge", help="Hits that touch are one moment; --count is of moments.")] = False,
    only: Annotated[list[str] | None, typer.Option("--video", help="Only clips of this video; may be given again.")] = None,
    without: Annotated[list[str] | None, typer.Option("--not-video", help="No clips of this one; may be given again.")] = None,
    others: Annotated[bool, typer.Option("--others", help="No clips of VIDEO itself.")] = False,
    start: Annotated[float | None, typer.Option("--from", help="Only clips that begin at so many seconds or later.")] = None,
    end: Annotated[float | None, typer.Option("--to", help="Only clips that end at so many seconds or before.")] = None,
    model: opt.Model = None,
    engine: opt.EngineOption = None,
    precision: opt.PrecisionOption = None,
    device: opt.Device = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Clips like a moment, best first: score, video, times. The score is the cosine of their features.

    The moment itself is never a hit. A VIDEO that is not in the index has its features computed, with the index's model
    (--model FILE, where that has no public name) and clips.

    Example: ig65m search index/ holiday.mp4@12.5s --others

    Example: ig65m search index/ --label archery --merge
    """
    if video is None and label is None:
        raise UsageError("there is nothing to search for: give VIDEO, VIDEO@12.5s, or --label")
    if video is None and others:
        raise UsageError("--others leaves out the clips of VIDEO, and none is given")
    from ig65m.search.hits import Where
    from ig65m.search.index import Index
    from ig65m.search.query import find_video

    index = Index.open(folder)
    how = {"model": model, "engine": engine, "precision": precision, "device": None if device == "cpu" else device}
    given = {name: value for name, value in how.items() if value is not None}
    query = None if video is None else _query(index, video, given)
    if given and (query is None or query.video is not None):
        raise UsageError(f"--{next(iter(given))} is for a VIDEO that is not in the index; here no features are computed")
    unwanted = [find_video(index, name) for name in without or ()]
    if others and query is not None and query.video is not None:
        unwanted.append(query.video)
    where = Where(
        videos=tuple(find_video(index, name) for name in only) if only else None,
        not_videos=tuple(unwanted),
        label=None if query is None else label,
        start=start,
        end=end,
    )
    if query is not None:
        hits = index.search(query.vectors, count, where=where, leave_out=query.own, merge=merge)
    else:
        hits = index.search_label(label or "", count, where=where, merge=merge)
    if as_json:
        print(json.dumps(_record(index, query, label, hits), indent=1))
    else:
        _print(query, hits)
    if query is not None and query.error is not None:
        opt.report("partial", query.error)
        raise typer.Exit(3)


def _query(index: "Index", text: str, options: dict[str, Any]) -> "Query":
    from ig65m.search.query import extractor_for, file_query, resolve, stored_query

    opt.check_inputs([text])
    name, path, time = resolve(index, text)
    if name is not None:
        return stored_query(index, name, time)
    say(f"ig65m: {printable(path)} is not in the index; computing its features")
    return file_query(index, extractor_for(index, **options, on_engine=opt.on_engine), path, time)


def _record(index: "Index", query: "Query | None", label: str | None, hits: "list[Hit]") -> dict[str, Any]:
    spans = [] if query is None else [{"start": span.start, "end": span.end} for span in query.spans]
    return {
        "index": str(index.folder),
        "kind": index.kind,
        "model": index.model_name,
        "query": {"video": query.video, "path": query.path, "clips": spans} if query else None,
        "label": label,
        "hits": [{**asdict(hit), "query": spans[hit.query] if spans else None} for hit in hits],
    }


def _print(query: "Query | None", hits: "list[Hit]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not hits:
        print("no clips")
        return
    several = query is not None and len(query.spans) > 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("score", "from (s)", "to (s)", *(["like (s)"] if several else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("label", no_wrap=True)
    table.add_column("video", overflow="fold")
    for hit in hits:
        best = f"{hit.labels[0].label} {hit.labels[0].score:.2f}" if hit.labels else ""
        like = [f"{query.spans[hit.query].start:.2f}"] if query is not None and several else []
        words = (f"{hit.score:.4f}", f"{hit.start:.2f}", f"{hit.end:.2f}", *like)
        table.add_row(*words, Text(printable(best)), Text(printable(hit.path)))
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=10_000)).print(table)
