"""Content digest of a video file."""

import errno
import hashlib
import os
from pathlib import Path
from typing import BinaryIO, Final, Literal, Protocol

Hash = Literal["sampled", "full"]

BLOCK: Final = 1 << 16  # bytes
BLOCKS: Final = 16


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


def content_digest(path: Path, how: Hash = "sampled") -> str:
    """Hexadecimal sha256 of a file's size and bytes: all bytes, or 16 blocks of 64 KiB spread evenly over it.

    The digest of a folder covers its files in order of their names, without hidden ones. Raises OSError if something cannot be
    read, and for anything that is neither a file nor a folder, since opening a pipe could block.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        for entry in sorted(path.iterdir(), key=lambda entry: os.fsencode(entry.name)):
            if entry.is_file() and not entry.name.startswith("."):
                digest.update(os.fsencode(entry.name) + b"\0")
                _add(digest, entry, how)
    elif path.is_file() or not path.exists():
        _add(digest, path, how)
    else:
        raise OSError(errno.EINVAL, "neither a regular file nor a folder", str(path))
    return digest.hexdigest()


def digest_or_none(path: Path, how: Hash = "sampled") -> str | None:
    """Return the digest; None if the file cannot be read, for which the reader of the video says the reason."""
    try:
        return content_digest(path, how)
    except OSError:
        return None


def _add(digest: _Digest, path: Path, how: Hash) -> None:
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(size.to_bytes(8, "big"))
        file.seek(0)
        if how == "full" or size <= BLOCK * BLOCKS:
            while block := file.read(1 << 20):
                digest.update(block)
            return
        _add_blocks(digest, file, size)


def _add_blocks(digest: _Digest, file: BinaryIO, size: int) -> None:
    for number in range(BLOCKS):
        file.seek(number * (size - BLOCK) // (BLOCKS - 1))
        digest.update(file.read(BLOCK))
