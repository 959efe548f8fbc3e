"""The ONNX graph of the aligner that OpenVINO and ONNX Runtime run: pixels in, alignments of pairs out."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ig65m.models.aligner_plan import (
    CELLS,
    CONTRAST,
    CONVS,
    DAMPING,
    DECODER,
    EDGE,
    ENCODER,
    FARTHEST,
    GRADIENT_NOISE,
    LEAST_DIFFERENCE,
    LEVELS,
    LONGEST_STEP,
    NOISE,
    PAIRS,
    REFINEMENTS,
    ROBUST,
    SCALES,
    SIZES,
    WINDOW,
    coordinates,
    slopes,
)
from ig65m.motion.weights import MotionWeights
from ig65m.onnx_graph import GraphBuilder


def graph_of(weights: MotionWeights) -> onnx.ModelProto:
    """Return the network as a graph: `pixels` (1, WINDOW, 96, 96, 3) uint8 -> `alignments` (len(PAIRS), 50) float32.

    It is the function of `models.aligner.Aligner` for the pairs of frames in PAIRS, but for the cells.
    """
    return _Builder(weights).network()


class _Builder(GraphBuilder):
    """Adds the parts of the network to the graph."""

    def __init__(self, weights: MotionWeights) -> None:
        super().__init__()
        self.arrays = weights.arrays

    def network(self) -> onnx.ModelProto:
        x = self.add("Cast", self.add("Squeeze", "pixels", self.whole(0)), to=TensorProto.FLOAT)
        x = self.standardised(self.add("Transpose", x, perm=(0, 3, 1, 2)))
        starts, ends = (self.whole(*each) for each in zip(*PAIRS, strict=True))
        grey = self.mean(x, 1)
        one, other = (self.add("Gather", grey, each, axis=0) for each in (starts, ends))
        start = self.first_alignment(one, other)
        warped, inside = self.warped(self.add("Gather", x, ends, axis=0), start, EDGE)
        context = self.add("Gather", self.encoded(x), starts, axis=0)
        grey = self.mean(warped, 1)
        statistics = [self.statistics(one, grey, scale) for scale in SCALES]
        still = [self.statistics(one, other, scale) for scale in SCALES]
        seen = self.pooled(inside, EDGE // CELLS)
        shift = self.times(self.displacement(start, CELLS), CELLS / 2)
        x = self.add(
            "Concat", context, self.encoded(warped), *(shown for shown, _ in (*statistics, *still)), shift, seen, axis=1
        )
        x = self.add("Relu", self.conv("merge", x))
        for path in DECODER:
            x = self.add("Relu", self.add("Add", x, self.conv(path, x)))
        x = self.add("Relu", self.add("Add", x, self.conv("whole", self.mean(x, 2, 3))))
        judged = self.shaped(self.conv("judge", self.mean(x, 2, 3)), len(PAIRS), 2)
        cell = self.conv("cell", x)
        count = len(SCALES)
        normal, target = self.weighed([products for _, products in statistics], self.part(cell, 0, count), seen)
        everywhere = self.array(np.ones((1, 1, CELLS, CELLS)))
        more, rest = self.weighed([products for _, products in still], self.part(cell, count, 2 * count), everywhere)
        gone = self.add("MatMul", more, self.shaped(start, len(PAIRS), 6, 1))
        normal = self.add("Add", normal, more)
        target = self.add("Add", target, self.add("Sub", rest, self.shaped(gone, len(PAIRS), 6)))
        for scale in REFINEMENTS:
            start = self.add("Add", start, self.clipped(self.solved(normal, target), LONGEST_STEP))
            warped, inside = self.warped(other, start, EDGE)
            _, products = self.statistics(one, warped, scale)
            seen = self.pooled(inside, EDGE // CELLS)
            normal, target = self.weighed([products], self.part(cell, 2 * count, 2 * count + 1), seen)
        self.add("Concat", start, self.shaped(normal, len(PAIRS), 36), target, judged, axis=1, name="alignments")
        return self.model(
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, (1, WINDOW, EDGE, EDGE, 3))],
            [helper.make_tensor_value_info("alignments", TensorProto.FLOAT, (len(PAIRS), sum(SIZES)))],
        )

    def weighed(self, products: Sequence[str], logs: str, seen: str) -> tuple[str, str]:
        """As `Aligner.weighed`."""
        normals, targets = [], []
        for index, each in enumerate(products):
            weight = self.add("Exp", self.clipped(self.part(logs, index, index + 1), 8.0))
            weight = self.add("Div", self.add("Mul", weight, seen), self.plus(self.part(each, 5, 6), NOISE))
            weighed = [self.add("Mul", self.part(each, row, row + 1), weight) for row in range(5)]
            normal, target = self.equations(weighed, CELLS)
            normals.append(normal)
            targets.append(target)
        normal, target = (self.add("Sum", *parts) for parts in (normals, targets))
        return normal, target

    def whole(self, *values: int) -> str:
        """A constant of whole numbers."""
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        """A constant of one float."""
        return self.constant(np.array([value], np.float32))

    def array(self, values: NDArray[np.floating]) -> str:
        """A constant of floats."""
        return self.constant(np.ascontiguousarray(values, np.float32))

    def times(self, x: str, factor: float) -> str:
        """x times a constant."""
        return self.add("Mul", x, self.number(factor))

    def plus(self, x: str, value: float) -> str:
        """x plus a constant."""
        return self.add("Add", x, self.number(value))

    def mean(self, x: str, *axes: int) -> str:
        """Mean over axes, which are kept."""
        return self.add("ReduceMean", x, self.whole(*axes), keepdims=1)

    def shaped(self, x: str, *shape: int) -> str:
        """x in another shape."""
        return self.add("Reshape", x, self.whole(*shape))

    def clipped(self, x: str, limit: float) -> str:
        """x within -limit to limit."""
        return self.add("Clip", x, *(self.constant(np.array(value, np.float32)) for value in (-limit, limit)))

    def part(self, x: str, start: int, end: int) -> str:
        """Channels from `start` to `end`."""
        return self.add("Slice", x, self.whole(start), self.whole(end), self.whole(1))

    def minor(self, a: str, b: str, c: str, d: str) -> str:
        """a·b - c·d."""
        return self.add("Sub", self.add("Mul", a, b), self.add("Mul", c, d))

    def pooled(self, x: str, scale: int) -> str:
        """Means over areas of scale x scale."""
        return self.add("AveragePool", x, kernel_shape=(scale,) * 2, strides=(scale,) * 2) if scale > 1 else x

    def extended(self, x: str) -> str:
        """x with its edge repeated by a pixel."""
        return self.add("Pad", x, self.whole(0, 0, 1, 1, 0, 0, 1, 1), mode="edge")

    def conv(self, path: str, x: str) -> str:
        """The convolution at a path."""
        conv = CONVS[path]
        weight, bias = (self.constant(self.arrays[f"{path}.{leaf}"]) for leaf in ("weight", "bias"))
        return self.add(
            "Conv",
            x,
            weight,
            bias,
            kernel_shape=(conv.kernel,) * 2,
            strides=(conv.stride,) * 2,
            dilations=(conv.dilation,) * 2,
            pads=(conv.padding,) * 4,
        )

    def encoded(self, x: str) -> str:
        """As `Aligner.encoded`."""
        for path in ENCODER:
            x = self.add("Relu", self.conv(path, x))
        return x

    def standardised(self, x: str) -> str:
        """Subtract the mean of each frame and divide by its standard deviation, plus a constant."""
        centred = self.add("Sub", x, self.mean(x, 1, 2, 3))
        variance = self.mean(self.add("Mul", centred, centred), 1, 2, 3)
        return self.add("Div", centred, self.plus(self.add("Sqrt", variance), CONTRAST))

    def displacement(self, p: str, size: int) -> str:
        """As `Aligner.displacement`."""
        rows = self.add("MatMul", self.shaped(p, len(PAIRS), 2, 3), self.array(coordinates(size)))
        return self.shaped(rows, len(PAIRS), 2, size, size)

    def warped(self, frames: str, p: str, size: int) -> tuple[str, str]:
        """As `Aligner.warped`."""
        own = self.array(coordinates(size)[1:].reshape(1, 2, size, size))
        places = self.add("Add", self.displacement(p, size), own)
        farthest = self.add("ReduceMax", self.add("Abs", places), self.whole(1), keepdims=1)
        inside = self.add("Cast", self.add("Less", farthest, self.number(1)), to=TensorProto.FLOAT)
        grid = self.add("Transpose", places, perm=(0, 2, 3, 1))
        return self.add("GridSample", frames, grid, mode="linear", padding_mode="border", align_corners=0), inside

    def first_alignment(self, one: str, other: str) -> str:
        """As `Aligner.first_alignment`."""
        p = self.constant(np.zeros((len(PAIRS), 6), np.float32))
        smooth = self.array(slopes()[:1])
        right_of, down_of = (self.array(_difference(axis)) for axis in (0, 1))
        for scale, steps in LEVELS:
            size = EDGE // scale
            first, second = (
                self.add("Conv", self.extended(self.pooled(frame, scale)), smooth, kernel_shape=(3, 3))
                for frame in (one, other)
            )
            for _ in range(steps):
                warped, inside = self.warped(second, p, size)
                both = self.extended(self.times(self.add("Add", first, warped), 0.5))
                right, down = (
                    self.times(self.add("Conv", both, kernel, kernel_shape=(3, 3)), size / 4) for kernel in (right_of, down_of)
                )
                change = self.add("Sub", warped, first)
                usual = self.mean(self.add("Mul", self.add("Abs", change), inside), 2, 3)
                usual = self.add("Div", usual, self.plus(self.mean(inside, 2, 3), 1e-3))
                strange = self.add("Div", change, self.plus(self.times(usual, ROBUST), LEAST_DIFFERENCE))
                weight = self.add("Div", inside, self.plus(self.add("Mul", strange, strange), 1.0))
                products = [self.add("Mul", product, weight) for product in self.products(right, down, change)]
                normal, target = self.equations(products, size)
                p = self.add("Add", p, self.clipped(self.solved(normal, target), LONGEST_STEP))
        return p

    def products(self, right: str, down: str, change: str) -> list[str]:
        """Products of gradients and differences; put together as channels, they would be copied."""
        pairs = ((right, right), (right, down), (down, down), (right, change), (down, change))
        return [self.add("Mul", *pair) for pair in pairs]

    def equations(self, products: Sequence[str], size: int) -> tuple[str, str]:
        """As `aligner.equations`."""
        flat = [self.shaped(product, len(PAIRS), size * size) for product in products]
        places = coordinates(size)
        outer = self.array((places[:, None] * places[None]).reshape(9, -1).T)
        xx, xy, yy = (self.shaped(self.add("MatMul", each, outer), len(PAIRS), 3, 3) for each in flat[:3])
        rows = [self.add("Concat", *row, axis=2) for row in ((xx, xy), (xy, yy))]
        moments = [self.add("MatMul", each, self.array(places.T)) for each in flat[3:]]
        return self.add("Concat", *rows, axis=1), self.add("Neg", self.add("Concat", *moments, axis=1))

    def solved(self, normal: str, target: str) -> str:
        """As `aligner.solved`, with damping."""
        trace = self.add("ReduceSum", self.add("Mul", normal, self.array(np.eye(6))), self.whole(1, 2), keepdims=1)
        more = self.times(self.plus(self.times(trace, 1 / 6), 1.0), DAMPING)
        damped = self.add("Add", normal, self.add("Mul", more, self.array(np.eye(6))))
        whole = self.add("Concat", damped, self.shaped(target, len(PAIRS), 6, 1), axis=2)
        for index in range(6):
            row = self.part(whole, index, index + 1)
            column = self.add("Slice", whole, self.whole(index), self.whole(index + 1), self.whole(2))
            pivot = self.add("Slice", row, self.whole(index), self.whole(index + 1), self.whole(2))
            other = self.add("Sub", column, self.array(np.eye(6)[:, index : index + 1]))
            whole = self.add("Sub", whole, self.add("MatMul", other, self.add("Div", row, pivot)))
        return self.shaped(self.add("Slice", whole, self.whole(6), self.whole(7), self.whole(2)), len(PAIRS), 6)

    def statistics(self, one: str, other: str, scale: int) -> tuple[str, str]:
        """As `Aligner.statistics`."""
        kernels = self.array(slopes())
        parts = [
            self.add("Conv", self.extended(self.pooled(frame, scale)), kernels, kernel_shape=(3, 3)) for frame in (one, other)
        ]
        change = self.add("Sub", self.part(parts[1], 0, 1), self.part(parts[0], 0, 1))
        both = self.times(self.add("Add", *parts), 0.5)
        right, down = self.part(both, 1, 2), self.part(both, 2, 3)
        products = [*self.products(right, down, change), self.add("Mul", change, change)]
        cell = EDGE // CELLS // scale
        means = self.add("Concat", *(self.pooled(product, cell) for product in products), axis=1)
        around = self.add("AveragePool", means, kernel_shape=(3, 3), pads=(1,) * 4, count_include_pad=1)
        xx, xy, yy, xt, yt, tt = (self.part(around, index, index + 1) for index in range(6))
        more_x, more_y = self.plus(xx, GRADIENT_NOISE), self.plus(yy, GRADIENT_NOISE)
        safe = self.minor(more_x, more_y, xy, xy)
        moved = self.add("Concat", self.minor(xy, yt, more_y, xt), self.minor(xy, xt, more_x, yt), axis=1)
        moved = self.times(self.clipped(self.add("Div", moved, safe), FARTHEST), 1 / cell)
        known = self.add("Div", self.minor(xx, yy, xy, xy), safe)
        sizes = [self.times(self.add("Log", self.plus(size, GRADIENT_NOISE)), 0.25) for size in (self.add("Add", xx, yy), tt)]
        half = EDGE / scale / 2
        units = self.array(np.array([half * half] * 3 + [half] * 2 + [1]).reshape(1, 6, 1, 1))
        return self.add("Concat", moved, known, *sizes, axis=1), self.add("Mul", means, units)


def _difference(axis: int) -> NDArray[np.float32]:
    """Return the kernel (1, 1, 3, 3) of the difference of the neighbours to the right (0) or down (1)."""
    kernel = np.zeros((1, 1, 3, 3), np.float32)
    kernel[0, 0][(1, 0) if axis == 0 else (0, 1)] = -1
    kernel[0, 0][(1, 2) if axis == 0 else (2, 1)] = 1
    return kernel
