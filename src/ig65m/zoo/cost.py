"""Parameters and multiply-adds of a network, computed from its spec without PyTorch."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Final, NamedTuple

from ig65m.models.card import Card
from ig65m.models.plan import Conv, Layer, Relu, Triple, head_shapes, plan_of
from ig65m.models.spec import ResNetSpec, Spec
from ig65m.zoo.published import MODELS_MD

VMZ_CLASSES: Final = 400  # classes in VMZ's counts, whatever the checkpoint has


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


class _Product(NamedTuple):
    """A convolution and the number of its output positions."""

    conv: Conv
    places: int


def cost(card: Card) -> Cost:
    """Count a card's network, at 8 frames if the card has no clip length."""
    spec, crop = card.spec, card.crop
    size = (card.frames or 8, *crop)
    products = list(_products(spec, size))
    weights = sum(prod(product.conv.shape) for product in products)
    others = sum((3 if product.conv.bias else 2) * product.conv.outputs for product in products)
    head = _head(spec, spec.classes)
    vmz_head = _head(spec, VMZ_CLASSES)

    resize = card.preprocessing.resize
    edge = min(resize) if isinstance(resize, tuple) else resize
    vmz_size, windows = size, 1
    if isinstance(spec, ResNetSpec) and card.page != MODELS_MD:
        vmz_size = (size[0], edge, edge)
        windows = prod(a - b + 1 for a, b in zip(spec.map_size(edge, edge), spec.map_size(*crop), strict=True))
    return Cost(
        parameters=weights + others + sum(map(prod, head_shapes(spec).values())),
        multiply_adds=_multiply_adds(products) + head,
        vmz_parameters=weights + vmz_head,
        vmz_multiply_adds=_multiply_adds(_products(spec, vmz_size)) + vmz_head * windows,
    )


def _multiply_adds(products: Iterable[_Product]) -> int:
    return sum(prod(product.conv.shape) * product.places for product in products)


def _head(spec: Spec, classes: int) -> int:
    """Return the weights of all layers after the last convolution, with that many classes."""
    if not classes:
        return 0
    shapes = head_shapes(replace(spec, classes=classes))
    return sum(prod(shape) for shape in shapes.values() if len(shape) > 1)


def _products(spec: Spec, size: Triple) -> Iterator[_Product]:
    plan = plan_of(spec)
    size = yield from _chain(plan.stem, size)
    for stage, keep_time in zip(plan.stages, spec.keeps_time(size[0]), strict=True):
        for number, block in enumerate(stage):
            drop = keep_time and number == 0
            yield from _chain(block.shortcut, size, keep_time=drop)
            size = yield from _chain(block.layers, size, keep_time=drop)


def _chain(layers: Iterable[Layer], size: Triple, *, keep_time: bool = False) -> Generator[_Product, None, Triple]:
    """Yield the convolutions of layers in sequence, and return the size of their output."""
    for layer in layers:
        if not isinstance(layer, Relu):
            stride = (1, *layer.stride[1:]) if keep_time else layer.stride
            windows = zip(size, layer.padding, layer.kernel, stride, strict=True)
            time, height, width = ((length + 2 * pad - kernel) // step + 1 for length, pad, kernel, step in windows)
            size = (time, height, width)
        if isinstance(layer, Conv):
            yield _Product(layer, prod(size))
    return size
