"""Builds the ONNX graph of a network for inference: batch norms are folded into convolutions in float64."""

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from ig65m.models.c3d import C3D
from ig65m.models.folding import folded
from ig65m.models.network import Network
from ig65m.models.quantization import INPUT
from ig65m.models.resnet import ResNet

OPSET: Final = 20
NORMALISED: Final = "normalised"  # pixels, before their axes are permuted
CLIPS: Final = "clips"  # input of the network
SMALL: Final = 1024  # largest constant in bytes that stays in the graph, where engines can see it
_ALIGNED: Final = 64  # bytes
_PLACES: Final = (2, 3, 4)  # axes of time, height and width


class Graph:
    """Nodes and weights of a graph, added one by one; each value has the name that adding it returns.

    A node that computes the output of a module of `model` has the module's path as name. In a quantised network, values are
    rounded and weights are integers. With a file for `weights`, the graph refers to it by its name in the same folder, and no
    weights stay in memory.
    """

    def __init__(self, model: Network, weights: BinaryIO | None = None) -> None:
        self.weights = weights
        self.proto = onnx.ModelProto(ir_version=onnx.IR_VERSION_2023_5_5, producer_name="ig65m")
        self.proto.opset_import.append(helper.make_opsetid("", OPSET))
        self.proto.graph.name = "ig65m"
        self.paths = {module: path for path, module in model.named_modules()}
        self.quantization = model.quantization

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node, and return the name of its output: `name` if given."""
        nodes = self.proto.graph.node
        name = name or f"{operator.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values: Tensor | NDArray[Any], name: str | None = None) -> str:
        """Add a constant, and return its name."""
        array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
        name = name or f"constant_{len(self.proto.graph.initializer)}"
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = self.proto.graph.initializer.add(name=name, data_type=kind, dims=array.shape)
        if self.weights is None or array.nbytes < SMALL:
            tensor.raw_data = array.tobytes()
        else:
            self.weights.seek(-self.weights.tell() % _ALIGNED, os.SEEK_CUR)
            place = {"location": Path(self.weights.name).name, "offset": self.weights.tell(), "length": array.nbytes}
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            self.weights.write(np.ascontiguousarray(array).data)
        return name

    def weight(self, values: Tensor, path: str) -> str:
        """Add the weight (C, ...) of the convolution at a path."""
        if self.quantization is None or path not in self.quantization.steps:
            return self.constant(values, f"{path}.weight")
        steps = self.quantization.steps[path]
        whole = np.rint(values.numpy() / steps.reshape(-1, *[1] * (values.dim() - 1))).astype(np.int8)
        return self.add("DequantizeLinear", self.constant(whole, f"{path}.weight"), self.constant(steps), axis=0)

    def rounded(self, value: str, path: str) -> str:
        """Quantise the output of the module at a path, if the network does."""
        if self.quantization is None or path not in self.quantization.ranges:
            return value
        step, zero = self.quantization.step(path)
        grid = self.constant(np.array(step, np.float32)), self.constant(np.array(zero, np.uint8))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", value, *grid), *grid)

    def rename(self, value: str, name: str) -> None:
        """Rename a value."""
        for node in self.proto.graph.node:
            for values in (node.input, node.output):
                values[:] = [name if old == value else old for old in values]

    def model(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """Return the finished model."""
        self.proto.graph.input.extend(inputs)
        self.proto.graph.output.extend(outputs)
        return self.proto


def add_pixels(graph: Graph, pixels: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """Pixels (N, T, H, W, 3) on 0..255 -> normalised clips (N, 3, T, H, W) float32."""
    x = graph.add("Cast", pixels, to=TensorProto.FLOAT)
    x = graph.add("Sub", x, graph.constant(np.array(mean, np.float32)))
    x = graph.add("Div", x, graph.constant(np.array(std, np.float32)), name=NORMALISED)
    return graph.add("Transpose", x, name=CLIPS, perm=(0, 4, 1, 2, 3))


def add_maps(graph: Graph, clips: str, model: Network, frames: int) -> str:
    """Clips of `frames` frames -> feature maps, as `forward_features`."""
    clips = graph.rounded(clips, INPUT)
    if isinstance(model, C3D):
        return _chain(graph, clips, list(model.parts()))
    x = _chain(graph, clips, model.stem)
    for stage, keep_time in zip(model.stages, model.spec.keeps_time(frames), strict=True):
        for number, block in enumerate(stage):
            x = _block(graph, x, block, keep_time=keep_time and number == 0)
    return x


def add_head(graph: Graph, maps: str, model: Network) -> tuple[str, str | None]:
    """Feature maps -> features, and logits if there are classes, as `forward_head`."""
    if isinstance(model, C3D):
        features = graph.add("Relu", _linear(graph, graph.add("Flatten", maps), model.fc6))
        hidden = graph.add("Relu", _linear(graph, features, model.fc7))
    else:
        features = hidden = graph.add("ReduceMean", maps, graph.constant(np.array(_PLACES)), keepdims=0)
    if not model.spec.classes:
        return features, None
    return features, _scaled(graph, _linear(graph, hidden, model.fc), model, (1, -1))


def add_class_map(graph: Graph, maps: str, model: ResNet, window: tuple[int, int]) -> str:
    """Feature maps -> logits for each position of a `window` (height, width), as `class_map`."""
    x = graph.add("ReduceMean", maps, graph.constant(np.array([2])), keepdims=1)
    x = graph.add("AveragePool", x, kernel_shape=(1, *window), strides=(1, 1, 1))
    weight = model.fc.weight[:, :, None, None, None]
    x = graph.add("Conv", x, graph.constant(weight), graph.constant(model.fc.bias), kernel_shape=(1, 1, 1))
    return _scaled(graph, x, model, (1, -1, 1, 1, 1))


def _chain(graph: Graph, x: str, parts: nn.Module | Sequence[nn.Module], *, keep_time: bool = False) -> str:
    """Add modules in sequence; `keep_time` drops temporal strides."""
    flat = [leaf for part in ([parts] if isinstance(parts, nn.Module) else parts) for leaf in _leaves(part)]
    for part, after in pairwise([*flat, None]):
        path = graph.paths[part]
        if isinstance(part, nn.Conv3d):
            weight, bias = folded(part, after if isinstance(after, nn.BatchNorm3d) else None)
            inputs = [graph.weight(weight, path), *([] if bias is None else [graph.constant(bias, f"{path}.bias")])]
            x = graph.add(
                "Conv",
                x,
                *inputs,
                name=path,
                kernel_shape=part.kernel_size,
                strides=(1, *part.stride[1:]) if keep_time else part.stride,
                pads=[int(size) for size in part.padding] * 2,
                group=part.groups,
            )
        elif isinstance(part, nn.ReLU):
            x = graph.add("Relu", x, name=path)
        elif isinstance(part, nn.MaxPool3d):
            pads = _triple(part.padding) * 2
            x = graph.add("MaxPool", x, name=path, kernel_shape=part.kernel_size, strides=part.stride, pads=pads)
        elif not isinstance(part, nn.BatchNorm3d | nn.Identity):
            raise TypeError(f"cannot export a {type(part).__name__}")
        x = graph.rounded(x, path)
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
    path = graph.paths[block]
    both = graph.add("Add", _chain(graph, x, list(parts.values()), keep_time=keep_time), shortcut, name=f"{path}.add")
    return graph.rounded(graph.add("Relu", both, name=path), path)


def _linear(graph: Graph, x: str, layer: nn.Linear) -> str:
    return graph.add("Gemm", x, graph.constant(layer.weight), graph.constant(layer.bias), transB=1)


def _scaled(graph: Graph, logits: str, model: Network, shape: tuple[int, ...]) -> str:
    """Add the layer after the last one of a multi-label network."""
    if not model.spec.multi_label:
        return logits
    scaled = graph.add("Mul", logits, graph.constant(model.pred_logit.weight.view(shape)))
    return graph.add("Add", scaled, graph.constant(model.pred_logit.bias.view(shape)))
