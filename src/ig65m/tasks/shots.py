"""Shots of videos: `ig65m.detect_shots` and `ig65m.detect_shots_many`."""

from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from typing import Any, Final

import numpy as np

from ig65m.engines.choice import EngineName, choose
from ig65m.errors import IgError
from ig65m.shots.boundaries import THRESHOLD, check_threshold, shots_of
from ig65m.shots.detect import PIXELS, good_frames, transition_scores
from ig65m.shots.network import NAME, ShotNetwork, load_network
from ig65m.tasks.failures import raise_if_failed
from ig65m.tasks.sources import check_several, path_of, samples_of
from ig65m.types import Failure, Limits, ShotList, check_image_fps, status_of
from ig65m.video.clips import Source, check_source
from ig65m.video.isolation import Decoder, prepare
from ig65m.video.sample import Pixels, Sample
from ig65m.video.sampling import Sampling

OnFrame = Callable[[Source, float], None]

_EVERY: Final = 25  # frames from one call of `on_frame` to the next


def detect_shots(
    video: Source,
    *,
    threshold: float | None = 0.5,
    device: str | None = "cpu",
    engine: EngineName | None = None,
    threads: int | None = None,
    image_fps: float | None = 25.0,
    limits: Limits | None = None,
    in_process: bool | None = False,
    on_engine: Callable[[str], None] | None = None,
) -> ShotList:
    """Find the shots of one video with TransNetV2; needs the weights of the extra `ig65m[shots]`.

    Args:
        video: A video file, a folder of images, `ig65m.Frames` (frames in memory) or `ig65m.Segment` (a part of a video).
        threshold: Probability above which a frame is the middle of a transition.
        device: "cpu", "cuda" or "cuda:1".
        engine: "openvino", "onnxruntime" or "pytorch". Default: OpenVINO on a CPU, PyTorch on a GPU.
        threads: Threads of the engine. Default: one for each core.
        image_fps: Frame rate of a folder of images, in frames a second.
        limits: What one video may cost in pixels, frames, memory and seconds. Default: `ig65m.Limits()`.
        in_process: Decode in this process instead of a worker process. A video that crashes the decoder then ends the program.
        on_engine: Called once with a line that names the engine, its version, precision and device.

    Returns:
        ShotList: `shots` in order, with times in seconds and frame numbers; `status` "ok" or "partial".

    Raises:
        VideoError: Nothing of the video can be read. If it breaks off, the list has status "partial".
        UsageError: An argument is out of range, or the weights are not installed.
        CheckpointError: The file of the weights is damaged.

    Example:
        >>> shots = ig65m.detect_shots("video.mp4")
        >>> [(shot.start, shot.end, shot.transition) for shot in shots.shots]
        [(0.0, 3.0, 'end')]
    """
    check_source(video)
    arguments = {name: value for name, value in locals().items() if name != "video"}
    return raise_if_failed(next(detect_shots_many([video], **arguments)))


def detect_shots_many(
    videos: Iterable[Source],
    *,
    threshold: float | None = 0.5,
    device: str | None = "cpu",
    engine: EngineName | None = None,
    threads: int | None = None,
    image_fps: float | None = 25.0,
    limits: Limits | None = None,
    in_process: bool | None = False,
    on_engine: Callable[[str], None] | None = None,
    on_frame: OnFrame | None = None,
) -> Iterator[ShotList]:
    """Yield the shots of each video, in order.

    A video that cannot be read has no shots, status "failed", and an error that says why; the others go on.

    Args:
        videos: Video files, folders of images, `ig65m.Frames` or `ig65m.Segment`s.
        on_frame: Called with the source and the time in seconds that is reached, about once a second of video.

    Other parameters and errors are those of `detect_shots`.

    Example:
        >>> for shots in ig65m.detect_shots_many(["video.mp4", "missing.mp4"]):
        ...     print(shots.path, shots.status, len(shots.shots))
        video.mp4 ok 1
        missing.mp4 failed 0
    """
    check_several(videos)
    threshold = THRESHOLD if threshold is None else threshold
    check_threshold(threshold)
    image_fps = 25.0 if image_fps is None else image_fps
    check_image_fps(image_fps)
    limits = limits or Limits()
    if not in_process:
        prepare(limits)
    network = load_network(choose(engine, None, device or "cpu", threads))
    if on_engine is not None:
        on_engine(network.engine)
    decoder = nullcontext() if in_process else Decoder(limits)
    return _detect(
        videos,
        network,
        threshold,
        on_frame,
        decoder,
        partial(samples_of, sampling=Sampling(frames=1), preprocessing=PIXELS, image_fps=image_fps, limits=limits),
    )


def shot_settings(sha256: str, threshold: float) -> dict[str, Any]:
    """Return all that the shots of a video depend on besides the video."""
    return {"network": NAME, "sha256": sha256, "threshold": threshold}


def _detect(
    videos: Iterable[Source],
    network: ShotNetwork,
    threshold: float,
    on_frame: OnFrame | None,
    decoding: AbstractContextManager[Decoder | None],
    read: Callable[[Source, Decoder | None], Generator[Sample, None, None]],
) -> Iterator[ShotList]:
    settings = shot_settings(network.sha256, threshold)
    with decoding as decoder:
        for video in videos:
            frames = _Frames(video, partial(read, video, decoder), on_frame)
            scores = array("d")
            for row in transition_scores(frames.pictures(), network.probabilities):
                scores.extend(row)
            middle, part, decisive = np.array(scores).reshape(-1, 3).T
            shots = shots_of(np.array(frames.times).reshape(-1, 2), decisive, part, threshold)
            status = status_of(frames.failure, some=bool(shots))
            probabilities = np.stack([middle, part], 1).astype(np.float32)
            yield ShotList(path_of(video), status, shots, settings, frames.failure, len(middle), probabilities)


class _Frames:
    """The frames of a video; once they are read, `times` has start and end of each, and `failure` why there are no more."""

    def __init__(self, video: Source, read: Callable[[], Generator[Sample, None, None]], on_frame: OnFrame | None) -> None:
        self.times = array("d")  # start and end of each frame, in sequence
        self.failure: Failure | None = None
        self._video, self._read, self._on_frame = video, read, on_frame

    def pictures(self) -> Iterator[Pixels]:
        """Yield the pixels of each frame."""
        try:
            with closing(self._read()) as samples:
                for sample, picture in good_frames(samples, lambda each: each.pixels):
                    self.times.extend((sample.time, sample.end))
                    if self._on_frame is not None and len(self.times) % (2 * _EVERY) == 0:
                        self._on_frame(self._video, sample.time)
                    yield picture
        except (IgError, OSError) as error:
            self.failure = Failure.of("decode", error)
