"""Extracts many videos into a folder of features; an interrupted run is resumed."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ig65m.store.digest import Hash, digest_or_none
from ig65m.store.features import Dtype, Features
from ig65m.store.folder import Store, result_name
from ig65m.store.journal import Entry
from ig65m.tasks.extractor import OnClip, Stopping
from ig65m.types import Segment
from ig65m.video.clips import Source


class ClipNetwork(Protocol):
    """A loaded network that gives rows for the clips of videos: `ig65m.Extractor` or `Scorer`."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that the rows depend on besides the video."""

    @property
    def image_fps(self) -> float:
        """Frame rate of folders of images."""

    @property
    def logits(self) -> bool:
        """Whether there are logits beside the rows."""

    @property
    def top_k(self) -> int | None:
        """Number of best labels beside each row; None if none."""

    def extract_many(
        self, videos: Iterable[Source], *, on_clip: OnClip | None = None, stopping: Stopping | None = None
    ) -> Iterator[Features]:
        """Yield the rows of each video, in order."""


@dataclass(frozen=True)
class Outcome:
    """What became of a video."""

    video: Segment
    entry: Entry | None  # in the journal; None if another process is still working on the video
    made: bool  # by this run, not by an earlier one


def open_store(folder: Path, extractor: ClipNetwork, *, dtype: Dtype = "float32", content: Hash = "sampled") -> Store:
    """Open the folder for the extractor's features; `content` is how a video is recognised. Raises UsageError as `Store`."""
    columns = {"features": dtype, "logits": extractor.logits, "top_k": extractor.top_k}
    return Store(folder, {**extractor.settings, "image_fps": extractor.image_fps, **columns, "content": content})


def extract_collection(
    videos: Sequence[Segment],
    extractor: ClipNetwork,
    store: Store,
    *,
    retry_failed: bool = False,
    on_clip: OnClip | None = None,
    stopping: Stopping | None = None,
) -> Iterator[Outcome]:
    """Extract the videos that the store lacks, and yield what became of each video, nearly in order.

    A video is extracted if it is not in the store, if its content has changed, or with `retry_failed` if it is partial or
    failed; but not while another process is working on it. It is in the store before its outcome is yielded. Once `stopping`
    returns True, videos that are not complete have no outcome.

    Raises OSError if the disk is full or faulty.
    """
    work = _Work(store, retry_failed)
    for turn in range(2):
        todo, work.busy = (videos, []) if turn == 0 else (work.busy, [])
        for features in extractor.extract_many(work.claim(todo), on_clip=on_clip, stopping=stopping):
            yield from work.known()
            yield work.commit(features)
        yield from work.known()
        if stopping is not None and stopping():
            return
    yield from (Outcome(video, None, made=False) for video in work.busy)


class _Work:
    """Videos on their way: claimed in the reader's thread, extracted, and committed."""

    def __init__(self, store: Store, retry_failed: bool) -> None:
        self.store = store
        self.before = dict(store.entries) if retry_failed else {}
        self.out: deque[tuple[Segment, str | None]] = deque()
        self.busy: list[Segment] = []
        self._known: deque[Outcome] = deque()

    def claim(self, videos: Sequence[Segment]) -> Iterator[Segment]:
        for video in videos:
            name, content = result_name(video), digest_or_none(Path(video.path), self.store.settings["content"])
            if (entry := self._done(name, content)) is None:
                if not self.store.claim(name):
                    self.busy.append(video)
                    continue
                entry = self._done(name, content)
                if self.store.latest(name, content) is None:
                    entry = self.store.adopt(name, video, content)
                if entry is None:
                    self.out.append((video, content))
                    yield video
                    continue
                self.store.release(name)
            self._known.append(Outcome(video, entry, made=False))

    def commit(self, features: Features) -> Outcome:
        video, content = self.out.popleft()
        return Outcome(video, self.store.commit(video, content, features), made=True)

    def known(self) -> Iterator[Outcome]:
        while self._known:
            yield self._known.popleft()

    def _done(self, name: str, content: str | None) -> Entry | None:
        entry = self.store.latest(name, content)
        if entry is None or entry.status == "ok" or entry is not self.before.get(name):
            return entry
        return None
