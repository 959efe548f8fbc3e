"""Response models: the schemas of openapi.json."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from ig65m.types import Label, Status

Seconds = Annotated[float, Field(description="seconds of the video's presentation time")]


class Problem(BaseModel):
    """Why a request was refused."""

    code: str = Field(description="code for programs", examples=["too_large"])
    message: str = Field(description="message for people")
    stage: str | None = Field(None, description="stage that failed, for a video that cannot be read")
    last_good_time: float | None = Field(None, description="end of what could be read of the video, in seconds")


class ErrorResponse(BaseModel):
    """Any response that is not a success."""

    error: Problem


class Scored(BaseModel):
    """A label and its score from 0 to 1."""

    label: str
    score: float


class Requests(BaseModel):
    """Uploads being processed or waiting, and free slots."""

    running: int
    waiting: int
    room: int


class Batches(BaseModel):
    """Batches since the start, their clips, and mean clips in a batch."""

    count: int
    clips: int
    mean: float


class Health(BaseModel):
    """State of the service."""

    status: Literal["ok", "degraded", "closing"]
    problems: list[str] = Field(description="what does not work at the moment")
    version: str
    model: str
    precision: str
    kind: str = Field(description="how the index is searched", examples=["exact", "approximate"])
    videos: int
    clips: int
    max_upload: int = Field(description="largest upload in bytes")
    requests: Requests
    batches: Batches


class Model(BaseModel):
    """A model of `ig65m models`, or the one that serves."""

    name: str
    serving: bool
    frames: int | None = Field(description="frames in a clip; null if unknown")
    frame_step: int
    size: tuple[int, int] = Field(description="height and width of the input")
    classes: int
    has_labels: bool
    features: int = Field(description="length of a feature vector")


class LabelCount(BaseModel):
    """A label in the index, and the number of clips that have it."""

    label: str
    clips: int


class Video(BaseModel):
    """A video of the index; its labels are means over its clips, best first."""

    id: str
    title: str
    duration: Seconds
    clips: int
    status: Status
    labels: list[Scored]


class Videos(BaseModel):
    """A page of the requested videos, and their total number."""

    total: int
    videos: list[Video]


class Span(BaseModel):
    """Start and end."""

    start: Seconds
    end: Seconds


class TimedLabels(BaseModel):
    """A clip and its labels, best first."""

    start: Seconds
    end: Seconds
    labels: list[Scored]


class TimelineClip(TimedLabels):
    """A clip of the index."""

    shot: int | None = Field(description="number of the clip's shot; null if the index does not know it")
    change: float | None = Field(description="1 - cosine similarity of its features to the clip before; null for the first")


class Shot(BaseModel):
    """A shot of a video, from its first clip in the index to its last."""

    number: int
    start: Seconds
    end: Seconds
    first_clip: int = Field(description="position of its first clip in the timeline, from 0")
    clips: int


class Timeline(BaseModel):
    """The clips of a video in order, and its shots; no shots if the index does not know them."""

    id: str
    title: str
    duration: Seconds
    clips: list[TimelineClip]
    shots: list[Shot]
    has_motion: bool = Field(
        description="whether the service has a folder of camera motion, so that a request for it may succeed"
    )
    has_class_maps: bool = Field(description="whether the model can show where it finds a label")


class Speeds(BaseModel):
    """A number for each move of the camera, all a second."""

    pan: float = Field(description="in picture widths; positive to the right, so that the content moves left")
    tilt: float = Field(description="in picture heights; positive up, so that the content moves down")
    zoom: float = Field(description="natural logarithm of the magnification; positive in, so that the content grows")
    roll: float = Field(description="in degrees; positive clockwise, so that the content turns counter-clockwise")


class MotionChances(BaseModel):
    """Probabilities of what else the camera does."""

    static: float = Field(description="probability that the camera stands still")
    shake: float = Field(description="probability that the camera shakes, as in a hand")
    cut: float = Field(description="probability of a cut or dissolve")
    parallax: float = Field(description="probability that near things move differently from far ones")


class ClipMotion(Span, Speeds, MotionChances):
    """What the camera does in a clip."""

    sigma: Speeds = Field(description="standard deviations of the speeds")
    label: str = Field(description="one of the nine labels of camera motion", examples=["pan_right"])


class Move(BaseModel):
    """One move of the camera."""

    move: str = Field(examples=["pan_right"])
    speed: float = Field(description="positive, in the unit of the clips' speeds")
    sigma: float = Field(description="standard deviation of the speed")


class MotionSegment(Span, MotionChances):
    """A part of a video in which the camera does the same; without moves it stands still, or shakes."""

    moves: list[Move] = Field(description="fastest first")
    text: str = Field(description="the moves in words", examples=["pan right at 14 %/s with slow zoom in"])


class CameraMotion(BaseModel):
    """What the camera does in a video: segments in order, and clips, which overlap, in order."""

    id: str
    title: str
    status: Status
    segments: list[MotionSegment]
    clips: list[ClipMotion]


class Region(BaseModel):
    """A part of the picture, in shares of its height and width."""

    top: float
    left: float
    height: float
    width: float


class ClassMap(Span):
    """Where in a clip the network finds a label: values at times, rows and columns; positive where something speaks for it.

    Places are shares of the picture's height and width; values between them are linear. The mean of all values is the logit.
    """

    label: str
    score: float = Field(description="of the label in the clip, from 0 to 1")
    region: Region = Field(description="what the network sees of the picture")
    times: list[float] = Field(description="in seconds")
    rows: list[float]
    columns: list[float]
    values: list[list[list[float]]] = Field(description="for each time, row and column")


class Hit(BaseModel):
    """A hit; `query` is the clip that it is similar to, `query_time` the start of that."""

    id: str
    title: str
    score: float
    start: Seconds
    end: Seconds
    labels: list[Scored]
    query_time: float | None = None
    query: Span | None = None
    shot: int | None = Field(None, description="number of its shot; null if unknown, or if it is of several shots")


class SearchQuery(BaseModel):
    """The query: clips of a video, all of one of its shots, or a label."""

    video: str | None = None
    title: str | None = None
    start: float | None = None
    end: float | None = None
    shot: int | None = None
    label: str | None = None


class SearchResults(BaseModel):
    """Hits, best first."""

    query: SearchQuery
    hits: list[Hit]


class FailureDetail(BaseModel):
    """Why a video is partial or failed."""

    stage: str
    message: str
    last_good_time: float | None
    gaps: list[tuple[float, float]] = Field([], description="start and end in seconds of each part that was lost to damage")


class Classification(BaseModel):
    """Labels of an upload: `labels` are means over its clips."""

    model: str
    status: Status
    error: FailureDetail | None
    labels: list[Scored]
    clips: list[TimedLabels]


class Extraction(BaseModel):
    """Features of an upload: a row for each span."""

    model: str
    status: Status
    error: FailureDetail | None
    shape: tuple[int, int]
    spans: list[tuple[float, float]]
    features: list[list[float]]


class Token(BaseModel):
    """A token."""

    model_config = {"extra": "forbid"}

    token: str = Field(max_length=1000)


class LoginResult(BaseModel):
    """The response sets a cookie."""

    status: str = Field(examples=["ok"])


def scored(labels: "tuple[Label, ...] | list[Label]") -> list[Scored]:
    """Convert labels to response models."""
    return [Scored(label=each.label, score=each.score) for each in labels]


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route for openapi.json, besides those of every route."""
    return {status: {"model": ErrorResponse, "description": _REASONS[status]} for status in sorted({*statuses, *_ALWAYS})}


_ALWAYS = (401, 403, 421, 503)
_REASONS = {
    400: "invalid body",
    401: "missing or wrong token",
    403: "request from another site",
    404: "not found",
    408: "the upload was too slow",
    410: "the file no longer exists",
    413: "too large",
    415: "unsupported content type",
    416: "range not satisfiable",
    421: "unknown host name",
    422: "a parameter is out of range, or the video cannot be read",
    503: "busy, shutting down, or without its index: try again after Retry-After",
}
