"""The command line: parse, call one function, print. Each command imports what it needs."""

import atexit
import gc
import re
import signal
import sys
import traceback
from typing import Any

from ig65m.cli.signals import stopped_by
from ig65m.cli.terminal import drop_output, open_standard_files, say, say_warnings

_NAMES = {signal.SIGINT: "Ctrl-C"}
_OPTIONAL = {"--ray": ("local", r"auto|local|ray://.*|[^/]+:[0-9]+"), "--merge": ("touching", "touching|shot")}
"""Options whose value may be left out: the default, and a pattern of the values."""


def app(args: list[str] | None = None, *, standalone_mode: bool = True) -> Any:
    """Run the command in `args` (default: the program's arguments), and return its exit code."""
    from ig65m.cli.commands import app as commands

    return commands(args, prog_name="ig65m", standalone_mode=standalone_mode)


def main() -> None:
    """Run the command line and exit.

    Exit codes: 0 all done; 1 a bug, or a fault of the machine; 2 wrong use; 3 finished, but some inputs failed; 128 + n ended
    by signal n: 130 Ctrl-C, 143 SIGTERM, 141 stdout was closed.
    """
    open_standard_files()
    say_warnings()
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while Python exits
    args, debug = _without_debug(sys.argv[1:])
    if debug:
        from ig65m.cli.log import say_log

        say_log()
    args = _with_values(args)
    message: str | None = None
    with stopped_by(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as came:
        try:
            code = app(args, standalone_mode=False) or 0
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if debug:
                say(traceback.format_exc())
            message, code = _explain(error, args)
    if came:
        message, code = f"stopped by {_NAMES.get(came[0], came[0].name)}; finished files stay", 128 + came[0]
    if message:
        say(f"ig65m: {message}")
    drop_output()
    gc.freeze()  # otherwise Python's last garbage collection visits all objects of PyTorch, for a quarter of a second
    sys.exit(code)


def _without_debug(args: list[str]) -> tuple[list[str], bool]:
    """Return the arguments without --debug, which is allowed anywhere before a --, and whether it was there."""
    options = args[: args.index("--")] if "--" in args else args
    return [arg for arg in options if arg != "--debug"] + args[len(options) :], "--debug" in options


def _with_values(args: list[str]) -> list[str]:
    """Insert the default after an option of _OPTIONAL without a value; arguments after -- are not options."""
    options = args[: args.index("--")] if "--" in args else args
    for place in reversed([place for place, arg in enumerate(options) if arg in _OPTIONAL]):
        default, values = _OPTIONAL[args[place]]
        if not any(re.fullmatch(values, following) for following in args[place + 1 : place + 2]):
            args = [*args[: place + 1], default, *args[place + 1 :]]
    return args


def _explain(error: BaseException, args: list[str]) -> tuple[str | None, int]:
    from ig65m.cli.error_messages import explain

    # typer and rich turn a closed stdout into an exit of their own
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        return None, 128 + signal.SIGPIPE
    return explain(error, args)
