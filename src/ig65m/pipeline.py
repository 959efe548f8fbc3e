"""Videos -> clips -> batches -> results: decoding runs beside the network, clips of several videos share batches."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import IgError, VideoError
from ig65m.types import Clip, ClipSpan, Failure, Status
from ig65m.video.clips import Source

Run = Callable[[NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32]]]
ReadClips = Callable[[Source], Generator[Clip, None, None]]


@dataclass
class VideoResult:
    """What the network said of one video's clips, in order: a row of features and of logits for each span."""

    source: Source
    spans: list[ClipSpan] = field(default_factory=list)
    features: list[NDArray[np.float32]] = field(default_factory=list)
    logits: list[NDArray[np.float32]] = field(default_factory=list)
    error: Failure | None = None

    @property
    def status(self) -> Status:
        """ok; partial if an error left some clips; failed if it left none."""
        if self.error is None:
            return "ok"
        return "partial" if self.spans else "failed"


@dataclass(frozen=True)
class _End:
    """The last word on a video; `error` if it broke off."""

    error: Failure | None


class _Stopped(Exception):
    """The consumer has gone away."""


class _Reader(threading.Thread):
    """Decodes videos one after the other into a bounded queue of (number of the video, clip or end)."""

    def __init__(
        self, sources: Iterable[Source], read_clips: ReadClips, room: int, interrupt: Callable[[], None] | None
    ) -> None:
        super().__init__(name="ig65m-reader", daemon=True)
        self.sources = sources
        self.read_clips = read_clips
        self.interrupt = interrupt
        self.queue: queue.Queue[tuple[Source, Clip | _End] | BaseException | None] = queue.Queue(room)
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            for source in self.sources:
                self._read(source)
            self._put(None)
        except _Stopped:
            pass
        except BaseException as error:  # a fault of the program: it is raised where the results are consumed
            with suppress(_Stopped):
                self._put(error)

    def _read(self, source: Source) -> None:
        failure = None
        try:
            with closing(self.read_clips(source)) as clips:
                for clip in clips:
                    self._put((source, clip))
        except (IgError, OSError) as error:
            failure = Failure("decode", str(error))
            if isinstance(error, VideoError):
                failure = replace(failure, last_good_time=error.last_good_time, gaps=error.gaps)
        self._put((source, _End(failure)))

    def _put(self, item: tuple[Source, Clip | _End] | BaseException | None) -> None:
        while not self.stopping.is_set():
            try:
                return self.queue.put(item, timeout=0.1)
            except queue.Full:
                continue
        raise _Stopped

    def items(self, stopping: Callable[[], bool]) -> Iterator[tuple[Source, Clip | _End]]:
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
        """Let go of the thread: it ends at its next clip, which without `interrupt` may be a long way into a video."""
        self.stopping.set()
        self.join(timeout=0.3)  # enough where it waits for room in the queue
        if self.is_alive() and self.interrupt is not None:
            self.interrupt()
        self.join(timeout=5)


def _never() -> bool:
    return False


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
    """A result for each source, in their order, as soon as its last clip is through; memory holds a few batches.

    A video that cannot be read, or breaks off, becomes a result with an error; the others go on. `on_clip` is told of
    each clip when the network is done with it. `interrupt` makes a `read_clips` at work in another thread raise soon. Once
    `stopping` says so no more clips are taken; those that were go through, and the videos that are whole then are the last.
    """
    reader = _Reader(sources, read_clips, max(4, 2 * batch_size), interrupt)
    reader.start()
    open_results: list[VideoResult] = []  # of the videos whose end has not been reached or not been given out
    ended: list[bool] = []
    waiting: list[tuple[VideoResult, Clip]] = []

    def flush() -> None:
        if not waiting:
            return
        features, logits = engine(np.stack([clip.pixels for _, clip in waiting]))
        for (result, clip), row, scores in zip(waiting, features, logits, strict=True):
            result.spans.append(clip.span)
            result.features.append(row)
            result.logits.append(scores)
            if on_clip is not None:
                on_clip(result.source, clip.span)
        waiting.clear()

    def finished() -> Iterator[VideoResult]:
        held = {id(result) for result, _ in waiting}
        while ended and ended[0] and id(open_results[0]) not in held:
            ended.pop(0)
            yield open_results.pop(0)

    try:
        for source, item in reader.items(stopping or _never):
            if not ended or ended[-1]:
                open_results.append(VideoResult(source))
                ended.append(False)
            if isinstance(item, _End):
                open_results[-1].error = item.error
                ended[-1] = True
            else:
                waiting.append((open_results[-1], item))
                if len(waiting) == batch_size:
                    flush()
            yield from finished()
        flush()
        yield from finished()
    finally:
        reader.stop()
