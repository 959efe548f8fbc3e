"""ig65m search"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ig65m.cli.inputs import check_inputs
from ig65m.cli.options import INPUT, OUTPUT, Device, Engine, Index, Json, Model, Precision, option
from ig65m.cli.progress import say_engine, say_failure
from ig65m.cli.terminal import printable, say
from ig65m.errors import UsageError

if TYPE_CHECKING:
    from ig65m.search.hits import Hit
    from ig65m.search.index import Index as SearchIndex
    from ig65m.search.query import Query

FILTERS = "Filters"


def search(
    folder: Index,
    video: Annotated[
        str | None,
        typer.Argument(
            metavar="VIDEO[@12.5s]",
            help="Query: a video of the index (name, path, file name or stem) or another video file; all its clips, or "
            "the one at a time.",
            show_default=False,
        ),
    ] = None,
    whole_shot: Annotated[
        bool, option(INPUT, "Search with all clips of the shot at that time of VIDEO.", "--whole-shot")
    ] = False,
    label: Annotated[
        str | None, option(FILTERS, "Only clips with this label. Without VIDEO: the clips where its score is highest.")
    ] = None,
    only: Annotated[list[str] | None, option(FILTERS, "Only clips of this video; repeatable.", "--video")] = None,
    without: Annotated[list[str] | None, option(FILTERS, "No clips of this video; repeatable.", "--not-video")] = None,
    others: Annotated[bool, option(FILTERS, "No clips of VIDEO itself.", "--others")] = False,
    start: Annotated[float | None, option(FILTERS, "Only clips from this time on, in seconds.", "--from")] = None,
    end: Annotated[float | None, option(FILTERS, "Only clips up to this time, in seconds.", "--to")] = None,
    model: Model = None,
    engine: Engine = None,
    precision: Precision = None,
    device: Device = "cpu",
    count: Annotated[int, option(OUTPUT, "Number of hits.")] = 10,
    merge: Annotated[
        Literal["touching", "shot"] | None,
        option(
            OUTPUT,
            "Merge hits that touch each other into one, or with `--merge shot` those of one shot; --count counts merged hits.",
            metavar="[shot]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the clips that are most similar to a moment of a video, by the cosine of their features.

    The moment itself is never a hit. If VIDEO is not in the index, its features are computed with the index's model; give
    --model FILE if that model has no public name.

    Example: ig65m search index/ holiday.mp4@12.5s --others

    Example: ig65m search index/ holiday.mp4@12.5s --whole-shot --merge shot

    Example: ig65m search index/ --label archery --merge
    """
    if video is None and label is None:
        raise UsageError("no query given; expected VIDEO, VIDEO@12.5s or --label")
    if video is None and others:
        raise UsageError("--others leaves out the clips of VIDEO, but no VIDEO is given")
    if whole_shot and video is None:
        raise UsageError("--whole-shot is for the shot at a time of VIDEO, but no VIDEO is given")
    from ig65m.search import index as search_index
    from ig65m.search.hits import Merge, Where
    from ig65m.search.query import find_video

    index = search_index.Index.open(folder)
    how = {"model": model, "engine": engine, "precision": precision, "device": None if device == "cpu" else device}
    given = {name: value for name, value in how.items() if value is not None}
    query = None if video is None else _query(index, video, given, whole_shot=whole_shot)
    if given and (query is None or query.video is not None):
        raise UsageError(f"--{next(iter(given))} is for a VIDEO that is not in the index; here, no features are computed")
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
    how_merged: Merge = "shot" if merge == "shot" else merge is not None
    if query is not None:
        hits = index.search(query.vectors, count, where=where, leave_out=query.own, merge=how_merged)
    else:
        hits = index.search_label(label or "", count, where=where, merge=how_merged)
    if as_json:
        print(json.dumps(_record(index, query, label, hits), indent=1))
    else:
        _print(query, hits)
    if query is not None and query.error is not None:
        say_failure("partial", query.error)
        raise typer.Exit(3)


def _query(index: "SearchIndex", text: str, options: dict[str, Any], *, whole_shot: bool) -> "Query":
    from ig65m.search.query import extractor_for, file_query, resolve, stored_query

    check_inputs([text])
    name, path, time = resolve(index, text)
    if whole_shot and time is None:
        raise UsageError("--whole-shot needs a time within the shot, as in VIDEO@12.5s")
    if whole_shot and name is None:
        raise UsageError(f"--whole-shot is for a video of the index, and {path!a} is not in it")
    if name is not None:
        return stored_query(index, name, time, whole_shot=whole_shot)
    say(f"ig65m: {printable(path)} is not in the index; computing its features")
    return file_query(index, extractor_for(index, **options, on_engine=say_engine), path, time)


def _record(index: "SearchIndex", query: "Query | None", label: str | None, hits: "list[Hit]") -> dict[str, Any]:
    spans = [] if query is None else [{"start": span.start, "end": span.end} for span in query.spans]
    shot = {} if query is None or query.shot is None else {"shot": query.shot}
    return {
        "index": str(index.folder),
        "kind": index.kind,
        "model": index.model_name,
        "query": {"video": query.video, "path": query.path, "clips": spans, **shot} if query else None,
        "label": label,
        "hits": [_hit(hit, spans[hit.query] if spans else None) for hit in hits],
    }


def _hit(hit: "Hit", query: dict[str, float] | None) -> dict[str, Any]:
    record = {**asdict(hit), "query": query}
    if hit.shot is None:
        del record["shot"]
    return record


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
    shots = any(hit.shot is not None for hit in hits)
    for name in ("score", "from (s)", "to (s)", *(["shot"] if shots else []), *(["like (s)"] if several else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("label", no_wrap=True)
    table.add_column("video", overflow="fold")
    for hit in hits:
        best = f"{hit.labels[0].label} {hit.labels[0].score:.2f}" if hit.labels else ""
        like = [f"{query.spans[hit.query].start:.2f}"] if query is not None and several else []
        shot = ["" if hit.shot is None else str(hit.shot)] if shots else []
        words = (f"{hit.score:.4f}", f"{hit.start:.2f}", f"{hit.end:.2f}", *shot, *like)
        table.add_row(*words, Text(printable(best)), Text(printable(hit.path)))
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=10_000)).print(table)
