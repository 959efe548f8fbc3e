"""Identifies a network by the shapes of its tensors, and builds it: each tensor is used once, no parameter is left unset."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ig65m.errors import CheckpointError, ModelError, shown
from ig65m.models.network import Network, empty
from ig65m.models.spec import ARCHITECTURES, BLOCKS, POOLED, C3DSpec, Convolution, ResNetSpec, Spec

CHANNELS = (2, 3)  # optical flow, RGB
MAX_WIDTH = 1 << 16  # most channels of a stage; VMZ's widest network has 2048

Shapes = Mapping[str, tuple[int, ...]]

_STAGE = re.compile(r"layer([1-4])\.([0-9]{1,3})\.")
_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def infer_spec(shapes: Shapes, called: Mapping[str, str] | None = None) -> Spec:
    """Return the network with these shapes; what shapes do not tell is as in VMZ.

    `called` has the names of the tensors in the file, if they differ from the keys. Raises CheckpointError if no known network
    fits.
    """
    names = {} if called is None else called

    def shape(key: str, dimensions: int) -> tuple[int, ...]:
        if key not in shapes:
            raise CheckpointError(f"tensor {names.get(key, key)!r} is missing: these are not the weights of a known network")
        if len(shapes[key]) != dimensions or 0 in shapes[key]:
            name = names.get(key, key)
            raise CheckpointError(f"{name} has the shape {shapes[key]}; expected {dimensions} dimensions without an empty one")
        return shapes[key]

    is_c3d = "conv1a.weight" in shapes or "fc6.weight" in shapes
    stem = shape(stem_key := "conv1a.weight" if is_c3d else "stem.0.weight", 5)
    if stem[1] not in CHANNELS:
        raise CheckpointError(f"{names.get(stem_key, stem_key)} takes {stem[1]} channels; video has 3, optical flow 2")
    multi_label = any(key.startswith("pred_logit.") for key in shapes)
    headless = not is_c3d and not multi_label and not any(key.startswith("fc.") for key in shapes)
    classes = 0 if headless else shape("fc.weight", 2)[0]
    if is_c3d:
        return C3DSpec(classes=classes, in_channels=stem[1], multi_label=multi_label)
    blocks, bottleneck = _blocks(shapes), "layer1.0.conv3.0.weight" in shapes
    kinds = [_stem_kind(shapes, stem)]
    inner, outer, keys = [], [], []
    for stage in (1, 2, 3, 4):
        kind, key = _stage_kind(shapes, stage)
        kinds.append(kind)
        inner.append(shape(key, 5)[0])
        keys.append(key)
        if bottleneck:
            keys.append(f"layer{stage}.0.conv3.0.weight")
        outer.append(shape(keys[-1], 5)[0])
    if (widest := max(*inner, *outer)) > MAX_WIDTH:
        raise CheckpointError(f"it has {widest} channels; expected at most 2048")
    architecture = next((name for name, those in ARCHITECTURES.items() if list(those) == kinds), None)
    if architecture is None:
        raise CheckpointError(f"convolutions {', '.join(kinds)} match no known architecture")
    clip_frames = stem[2] if kinds[0] == "clip" else None
    first = "layer2.0.conv1.0.0.weight", "layer2.0.conv2.0.0.weight"
    shared = not bottleneck and kinds[2] == "2plus1d" and shape(first[0], 5)[0] == shape(first[1], 5)[0]
    for depth in BLOCKS:
        spec = ResNetSpec(depth=depth, classes=0, architecture=architecture, clip_frames=clip_frames)
        if BLOCKS[depth] == blocks and spec.bottleneck == bottleneck:
            spec = replace(
                spec,
                classes=classes,
                multi_label=multi_label,
                in_channels=stem[1],
                builder="torchvision" if shared else "vmz",
                pool1=architecture in POOLED,
            )
            if scaled := _scaled(spec, inner, outer):
                return scaled
            who = ", ".join(names.get(key, key) for key in keys)
            widths = [shapes[key][0] for key in keys]
            raise CheckpointError(f"{who} have {widths} outputs; no multipliers give these widths for {spec}")
    style = "bottleneck" if bottleneck else "simple"
    raise CheckpointError(f"stages of {blocks} {style} blocks match no known depth ({list(BLOCKS)})")


def _stem_kind(shapes: Shapes, stem: tuple[int, ...]) -> Convolution:
    if "stem.3.weight" in shapes:
        return "2plus1d"
    lengths: dict[int, Convolution] = {3: "3d", 1: "2d"}
    return lengths.get(stem[2], "clip")


def _stage_kind(shapes: Shapes, stage: int) -> tuple[Convolution, str]:
    """Return the kind of a stage's second convolution, and the key of the tensor whose rows are its outputs."""
    key = f"layer{stage}.0.conv2.0"
    if f"{key}.3.weight" in shapes:
        return "2plus1d", f"{key}.3.weight"
    if f"{key}.2.weight" in shapes:
        return "ip", f"{key}.2.weight"
    plain = shapes.get(f"{key}.weight", ())
    if len(plain) == 5 and plain[1] == 1 < plain[0]:
        return "ir", f"{key}.weight"
    return ("2d" if len(plain) == 5 and plain[2] == 1 else "3d"), f"{key}.weight"


def fit(shapes: Shapes, called: Mapping[str, str] | None = None, name_of: Callable[[str, Spec], str] | None = None) -> Network:
    """Return the network with exactly these shapes, on the meta device; counters of batch norms may be missing.

    `called` has the names of the tensors in the file; `name_of` names those that the file lacks. Raises CheckpointError naming
    tensors that are missing, unexpected or of another shape.
    """
    names = {} if called is None else called
    try:
        model = empty(infer_spec(shapes, names))
    except ModelError as error:
        raise CheckpointError(str(error)) from None
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    if missing := [key for key in expected if key not in shapes and not key.endswith("num_batches_tracked")]:
        wanted = [key if name_of is None else name_of(key, model.spec) for key in missing]
        raise CheckpointError(f"missing from the weights of {model.spec}: {shown(wanted)}")
    if extra := [names.get(key, key) for key in shapes if key not in expected]:
        raise CheckpointError(f"unexpected for {model.spec}: {shown(extra)}")
    for key, shape in shapes.items():
        if shape != expected[key]:
            raise CheckpointError(f"{names.get(key, key)} has the shape {shape}; expected {expected[key]}")
    return model


def build(
    tensors: Mapping[str, Tensor],
    completed: Callable[[Spec], Spec] = lambda spec: spec,
    called: Mapping[str, str] | None = None,
    name_of: Callable[[str, Spec], str] | None = None,
) -> Network:
    """Build the network of these tensors, in eval mode; missing counters of batch norms are 0.

    float32 tensors are used without a copy. `completed` may add what shapes do not tell: pool1 and builder. `called` and
    `name_of` are as in `fit`.

    Raises CheckpointError naming tensors that are missing, unexpected, of another shape or not finite.
    """
    names = {} if called is None else called
    for key, tensor in tensors.items():
        _check_storage(shown([names.get(key, key)]), tensor)
    model = fit({key: tuple(tensor.shape) for key, tensor in tensors.items()}, names, name_of)
    if (spec := completed(model.spec)) != model.spec:
        inferred, model = model, empty(spec)
        shapes = {key: tensor.shape for key, tensor in inferred.state_dict().items()}
        if shapes != {key: tensor.shape for key, tensor in model.state_dict().items()}:
            raise CheckpointError(f"its tensors are those of {inferred.spec}, not of {spec}")
    state = {}
    for key in model.state_dict():
        if key.endswith("num_batches_tracked"):
            state[key] = _counter(names.get(key, key), tensors.get(key))
            continue
        if tensors[key].dtype not in _PRECISIONS:
            raise CheckpointError(f"{names.get(key, key)} has dtype {tensors[key].dtype}; expected floating-point numbers")
        state[key] = tensors[key].to(torch.float32)
        check_numbers(names.get(key, key), state[key], variance=key.endswith("running_var"))
    model.load_state_dict(state, assign=True)
    return model.eval()


def check_numbers(name: str, tensor: Tensor, *, variance: bool) -> None:
    """Raise CheckpointError if a number is not finite or a variance is negative."""
    low, high = tensor.aminmax()  # NaN becomes both; unlike isfinite, this takes no memory
    if not (math.isfinite(low) and math.isfinite(high)):
        raise CheckpointError(f"{name} contains numbers that are not finite")
    if variance and low < 0:
        raise CheckpointError(f"{name} contains a negative variance")


def _check_storage(name: str, tensor: Tensor) -> None:
    """Raise CheckpointError unless the tensor is dense and as large as its shape says."""
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized or tensor.device.type != "cpu":
        raise CheckpointError(f"{name} is a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}; expected a dense one")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{name} of shape {tuple(tensor.shape)} has fewer elements than its shape says")


def _counter(name: str, tensor: Tensor | None) -> Tensor:
    if tensor is None:
        return torch.zeros((), dtype=torch.int64)
    if tensor.dtype != torch.int64:
        raise CheckpointError(f"{name} has dtype {tensor.dtype}; expected one int64")
    return tensor


def _blocks(shapes: Shapes) -> tuple[int, ...]:
    """Return the number of blocks in each stage, up to the first missing one."""
    there = {(int(match[1]), int(match[2])) for key in shapes if (match := _STAGE.match(key))}
    return tuple(next(n for n in range(1001) if (stage, n) not in there) for stage in (1, 2, 3, 4))


def _scaled(spec: ResNetSpec, inner: list[int], outer: list[int]) -> ResNetSpec | None:
    """Return `spec` with the multipliers that give these widths: one for all channels, or another for inner ones."""
    ratios = [width / base for width, base in zip(outer, spec.widths, strict=True)]
    inner_ratios = [width / base for width, base in zip(inner, spec.inner_widths, strict=True)]

    def one(multiplier: float) -> ResNetSpec | None:
        scaled = replace(spec, channel_multiplier=multiplier)
        return scaled if [*scaled.widths, *scaled.inner_widths] == [*outer, *inner] else None

    def outer_only(multiplier: float) -> ResNetSpec | None:
        scaled = replace(spec, channel_multiplier=multiplier)
        return scaled if list(scaled.widths) == outer else None

    scaled = _shortest(max(*ratios, *inner_ratios), one)
    if scaled is None and spec.bottleneck and (wide := _shortest(max(ratios), outer_only)):

        def two(multiplier: float) -> ResNetSpec | None:
            narrow = replace(wide, bottleneck_multiplier=multiplier)
            return narrow if list(narrow.inner_widths) == inner else None

        return _shortest(max(width / base for width, base in zip(inner, wide.inner_widths, strict=True)), two)
    return scaled


def _shortest(low: float, make: Callable[[float], ResNetSpec | None]) -> ResNetSpec | None:
    """Return the result of `make` for the shortest decimal from `low` on that it accepts; widths are rounded down, as in VMZ.

    Example: widths 19, 38, 76, 153 of bases 64, 128, 256, 512 leave [0.2988, 0.3008), so 0.3.
    """
    for digits in range(1, 12):
        if made := make(math.ceil(low * 10**digits) / 10**digits):
            return made
    return None
