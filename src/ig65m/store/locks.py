"""Locks that several processes share, on network file systems too: bytes of one file, which go with who holds them."""

import errno
import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final

from ig65m.errors import UsageError

_PLACES: Final = 1 << 62


class Locks:
    """Locks by name, in one file. POSIX's: they belong to the process, whose end, by `kill -9` too, frees them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def take(self, name: str, *, wait: bool = False, shared: bool = False) -> bool:
        """Take the lock of that name, or give False if another process has it and this is not to wait.

        Raises UsageError where the file system has no locks.
        """
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.lockf(self.file, how, 1, _place(name))
        except OSError as error:
            if not wait and error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise UsageError(
                f"{self.path.parent} is on a file system that gives no locks ({error.strerror}); choose another, or have it "
                "mounted with them"
            ) from error
        return True

    def free(self, name: str) -> None:
        """Give the lock of that name back."""
        fcntl.lockf(self.file, fcntl.LOCK_UN, 1, _place(name))

    def close(self) -> None:
        """Give all of them back."""
        os.close(self.file)


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:8], "big") % _PLACES
