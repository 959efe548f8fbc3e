"""Admission of uploads: a bounded number of slots; some uploads are processed, the others wait."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from starlette.requests import Request

from ig65m.server.errors import ApiError, busy, closing
from ig65m.server.schemas import Requests
from ig65m.server.uploads import Gone

T = TypeVar("T")
Stopping = Callable[[], bool]
Job = Callable[[Stopping], T | None]


class Slot:
    """One upload, from its first byte to its answer. For the event loop's thread, but for what the job does."""

    def __init__(self, admission: "Admission") -> None:
        self.admission = admission
        self.stop = threading.Event()
        self.timeout: asyncio.Timeout | None = None
        self.work: Future[Any] | None = None

    def wait_with(self, timeout: asyncio.Timeout) -> None:
        """Note what ends the waiting for the upload, if the service is closed."""
        self.timeout = timeout
        if self.admission.closed:
            timeout.reschedule(0)

    def late(self) -> ApiError:
        """What to answer to an upload whose waiting ended."""
        if self.admission.closed:
            return closing()
        return ApiError(408, "too_slow", "the upload came too slowly; send it again over a better connection")

    async def run(self, job: Job[T], request: Request) -> T:
        """What the job gives, in a thread; it is told to stop when the client goes away, its time is over or the service ends.

        Raises ApiError, Gone, and what the job raises. When this returns or raises, the job has ended.
        """
        if self.admission.closed:
            raise closing()
        self.timeout = None
        work: Future[T | None] = self.admission.pool.submit(lambda: self.admission.timed(job, self.stop))
        self.work = work
        done = asyncio.ensure_future(asyncio.wrap_future(work))
        gone = asyncio.create_task(_gone(request))
        try:
            both: set[asyncio.Future[Any]] = {done, gone}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left = not done.done()
            gone.cancel()
            self.stop.set()
            work.cancel()
            await asyncio.wait({done})
        if left:
            if not done.cancelled():
                done.exception()  # asyncio would complain of one that nobody asked for
            raise Gone
        if done.cancelled():
            raise closing()
        result = done.result()
        if result is not None:
            return result
        raise closing() if self.admission.closed else self.admission.too_long()


class Admission:
    """At most `most` uploads at a time, `workers` of which are worked at for at most `seconds` each."""

    def __init__(self, most: int, workers: int, seconds: float) -> None:
        self.most, self.workers, self.seconds = most, workers, seconds
        self.pool = ThreadPoolExecutor(workers, "ig65m-upload")
        self.closed = False
        self._slots: set[Slot] = set()
        self._lock = threading.Lock()
        self._running = 0
        self._usual = 1.0  # seconds that a job takes

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """A slot for the time of the block. Raises ApiError, 503, if there is none."""
        if self.closed:
            raise closing()
        if len(self._slots) >= self.most:
            raise busy("too many uploads at a time; try again later", self._usual * self.most / self.workers)
        slot = Slot(self)
        self._slots.add(slot)
        try:
            yield slot
        finally:
            self._slots.remove(slot)

    def requests(self) -> Requests:
        """How busy it is."""
        taken = len(self._slots)
        running = min(self._running, taken)
        return Requests(running=running, waiting=taken - running, room=self.most - taken)

    def timed(self, job: Job[T], stop: threading.Event) -> T | None:
        """Run the job in this thread, and tell it to stop when its time is over."""
        begun = time.monotonic()
        with self._lock:
            self._running += 1
        try:
            return job(lambda: stop.is_set() or time.monotonic() > begun + self.seconds)
        finally:
            with self._lock:
                self._running -= 1
                self._usual += 0.2 * (time.monotonic() - begun - self._usual)

    def too_long(self) -> ApiError:
        """What to answer where the time of a job was over."""
        return ApiError(422, "too_long", f"the video takes longer than {self.seconds:g} s to work through; send a part of it")

    def close(self) -> None:
        """Refuse uploads from now on, also those that are not whole yet or wait; those that are worked at go on."""
        self.closed = True
        for slot in list(self._slots):
            if slot.timeout is not None:
                with suppress(RuntimeError):  # it is over already
                    slot.timeout.reschedule(0)
            if slot.work is not None:
                slot.work.cancel()

    def stop(self) -> None:
        """Break off those that are worked at too."""
        for slot in list(self._slots):
            slot.stop.set()


async def _gone(request: Request) -> None:
    """Return when the client has gone away; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
