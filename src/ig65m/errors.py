"""The errors that callers may catch: each is one of ours (IgError) and one of Python's own kinds."""

import os
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Final

MAX_NAME: Final = 255
"""Bytes of a file's name that Linux's file systems allow."""


def shown(names: Sequence[str], most: int = 4) -> str:
    """Names out of a file as a message may show them: quoted, escaped, cut, and no more than `most`."""
    listed = ", ".join(ascii(name if len(name) <= 60 else f"{name[:60]}...") for name in names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise UsageError, naming the choices and the nearest one, unless the value is one of them."""
    if isinstance(value, str) and value in choices:
        return
    near = get_close_matches(str(value), choices, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"{name} {plain(repr(value), 60)} is none of {', '.join(choices)}{hint}")


def check_name(what: str, name: str, suffix: str = "") -> None:
    """Raise UsageError unless a file of that name and suffix would lie in the folder that it is meant for."""
    if "/" in name or "\\" in name or "\0" in name or name in ("", ".", ".."):
        raise UsageError(
            f"{what} {plain(repr(name), 80)} must be a name without / and \\, for it becomes part of a file's name"
        )
    if len(os.fsencode(f"{name}{suffix}")) > MAX_NAME:
        raise UsageError(
            f"{what} {plain(repr(name), 80)} is too long: with its suffix a file's name has at most {MAX_NAME} bytes"
        )


def plain(text: object, most: int = 300) -> str:
    """A foreign message as one of ours may carry it: one line, escaped where a terminal would obey it, cut."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)[:most])
    return escaped if len(str(text)) <= most else f"{escaped}..."


class IgError(Exception):
    """Base of every error that ig65m raises on purpose; the message says what came, what was expected, what to do."""


class CheckpointError(IgError, ValueError):
    """A checkpoint is unreadable, unsafe, incomplete, or not of the network it is used for."""


class ModelError(IgError, ValueError):
    """No such model, or a model used in a way that it does not allow."""


class VideoError(IgError, ValueError):
    """A video cannot be read, or not all of it.

    last_good_time: end of the last frame that was decoded, in seconds; None if there was none.
    gaps: (start, end) in seconds of each part that was lost to damage between frames that were decoded.
    """

    def __init__(self, message: str, *, last_good_time: float | None = None, gaps: Sequence[tuple[float, float]] = ()) -> None:
        super().__init__(message)
        self.last_good_time = last_good_time
        self.gaps = tuple(gaps)


class UsageError(IgError, ValueError):
    """Arguments that contradict each other or that lie outside what is allowed."""


class DamagedIndexError(UsageError):
    """An index that cannot be read: it is damaged, or not where it was."""


class UnknownVideoError(UsageError):
    """No video of that name is in the index."""


class UnknownLabelError(UsageError):
    """No clip of the index has that label."""


class DownloadError(IgError, OSError):
    """Weights could not be fetched, or what came is not what was published."""


class ProofError(IgError, RuntimeError):
    """What was computed is not what it was checked against: a fault of this program or of the machine."""
