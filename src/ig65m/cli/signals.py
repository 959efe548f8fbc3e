"""Ctrl-C and polite kills end the program in order."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_finishing: list[bool] = []  # for each `finishing` block, whether it was asked to end


@contextmanager
def finishing() -> Iterator[Callable[[], bool]]:
    """Within the block a first signal of `stopped_by` only makes what is given say so; it raises at the block's end."""
    _finishing.append(False)
    try:
        yield lambda: _finishing[-1]
    finally:
        stopped = _finishing.pop()
    if stopped:
        raise KeyboardInterrupt


@contextmanager
def stopped_by(*signals: signal.Signals) -> Iterator[list[signal.Signals]]:
    """Within the block each of the signals raises KeyboardInterrupt, so that temporary files go; the list says which came.

    A second one ends the process at once, unless it comes within a second of the first: then both are of one Ctrl-C, which
    a terminal and a program in between have passed on. A signal that the caller has ignored (nohup) stays ignored.
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
