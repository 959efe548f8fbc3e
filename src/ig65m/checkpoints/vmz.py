"""Maps VMZ's Caffe2 blob names to state-dict keys, and back."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ig65m.checkpoints.identify import check_numbers, fit
from ig65m.checkpoints.numpy_pickle import read_blobs
from ig65m.errors import CheckpointError, shown
from ig65m.models.plan import C3D_GROUPS
from ig65m.models.spec import BLOCKS, C3DSpec, Spec

_NORM = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}  # riv is the variance, not its inverse
_SUFFIX = {leaf: suffix for suffix, leaf in _NORM.items()}
_STEM = {"conv1": "stem.0", "conv1_spatbn_relu": "stem.1"}
_SPLIT_STEM = {
    "conv1_middle": "stem.0",
    "conv1_middle_spatbn_relu": "stem.1",
    "conv1": "stem.3",
    "conv1_spatbn_relu": "stem.4",
}
_NUMBER = "(0|[1-9][0-9]{0,2})"
_BLOCK = re.compile(f"comp_{_NUMBER}_(conv|spatbn)_([1-9])(_middle)?")
_SHORTCUT = re.compile(f"shortcut_projection_{_NUMBER}(_spatbn)?")
_HEAD = re.compile(r"last_out_L([1-9][0-9]{0,6})")
_C3D = {name: name for group in C3D_GROUPS for conv, _ in group for name in (conv, f"{conv}_bn")} | {"fc6": "fc6", "fc7": "fc7"}
# Branches of an audio-visual network: visual, audio, joint.
_SEEN = "v_"
_UNSEEN = re.compile(rf"a_[A-Za-z0-9_]{{1,100}}|({_HEAD.pattern}|pred_logit|av_fc[12])_[wb]")
_BLOCK_KEY = re.compile(r"layer([1-4])\.([0-9]+)\.(?:conv([1-9])|downsample)\.(.*)")
_PARTS = {  # part of a block: suffix of convN or downsample -> what precedes and follows its number
    "0.0": ("conv", "_middle"),
    "0.1": ("spatbn", "_middle"),
    "0.2": ("conv", ""),
    "0.3": ("conv", ""),
    "0": ("conv", ""),
    "1": ("spatbn", ""),
}


def read_vmz(path: Path) -> tuple[dict[str, NDArray[np.float32]], tuple[str, ...]]:
    """Read a VMZ .pkl: arrays (float32, newly allocated) by state-dict key, without counters of batch norms.

    For an audio-visual network these are the visual branch; the names of the other blobs are returned too. Names and shapes of
    all blobs are checked before any is read.

    Raises CheckpointError if the pickle is unsafe or broken, or a blob is missing, unexpected, of another shape or type than
    the network needs, not finite, or a negative variance; FileNotFoundError.
    """
    with path.open("rb") as file:
        try:
            blobs = read_blobs(file)
        except CheckpointError as error:
            raise CheckpointError(f"{path} is not a VMZ checkpoint (a pickle of float arrays): {error}") from None
        try:
            prefix, left_out = visual_branch(blobs)
            unseen = set(left_out)
            keys = state_dict_keys({name: blob.shape for name, blob in blobs.items() if name not in unseen}, prefix)
            names = {key: name for name, key in keys.items()}
            for name in keys:
                if blobs[name].dtype.kind != "f":
                    raise CheckpointError(f"blob {name!r} has dtype {blobs[name].dtype}; expected floating-point numbers")
            shapes = {key: blobs[name].shape for key, name in names.items()}
            fit(shapes, names, lambda key, spec: prefix + blob_name(key, spec))
            arrays = {}
            for key, name in names.items():
                with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are refused
                    arrays[key] = blobs[name].read(np.dtype(np.float32))
                check_numbers(f"blob {name!r}", arrays[key], variance=name.endswith("_riv"))
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
    return arrays, left_out


def visual_branch(names: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """Return the prefix of the visual branch's names in an audio-visual network, and the blobs of other branches.

    Both are empty for any other network.
    """
    if not any(name.startswith(f"{_SEEN}c") for name in names):
        return "", ()
    return _SEEN, tuple(name for name in names if _UNSEEN.fullmatch(name))


def state_dict_keys(shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> dict[str, str]:
    """Return {blob name: state-dict key} for {blob name: shape}; names start with `prefix`.

    Raises CheckpointError naming a blob that is unexpected or missing.
    """
    if strange := [name for name in shapes if not name.startswith(prefix)]:
        raise CheckpointError(f"blob {shown(strange)} is unexpected for an audio-visual network of VMZ")
    bare = {name.removeprefix(prefix): shape for name, shape in shapes.items()}
    has_head = not prefix or any(name.startswith(("last_out_", "pred_logit_")) for name in bare)
    if has_head and not any(name.endswith("_w") and _HEAD.fullmatch(name[:-2]) for name in bare):
        raise CheckpointError(f"missing: the last layer's '{prefix}last_out_L(number of classes)_w'")
    is_c3d = any(name.startswith(("conv1a_", "fc6_")) for name in bare)
    if is_c3d and "conv1a_w" not in bare:
        raise CheckpointError(f"missing: {shown([f'{prefix}conv1a_w'])}")
    module_of = _C3D.get if is_c3d else _resnet_module(bare, prefix)
    keys: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name, shape in bare.items():
        module, _, suffix = name.rpartition("_")
        target = _head_module(module) or module_of(module)
        is_norm = "spatbn" in module or module.endswith("_bn")
        leaf = _NORM.get(suffix) if is_norm else {"w": "weight", "b": "bias"}.get(suffix)
        if target is None or leaf is None:
            raise CheckpointError(f"blob {shown([prefix + name])} of shape {shape} is unexpected for a network of VMZ")
        if (head := _HEAD.fullmatch(module)) and shape[:1] != (int(head[1]),):
            raise CheckpointError(f"blob {shown([prefix + name])} has the shape {shape}, but its name says {head[1]} classes")
        key = f"{target}.{leaf}"
        if key in taken:
            raise CheckpointError(f"blobs {shown([taken[key], prefix + name])} are both {key}")
        taken[key] = prefix + name
        keys[prefix + name] = key
    return keys


def _head_module(prefix: str) -> str | None:
    if prefix == "pred_logit":
        return prefix
    return "fc" if _HEAD.fullmatch(prefix) else None


def _resnet_module(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> Callable[[str], str | None]:
    """Return the module of a residual network that a blob's name without suffix stands for; None if there is none.

    Stages start at component 0 and at each projected shortcut (that of the first stage, if any, is in component 0).
    """
    if "conv1_w" not in shapes or not any(name.startswith("comp_") for name in shapes):
        raise CheckpointError(
            f"this is not a network of VMZ: it lacks '{prefix}conv1_w' or '{prefix}comp_...'. It has {shown(list(shapes))}"
        )
    is_split = any(name.startswith("conv1_middle_") for name in shapes)
    stem = _SPLIT_STEM if is_split else _STEM
    projected = {int(match[1]) for name in shapes if (match := _SHORTCUT.match(name))}
    starts = sorted({0} | projected)
    if len(starts) != 4:
        found = shown([f"component {start}" for start in starts])
        raise CheckpointError(f"it has {len(starts)} stages, which start at {found}; expected four")
    second = 3 if "comp_0_conv_4_w" in shapes else 2  # ir-CSN numbers its convolutions 1, 3, 4
    needed = [f"comp_{start}_conv_{second}_w" for start in starts]
    if is_split:
        needed.append("conv1_middle_w")
    if missing := [name for name in needed if name not in shapes]:
        raise CheckpointError(f"missing: {shown([prefix + name for name in missing])}")
    stage_of = {n: stage for n in range(1000) if (stage := sum(n >= start for start in starts))}

    def module(name: str) -> str | None:
        if name in stem:
            return stem[name]
        if match := _BLOCK.fullmatch(name):
            component, kind, number, middle = int(match[1]), match[2], int(match[3]), match[4]
            conv = number if second == 2 else {1: 1, 3: 2, 4: 3}.get(number)
            stage = stage_of[component]
            block = f"layer{stage}.{component - starts[stage - 1]}.conv{conv}"
            if kind == "spatbn":
                return f"{block}.0.1" if middle else f"{block}.1"
            return f"{block}.{place(component, number, middle)}"
        if match := _SHORTCUT.fullmatch(name):
            component = int(match[1])
            stage = stage_of[component]
            return f"layer{stage}.{component - starts[stage - 1]}.downsample.{1 if match[2] else 0}"
        return None

    def place(component: int, number: int, middle: str | None) -> str:
        """Return where a convolution is in its module, by whether it has two parts, even if a blob is missing."""
        halves = f"comp_{component}_conv_{number}_middle_w", f"comp_{component}_spatbn_{number}_middle_s"
        if middle or not any(half in shapes for half in halves):
            return "0.0" if middle else "0"
        own = shapes.get(f"comp_{component}_conv_{number}_w", ())
        return "0.2" if len(own) == 5 and own[3] == 3 else "0.3"  # 3x3x3 of ip-CSN, 3x1x1 of R(2+1)D

    return module


def blob_name(key: str, spec: Spec) -> str:
    """Return VMZ's blob name, without prefix, for a state-dict key."""
    module, _, leaf = key.rpartition(".")
    if module in ("fc", "pred_logit"):
        return f"{f'last_out_L{spec.classes}' if module == 'fc' else module}_{leaf[0]}"
    if isinstance(spec, C3DSpec):
        return f"{module}_{_SUFFIX[leaf] if module.endswith('_bn') else leaf[0]}"
    if match := _BLOCK_KEY.fullmatch(module):
        stage, block, conv, part = int(match[1]), int(match[2]), match[3], match[4]
        component = sum(BLOCKS[spec.depth][: stage - 1]) + block
        kind, middle = _PARTS[part]
        if conv:
            number = {"1": "1", "2": "3", "3": "4"}[conv] if spec.architecture == "ir_csn" else conv
            name = f"comp_{component}_{kind}_{number}{middle}"
        else:
            name = f"shortcut_projection_{component}{'_spatbn' if kind == 'spatbn' else ''}"
    else:
        stem = _SPLIT_STEM if spec.convolutions[0] == "2plus1d" else _STEM
        name = next(blob for blob, place in stem.items() if place == module)
    return f"{name}_{_SUFFIX[leaf] if 'spatbn' in name else 'w'}"
