"""Decodes in a worker process: a decoder that crashes, hangs or exhausts memory harms only its own video.

The worker's answers are not trusted: they are bytes of the requested sizes, times and text.
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
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import IgError, UsageError, VideoError
from ig65m.types import FLOAT_RESAMPLINGS, Clip, ClipSpan, Limits, Preprocessing
from ig65m.video import jobs
from ig65m.video.geometry import LONGEST, resized_size
from ig65m.video.jobs import Job, View
from ig65m.video.sample import Pixels, Sample, SeekError
from ig65m.video.sampling import Sampling
from ig65m.video.stream import Stream

_WITHOUT_GAPS: Final[dict[str, type[UsageError | SeekError]]] = {"usage": UsageError, "seek": SeekError}
_STARTING = 120.0  # seconds in which a worker must start
_STREAM_GRACE = 10.0  # more seconds for a stream, which the worker gives up by itself

_idle: list["_Worker"] = []  # kept for the next decoder: starting a worker takes a third of a second
_most_idle = 1


class _WorkerLost(Exception):
    """The worker has ended, or its answer is invalid."""


class _Worker:
    """The parent's end of a worker process."""

    def __init__(self, memory: int, pipe: int | None = None) -> None:
        """`pipe`: a file descriptor that the worker may read, too."""
        if not sys.executable:
            raise RuntimeError("no Python executable found for the worker process; decode in this process (--in-process)")
        self.memory, self.pipe = memory, pipe
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
                pass_fds=(theirs,) if pipe is None else (theirs, pipe),
                process_group=0,  # Ctrl-C goes to the parent, which stops the worker
                # The worker finds the same modules as this process; -P excludes the working folder.
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
        """Whether this process can send it a job."""
        return self.parent == os.getpid() and self.process.returncode is None and self.process.poll() is None

    def send(self, job: Job) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # the worker has ended, which `receive` reports
            pickle.dump(job, self.process.stdin)

    def receive(self, seconds: float, most: int) -> tuple[bytes, float, float, bytes]:
        """Return its next answer: kind, time, end and at most `most` bytes.

        Raises TimeoutError; _WorkerLost; RuntimeError if the worker did not start.
        """
        if not self.ready:
            try:
                self._receive(_STARTING, 0)
            except (TimeoutError, _WorkerLost):
                self.complaints.seek(0)
                said = self.complaints.read().decode(errors="replace").strip()[-1000:]
                raise RuntimeError(f"the worker process that decodes did not start: {said or 'it printed nothing'}") from None
            self.ready = True
        return self._receive(seconds, most)

    def _receive(self, seconds: float, most: int) -> tuple[bytes, float, float, bytes]:
        until = time.monotonic() + seconds
        kind, start, end, size = jobs.HEAD.unpack(self._read(jobs.HEAD.size, until))
        if size > most:
            raise _WorkerLost
        return kind, start, end, self._read(size, until)

    def _read(self, size: int, until: float) -> bytes:
        read = bytearray()
        while len(read) < size:
            if not wait([self.answers], max(0.0, until - time.monotonic())):
                raise TimeoutError
            piece = os.read(self.answers, size - len(read))
            if not piece:
                raise _WorkerLost
            read += piece
        return bytes(read)

    def stop(self, grace: float = 0.0) -> int:
        """Stop the process after `grace` seconds, and return its exit status, negative for a signal."""
        status = 0
        if self.parent == os.getpid():  # else this process is a fork of the parent
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
    """Return an idle worker with that memory limit, or a new one."""
    while _idle:
        with suppress(IndexError):  # another thread was faster
            worker = _idle.pop()
            if worker.usable and worker.memory == memory:
                return worker
            worker.stop()
    return _Worker(memory)


def _keep(worker: _Worker) -> None:
    """Keep a worker idle; if there are too many, the one idle for longest is stopped."""
    _idle.append(worker)
    while len(_idle) > _most_idle:
        with suppress(IndexError):
            _idle.pop(0).stop()


def keep_idle(count: int) -> None:
    """Set how many idle workers are kept; initially one."""
    global _most_idle  # noqa: PLW0603 - as global as the workers
    _most_idle = count


def prepare(limits: Limits, pipe: int | None = None) -> None:
    """Start the worker for the next Decoder with these limits in advance; it may read a pipe."""
    _keep(_take(limits.memory) if pipe is None else _Worker(limits.memory, pipe))


def close_idle() -> None:
    """Stop the idle workers."""
    while _idle:
        with suppress(IndexError):
            _idle.pop().stop()


atexit.register(close_idle)


class Decoder:
    """Decodes videos one after the other in a worker, which is replaced if a video kills it.

    Only `interrupt` may be called from another thread.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._worker: _Worker | None = None
        self._at_work = False  # the worker has answers that nobody has read

    def __enter__(self) -> "Decoder":
        self._worker = _take(self.limits.memory)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._worker is not None and self._worker.usable and not self._at_work:
            _keep(self._worker)
            self._worker = None
        self._drop()

    def interrupt(self) -> None:
        """Stop decoding from another thread: `read_samples` raises VideoError in its thread."""
        if self._worker is not None:
            self._worker.process.kill()

    def read_samples(
        self,
        source: Path | str | Stream,
        sampling: Sampling,
        preprocessing: Preprocessing,
        *,
        image_fps: float = 25.0,
        beside: Preprocessing | None = None,
        on_news: Callable[[str], None] | None = None,
    ) -> Generator[Sample, None, None]:
        """Read samples as `sample_reader.read_samples`. VideoError also stands for a crash of the worker, and for no frame
        within `limits.seconds`.
        """
        kinds = [preprocessing] if beside is None else [preprocessing, beside]
        job = self._job(source, sampling, preprocessing, image_fps=image_fps, beside=beside)
        shape: tuple[int, int] | None = None
        pictures: list[Pixels] = []
        torn = begins = False
        with closing(self._answers(job, jobs.SIZE.size + sum(map(_most_bytes, kinds)))) as answers:
            for kind, start, end, body in answers:
                if kind == jobs.SAMPLE:
                    shape, pictures = _pictures(body, kinds) if body else (None, [])
                if kind in (jobs.SAMPLE, jobs.SAME, jobs.LOST):
                    lost = kind == jobs.LOST
                    pixels, small, *_ = *([] if lost else pictures), None, None
                    yield Sample(start, end, pixels, lost, torn, small, None if lost else shape, begins)
                elif kind == jobs.NEWS and on_news is not None:
                    on_news(body.decode(errors="replace"))
                begins = kind == jobs.BREAK or (begins and kind in (jobs.ALIVE, jobs.NEWS))
                torn = kind == jobs.TORN or (torn and kind == jobs.ALIVE)

    def seek_clips(
        self, source: Path | str, sampling: Sampling, preprocessing: Preprocessing, *, clips: int | None = None
    ) -> Generator[Clip, None, None]:
        """Read clips as `seeking.seek_clips`. Raises SeekError as that, and VideoError as `read_samples`."""
        dtype = _dtype(preprocessing)
        most = jobs.CLIP_HEAD.size + sampling.frames * _most_bytes(preprocessing)
        job = self._job(source, sampling, preprocessing, seek=True, clips=clips)
        with closing(self._answers(job, most)) as answers:
            for kind, start, end, body in answers:
                if kind != jobs.CLIP:
                    continue
                head = body[: jobs.CLIP_HEAD.size].ljust(jobs.CLIP_HEAD.size, b"\0")
                first, last, height, width, *frame = jobs.CLIP_HEAD.unpack(head)
                shape = (sampling.frames, *(preprocessing.crop or (height, width)), 3)
                right = len(body) == jobs.CLIP_HEAD.size + math.prod(shape) * dtype.itemsize and 0 not in shape
                if not right or not -math.inf < start <= end < math.inf:
                    raise VideoError(f"{source}: its decoder returned an invalid clip")
                pixels = np.frombuffer(body, dtype, offset=jobs.CLIP_HEAD.size).reshape(shape)
                yield Clip(pixels, ClipSpan(start, end, first, last), sought=True, shape=(frame[0], frame[1]))

    def read_duration(self, source: Path | str, *, image_fps: float) -> float:
        """Read the duration as `reader.read_duration`."""
        with closing(self._answers(self._job(source, image_fps=image_fps), 0)) as answers:
            return sum(end for kind, _, end, _ in answers if kind == jobs.LENGTH)

    def read_picture(self, source: Path | str, view: View, *, image_fps: float = 25.0) -> NDArray[np.uint8]:
        """Read a picture as `thumbnail.read_picture`, in at most `limits.seconds`. Raises as `read_samples`."""
        shown: NDArray[np.uint8] | None = None
        most = view.edge * view.edge * 3 + jobs.SIZE.size
        with closing(self._answers(self._job(source, image_fps=image_fps, view=view), most)) as answers:
            for kind, _, _, body in answers:
                if kind == jobs.PICTURE:
                    shape = (*jobs.SIZE.unpack_from(body), 3) if len(body) > jobs.SIZE.size else (0, 0, 3)
                    if math.prod(shape) == len(body) - jobs.SIZE.size and max(shape[:2]) <= view.edge:
                        shown = np.frombuffer(body, np.uint8, offset=jobs.SIZE.size).reshape(shape)
        if shown is None:
            raise VideoError(f"{source}: its decoder returned no picture")
        return shown

    def _job(
        self,
        source: Path | str | Stream,
        sampling: Sampling | None = None,
        preprocessing: Preprocessing | None = None,
        *,
        image_fps: float = 25.0,
        **more: Any,
    ) -> Job:
        # a worker started earlier may have another working folder
        folder = None if isinstance(source, Path) and source.is_absolute() else str(Path.cwd())
        return Job(folder, source, sampling, preprocessing, image_fps, self.limits, **more)

    def _answers(self, job: Job, size: int) -> Generator[tuple[bytes, float, float, bytes], None, None]:
        """Yield the worker's answers up to the end, each of at most `size` bytes."""
        limits, source = self.limits, job.source
        pipe = source.pipe if isinstance(source, Stream) else None
        if self._worker is None or not self._worker.usable or (pipe is not None and self._worker.pipe != pipe):
            self._drop()
            self._worker = _Worker(limits.memory, pipe)
        worker, patience = self._worker, limits.seconds + (_STREAM_GRACE if isinstance(source, Stream) else 0.0)
        worker.send(job)
        self._at_work = True
        good_until, failure = None, None
        usable = False
        try:
            while True:
                kind, start, end, body = worker.receive(patience, max(size, jobs.WORDS))
                if kind == jobs.END:
                    failure, usable = _verdict(body)
                    break
                if kind not in (jobs.LOST, jobs.TORN) and end > -math.inf:
                    good_until = end
                yield kind, start, end, body
        except TimeoutError:
            raise VideoError(
                f"{source}: no frame for {limits.seconds:g} s, so its decoder was stopped; raise --timeout to wait longer",
                last_good_time=good_until,
            ) from None
        except (_WorkerLost, ValueError, LookupError, TypeError):
            raise VideoError(f"{source}: {_ending(self._drop(grace=5.0))}", last_good_time=good_until) from None
        finally:
            self._at_work = False
            if not usable or pipe is not None:
                self._drop()
        if failure is not None:
            raise failure

    def _drop(self, grace: float = 0.0) -> int:
        worker, self._worker = self._worker, None
        return 0 if worker is None else worker.stop(grace)


def _shape(preprocessing: Preprocessing, height: int, width: int) -> tuple[int, ...]:
    """Shape of a frame of that size as `to_pixels` returns it. Raises ValueError as `resized_size`."""
    shape = (*(preprocessing.crop or resized_size(preprocessing, height, width)), 3)
    return shape if preprocessing.crops == 1 else (preprocessing.crops, *shape)


def _most_bytes(preprocessing: Preprocessing) -> int:
    """Most bytes of a frame: those of the longest one if pictures are whole."""
    edge = preprocessing.resize
    shape = _shape(preprocessing, 1, LONGEST) if isinstance(edge, int) else _shape(preprocessing, *edge)
    return math.prod(shape) * _dtype(preprocessing).itemsize


def _pictures(body: bytes, kinds: Sequence[Preprocessing]) -> tuple[tuple[int, int], list[Pixels]]:
    """Return height and width of a frame, and it in each of its sizes. Raises ValueError for another number of bytes."""
    if len(body) < jobs.SIZE.size or 0 in (shape := jobs.SIZE.unpack_from(body)):
        raise ValueError
    body = body[jobs.SIZE.size :]
    pictures: list[Pixels] = []
    for kind in kinds:
        wanted = _shape(kind, *shape)
        size = math.prod(wanted) * _dtype(kind).itemsize
        own, body = (body, b"") if kind is kinds[-1] else (body[:size], body[size:])
        pictures.append(np.frombuffer(own, _dtype(kind)).reshape(wanted))
    return shape, pictures


def _dtype(preprocessing: Preprocessing) -> np.dtype[Any]:
    return np.dtype(np.float32 if preprocessing.resampling in FLOAT_RESAMPLINGS else np.uint8)


def _verdict(body: bytes) -> tuple[IgError | SeekError | None, bool]:
    """Parse what a worker reports at a video's end: its error, and whether the worker can be used again."""
    if not body:
        return None, True
    said = json.loads(body)
    message, until = str(said["message"]), said["last_good_time"]
    if said["kind"] in _WITHOUT_GAPS:
        return _WITHOUT_GAPS[said["kind"]](message), True
    gaps = [(float(start), float(end)) for start, end in said["gaps"]]
    return VideoError(message, last_good_time=None if until is None else float(until), gaps=gaps), not said["worn"]


def _ending(status: int) -> str:
    if status >= 0:
        return f"its decoder ended (exit status {status})"
    name = signal.Signals(-status).name
    hint = ", perhaps out of memory" if -status in (signal.SIGKILL, signal.SIGABRT) else ""
    return f"its decoder crashed ({name}{hint}); the file is damaged or malicious"
