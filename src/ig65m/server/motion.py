"""Camera motion of a video as a response model."""

from pathlib import Path
from typing import Final

from ig65m import types
from ig65m.errors import UsageError, VideoError
from ig65m.motion.describe import describe_moves
from ig65m.motion.folder import MotionFolder
from ig65m.search.videos import IndexedVideo
from ig65m.server.catalogue import shown
from ig65m.server.errors import no_motion
from ig65m.server.schemas import CameraMotion, ClipMotion, MotionSegment

_NO_FOLDER: Final = "this service has no folder of camera motion; `ig65m serve --motion FOLDER` gives it one"
_NO_RECORD: Final = (
    "the service has no camera motion of this video, or it is damaged or of an earlier version of the video; "
    "`ig65m motion VIDEO --output FOLDER` writes it"
)
_FAILED: Final = "the camera motion of this video could not be found; `ig65m motion VIDEO` says why"


def camera_motion(folder: MotionFolder | None, video: IndexedVideo, file: Path) -> CameraMotion:
    """Return the camera motion of a video with that file. Raises ApiError 404 if there is none."""
    if folder is None:
        raise no_motion(_NO_FOLDER)
    try:
        found = folder.read(file)
    except UsageError:
        raise no_motion(_NO_RECORD) from None
    except VideoError:
        raise no_motion(_FAILED) from None
    return CameraMotion(
        id=video.video,
        title=shown(video.title),
        status=found.status,
        segments=[_segment(each) for each in found.segments],
        clips=[_clip(each) for each in found.clips],
    )


def _segment(segment: types.MotionSegment) -> MotionSegment:
    values = vars(segment) | {"moves": [vars(move) for move in segment.moves], "text": describe_moves(segment)}
    return MotionSegment(**values)


def _clip(clip: types.ClipMotion) -> ClipMotion:
    values = vars(clip) | vars(clip.speeds) | {"sigma": vars(clip.sigma)}  # asdict would copy deeply, which takes far longer
    del values["speeds"]
    return ClipMotion(**values)
