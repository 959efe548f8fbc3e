"""Tensors by state-dict key -> the network that they are: each tensor used once, no parameter left unset."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ig65m.errors import CheckpointError, ModelError, shown
from ig65m.models.resnet import ResNet, empty
from ig65m.models.spec import BLOCKS, ResNetSpec

CHANNELS = (2, 3)  # of optical flow and of video
MAX_WIDTH = 1 << 16  # channels of a stage; the widest network of VMZ has 2048

Shapes = Mapping[str, tuple[int, ...]]

_STAGE = re.compile(r"layer([1-4])\.([0-9]{1,3})\.")
_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def infer_spec(shapes: Shapes, called: Mapping[str, str] | None = None) -> ResNetSpec:
    """The network that shapes in VideoResNet's naming belong to: depth, channel multiplier, classes, input channels.

    `called` is what the file calls these tensors, if not by their keys.

    Raises CheckpointError if they belong to none that is known here.
    """
    names = {} if called is None else called

    def shape(key: str, dimensions: int) -> tuple[int, ...]:
        if key not in shapes:
            raise CheckpointError(f"there is no tensor {key!r}: these are not the weights of an R(2+1)D network")
        if len(shapes[key]) != dimensions or 0 in shapes[key]:
            name = names.get(key, key)
            raise CheckpointError(f"{name} has the shape {shapes[key]}; expected {dimensions} dimensions, none of them empty")
        return shapes[key]

    stem, head = shape(stem_key := "stem.0.weight", 5), shape("fc.weight", 2)
    bottleneck = "layer1.0.conv3.0.weight" in shapes
    # the temporal half of the last 3x3x3 convolution of each stage's first block
    inner_keys = [f"layer{stage}.0.conv2.0.3.weight" for stage in (1, 2, 3, 4)]
    inner = [shape(key, 5)[0] for key in inner_keys]
    blocks = _blocks(shapes)
    outputs = head[1]
    if stem[1] not in CHANNELS:
        raise CheckpointError(f"{names.get(stem_key, stem_key)} takes {stem[1]} channels; video has 3, optical flow 2")
    if (widest := max(*inner, outputs)) > MAX_WIDTH:
        raise CheckpointError(f"it is {widest} channels wide; no network of VMZ has more than 2048")
    for depth in BLOCKS:
        spec = ResNetSpec(depth=depth, classes=1)
        if BLOCKS[depth] == blocks and spec.bottleneck == bottleneck and outputs // inner[-1] == spec.expansion:
            spec = replace(spec, classes=head[0], in_channels=stem[1])
            if multiplier := _multiplier(spec, inner, outputs):
                return replace(spec, channel_multiplier=multiplier)
            who = ", ".join(names.get(key, key) for key in inner_keys)
            raise CheckpointError(
                f"{who} have {inner} outputs and {names.get('fc.weight', 'fc.weight')} has {outputs} inputs; "
                f"these are not the widths of {spec} times one channel multiplier"
            )
    kind = "bottleneck" if bottleneck else "simple"
    raise CheckpointError(
        f"stages of {blocks} {kind} blocks with {outputs} features are of no depth known here ({list(BLOCKS)})"
    )


def fit(
    shapes: Shapes, called: Mapping[str, str] | None = None, name_of: Callable[[str, ResNetSpec], str] = lambda key, _: key
) -> ResNet:
    """The network, without storage yet, that has just these shapes; batch norms' counters may be missing.

    `called` is what the file calls these tensors, `name_of` what it would call another one of the network.

    Raises CheckpointError naming the tensors that are missing, left over or mis-shaped.
    """
    names = {} if called is None else called
    try:
        model = empty(infer_spec(shapes, names))
    except ModelError as error:
        raise CheckpointError(str(error)) from None
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    if missing := [key for key in expected if key not in shapes and not key.endswith("num_batches_tracked")]:
        wanted = [name_of(key, model.spec) for key in missing]
        raise CheckpointError(f"missing from the weights of a {model.spec}: {shown(wanted)}")
    if extra := [names.get(key, key) for key in shapes if key not in expected]:
        raise CheckpointError(f"left over, a {model.spec} has no such tensor: {shown(extra)}")
    for key, shape in shapes.items():
        if shape != expected[key]:
            raise CheckpointError(f"{names.get(key, key)} has the shape {shape}; expected {expected[key]}")
    return model


def build(tensors: Mapping[str, Tensor]) -> ResNet:
    """Tensors in VideoResNet's naming -> their network in eval mode; the batch norms' counters may be missing (then 0).

    The tensors become the network's own, without a copy where they are float32.

    Raises CheckpointError naming the tensors that are missing, left over, mis-shaped or not finite.
    """
    for key, tensor in tensors.items():
        _check_storage(shown([key]), tensor)
    model = fit({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    state = {}
    for key in model.state_dict():
        if key.endswith("num_batches_tracked"):
            state[key] = _counter(key, tensors.get(key))
            continue
        if tensors[key].dtype not in _PRECISIONS:
            raise CheckpointError(f"{key} holds {tensors[key].dtype}; expected floating-point numbers")
        state[key] = tensors[key].to(torch.float32)
        check_numbers(key, state[key], variance=key.endswith("running_var"))
    model.load_state_dict(state, assign=True)
    return model.eval()


def check_numbers(name: str, tensor: Tensor, *, variance: bool) -> None:
    """Raise CheckpointError, with the tensor's name, if a number is not finite or a variance is negative."""
    low, high = tensor.aminmax()  # a NaN becomes both; unlike isfinite, it takes no memory
    if not (math.isfinite(low) and math.isfinite(high)):
        raise CheckpointError(f"{name} holds numbers that are not finite")
    if variance and low < 0:
        raise CheckpointError(f"{name} holds a negative variance")


def _check_storage(name: str, tensor: Tensor) -> None:
    """That a tensor is a plain one, and as large as it says."""
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized or tensor.device.type != "cpu":
        raise CheckpointError(f"{name} is a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}; expected a dense one")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{name} of shape {tuple(tensor.shape)} has fewer numbers than its shape says")


def _counter(key: str, tensor: Tensor | None) -> Tensor:
    if tensor is None:
        return torch.zeros((), dtype=torch.int64)
    if tensor.dtype != torch.int64:
        raise CheckpointError(f"{key} holds {tensor.dtype}; expected one int64")
    return tensor


def _blocks(shapes: Shapes) -> tuple[int, ...]:
    """Number of blocks in each stage."""
    counts: dict[int, int] = {}
    for key in shapes:
        if match := _STAGE.match(key):
            stage, block = int(match[1]), int(match[2])
            counts[stage] = max(counts.get(stage, 0), block + 1)
    return tuple(counts[stage] for stage in sorted(counts))


def _multiplier(spec: ResNetSpec, inner: list[int], outputs: int) -> float | None:
    """The shortest decimal that makes the inner widths and the number of features what they are, rounded down as VMZ does.

    Worked example: widths 19, 38, 76, 153 of bases 64, 128, 256, 512 leave [0.2988, 0.3008): 0.3.
    """
    low = max(outputs / spec.widths[-1], *(width / base for width, base in zip(inner, spec.inner_widths, strict=True)))
    for digits in range(1, 12):
        candidate: float = math.ceil(low * 10**digits) / 10**digits
        scaled = replace(spec, channel_multiplier=candidate)
        if list(scaled.inner_widths) == inner and scaled.widths[-1] == outputs:
            return candidate
    return None
