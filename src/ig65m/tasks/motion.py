"""Camera motion of videos: `ig65m.estimate_motion` and `ig65m.estimate_motion_many`."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.engines.choice import EngineName, choose
from ig65m.motion.chunks import PIXELS, SAMPLING, ChunkSpan, chunks_of
from ig65m.motion.estimate import Estimate
from ig65m.motion.network import AT_ONCE, NAME, MotionNetwork, load_network
from ig65m.pipeline import ClipResult, run_clips
from ig65m.tasks.failures import raise_if_failed
from ig65m.tasks.sources import check_several, path_of, samples_of
from ig65m.types import CameraMotion, Limits, check_image_fps, status_of
from ig65m.video.clips import Source, check_source
from ig65m.video.isolation import Decoder, prepare
from ig65m.video.sample import Sample

OnFrame = Callable[[Source, float], None]


def estimate_motion(
    video: Source,
    *,
    device: str | None = "cpu",
    engine: EngineName | None = None,
    threads: int | None = None,
    image_fps: float | None = 25.0,
    limits: Limits | None = None,
    in_process: bool | None = False,
    on_engine: Callable[[str], None] | None = None,
) -> CameraMotion:
    """Estimate what the camera does in one video, with a network that is part of the package.

    Args:
        video: A video file, a folder of images, `ig65m.Frames` (frames in memory) or `ig65m.Segment` (a part of a video).
        device: "cpu", "cuda" or "cuda:1".
        engine: "openvino", "onnxruntime" or "pytorch". Default: OpenVINO on a CPU, PyTorch on a GPU.
        threads: Threads of the engine. Default: one for each core.
        image_fps: Frame rate of a folder of images, in frames a second.
        limits: What one video may cost in pixels, frames, memory and seconds. Default: `ig65m.Limits()`.
        in_process: Decode in this process instead of a worker process. A video that crashes the decoder then ends the program.
        on_engine: Called once with a line that names the engine, its version, precision and device.

    Returns:
        CameraMotion: `clips` of 15 frames, one every 8 frames, with signed speeds, their standard deviations, and
            probabilities; `segments`, in which the camera does the same; `status` "ok" or "partial".

    Raises:
        VideoError: Nothing of the video can be read. If it breaks off, or frames are lost, the motion has status "partial".
        UsageError: An argument is out of range.

    Example:
        >>> motion = ig65m.estimate_motion("video.mp4")
        >>> [(segment.start, segment.end, segment.moves) for segment in motion.segments]
        [(0.0, 3.0, ())]
    """
    check_source(video)
    arguments = {name: value for name, value in locals().items() if name != "video"}
    return raise_if_failed(next(estimate_motion_many([video], **arguments)))


def estimate_motion_many(
    videos: Iterable[Source],
    *,
    device: str | None = "cpu",
    engine: EngineName | None = None,
    threads: int | None = None,
    image_fps: float | None = 25.0,
    limits: Limits | None = None,
    in_process: bool | None = False,
    on_engine: Callable[[str], None] | None = None,
    on_frame: OnFrame | None = None,
) -> Iterator[CameraMotion]:
    """Yield what the camera does in each video, in order.

    A video that cannot be read has no clips, status "failed", and an error that says why; the others go on.

    Args:
        videos: Video files, folders of images, `ig65m.Frames` or `ig65m.Segment`s.
        on_frame: Called with the source and the time in seconds that is reached, about twice a second of video.

    Other parameters and errors are those of `estimate_motion`.

    Example:
        >>> for motion in ig65m.estimate_motion_many(["video.mp4", "missing.mp4"]):
        ...     print(motion.path, motion.status, len(motion.clips))
        video.mp4 ok 9
        missing.mp4 failed 0
    """
    check_several(videos)
    image_fps = 25.0 if image_fps is None else image_fps
    check_image_fps(image_fps)
    limits = limits or Limits()
    if not in_process:
        prepare(limits)
    network = load_network(choose(engine, None, device or "cpu", threads))
    if on_engine is not None:
        on_engine(network.engine)
    read = partial(samples_of, sampling=SAMPLING, preprocessing=PIXELS, image_fps=image_fps, limits=limits)
    return _estimate(videos, network, on_frame, nullcontext() if in_process else Decoder(limits), read)


def motion_settings(sha256: str) -> dict[str, Any]:
    """Return all that the camera motion of a video depends on besides the video."""
    return {"network": NAME, "sha256": sha256}


def _estimate(
    videos: Iterable[Source],
    network: MotionNetwork,
    on_frame: OnFrame | None,
    decoding: AbstractContextManager[Decoder | None],
    read: Callable[[Source, Decoder | None], Generator[Sample, None, None]],
) -> Iterator[CameraMotion]:
    settings = motion_settings(network.weights.sha256)

    def engine(pixels: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        alignments = network.run(pixels)
        return alignments.reshape(len(pixels), -1, alignments.shape[1]), np.zeros((len(pixels), 0), np.float32)

    with decoding as decoder:
        interrupt = None if decoder is None else decoder.interrupt
        results = run_clips(
            videos, lambda video: chunks_of(read(video, decoder)), engine, batch_size=AT_ONCE, interrupt=interrupt
        )
        with closing(results):
            estimate = Estimate(network.weights)
            for item in results:
                if isinstance(item, ClipResult):
                    assert isinstance(item.span, ChunkSpan)
                    estimate.add(item.features, item.span)
                    if on_frame is not None:
                        on_frame(item.source, item.span.start)
                    continue
                clips, segments = estimate.finish()
                status = status_of(item.error, some=bool(clips))
                yield CameraMotion(path_of(item.source), status, segments, clips, settings, item.error)
                estimate = Estimate(network.weights)
