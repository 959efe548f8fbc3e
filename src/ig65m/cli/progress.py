"""Progress and failures on stderr, results on stdout."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ig65m.cli.terminal import printable, say
from ig65m.types import ClipSpan, Failure, Frames, Status


@contextmanager
def json_at_end(wanted: bool, done: Sequence[object], record: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Print the record as JSON when the block ends, also by an error if something was `done` before it."""
    try:
        yield
    finally:
        if wanted and done:
            print(json.dumps(record(), indent=1, allow_nan=False))


def say_engine(line: str) -> None:
    """Print which engine runs the network."""
    say(f"ig65m: {line}")


def say_failure(status: Status, failure: Failure) -> None:
    """Print what went wrong with a video; the message names it."""
    say(f"ig65m: {printable(failure.describe(status))}")


def source_name(source: object) -> str:
    """Name of an input for the progress bar."""
    return "frames in memory" if isinstance(source, Frames) else printable(Path(str(source)).name)


class ProgressBar:
    """Videos done of all, clips done, the time reached; silent unless stderr is a terminal."""

    def __init__(self, videos: int) -> None:
        self.clips = 0
        self.progress: Any = None  # rich's, which is loaded only for a terminal
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("videos"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}", markup=False),
        )
        self.progress = Progress(
            *columns,
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # on a terminal results are printed above the bar
        )
        self.task = self.progress.add_task("videos", total=videos, state="")

    def __enter__(self) -> "ProgressBar":
        if self.progress is not None:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def on_clip(self, source: object, span: ClipSpan) -> None:
        """Count a clip."""
        self.clips += 1
        self.show(f"{self.clips} clips, {source_name(source)} at {span.end:.1f} s")

    def on_frame(self, source: object, time: float) -> None:
        """Show the time that is reached in a video."""
        self.show(f"{source_name(source)} at {time:.1f} s")

    def show(self, state: str) -> None:
        """Show a text beside the bar."""
        if self.progress is not None:
            self.progress.update(self.task, state=state)

    def video_done(self) -> None:
        """Count a video."""
        if self.progress is not None:
            self.progress.advance(self.task)
