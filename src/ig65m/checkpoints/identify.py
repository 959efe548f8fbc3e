"""Identifies a network by the shapes of its tensors, and checks them: each is used once, and none is missing."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import CheckpointError, ModelError, shown
from ig65m.models.plan import COUNTER, shapes_of
from ig65m.models.spec import ARCHITECTURES, BLOCKS, POOLED, C3DSpec, Convolution, ResNetSpec, Spec

CHANNELS = (2, 3)  # optical flow, RGB
MAX_WIDTH = 1 << 16  # most channels of a stage; VMZ's widest network has 2048

Shapes = Mapping[str, tuple[int, ...]]

_STAGE = re.compile(r"layer([1-4])\.([0-9]{1,3})\.")


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


def fit(shapes: Shapes, called: Mapping[str, str] | None = None, name_of: Callable[[str, Spec], str] | None = None) -> Spec:
    """Return the network with exactly these shapes; counters of batch norms may be missing.

    `called` has the names of the tensors in the file; `name_of` names those that the file lacks. Raises CheckpointError naming
    tensors that are missing, unexpected or of another shape.
    """
    names = {} if called is None else called
    try:
        spec = infer_spec(shapes, names)
        expected = shapes_of(spec)
    except ModelError as error:
        raise CheckpointError(str(error)) from None
    if missing := [key for key in expected if key not in shapes and not key.endswith(COUNTER)]:
        wanted = [key if name_of is None else name_of(key, spec) for key in missing]
        raise CheckpointError(f"missing from the weights of {spec}: {shown(wanted)}")
    if extra := [names.get(key, key) for key in shapes if key not in expected]:
        raise CheckpointError(f"unexpected for {spec}: {shown(extra)}")
    for key, shape in shapes.items():
        if shape != expected[key]:
            raise CheckpointError(f"{names.get(key, key)} has the shape {shape}; expected {expected[key]}")
    return spec


def identify(
    arrays: Mapping[str, NDArray[Any]],
    completed: Callable[[Spec], Spec] = lambda spec: spec,
    called: Mapping[str, str] | None = None,
    name_of: Callable[[str, Spec], str] | None = None,
) -> tuple[Spec, dict[str, NDArray[Any]]]:
    """Return the network of these arrays, and its weights in the order of its state dict: float32, and int64 counters of batch
    norms, which are 0 if missing.

    float32 arrays are not copied. `completed` may add what shapes do not tell: pool1 and builder. `called` and `name_of` are
    as in `fit`.

    Raises CheckpointError naming arrays that are missing, unexpected, of another shape or not finite.
    """
    names = {} if called is None else called
    inferred = fit({key: array.shape for key, array in arrays.items()}, names, name_of)
    spec = completed(inferred)
    expected = shapes_of(spec)
    if expected != shapes_of(inferred):
        raise CheckpointError(f"its tensors are those of {inferred}, not of {spec}")
    weights = {}
    for key in expected:
        name = names.get(key, key)
        if key.endswith(COUNTER):
            weights[key] = _counter(name, arrays.get(key))
            continue
        if arrays[key].dtype.kind != "f":
            raise CheckpointError(f"{name} has dtype {arrays[key].dtype}; expected floating-point numbers")
        weights[key] = as_float32(arrays[key])
        check_numbers(name, weights[key], variance=key.endswith("running_var"))
    return spec, weights


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return an array of floats as float32; numbers beyond its range become infinite."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def check_numbers(name: str, array: NDArray[Any], *, variance: bool) -> None:
    """Raise CheckpointError if a number is not finite or a variance is negative."""
    low, high = (float(end(array)) for end in (np.min, np.max))  # NaN becomes both; unlike isfinite, this takes no memory
    if not (math.isfinite(low) and math.isfinite(high)):
        raise CheckpointError(f"{name} contains numbers that are not finite")
    if variance and low < 0:
        raise CheckpointError(f"{name} contains a negative variance")


def _counter(name: str, array: NDArray[Any] | None) -> NDArray[Any]:
    if array is None:
        return np.zeros((), np.int64)
    if array.dtype.kind not in "iu":
        raise CheckpointError(f"{name} has dtype {array.dtype}; expected one int64")
    return array.astype(np.int64, copy=False)


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
