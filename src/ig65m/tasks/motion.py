"""Camera motion of videos: `ig65m.estimate_motion` and `ig65m.estimate_motion_many`."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ig65m.engines.choice import EngineName
from ig65m.tasks.failures import raise_if_failed
from ig65m.types import CameraMotion, Limits
from ig65m.video.clips import Source, check_source

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
    """Estimate what the camera does in one video."""
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
    """Yield what the camera does in each video, in order."""
    raise NotImplementedError


def motion_settings(sha256: str) -> dict[str, Any]:
    """Return all that the camera motion of a video depends on besides the video."""
    return {"network": "motion_field", "sha256": sha256}
