"""The ONNX graph of TransNetV2 that OpenVINO and ONNX Runtime run: pixels in, logits out."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ig65m.models.transnetv2_plan import (
    BINS,
    DILATIONS,
    EPS,
    FRAMES,
    HEIGHT,
    REACH,
    STAGES,
    WIDTH,
    block_path,
    branch_paths,
)
from ig65m.onnx_graph import GraphBuilder
from ig65m.shots.weights import ShotWeights


def graph_of(weights: ShotWeights) -> onnx.ModelProto:
    """Return the network as a graph: `pixels` (1, 100, 27, 48, 3) uint8 -> `logits` (1, 100, 2) float32.

    It is the function of `models.transnetv2.TransNetV2`. The branches of a block share one spatial convolution, and batch norms
    are folded into the temporal ones.
    """
    return _Builder(weights).network()


class _Builder(GraphBuilder):
    """Adds the parts of the network to the graph."""

    def __init__(self, weights: ShotWeights) -> None:
        super().__init__()
        self.arrays = weights.arrays

    def network(self) -> onnx.ModelProto:
        pixels = self.add("Cast", "pixels", to=TensorProto.FLOAT)
        x = self.add("Div", pixels, self.constant(np.array([255], np.float32)))
        x = self.add("Transpose", x, perm=(0, 4, 1, 2, 3))
        means = []
        for stage in range(len(STAGES)):
            shortcut = self.add("Relu", self.block(x, stage, 0))
            second = self.add("Relu", self.block(shortcut, stage, 1))
            x = self.add("Add", second, shortcut)
            x = self.add("AveragePool", x, kernel_shape=(1, 2, 2), strides=(1, 2, 2))
            means.append(self.add("ReduceMean", x, self.constant(np.array([3, 4])), keepdims=0))
        features = self.add("Transpose", self.add("Concat", *means, axis=1), perm=(0, 2, 1))
        similar = self.comparison(self.linear(features, "frame_sim_layer.projection"), "frame_sim_layer.fc")
        colours = self.comparison(self.histograms(pixels), "color_hist_layer.fc")
        maps = self.add("Transpose", x, perm=(0, 2, 3, 4, 1))
        maps = self.add("Reshape", maps, self.constant(np.array([1, FRAMES, -1])))
        hidden = self.add("Relu", self.linear(self.add("Concat", colours, similar, maps, axis=2), "fc1"))
        heads = [self.linear(hidden, name) for name in ("cls_layer1", "cls_layer2")]
        self.add("Concat", *heads, axis=2, name="logits")
        return self.model(
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, (1, FRAMES, HEIGHT, WIDTH, 3))],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, FRAMES, 2))],
        )

    def block(self, x: str, stage: int, block: int) -> str:
        """A dilated block without its ReLU: (1, inputs, T, H, W) -> (1, 4·width, T, H, W)."""
        paths = branch_paths(stage, block)
        spatial = np.concatenate([self.arrays[f"{path}.0.weight"] for path in paths])
        x = self.add("Conv", x, self.constant(spatial), kernel_shape=(1, 3, 3), pads=(0, 1, 1, 0, 1, 1))
        parts = [f"stage{stage}_block{block}_{dilation}" for dilation in DILATIONS]
        self.proto.graph.node.append(helper.make_node("Split", [x], parts, axis=1, num_outputs=len(parts)))
        scale, shift = self.norm(f"{block_path(stage, block)}.bn")
        outputs = []
        for part, path, dilation, factor, bias in zip(
            parts, paths, DILATIONS, np.split(scale, len(paths)), np.split(shift, len(paths)), strict=True
        ):
            temporal = (self.arrays[f"{path}.1.weight"] * factor.reshape(-1, 1, 1, 1, 1)).astype(np.float32)
            outputs.append(
                self.add(
                    "Conv",
                    part,
                    self.constant(temporal),
                    self.constant(bias.astype(np.float32)),
                    kernel_shape=(3, 1, 1),
                    dilations=(dilation, 1, 1),
                    pads=(dilation, 0, 0, dilation, 0, 0),
                )
            )
        return self.add("Concat", *outputs, axis=1)

    def norm(self, path: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return scale and shift of a batch norm."""
        leaves = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, variance = (self.arrays[f"{path}.{leaf}"].astype(np.float64) for leaf in leaves)
        scale = weight / np.sqrt(variance + EPS)
        return scale, bias - mean * scale

    def linear(self, x: str, path: str) -> str:
        """(1, T, inputs) -> (1, T, outputs)."""
        weight = np.ascontiguousarray(self.arrays[f"{path}.weight"].T)
        return self.add("Add", self.add("MatMul", x, self.constant(weight)), self.constant(self.arrays[f"{path}.bias"]))

    def histograms(self, pixels: str) -> str:
        """RGB pixels (1, T, H, W, 3) float32 -> counts of colours (1, T, 512), eight levels a channel."""
        levels = self.add("Floor", self.add("Div", pixels, self.constant(np.array([32], np.float32))))
        colours = self.add("MatMul", levels, self.constant(np.array([64, 8, 1], np.float32)))
        colours = self.add("Reshape", colours, self.constant(np.array([1, FRAMES, HEIGHT * WIDTH])))
        places = self.add("Cast", colours, to=TensorProto.INT64)
        empty = self.constant(np.zeros((1, FRAMES, BINS), np.float32))
        ones = self.constant(np.ones((1, FRAMES, HEIGHT * WIDTH), np.float32))
        return self.add("ScatterElements", empty, places, ones, axis=2, reduction="add")

    def comparison(self, features: str, path: str) -> str:
        """Features (1, T, C) -> (1, T, 128), from the cosines of each frame with the frames around it."""
        norm = self.add("ReduceL2", features, self.constant(np.array([2])), keepdims=1)
        unit = self.add("Div", features, self.add("Max", norm, self.constant(np.array([1e-12], np.float32))))
        cosines = self.add("MatMul", unit, self.add("Transpose", unit, perm=(0, 2, 1)))
        padded = self.add("Pad", cosines, self.constant(np.array([0, 0, REACH, 0, 0, REACH])))
        around = np.arange(FRAMES)[:, None] + np.arange(2 * REACH + 1)
        near = self.add("GatherElements", padded, self.constant(around[None]), axis=2)
        return self.add("Relu", self.linear(near, path))
