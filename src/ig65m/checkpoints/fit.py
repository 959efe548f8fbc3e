"""Tensors by state-dict key -> the network that they are: each tensor used once, no parameter left unset."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ig65m.errors import CheckpointError, ModelError, shown
from ig65m.models.resnet import ResNet, empty
from ig65m.models.spec import BLOCKS, ResNetSpec

_STAGE = re.compile(r"layer([1-4])\.(\d{1,3})\.")


def infer_spec(tensors: Mapping[str, Tensor]) -> ResNetSpec:
    """The network that tensors in VideoResNet's naming belong to: depth, channel multiplier, classes, input channels.

    Raises CheckpointError if they belong to none that is known here.
    """
    try:
        stem, head = tensors["stem.0.weight"], tensors["fc.weight"]
    except KeyError as missing:
        raise CheckpointError(f"there is no tensor {missing}: these are not the weights of an R(2+1)D network") from None
    bottleneck = "layer1.0.conv3.0.weight" in tensors
    inner_key = "conv2.0.3.weight"  # the temporal half of the block's last 3x3x3 convolution
    inner = [_rows(tensors, f"layer{stage}.0.{inner_key}") for stage in (1, 2, 3, 4)]
    blocks = _blocks(tensors)
    outputs = head.shape[1] if head.dim() == 2 else 0
    for depth in BLOCKS:
        spec = ResNetSpec(depth=depth, classes=1)
        if BLOCKS[depth] == blocks and spec.bottleneck == bottleneck and outputs // inner[-1] == spec.expansion:
            spec = replace(spec, classes=head.shape[0], in_channels=stem.shape[1] if stem.dim() == 5 else 0)
            return replace(spec, channel_multiplier=_multiplier(spec, inner, outputs))
    kind = "bottleneck" if bottleneck else "simple"
    raise CheckpointError(
        f"stages of {blocks} {kind} blocks with {outputs} features are of no depth known here ({list(BLOCKS)})"
    )


def build(tensors: Mapping[str, Tensor]) -> ResNet:
    """Tensors in VideoResNet's naming -> their network in eval mode; the batch norms' counters may be missing (then 0).

    The tensors become the network's own, without a copy where they are float32.

    Raises CheckpointError naming the tensors that are missing, left over, mis-shaped or not finite.
    """
    try:
        model = empty(infer_spec(tensors))
    except ModelError as error:
        raise CheckpointError(str(error)) from None
    expected = model.state_dict()
    state = {}
    for key, like in expected.items():
        if key.endswith("num_batches_tracked"):
            state[key] = _counter(key, tensors.get(key))
        elif key in tensors:
            state[key] = _checked(key, tensors[key], like)
    if missing := [key for key in expected if key not in state]:
        raise CheckpointError(f"missing from the weights of a {model.spec}: {shown(missing)}")
    if extra := [key for key in tensors if key not in expected]:
        raise CheckpointError(f"left over, a {model.spec} has no such tensor: {shown(extra)}")
    model.load_state_dict(state, assign=True)
    return model.eval()


def _checked(key: str, tensor: Tensor, like: Tensor) -> Tensor:
    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        raise CheckpointError(f"{key} is a {tensor.layout} tensor on {tensor.device}; expected a dense one")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{key} of shape {tuple(tensor.shape)} has fewer numbers than its shape says")
    if tensor.shape != like.shape:
        raise CheckpointError(f"{key} has the shape {tuple(tensor.shape)}; expected {tuple(like.shape)}")
    if not tensor.is_floating_point():
        raise CheckpointError(f"{key} holds {tensor.dtype}; expected floating-point numbers")
    tensor = tensor.to(torch.float32)
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{key} holds numbers that are not finite")
    if key.endswith("running_var") and bool((tensor < 0).any()):
        raise CheckpointError(f"{key} holds a negative variance")
    return tensor


def _counter(key: str, tensor: Tensor | None) -> Tensor:
    if tensor is None:
        return torch.zeros((), dtype=torch.int64)
    if tensor.shape != () or tensor.dtype != torch.int64:
        raise CheckpointError(f"{key} has the shape {tuple(tensor.shape)} and holds {tensor.dtype}; expected one int64")
    return tensor


def _rows(tensors: Mapping[str, Tensor], key: str) -> int:
    if key not in tensors or tensors[key].dim() < 1 or not len(tensors[key]):
        raise CheckpointError(f"there is no tensor {key!r}: these are not the weights of an R(2+1)D network")
    return tensors[key].shape[0]


def _blocks(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Number of blocks in each stage."""
    counts: dict[int, int] = {}
    for key in tensors:
        if match := _STAGE.match(key):
            stage, block = int(match[1]), int(match[2])
            counts[stage] = max(counts.get(stage, 0), block + 1)
    return tuple(counts[stage] for stage in sorted(counts))


def _multiplier(spec: ResNetSpec, inner: list[int], outputs: int) -> float:
    """The shortest decimal that makes the inner widths and the number of features what they are, rounded down as VMZ does.

    Worked example: widths 19, 38, 76, 153 of bases 64, 128, 256, 512 leave [0.2988, 0.3008): 0.3.
    """
    low = max(outputs / spec.widths[-1], *(width / base for width, base in zip(inner, spec.inner_widths, strict=True)))
    for digits in range(1, 12):
        candidate: float = math.ceil(low * 10**digits) / 10**digits
        scaled = replace(spec, channel_multiplier=candidate)
        if list(scaled.inner_widths) == inner and scaled.widths[-1] == outputs:
            return candidate
    raise CheckpointError(
        f"stages of widths {inner} and {outputs} features are not those of {spec} times one channel multiplier"
    )
