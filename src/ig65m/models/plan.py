"""The layers of a network, from its spec: paths, shapes and strides as data. No torch.

Graphs, shapes of weights and counts of multiply-adds are made from this. The modules of `resnet.py` and `c3d.py` have the same
paths.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ig65m.errors import ModelError
from ig65m.models.spec import BLOCKS, STEM_MIDDLE, STEM_WIDTH, C3DSpec, Convolution, ResNetSpec, Spec, middle_channels

Triple = tuple[int, int, int]
"""Along time, height and width."""

ONE: Final = (1, 1, 1)
COUNTER: Final = "num_batches_tracked"

# Names and output channels of C3D's convolutions, in the groups of C3DSpec.group_widths: conv1a; conv2a; conv3a, conv3b; ...
C3D_GROUPS: Final = tuple(
    tuple((f"conv{number}{letter}", outputs) for letter, outputs in zip("ab", widths, strict=False))
    for number, widths in enumerate(C3DSpec.group_widths, 1)
)


@dataclass(frozen=True, slots=True)
class Conv:
    """A 3-D convolution, and the batch norm that follows it."""

    path: str
    norm: str  # path of the batch norm
    inputs: int
    outputs: int
    kernel: Triple
    stride: Triple
    padding: Triple
    groups: int = 1
    bias: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its weight."""
        return (self.outputs, self.inputs // self.groups, *self.kernel)


@dataclass(frozen=True, slots=True)
class Relu:
    """max(x, 0)."""

    path: str


@dataclass(frozen=True, slots=True)
class MaxPool:
    """The maximum over a window."""

    path: str
    kernel: Triple
    stride: Triple
    padding: Triple


Layer = Conv | Relu | MaxPool


@dataclass(frozen=True, slots=True)
class Block:
    """A residual block: ReLU of the sum of what both chains of layers make of its input; an empty shortcut passes it on."""

    path: str
    layers: tuple[Layer, ...]
    shortcut: tuple[Layer, ...]

    def __iter__(self) -> Iterator[Layer]:
        return iter((*self.layers, *self.shortcut))


@dataclass(frozen=True)
class Plan:
    """A network up to its feature maps: layers in sequence, then stages of residual blocks; C3D has none."""

    stem: tuple[Layer, ...]
    stages: tuple[tuple[Block, ...], ...]
    eps: float
    """The eps of batch norms."""

    @property
    def layers(self) -> Iterator[Layer]:
        """All layers, in the order of the state dict."""
        yield from self.stem
        for stage in self.stages:
            for block in stage:
                yield from block

    @property
    def convolutions(self) -> dict[str, Conv]:
        """All convolutions by their paths."""
        return {layer.path: layer for layer in self.layers if isinstance(layer, Conv)}


def plan_of(spec: Spec) -> Plan:
    """Return the layers of the network. Raises ModelError if one is impossible."""
    if isinstance(spec, C3DSpec):
        return Plan(tuple(_c3d(spec)), (), eps=1e-3)
    stages = []
    width = STEM_WIDTH
    facts = zip(BLOCKS[spec.depth], spec.convolutions[1:], spec.inner_widths, spec.widths, strict=True)
    for number, (blocks, kind, inner, outputs) in enumerate(facts, 1):
        stage = []
        for index in range(blocks):
            stride = 2 if number > 1 and index == 0 else 1
            stage.append(_block(spec, kind, f"layer{number}.{index}", (width, inner, outputs), stride))
            width = outputs
        stages.append(tuple(stage))
    return Plan(tuple(_stem(spec)), tuple(stages), spec.eps)


def head_shapes(spec: Spec) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all weights after the feature maps, by their keys in the state dict."""
    widths = {"fc": (spec.classes, spec.feature_width)} if spec.classes else {}
    if isinstance(spec, C3DSpec):
        width = spec.feature_width
        widths = {"fc6": (width, spec.group_widths[-1][-1] * 3 * 3), "fc7": (width, width), **widths}
    shapes: dict[str, tuple[int, ...]] = {}
    for path, shape in widths.items():
        shapes |= {f"{path}.weight": shape, f"{path}.bias": shape[:1]}
    if spec.multi_label:
        shapes |= {f"pred_logit.{leaf}": (spec.classes,) for leaf in ("weight", "bias")}
    return shapes


def shapes_of(spec: Spec, *, folded: bool = False) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all weights, by their keys in the state dict; `folded`: with batch norms folded into biases."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path, conv in plan_of(spec).convolutions.items():
        width = (conv.outputs,)
        shapes[f"{path}.weight"] = conv.shape
        if conv.bias or folded:
            shapes[f"{path}.bias"] = width
        if not folded:
            shapes |= {f"{conv.norm}.{leaf}": width for leaf in ("weight", "bias", "running_mean", "running_var")}
            shapes[f"{conv.norm}.{COUNTER}"] = ()
    return shapes | head_shapes(spec)


def _stem(spec: ResNetSpec) -> Iterator[Layer]:
    kind = spec.convolutions[0]
    if kind == "2plus1d":
        yield _conv("stem.0", "stem.1", spec.in_channels, STEM_MIDDLE, (1, 7, 7), (1, 2, 2))
        yield Relu("stem.2")
        yield _conv("stem.3", "stem.4", STEM_MIDDLE, STEM_WIDTH, (3, 1, 1))
        relu = 5
    else:
        length = spec.clip_frames or {"3d": 3, "2d": 1}[kind]
        padding = (0 if kind == "clip" else length // 2, 3, 3)
        yield Conv("stem.0", "stem.1", spec.in_channels, STEM_WIDTH, (length, 7, 7), (1, 2, 2), padding)
        relu = 2
    yield Relu(f"stem.{relu}")
    if spec.pool1:
        yield MaxPool(f"stem.{relu + 1}", (1, 3, 3), (1, 2, 2), (0, 1, 1))


def _block(spec: ResNetSpec, kind: Convolution, path: str, widths: Triple, stride: int) -> Block:
    """A block of `widths` inputs, inner channels and outputs: two convolutions, or three with a bottleneck."""
    inputs, inner, outputs = widths
    first, second, third = (f"{path}.conv{number}" for number in (1, 2, 3))
    if spec.bottleneck:
        layers = [
            *(_conv(f"{first}.0", f"{first}.1", inputs, inner, ONE), Relu(f"{first}.2")),
            *(*_convolution(kind, second, inner, inner, stride), Relu(f"{second}.2")),
            _conv(f"{third}.0", f"{third}.1", inner, outputs, ONE),
        ]
    else:
        middle = middle_channels(inputs, outputs) if spec.builder == "torchvision" else None
        layers = [
            *(*_convolution(kind, first, inputs, outputs, stride, middle), Relu(f"{first}.2")),
            *_convolution(kind, second, outputs, outputs, 1, middle),
        ]
    if inputs == outputs and stride == 1:
        return Block(path, tuple(layers), ())
    strides = (1 if kind == "2d" else stride, stride, stride)
    projection = _conv(f"{path}.downsample.0", f"{path}.downsample.1", inputs, outputs, ONE, strides)
    return Block(path, tuple(layers), (projection,))


def _convolution(
    kind: Convolution, path: str, inputs: int, outputs: int, stride: int, middle: int | None = None
) -> Iterator[Layer]:
    """Yield what makes up a 3x3x3 convolution of an architecture, and the batch norm after it."""
    own, norm, strides = f"{path}.0", f"{path}.1", (stride, stride, stride)
    match kind:
        case "2plus1d":
            middle = middle_channels(inputs, outputs) if middle is None else middle
            yield _conv(f"{own}.0", f"{own}.1", inputs, middle, (1, 3, 3), (1, stride, stride))
            yield Relu(f"{own}.2")
            yield _conv(f"{own}.3", norm, middle, outputs, (3, 1, 1), (stride, 1, 1))
        case "ip":
            yield _conv(f"{own}.0", f"{own}.1", inputs, outputs, ONE)
            yield _conv(f"{own}.2", norm, outputs, outputs, (3, 3, 3), strides, outputs)
        case "ir":
            if outputs % inputs:
                raise ModelError(f"a depthwise convolution of {inputs} channels cannot have {outputs} outputs")
            yield _conv(own, norm, inputs, outputs, (3, 3, 3), strides, inputs)
        case "2d":
            yield _conv(own, norm, inputs, outputs, (1, 3, 3), (1, stride, stride))
        case _:
            yield _conv(own, norm, inputs, outputs, (3, 3, 3), strides)


def _conv(path: str, norm: str, inputs: int, outputs: int, kernel: Triple, stride: Triple = ONE, groups: int = 1) -> Conv:
    """A convolution padded so that stride 1 keeps the size."""
    time, height, width = kernel
    return Conv(path, norm, inputs, outputs, kernel, stride, (time // 2, height // 2, width // 2), groups)


def _c3d(spec: C3DSpec) -> Iterator[Layer]:
    inputs = spec.in_channels
    for number, group in enumerate(C3D_GROUPS, 1):
        for name, outputs in group:
            yield Conv(name, f"{name}_bn", inputs, outputs, (3, 3, 3), ONE, ONE, bias=True)
            yield Relu(f"{name}_relu")
            inputs = outputs
        window = (1 if number == 1 else 2, 2, 2)
        yield MaxPool(f"pool{number}", window, window, (0, 0, 0))
