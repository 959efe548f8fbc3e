"""Videos, timelines and search hits of the index as response models."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ig65m.display.feature_map import changes
from ig65m.search.hits import Hit as Found
from ig65m.search.hits import Merge, Where
from ig65m.search.index import Index
from ig65m.search.query import Query, clip_at
from ig65m.search.videos import IndexedVideo
from ig65m.server.catalogue import Listing, shown
from ig65m.server.errors import no_shot
from ig65m.server.schemas import (
    Hit,
    SearchQuery,
    SearchResults,
    Shot,
    Span,
    Timeline,
    TimelineClip,
    Video,
    Videos,
    scored,
)
from ig65m.types import ClipSpan


def as_video(video: IndexedVideo) -> Video:
    """Convert labels to response models."""
    return Video(
        id=video.video,
        title=shown(video.title),
        duration=video.duration,
        clips=video.clips,
        status=video.status,
        labels=scored(video.labels),
    )


def page_of(listing: Listing, offset: int, limit: int, label: str | None, text: str | None) -> Videos:
    """Return the videos with that text in title or labels; with a label, those that have it, highest score first."""
    wanted = "" if text is None else text.casefold()

    def fits(video: IndexedVideo) -> bool:
        names = [each.label for each in video.labels]
        has_text = any(wanted in name.casefold() for name in (shown(video.title), *names))
        return has_text and (label is None or label in names)

    fitting = [video for video in listing.videos.values() if fits(video)]
    if label is not None:
        fitting.sort(key=lambda video: -next(each.score for each in video.labels if each.label == label))
    return Videos(total=len(fitting), videos=[as_video(video) for video in fitting[offset : offset + limit]])


def timeline(index: Index, video: IndexedVideo, *, has_motion: bool, has_class_maps: bool) -> Timeline:
    """Return the clips of a video, and its shots."""
    rows = index.clips(video.video)
    clips = [
        TimelineClip(start=span.start, end=span.end, labels=scored(labels), shot=span.shot, change=change)
        for span, labels, change in zip(rows.spans, rows.labels, (None, *changes(rows.vectors).tolist()), strict=True)
    ]
    return Timeline(
        id=video.video,
        title=shown(video.title),
        duration=video.duration,
        clips=clips,
        shots=_shots(rows.spans),
        has_motion=has_motion,
        has_class_maps=has_class_maps,
    )


def _shots(spans: Sequence[ClipSpan]) -> list[Shot]:
    """Return the shots of clips in order."""
    shots, first = [], 0
    for number, group in groupby(spans, lambda span: span.shot):
        clips = list(group)
        if number is not None:
            start, end = min(span.start for span in clips), max(span.end for span in clips)
            shots.append(Shot(number=number, start=start, end=end, first_clip=first, clips=len(clips)))
        first += len(clips)
    return shots


def like_video(
    index: Index,
    video: IndexedVideo,
    time: float | None,
    shot: int | None,
    label: str | None,
    count: int,
    *,
    merge: Merge,
    others: bool,
) -> SearchResults:
    """Return clips similar to the one of a video at a time, to any of a shot, or to any of the video; with `others`, of other
    videos only.

    A time outside the video means its nearest clip. Raises ApiError 404 for an unknown shot.
    """
    rows = index.clips(video.video)
    chosen = list(range(len(rows.spans)))
    if shot is not None:
        chosen = [clip for clip in chosen if rows.spans[clip].shot == shot]
        if not chosen:
            raise no_shot()
    elif time is not None:
        chosen = [clip_at(rows.spans, min(max(time, rows.spans[0].start), max(span.end for span in rows.spans)))]
    spans = tuple(rows.spans[clip] for clip in chosen)
    asked = Query(video.path, video.video, rows.vectors[chosen], spans, shot=shot)
    where = Where(label=label, not_videos=(video.video,) if others else ())
    hits = index.search(asked.vectors, count, where=where, leave_out=asked.own, merge=merge)
    query = SearchQuery(
        video=video.video,
        title=shown(video.title),
        start=spans[0].start,
        end=max(span.end for span in spans),
        shot=shot,
        label=label,
    )
    return SearchResults(query=query, hits=[_hit(hit, spans[hit.query]) for hit in hits])


def like_features(
    index: Index, vectors: NDArray[np.float32], spans: Sequence[ClipSpan], count: int, *, merge: Merge
) -> SearchResults:
    """Return clips similar to any of these features (n, C)."""
    hits = index.search(vectors, count, merge=merge)
    query = SearchQuery(start=spans[0].start, end=max(span.end for span in spans))
    return SearchResults(query=query, hits=[_hit(hit, spans[hit.query]) for hit in hits])


def with_label(index: Index, label: str, count: int, *, merge: Merge) -> SearchResults:
    """Return the clips with the highest scores of a label."""
    return SearchResults(
        query=SearchQuery(label=label), hits=[_hit(hit, None) for hit in index.search_label(label, count, merge=merge)]
    )


def _hit(hit: Found, query: ClipSpan | None) -> Hit:
    return Hit(
        id=hit.video,
        title=shown(hit.path.rpartition("/")[2]),
        score=hit.score,
        start=hit.start,
        end=hit.end,
        labels=scored(hit.labels),
        query_time=None if query is None else query.start,
        query=None if query is None else Span(start=query.start, end=query.end),
        shot=hit.shot,
    )
