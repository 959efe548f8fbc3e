"""Decoding in a process of its own: a decoder that crashes, hangs or eats memory harms only its own video.

The worker's answers are not trusted either: they are bytes of the sizes that were asked for, times and words.
"""

import atexit
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import closing, suppress
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import IgError, UsageError, VideoError
from ig65m.types import Clip, Frames, Limits, Preprocessing
from ig65m.video.clips import Source, Tick, clips_from, read_ticks
from ig65m.video.picture import View
from ig65m.video.sampling import Sampling
from ig65m.video.worker import ALIVE, END, HEAD, LENGTH, LOST, PICTURE, SAME, SIZE, TICK, TORN, WORDS, Job

_STARTING = 120.0  # seconds in which a worker must be ready

_idle: list["_Worker"] = []  # kept for whoever decodes next: starting one takes a third of a second
_most_idle = 1


class _Gone(Exception):
    """The worker has ended, or answers nonsense."""


class _Worker:
    """The parent's end of a worker process."""

    def __init__(self, memory: int) -> None:
        if not sys.executable:
            raise RuntimeError("there is no Python program to decode with in a process of its own; decode in this process")
        self.memory = memory
        self.parent = os.getpid()
        self.ready = False
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop
        self.answers, theirs = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ig65m.video.worker", str(theirs), str(memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self.complaints,
                bufsize=0,
                pass_fds=(theirs,),
                process_group=0,  # Ctrl-C is for the parent, which stops the worker
                # It finds the modules that this process has found; -P keeps the working folder out of that.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        except OSError:
            os.close(self.answers)
            self.complaints.close()
            raise
        finally:
            os.close(theirs)

    @property
    def usable(self) -> bool:
        """Whether this process may give it a job."""
        return self.parent == os.getpid() and self.process.returncode is None and self.process.poll() is None

    def send(self, job: Job) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which shows where its answer is awaited
            pickle.dump(job, self.process.stdin)

    def receive(self, seconds: float, most: int) -> tuple[bytes, float, float, bytes]:
        """Its next answer: kind, time, end and at most `most` bytes.

        Raises TimeoutError, _Gone, and RuntimeError if it did not even start.
        """
        if not self.ready:
            try:
                self._receive(_STARTING, 0)
            except (TimeoutError, _Gone):
                self.complaints.seek(0)
                said = self.complaints.read().decode(errors="replace").strip()[-1000:]
                raise RuntimeError(f"the process that decodes did not start: {said or 'it said nothing'}") from None
            self.ready = True
        return self._receive(seconds, most)

    def _receive(self, seconds: float, most: int) -> tuple[bytes, float, float, bytes]:
        until = time.monotonic() + seconds
        kind, start, end, size = HEAD.unpack(self._read(HEAD.size, until))
        if size > most:
            raise _Gone
        return kind, start, end, self._read(size, until)

    def _read(self, size: int, until: float) -> bytes:
        read = bytearray()
        while len(read) < size:
            if not wait([self.answers], max(0.0, until - time.monotonic())):
                raise TimeoutError
            piece = os.read(self.answers, size - len(read))
            if not piece:
                raise _Gone
            read += piece
        return bytes(read)

    def stop(self, grace: float = 0.0) -> int:
        """Let go of the process, which has `grace` seconds to end by itself; its exit status, negative for a signal."""
        status = 0
        if self.parent == os.getpid():  # else this is a fork of its parent
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(grace)
            self.process.kill()
            status = self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        os.close(self.answers)
        self.complaints.close()
        return status


def _take(memory: int) -> _Worker:
    """An idle worker if there is one with that limit on memory, or a new one."""
    while _idle:
        with suppress(IndexError):  # another thread was faster
            worker = _idle.pop()
            if worker.usable and worker.memory == memory:
                return worker
            worker.stop()
    return _Worker(memory)


def _keep(worker: _Worker) -> None:
    """Let it idle, in the place of the one that did so longest if there are enough."""
    _idle.append(worker)
    while len(_idle) > _most_idle:
        with suppress(IndexError):
            _idle.pop(0).stop()


def keep_idle(count: int) -> None:
    """From now on so many workers are kept for whoever decodes next, if so many were in use at the same time; at first one."""
    global _most_idle  # noqa: PLW0603 - as global as the workers
    _most_idle = count


def prepare(limits: Limits) -> None:
    """Start the worker that the next Decoder with these limits will use, so that it is ready by then."""
    _keep(_take(limits.memory))


def close_idle() -> None:
    """End the workers that are kept for later."""
    while _idle:
        with suppress(IndexError):
            _idle.pop().stop()


atexit.register(close_idle)


class Decoder:
    """Decodes videos, one after the other, in a worker that is replaced when one of them brought it down.

    For one thread, but for `interrupt`.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._worker: _Worker | None = None

    def __enter__(self) -> "Decoder":
        self._worker = _take(self.limits.memory)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._worker is not None and self._worker.usable:
            _keep(self._worker)
            self._worker = None
        self._drop()

    def interrupt(self) -> None:
        """Break off the video at hand, from another thread: `read_ticks` raises VideoError there."""
        if self._worker is not None:
            self._worker.process.kill()

    def read_ticks(
        self, source: Path | str, sampling: Sampling, preprocessing: Preprocessing, *, image_fps: float
    ) -> Generator[Tick, None, None]:
        """As `clips.read_ticks`; that the worker crashes, or gives no frame for `limits.seconds`, is a VideoError too."""
        shape = (*preprocessing.crop, 3) if preprocessing.crops == 1 else (preprocessing.crops, *preprocessing.crop, 3)
        dtype = np.dtype(np.float32 if preprocessing.resampling == "float_bilinear" else np.uint8)
        pixels, torn = None, False
        with closing(self._answers(source, sampling, preprocessing, image_fps, math.prod(shape) * dtype.itemsize)) as answers:
            for kind, start, end, body in answers:
                if kind == TICK:
                    pixels = np.frombuffer(body, dtype).reshape(shape) if body else None
                if kind in (TICK, SAME, LOST):
                    yield Tick(start, end, None if kind == LOST else pixels, lost=kind == LOST, lost_before=torn)
                torn = kind == TORN or (torn and kind == ALIVE)

    def read_duration(self, source: Path | str, *, image_fps: float) -> float:
        """As `reader.read_duration`."""
        with closing(self._answers(source, None, None, image_fps, 0)) as answers:
            return sum(end for kind, _, end, _ in answers if kind == LENGTH)

    def read_picture(self, source: Path | str, view: View, *, image_fps: float = 25.0) -> NDArray[np.uint8]:
        """As `picture.read_picture`; `limits.seconds` is for all of it. Errors are as in `read_ticks`."""
        shown: NDArray[np.uint8] | None = None
        most = view.edge * view.edge * 3 + SIZE.size
        with closing(self._answers(source, None, None, image_fps, most, view)) as answers:
            for kind, _, _, body in answers:
                if kind == PICTURE:
                    shape = (*SIZE.unpack_from(body), 3) if len(body) > SIZE.size else (0, 0, 3)
                    if math.prod(shape) == len(body) - SIZE.size and max(shape[:2]) <= view.edge:
                        shown = np.frombuffer(body, np.uint8, offset=SIZE.size).reshape(shape)
        if shown is None:
            raise VideoError(f"{source}: its decoder gave no picture")
        return shown

    def _answers(
        self,
        source: Path | str,
        sampling: Sampling | None,
        preprocessing: Preprocessing | None,
        image_fps: float,
        size: int,
        view: View | None = None,
    ) -> Generator[tuple[bytes, float, float, bytes], None, None]:
        """What the worker says until the end, each with at most `size` bytes."""
        if self._worker is None or not self._worker.usable:
            self._drop()
            self._worker = _Worker(self.limits.memory)
        worker, limits = self._worker, self.limits
        # a worker kept from earlier may be in another folder
        folder = None if isinstance(source, Path) and source.is_absolute() else str(Path.cwd())
        worker.send(Job(folder, source, sampling, preprocessing, image_fps, limits, view))
        good_until, failure = None, None
        usable = False
        try:
            while True:
                kind, start, end, body = worker.receive(limits.seconds, max(size, WORDS))
                if kind == END:
                    failure, usable = _verdict(body)
                    break
                if kind not in (LOST, TORN):
                    good_until = end
                yield kind, start, end, body
        except TimeoutError:
            raise VideoError(
                f"{source}: no frame for {limits.seconds:g} s, so its decoder was stopped; allow more with --timeout",
                last_good_time=good_until,
            ) from None
        except (_Gone, ValueError):
            raise VideoError(f"{source}: {_ending(self._drop(grace=5.0))}", last_good_time=good_until) from None
        finally:
            if not usable:
                self._drop()
        if failure is not None:
            raise failure

    def _drop(self, grace: float = 0.0) -> int:
        worker, self._worker = self._worker, None
        return 0 if worker is None else worker.stop(grace)


def read_clips(
    source: Source,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    clips: int | None = None,
    image_fps: float = 25.0,
    limits: Limits | None = None,
) -> Generator[Clip, None, None]:
    """The clips of a video one after the other, decoded in a worker process; memory holds one clip's frames.

    source: a file, a folder of images (`image_fps` a second), `Frames` in memory, or a `Segment`. clips: as many, spread evenly
    over the video, in place of the stride. A clip's pixels are (T, H, W, 3) RGB on 0..255, not normalised: uint8, or float32 if
    the preprocessing resizes in float; with several crops there is a clip for each.

    Raises UsageError as `clips_from`; VideoError if nothing can be read, and after the last clip of a video that is damaged or
    breaks off.
    """
    limits = limits or Limits()
    how: dict[str, Any] = {"clips": clips, "image_fps": image_fps}
    if isinstance(source, Frames):
        yield from clips_from(partial(read_ticks, limits=limits), source, sampling, preprocessing, **how)
        return
    with Decoder(limits) as decoder:
        yield from clips_from(decoder.read_ticks, source, sampling, preprocessing, **how)


def _verdict(body: bytes) -> tuple[IgError | None, bool]:
    """What a worker says of a video at its end: what was wrong, and whether the worker is good for another one."""
    if not body:
        return None, True
    said = json.loads(body)
    message, until = str(said["message"]), said["last_good_time"]
    if said["usage"]:
        return UsageError(message), True
    gaps = [(float(start), float(end)) for start, end in said["gaps"]]
    return VideoError(message, last_good_time=None if until is None else float(until), gaps=gaps), not said["worn"]


def _ending(status: int) -> str:
    if status >= 0:
        return f"its decoder ended (exit status {status})"
    name = signal.Signals(-status).name
    hint = ", perhaps for want of memory" if -status in (signal.SIGKILL, signal.SIGABRT) else ""
    return f"its decoder crashed ({name}{hint}); the file is damaged or hostile"
