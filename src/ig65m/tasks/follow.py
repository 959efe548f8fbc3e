"""Follows a stream: each clip is computed as soon as its last frame is there, and the delay stays bounded.

A clip that waits while newer ones come is dropped. Memory holds a few clips, however long the stream is.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

import numpy as np

from ig65m.errors import IgError
from ig65m.pipeline import ClipResult
from ig65m.pipeline import Run as Compute
from ig65m.tasks.options import Resolved
from ig65m.types import Clip, Failure, Status, status_of
from ig65m.video.clips import clips_of
from ig65m.video.isolation import Decoder
from ig65m.video.sample import Sample
from ig65m.video.stream import Stream
from ig65m.video.stream_clips import stream_clips

MOST_WAITING: Final = 4
"""Most clips that wait for the network, in a burst of a stream that is not faster than the network on average."""

LIVE: Final = 0.5
"""Part of real time that clips take to come from a source that is followed live, and not from a burst or a file."""

POLL: Final = 0.2  # seconds

T = TypeVar("T")


@dataclass
class Followed:
    """Progress and status of a followed stream."""

    clips: int = 0  # clips that were computed
    dropped: int = 0  # clips that the network had no time for
    breaks: int = 0  # times that a sender started again, or a lost connection was made again
    lost: int = 0  # samples that were lost to damage
    reached: float | None = None  # end of the last frame in seconds
    error: Failure | None = None

    @property
    def status(self) -> Status:
        """Status by the error, and by whether clips were computed."""
        return status_of(self.error, some=bool(self.clips))


class Waiting:
    """Clips that wait for the network, each as its crops; the newest ones stay."""

    def __init__(self) -> None:
        self.dropped = 0
        self._clips: deque[tuple[float, tuple[Clip, ...]]] = deque()  # each with the time when it came
        self._changed = threading.Condition()
        self._ended = False

    def put(self, clip: tuple[Clip, ...]) -> None:
        """Add a clip. Clips are dropped that have waited while this one was made, or that are too many."""
        now = time.monotonic()
        with self._changed:
            while self._clips and (len(self._clips) == MOST_WAITING or self._is_late(now, clip)):
                self._clips.popleft()
                self.dropped += 1
            self._clips.append((now, clip))
            self._changed.notify()

    def _is_late(self, now: float, newer: tuple[Clip, ...]) -> bool:
        came, oldest = self._clips[0]
        return now - came >= LIVE * (newer[0].span.start - oldest[0].span.start)

    def end(self) -> None:
        """Say that no further clip comes."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def take(self, stopping: Callable[[], bool]) -> tuple[Clip, ...] | None:
        """Wait for the next clip; None after the last one, or once `stopping` returns True."""
        with self._changed:
            while not stopping():
                if self._clips:
                    return self._clips.popleft()[1]
                if self._ended:
                    return None
                self._changed.wait(POLL)
        return None


def follow(
    resolved: Resolved,
    compute: Compute,
    stream: Stream,
    followed: Followed,
    *,
    crops: int = 1,
    stopping: Callable[[], bool] = lambda: False,
    on_news: Callable[[str], None] | None = None,
) -> Generator[list[ClipResult], None, None]:
    """Yield the results of the crops of each clip, as soon as they are computed, until the stream ends.

    `followed` is kept up to date; its `error` says why the stream broke off, or how much of it was lost. `on_news` is called,
    from another thread, with a line about a lost connection. Once `stopping` returns True, the clip at work is the last one.
    """
    waiting = Waiting()
    interrupted = threading.Event()
    faults: list[BaseException] = []

    with Decoder(resolved.limits) as decoder:

        def counted() -> Generator[Sample, None, None]:
            samples = decoder.read_samples(stream, resolved.sampling, resolved.preprocessing, on_news=on_news)
            with closing(samples):
                for sample in samples:
                    followed.breaks += sample.begins
                    followed.lost += sample.lost or sample.lost_before
                    followed.reached = sample.end
                    yield sample

        def read() -> None:
            try:
                with closing(stream_clips(counted(), resolved.sampling, clips_of)) as clips:
                    for clip in _groups(clips, crops):
                        waiting.put(clip)
            except (IgError, OSError) as error:
                if not interrupted.is_set():
                    followed.error = Failure.of("decode", error)
            except BaseException as error:  # a bug: it is raised where the results are consumed
                faults.append(error)
            waiting.end()

        reader = threading.Thread(target=read, name="ig65m-reader", daemon=True)
        reader.start()
        try:
            while (clip := waiting.take(stopping)) is not None:
                results = list(_computed(compute, stream, clip, resolved.batch_size))
                followed.clips += 1
                followed.dropped = waiting.dropped
                yield results
        finally:
            interrupted.set()
            decoder.interrupt()
            reader.join(timeout=5)
            followed.dropped = waiting.dropped
            if followed.error is None and followed.lost:
                message = f"{stream}: {followed.lost:,} frames were lost to damage before it was stopped"
                followed.error = Failure("decode", message, followed.reached)
    if faults:
        raise faults[0]


def _computed(compute: Compute, stream: Stream, clip: tuple[Clip, ...], batch_size: int) -> Iterator[ClipResult]:
    """Compute the crops of a clip."""
    for some in _groups(clip, batch_size):
        rows = zip(*compute(np.stack([each.pixels for each in some])), strict=True)
        for each, (features, logits) in zip(some, rows, strict=True):
            yield ClipResult(stream, each.span, features, logits)


def _groups(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    each = iter(items)
    while group := tuple(islice(each, size)):
        yield group
