"""Features of videos: `ig65m.extract` and `ig65m.extract_many`."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ig65m.engines.base import Pooling, Precision
from ig65m.engines.choice import EngineName
from ig65m.store.features import Features
from ig65m.tasks.extractor import Extractor, OnClip
from ig65m.tasks.options import Resizing
from ig65m.tasks.sources import as_source, check_several
from ig65m.types import Limits
from ig65m.video.clips import Source
from ig65m.video.sampling import Tail

if TYPE_CHECKING:
    from ig65m.models.network import Network


def extract(
    video: Source | NDArray[np.uint8],
    *,
    model: "str | os.PathLike[str] | Network | None" = None,
    pooling: Pooling | None = None,
    layer: str | None = None,
    logits: bool | None = False,
    top_k: int | None = None,
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
) -> Features:
    """Extract features of one video: a row for each clip, from before the last layer.

    Args:
        video: A video file, a folder of images, `ig65m.Frames` (frames in memory) or `ig65m.Segment` (a part of a video).
        model: A name of `ig65m.list_models()`, a model file, or a network of `ig65m.load_model`.
            Default: "r2plus1d_34_32_ig65m".
        pooling: How feature maps become a row. Default: their mean over space and time.
        layer: Layer whose output becomes features: "stem", "layer1" to "layer4", or the path of any module up to the feature
            maps, such as "layer3.0.conv1". Default: features from before the last layer.
        logits: Whether to add the logits of each clip.
        top_k: Add as many best labels to each clip. Default: none.
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
        Features: `array` (clips, C) float32, `spans` with start and end of each clip in seconds, `status` "ok" or "partial".

    Raises:
        VideoError: Nothing of the video can be read. If it breaks off, the features have status "partial".
        UsageError: An argument is out of range, or does not fit the network or the video.
        ModelError: There is no such model, or it cannot be used so.
        CheckpointError: The model file is damaged, unsafe, or not a network.
        DownloadError: The weights cannot be downloaded.

    Example:
        >>> features = ig65m.extract("video.mp4", model="r2plus1d_10_camera_motion")
        >>> features.array.shape, features.spans[0].end
        ((5, 128), 0.6)
    """
    source, fps = as_source(video, fps)
    arguments = {name: value for name, value in locals().items() if name not in ("video", "source")}
    return Extractor(**arguments).extract(source)


def extract_many(
    videos: Iterable[Source],
    *,
    model: "str | os.PathLike[str] | Network | None" = None,
    pooling: Pooling | None = None,
    layer: str | None = None,
    logits: bool | None = False,
    top_k: int | None = None,
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
) -> Iterator[Features]:
    """Yield the features of each video, in order; clips of several videos share batches.

    A video that cannot be read has no rows, status "failed", and an error that says why; the others go on.

    Args:
        videos: Video files, folders of images, `ig65m.Frames` or `ig65m.Segment`s.
        on_clip: Called with source and span of each clip that is done.

    Other parameters and errors are those of `extract`.

    Example:
        >>> for features in ig65m.extract_many(["video.mp4", "missing.mp4"], model="r2plus1d_10_camera_motion"):
        ...     print(features.path, features.status, features.array.shape)
        video.mp4 ok (5, 128)
        missing.mp4 failed (0, 128)
    """
    check_several(videos)
    arguments = {name: value for name, value in locals().items() if name not in ("videos", "on_clip")}
    return Extractor(**arguments).extract_many(videos, on_clip=on_clip)
