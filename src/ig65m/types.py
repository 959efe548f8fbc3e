"""Values that the public API takes and returns; all times are in seconds."""

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ig65m.display.chart import plot_labels
from ig65m.display.feature_map import cell_edges
from ig65m.display.html import prediction_html
from ig65m.errors import UsageError, VideoError, check_choice, needs

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

MAX_FPS = 1000.0
"""Highest rate at which a video can be sampled."""

MAX_BATCH = 1024
"""Largest batch in clips; no machine gains by more."""

MAX_CROPS = 16
"""Most crops of one frame; more would hardly differ."""

MAX_CLIPS = 1000
"""Most clips spread over one video."""

MAX_FRAMES = 10_000
"""Most frames in a clip, and largest step between them; more would exhaust the memory."""

Resampling = Literal["fast_bilinear", "area", "bicubic", "float_bilinear", "float_bilinear_by_scale"]
FLOAT_RESAMPLINGS: Final[tuple[Resampling, ...]] = ("float_bilinear", "float_bilinear_by_scale")
"""Resamplings whose result is not rounded to bytes."""

Status = Literal["ok", "partial", "failed"]
Transition = Literal["cut", "gradual", "end"]


@dataclass(frozen=True)
class Preprocessing:
    """How frames become input of a network; part of its card.

    Resampling "fast_bilinear" and "area" are flags of libswscale, which converts the decoded pixel format (BT.601 matrix) to
    RGB bytes of the new size in one step; the crop's corner is rounded down. "bicubic" is the same as FFmpeg's command line
    does it, with the matrix and range of the stream's tags. "float_bilinear" is the way of ig65m-pytorch: bilinear in float
    without antialiasing, the crop's corner rounded half to even. "float_bilinear_by_scale" differs if the aspect ratio is kept:
    pixels of the resized picture are as far apart as the scale says, not as the rounded size does.

    Raises UsageError if a value is out of range.

    Example:
        >>> ig65m.cards["r2plus1d_34_32_kinetics"].preprocessing.resize
        (128, 171)
    """

    resize: tuple[int, int] | int  # (height, width) whatever the aspect ratio; or the shorter edge, the longer rounded down
    crop: tuple[int, int] | None  # (height, width), from the centre; None: the whole picture, resized to a shorter edge
    mean: tuple[float, float, float]  # of RGB on 0..255
    std: tuple[float, float, float]  # of RGB on 0..255
    resampling: Resampling = "fast_bilinear"
    crops: int = 1  # number of crops, spread evenly along the longer edge

    def __post_init__(self) -> None:
        if type(self.crops) is not int or not 1 <= self.crops <= MAX_CROPS:
            raise UsageError(f"crops must be a whole number from 1 to {MAX_CROPS}, got {self.crops!r}")
        check_choice("resampling", self.resampling, get_args(Resampling))
        least = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        crop = self.crop
        if crop is None:
            if not isinstance(self.resize, int) or self.crops != 1:
                raise UsageError(f"without a crop, resize must be a shorter edge and crops 1, got {self.resize}")
            crop = least
        sizes = (*least, *crop)
        if len(sizes) != 4 or not all(type(size) is int and 1 <= size <= 4096 for size in sizes):
            raise UsageError(f"sizes must be (height, width) of 1 to 4096, got {self.resize} and {crop}")
        if crop[0] > least[0] or crop[1] > least[1]:
            raise UsageError(f"the crop {crop} is larger than the resized picture {self.resize}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise UsageError(f"mean and std must be three finite numbers each, std positive; got {self.mean} and {self.std}")


@dataclass(frozen=True)
class Frames:
    """A video in memory; the first frame is at 0 s. Raises UsageError for another shape, dtype or rate.

    Example:
        >>> video = ig65m.Frames(numpy.zeros((50, 240, 320, 3), numpy.uint8), fps=25)
        >>> ig65m.extract(video, model="r2plus1d_10_camera_motion").array.shape
        (4, 128)
    """

    array: NDArray[np.uint8]  # RGB (T, H, W, 3)
    fps: float  # frame rate

    def __post_init__(self) -> None:
        if self.array.dtype != np.uint8 or self.array.ndim != 4 or self.array.shape[-1] != 3 or 0 in self.array.shape:
            raise UsageError(f"frames must be RGB bytes, uint8 (T, H, W, 3); got {self.array.dtype} {self.array.shape}")
        if not 0 < self.fps < float("inf"):
            raise UsageError(f"fps must be a positive number, got {self.fps}")


def check_range(start: float | None, end: float | None) -> None:
    """Raise UsageError unless start and end are finite seconds in that order; None is the start or end of the video."""
    for name, time in (("start", start), ("end", end)):
        if time is not None and not (isinstance(time, int | float) and isfinite(time)):
            raise UsageError(f"{name} must be a finite number of seconds, got {time!r}")
    if start is not None and end is not None and start >= end:
        raise UsageError(f"start must be before end, got {start} s and {end} s")


def check_image_fps(rate: object) -> None:
    """Raise UsageError unless folders of images can have that rate."""
    if not isinstance(rate, int | float) or not 1e-3 <= rate <= MAX_FPS:
        raise UsageError(f"image_fps must be from 0.001 to {MAX_FPS:g} frames a second, got {rate!r}")


def ascending_starts(starts: Iterable[int]) -> tuple[int, ...]:
    """Return frame numbers in ascending order, repeated ones included. Raises UsageError for anything else."""
    try:
        numbers = sorted(operator.index(start) for start in starts)
    except TypeError:
        raise UsageError(f"starts must be whole numbers of frames, got {starts!r}") from None
    if numbers and numbers[0] < 0:
        raise UsageError(f"starts must be numbers of frames from 0 on, got {numbers[0]}")
    return tuple(numbers)


@dataclass(frozen=True)
class Segment:
    """A part of a video file or of a folder of images. Its values override the options given for all videos.

    Raises UsageError if a value is out of range.

    Example:
        >>> features = ig65m.extract(ig65m.Segment("video.mp4", start=1.0, end=2.0), model="r2plus1d_10_camera_motion")
        >>> features.spans[0].start
        1.0
    """

    path: str
    start: float | None = None  # in seconds of the stream; None: start of the video
    end: float | None = None  # in seconds of the stream; None: end of the video
    starts: tuple[int, ...] | None = None  # frames at which clips start, instead of a stride; in ascending order

    def __post_init__(self) -> None:
        path = os.fspath(self.path) if isinstance(self.path, os.PathLike) else self.path
        if not isinstance(path, str) or not path or "\0" in path:
            raise UsageError(f"a segment's path must be the name of a file, got {self.path!r}")
        object.__setattr__(self, "path", path)
        check_range(self.start, self.end)
        if self.starts is not None:
            object.__setattr__(self, "starts", ascending_starts(self.starts))
            if not self.starts:
                raise UsageError("the starts of a segment are empty; leave them out for clips of the whole segment")

    def __str__(self) -> str:
        if self.starts is not None:
            return f"{self.path} (clips at {len(self.starts)} frames)"
        if self.start is None and self.end is None:
            return self.path
        return f"{self.path} ({self.start or 0:g} s to {'its end' if self.end is None else f'{self.end:g} s'})"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one video may cost. A video beyond a limit is partial or failed; other videos go on.

    `memory` and `seconds` hold for decoding in a worker process only. Raises UsageError if a value is out of range.

    Example:
        >>> limits = ig65m.Limits(frames=20_000, seconds=10)
        >>> ig65m.classify("video.mp4", model="r2plus1d_10_camera_motion", limits=limits).status
        'ok'
    """

    pixels: int = 36_000_000  # most pixels of a frame; 8192 x 4320 has 35.4 million
    frames: int = 5_000_000  # most frames of a video; 46 hours at 30 a second
    memory: int = 6 << 30  # bytes for decoding; 8192 x 4320 in 10 bits takes up to 5 GiB on 16 cores
    seconds: float = 60.0  # longest time without a new frame

    def __post_init__(self) -> None:
        for name, value, least in (("pixels", self.pixels, 1), ("frames", self.frames, 1), ("memory", self.memory, 256 << 20)):
            if type(value) is not int or value < least:
                raise UsageError(f"the limit on {name} must be a whole number of at least {least:,}, got {value!r}")
        if not 0 < self.seconds < float("inf"):
            raise UsageError(f"the limit on seconds must be a positive number, got {self.seconds!r}")


@dataclass(frozen=True)
class ClipSpan:
    """Where a clip is in its video.

    Frame numbers count from 0, from the `start` that was asked for; in a video sampled at a rate they count samples.
    """

    start: float  # of the first frame, in seconds of the stream's presentation times
    end: float  # of the last frame, likewise
    first_frame: int = 0
    last_frame: int = 0
    shot: int | None = None  # number of the shot that the clip is within, from 0; None if clips may cross boundaries

    def __post_init__(self) -> None:
        if not self.start <= self.end:
            raise UsageError(f"a span must not end before it starts, got {self.start} to {self.end}")


@dataclass(frozen=True)
class Clip:
    """Resized and cropped frames of a clip, not yet normalised."""

    pixels: NDArray[np.uint8] | NDArray[np.float32]  # RGB on 0..255, (T, H, W, 3); float32 if resized in float
    span: ClipSpan
    sought: bool = False  # whether only the parts of the video that its clips need are decoded
    shape: tuple[int, int] | None = None  # height and width of the upright frames before they were resized; None if unknown


@dataclass(frozen=True)
class Label:
    """A class and its score, from 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True)
class ClipPrediction:
    """The best labels of one clip, best first."""

    start: float  # in seconds
    end: float  # in seconds
    labels: tuple[Label, ...]
    shot: int | None = None  # as `ClipSpan.shot`


@dataclass(frozen=True)
class Failure:
    """Why a video is partial or failed."""

    stage: str
    message: str
    last_good_time: float | None = None
    gaps: tuple[tuple[float, float], ...] = ()

    @staticmethod
    def of(stage: str, error: Exception) -> "Failure":
        """Return the failure that an error is, with what is known of the video if it is a VideoError."""
        if isinstance(error, VideoError):
            return Failure(stage, str(error), error.last_good_time, error.gaps)
        return Failure(stage, str(error))

    def describe(self, status: Status) -> str:
        """Return the status of a video with this failure, and why."""
        until = "" if self.last_good_time is None else f" (good until {self.last_good_time:.2f} s)"
        return f"{status}{until}: {self.message}"

    def to_record(self) -> dict[str, Any]:
        """Return the failure as JSON values; `gaps` is left out if there are none."""
        record = asdict(self)
        return record if self.gaps else {key: value for key, value in record.items() if key != "gaps"}

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> "Failure":
        """Read a record of `to_record`. Raises LookupError, TypeError or ValueError for anything else."""
        gaps = tuple((float(start), float(end)) for start, end in record.get("gaps", ()))
        return Failure(**{**record, "gaps": gaps})


def status_of(error: Failure | None, *, some: bool) -> Status:
    """Return the status of a video: ok; partial if an error left `some` of it; failed if it left nothing."""
    return "ok" if error is None else "partial" if some else "failed"


def time_range(parts: Sequence[ClipPrediction | ClipSpan]) -> str:
    """Return the time from the first start to the last end, for people."""
    return f"{parts[0].start:.2f} to {max(part.end for part in parts):.2f} s" if parts else "no clips"


@dataclass(frozen=True)
class Prediction:
    """Labels of a video and of its clips. A notebook shows them as a table.

    Example:
        >>> prediction = ig65m.classify("video.mp4", model="r2plus1d_10_camera_motion")
        >>> prediction.clips[0].labels[0].label
        'static'
    """

    model: str  # name
    path: str
    status: Status
    labels: tuple[Label, ...]  # by the mean score over all clips, best first
    clips: tuple[ClipPrediction, ...]
    error: Failure | None = None
    sought: bool = False  # whether only the parts of the video that its clips need were decoded; `status` is that of these

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a table with a row for each label of each clip: clip (from 0), start and end in seconds, label, score.

        The column shot is there if the shots are known.

        Raises UsageError without pandas (extra `pandas`).

        Example:
            >>> table = ig65m.classify("video.mp4", model="r2plus1d_10_camera_motion").to_pandas()
            >>> list(table.columns)
            ['clip', 'start', 'end', 'label', 'score']
        """
        with needs("pandas", "Prediction.to_pandas"):
            import pandas
        rows = [
            (number, clip.start, clip.end, clip.shot, each.label, each.score)
            for number, clip in enumerate(self.clips)
            for each in clip.labels
        ]
        table = pandas.DataFrame(rows, columns=["clip", "start", "end", "shot", "label", "score"])
        return table if any(clip.shot is not None for clip in self.clips) else table.drop(columns="shot")

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw the labels over time with matplotlib: bands as high as the scores, of up to ten labels with the highest totals.

        Args:
            axes: Where to draw; a new figure of pyplot if left out.

        Raises:
            UsageError: There are no clips, or matplotlib is not installed (extra `explain`).

        Example:
            >>> axes = ig65m.classify("video.mp4", model="r2plus1d_10_camera_motion").plot()
            >>> axes.figure.savefig("labels.png")
        """
        if not self.clips:
            raise UsageError(f"{self.path} has no clips to draw" + (f"; {self.error.message}" if self.error else ""))
        scores = [{each.label: each.score for each in clip.labels} for clip in self.clips]
        spans = np.array([(clip.start, clip.end) for clip in self.clips])
        drawn: Axes = plot_labels(scores, cell_edges(*spans.T), title=f"{Path(self.path).name} · {self.model}", axes=axes)
        return drawn

    def _repr_html_(self) -> str:
        clips = [(clip.start, clip.end, [(each.label, each.score) for each in clip.labels]) for clip in self.clips]
        summary = (self.path, self.model, time_range(self.clips), self.status)
        problem = None if self.error is None else self.error.describe(self.status)
        return prediction_html(summary, problem, [(each.label, each.score) for each in self.labels], clips)


@dataclass(frozen=True)
class Shot:
    """Frames of one take, from one transition to the next; frame numbers count from 0, from the `start` that was asked for."""

    start: float  # of the first frame, in seconds of the stream's presentation times
    end: float  # of the end of the last frame, likewise
    first_frame: int
    last_frame: int
    transition: Transition  # to the next shot; "end": the video ends
    score: float | None  # highest probability of a frame of the transition, from 0 to 1; None at the end of the video


@dataclass(frozen=True)
class ShotList:
    """The shots of a video in order. Frames between two shots, within a transition, belong to none.

    `probabilities` has two numbers for each frame: that it is the middle of a transition, and that it is part of one. It is
    None for shots that were read from a folder.

    Example:
        >>> shots = ig65m.detect_shots("video.mp4")
        >>> [(shot.start, shot.end, shot.transition) for shot in shots.shots]
        [(0.0, 3.0, 'end')]
    """

    path: str
    status: Status
    shots: tuple[Shot, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)  # what found them: network, sha256 of its weights, threshold
    error: Failure | None = None
    frames: int = 0  # number of frames that were read, those of no shot included
    probabilities: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)  # (frames, 2)

    @property
    def fps(self) -> float:
        """Mean rate in frames a second; 0 without shots."""
        if not self.shots or self.shots[0].start == self.shots[-1].end:
            return 0.0
        first, last = self.shots[0], self.shots[-1]
        return (last.last_frame + 1 - first.first_frame) / (last.end - first.start)


@dataclass(frozen=True)
class Speeds:
    """A number for each move of a camera, all a second.

    Example:
        >>> ig65m.Speeds(pan=0.14, tilt=0.0, zoom=0.02, roll=0.0).pan
        0.14
    """

    pan: float  # in picture widths; positive to the right, so that the content moves left
    tilt: float  # in picture heights; positive up, so that the content moves down
    zoom: float  # natural logarithm of the magnification; positive in, so that the content grows
    roll: float  # in degrees; positive clockwise, so that the content turns counter-clockwise


@dataclass(frozen=True)
class ClipMotion:
    """What the camera does in one clip."""

    start: float  # of the first frame, in seconds of the stream's presentation times
    end: float  # of the end of the last frame, likewise
    speeds: Speeds
    sigma: Speeds  # standard deviations of the speeds
    static: float  # probability that the camera stands still
    shake: float  # probability that the camera shakes, as in a hand
    cut: float  # probability of a cut or dissolve inside the clip
    parallax: float  # probability that near things move differently from far ones, since the camera changes its place
    label: str  # one of the nine labels of r2plus1d_10_camera_motion


@dataclass(frozen=True)
class Move:
    """One move of a camera."""

    move: str  # "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out", "roll_clockwise", ...
    speed: float  # positive, in the unit of `Speeds`
    sigma: float  # standard deviation of the speed


@dataclass(frozen=True)
class MotionSegment:
    """A part of a video in which the camera does the same; without moves it stands still, or shakes."""

    start: float  # in seconds
    end: float
    moves: tuple[Move, ...]  # fastest first, measured at the edge of the picture
    static: float  # mean probabilities of its clips
    shake: float
    cut: float
    parallax: float


@dataclass(frozen=True)
class CameraMotion:
    """What the camera does in a video: clip by clip, and put together to segments."""

    path: str
    status: Status
    segments: tuple[MotionSegment, ...]  # in order, without gaps but for damage
    clips: tuple[ClipMotion, ...]  # in order; they overlap
    settings: Mapping[str, Any] = field(default_factory=dict)  # what found them: network, sha256 of its weights
    error: Failure | None = None
