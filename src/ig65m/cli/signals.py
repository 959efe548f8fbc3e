"""Ends the program in order on Ctrl-C and SIGTERM."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_finishing: list[bool] = []  # for each `finishing` block, whether it was asked to end


@contextmanager
def finishing() -> Iterator[Callable[[], bool]]:
    """Within the block, a first signal of `stopped_by` only sets the yielded flag; KeyboardInterrupt is raised at the block's
    end.
    """
    _finishing.append(False)
    try:
        yield lambda: _finishing[-1]
    finally:
        stopped = _finishing.pop()
    if stopped:
        raise KeyboardInterrupt


@contextmanager
def stopped_by(*signals: signal.Signals) -> Iterator[list[signal.Signals]]:
    """Within the block, each of the signals raises KeyboardInterrupt, so that temporary files are removed; yields the signals
    that came.

    A second signal ends the process at once, unless it comes within a second of the first: then both belong to one Ctrl-C,
    passed on by the terminal and by a program in between. An ignored signal (nohup) stays ignored. KeyboardInterrupt is raised
    again where the first one fell into code whose exceptions Python drops (`__del__`, a weak reference's callback).
    """
    came: list[signal.Signals] = []
    patience = 0.0
    dropped = False
    report = sys.unraisablehook

    def raise_again(unraisable: "sys.UnraisableHookArgs") -> None:
        nonlocal dropped
        if not (came and unraisable.exc_type is KeyboardInterrupt):
            report(unraisable)
            return
        dropped = True
        threading.Timer(0.01, repeat).start()

    def repeat() -> None:
        if dropped:
            signal.pthread_kill(threading.main_thread().ident or 0, came[0])

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal patience, dropped
        if came and not dropped:
            if time.monotonic() > patience:
                os._exit(128 + number)
            return
        if not came:
            patience = time.monotonic() + 1
            came.append(signal.Signals(number))
        dropped = False
        if not _finishing:
            raise KeyboardInterrupt
        _finishing[-1] = True

    before = {number: signal.getsignal(number) for number in signals}
    changed = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in changed:
            signal.signal(number, stop)
        sys.unraisablehook = raise_again
        yield came
    finally:
        dropped = False
        sys.unraisablehook = report
        for number in changed:
            signal.signal(number, before[number])
