"""Builds the ONNX graph of a network for inference, from its plan and weights; batch norms are folded into convolutions."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ig65m.models.layer_names import find_layer, plan_until
from ig65m.models.plan import Block, Conv, Layer, MaxPool, plan_of
from ig65m.models.quantization import INPUT
from ig65m.models.spec import C3DSpec
from ig65m.models.weights import Weights, folded

OPSET: Final = 20
NORMALISED: Final = "normalised"  # pixels, before their axes are permuted
CLIPS: Final = "clips"  # input of the network
SMALL: Final = 1024  # largest constant in bytes that stays in the graph, where engines can see it
_ALIGNED: Final = 64  # bytes
_PLACES: Final = (2, 3, 4)  # axes of time, height and width


class GraphBuilder:
    """Nodes and constants of a graph, added one by one; each value has the name that adding it returns.

    With a `file`, the graph refers to constants in it by its name in the same folder, and none stay in memory.
    """

    def __init__(self, file: BinaryIO | None = None) -> None:
        self.file = file
        self.proto = onnx.ModelProto(ir_version=onnx.IR_VERSION_2023_5_5, producer_name="ig65m")
        self.proto.opset_import.append(helper.make_opsetid("", OPSET))
        self.proto.graph.name = "ig65m"

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node, and return the name of its output: `name` if given."""
        nodes = self.proto.graph.node
        name = name or f"{operator.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, array: NDArray[Any], name: str | None = None) -> str:
        """Add a constant, and return its name."""
        name = name or f"constant_{len(self.proto.graph.initializer)}"
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = self.proto.graph.initializer.add(name=name, data_type=kind, dims=array.shape)
        if self.file is None or array.nbytes < SMALL:
            tensor.raw_data = array.tobytes()
        else:
            self.file.seek(-self.file.tell() % _ALIGNED, os.SEEK_CUR)
            place = {"location": Path(self.file.name).name, "offset": self.file.tell(), "length": array.nbytes}
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            self.file.write(np.ascontiguousarray(array).data)
        return name

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


class Graph(GraphBuilder):
    """The graph of a network of `plan.py`.

    A node that computes the output of a layer or block has its path as name. In a quantised network, values are rounded and
    weights are integers.

    layer: A name of `layer_names.py`. The graph ends with the block that it is in, unless `whole`; see `add_layer`.
    """

    def __init__(self, weights: Weights, file: BinaryIO | None = None, *, layer: str | None = None, whole: bool = True) -> None:
        super().__init__(file)
        self.weights = weights
        self.plan = plan_of(weights.spec)
        self.layer = None if layer is None else find_layer(weights.spec, layer)
        if self.layer is not None and not whole:
            self.plan = plan_until(self.plan, self.layer)
        self.values: dict[str, str] = {}  # value of each layer and block by its path

    def weight(self, values: NDArray[np.float32], path: str) -> str:
        """Add the weight (C, ...) of the convolution at a path."""
        quantization = self.weights.quantization
        if quantization is None or path not in quantization.steps:
            return self.constant(values, f"{path}.weight")
        steps = quantization.steps[path]
        whole = np.rint(values / steps.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        return self.add("DequantizeLinear", self.constant(whole, f"{path}.weight"), self.constant(steps), axis=0)

    def rounded(self, value: str, path: str) -> str:
        """Quantise the output of the layer or block at a path, if the network does; remember the value."""
        quantization = self.weights.quantization
        if quantization is not None and path in quantization.ranges:
            step, zero = quantization.step(path)
            grid = self.constant(np.array(step, np.float32)), self.constant(np.array(zero, np.uint8))
            value = self.add("DequantizeLinear", self.add("QuantizeLinear", value, *grid), *grid)
        self.values[path] = value
        return value


def add_pixels(graph: Graph, pixels: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """Pixels (N, T, H, W, 3) on 0..255 -> normalised clips (N, 3, T, H, W) float32."""
    x = graph.add("Cast", pixels, to=TensorProto.FLOAT)
    x = graph.add("Sub", x, graph.constant(np.array(mean, np.float32)))
    x = graph.add("Div", x, graph.constant(np.array(std, np.float32)), name=NORMALISED)
    return graph.add("Transpose", x, name=CLIPS, perm=(0, 4, 1, 2, 3))


def add_maps(graph: Graph, clips: str, frames: int) -> str:
    """Clips of `frames` frames -> feature maps, as `forward_features`."""
    x = _chain(graph, graph.rounded(clips, INPUT), graph.plan.stem)
    for stage, keep_time in zip(graph.plan.stages, graph.weights.spec.keeps_time(frames), strict=False):  # fewer until a layer
        for number, block in enumerate(stage):
            x = _block(graph, x, block, keep_time=keep_time and number == 0)
    return x


def add_layer(graph: Graph) -> str:
    """Return the output of the graph's `layer`, as a forward hook on that module sees it; `add_maps` must have run."""
    assert graph.layer is not None, "the graph was made for a layer"
    convolutions = graph.plan.convolutions
    norms = {conv.norm: path for path, conv in convolutions.items()}
    path = norms.get(graph.layer, graph.layer)
    if graph.layer not in convolutions or graph.weights.quantization is not None:
        return graph.values[path]
    conv, [node] = convolutions[path], [node for node in graph.proto.graph.node if node.name == path]
    parts = [graph.constant(graph.weights.arrays[f"{path}.{leaf}"]) for leaf in ("weight", "bias")[: 1 + conv.bias]]
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return graph.add("Conv", node.input[0], *parts, **attributes)  # its batch norm is folded into the other


def add_head(graph: Graph, maps: str) -> tuple[str, str | None]:
    """Feature maps -> features, and logits if there are classes, as `forward_head`."""
    spec = graph.weights.spec
    if isinstance(spec, C3DSpec):
        features = graph.add("Relu", _linear(graph, graph.add("Flatten", maps), "fc6"))
        hidden = graph.add("Relu", _linear(graph, features, "fc7"))
    else:
        features = hidden = graph.add("ReduceMean", maps, graph.constant(np.array(_PLACES)), keepdims=0)
    if not spec.classes:
        return features, None
    return features, _scaled(graph, _linear(graph, hidden, "fc"), (1, -1))


def add_class_map(graph: Graph, maps: str, window: tuple[int, int]) -> str:
    """Feature maps -> logits for each position of a `window` (height, width), as `class_map`."""
    x = graph.add("ReduceMean", maps, graph.constant(np.array([2])), keepdims=1)
    x = graph.add("AveragePool", x, kernel_shape=(1, *window), strides=(1, 1, 1))
    weight, bias = graph.weights.arrays["fc.weight"][:, :, None, None, None], graph.weights.arrays["fc.bias"]
    x = graph.add("Conv", x, graph.constant(weight), graph.constant(bias), kernel_shape=(1, 1, 1))
    return _scaled(graph, x, (1, -1, 1, 1, 1))


def _chain(graph: Graph, x: str, layers: Iterable[Layer], *, keep_time: bool = False) -> str:
    """Add layers in sequence; `keep_time` drops temporal strides."""
    for layer in layers:
        path = layer.path
        if isinstance(layer, Conv):
            weight, bias = folded(graph.weights, layer, graph.plan.eps)
            x = graph.add(
                "Conv",
                x,
                graph.weight(weight, path),
                graph.constant(bias, f"{path}.bias"),
                name=path,
                kernel_shape=layer.kernel,
                strides=(1, *layer.stride[1:]) if keep_time else layer.stride,
                pads=layer.padding * 2,
                group=layer.groups,
            )
        elif isinstance(layer, MaxPool):
            pads = layer.padding * 2
            x = graph.add("MaxPool", x, name=path, kernel_shape=layer.kernel, strides=layer.stride, pads=pads)
        else:
            x = graph.add("Relu", x, name=path)
        x = graph.rounded(x, path)
    return x


def _block(graph: Graph, x: str, block: Block, *, keep_time: bool) -> str:
    path = block.path
    shortcut = _chain(graph, x, block.shortcut, keep_time=keep_time)
    both = graph.add("Add", _chain(graph, x, block.layers, keep_time=keep_time), shortcut, name=f"{path}.add")
    return graph.rounded(graph.add("Relu", both, name=path), path)


def _linear(graph: Graph, x: str, path: str) -> str:
    weight, bias = (graph.constant(graph.weights.arrays[f"{path}.{leaf}"]) for leaf in ("weight", "bias"))
    return graph.add("Gemm", x, weight, bias, transB=1)


def _scaled(graph: Graph, logits: str, shape: tuple[int, ...]) -> str:
    """Add the layer after the last one of a multi-label network."""
    if not graph.weights.spec.multi_label:
        return logits
    weight, bias = (graph.weights.arrays[f"pred_logit.{leaf}"].reshape(shape) for leaf in ("weight", "bias"))
    return graph.add("Add", graph.add("Mul", logits, graph.constant(weight)), graph.constant(bias))
