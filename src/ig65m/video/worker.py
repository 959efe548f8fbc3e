"""The process that decodes for `isolation.Decoder`: jobs come on standard input, answers go to a pipe.

It ends with its standard input, so that it does not outlive its parent. An answer is a head and bytes, nothing that the
parent would have to interpret.
"""

import fcntl
import gc
import json
import os
import pickle
import queue
import resource
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from ig65m.errors import UsageError, VideoError
from ig65m.types import Limits, Preprocessing
from ig65m.video.clips import Tick, read_ticks
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.picture import View, read_picture
from ig65m.video.reader import read_duration
from ig65m.video.sampling import Sampling


class Job(NamedTuple):
    """What to read. `folder` is the one that a relative source is in. With a view only that is wanted; with neither that nor
    sampling, only the duration."""

    folder: str | None
    source: Path | str
    sampling: Sampling | None
    preprocessing: Preprocessing | None
    image_fps: float
    limits: Limits
    view: View | None = None


HEAD: Final = struct.Struct("<cddI")  # kind of answer, time, end, bytes that follow
READY: Final = b"R"
ALIVE: Final = b"A"  # frames come, though none to send
TICK: Final = b"T"  # its pixels follow, if some clip shows it
SAME: Final = b"S"  # a tick that shows what the last one showed
LOST: Final = b"X"  # a tick that damage has cost
TORN: Final = b"G"  # damage has cost a frame between the last tick and the next one
LENGTH: Final = b"L"  # what the video says its end is
PICTURE: Final = b"P"  # one picture: its SIZE and RGB bytes follow
SIZE: Final = struct.Struct("<II")  # height, width
END: Final = b"E"  # of the video; if there was an error, it follows as JSON
WORDS: Final = 100_000  # bytes of an error, at most: its message, and some fifty for each gap
_ALIVE_EVERY = 0.5  # seconds


class _Answers:
    """The worker's end: what it says."""

    def __init__(self, number: int) -> None:
        self.file = os.fdopen(number, "wb")
        self.said = 0.0
        self.pixels: Any = None

    def send(self, kind: bytes, start: float = 0.0, end: float = 0.0, body: Any = b"") -> None:
        self.file.write(HEAD.pack(kind, start, end, len(body)))
        self.file.write(body)
        self.file.flush()
        self.said = time.monotonic()

    def tick(self, tick: Tick) -> None:
        if tick.lost_before:
            self.send(TORN, tick.time, tick.time)
        if tick.lost:
            self.send(LOST, tick.time, tick.end)
        elif tick.pixels is not None and tick.pixels is self.pixels:
            self.send(SAME, tick.time, tick.end)
        else:
            self.send(TICK, tick.time, tick.end, b"" if tick.pixels is None else tick.pixels.reshape(-1).view(np.uint8).data)
            self.pixels = tick.pixels

    def alive(self, frame: Frame | LostFrame) -> None:
        if time.monotonic() - self.said > _ALIVE_EVERY:
            self.send(ALIVE, frame.time, frame.end)

    def end(self, message: str, *, usage: bool = False, error: VideoError | None = None, worn: bool = False) -> None:
        until, gaps = (None, ()) if error is None else (error.last_good_time, error.gaps)
        said = {"message": message[: WORDS // 50], "usage": usage, "last_good_time": until, "gaps": gaps, "worn": worn}
        self.send(END, body=json.dumps(said).encode())


def _decode(job: Job, answers: _Answers) -> None:
    folder, name, sampling, preprocessing, image_fps, limits, view = job
    answers.pixels = None
    more = f"{limits.memory / (1 << 30):.3g} GiB of memory; allow more with --max-memory"
    try:
        if folder is not None:
            os.chdir(folder)
        if view is not None:
            picture = read_picture(Path(name), view, image_fps=image_fps, limits=limits)
            answers.send(PICTURE, body=SIZE.pack(*picture.shape[:2]) + picture.tobytes())
        elif sampling is None or preprocessing is None:
            answers.send(LENGTH, end=read_duration(Path(name), image_fps=image_fps, limits=limits))
        else:
            for tick in read_ticks(name, sampling, preprocessing, image_fps=image_fps, limits=limits, on_frame=answers.alive):
                answers.tick(tick)
    except UsageError as error:
        answers.end(str(error), usage=True)
    except VideoError as error:
        # FFmpeg's decoders call want of memory by other names too.
        starved = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > limits.memory / 2
        hint = f"; perhaps it needs more than {more}" if starved else ""
        answers.end(f"{error}{hint}", error=error, worn=starved)
    except MemoryError:
        answers.end(f"{name}: decoding needs more than {more}", worn=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        answers.end(f"{name}: cannot be read ({error})")
    except Exception as error:  # a fault of the program costs this video only; decoding in-process shows where it is
        what = f"{type(error).__name__}: {error}"
        answers.end(f"{name}: a fault of the program, please report it ({what}); --debug --in-process shows where", worn=True)
    else:
        answers.send(END)
    gc.collect()  # PyAV's containers and streams refer to each other, and hold on to pictures


def _listen(jobs: "queue.SimpleQueue[Job]") -> None:
    with suppress(EOFError):
        while True:
            jobs.put(pickle.load(sys.stdin.buffer))
    os._exit(0)  # the parent is done, or is no more


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def main() -> None:
    """The worker process: `worker.py ANSWERS MEMORY`, a file descriptor and the limit in bytes."""
    answers, memory = _Answers(int(sys.argv[1])), int(sys.argv[2])
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, WORDS)  # it writes no files but its complaints
    _limit(resource.RLIMIT_DATA, memory)
    with suppress(OSError):  # less room in the pipe is only slower
        fcntl.fcntl(answers.file, fcntl.F_SETPIPE_SZ, 1 << 20)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    gc.freeze()
    with suppress(BrokenPipeError):
        answers.send(READY)
        while True:
            _decode(jobs.get(), answers)


if __name__ == "__main__":
    main()
