"""Cache of compiled models on disk. An entry is used only if it is intact, owned by this user, and for the same key."""

import hashlib
import json
import mmap
import os
import stat
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.atomic import finished_file
from ig65m.cache import cache_folder

MOST: Final = 4 << 30  # bytes of all entries; the least recently used are removed first
_MAGIC: Final = b"ig65m compiled model\n"
_START: Final = 4096  # offset of the model, after magic, digest and key


@dataclass(frozen=True)
class CachedModel:
    """Bytes of a compiled model, mapped from its file."""

    mapping: mmap.mmap

    @property
    def model(self) -> NDArray[np.uint8]:
        """The bytes; valid as long as this object lives."""
        return np.frombuffer(self.mapping, np.uint8, offset=_START)

    def release(self) -> None:
        """Free the memory of the mapping; later reads come from the file again."""
        self.mapping.madvise(mmap.MADV_DONTNEED)


def load(key: Mapping[str, Any]) -> CachedModel | None:
    """Return the compiled model with that key; None if there is none to be trusted."""
    path, head = _entry(key)
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            facts = os.fstat(file.fileno())
            foreign = facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if foreign or not stat.S_ISREG(facts.st_mode) or facts.st_size <= _START:
                return None
            start = file.read(_START)
            kept = CachedModel(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        if start != _started(head, kept.model):
            return None
        os.utime(path)
    except OSError:
        return None
    return kept


def store(key: Mapping[str, Any], model: Any) -> None:
    """Store the bytes of a compiled model; warn if that fails."""
    path, head = _entry(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with finished_file(path) as temporary:
            temporary.chmod(0o600)
            with temporary.open("wb") as file:
                file.write(_started(head, model))
                file.write(model)
        _tidy(path.parent)
    except OSError as error:
        warnings.warn(f"the compiled model cannot be cached: {error}", RuntimeWarning, stacklevel=2)


def _entry(key: Mapping[str, Any]) -> tuple[Path, bytes]:
    head = json.dumps(key, sort_keys=True, default=str).encode()
    return cache_folder() / "compiled" / f"{hashlib.sha256(head).hexdigest()[:32]}.bin", head


def _started(head: bytes, model: Any) -> bytes:
    """Return what precedes a model: magic, and a digest of key and model."""
    digest = hashlib.sha256(head)
    digest.update(model)
    return (_MAGIC + digest.digest()).ljust(_START, b"\0")


def _tidy(folder: Path) -> None:
    """Remove the least recently used entries beyond MOST bytes."""
    total = 0
    for path in sorted(folder.glob("*.bin"), key=lambda path: path.stat().st_mtime, reverse=True):
        total += path.stat().st_size
        if total > MOST:
            path.unlink(missing_ok=True)
