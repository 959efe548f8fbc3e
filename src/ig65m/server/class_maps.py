"""Where the network finds a label in a clip of the index: class activation maps as a response model."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ig65m.errors import IgError
from ig65m.explain.class_maps import ClassMapper, VideoMaps
from ig65m.search.index import Index
from ig65m.search.query import clip_at
from ig65m.search.videos import IndexedVideo
from ig65m.server.errors import public_message, unreadable
from ig65m.server.schemas import ClassMap, Region
from ig65m.types import ClipSpan, Segment
from ig65m.video.geometry import crop_corners, resized_size

_NAME: Final = "the video"


class LazyMapper:
    """The network a second time, with feature maps as its output; loaded for the first request, used by one at a time."""

    def __init__(self, load: Callable[[], ClassMapper]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._mapper: ClassMapper | None = None

    def maps(self, segment: Segment, label: str | None) -> VideoMaps:
        """Return the maps of a part of a video, as `ClassMapper.maps`."""
        with self._lock:
            self._mapper = self._mapper or self._load()
            return self._mapper.maps(segment, label=label)


def class_map(
    mapper: LazyMapper, index: Index, video: IndexedVideo, file: Path, time: float, label: str | None, size: tuple[int, int]
) -> ClassMap:
    """Return the map of the clip at a time, or of the nearest; `size` is the height and width of the video's pictures.

    Raises ApiError 422 for a video that cannot be read.
    """
    spans = index.clips(video.video).spans
    span = spans[clip_at(spans, min(max(time, spans[0].start), max(each.end for each in spans)))]
    try:
        found = mapper.maps(Segment(str(file), start=span.start, end=span.end), label)
    except IgError as error:
        raise unreadable(public_message(str(error), file, _NAME), None) from None
    if not found.maps:
        why = "this clip cannot be read" if found.error is None else public_message(found.error.message, file, _NAME)
        raise unreadable(why, None)
    return _as_response(found, span, size)


def _as_response(found: VideoMaps, span: ClipSpan, size: tuple[int, int]) -> ClassMap:
    first = found.maps[0]
    resized = resized_size(found.preprocessing, *size)
    [corner] = crop_corners(found.preprocessing, *resized)
    crop = found.preprocessing.crop or resized
    (time, *strides), (start, *offsets) = found.centres.stride, found.centres.offset
    frames, rows, columns = first.values.shape
    top, left, height, width = (value / resized[n % 2] for n, value in enumerate((*corner, *crop)))
    down, right = (
        [(corner[n] + offsets[n] + strides[n] * number + 0.5) / resized[n] for number in range(count)]
        for n, count in enumerate((rows, columns))
    )
    return ClassMap(
        start=span.start,
        end=span.end,
        label=first.label,
        score=first.score,
        region=Region(top=top, left=left, height=height, width=width),
        times=[span.start + (start + time * n) / found.frames * (span.end - span.start) for n in range(frames)],
        rows=down,
        columns=right,
        values=first.values.tolist(),
    )
