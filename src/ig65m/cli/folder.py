"""Runs over many videos into a folder: progress, and the summary of `ig65m extract --output FOLDER`."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig65m.cli.inputs import check_shots
from ig65m.cli.progress import ProgressBar, json_at_end, say_engine, say_failure, source_name
from ig65m.cli.signals import finishing
from ig65m.cli.terminal import printable, say
from ig65m.errors import needs
from ig65m.types import ClipSpan, Segment

if TYPE_CHECKING:
    from ig65m.collection.extraction import ClipNetwork, Outcome
    from ig65m.store.digest import Hash
    from ig65m.store.features import Dtype

LINE_EVERY = 60.0  # seconds, if stderr is not a terminal


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Options of a run into a folder."""

    dtype: "Dtype"
    content: "Hash"
    shard: str | None
    ray: str | None
    retry_failed: bool
    videos_in: str | None = None
    list_format: str | None = None


def to_folder(inputs: list[str], folder: Path, options: dict[str, Any], how: FolderOptions, *, as_json: bool) -> bool:
    """Extract into a folder; return whether every video is complete: none partial, failed or busy elsewhere."""
    from ig65m.collection.listing import find_videos
    from ig65m.tasks.extractor import Extractor

    check_shard(how)
    videos = shard_of(find_videos(inputs, videos_in=how.videos_in, list_format=how.list_format), options, how)
    check_shots(options["within_shots"], videos)
    outcomes: list[Outcome] = []
    with json_at_end(as_json, outcomes, lambda: _record(folder, outcomes)):
        process(videos, folder, Extractor, options, how, outcomes)
    if not as_json:
        print(printable(_summary(folder, outcomes)))
    return all(outcome.entry is not None and outcome.entry.status == "ok" for outcome in outcomes)


def check_shard(how: FolderOptions) -> None:
    """Raise UsageError if the shard is not K/N."""
    from ig65m.collection.shards import parse_shard

    if how.shard is not None:
        parse_shard(how.shard)


def shard_of(videos: "list[Segment]", options: dict[str, Any], how: FolderOptions) -> "list[Segment]":
    """Return the videos of the shard; all of them if there is none."""
    from ig65m.collection.shards import parse_shard, share

    if how.shard is None:
        return videos
    mine = share(videos, *parse_shard(how.shard), image_fps=options["image_fps"], limits=options["limits"])
    say(f"ig65m: {len(mine)} videos are in shard {how.shard}")
    return mine


def process(
    videos: "list[Segment]",
    folder: Path,
    load: "Callable[..., ClipNetwork]",
    options: dict[str, Any],
    how: FolderOptions,
    outcomes: "list[Outcome]",
) -> None:
    """Put rows of `load(**options)` into a folder, and append what became of each video to `outcomes`.

    Progress and failures are printed on stderr. The first signal ends the run once no clip is in the network.
    """
    local = how.ray is None  # a Ray worker finishes its clips itself
    with (
        _errors_at_end(folder),
        finishing() if local else nullcontext(lambda: False) as stopping,
        Progress(len(videos)) as progress,
        closing(_run(videos, folder, load, options, how, progress, stopping)) as run,
    ):
        for outcome in run:
            outcomes.append(outcome)
            progress.video_done(outcome)
            entry = outcome.entry
            if outcome.made and entry is not None and entry.error is not None:
                say_failure(entry.status, entry.error)


@contextmanager
def _errors_at_end(folder: Path) -> Iterator[None]:
    from ig65m.store.folder import write_errors

    try:
        yield
    finally:
        if (folder / "settings.json").exists():
            write_errors(folder)


def _run(
    videos: "list[Segment]",
    folder: Path,
    load: "Callable[..., ClipNetwork]",
    options: dict[str, Any],
    how: FolderOptions,
    progress: "Progress",
    stopping: Callable[[], bool],
) -> "Generator[Outcome, None, None]":
    from ig65m.collection.extraction import extract_collection, open_store

    kind: dict[str, Any] = {"dtype": how.dtype, "content": how.content}
    if how.ray is not None:
        with needs("ray", "--ray"):
            from ig65m.collection.ray_cluster import extract_on_ray
        address = None if how.ray == "local" else how.ray
        run = extract_on_ray(videos, folder, options, load=load, address=address, retry_failed=how.retry_failed, **kind)
        with redirect_stdout(sys.stderr), closing(run):  # Ray prints messages on stdout, which is for results
            yield from run
        return
    extractor = load(**options, on_engine=say_engine)
    with open_store(folder, extractor, **kind) as store:
        yield from extract_collection(
            videos, extractor, store, retry_failed=how.retry_failed, on_clip=progress.on_clip, stopping=stopping
        )


def _summary(folder: Path, outcomes: "list[Outcome]") -> str:
    entries = [outcome.entry for outcome in outcomes if outcome.entry is not None]
    count = Counter(entry.status for entry in entries)
    words = [f"{count[status]} {status}" for status in ("ok", "partial", "failed") if count[status]]
    if before := sum(not outcome.made for outcome in outcomes if outcome.entry is not None):
        words.append(f"{before} of them done before")
    if busy := len(outcomes) - len(entries):
        words.append(f"{busy} being processed elsewhere")
    where = f"; why: {folder / 'errors.jsonl'}" if count["partial"] or count["failed"] else ""
    clips = sum(entry.clips for entry in entries)
    return f"{len(outcomes):,} videos -> {folder}: {', '.join(words) or 'nothing'}; {clips:,} clips{where}"


def _record(folder: Path, outcomes: "list[Outcome]") -> dict[str, Any]:
    videos = []
    for outcome in outcomes:
        entry, video = outcome.entry, outcome.video
        error = None if entry is None else entry.error
        part = {key: value for key, value in asdict(video).items() if key != "path" and value is not None}
        there = entry is not None and entry.sha256 is not None
        videos.append(
            {
                "path": video.path,
                **part,
                "status": "busy" if entry is None else entry.status,
                "error": None if error is None else error.to_record(),
                "output": str(folder / "features" / f"{entry.name}.parquet") if entry is not None and there else None,
                "clips": 0 if entry is None else entry.clips,
                "made": outcome.made,
            }
        )
    return {"folder": str(folder), "videos": videos}


class Progress:
    """Videos done, clips a second, time left and failures on stderr: a bar on a terminal, else a line each minute."""

    def __init__(self, videos: int) -> None:
        self.videos, self.done, self.made, self.bad, self.clips = videos, 0, 0, 0, 0
        self.begun = self.said = time.monotonic()
        self.bar = ProgressBar(videos)

    def __enter__(self) -> "Progress":
        self.bar.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.__exit__(*exception)

    def on_clip(self, source: object, span: ClipSpan) -> None:
        """Count a clip."""
        self.clips += 1
        self.bar.show(f"{self.state()}, {source_name(source)} at {span.end:.1f} s")
        if time.monotonic() - self.said > LINE_EVERY and not sys.stderr.isatty():
            say(f"ig65m: {self.done:,} of {self.videos:,} videos, {self.state()}")
            self.said = time.monotonic()

    def video_done(self, outcome: "Outcome") -> None:
        """Count a video, which this run or an earlier one has done."""
        self.done += 1
        self.made += outcome.made
        self.bad += outcome.entry is not None and outcome.entry.status != "ok"
        self.bar.video_done()

    def state(self) -> str:
        """Rate, time left and failures as text."""
        seconds = time.monotonic() - self.begun
        words = [f"{self.clips:,} clips, {self.clips / max(seconds, 1e-3):.2f} a second"]
        if self.made:
            words.append(f"about {_duration(seconds / self.made * (self.videos - self.done))} left")
        if self.bad:
            words.append(f"{self.bad:,} partial or failed")
        return ", ".join(words)


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
