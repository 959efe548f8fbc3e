"""Options that classify and extract share."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ig65m.cli.terminal import printable, say
from ig65m.errors import UsageError
from ig65m.types import ClipSpan, Failure, Frames, Limits

Model = Annotated[str | None, typer.Option(help="A model's name (`ig65m models`) or file (.safetensors, .pth, .pkl).")]
FramesOption = Annotated[int | None, typer.Option("--frames", help="Frames in a clip; default: the model's.")]
FrameStep = Annotated[int | None, typer.Option(help="Frames from one frame of a clip to the next; default: the model's.")]
Stride = Annotated[int | None, typer.Option(help="Frames from one clip's start to the next; default: the clip's span.")]
Fps = Annotated[float | None, typer.Option(help="Choose frames by time, so many a second; default: every frame.")]
Start = Annotated[float | None, typer.Option(help="Seconds of the stream to start at.")]
End = Annotated[float | None, typer.Option(help="Seconds of the stream to end at.")]
TailOption = Annotated[str, typer.Option("--tail", help="A last short clip: 'pad' it with its last frame, or 'drop' it.")]
PreprocessingOption = Annotated[
    str | None,
    typer.Option("--preprocessing", help="Who resizes: 'vmz' or 'ig65m-pytorch' (the original's way); default: the model's."),
]
BatchSize = Annotated[
    int | None, typer.Option(help="Clips that go through the network together; default: 1 on the CPU, 8 on a GPU.")
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="openvino (default on the CPU), onnxruntime or pytorch (default on a GPU).")
]
PrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="fp32 (default), bf16, fp16; int8 is what `ig65m quantize` makes.")
]
Threads = Annotated[int | None, typer.Option(help="Threads of the engine; default: one a core.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
ImageFps = Annotated[float, typer.Option(help="Frames a second of a folder of images.")]
MaxPixels = Annotated[int, typer.Option(help="Pixels in one picture; a video with more is given up.")]
MaxFrames = Annotated[int, typer.Option(help="Frames of one video; one with more is given up there.")]
MaxMemory = Annotated[float, typer.Option(help="GiB of memory for decoding one video.")]
Timeout = Annotated[float, typer.Option(help="Seconds without a new frame after which a video is given up.")]
InProcess = Annotated[
    bool,
    typer.Option(
        "--in-process", help="Decode in the program's own process: no limit on memory and time, a crash ends the program."
    ),
]
LIMITS = Limits()
GIB = 1 << 30


def limits(pixels: int, frames: int, memory: float, seconds: float, *, in_process: bool) -> Limits:
    """The limits that options name, `memory` in GiB; the process that decodes starts while this one is still importing.

    Raises UsageError if one is out of range.
    """
    if not 0.25 <= memory <= 1 << 20:
        raise UsageError(f"--max-memory must be at least 0.25 GiB, got {memory:g}")
    chosen = Limits(pixels=pixels, frames=frames, memory=int(memory * GIB), seconds=seconds)
    if not in_process:
        from ig65m.video.isolation import prepare

        prepare(chosen)
    return chosen


def check_inputs(inputs: Sequence[str]) -> None:
    """Raise UsageError for what names no local file or folder: nothing at all, standard input, an address."""
    for name in inputs:
        if not name:
            raise UsageError("an input has no name; give a file or a folder")
        if name == "-":
            raise UsageError("- : standard input cannot be read; save it to a file first (one named - is ./-)")
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
            raise UsageError(f"{name} is an address; download it first, then give the file")


def check_videos(inputs: Sequence[str]) -> None:
    """Raise UsageError as `check_inputs` does, and if none of the inputs is there."""
    check_inputs(inputs)
    reasons = []
    for name in inputs:
        try:
            Path(name).stat()
            return
        except OSError as error:
            reasons.append(f"{name}: {error.strerror}")
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    raise UsageError(f"{'; '.join(reasons[:3])}{more}; expected local video files or folders of images")


@contextmanager
def json_at_end(wanted: bool, done: Sequence[object], record: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Print the record as JSON when the block ends: by an error too, for what was `done` before it."""
    try:
        yield
    finally:
        if wanted and done:
            print(json.dumps(record(), indent=1, allow_nan=False))


def on_engine(line: str) -> None:
    """Say on stderr what runs the network."""
    say(f"ig65m: {line}")


def report(status: str, failure: Failure) -> None:
    """Say on stderr what went wrong with a video; the message names it."""
    until = "" if failure.last_good_time is None else f" (good until {failure.last_good_time:.2f} s)"
    say(f"ig65m: {status}{until}: {printable(failure.message)}")


def source_name(source: object) -> str:
    """What to call an input in the progress bar."""
    return "frames in memory" if isinstance(source, Frames) else printable(Path(str(source)).name)


class Meter:
    """Progress on stderr: videos done of all, clips done, the time reached; silent where stderr is no terminal."""

    def __init__(self, videos: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        columns = (
            TextColumn("videos"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}", markup=False),
        )
        self.progress = Progress(
            *columns,
            console=console,
            disable=not console.is_terminal,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # results go above the bar on a terminal, and to their own file elsewhere
        )
        self.task = self.progress.add_task("videos", total=videos, state="")
        self.clips = 0

    def __enter__(self) -> "Meter":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    @property
    def on_clip(self) -> Callable[[object, ClipSpan], None]:
        """Told of each clip that is done."""

        def note(source: object, span: ClipSpan) -> None:
            self.clips += 1
            self.say(f"{self.clips} clips, {source_name(source)} at {span.end:.1f} s")

        return note

    def say(self, state: str) -> None:
        """Show that beside the bar."""
        self.progress.update(self.task, state=state)

    def video_done(self) -> None:
        """Told of each video that is done."""
        self.progress.advance(self.task)
