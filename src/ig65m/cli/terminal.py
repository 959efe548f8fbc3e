"""Output to the terminal, or wherever stdout and stderr are redirected."""

import io
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ig65m.errors import plain

if TYPE_CHECKING:
    from rich.console import Console


def printable(text: object) -> str:
    """Escape text to one line that is safe for a terminal; file names may contain anything."""
    return plain(text, most=10_000)


def say(text: str) -> None:
    """Print lines on stderr; nothing happens if it is closed."""
    with suppress(OSError):
        for line in text.splitlines():
            print(printable(line), file=sys.stderr)


def print_title(path: str, status: str) -> "Console":
    """Print the path of a video on stdout, and its status unless it is ok; return the console for what follows."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(printable(path), "bold"), "" if status == "ok" else f": {status}", sep="", markup=False)
    return console


def say_warnings() -> None:
    """Print Python's warnings as lines on stderr."""
    warnings.showwarning = lambda message, *_: say(f"ig65m: {message}")


def open_standard_files() -> None:
    """Open stdin, stdout and stderr if the caller has closed them, and let them accept any file name."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """Discard what stdout and stderr cannot write; Python would report it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
