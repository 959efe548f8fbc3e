"""One engine for many threads: clips of concurrent calls go through the network together."""

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

PATIENCE: Final = 0.01  # seconds that a clip waits for clips of other threads
_LATELY: Final = 8  # number of recent runs that a size is judged by
_DOUBT: Final = 0.97  # factor on the time of a size for each run that it was not chosen, so that it is tried again

Row = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Counts:
    """Number of clips and batches so far."""

    clips: int
    batches: int

    @property
    def mean(self) -> float:
        """Mean clips in a batch; 0 before the first."""
        return self.clips / self.batches if self.batches else 0.0


@dataclass(eq=False)
class _Call:
    """One thread's call: results for its clips, or an error. `taken` clips have gone to the network."""

    clips: NDArray[Any]
    since: float
    taken: int = 0
    rows: list[Row] = field(default_factory=list)
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.error is not None or len(self.rows) == len(self.clips)


class SharedEngine:
    """An engine that several threads may call at the same time.

    `engines` maps batch sizes to engines for the same work; one size must be 1. Once there are enough clips for the largest
    size, they run. Fewer clips run in the engine that is fastest for that number: padding a batch is worthwhile on a GPU, but
    not on a CPU. Clips wait for others for at most PATIENCE, and only while another thread is `expected`.

    There is no extra thread: a caller that waits for its clips runs the network, one at a time, also for others.
    """

    def __init__(self, engines: Mapping[int, Engine]) -> None:
        if 1 not in engines:
            raise UsageError(f"there must be an engine of batch size 1, got sizes {sorted(engines)}")
        self._engines = dict(engines)
        self._most = max(engines)
        one = engines[1]
        self.name: str = one.name
        self.precision: Precision = one.precision
        self.device: str = one.device
        self._seconds: dict[int, deque[float]] = {size: deque(maxlen=_LATELY) for size in engines}  # durations of recent runs
        self._passed: Counter[int] = Counter()  # number of runs since a size was chosen last
        self._changed = threading.Condition()
        self._waiting: deque[_Call] = deque()  # calls with clips that are not taken
        self._running = False
        self._expected = 0
        self._clips = self._batches = 0

    @property
    def counts(self) -> Counts:
        """Number of clips and batches so far."""
        with self._changed:
            return Counts(self._clips, self._batches)

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Declare, for the block, that this thread will bring clips, for which others may wait briefly."""
        with self._changed:
            self._expected += 1
        try:
            yield
        finally:
            with self._changed:
                self._expected -= 1
                self._changed.notify_all()

    def __call__(self, clips: NDArray[Any]) -> Arrays:
        """Compute any number of clips: see `Engine`. An error concerns these clips only, not those of other threads."""
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
        """Run one batch; the lock is held except while the network runs."""
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
                self._deliver(taken, results)
        finally:
            self._running = False
            self._changed.notify_all()

    def _deliver(self, taken: list[tuple[_Call, int]], results: list[Row | Exception]) -> None:
        for (call, _), result in zip(taken, results, strict=True):
            if not isinstance(result, Exception):
                call.rows.append(result)
                continue
            call.error = call.error or result
            if call in self._waiting:
                self._waiting.remove(call)

    def _gather(self) -> None:
        """Wait until a batch is full, nobody else can bring clips, or the first clip has waited long enough."""
        until = self._waiting[0].since + PATIENCE
        while len(self._same_shape()) < self._most and len(self._waiting) < self._expected:
            if (rest := until - time.monotonic()) <= 0 or not self._changed.wait(rest):
                return

    def _same_shape(self) -> list[_Call]:
        """Return, for each waiting clip of the shape of the first one, its call, in order of arrival."""
        shape = self._waiting[0].clips.shape[1:]
        return [call for call in self._waiting if call.clips.shape[1:] == shape for _ in range(len(call.clips) - call.taken)]

    def _take(self) -> tuple[int, list[tuple[_Call, int]]]:
        """Return the size to run, and the clips for it as calls and clip numbers, in order of arrival."""
        alike = self._same_shape()[: self._most]
        size = self._most if len(alike) == self._most else self._fastest(len(alike))
        taken: list[tuple[_Call, int]] = []
        for call in alike[:size]:
            taken.append((call, call.taken))
            call.taken += 1
            if call.taken == len(call.clips):
                self._waiting.remove(call)
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
        """Return a row or an error for each clip; a clip that fails does so alone."""
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
