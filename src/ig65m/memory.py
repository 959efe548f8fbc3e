"""Returns freed memory to the system."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_M_MMAP_THRESHOLD: Final = -3  # glibc's malloc.h
_BLOCK: Final = 1 << 20  # bytes
_USUAL: Final = 32 << 20  # highest value of glibc's dynamic threshold


@contextmanager
def release_memory() -> Iterator[None]:
    """Within the block, return freed allocations of a MiB and more to the system at once.

    Loading a network needs much memory for a moment, which glibc would keep. Other C libraries are left alone.
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
