"""Locks between processes, also on network file systems: each is a byte of one file, released when its process ends."""

import errno
import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final

from ig65m.errors import UsageError

_PLACES: Final = 1 << 62


class Locks:
    """Locks by name, in one file. They are POSIX locks: the end of a process, even by `kill -9`, releases them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def take(self, name: str, *, wait: bool = False, shared: bool = False) -> bool:
        """Take a lock. Without `wait`, returns False if another process holds it.

        Raises UsageError if the file system has no locks.
        """
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.lockf(self.file, how, 1, _place(name))
        except OSError as error:
            if not wait and error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise UsageError(
                f"{self.path.parent} is on a file system without locks ({error.strerror}); choose another folder, or mount "
                "the file system with locks"
            ) from error
        return True

    def free(self, name: str) -> None:
        """Release a lock."""
        fcntl.lockf(self.file, fcntl.LOCK_UN, 1, _place(name))

    def close(self) -> None:
        """Release all locks."""
        os.close(self.file)


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:8], "big") % _PLACES
