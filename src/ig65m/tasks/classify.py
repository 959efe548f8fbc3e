"""Labels of videos: `ig65m.classify`, `ig65m.classify_many` and `ig65m.classify_clips`."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.engines.base import Precision
from ig65m.engines.choice import EngineName
from ig65m.pipeline import ClipResult, VideoEnd
from ig65m.tasks.classifier import Classifier
from ig65m.tasks.extractor import OnClip
from ig65m.tasks.failures import raise_failure, raise_if_failed
from ig65m.tasks.follow import Followed, follow
from ig65m.tasks.options import Options, Resizing
from ig65m.tasks.scoring import check_threshold, check_top_k, predict, predict_clip
from ig65m.tasks.sources import as_source, check_several
from ig65m.types import ClipPrediction, Limits, Prediction
from ig65m.video.clips import Source, check_spread
from ig65m.video.sampling import Tail
from ig65m.video.stream import Stream
from ig65m.zoo.labels import read_labels

if TYPE_CHECKING:
    from ig65m.models.network import Network

DEFAULT_CLASSIFIER: Final = "r2plus1d_34_32_kinetics"


def classify(
    video: Source | NDArray[np.uint8],
    *,
    model: "str | os.PathLike[str] | Network | None" = None,
    top_k: int | None = 5,
    threshold: float | None = None,
    labels: str | os.PathLike[str] | None = None,
    clips: int | None = None,
    crops: int | None = 1,
    full: bool | None = False,
    frames: int | None = None,
    frame_step: int | None = None,
    stride: int | None = None,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    tail: Tail | None = "pad",
    within_shots: bool | str | os.PathLike[str] | None = False,
    preprocessing: Resizing | None = None,
    batch_size: int | None = None,
    device: str | None = "cpu",
    engine: EngineName | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    image_fps: float | None = 25.0,
    limits: Limits | None = None,
    in_process: bool | None = False,
    on_engine: Callable[[str], None] | None = None,
) -> Prediction:
    """Classify one video: labels for each of its clips, and for the whole as the mean over the clips.

    Args:
        video: A video file, a folder of images, `ig65m.Frames` (frames in memory) or `ig65m.Segment` (a part of a video).
        model: A name of `ig65m.list_models()`, a model file, or a network of `ig65m.load_model`.
            Default: "r2plus1d_34_32_kinetics".
        top_k: Number of labels for the video and for each clip, best first.
        threshold: Leave out labels with a lower score. Default: none is left out.
        labels: File of a JSON array with a name for each class, or "kinetics400". Default: the card's labels.
        clips: Number of clips, spread evenly over the video instead of one after the other; VMZ tested with 10.
        crops: Number of crops along the longer edge of the picture, whose scores are averaged; VMZ tested CSN with 3.
        full: Whether to keep the full shorter edge and run the network fully convolutionally, as VMZ tested. Scores of a clip
            then sum to 1/places.
        frames: Frames in a clip. Default: the card's.
        frame_step: Frames from one frame of a clip to the next; 2 takes every second one. Default: the card's.
        stride: Frames from one clip's start to the next. Default: the clip's span, so that clips follow each other.
        fps: Rate in frames a second at which the video is sampled; `frame_step` and `stride` then count sampled frames.
            Default: the card's, which for most is every frame of the video.
        start: Where to start, in seconds of the stream's presentation times.
        end: Where to end, in seconds of the stream's presentation times.
        tail: What happens to a last clip that is short of frames: "pad" repeats its last frame, "drop" leaves it out.
        within_shots: Whether no clip crosses from one shot to the next; each shot then has clips as if it were a video of its
            own. True finds the shots on the way, with the weights of the extra `ig65m[shots]`. A path is a folder of
            `ig65m shots`, which has the shots already.
        preprocessing: How frames are resized: "vmz", "ig65m-pytorch" (its first version), or whole pictures as in its later
            `extract`: "ig65m-pytorch-2020", or "ig65m-pytorch-2020-torch1.3" for PyTorch before 1.6. Default: as the card says.
        batch_size: Clips that go through the network together. Default: 1 on a CPU, 8 on a GPU.
        device: "cpu", "cuda" or "cuda:1".
        engine: "openvino", "onnxruntime" or "pytorch". Default: OpenVINO on a CPU, PyTorch on a GPU.
        precision: "fp32", "bf16", "fp16" or "int8". Default: "int8" for a quantised model; otherwise "fp32" on a CPU, and on a
            GPU the fastest whose features agree with float32.
        threads: Threads of the engine. Default: one for each core.
        image_fps: Frame rate of a folder of images, in frames a second.
        limits: What one video may cost in pixels, frames, memory and seconds. Default: `ig65m.Limits()`.
        in_process: Decode in this process instead of a worker process. A video that crashes the decoder then ends the program.
        on_engine: Called once with a line that names the engine, its version, precision and device.

    Returns:
        Prediction: `labels` of the video and of each of its `clips`, with start and end in seconds; `status` "ok" or "partial".

    Raises:
        VideoError: Nothing of the video can be read. If it breaks off, the prediction has status "partial".
        UsageError: An argument is out of range, or does not fit the network or the video.
        ModelError: There is no such model, or it cannot be used so.
        CheckpointError: The model file is damaged, unsafe, or not a network.
        DownloadError: The weights cannot be downloaded.

    Example:
        >>> prediction = ig65m.classify("video.mp4", model="r2plus1d_10_camera_motion")
        >>> prediction.labels[0].label, prediction.clips[0].start, prediction.clips[0].end
        ('static', 0.0, 0.6)
    """
    source, fps = as_source(video, fps)
    if clips is not None:
        check_spread(source, clips)
    return raise_if_failed(next(_Predictor(locals()).videos([source], None)))


def classify_many(
    videos: Iterable[Source],
    *,
    model: "str | os.PathLike[str] | Network | None" = None,
    top_k: int | None = 5,
    threshold: float | None = None,
    labels: str | os.PathLike[str] | None = None,
    clips: int | None = None,
    crops: int | None = 1,
    full: bool | None = False,
    frames: int | None = None,
    frame_step: int | None = None,
    stride: int | None = None,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    tail: Tail | None = "pad",
    within_shots: bool | str | os.PathLike[str] | None = False,
    preprocessing: Resizing | None = None,
    batch_size: int | None = None,
    device: str | None = "cpu",
    engine: EngineName | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    image_fps: float | None = 25.0,
    limits: Limits | None = None,
    in_process: bool | None = False,
    on_engine: Callable[[str], None] | None = None,
    on_clip: OnClip | None = None,
) -> Iterator[Prediction]:
    """Yield the prediction for each video, in order; clips of several videos share batches.

    A video that cannot be read has status "failed" and an error that says why; the others go on.

    Args:
        videos: Video files, folders of images, `ig65m.Frames` or `ig65m.Segment`s.
        on_clip: Called with source and span of each clip that is done.

    Other parameters and errors are those of `classify`.

    Example:
        >>> for prediction in ig65m.classify_many(["video.mp4", "missing.mp4"], model="r2plus1d_10_camera_motion"):
        ...     print(prediction.path, prediction.status, len(prediction.clips))
        video.mp4 ok 5
        missing.mp4 failed 0
    """
    check_several(videos)
    return _Predictor(locals()).videos(videos, on_clip)


def classify_clips(
    video: Source | NDArray[np.uint8],
    *,
    model: "str | os.PathLike[str] | Network | None" = None,
    top_k: int | None = 5,
    threshold: float | None = None,
    labels: str | os.PathLike[str] | None = None,
    clips: int | None = None,
    crops: int | None = 1,
    full: bool | None = False,
    frames: int | None = None,
    frame_step: int | None = None,
    stride: int | None = None,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    tail: Tail | None = "pad",
    within_shots: bool | str | os.PathLike[str] | None = False,
    preprocessing: Resizing | None = None,
    batch_size: int | None = None,
    device: str | None = "cpu",
    engine: EngineName | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    image_fps: float | None = 25.0,
    limits: Limits | None = None,
    in_process: bool | None = False,
    on_engine: Callable[[str], None] | None = None,
) -> Iterator[ClipPrediction]:
    """Yield the prediction for each clip of one video as soon as it is computed; memory does not grow with the video.

    Parameters and errors are those of `classify`. A video that breaks off raises VideoError after its last clip.

    Example:
        >>> for clip in ig65m.classify_clips("video.mp4", model="r2plus1d_10_camera_motion", top_k=1):
        ...     print(f"{clip.start:.1f} to {clip.end:.1f} s: {clip.labels[0].label}")
        0.0 to 0.6 s: static
        0.6 to 1.2 s: static
        1.2 to 1.8 s: static
        1.8 to 2.4 s: static
        2.4 to 3.0 s: static
    """
    source, fps = as_source(video, fps)
    if clips is not None:
        check_spread(source, clips)
    return _Predictor(locals()).clips(source)


class LabelFollower:
    """A loaded network that labels the clips of a stream as they come."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Load what the arguments of `classify` ask for."""
        self._predictor = _Predictor(arguments)
        self.model = self._predictor.card.name

    def clips(
        self,
        stream: Stream,
        followed: Followed,
        *,
        stopping: Callable[[], bool],
        on_news: Callable[[str], None] | None = None,
    ) -> Generator[ClipPrediction, None, None]:
        """Yield the prediction for each clip, as `follow` computes them."""
        own = self._predictor
        run, crops_each = own.classifier.run, own.classifier.crops
        results = follow(run.resolved, run.engine, stream, followed, crops=crops_each, stopping=stopping, on_news=on_news)
        with closing(results):
            for crops in results:
                yield predict_clip(crops, own.card, own.top_k, own.threshold)


class _Predictor:
    """A loaded network whose class scores become labels."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Load what the arguments of a `classify` function ask for."""
        model, top_k = arguments["model"], arguments["top_k"]
        self.top_k = 5 if top_k is None else top_k
        self.threshold = 0.0 if arguments["threshold"] is None else arguments["threshold"]
        check_top_k(self.top_k)
        check_threshold(self.threshold)
        labels = None if arguments["labels"] is None else read_labels(os.fspath(arguments["labels"]))
        options = Options.of({**arguments, "model": DEFAULT_CLASSIFIER if model is None else model})
        how = {name: arguments[name] for name in ("clips", "crops", "full")}
        self.classifier = Classifier(options, labels=labels, **how)
        self.card = self.classifier.card

    def videos(self, sources: Iterable[Source], on_clip: OnClip | None) -> Iterator[Prediction]:
        """Yield the prediction for each video; `on_clip` is called after the last crop of each clip."""
        results = self.classifier.videos(sources, on_clip)
        return (predict(result, self.card, self.top_k, self.classifier.crops, self.threshold) for result in results)

    def clips(self, source: Source) -> Iterator[ClipPrediction]:
        """Yield the prediction for each clip. Raises VideoError after the last one if the video breaks off."""
        crops: list[ClipResult] = []
        with closing(self.classifier.run.clips(source)) as results:
            for result in results:
                if isinstance(result, VideoEnd):
                    raise_failure(result.error)
                    return
                crops.append(result)
                if len(crops) == self.classifier.crops:
                    yield predict_clip(crops, self.card, self.top_k, self.threshold)
                    crops = []
