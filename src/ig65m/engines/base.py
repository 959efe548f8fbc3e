"""The interface of all engines: batches of clips in, features and logits out."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ig65m.errors import ModelError, UsageError, check_choice
from ig65m.models.c3d import C3D
from ig65m.models.network import Network
from ig65m.onnx_graph import Graph, add_class_map, add_head, add_maps, add_pixels
from ig65m.types import MAX_BATCH, Preprocessing

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
    in the feature maps.
    """

    preprocessing: Preprocessing
    frames: int
    batch_size: int = 1
    pooling: Pooling = field(default_factory=Pooling)
    window: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_batch(self.batch_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a batch: (N, T, H, W, 3)."""
        return (self.batch_size, self.frames, *self.preprocessing.crop, 3)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of pixels: uint8, or float32 if frames are resized in float."""
        return np.dtype(np.float32 if self.preprocessing.resampling == "float_bilinear" else np.uint8)


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


def check_work(model: Network, work: Work) -> None:
    """Raise UsageError if the network cannot do the work."""
    if model.spec.in_channels != 3:
        raise UsageError(f"a {model.spec} takes {model.spec.in_channels} channels of optical flow; engines take RGB only")
    if isinstance(model, C3D) and (work.pooling != Pooling() or work.window is not None):
        raise UsageError("C3D ends in fully connected layers, so its feature maps cannot be pooled or slid over")


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


@contextmanager
def graph_file(model: Network, work: Work, *, free_weights: bool = False) -> Iterator[Path]:
    """Write the graph of `graph_of` and its weights to temporary files, until the block ends.

    With `free_weights`, the network's own weights are freed then.
    """
    with tempfile.TemporaryDirectory(prefix="ig65m-") as folder:
        path = Path(folder) / "graph.onnx"
        beside = path.with_name("weights.bin")
        try:
            with beside.open("wb") as weights:
                graph = graph_of(model, work, weights)
        except OSError as error:
            error.filename = str(beside)
            raise
        path.write_bytes(graph.SerializeToString())
        if free_weights:
            model.to("meta")
        yield path


def graph_of(model: Network, work: Work, weights: BinaryIO | None = None) -> onnx.ModelProto:
    """Return the network as a graph for that work: input `pixels`, outputs `features`, and `logits` if it has classes."""
    check_work(model, work)
    graph = Graph(model, weights)
    maps = add_maps(graph, add_pixels(graph, "pixels", work.preprocessing.mean, work.preprocessing.std), model, work.frames)
    features, logits = add_head(graph, maps, model)
    if work.window is not None and model.spec.classes and not isinstance(model, C3D):
        logits = add_class_map(graph, maps, model, work.window)
    if work.pooling != Pooling():
        features = _add_pooling(graph, maps, work.pooling)
    outputs = {"features": features} | ({} if logits is None else {"logits": logits})
    for name, value in outputs.items():
        graph.rename(value, name)
    kind = TensorProto.UINT8 if work.dtype == np.uint8 else TensorProto.FLOAT
    return graph.model(
        [helper.make_tensor_value_info("pixels", kind, work.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )


def _add_pooling(graph: Graph, maps: str, pooling: Pooling) -> str:
    for reduction, axes in ((pooling.spatial, (3, 4)), (pooling.temporal, (2,))):
        if reduction != "none":
            operator = "ReduceMean" if reduction == "mean" else "ReduceMax"
            maps = graph.add(operator, maps, graph.constant(np.array(axes)), keepdims=0)
    return maps
