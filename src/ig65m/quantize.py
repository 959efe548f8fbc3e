"""Quantises a network to int8 with NNCF, calibrated on clips of the user's videos."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any, Final

import numpy as np
import openvino
from numpy.typing import NDArray

from ig65m.engines.base import Work
from ig65m.engines.choice import choose
from ig65m.engines.graph import graph_of
from ig65m.engines.openvino import shared_core
from ig65m.errors import ModelError, UsageError, VideoError, needs
from ig65m.models.quantization import INPUT, Quantization
from ig65m.models.weights import Weights, fold
from ig65m.onnx_graph import CLIPS, NORMALISED
from ig65m.types import Limits
from ig65m.video.clips import Source, read_clips
from ig65m.video.sampling import Sampling

HELD_OUT: Final = 4  # every fourth clip is held out for the measurement
MIN_COSINE: Final = 0.99
MIN_SAME: Final = 0.97

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """How well int8 agrees with float32 on held-out clips."""

    clips: int
    cosine: float  # of the features, mean over clips
    least_cosine: float
    same: float | None  # share of clips with the same best class; None without classes

    def __str__(self) -> str:
        classes = "" if self.same is None else f", same best class {self.same:.1%}"
        return f"cosine of features {self.cosine:.4f} (least {self.least_cosine:.4f}){classes}, on {self.clips} held-out clips"

    @property
    def enough(self) -> bool:
        """Whether MIN_COSINE and MIN_SAME are reached."""
        return self.cosine >= MIN_COSINE and (self.same is None or self.same >= MIN_SAME)


def calibration_clips(
    videos: Sequence[Source],
    work: Work,
    frame_step: int,
    most: int,
    limits: Limits,
    on_failure: Callable[[str], None],
    *,
    fps: float | None = None,
) -> list[Pixels]:
    """Return about `most` clips (T, H, W, 3), equally many from each video, evenly spread over it and without overlap.

    `on_failure` is called with the reason if a video gives no clips, or not all. `fps` is the rate at which videos are sampled,
    by default that of each. Raises VideoError if no video gives any.
    """
    sampling = Sampling(frames=work.frames, frame_step=frame_step, fps=fps)
    clips: list[Pixels] = []

    def read(video: Source) -> Iterator[Pixels]:
        try:
            yield from (clip.pixels for clip in read_clips(video, sampling, work.preprocessing, limits=limits))
        except (VideoError, OSError) as error:
            on_failure(str(error))

    for video in videos:
        clips += spread(read(video), math.ceil(most / len(videos)))
    if not clips:
        raise VideoError("no clip could be read from the videos")
    return clips


def spread(clips: Iterable[Pixels], most: int) -> list[Pixels]:
    """Return `most` to twice as many of the clips, evenly spread; all if there are fewer."""
    kept: list[Pixels] = []
    every = 1
    for index, clip in enumerate(clips):
        if index % every == 0:
            kept.append(clip)
        if len(kept) == 2 * most:
            kept, every = kept[::2], 2 * every
    return kept


def split(clips: Sequence[Pixels]) -> tuple[list[Pixels], list[Pixels]]:
    """Split clips into those for calibration and held-out ones. Raises UsageError if there are too few."""
    if len(clips) < HELD_OUT:
        raise UsageError(f"the videos have {len(clips)} clips; give at least {HELD_OUT}, better 100")
    held_out = clips[HELD_OUT - 1 :: HELD_OUT]
    return [clip for index, clip in enumerate(clips) if index % HELD_OUT != HELD_OUT - 1], list(held_out)


def quantize(weights: Weights, clips: Sequence[Pixels], work: Work) -> Weights:
    """Return the network in int8, calibrated on clips (T, H, W, 3) as engines take them.

    The head and depthwise convolutions, which are no faster in int8, stay float32.

    Raises ModelError if the network is already in int8, UsageError if NNCF is not installed.
    """
    card = weights.card
    if weights.quantization is not None:
        raise ModelError(f"{card.name} is already in int8; quantise the network that it was made from")
    with needs("quantize", "quantising"):
        import nncf
    work = replace(work, batch_size=1)
    graph = shared_core().read_model(graph_of(weights, work).SerializeToString())
    dataset = nncf.Dataset(clips, lambda clip: {"pixels": clip[None]})
    floats = nncf.IgnoredScope(types=["MatMul", "GroupConvolution"], validate=False)
    logging.getLogger("nncf").setLevel(logging.WARNING)
    with redirect_stdout(StringIO()):  # NNCF prints progress bars
        done = nncf.quantize(graph, dataset, subset_size=len(clips), ignored_scope=floats)
    arrays, steps = fold(weights), {}
    for path, (whole, step, bias) in _convolutions(done):
        steps[path] = step.flatten()  # a copy
        shape = arrays[f"{path}.weight"].shape
        arrays[f"{path}.weight"] = whole.reshape(shape).astype(np.float32) * steps[path].reshape(-1, 1, 1, 1, 1)
        arrays[f"{path}.bias"] = bias.flatten()
    card = replace(
        card,
        name=f"{card.name}_int8",
        frames=work.frames,
        origin=f"quantised to int8 from {card.name}",
        top1=None,  # accuracy in int8 is not known
        top5=None,
        clip_top1=None,
        embedded=False,
        url=None,
        sha256=None,
        onnx=None,
        caffe2=None,
        page=None,
    )
    return Weights(card, arrays, Quantization(steps, dict(_ranges(done))))


def agreement(weights: Weights, quantized: Weights, clips: Sequence[Pixels], work: Work) -> Agreement:
    """Compare both networks in OpenVINO on clips (T, H, W, 3), as engines take them."""
    work = replace(work, batch_size=1)
    engines = [choose("openvino").load(each, work) for each in (weights, quantized)]
    cosines, same = [], []
    for clip in clips:
        (features, logits), (own_features, own_logits) = ([values[0] for values in engine(clip[None])] for engine in engines)
        lengths = float(np.linalg.norm(features) * np.linalg.norm(own_features))
        cosines.append(float(features @ own_features) / lengths if lengths else float(np.array_equal(features, own_features)))
        if len(logits):
            same.append(logits.argmax() == own_logits.argmax())
    return Agreement(len(clips), float(np.mean(cosines)), min(cosines), float(np.mean(same)) if same else None)


def _convolutions(graph: openvino.Model) -> Iterator[tuple[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]]:
    """Yield path, integer weights, step and bias of each quantised convolution."""
    for node in graph.get_ops():
        if node.get_type_name() != "Convolution":
            continue
        path = node.get_friendly_name().removesuffix("/WithoutBiases")
        constants = _constants(node.input_value(1).get_node())
        whole = [values for values in constants if values.dtype == np.int8]
        steps = [values for values in constants if values.dtype == np.float32]
        users = [target.get_node() for target in node.output(0).get_target_inputs()]
        (add,) = (user for user in users if user.get_type_name() == "Add")
        bias = _constants(add.input_value(1).get_node())
        yield path, (whole[0], steps[0], next(values for values in bias if values.dtype == np.float32))


def _ranges(graph: openvino.Model) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield path, lowest and highest value of each quantised output."""
    for node in graph.get_ops():
        if node.get_type_name() == "FakeQuantize":
            source = node.input_value(0).get_node().get_friendly_name()
            low, high = (float(node.input_value(port).get_node().get_data().item()) for port in (1, 2))
            yield (INPUT if source in (CLIPS, NORMALISED) else source), (low, high)


def _constants(node: openvino.Node) -> list[NDArray[Any]]:
    """Return all constants that a node's values are computed from, except those that only shapes depend on."""
    if node.get_type_name() == "Constant":
        return [node.get_data()]
    if node.get_type_name() == "ShapeOf":
        return []
    return [values for port in node.input_values() for values in _constants(port.get_node())]
