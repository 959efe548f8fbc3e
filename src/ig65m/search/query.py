"""Queries: a moment of the index, or features of a file that is not in it."""

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

from ig65m.errors import UnknownShotError, UsageError, VideoError, shown
from ig65m.models.card import LINEAR
from ig65m.search.hits import TOUCHING, Moment
from ig65m.search.index import EXTRACT_SHOTS, Index
from ig65m.types import ClipSpan, Failure, Segment

if TYPE_CHECKING:
    from ig65m.tasks.extractor import Extractor
    from ig65m.tasks.options import Resizing

_TIME: Final = re.compile(r"(?P<name>.+)@(?P<time>[^@/]*?)\s*s?", re.DOTALL)


@dataclass(frozen=True)
class Query:
    """Vectors to search with, and their spans."""

    path: str
    video: str | None  # name in the index; None if the video is not in it
    vectors: NDArray[np.float32]  # (Q, C)
    spans: tuple[ClipSpan, ...]  # one for each vector
    error: Failure | None = None  # why a video that is not in the index has no more clips
    shot: int | None = None  # number of the shot whose clips these are all; None if they were not chosen by it

    @property
    def own(self) -> list[Moment] | None:
        """Moments that are no hits: one for each vector."""
        if self.video is None:
            return None
        if self.shot is not None:
            start, end = min(span.start for span in self.spans), max(span.end for span in self.spans)
            return [Moment(self.video, start, end)] * len(self.spans)
        return [Moment(self.video, span.start, span.end) for span in self.spans]


def parse_moment(text: str) -> tuple[str, float | None]:
    """Parse VIDEO@12.5s (or @12.5) to the video's name and the time; without a time, to the name and None.

    Raises UsageError for a time that is not finite; anything that is not a number belongs to the name.
    """
    if match := _TIME.fullmatch(text):
        try:
            time = float(match["time"])
        except ValueError:
            return text, None
        if not math.isfinite(time):
            raise UsageError(f"{text!a}: expected a finite time in seconds, as in VIDEO@12.5s")
        return match["name"], time
    return text, None


def find_video(index: Index, name: str) -> str:
    """Return the name in the index of a video, given that name, its path, file name or stem.

    Raises UsageError if there is none or several.
    """
    videos = index.sources()
    found = _at(index, videos, name) or _named(index, videos, name)
    if found is None:
        raise UsageError(f"{index.folder} has no video {name!a}{_near(name, videos)}")
    return found


def resolve(index: Index, text: str) -> tuple[str | None, str, float | None]:
    """Resolve VIDEO or VIDEO@12.5s: the video's name in the index or None, its path, and the time or None.

    A file that exists takes precedence over a video of the index with only that file name or stem. A file name may contain @.

    Raises UsageError for anything that is neither in the index nor a file, and as `find_video` and `parse_moment`.
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
    raise UsageError(f"{name!a} is not a file, and {index.folder} has no such video{_near(name, videos)}")


def _at(index: Index, videos: Mapping[str, str], name: str) -> str | None:
    """Return the video of that name in the index, or at that path."""
    places = {name, os.path.abspath(name), os.path.realpath(name)}  # noqa: PTH100 - Path's leaves .. in
    return _one(index, videos, name, [lambda video, _: video == name, lambda _, path: path in places])


def _named(index: Index, videos: Mapping[str, str], name: str) -> str | None:
    """Return the video with that file name or stem."""
    return _one(index, videos, name, [lambda _, path: Path(path).name == name, lambda _, path: Path(path).stem == name])


def _one(index: Index, videos: Mapping[str, str], name: str, ways: Sequence[Callable[[str, str], bool]]) -> str | None:
    for way in ways:
        found = [video for video, path in videos.items() if way(video, path)]
        if len(found) > 1:
            raise UsageError(
                f"{name!a} matches {len(found)} videos of {index.folder}: {shown(sorted(found))}; give one of these names"
            )
        if found:
            return found[0]
    return None


def _near(name: str, videos: Mapping[str, str]) -> str:
    called = {Path(path).name: path for path in videos.values()}
    near = get_close_matches(Path(name).name, called, 4) or get_close_matches(Path(name).stem, videos, 4)
    return f"; did you mean {shown(near)}?" if near else f"; it has {shown(sorted(called))}" if called else "; it is empty"


def stored_query(index: Index, video: str, time: float | None = None, *, whole_shot: bool = False) -> Query:
    """Return the query for all clips of an indexed video, or for the clip at a time, or with `whole_shot` for all of its shot.

    Raises UsageError if there is no clip at that time, UnknownShotError if its shot is unknown.
    """
    rows, path = index.clips(video), index.sources()[video]
    if time is None:
        return Query(path, video, rows.vectors, rows.spans)
    place = clip_at(rows.spans, time)
    if not whole_shot:
        return Query(path, video, rows.vectors[place : place + 1], rows.spans[place : place + 1])
    begun = [span for span in rows.spans if span.start <= time + TOUCHING]  # the last frames of a shot may be in no clip
    shot = max(begun, key=lambda span: span.start, default=rows.spans[place]).shot
    if shot is None:
        raise UnknownShotError(f"{index.folder} does not know the shots of {path!a}; {EXTRACT_SHOTS}")
    return shot_query(index, video, shot)


def shot_query(index: Index, video: str, shot: int) -> Query:
    """Return the query for all clips of a shot of an indexed video. Raises UnknownShotError if there is no such shot."""
    rows, path = index.clips(video), index.sources()[video]
    clips = [number for number, span in enumerate(rows.spans) if span.shot == shot]
    if not clips:
        raise UnknownShotError(f"{index.folder} has no shot {shot} of {path!a}")
    return Query(path, video, rows.vectors[clips], tuple(rows.spans[clip] for clip in clips), shot=shot)


def clip_at(spans: Sequence[ClipSpan], time: float) -> int:
    """Return the number of the clip at a time; of several, or if there is none, the one whose centre is nearest.

    Raises UsageError for a time before the first clip or after the last.
    """
    starts, ends = (np.array([getattr(span, side) for span in spans]) for side in ("start", "end"))
    if not starts.min() - TOUCHING <= time <= ends.max() + TOUCHING:
        raise UsageError(f"there is no clip at {time:g} s; the clips are from {starts.min():.2f} to {ends.max():.2f} s")
    off = np.abs((starts + ends) / 2 - time)
    holds = (starts <= time) & (time < ends)
    return int(np.argmin(np.where(holds | ~holds.any(), off, np.inf)))


def file_query(index: Index, extractor: "Extractor", path: str, time: float | None = None) -> Query:
    """Return the query for the clip at a time of a video file, or for all its clips.

    Raises VideoError if it has no clips, UsageError if it has none at that time.
    """
    part = Segment(path)
    if time is not None:
        start = time - index.clip_seconds / 2
        part = Segment(path, start=start if start > 0 else None, starts=(0,))
    (features,) = extractor.extract_many([part])
    if len(features.array) == 0:
        failure = features.error or Failure("decode", f"{path} has no clip")
        asked = "" if time is None else f" (for its clip at {time:g} s)"
        raise VideoError(f"{failure.message}{asked}", last_good_time=failure.last_good_time)
    if time is not None:
        clip_at(features.spans, time)
    return Query(path, None, features.array, features.spans, features.error)


def _resizing(preprocessing: Mapping[str, Any]) -> "Resizing | None":
    """Return the name of what features were preprocessed with, if it is one that replaces the card's."""
    from ig65m.tasks.options import RESIZINGS

    whole = preprocessing["crop"] is None
    return next(
        (
            name
            for name, values in RESIZINGS.items()
            if (values["resampling"], "crop" in values) == (preprocessing["resampling"], whole)
        ),
        None,
    )


def extractor_options(index: Index, model: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Return the options of `Extractor` for features that are comparable with the index: model, clips and preprocessing.

    `model` replaces the name of the index's model. Raises UsageError if that is a file, or if the index lacks its settings.
    """
    from ig65m.engines.base import Pooling
    from ig65m.zoo.cards import CARDS

    settings = index.settings
    if model is None and index.model_name not in CARDS:
        raise UsageError(
            f"the features in {index.folder} are those of {index.model_name!a}, a model file; give it with --model"
        )
    try:
        pooling = Pooling(**settings["pooling"])
        preprocessing = _resizing(settings["preprocessing"])
        sampling = {name: settings["sampling"][name] for name in ("frames", "frame_step", "stride", "fps", "tail")}
    except (KeyError, TypeError) as error:
        raise UsageError(f"{index.folder} lacks the settings of its features ({error}); build it again") from None
    chosen = {"pooling": pooling, "preprocessing": preprocessing, "layer": settings.get("layer")}
    return {"model": model or index.model_name, **chosen, **sampling}


def extractor_for(index: Index, model: str | os.PathLike[str] | None = None, **options: Any) -> "Extractor":
    """Load the extractor whose features are comparable with the index.

    `model` replaces the name of the index's model. It may be a model whose last layer was learned on that one's features, since
    its features are the same. `options` are engine, precision, device, threads and others of `Extractor`.

    Raises UsageError, naming the differences, if the model is another one, and as `extractor_options` and `Extractor`.
    """
    from ig65m.tasks.extractor import Extractor

    extractor = Extractor(**extractor_options(index, model), **options)
    learned = extractor.card.learned
    same_features = {"sha256": learned.base_sha256} if learned is not None and learned.settings.get("method") == LINEAR else {}
    index.check({**extractor.settings, **same_features}, f"the model {model or index.model_name}")
    return extractor
