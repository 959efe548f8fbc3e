"""VMZ's Caffe2 blob names -> the state-dict keys of our networks."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ig65m.checkpoints.unpickle import read_blobs
from ig65m.errors import CheckpointError, shown

_NORM = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}  # riv is the variance, not its inverse
_STEM = {
    "conv1_middle": "stem.0",
    "conv1_middle_spatbn_relu": "stem.1",
    "conv1": "stem.3",
    "conv1_spatbn_relu": "stem.4",
}
_BLOCK = re.compile(r"comp_(\d{1,3})_(conv|spatbn)_(\d)(_middle)?")
_SHORTCUT = re.compile(r"shortcut_projection_(\d{1,3})(_spatbn)?")
_HEAD = re.compile(r"last_out_L(\d{1,7})")


def read_vmz(path: Path) -> dict[str, Tensor]:
    """A VMZ .pkl -> tensors (float32, in memory of their own) by state-dict key, but for the batch norms' counters.

    Raises CheckpointError if the pickle is unsafe or broken, or a blob is not one of an R(2+1)D network.
    """
    blobs = read_blobs(path)
    try:
        keys = state_dict_keys({name: blob.shape for name, blob in blobs.items()})
        tensors = {}
        for name, key in keys.items():
            blob = blobs.pop(name)
            if blob.dtype.kind != "f":
                raise CheckpointError(f"blob {name!r} holds {blob.dtype}; expected floating-point numbers")
            with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite, and is refused as such
                tensors[key] = torch.from_numpy(np.array(blob, np.float32, order="C"))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return tensors


def state_dict_keys(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """{blob name: shape} -> {blob name: state-dict key}, from the names alone but for where the four stages begin.

    Stages begin at component 0 and at each shortcut that is projected (the first stage's own, if any, is component 0's).
    """
    if "conv1_middle_w" not in shapes or not any(name.endswith("_middle_w") and name.startswith("comp_") for name in shapes):
        found = "no R(2+1)D: it has no blobs 'conv1_middle_w' and 'comp_0_conv_..._middle_w'"
        raise CheckpointError(f"this is {found}; R(2+1)D networks convert. Its blobs: {shown(list(shapes))}")
    projected = {int(match[1]) for name in shapes if (match := _SHORTCUT.match(name))}
    starts = sorted({0} | projected)
    if len(starts) != 4:
        raise CheckpointError(f"its stages begin at components {starts}; a residual network has four stages")
    stage_of = {n: stage for n in range(1000) if (stage := sum(n >= start for start in starts))}

    def module(prefix: str) -> str | None:
        if prefix in _STEM:
            return _STEM[prefix]
        if match := _BLOCK.fullmatch(prefix):
            component, kind, conv, middle = int(match[1]), match[2], match[3], match[4]
            stage = stage_of.get(component, 0)
            block = f"layer{stage}.{component - starts[stage - 1]}.conv{conv}"
            split = f"comp_{component}_conv_{conv}_middle_w" in shapes  # whether this convolution is a (2+1)-D one
            if middle:
                return f"{block}.0.{0 if kind == 'conv' else 1}"
            return f"{block}.1" if kind == "spatbn" else f"{block}.0.3" if split else f"{block}.0"
        if match := _SHORTCUT.fullmatch(prefix):
            component = int(match[1])
            stage = stage_of.get(component, 0)
            return f"layer{stage}.{component - starts[stage - 1]}.downsample.{1 if match[2] else 0}"
        return "fc" if _HEAD.fullmatch(prefix) else None

    keys: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in shapes:
        prefix, _, suffix = name.rpartition("_")
        target = module(prefix)
        is_norm = "spatbn" in prefix
        leaf = _NORM.get(suffix) if is_norm else {"w": "weight", "b": "bias"}.get(suffix)
        if target is None or leaf is None:
            raise CheckpointError(f"blob {shown([name])} of shape {shapes[name]} belongs to no R(2+1)D network")
        if (head := _HEAD.fullmatch(prefix)) and shapes[name][:1] != (int(head[1]),):
            raise CheckpointError(f"blob {shown([name])} has the shape {shapes[name]}, its name says {head[1]} classes")
        key = f"{target}.{leaf}"
        if key in taken:
            raise CheckpointError(f"blobs {shown([taken[key], name])} are both of {key}")
        taken[key] = name
        keys[name] = key
    return keys
