"""Small frozen values that the rooms hand to each other; times are in seconds."""

import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError, check_choice

MAX_FPS = 1000.0
"""Ticks a second: more is a mistake, and most of them would show the same frame."""

MAX_BATCH = 1024
"""Clips that go through a network together: more is a mistake, no machine gains by it."""

MAX_CROPS = 16
"""Crops of one picture, and MAX_CLIPS clips spread over a video: more is a mistake, they would hardly differ."""

MAX_CLIPS = 1000

MAX_FRAMES = 10_000
"""Frames in a clip, and from one of its frames to the next: more is a mistake or an attack on the memory."""

Resampling = Literal["fast_bilinear", "area", "float_bilinear"]
Status = Literal["ok", "partial", "failed"]


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its pictures: part of its card.

    `resize` is (height, width), the aspect ratio ignored, or one number, the shorter edge, the aspect ratio kept and the longer
    edge rounded down; `crop` is (height, width), cut from the middle, or `crops` of them spread evenly along the longer edge,
    from one end to the other. `mean` and `std` are of RGB on 0..255. `resampling` says who resizes: libswscale with its flag
    FAST_BILINEAR or AREA, straight from the decoded pixel format (BT.601 matrix) to RGB bytes with the crop's corner rounded
    down; or "float_bilinear", in float without antialiasing, the corner rounded half to even, as ig65m-pytorch did.
    """

    resize: tuple[int, int] | int
    crop: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resampling: Resampling = "fast_bilinear"
    crops: int = 1

    def __post_init__(self) -> None:
        if type(self.crops) is not int or not 1 <= self.crops <= MAX_CROPS:
            raise UsageError(f"crops must be a whole number from 1 to {MAX_CROPS}, got {self.crops!r}")
        check_choice("resampling", self.resampling, get_args(Resampling))
        least = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        sizes = (*least, *self.crop)
        if len(sizes) != 4 or not all(type(size) is int and 1 <= size <= 4096 for size in sizes):
            raise UsageError(f"sizes must be (height, width) of 1 to 4096, got {self.resize} and {self.crop}")
        if self.crop[0] > least[0] or self.crop[1] > least[1]:
            raise UsageError(f"the crop {self.crop} is larger than the resized picture {self.resize}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise UsageError(f"mean and std must be three finite numbers each, std positive; got {self.mean} and {self.std}")


@dataclass(frozen=True)
class Frames:
    """A video in memory: RGB pictures (T, H, W, 3) uint8, `fps` a second, the first at time 0."""

    array: NDArray[np.uint8]
    fps: float

    def __post_init__(self) -> None:
        if self.array.dtype != np.uint8 or self.array.ndim != 4 or self.array.shape[-1] != 3 or 0 in self.array.shape:
            raise UsageError(
                f"frames in memory must be RGB bytes of shape (T, H, W, 3), got {self.array.dtype} {self.array.shape}"
            )
        if not 0 < self.fps < float("inf"):
            raise UsageError(f"fps must be a positive number, got {self.fps}")


def check_range(start: float | None, end: float | None) -> None:
    """Raise UsageError unless these are finite seconds, the start before the end; None is the video's own."""
    for name, time in (("start", start), ("end", end)):
        if time is not None and not (isinstance(time, int | float) and isfinite(time)):
            raise UsageError(f"{name} must be a finite number of seconds, got {time!r}")
    if start is not None and end is not None and start >= end:
        raise UsageError(f"start must be before end, got {start} s and {end} s")


def ascending_starts(starts: Iterable[int]) -> tuple[int, ...]:
    """Frame numbers at which clips start, in ascending order; one may come twice. Raises UsageError for anything else."""
    try:
        numbers = sorted(operator.index(start) for start in starts)
    except TypeError:
        raise UsageError(f"starts must be whole numbers of frames, got {starts!r}") from None
    if numbers and numbers[0] < 0:
        raise UsageError(f"starts must be numbers of frames from 0 on, got {numbers[0]}")
    return tuple(numbers)


@dataclass(frozen=True)
class Segment:
    """A part of a video file or of a folder of images. These values override the options given for all videos.

    Raises UsageError if a value is out of range.
    """

    path: str
    start: float | None = None  # seconds of the stream
    end: float | None = None  # seconds of the stream
    starts: tuple[int, ...] | None = None  # frames at which clips start, in place of a stride; kept in ascending order

    def __post_init__(self) -> None:
        path = os.fspath(self.path) if isinstance(self.path, os.PathLike) else self.path
        if not isinstance(path, str) or not path or "\0" in path:
            raise UsageError(f"a segment's path must be the name of a file, got {self.path!r}")
        object.__setattr__(self, "path", path)
        check_range(self.start, self.end)
        if self.starts is not None:
            object.__setattr__(self, "starts", ascending_starts(self.starts))
            if not self.starts:
                raise UsageError("the starts of a segment are empty; leave them out to take clips of all of it")

    def __str__(self) -> str:
        if self.starts is not None:
            return f"{self.path} (clips at {len(self.starts)} frames)"
        if self.start is None and self.end is None:
            return self.path
        return f"{self.path} ({self.start or 0:g} s to {'its end' if self.end is None else f'{self.end:g} s'})"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one video may cost before it is given up: beyond a limit it is partial or failed, and the others go on.

    pixels: in one picture. frames: decoded from a video, and chosen from it. memory: bytes that the process which decodes may
    use. seconds: without a new frame. The last two hold where decoding runs in a process of its own.
    """

    pixels: int = 36_000_000  # 8192 x 4320 has 35.4 million
    frames: int = 5_000_000  # 46 hours at 30 a second
    memory: int = 6 << 30  # 8192 x 4320 in 10 bits takes up to 5 GiB on 16 cores
    seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, value, least in (("pixels", self.pixels, 1), ("frames", self.frames, 1), ("memory", self.memory, 256 << 20)):
            if type(value) is not int or value < least:
                raise UsageError(f"the limit on {name} must be a whole number of at least {least:,}, got {value!r}")
        if not 0 < self.seconds < float("inf"):
            raise UsageError(f"the limit on seconds must be a positive number, got {self.seconds!r}")


@dataclass(frozen=True)
class ClipSpan:
    """From the start of a clip's first frame to the end of its last one, in presentation times of the stream.

    first_frame, last_frame: their numbers, from 0, among the frames that clips are chosen from: all of the video, or those from
    the start that was asked for on, or those of the rate that was.
    """

    start: float
    end: float
    first_frame: int = 0
    last_frame: int = 0

    def __post_init__(self) -> None:
        if not self.start <= self.end:
            raise UsageError(f"a span must not end before it starts, got {self.start} to {self.end}")


@dataclass(frozen=True)
class Clip:
    """Frames ready for a network but for normalisation: (T, H, W, 3) RGB on 0..255, uint8 (float32 if resized in float)."""

    pixels: NDArray[np.uint8] | NDArray[np.float32]
    span: ClipSpan


@dataclass(frozen=True)
class Label:
    """A class and its probability."""

    label: str
    score: float


@dataclass(frozen=True)
class ClipPrediction:
    """The best labels of one clip, best first."""

    start: float
    end: float
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Failure:
    """Why a video gave nothing or not all.

    stage: the stage that failed. last_good_time: end of the last good frame in seconds, None if there was none. gaps: (start,
    end) in seconds of each part that was lost between good frames; no clip touches one.
    """

    stage: str
    message: str
    last_good_time: float | None = None
    gaps: tuple[tuple[float, float], ...] = ()

    def to_record(self) -> dict[str, Any]:
        """As JSON has it; `gaps` stands there only if there are some."""
        record = asdict(self)
        return record if self.gaps else {key: value for key, value in record.items() if key != "gaps"}

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> "Failure":
        """The inverse of `to_record`.

        Raises LookupError, TypeError or ValueError for a record of something else.
        """
        gaps = tuple((float(start), float(end)) for start, end in record.get("gaps", ()))
        return Failure(**{**record, "gaps": gaps})


@dataclass(frozen=True)
class Prediction:
    """What a video shows to a model: `labels` from the mean over clips of their scores, `clips` each by itself."""

    model: str
    path: str
    status: Status
    labels: tuple[Label, ...]
    clips: tuple[ClipPrediction, ...]
    error: Failure | None = None


@dataclass(frozen=True)
class Features:
    """Features of a video: `array` (clips, C) float32, or (clips, C, T', H', W') un-pooled, and a span for each clip.

    `logits` is (clips, classes) float32, and `labels` the best of each clip, where they were asked for. `model` identifies
    what computed them: name, sha256 of the weights, preprocessing, sampling, pooling, precision.
    """

    path: str
    status: Status
    array: NDArray[np.float32]
    spans: tuple[ClipSpan, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    logits: NDArray[np.float32] | None = None
    labels: tuple[tuple[Label, ...], ...] | None = None
    error: Failure | None = None

    def __post_init__(self) -> None:
        if len(self.array) != len(self.spans):
            raise UsageError(f"{len(self.array)} rows of features but {len(self.spans)} spans")
