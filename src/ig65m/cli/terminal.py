"""What goes to the terminal, or to where the caller has led it."""

import io
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path

from ig65m.errors import plain


def printable(text: object) -> str:
    """Text as one line for a terminal: what the terminal would obey is escaped, in the names of files too."""
    return plain(text, most=10_000)


def say(text: str) -> None:
    """Print on stderr, line for line; there may be nobody to read it, which changes nothing."""
    with suppress(OSError):
        for line in text.splitlines():
            print(printable(line), file=sys.stderr)


def say_warnings() -> None:
    """From now on a warning of Python's is a line on stderr."""
    warnings.showwarning = lambda message, *_: say(f"ig65m: {message}")


def open_standard_files() -> None:
    """Make the three files that a program counts on, where the caller has closed them; let them take any file's name."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """Forget what stdout and stderr still hold and cannot get rid of; Python would complain of it when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
