"""The folder for what can be made or downloaded again: weights, compiled models, measurements."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The cache folder: $IG65M_CACHE, else `ig65m` in $XDG_CACHE_HOME or in ~/.cache."""
    if chosen := os.environ.get("IG65M_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ig65m"
