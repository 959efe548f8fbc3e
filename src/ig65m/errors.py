"""Errors that callers may catch: each is an IgError and one of Python's built-in errors."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Final

MAX_NAME: Final = 255
"""Longest file name in bytes on Linux."""


def shown(names: Sequence[str], most: int = 4) -> str:
    """Format names for a message: quoted, escaped, shortened, at most `most` of them."""
    listed = ", ".join(ascii(name if len(name) <= 60 else f"{name[:60]}...") for name in names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise UsageError, listing the choices and suggesting the nearest, unless the value is one of them."""
    if isinstance(value, str) and value in choices:
        return
    near = get_close_matches(str(value), choices, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"{name} {plain(repr(value), 60)} is not one of {', '.join(choices)}{hint}")


def check_name(what: str, name: str, suffix: str = "") -> None:
    """Raise UsageError unless `name` with the suffix is a valid file name without a folder."""
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise UsageError(f"{what} {plain(repr(name), 80)} must be a name without /, for it becomes part of a file's name")
    if len(os.fsencode(f"{name}{suffix}")) > MAX_NAME:
        raise UsageError(
            f"{what} {plain(repr(name), 80)} is too long: with its suffix a file's name has at most {MAX_NAME} bytes"
        )


def plain(text: object, most: int = 300) -> str:
    """Make foreign text safe for a message: on one line, control characters escaped, shortened."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)[:most])
    return escaped if len(str(text)) <= most else f"{escaped}..."


class IgError(Exception):
    """Base of all errors of ig65m; the message says what was found, what was expected and what to do."""


class CheckpointError(IgError, ValueError):
    """A checkpoint is unreadable, unsafe, incomplete, or of another network."""


class ModelError(IgError, ValueError):
    """There is no such model, or it cannot be used in this way."""


class VideoError(IgError, ValueError):
    """A video, or a part of it, cannot be read.

    Attributes:
        last_good_time: End of the last decoded frame in seconds; None if no frame was decoded.
        gaps: Start and end in seconds of each part between decoded frames that was lost to damage.
    """

    def __init__(self, message: str, *, last_good_time: float | None = None, gaps: Sequence[tuple[float, float]] = ()) -> None:
        super().__init__(message)
        self.last_good_time = last_good_time
        self.gaps = tuple(gaps)


class UsageError(IgError, ValueError):
    """Arguments are out of range or contradict each other."""


class DamagedIndexError(UsageError):
    """The index cannot be read: it is damaged, or was moved."""


class UnknownVideoError(UsageError):
    """The index has no video of that name."""


class UnknownLabelError(UsageError):
    """No clip in the index has that label."""


class UnknownShotError(UsageError):
    """The index has no such shot, or no shots at all."""


class DownloadError(IgError, OSError):
    """Weights cannot be downloaded, or differ from the published ones."""


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Within the block, which imports optional libraries, an absent one raises UsageError with the command that installs it.

    extra: the extra of ig65m that the library belongs to. what: the feature that needs it, as a sentence begins.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("ig65m"):
            raise
        raise UsageError(f"{what} needs {error.name}, which is not installed: pip install 'ig65m[{extra}]'") from None


def check_installed(module: str, extra: str, what: str) -> None:
    """Raise UsageError as `needs` if a library is not installed; it is not imported."""
    with needs(extra, what):
        if find_spec(module) is None:
            raise ModuleNotFoundError(name=module)


class ProofError(IgError, RuntimeError):
    """A result failed its check: there is a bug in ig65m, or the machine is faulty."""
