"""What is searched for: a name on the command line -> a moment of the index, or features of a file that is not in it."""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError, VideoError, shown
from ig65m.search.hits import TOUCHING, Moment
from ig65m.search.index import Index
from ig65m.types import ClipSpan, Failure, Segment

if TYPE_CHECKING:
    from ig65m.tasks import Extractor

_TIME: Final = re.compile(r"(?P<name>.+)@(?P<time>[^@/]*?)\s*s?", re.DOTALL)


@dataclass(frozen=True)
class Query:
    """Vectors (Q, C) to search with, and the span of each. video: its name in the index, None of one that is not there.

    error: why a video that is not in the index gave no more.
    """

    path: str
    video: str | None
    vectors: NDArray[np.float32]
    spans: tuple[ClipSpan, ...]
    error: Failure | None = None

    @property
    def own(self) -> list[Moment] | None:
        """What is no hit: the moment of each vector."""
        if self.video is None:
            return None
        return [Moment(self.video, span.start, span.end) for span in self.spans]


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


def find_video(index: Index, name: str) -> str:
    """The name in the index of the video that is called so there, or whose path, file name or stem that is.

    Raises UsageError where several are, or none is.
    """
    videos = index.sources()
    found = _at(index, videos, name) or _named(index, videos, name)
    if found is None:
        raise UsageError(f"{index.folder} has no video {name!a}{_near(name, videos)}")
    return found


def resolve(index: Index, text: str) -> tuple[str | None, str, float | None]:
    """VIDEO, or VIDEO@12.5s: the video's name in the index or None, its path, and the time or None.

    What is there is meant before what only has that file name or stem in the index; a file may have an @ in its name.

    Raises UsageError for what is neither in the index nor a file, and as `find_video` and `parse_moment`.
    """
    videos = index.sources()
    readings = [(text, None)] if (moment := parse_moment(text)) == (text, None) else [(text, None), moment]
    for name, time in readings:
        if video := _at(index, videos, name):
            return video, videos[video], time
        if os.path.exists(name):  # noqa: PTH110 - Path's raises where the name is too long
            return None, name, time
    for name, time in readings:
        if video := _named(index, videos, name):
            return video, videos[video], time
    name, _ = readings[-1]
    raise UsageError(f"{name!a} is no file, and {index.folder} has no such video{_near(name, videos)}")


def _at(index: Index, videos: Mapping[str, str], name: str) -> str | None:
    """The video of that name in the index, or at that path."""
    places = {name, os.path.abspath(name), os.path.realpath(name)}  # noqa: PTH100 - Path's leaves .. in
    return _one(index, videos, name, [lambda video, _: video == name, lambda _, path: path in places])


def _named(index: Index, videos: Mapping[str, str], name: str) -> str | None:
    """The video whose file has that name, or that stem."""
    return _one(index, videos, name, [lambda _, path: Path(path).name == name, lambda _, path: Path(path).stem == name])


def _one(index: Index, videos: Mapping[str, str], name: str, ways: Sequence[Callable[[str, str], bool]]) -> str | None:
    for way in ways:
        found = [video for video, path in videos.items() if way(video, path)]
        if len(found) > 1:
            raise UsageError(f"{name!a} is {len(found)} videos of {index.folder}: {shown(sorted(found))}; name one of these")
        if found:
            return found[0]
    return None


def _near(name: str, videos: Mapping[str, str]) -> str:
    called = {Path(path).name: path for path in videos.values()}
    near = get_close_matches(Path(name).name, called, 4) or get_close_matches(Path(name).stem, videos, 4)
    return f"; near it are {shown(near)}" if near else f"; it has {shown(sorted(called))}" if called else "; it is empty"


def stored_query(index: Index, video: str, time: float | None = None) -> Query:
    """The clip of an indexed video that holds a time, or all its clips.

    Raises UsageError for a time at which it has none.
    """
    rows, path = index.clips(video), index.sources()[video]
    chosen = slice(None) if time is None else slice(place := clip_at(rows.spans, time), place + 1)
    return Query(path, video, rows.vectors[chosen], rows.spans[chosen])


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


def file_query(index: Index, extractor: "Extractor", path: str, time: float | None = None) -> Query:
    """The clip around a time of a video that is not in the index, or all its clips.

    Raises VideoError if it gives none, UsageError if it has none at that time.
    """
    part = Segment(path)
    if time is not None:
        start = time - index.clip_seconds / 2
        part = Segment(path, start=start if start > 0 else None, starts=(0,))
    (features,) = extractor.run([part])
    if len(features.array) == 0:
        failure = features.error or Failure("decode", f"{path} gives no clip")
        asked = "" if time is None else f" (for its clip at {time:g} s)"
        raise VideoError(f"{failure.message}{asked}", last_good_time=failure.last_good_time)
    if time is not None:
        clip_at(features.spans, time)
    return Query(path, None, features.array, features.spans, features.error)


def extractor_for(index: Index, model: str | os.PathLike[str] | None = None, **options: Any) -> "Extractor":
    """What computes features that can be held against the index's: its model, clips and preprocessing. model: in place of the
    name of the one that computed them. options: engine, precision, device, threads, and others of `tasks.Options`.

    Raises UsageError, saying what differs, if the model is another one, and as `tasks.load_extractor`.
    """
    from ig65m.engines.base import Pooling
    from ig65m.tasks import PREPROCESSINGS, load_extractor
    from ig65m.zoo.cards import CARDS

    settings = index.settings
    if model is None and index.model_name not in CARDS:
        raise UsageError(f"the features in {index.folder} are of {index.model_name!a}, a model file; name it with --model")
    try:
        resampling, pooling = settings["preprocessing"]["resampling"], Pooling(**settings["pooling"])
        sampling = {name: settings["sampling"][name] for name in ("frames", "frame_step", "stride", "fps", "tail")}
    except (KeyError, TypeError) as error:
        raise UsageError(f"{index.folder} does not say how its features were computed ({error}); build it again") from None
    preprocessing = next((name for name, value in PREPROCESSINGS.items() if value == resampling), None)
    extractor = load_extractor(
        model=model or index.model_name, pooling=pooling, preprocessing=preprocessing, **sampling, **options
    )
    index.check(extractor.settings, f"the model {model or index.model_name}")
    return extractor
