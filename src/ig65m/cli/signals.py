"""Ends the program in order on Ctrl-C and SIGTERM."""

import os
import signal
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
    passed on by the terminal and by a program in between. An ignored signal (nohup) stays ignored.
    """
    came: list[signal.Signals] = []
    patience = 0.0

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal patience
        if came:
            if time.monotonic() > patience:
                os._exit(128 + number)
            return
        patience = time.monotonic() + 1
        came.append(signal.Signals(number))
        if not _finishing:
            raise KeyboardInterrupt
        _finishing[-1] = True

    before = {number: signal.getsignal(number) for number in signals}
    changed = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in changed:
            signal.signal(number, stop)
        yield came
    finally:
        for number in changed:
            signal.signal(number, before[number])
