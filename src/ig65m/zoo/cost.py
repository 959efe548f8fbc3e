"""Parameters and multiply-adds of a network, computed from its spec without PyTorch."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import NamedTuple

from ig65m.models.card import Card
from ig65m.models.spec import BLOCKS, STEM_MIDDLE, STEM_WIDTH, C3DSpec, Convolution, ResNetSpec, Spec, middle_channels
from ig65m.zoo.published import MODELS_MD

VMZ_CLASSES = 400  # classes in VMZ's counts, whatever the checkpoint has


@dataclass(frozen=True)
class Cost:
    """Size of a network, and multiply-adds of its convolutions and last layer for one clip.

    The VMZ counts follow VMZ's tables: with a last layer of 400 classes; parameters without batch norms and biases;
    multiply-adds at the full shorter edge for networks that VMZ tested fully convolutionally.
    """

    parameters: int  # all trainable numbers
    multiply_adds: int  # for a clip of the card's crop
    vmz_parameters: int
    vmz_multiply_adds: int


class _Layer(NamedTuple):
    """A convolution and its batch norm: weights, output positions, output channels."""

    weights: int
    places: int
    outputs: int


_Size = tuple[int, int, int]  # frames, height, width


def cost(card: Card) -> Cost:
    """Count a card's network, at 8 frames if the card has no clip length."""
    spec, crop = card.spec, card.preprocessing.crop
    size = (card.frames or 8, *crop)
    layers = list(_layers(spec, size))
    weights, biases = sum(layer.weights for layer in layers), 2 * sum(layer.outputs for layer in layers)
    if isinstance(spec, C3DSpec):
        biases += sum(layer.outputs for layer in layers)  # of the convolutions alone
    head, head_biases = _head(spec, spec.classes)
    vmz_head, _ = _head(spec, VMZ_CLASSES)

    resize = card.preprocessing.resize
    edge = min(resize) if isinstance(resize, tuple) else resize
    vmz_size, windows = size, 1
    if isinstance(spec, ResNetSpec) and card.page != MODELS_MD:
        vmz_size = (size[0], edge, edge)
        windows = prod(a - b + 1 for a, b in zip(spec.map_size(edge, edge), spec.map_size(*crop), strict=True))
    return Cost(
        parameters=weights + biases + head + head_biases,
        multiply_adds=_multiply_adds(layers) + head,
        vmz_parameters=weights + vmz_head,
        vmz_multiply_adds=_multiply_adds(_layers(spec, vmz_size)) + vmz_head * windows,
    )


def _multiply_adds(layers: Iterator[_Layer] | list[_Layer]) -> int:
    return sum(layer.weights * layer.places for layer in layers)


def _head(spec: Spec, classes: int) -> tuple[int, int]:
    """Return the weights of all layers after the last convolution, and their other parameters."""
    widths = [spec.feature_width, classes]
    if isinstance(spec, C3DSpec):
        widths = [spec.group_widths[-1][-1] * 3 * 3, spec.feature_width, spec.feature_width, classes]
    others = sum(widths[1:]) + (2 * classes if spec.multi_label else 0)
    return sum(inputs * outputs for inputs, outputs in pairwise(widths)), others


def _layers(spec: Spec, size: _Size) -> Iterator[_Layer]:
    return _c3d(spec, size) if isinstance(spec, C3DSpec) else _resnet(spec, size)


def _c3d(spec: C3DSpec, size: _Size) -> Iterator[_Layer]:
    inputs = spec.in_channels
    for index, group in enumerate(spec.group_widths):
        for outputs in group:
            yield _Layer(27 * inputs * outputs, prod(size), outputs)
            inputs = outputs
        frames, height, width = size
        size = (frames // 2 if index else frames, height // 2, width // 2)


def _resnet(spec: ResNetSpec, size: _Size) -> Iterator[_Layer]:
    frames = size[0]
    kind = spec.convolutions[0]
    size = _strided(size, 1, 2)
    if kind == "2plus1d":
        yield _Layer(49 * spec.in_channels * STEM_MIDDLE, prod(size), STEM_MIDDLE)
        yield _Layer(3 * STEM_MIDDLE * STEM_WIDTH, prod(size), STEM_WIDTH)
    else:
        length = spec.clip_frames or {"3d": 3, "2d": 1}[kind]
        size = (1, *size[1:]) if kind == "clip" else size
        yield _Layer(49 * length * spec.in_channels * STEM_WIDTH, prod(size), STEM_WIDTH)
    if spec.pool1:
        size = _strided(size, 1, 2)
    inputs = STEM_WIDTH
    stages = zip(BLOCKS[spec.depth], spec.convolutions[1:], spec.inner_widths, spec.widths, strict=True)
    for index, (blocks, kind, inner, outputs) in enumerate(stages):
        keep_time = kind == "2d" or spec.keeps_time(frames)[index]
        for block in range(blocks):
            space = 2 if index and not block else 1
            time = 1 if keep_time else space
            out = _strided(size, time, space)
            if spec.bottleneck:
                yield _Layer(inputs * inner, prod(size), inner)
                yield from _convolution(kind, inner, inner, size, time, space)
                yield _Layer(inner * outputs, prod(out), outputs)
            else:
                shared = middle_channels(inputs, outputs) if spec.builder == "torchvision" else None
                yield from _convolution(kind, inputs, outputs, size, time, space, shared)
                yield from _convolution(kind, outputs, outputs, out, 1, 1, shared)
            if inputs != outputs or space > 1:
                yield _Layer(inputs * outputs, prod(out), outputs)
            inputs, size = outputs, out


def _convolution(
    kind: Convolution, inputs: int, outputs: int, size: _Size, time: int, space: int, middle: int | None = None
) -> Iterator[_Layer]:
    """Yield the convolutions that make up a 3x3x3 convolution with these strides."""
    out = _strided(size, time, space)
    match kind:
        case "2plus1d":
            middle = middle or middle_channels(inputs, outputs)
            yield _Layer(9 * inputs * middle, prod(_strided(size, 1, space)), middle)
            yield _Layer(3 * middle * outputs, prod(out), outputs)
        case "ip":
            yield _Layer(inputs * outputs, prod(size), outputs)
            yield _Layer(27 * outputs, prod(out), outputs)
        case "ir":
            yield _Layer(27 * outputs, prod(out), outputs)
        case "2d":
            yield _Layer(9 * inputs * outputs, prod(out), outputs)
        case _:
            yield _Layer(27 * inputs * outputs, prod(out), outputs)


def _strided(size: _Size, time: int, space: int) -> _Size:
    """Return the size after a stride, for padding that keeps the size at stride 1."""
    frames, height, width = size
    return -(-frames // time), -(-height // space), -(-width // space)
