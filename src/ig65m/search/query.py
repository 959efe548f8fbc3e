"""What is searched for: a name on the command line -> a video or moment of the index, or features of a file."""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from ig65m.errors import UsageError, shown
from ig65m.search.hits import TOUCHING
from ig65m.search.index import Index
from ig65m.types import ClipSpan

_TIME = re.compile(r"(?P<name>.+)@(?P<time>[^@/]*?)\s*s?", re.DOTALL)


def parse_moment(text: str) -> tuple[str, float | None]:
    """VIDEO@12.5s (or @12.5) -> the video's name and the time; without one, None.

    Raises UsageError for a time that is not finite; what is no number at all belongs to the name.
    """
    if match := _TIME.fullmatch(text):
        try:
            time = float(match["time"])
        except ValueError:
            return text, None
        if not math.isfinite(time):
            raise UsageError(f"{text!a}: a time is a finite number of seconds, as in VIDEO@12.5s")
        return match["name"], time
    return text, None


def find_video(index: Index, name: str, *, only_paths: bool = False) -> str:
    """The name in the index of the video that is called so there, or whose path, file name or stem that is.

    Raises UsageError where several are, or none is; with `only_paths`, names of files and stems do not count.
    """
    videos = index.sources()
    absolute = os.path.abspath(name)  # noqa: PTH100 - Path's leaves what .. undoes, and resolves no more than this
    kinds: list[Callable[[str, str], bool]] = [
        lambda video, path: video == name,
        lambda video, path: path in (name, absolute) or path == os.path.realpath(name),
    ]
    if not only_paths:
        kinds += [lambda video, path: Path(path).name == name, lambda video, path: Path(path).stem == name]
    for kind in kinds:
        found = [video for video, path in videos.items() if kind(video, path)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{name!a} is {len(found)} videos of {index.folder}: {shown(sorted(found))}; name one of these")
    raise UsageError(f"{index.folder} has no video {name!a}{_near(name, videos)}")


def _near(name: str, videos: Mapping[str, str]) -> str:
    called = {Path(path).name: path for path in videos.values()}
    near = get_close_matches(Path(name).name, called, 4) or get_close_matches(Path(name).stem, [*videos], 4)
    return f"; near it are {shown(near)}" if near else f"; it has {shown(sorted(called))}" if called else "; it is empty"


def clip_at(spans: Sequence[ClipSpan], time: float) -> int:
    """The number of the clip that holds a time; of several the one whose middle is nearest, as where none does.

    Raises UsageError for a time before the first or behind the last.
    """
    starts, ends = (np.array([getattr(span, side) for span in spans]) for side in ("start", "end"))
    if not starts.min() - TOUCHING <= time <= ends.max() + TOUCHING:
        raise UsageError(f"there is no clip at {time:g} s: they are from {starts.min():.2f} to {ends.max():.2f} s")
    off = np.abs((starts + ends) / 2 - time)
    holds = (starts <= time) & (time < ends)
    return int(np.argmin(np.where(holds | ~holds.any(), off, np.inf)))
