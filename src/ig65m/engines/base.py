"""The interface of all engines: batches of clips in, features and logits out."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import ModelError, UsageError, check_choice
from ig65m.models.layer_names import find_layer
from ig65m.models.spec import C3DSpec, Spec
from ig65m.types import FLOAT_RESAMPLINGS, MAX_BATCH, Preprocessing
from ig65m.video.geometry import resized_size

Reduction = Literal["mean", "max", "none"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Pooling:
    """How feature maps (C, T', H', W') are reduced to features: over space first, then over time.

    "none" keeps the axes. Raises UsageError for another reduction.

    Example:
        >>> features = ig65m.extract("video.mp4", model="r2plus1d_10_camera_motion", pooling=ig65m.Pooling("mean", "none"))
        >>> features.array.shape
        (5, 128, 1)
    """

    spatial: Reduction = "mean"
    temporal: Reduction = "mean"

    def __post_init__(self) -> None:
        for value in (self.spatial, self.temporal):
            check_choice("pooling", value, get_args(Reduction))


@dataclass(frozen=True, kw_only=True)
class Work:
    """What an engine computes for each clip: features, pooled as `pooling` says, and logits.

    With a `window` (height, width), the network runs fully convolutionally: there are logits for each position of the window
    in the feature maps. With a `layer`, a name of `layer_names.py`, the features are the output of that module.
    """

    preprocessing: Preprocessing
    frames: int
    batch_size: int = 1
    pooling: Pooling = field(default_factory=Pooling)
    window: tuple[int, int] | None = None
    layer: str | None = None
    logits: bool = True  # whether logits are computed, if the network has classes

    def __post_init__(self) -> None:
        check_batch(self.batch_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a batch: (N, T, H, W, 3); whole pictures, whose size depends on the video, are taken for 16:9."""
        return (self.batch_size, self.frames, *(self.preprocessing.crop or resized_size(self.preprocessing, 9, 16)), 3)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of pixels: uint8, or float32 if frames are resized in float."""
        return np.dtype(np.float32 if self.preprocessing.resampling in FLOAT_RESAMPLINGS else np.uint8)


class Engine(Protocol):
    """Runs a network. `name` is the library and its version."""

    name: str
    precision: Precision
    device: str

    def __call__(self, clips: NDArray[Any]) -> Arrays:
        """Compute RGB clips on 0..255 (N, T, H, W, 3): features (N, C, ...), and logits (N, classes) or (N, classes, places),
        float32.

        N is at most the batch size; results do not depend on it. Raises ModelError if a result is not finite.
        """
        ...


def check_batch(size: int) -> None:
    """Raise UsageError unless batches can have that many clips."""
    if not 1 <= size <= MAX_BATCH:
        raise UsageError(f"the batch size must be from 1 to {MAX_BATCH}, got {size}")


def check_work(spec: Spec, work: Work) -> None:
    """Raise UsageError if the network cannot do the work."""
    if spec.in_channels != 3:
        raise UsageError(f"a {spec} takes {spec.in_channels} channels of optical flow; engines take RGB only")
    if work.layer is not None:
        find_layer(spec, work.layer)
    elif isinstance(spec, C3DSpec) and (work.pooling != Pooling() or work.window is not None):
        raise UsageError("C3D ends in fully connected layers, so its feature maps cannot be pooled or slid over")
    if isinstance(spec, C3DSpec) and work.preprocessing.crop is None:
        raise UsageError(f"C3D takes pictures of {spec.clip_size[0]}x{spec.clip_size[1]} only, not whole ones")


def padded(clips: NDArray[Any], size: int) -> NDArray[Any]:
    """Pad a batch to `size` clips, so that all batches have the same shape."""
    if len(clips) == size:
        return clips
    return np.concatenate([clips, np.zeros((size - len(clips), *clips.shape[1:]), clips.dtype)])


def finished(features: NDArray[np.float32], logits: NDArray[np.float32], count: int) -> Arrays:
    """Return the first `count` rows of an engine's outputs; class maps become (N, classes, places). Raises ModelError if not
    finite.
    """
    features, logits = features[:count], logits[:count]
    if logits.ndim == 5:
        logits = logits.reshape(*logits.shape[:2], -1)
    if not (np.isfinite(features).all() and np.isfinite(logits).all()):
        raise ModelError("the network computes numbers that are not finite; its weights are damaged or were never trained")
    return features, logits
