"""The ONNX graph of the aligner that OpenVINO and ONNX Runtime run: pixels in, alignments of pairs out."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ig65m.models.aligner_plan import (
    CELLS,
    CONTRAST,
    CONVS,
    DAMPING,
    DARK,
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
    margin_at,
    slopes,
)
from ig65m.motion.weights import MotionWeights
from ig65m.onnx_graph import GraphBuilder


def graph_of(weights: MotionWeights) -> onnx.ModelProto:
    """Return the network as a graph: `pixels` (1, WINDOW, 96, 96, 3) uint8 -> `alignments` (len(PAIRS), 50) float32.

    It is the function of `models.aligner.Aligner` for the pairs of frames in PAIRS, but for the cells.
    """
    return _Builder(weights).network()


CELLS_OF_PAIRS: Final = (len(PAIRS), 1, CELLS, CELLS)


class Equations(NamedTuple):
    """Normal equations of six parameters in blocks: (P, 3, 3) of the first and last three, right sides (P, 3, 1)."""

    xx: str
    xy: str
    yy: str
    x: str
    y: str


class Bounds(NamedTuple):
    """As `aligner.Bounds`."""

    own: dict[int, str]  # by size: which pixels of the first frames show the picture (1, P, size, size)
    other: str  # `bounds_of` the second frames


class Statistics(NamedTuple):
    """As `Aligner.statistics`, but one by one, and products in pixels of their scale."""

    shown: list[str]  # (P, 1, 24, 24)
    products: list[str]  # (1, P, 24, 24)
    scale: int


class _Builder(GraphBuilder):
    """Adds the parts of the network to the graph.

    Grey pictures of pairs are (1, P, height, width): engines filter many channels faster than many pictures of one channel.
    """

    def __init__(self, weights: MotionWeights) -> None:
        super().__init__()
        self.arrays = weights.arrays

    def network(self) -> onnx.ModelProto:
        x = self.add("Cast", self.add("Squeeze", "pixels", self.whole(0)), to=TensorProto.FLOAT)
        x = self.add("Transpose", x, perm=(0, 3, 1, 2))
        starts, ends = (self.whole(*each) for each in zip(*PAIRS, strict=True))
        found = self.bounds_of(x)
        of_first, of_second = (self.add("Gather", found, each, axis=0) for each in (starts, ends))
        bounds = Bounds({EDGE // scale: self.shown(of_first, EDGE // scale) for scale, _ in LEVELS}, of_second)
        both_shown = self.add("Mul", bounds.own[EDGE], self.shown(of_second, EDGE))
        x = self.standardised(x)
        grey = self.shaped(self.mean(x, 1), 1, WINDOW, EDGE, EDGE)
        start = self.first_alignment(grey, starts, ends, bounds)
        other = self.add("Gather", grey, ends, axis=1)
        warped, inside = self.warped(self.add("Gather", x, ends, axis=0), start, EDGE, bounds)
        context = self.add("Gather", self.encoded(x), starts, axis=0)
        second = self.shaped(self.mean(warped, 1), 1, len(PAIRS), EDGE, EDGE)
        first = {scale: self.add("Gather", self.pooled(grey, scale), starts, axis=1) for scale in {*SCALES, *REFINEMENTS}}
        statistics = [self.statistics(first[scale], second, scale) for scale in SCALES]
        still = [self.statistics(first[scale], other, scale) for scale in SCALES]
        seen = self.pooled(inside, EDGE // CELLS)
        shift = self.times(self.displacement(start, CELLS), CELLS / 2)
        shown = [part for each in (*statistics, *still) for part in each.shown]
        x = self.add("Concat", context, self.encoded(warped), *shown, shift, self.shaped(seen, *CELLS_OF_PAIRS), axis=1)
        x = self.add("Relu", self.conv("merge", x))
        for path in DECODER:
            x = self.add("Relu", self.add("Add", x, self.conv(path, x)))
        x = self.add("Relu", self.add("Add", x, self.conv("whole", self.mean(x, 2, 3))))
        judged = self.shaped(self.conv("judge", self.mean(x, 2, 3)), len(PAIRS), 2)
        cell = self.conv("cell", x)
        count = len(SCALES)
        aligned = self.weighed(statistics, self.part(cell, 0, count), seen)
        unmoved = self.weighed(still, self.part(cell, count, 2 * count), self.pooled(both_shown, EDGE // CELLS))
        gone = self.add("MatMul", self.matrix(unmoved), self.shaped(start, len(PAIRS), 6, 1))
        gone_x, gone_y = (self.shaped(self.part(gone, *rows), len(PAIRS), 3, 1) for rows in ((0, 3), (3, 6)))
        unmoved = unmoved._replace(x=self.add("Sub", unmoved.x, gone_x), y=self.add("Sub", unmoved.y, gone_y))
        equations = self.total([aligned, unmoved])
        for scale in REFINEMENTS:
            start = self.add("Add", start, self.clipped(self.solved(equations), LONGEST_STEP))
            warped, inside = self.warped_grey(other, start, EDGE, bounds)
            again = self.statistics(first[scale], warped, scale)
            seen = self.pooled(inside, EDGE // CELLS)
            equations = self.weighed([again], self.part(cell, 2 * count, 2 * count + 1), seen)
        normal = self.shaped(self.matrix(equations), len(PAIRS), 36)
        sides = [self.shaped(side, len(PAIRS), 3) for side in (equations.x, equations.y)]
        self.add("Concat", start, normal, *sides, judged, axis=1, name="alignments")
        return self.model(
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, (1, WINDOW, EDGE, EDGE, 3))],
            [helper.make_tensor_value_info("alignments", TensorProto.FLOAT, (len(PAIRS), sum(SIZES)))],
        )

    def weighed(self, statistics: Sequence[Statistics], logs: str, seen: str) -> Equations:
        """As `Aligner.weighed`."""
        found = []
        for index, each in enumerate(statistics):
            weight = self.add("Exp", self.clipped(self.part(logs, index, index + 1), 8.0))
            weight = self.add("Mul", self.shaped(weight, 1, len(PAIRS), CELLS, CELLS), seen)
            weight = self.add("Div", weight, self.plus(each.products[5], NOISE))
            weighed = [self.add("Mul", product, weight) for product in each.products[:5]]
            found.append(self.equations(weighed, CELLS, EDGE / each.scale / 2))
        return self.total(found)

    def total(self, equations: Sequence[Equations]) -> Equations:
        """Add equations up."""
        if len(equations) == 1:
            return equations[0]
        return Equations(*(self.add("Sum", *parts) for parts in zip(*equations, strict=True)))

    def matrix(self, equations: Equations) -> str:
        """Put the blocks of the left side together (P, 6, 6)."""
        rows = [(equations.xx, equations.xy), (equations.xy, equations.yy)]
        return self.add("Concat", *(self.add("Concat", *row, axis=2) for row in rows), axis=1)

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

    def filtered(self, x: str, kernel: NDArray[np.floating], count: int = len(PAIRS)) -> str:
        """Grey pictures (1, count, height, width) under a kernel (1, 3, 3)."""
        return self.add("Conv", x, self.array(np.stack([kernel] * count)), kernel_shape=(3, 3), group=count)

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

    def warped(self, frames: str, p: str, size: int, bounds: Bounds) -> tuple[str, str]:
        """As `Aligner.warped`."""
        whole = self.add("Add", p, self.array(np.eye(2, 3, 1).reshape(1, 6)))  # the displacement and the pixel's own place
        places = coordinates(size)
        interleaved = np.eye(2)[:, None, None] * places[:, :, None]  # parameters of x or y, 1 x y, pixels, x or y
        grid = self.add("MatMul", whole, self.array(interleaved.reshape(6, -1)))
        grid = self.shaped(grid, len(PAIRS), size, size, 2)
        seen = self.add("GridSample", frames, grid, mode="linear", padding_mode="border", align_corners=0)
        x, y = (self.add("MatMul", self.part(whole, *rows), self.array(places)) for rows in ((0, 3), (3, 6)))
        inside = self.shaped(self.within(x, y, bounds.other, size), 1, len(PAIRS), size, size)
        return seen, self.add("Mul", inside, bounds.own[size])

    def bounds_of(self, x: str) -> str:
        """As `aligner.bounds_of`, in a row (WINDOW, 4): start and end of x, of y."""
        bright = self.add("Greater", self.add("ReduceMax", x, self.whole(1), keepdims=0), self.number(DARK))
        bright, ends = self.add("Cast", bright, to=TensorProto.FLOAT), []
        for axis in (1, 2):
            profile = self.add("ReduceMax", bright, self.whole(axis), keepdims=0)  # (WINDOW, EDGE)
            for last in (0, 1):
                end = self.add("ArgMax", profile, axis=1, keepdims=1, select_last_index=last)
                end = self.plus(self.add("Cast", end, to=TensorProto.FLOAT), float(last))
                ends.append(self.plus(self.times(end, 2 / EDGE), -1.0))
        return self.add("Concat", *ends, axis=1)

    def within(self, x: str, y: str, bounds: str, size: int) -> str:
        """Whether places x and y (P or 1, N or 1, ...) are within bounds (P, 4), less a margin where bars are: 0 or 1."""
        margin = margin_at(size)
        checks = []
        for number, places in enumerate((x, x, y, y)):
            end = self.add("Slice", bounds, self.whole(number), self.whole(number + 1), self.whole(1))
            low = number % 2 == 0
            barred = self.add("Greater", end, self.number(-1)) if low else self.add("Less", end, self.number(1))
            end = self.add("Where", barred, self.plus(end, margin if low else -margin), end)
            checks.append(self.add("Greater" if low else "Less", places, end))
        both = self.add("And", self.add("And", *checks[:2]), self.add("And", *checks[2:]))
        return self.add("Cast", both, to=TensorProto.FLOAT)

    def shown(self, bounds: str, size: int) -> str:
        """Which pixels of frames show the picture: (1, P, size, size)."""
        x, y = (self.array(places[None]) for places in coordinates(size)[1:])
        return self.shaped(self.within(x, y, bounds, size), 1, len(PAIRS), size, size)

    def warped_grey(self, frames: str, p: str, size: int, bounds: Bounds) -> tuple[str, str]:
        """As `warped`, of grey pictures."""
        seen, inside = self.warped(self.shaped(frames, len(PAIRS), 1, size, size), p, size, bounds)
        return self.shaped(seen, 1, len(PAIRS), size, size), inside

    def first_alignment(self, grey: str, starts: str, ends: str, bounds: Bounds) -> str:
        """As `Aligner.first_alignment`."""
        p = self.constant(np.zeros((len(PAIRS), 6), np.float32))
        smooth = slopes()[0]
        differences = [_difference(axis) for axis in (0, 1)]
        for scale, steps in LEVELS:
            size = EDGE // scale
            smoothed = self.filtered(self.extended(self.pooled(grey, scale)), smooth, WINDOW)
            first, second = (self.add("Gather", smoothed, each, axis=1) for each in (starts, ends))
            for _ in range(steps):
                warped, inside = self.warped_grey(second, p, size, bounds)
                both = self.extended(self.times(self.add("Add", first, warped), 0.5))
                right, down = (self.times(self.filtered(both, kernel), size / 4) for kernel in differences)
                change = self.add("Sub", warped, first)
                usual = self.mean(self.add("Mul", self.add("Abs", change), inside), 2, 3)
                usual = self.add("Div", usual, self.plus(self.mean(inside, 2, 3), 1e-3))
                strange = self.add("Div", change, self.plus(self.times(usual, ROBUST), LEAST_DIFFERENCE))
                weight = self.add("Div", inside, self.plus(self.add("Mul", strange, strange), 1.0))
                products = [self.add("Mul", product, weight) for product in self.products(right, down, change)]
                p = self.add("Add", p, self.clipped(self.solved(self.equations(products, size, 1.0)), LONGEST_STEP))
        return p

    def products(self, right: str, down: str, change: str) -> list[str]:
        """Products of gradients and differences; put together as channels, they would be copied."""
        pairs = ((right, right), (right, down), (down, down), (right, change), (down, change))
        return [self.add("Mul", *pair) for pair in pairs]

    def equations(self, products: Sequence[str], size: int, half: float) -> Equations:
        """As `aligner.equations`; `half`: pixels of the products in one unit of the parameters."""
        flat = [self.shaped(product, len(PAIRS), size * size) for product in products]
        places = coordinates(size)
        outer = self.array(half * half * (places[:, None] * places[None]).reshape(9, -1).T)
        blocks = [self.shaped(self.add("MatMul", each, outer), len(PAIRS), 3, 3) for each in flat[:3]]
        sides = [self.add("MatMul", each, self.array(-half * places.T)) for each in flat[3:]]
        return Equations(*blocks, *(self.shaped(side, len(PAIRS), 3, 1) for side in sides))

    def solved(self, equations: Equations) -> str:
        """As `aligner.solved`, with damping, but by blocks: fewer operations for an engine."""
        xx, xy, yy, x, y = equations
        eye = self.array(np.eye(3))
        trace = self.add("ReduceSum", self.add("Mul", self.add("Add", xx, yy), eye), self.whole(1, 2), keepdims=1)
        more = self.add("Mul", self.times(self.plus(self.times(trace, 1 / 6), 1.0), DAMPING), eye)
        inverse = self.inverse(self.add("Add", xx, more))
        across = self.add("MatMul", inverse, xy)
        rest = self.add("Sub", self.add("Add", yy, more), self.add("MatMul", xy, across))
        back = self.add("Transpose", across, perm=(0, 2, 1))
        last = self.add("MatMul", self.inverse(rest), self.add("Sub", y, self.add("MatMul", back, x)))
        first = self.add("Sub", self.add("MatMul", inverse, x), self.add("MatMul", across, last))
        return self.shaped(self.add("Concat", first, last, axis=1), len(PAIRS), 6)

    def inverse(self, x: str) -> str:
        """Inverse of symmetric matrices (P, 3, 3), by their cofactors."""
        flat = self.shaped(x, len(PAIRS), 9)
        # The cofactor of row i, column j is m[i1, j1]·m[i2, j2] - m[i1, j2]·m[i2, j1], with i1 = i + 1, i2 = i + 2 modulo 3.
        factors = [
            self.add("Gather", flat, self.whole(*((i + a) % 3 * 3 + (j + b) % 3 for i in range(3) for j in range(3))), axis=1)
            for a, b in ((1, 1), (2, 2), (1, 2), (2, 1))
        ]
        cofactors = self.minor(*factors)
        thrice = self.add("ReduceSum", self.add("Mul", flat, cofactors), self.whole(1), keepdims=1)
        return self.shaped(self.add("Div", self.times(cofactors, 3.0), thrice), len(PAIRS), 3, 3)

    def statistics(self, one: str, other: str, scale: int) -> Statistics:
        """Compare first frames, which are reduced to the scale, with second ones, which are not."""
        other = self.pooled(other, scale)
        both = self.times(self.extended(self.add("Add", one, other)), 0.5)
        smooth, *kernels = slopes()
        change = self.filtered(self.extended(self.add("Sub", other, one)), smooth)
        right, down = (self.filtered(both, kernel) for kernel in kernels)
        cell = EDGE // CELLS // scale
        products = [self.pooled(each, cell) for each in (*self.products(right, down, change), self.add("Mul", change, change))]
        xx, xy, yy, xt, yt, tt = (
            self.add("AveragePool", each, kernel_shape=(3, 3), pads=(1,) * 4, count_include_pad=1) for each in products
        )
        more_x, more_y = self.plus(xx, GRADIENT_NOISE), self.plus(yy, GRADIENT_NOISE)
        safe = self.minor(more_x, more_y, xy, xy)
        moved = [self.add("Div", part, safe) for part in (self.minor(xy, yt, more_y, xt), self.minor(xy, xt, more_x, yt))]
        moved = [self.times(self.clipped(part, FARTHEST), 1 / cell) for part in moved]
        known = self.add("Div", self.minor(xx, yy, xy, xy), safe)
        sizes = [self.times(self.add("Log", self.plus(size, GRADIENT_NOISE)), 0.25) for size in (self.add("Add", xx, yy), tt)]
        shown = [self.shaped(each, *CELLS_OF_PAIRS) for each in (*moved, known, *sizes)]
        return Statistics(shown, products, scale)


def _difference(axis: int) -> NDArray[np.float32]:
    """Return the kernel (1, 3, 3) of the difference of the neighbours to the right (0) or down (1)."""
    kernel = np.zeros((1, 3, 3), np.float32)
    kernel[0][(1, 0) if axis == 0 else (0, 1)] = -1
    kernel[0][(1, 2) if axis == 0 else (2, 1)] = 1
    return kernel
