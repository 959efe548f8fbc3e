"""The worker process that decodes for `isolation.Decoder`: jobs arrive on standard input, answers go to a pipe.

It ends with its standard input, so that it does not outlive its parent. An answer is a header and bytes, which the parent need
not interpret.
"""

import fcntl
import gc
import json
import math
import os
import pickle
import queue
import resource
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from ig65m.errors import UsageError, VideoError
from ig65m.types import Clip
from ig65m.video import jobs
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.jobs import Job
from ig65m.video.reader import read_duration
from ig65m.video.sample import Sample, SeekError
from ig65m.video.sample_reader import read_samples
from ig65m.video.seeking import seek_clips
from ig65m.video.stream import Stream
from ig65m.video.thumbnail import read_picture

_ALIVE_EVERY: Final = 0.5  # seconds
NO_TIME: Final = (-math.inf, -math.inf)


class _Answers:
    """Writes the answers."""

    def __init__(self, number: int) -> None:
        self.file = os.fdopen(number, "wb")
        self.said = 0.0
        self.pixels: Any = None

    def send(self, kind: bytes, start: float = 0.0, end: float = 0.0, body: Any = b"") -> None:
        self.file.write(jobs.HEAD.pack(kind, start, end, len(body)))
        self.file.write(body)
        self.file.flush()
        self.said = time.monotonic()

    def sample(self, sample: Sample) -> None:
        if sample.begins:
            self.send(jobs.BREAK, *NO_TIME)
        if sample.lost_before:
            self.send(jobs.TORN, sample.time, sample.time)
        if sample.lost:
            self.send(jobs.LOST, sample.time, sample.end)
        elif sample.pixels is not None and sample.pixels is self.pixels:
            self.send(jobs.SAME, sample.time, sample.end)
        else:
            parts: list[Any] = []
            if sample.pixels is not None:
                assert sample.shape is not None, "a sample with pixels has the shape of its frame"
                parts = [jobs.SIZE.pack(*sample.shape), sample.pixels.reshape(-1).view(np.uint8).data]
            if sample.beside is not None:
                parts.append(sample.beside.data)
            self.send(jobs.SAMPLE, sample.time, sample.end, b"".join(parts))
            self.pixels = sample.pixels

    def clip(self, clip: Clip) -> None:
        span = clip.span
        head = jobs.CLIP_HEAD.pack(span.first_frame, span.last_frame, *clip.pixels.shape[1:3], *(clip.shape or (0, 0)))
        self.send(jobs.CLIP, span.start, span.end, head + np.ascontiguousarray(clip.pixels).tobytes())

    def alive(self, frame: Frame | LostFrame | None = None) -> None:
        """Say that decoding continues and has reached a frame; without one, that packets are being read."""
        if time.monotonic() - self.said > _ALIVE_EVERY:
            self.send(jobs.ALIVE, *(NO_TIME if frame is None else (frame.time, frame.end)))

    def news(self, text: str) -> None:
        """Report a line about the connection of a live source."""
        self.send(jobs.NEWS, *NO_TIME, text[: jobs.WORDS // 50].encode(errors="replace"))

    def end(
        self,
        message: str,
        *,
        kind: Literal["video", "usage", "seek"] = "video",
        error: VideoError | None = None,
        worn: bool = False,
    ) -> None:
        until, gaps = (None, ()) if error is None else (error.last_good_time, error.gaps)
        said = {"message": message[: jobs.WORDS // 50], "kind": kind, "last_good_time": until, "gaps": gaps, "worn": worn}
        self.send(jobs.END, body=json.dumps(said).encode())


def _read(job: Job, answers: _Answers) -> None:
    """Read what a job asks for, and send it."""
    folder, name, sampling, preprocessing, image_fps, limits, view, seek, clips, beside = job
    if folder is not None:
        os.chdir(folder)
    if isinstance(name, Stream):
        assert sampling is not None
        assert preprocessing is not None
        events: Any = {"on_frame": answers.alive, "on_wait": answers.alive, "on_news": answers.news}
        for sample in read_samples(name, sampling, preprocessing, limits=limits, **events):
            answers.sample(sample)
    elif view is not None:
        picture = read_picture(Path(name), view, image_fps=image_fps, limits=limits)
        answers.send(jobs.PICTURE, body=jobs.SIZE.pack(*picture.shape[:2]) + picture.tobytes())
    elif sampling is None or preprocessing is None:
        answers.send(jobs.LENGTH, end=read_duration(Path(name), image_fps=image_fps, limits=limits))
    elif seek:
        alive: Any = {"on_frame": answers.alive, "on_packet": answers.alive}
        for clip in seek_clips(name, sampling, preprocessing, clips=clips, limits=limits, **alive):
            answers.clip(clip)
    else:
        how: Any = {"image_fps": image_fps, "beside": beside, "limits": limits, "on_frame": answers.alive}
        for sample in read_samples(name, sampling, preprocessing, **how):
            answers.sample(sample)


def _decode(job: Job, answers: _Answers) -> None:
    name, limits = job.source, job.limits
    answers.pixels = None
    more = f"{limits.memory / (1 << 30):.3g} GiB of memory; raise --max-memory to allow more"
    try:
        _read(job, answers)
    except UsageError as error:
        answers.end(str(error), kind="usage")
    except SeekError as error:
        answers.end(str(error), kind="seek")
    except VideoError as error:
        # FFmpeg's decoders report lack of memory under other names too.
        starved = _peak_memory() > limits.memory / 2
        hint = f"; perhaps it needs more than {more}" if starved else ""
        answers.end(f"{error}{hint}", error=error, worn=starved)
    except MemoryError:
        answers.end(f"{name}: decoding needs more than {more}", worn=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        answers.end(f"{name}: cannot be read ({error})")
    except Exception as error:  # a bug costs this video only; decoding in-process shows its traceback
        what = f"{type(error).__name__}: {error}"
        answers.end(f"{name}: a bug in ig65m, please report it ({what}); --debug --in-process shows its traceback", worn=True)
    else:
        answers.send(jobs.END)
    gc.collect()  # PyAV's containers and streams form reference cycles that hold pictures


def _peak_memory() -> int:
    """Peak resident memory of this program in bytes; getrusage counts that of the process which started it, too."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _listen(waiting: "queue.SimpleQueue[Job]") -> None:
    with suppress(EOFError):
        while True:
            waiting.put(pickle.load(sys.stdin.buffer))  # from the parent alone
    os._exit(0)  # the parent has finished or ended


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def main() -> None:
    """The worker process: `worker.py ANSWERS MEMORY`, a file descriptor and the memory limit in bytes."""
    answers, memory = _Answers(int(sys.argv[1])), int(sys.argv[2])
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, jobs.WORDS)  # it writes no files except its log
    _limit(resource.RLIMIT_DATA, memory)
    with suppress(OSError):  # a smaller pipe is only slower
        fcntl.fcntl(answers.file, fcntl.F_SETPIPE_SZ, 1 << 20)
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(waiting,), daemon=True).start()
    gc.freeze()
    with suppress(BrokenPipeError):
        answers.send(jobs.READY)
        while True:
            _decode(waiting.get(), answers)


if __name__ == "__main__":
    main()
