"""Where the network finds a label in a clip of the index: class activation maps as a response model."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from ig65m.errors import UsageError, VideoError
from ig65m.explain.class_maps import ClassMapper
from ig65m.search.index import Index
from ig65m.search.query import clip_at
from ig65m.search.videos import IndexedVideo
from ig65m.server.admission import Stopping
from ig65m.server.errors import public_message, unreadable
from ig65m.server.schemas import ClassMap, Region
from ig65m.types import Segment

_NAME: Final = "the video"


class LazyMapper:
    """The network a second time, with feature maps as its output; loaded when it is first used.

    Attributes:
        turn: Lock of the request that uses the network; others wait for it outside of the threads for uploads.
    """

    def __init__(self, load: Callable[[], ClassMapper]) -> None:
        self.turn = asyncio.Lock()
        self._load = load
        self._lock = threading.Lock()
        self._mapper: ClassMapper | None = None

    def get(self) -> ClassMapper:
        """Return the network. Raises what `load` does."""
        with self._lock:
            self._mapper = self._mapper or self._load()
            return self._mapper


def class_map(
    mapper: ClassMapper, index: Index, video: IndexedVideo, file: Path, time: float, label: str | None, stopping: Stopping
) -> ClassMap | None:
    """Return the map of the clip at a time, or of the nearest; None if it was stopped.

    Raises ApiError 422 for a video that cannot be read.
    """
    spans = index.clips(video.video).spans
    span = spans[clip_at(spans, min(max(time, spans[0].start), max(each.end for each in spans)))]
    try:
        found = mapper.maps(Segment(str(file), start=span.start, end=span.end), label=label, stopping=stopping)
    except (VideoError, UsageError) as error:
        raise unreadable(public_message(str(error), file, _NAME), None) from None
    if found.error is not None and not found.maps:
        raise unreadable(public_message(found.error.message, file, _NAME), found.error.last_good_time)
    if not found.maps:
        return None
    clip = found.maps[0]
    places = asdict(found.places(clip))
    rows, columns = places.pop("rows"), places.pop("columns")
    return ClassMap(
        start=span.start,
        end=span.end,
        label=clip.label,
        score=clip.score,
        region=Region(**places),
        times=list(found.times(clip)),
        rows=list(rows),
        columns=list(columns),
        values=clip.values.tolist(),
    )
