"""What the functions for one video raise for its failure."""

from typing import TypeVar

from ig65m.errors import VideoError
from ig65m.store.features import Features
from ig65m.types import CameraMotion, Failure, Prediction, ShotList

R = TypeVar("R", Prediction, Features, ShotList, CameraMotion)


def raise_if_failed(result: R) -> R:
    """Return the result. Raises VideoError if nothing of the video could be read."""
    if result.status == "failed":
        raise_failure(result.error)
    return result


def raise_failure(failure: Failure | None) -> None:
    """Raise VideoError for a failure."""
    if failure is not None:
        raise VideoError(failure.message, last_good_time=failure.last_good_time, gaps=failure.gaps)
