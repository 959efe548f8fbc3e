"""What the C library does with memory that was freed."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_M_MMAP_THRESHOLD: Final = -3  # glibc's malloc.h
_BLOCK: Final = 1 << 20  # bytes
_USUAL: Final = 32 << 20  # glibc raises its own threshold up to this as a program goes on


@contextmanager
def release_memory() -> Iterator[None]:
    """Blocks of a MiB and more that are allocated within go back to the system as soon as they are freed.

    For loading, which needs much memory for a moment: glibc would keep that for later. Other C libraries keep their ways.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(_M_MMAP_THRESHOLD, _BLOCK)
    try:
        yield
    finally:
        library.mallopt(_M_MMAP_THRESHOLD, _USUAL)
