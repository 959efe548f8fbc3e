"""Response models: the schemas of openapi.json."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from ig65m.types import Label, Status

Seconds = Annotated[float, Field(description="seconds of the video's presentation time")]


class Problem(BaseModel):
    """Why a request was refused."""

    code: str = Field(description="a word for programs", examples=["too_large"])
    message: str = Field(description="a sentence for people")
    stage: str | None = Field(None, description="of a video that cannot be read: what failed")
    last_good_time: float | None = Field(None, description="of such a video: the end of what could be read, in seconds")


class Refused(BaseModel):
    """Every answer that is no success."""

    error: Problem


class Scored(BaseModel):
    """A label and its score from 0 to 1."""

    label: str
    score: float


class Requests(BaseModel):
    """Uploads at work, and for how many more there is room."""

    running: int
    waiting: int
    room: int


class Batches(BaseModel):
    """Runs of the network since the start, the clips in them, and how many a run."""

    count: int
    clips: int
    mean: float


class Health(BaseModel):
    """What is served, and how busy it is."""

    status: Literal["ok", "degraded", "closing"]
    problems: list[str] = Field(description="what does not work at the moment")
    version: str
    model: str
    precision: str
    kind: str = Field(description="how the index is searched", examples=["exact", "approximate"])
    videos: int
    clips: int
    max_upload: int = Field(description="bytes that an upload may have")
    requests: Requests
    batches: Batches


class Model(BaseModel):
    """A model of `ig65m models`, or the one that serves."""

    name: str
    serving: bool
    frames: int | None = Field(description="in a clip; null where nobody knows")
    frame_step: int
    size: tuple[int, int] = Field(description="height and width of its pictures")
    classes: int
    has_labels: bool
    features: int = Field(description="numbers that describe a clip")


class LabelCount(BaseModel):
    """A label that is stored in the index, and the number of clips of which it is one."""

    label: str
    clips: int


class Video(BaseModel):
    """A video of the index; its labels are the means over its clips, best first."""

    id: str
    title: str
    duration: Seconds
    clips: int
    status: Status
    labels: list[Scored]


class Videos(BaseModel):
    """A page of the videos that were asked for, and how many those are."""

    total: int
    videos: list[Video]


class TimedLabels(BaseModel):
    """A clip and its labels, best first."""

    start: Seconds
    end: Seconds
    labels: list[Scored]


class Timeline(BaseModel):
    """The clips of a video in order."""

    id: str
    title: str
    duration: Seconds
    clips: list[TimedLabels]


class Span(BaseModel):
    """From start to end."""

    start: Seconds
    end: Seconds


class Hit(BaseModel):
    """A clip that was found; `query` is the clip that it is like, `query_time` when that starts."""

    id: str
    title: str
    score: float
    start: Seconds
    end: Seconds
    labels: list[Scored]
    query_time: float | None = None
    query: Span | None = None


class Asked(BaseModel):
    """What was looked for: clips like these of a video, or a label."""

    video: str | None = None
    title: str | None = None
    start: float | None = None
    end: float | None = None
    label: str | None = None


class Hits(BaseModel):
    """Clips that were found, best first."""

    query: Asked
    hits: list[Hit]


class Failed(BaseModel):
    """Why a video gave nothing or not all."""

    stage: str
    message: str
    last_good_time: float | None
    gaps: list[tuple[float, float]] = Field([], description="start and end in seconds of each part that was lost to damage")


class Classified(BaseModel):
    """What an upload shows: `labels` from the mean over its clips."""

    model: str
    status: Status
    error: Failed | None
    labels: list[Scored]
    clips: list[TimedLabels]


class Extracted(BaseModel):
    """Features of an upload: a row for each span."""

    model: str
    status: Status
    error: Failed | None
    shape: tuple[int, int]
    spans: list[tuple[float, float]]
    features: list[list[float]]


class Token(BaseModel):
    """What shows that one may use the service."""

    model_config = {"extra": "forbid"}

    token: str = Field(max_length=1000)


class LoggedIn(BaseModel):
    """The answer comes with a cookie."""

    status: str = Field(examples=["ok"])


def scored(labels: "tuple[Label, ...] | list[Label]") -> list[Scored]:
    """Labels as answers have them."""
    return [Scored(label=each.label, score=each.score) for each in labels]


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For openapi.json: the refusals that a route can answer with, besides those that every one can."""
    return {status: {"model": Refused, "description": _REASONS[status]} for status in sorted({*statuses, *_ALWAYS})}


_ALWAYS = (401, 403, 421, 503)
_REASONS = {
    400: "the body is not what it should be",
    401: "no token, or a wrong one",
    403: "asked from another site",
    404: "there is no such thing",
    408: "the upload came too slowly",
    410: "the file is not there any more",
    413: "too large",
    415: "a kind of body that is not taken",
    416: "no such range of bytes",
    421: "asked under a name that is not this service's",
    422: "a parameter is out of range, or the video cannot be read",
    503: "busy, shutting down, or without its index: try again after Retry-After",
}
