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
from ig65m.server.uploads import ClientDisconnected

T = TypeVar("T")
Stopping = Callable[[], bool]
Job = Callable[[Stopping], T | None]


class Slot:
    """One upload, from its first byte to its response. Used in the event loop's thread; only the job runs elsewhere."""

    def __init__(self, admission: "Admission") -> None:
        self.admission = admission
        self.stop = threading.Event()
        self.timeout: asyncio.Timeout | None = None
        self.work: Future[Any] | None = None

    def wait_with(self, timeout: asyncio.Timeout) -> None:
        """Store the timeout that is rescheduled to stop waiting for the upload, if the service is closed."""
        self.timeout = timeout
        if self.admission.closed:
            timeout.reschedule(0)

    def late(self) -> ApiError:
        """Return the error for an upload whose waiting ended."""
        if self.admission.closed:
            return closing()
        return ApiError(408, "too_slow", "the upload was too slow; send it again over a faster connection")

    async def run(self, job: Job[T], request: Request) -> T:
        """Run the job in a thread, and return its result; it is told to stop when the client leaves, its time is over or the
        service ends.

        Raises ApiError, ClientDisconnected, and what the job raises. The job has ended when this returns or raises.
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
                done.exception()  # retrieved, since asyncio warns about exceptions that nobody retrieves
            raise ClientDisconnected
        if done.cancelled():
            raise closing()
        result = done.result()
        if result is not None:
            return result
        raise closing() if self.admission.closed else self.admission.too_long()


class Admission:
    """Admits at most `most` uploads at a time; `workers` of them are processed, for at most `seconds` each."""

    def __init__(self, most: int, workers: int, seconds: float) -> None:
        self.most, self.workers, self.seconds = most, workers, seconds
        self.pool = ThreadPoolExecutor(workers, "ig65m-upload")
        self.closed = False
        self._slots: set[Slot] = set()
        self._lock = threading.Lock()
        self._running = 0
        self._usual = 1.0  # recent durations of a job in seconds

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """Hold a slot for the block. Raises ApiError 503 if there is none."""
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
        """Number of slots in use, and free ones."""
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
        """Return the error for a job whose time was over."""
        return ApiError(
            422, "too_long", f"processing the video takes longer than {self.seconds:g} s; send a shorter part of it"
        )

    def close(self) -> None:
        """Refuse uploads from now on, also those still being received or waiting; those being processed continue."""
        self.closed = True
        for slot in list(self._slots):
            if slot.timeout is not None:
                with suppress(RuntimeError):  # it has already expired
                    slot.timeout.reschedule(0)
            if slot.work is not None:
                slot.work.cancel()

    def stop(self) -> None:
        """Stop the uploads being processed, too."""
        for slot in list(self._slots):
            slot.stop.set()


async def _gone(request: Request) -> None:
    """Wait until the client has disconnected; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
