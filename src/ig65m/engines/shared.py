"""One engine for many threads: the clips of those that call at the same time go through the network together."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.engines.base import Arrays, Engine, Precision
from ig65m.errors import UsageError

PATIENCE: Final = 0.01  # seconds that a clip waits for others, while somebody else may bring some
_LATELY: Final = 8  # runs by which a size is judged
_DOUBT: Final = 0.97  # a size that is not run seems faster by this each time, until it is tried again

Row = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Counts:
    """What went through so far: clips, the runs of the network that they took, how many a run."""

    clips: int
    batches: int

    @property
    def mean(self) -> float:
        """Clips in a run; 0 before the first."""
        return self.clips / self.batches if self.batches else 0.0


@dataclass(eq=False)
class _Call:
    """What one thread waits for: a row for each of its clips, or an error; `taken` clips have been given to the network."""

    clips: NDArray[Any]
    since: float
    taken: int = 0
    rows: list[Row] = field(default_factory=list)
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.error is not None or len(self.rows) == len(self.clips)


class SharedEngine:
    """An Engine that several threads may call at once, over engines of the same work that run `size` clips each.

    `engines` are by their batch sizes, of which one must be 1. As soon as there are clips for the largest they run in it.
    Fewer run in the engine that is the fastest for so many: filling up a batch pays on a GPU and not on a CPU. They wait for
    others for PATIENCE at most, and only while some other thread is `expected`.

    No thread of its own: whoever waits for clips runs the network, one at a time, for others too.
    """

    def __init__(self, engines: Mapping[int, Engine]) -> None:
        if 1 not in engines:
            raise UsageError(f"there must be an engine for a single clip, got sizes {sorted(engines)}")
        self._engines = dict(engines)
        self._most = max(engines)
        one = engines[1]
        self.name: str = one.name
        self.precision: Precision = one.precision
        self.device: str = one.device
        self._seconds: dict[int, deque[float]] = {size: deque(maxlen=_LATELY) for size in engines}  # that runs took
        self._passed: Counter[int] = Counter()  # times that a size was not chosen since it was run
        self._changed = threading.Condition()
        self._waiting: deque[_Call] = deque()  # calls of which some clips are not taken
        self._running = False
        self._expected = 0
        self._clips = self._batches = 0

    @property
    def counts(self) -> Counts:
        """What went through so far."""
        with self._changed:
            return Counts(self._clips, self._batches)

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Within the block the caller's thread will bring clips, for which others' may wait a little."""
        with self._changed:
            self._expected += 1
        try:
            yield
        finally:
            with self._changed:
                self._expected -= 1
                self._changed.notify_all()

    def __call__(self, clips: NDArray[Any]) -> Arrays:
        """As `Engine` says, for any number of clips; an error is of these clips, not of those that others brought."""
        if not len(clips):
            raise UsageError("an engine needs at least one clip, got none")
        call = _Call(clips, time.monotonic())
        with self._changed:
            self._waiting.append(call)
            self._changed.notify_all()
            while not call.done:
                if self._running:
                    self._changed.wait()
                else:
                    self._run_next()
        if call.error is not None:
            raise call.error
        features, logits = zip(*call.rows, strict=True)
        return np.stack(features), np.stack(logits)

    def _run_next(self) -> None:
        """Run one batch of what waits; the lock is held, but for the time that the network takes."""
        self._running = True
        try:
            self._gather()
            size, taken = self._take()
            results: list[Row | Exception] = [RuntimeError("the run of the network was interrupted")] * len(taken)
            self._changed.release()
            try:
                results = self._results(size, taken)
            finally:
                self._changed.acquire()
                self._hand_out(taken, results)
        finally:
            self._running = False
            self._changed.notify_all()

    def _hand_out(self, taken: list[tuple[_Call, int]], results: list[Row | Exception]) -> None:
        for (call, _), result in zip(taken, results, strict=True):
            if not isinstance(result, Exception):
                call.rows.append(result)
                continue
            call.error = call.error or result
            if call in self._waiting:
                self._waiting.remove(call)

    def _gather(self) -> None:
        """Wait until there is a whole batch, or nobody who could bring more, or the first has waited long enough."""
        until = self._waiting[0].since + PATIENCE
        while self._left() < self._most and len(self._waiting) < self._expected:
            if (rest := until - time.monotonic()) <= 0 or not self._changed.wait(rest):
                return

    def _left(self) -> int:
        return sum(len(call.clips) - call.taken for call in self._waiting)

    def _take(self) -> tuple[int, list[tuple[_Call, int]]]:
        """The size to run in, and clips for it: calls and numbers of their clips, the first come first."""
        left = min(self._left(), self._most)
        size = self._most if left == self._most else self._fastest(left)
        taken: list[tuple[_Call, int]] = []
        while len(taken) < min(left, size):
            call = self._waiting[0]
            taken.append((call, call.taken))
            call.taken += 1
            if call.taken == len(call.clips):
                self._waiting.popleft()
        return size, taken

    def _fastest(self, count: int) -> int:
        def seconds(size: int) -> float:
            untried = 0.0 if size == 1 or count >= size / 2 else np.inf
            one = min(self._seconds[size], default=untried) * _DOUBT ** self._passed[size]
            return one * -(-count // size)

        fastest = min(sorted(self._engines), key=seconds)
        self._passed.update(self._engines.keys() - {fastest})
        return fastest

    def _results(self, size: int, taken: list[tuple[_Call, int]]) -> list[Row | Exception]:
        """A row or an error for each clip; one that fails does so alone."""
        begun = time.monotonic()
        try:
            pixels = np.stack([call.clips[number] for call, number in taken])
            features, logits = self._engines[size](pixels)
        except Exception as error:
            if len(taken) == 1:
                return [error]
            return [self._results(1, [each])[0] for each in taken]
        took = time.monotonic() - begun
        with self._changed:
            self._seconds[size].append(took)
            self._passed[size] = 0
            self._clips += len(taken)
            self._batches += 1
        return list(zip(features, logits, strict=True))
