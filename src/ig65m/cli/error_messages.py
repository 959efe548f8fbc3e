"""Messages and exit codes for errors."""

import errno
import os
import re
from collections.abc import Sequence
from difflib import get_close_matches

import typer

from ig65m.cli.terminal import printable
from ig65m.errors import IgError, ProofError, plain

FAULT = 1  # of the program or the machine
WRONG_USE = 2

_MACHINE = {
    errno.ENOSPC: "free some space or choose another disk; finished files stay",
    errno.EDQUOT: "free some space or choose another disk; finished files stay",
    errno.EFBIG: "choose another disk, or raise the limit on file sizes (ulimit -f); finished files stay",
    errno.EIO: "the disk may be full or faulty; finished files stay",
    errno.ENOMEM: "close other programs, or lower --batch-size",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs, which have too many files open",
}
_USE = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "expected a file",
    errno.EEXIST: "choose another place",
    errno.EACCES: "check its permissions, or choose another place",
    errno.EPERM: "check its permissions, or choose another place",
    errno.EROFS: "choose a writable place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its links form a loop; check the path",
}


def explain(error: BaseException, args: Sequence[str]) -> tuple[str, int]:
    """Return the message for an error, safe for a terminal, and the exit code."""
    if isinstance(error, typer.TyperException):
        return _usage(error, args), WRONG_USE
    if isinstance(error, ProofError):
        return printable(error), FAULT
    if isinstance(error, IgError):
        return printable(error), WRONG_USE
    if isinstance(error, OSError):
        return _system(error)
    if _no_memory(error):
        return f"not enough memory: lower --batch-size or --frames ({plain(error)})", FAULT
    reason = plain(f"{type(error).__name__}: {error}")
    return f"a bug in ig65m, please report it ({reason}); `ig65m --debug ...` shows its traceback", FAULT


def _usage(error: typer.TyperException, args: Sequence[str]) -> str:
    context = getattr(error, "ctx", None)  # of the command, if one was found
    if not args:
        return f"no command was given\n{error.format_message()}"
    text = _choice(printable(error.format_message()).rstrip("."))
    if isinstance(error, typer.BadParameter) and error.param is not None:
        value = _given(args, error.param.opts)
        text += "" if value is None or repr(value) in text else f", got {value!r}"
    command = context.command_path if context else " ".join(["ig65m", *args[:1]])
    return f"{text} (see `{printable(command)} --help`)"


def _choice(text: str) -> str:
    """Add the nearest choice to a message about a value that is none of the choices."""
    found = re.search(r"(?:Value error, )?'([^']*)' is not one of ('.*')$", text)
    if found is None:
        return text
    near = get_close_matches(found[1], re.findall(r"'([^']*)'", found[2]), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{text[: found.start()]}'{found[1]}' is not one of {found[2]}{hint}"


def _given(args: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the value of an option on the command line."""
    for arg, following in zip(args, [*args[1:], None], strict=True):
        name, equals, value = arg.partition("=")
        if name in names:
            return value if equals else following
    return None


def _system(error: OSError) -> tuple[str, int]:
    if error.errno is None:
        return printable(error), WRONG_USE
    what = "the output" if error.filename is None else printable(os.fsdecode(error.filename))
    reason = printable(error.strerror)
    if error.errno in _USE:
        return f"{what}: {reason}; {_USE[error.errno]}", WRONG_USE
    return (
        f"{what}: {reason}; {_MACHINE.get(error.errno, 'a fault of the machine; `ig65m --debug ...` shows the traceback')}",
        FAULT,
    )


def _no_memory(error: BaseException) -> bool:
    """Whether an allocator of Python, PyTorch (any RuntimeError on the CPU) or CUDA has failed."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in ("allocate memory", "out of memory"))
    )
