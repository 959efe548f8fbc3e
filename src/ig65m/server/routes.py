"""Routes that only read: health, models, videos, timelines, camera motion, thumbnails, files, search."""

from typing import Annotated, Any, Final, Literal

import anyio
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as InPath

from ig65m.display.feature_map import feature_levels, viridis
from ig65m.display.png import indexed_png
from ig65m.models.card import Card
from ig65m.search import hits
from ig65m.server import browse, class_maps
from ig65m.server.admission import Stopping
from ig65m.server.catalogue import shown
from ig65m.server.errors import ApiError, no_class, no_class_maps
from ig65m.server.media import FileAnswer, encoded, open_video, regular
from ig65m.server.motion import camera_motion
from ig65m.server.schemas import (
    CameraMotion,
    ClassMap,
    Health,
    LabelCount,
    Model,
    SearchResults,
    Timeline,
    Video,
    Videos,
    error_responses,
)
from ig65m.server.service import Service
from ig65m.zoo.cards import CARDS

router = APIRouter(prefix="/api")


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Given = Annotated[Service, Depends(_service)]
Id = Annotated[str, InPath(description="id of a video, from /api/videos", max_length=400)]
Time = Annotated[float, Query(ge=0, le=1e7, allow_inf_nan=False, description="time in seconds")]
Count = Annotated[int, Query(ge=1, le=200, description="hits at most")]
Merge = Annotated[
    hits.Merge, Query(description="true: merge hits of one video that touch; shot: merge hits of one shot, which span it")
]
Style = Annotated[Literal["readable", "original"], Query(description="colours of a semantic code")]
_STRIP_ROWS: Final = 64  # of a semantic code
_MOST_PIXELS: Final = 20_000_000  # of a semantic code in the original's colours
_MOST_SHOTS: Final = 1 << 53
LabelName = Annotated[str | None, Query(min_length=1, max_length=1000, description="label in the index")]


def bytes_of(*kinds: str) -> dict[str, Any]:
    """Describe a body that is not JSON, for openapi.json."""
    return {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}}


@router.get("/health", responses=error_responses())
async def health(service: Given) -> Health:
    """State of the service: what is served, and how busy it is."""
    return await anyio.to_thread.run_sync(service.health)


@router.get("/models", responses=error_responses())
def models(service: Given) -> list[Model]:
    """All models; the one that serves comes first."""
    own = service.extractor.card
    return [_model(own, serving=True), *(_model(card) for name, card in CARDS.items() if name != own.name)]


@router.get("/labels", responses=error_responses())
def labels(service: Given) -> list[LabelCount]:
    """Labels in the index, most frequent first."""
    return [LabelCount(label=label, clips=clips) for label, clips in service.catalogue.listing().labels.items()]


@router.get("/videos", responses=error_responses(404, 422))
def videos(
    service: Given,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 60,
    label: LabelName = None,
    text: Annotated[str | None, Query(max_length=200, description="text in the title or in a label")] = None,
) -> Videos:
    """Videos of the index by title, in pages."""
    listing = service.catalogue.listing()
    listing.check_label(label)
    return browse.page_of(listing, offset, limit, label, text)


@router.get("/videos/{id}", responses=error_responses(404, 422))
def video(service: Given, id: Id) -> Video:
    """A video of the index."""
    return browse.as_video(service.catalogue.listing().video(id))


@router.get("/videos/{id}/timeline", responses=error_responses(404, 422))
def timeline(service: Given, id: Id) -> Timeline:
    """Clips of a video with their labels, and its shots if the index knows them."""
    wanted = service.catalogue.listing().video(id)
    has_motion, has_class_maps = service.motion is not None, service.mapper is not None
    return browse.timeline(service.index, wanted, has_motion=has_motion, has_class_maps=has_class_maps)


@router.get("/videos/{id}/motion", responses=error_responses(404, 410, 422))
def motion(service: Given, id: Id) -> CameraMotion:
    """What the camera does in a video, clip by clip and in segments, if the service has a folder of camera motion with it."""
    wanted = service.catalogue.listing().video(id)
    file = service.file_of(wanted)
    regular(file)
    return camera_motion(service.motion, wanted, file)


@router.get("/videos/{id}/class-map", response_model=ClassMap, responses=error_responses(404, 410, 422, 503))
async def class_map(
    service: Given,
    request: Request,
    id: Id,
    time: Time = 0.0,
    label: Annotated[str | None, Query(min_length=1, max_length=1000, description="default: the best one of the clip")] = None,
) -> Response:
    """Where in a clip the network finds a label. The clip is decoded and computed for it, as an upload is."""
    mapper, card = service.mapper, service.extractor.card
    if mapper is None:
        raise no_class_maps()
    if label is not None and label not in map(card.label, range(card.spec.classes)):
        raise no_class()

    def work(stopping: Stopping) -> str | None:
        video = service.catalogue.listing().video(id)
        file = service.file_of(video)
        regular(file)
        found = class_maps.class_map(mapper.get(), service.index, video, file, time, label, stopping)
        return None if found is None else found.model_dump_json()

    with service.admission.slot() as slot:
        async with mapper.turn:
            return Response(await slot.run(work, request), media_type="application/json")


@router.get(
    "/videos/{id}/semcode.png",
    response_class=Response,
    responses={**error_responses(404, 422), 200: bytes_of("image/png")},
)
def semcode(service: Given, id: Id, style: Style = "readable") -> Response:
    """Semantic code of a video as PNG: a column for each clip. readable: similar features are neighbours; at most 64 rows and
    2000 columns, which are means. original: the colours of ig65m-pytorch, a row for each feature.
    """
    service.catalogue.listing().video(id)
    vectors = service.index.clips(id).vectors
    if style == "original":
        from ig65m.explain.semcode import original_code

        if vectors.size > _MOST_PIXELS:
            raise ApiError(422, "bad_parameter", f"the original has {vectors.size:,} pixels; at most {_MOST_PIXELS:,} are sent")
        picture = encoded(original_code(vectors), "PNG")
    else:
        picture = indexed_png(feature_levels(vectors, _STRIP_ROWS), viridis())
    return Response(picture, media_type="image/png", headers={"Cache-Control": "private, max-age=60"})


@router.get(
    "/videos/{id}/thumbnail.jpg",
    response_class=Response,
    responses={**error_responses(404, 410, 422, 503), 200: bytes_of("image/jpeg")},
)
async def thumbnail(service: Given, id: Id, time: Time = 0.0) -> Response:
    """Thumbnail of a video at or near a time."""
    listing = await anyio.to_thread.run_sync(service.catalogue.listing)
    wanted = listing.video(id)
    data = await service.thumbnails.thumbnail(service.file_of(wanted), shown(wanted.title), time)
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})


_FILE: dict[int | str, dict[str, Any]] = {
    **error_responses(404, 410, 416, 422),
    200: bytes_of("video/*", "image/gif"),
    206: {"description": "the requested range", **bytes_of("video/*", "image/gif")},
}


@router.get("/videos/{id}/file", response_class=Response, responses=_FILE)
def file(service: Given, request: Request, id: Id) -> Response:
    """Bytes of a video, or a range of them."""
    path = service.file_of(service.catalogue.listing().video(id))
    regular(path)
    return FileAnswer(open_video(path), request)


router.add_api_route("/videos/{id}/file", file, methods=["HEAD"], include_in_schema=False, response_class=Response)


@router.get("/search", responses=error_responses(404, 422))
def search(
    service: Given,
    video: Annotated[str | None, Query(max_length=400, description="id of a video")] = None,
    time: Annotated[Time | None, Query(description="time of a clip in seconds; all clips if left out")] = None,
    shot: Annotated[int | None, Query(ge=0, le=_MOST_SHOTS, description="number of a shot of the video: all its clips")] = None,
    label: LabelName = None,
    count: Count = 12,
    merge: Merge = True,
    others: Annotated[bool, Query(description="only hits in other videos")] = False,
) -> SearchResults:
    """Clips similar to one clip of a video, to any clip of one of its shots, or to any of its clips; with a label, only clips
    that have it. Without a video: clips of a label.
    """
    if shot is not None and (video is None or time is not None):
        raise ApiError(422, "bad_parameter", "shot is the number of a shot of video; give video with it, and no time")
    listing = service.catalogue.listing()
    listing.check_label(label)
    if video is not None:
        asked = listing.video(video)
        return browse.like_video(service.index, asked, time, shot, label, count, merge=merge, others=others)
    if label is None:
        raise ApiError(422, "bad_parameter", "no query given; expected video, alone or with time or shot, or label")
    return browse.with_label(service.index, label, count, merge=merge)


def _model(card: Card, *, serving: bool = False) -> Model:
    return Model(
        name=card.name,
        serving=serving,
        frames=card.frames,
        frame_step=card.frame_step,
        size=card.crop,
        classes=card.spec.classes,
        has_labels=card.labels is not None,
        features=card.spec.feature_width,
    )
