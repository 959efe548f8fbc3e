"""Videos -> clips -> batches -> results: decoding runs beside the network, clips of several videos share batches."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import IgError
from ig65m.types import Clip, ClipSpan, Failure, Status, status_of
from ig65m.video.clips import Source

Run = Callable[[NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32]]]
ReadClips = Callable[[Source], Generator[Clip, None, None]]


@dataclass(frozen=True)
class ClipResult:
    """Features and logits of one clip, as the engine returns them for it."""

    source: Source
    span: ClipSpan
    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    sought: bool = False  # as `Clip.sought`
    shape: tuple[int, int] | None = None  # as `Clip.shape`


@dataclass(frozen=True)
class VideoEnd:
    """A video has no more clips; `error` says why it broke off or could not be read."""

    source: Source
    error: Failure | None


@dataclass
class VideoResult:
    """All clips of one video, in order."""

    source: Source
    clips: list[ClipResult] = field(default_factory=list)
    error: Failure | None = None

    @property
    def status(self) -> Status:
        """Status by the error, and by whether there are clips."""
        return status_of(self.error, some=bool(self.clips))

    @property
    def sought(self) -> bool:
        """Whether only the parts of the video that its clips need were decoded."""
        return bool(self.clips) and all(clip.sought for clip in self.clips)


class _Stopped(Exception):
    """The consumer has gone away."""


class _Reader(threading.Thread):
    """Decodes videos one after the other into a bounded queue of clips and ends."""

    def __init__(
        self, sources: Iterable[Source], read_clips: ReadClips, room: int, interrupt: Callable[[], None] | None
    ) -> None:
        super().__init__(name="ig65m-reader", daemon=True)
        self.sources = sources
        self.read_clips = read_clips
        self.interrupt = interrupt
        self.queue: queue.Queue[tuple[Source, Clip] | VideoEnd | BaseException | None] = queue.Queue(room)
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            for source in self.sources:
                self._read(source)
            self._put(None)
        except _Stopped:
            pass
        except BaseException as error:  # a bug: it is raised where the results are consumed
            with suppress(_Stopped):
                self._put(error)

    def _read(self, source: Source) -> None:
        failure = None
        try:
            with closing(self.read_clips(source)) as clips:
                for clip in clips:
                    self._put((source, clip))
        except (IgError, OSError) as error:
            failure = Failure.of("decode", error)
        self._put(VideoEnd(source, failure))

    def _put(self, item: tuple[Source, Clip] | VideoEnd | BaseException | None) -> None:
        while not self.stopping.is_set():
            try:
                return self.queue.put(item, timeout=0.1)
            except queue.Full:
                continue
        raise _Stopped

    def items(self, stopping: Callable[[], bool]) -> Iterator[tuple[Source, Clip] | VideoEnd]:
        while not stopping():
            try:
                item = self.queue.get(timeout=0.5)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        """End the thread at its next clip; `interrupt` is called if that takes long."""
        self.stopping.set()
        self.join(timeout=0.3)  # enough if it waits for room in the queue
        if self.is_alive() and self.interrupt is not None:
            self.interrupt()
        self.join(timeout=5)


def _never() -> bool:
    return False


def run_clips(
    sources: Iterable[Source],
    read_clips: ReadClips,
    engine: Run,
    *,
    batch_size: int,
    interrupt: Callable[[], None] | None = None,
    stopping: Callable[[], bool] | None = None,
) -> Generator[ClipResult | VideoEnd, None, None]:
    """Yield the result of each clip as soon as its batch is done, and a VideoEnd after the last clip of each video.

    Results come in the order of the sources and of their clips; memory holds a few batches. A video that cannot be read, or
    breaks off, ends with an error; the others go on. `interrupt` makes a `read_clips` at work in another thread raise soon.
    Once `stopping` returns True, no more clips are taken; those that were taken are finished.
    """
    reader = _Reader(sources, read_clips, max(4, 2 * batch_size), interrupt)
    reader.start()
    pending: list[tuple[Source, Clip] | VideoEnd] = []

    def flush() -> Iterator[ClipResult | VideoEnd]:
        clips = [item[1] for item in pending if not isinstance(item, VideoEnd)]
        rows = zip(*engine(np.stack([clip.pixels for clip in clips])), strict=True) if clips else iter(())
        for item in pending:
            if isinstance(item, VideoEnd):
                yield item
            else:
                source, clip = item
                features, logits = next(rows)
                yield ClipResult(source, clip.span, features, logits, clip.sought, clip.shape)
        pending.clear()

    try:
        clips = 0
        shape: tuple[int, ...] = ()  # of the pending clips; whole pictures of several videos differ in size
        for item in reader.items(stopping or _never):
            if not isinstance(item, VideoEnd):
                if clips and item[1].pixels.shape != shape:
                    yield from flush()
                    clips = 0
                shape = item[1].pixels.shape
                clips += 1
            pending.append(item)
            if clips in (0, batch_size):
                yield from flush()
                clips = 0
        yield from flush()
    finally:
        reader.stop()


def run(
    sources: Iterable[Source],
    read_clips: ReadClips,
    engine: Run,
    *,
    batch_size: int,
    on_clip: Callable[[Source, ClipSpan], None] | None = None,
    interrupt: Callable[[], None] | None = None,
    stopping: Callable[[], bool] | None = None,
) -> Iterator[VideoResult]:
    """Yield a result for each video after its last clip; otherwise as `run_clips`. `on_clip` is called after each clip."""
    result: VideoResult | None = None
    with closing(
        run_clips(sources, read_clips, engine, batch_size=batch_size, interrupt=interrupt, stopping=stopping)
    ) as results:
        for item in results:
            result = result or VideoResult(item.source)
            if isinstance(item, ClipResult):
                result.clips.append(item)
                if on_clip is not None:
                    on_clip(item.source, item.span)
            else:
                result.error = item.error
                yield result
                result = None
