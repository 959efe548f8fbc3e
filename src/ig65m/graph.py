"""A network -> its graph in ONNX, made for inference: batch norms folded into the convolutions, in float64, no dead nodes."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ig65m.models.c3d import C3D
from ig65m.models.network import Network
from ig65m.models.resnet import ResNet

OPSET: Final = 20
_PLACES: Final = (2, 3, 4)  # axes of time, height and width


class Graph:
    """Nodes and weights, added one after the other; a value goes by the name that adding it gives."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; the name of its output."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values: Tensor | NDArray[Any]) -> str:
        """Add a constant; its name."""
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def rename(self, value: str, name: str) -> None:
        """Give a value another name."""
        for node in self.nodes:
            for values in (node.input, node.output):
                values[:] = [name if old == value else old for old in values]

    def model(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """The whole."""
        graph = helper.make_graph(self.nodes, "ig65m", inputs, outputs, self.weights)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], producer_name="ig65m", ir_version=onnx.IR_VERSION_2023_5_5)


def folded(conv: nn.Conv3d, norm: nn.BatchNorm3d | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, float32, of the convolution that does what `conv` and then `norm` (in eval mode) do."""
    if norm is None:
        return conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
    weight, bias, mean, variance = (
        value.detach().double() for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var) if value is not None
    )
    scale = weight / torch.sqrt(variance + norm.eps)
    own = 0.0 if conv.bias is None else conv.bias.detach().double()
    return (conv.weight.detach().double() * scale.view(-1, 1, 1, 1, 1)).float(), ((own - mean) * scale + bias).float()


def add_pixels(graph: Graph, pixels: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """Pixels (N, T, H, W, 3) on 0..255 -> normalised clips (N, 3, T, H, W) float32."""
    x = graph.add("Cast", pixels, to=TensorProto.FLOAT)
    x = graph.add("Sub", x, graph.constant(np.array(mean, np.float32)))
    x = graph.add("Div", x, graph.constant(np.array(std, np.float32)))
    return graph.add("Transpose", x, perm=(0, 4, 1, 2, 3))


def add_maps(graph: Graph, clips: str, model: Network, frames: int) -> str:
    """Clips of `frames` frames -> feature maps, as the network's `forward_features` computes them."""
    if isinstance(model, C3D):
        return _chain(graph, clips, list(model.parts()))
    x = _chain(graph, clips, model.stem)
    for stage, keep_time in zip(model.stages, model.spec.keeps_time(frames), strict=True):
        for number, block in enumerate(stage):
            x = _block(graph, x, block, keep_time=keep_time and number == 0)
    return x


def add_head(graph: Graph, maps: str, model: Network) -> tuple[str, str | None]:
    """Feature maps -> the features and, if there is a last layer, the logits, as `forward_head` computes them."""
    if isinstance(model, C3D):
        features = graph.add("Relu", _linear(graph, graph.add("Flatten", maps), model.fc6))
        hidden = graph.add("Relu", _linear(graph, features, model.fc7))
    else:
        features = hidden = graph.add("ReduceMean", maps, graph.constant(np.array(_PLACES)), keepdims=0)
    if not model.spec.classes:
        return features, None
    return features, _scaled(graph, _linear(graph, hidden, model.fc), model, (1, -1))


def add_class_map(graph: Graph, maps: str, model: ResNet, window: tuple[int, int]) -> str:
    """Feature maps -> the logits of each place of a `window` (height, width), as `class_map` computes them."""
    x = graph.add("ReduceMean", maps, graph.constant(np.array([2])), keepdims=1)
    x = graph.add("AveragePool", x, kernel_shape=(1, *window), strides=(1, 1, 1))
    weight = model.fc.weight[:, :, None, None, None]
    x = graph.add("Conv", x, graph.constant(weight), graph.constant(model.fc.bias), kernel_shape=(1, 1, 1))
    return _scaled(graph, x, model, (1, -1, 1, 1, 1))


def _chain(graph: Graph, x: str, parts: nn.Module | Sequence[nn.Module], *, keep_time: bool = False) -> str:
    """Modules that follow each other; `keep_time` drops the temporal strides."""
    flat = [leaf for part in ([parts] if isinstance(parts, nn.Module) else parts) for leaf in _leaves(part)]
    for part, after in pairwise([*flat, None]):
        if isinstance(part, nn.Conv3d):
            weight, bias = folded(part, after if isinstance(after, nn.BatchNorm3d) else None)
            inputs = [graph.constant(value) for value in (weight, bias) if value is not None]
            x = graph.add(
                "Conv",
                x,
                *inputs,
                kernel_shape=part.kernel_size,
                strides=(1, *part.stride[1:]) if keep_time else part.stride,
                pads=[int(size) for size in part.padding] * 2,
                group=part.groups,
            )
        elif isinstance(part, nn.ReLU):
            x = graph.add("Relu", x)
        elif isinstance(part, nn.MaxPool3d):
            x = graph.add("MaxPool", x, kernel_shape=part.kernel_size, strides=part.stride, pads=_triple(part.padding) * 2)
        elif not isinstance(part, nn.BatchNorm3d):
            raise TypeError(f"there is no way to export a {type(part).__name__}")
    return x


def _triple(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size,) * 3 if isinstance(size, int) else size


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    children = list(module.children())
    for child in children:
        yield from _leaves(child)
    if not children:
        yield module


def _block(graph: Graph, x: str, block: nn.Module, *, keep_time: bool) -> str:
    parts = dict(block.named_children())
    projection = parts.pop("downsample", None)
    shortcut = x if projection is None else _chain(graph, x, projection, keep_time=keep_time)
    return graph.add("Relu", graph.add("Add", _chain(graph, x, list(parts.values()), keep_time=keep_time), shortcut))


def _linear(graph: Graph, x: str, layer: nn.Linear) -> str:
    return graph.add("Gemm", x, graph.constant(layer.weight), graph.constant(layer.bias), transB=1)


def _scaled(graph: Graph, logits: str, model: Network, shape: tuple[int, ...]) -> str:
    """What a multi-label network does to the logits of its last layer."""
    if not model.spec.multi_label:
        return logits
    scaled = graph.add("Mul", logits, graph.constant(model.pred_logit.weight.view(shape)))
    return graph.add("Add", scaled, graph.constant(model.pred_logit.bias.view(shape)))
