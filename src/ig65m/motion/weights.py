"""Weights of the aligner, which are part of the package."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import ig65m.zoo
from ig65m.errors import CheckpointError, shown
from ig65m.models.aligner_plan import CALIBRATION, shapes
from ig65m.zoo.files import read_safetensors

FILE: Final = Path(ig65m.zoo.__file__).parent / "weights" / "camera_motion_aligner.safetensors"


@dataclass(frozen=True)
class MotionWeights:
    """Weights by their keys in the state dict, float32, and the sha256 of their file."""

    arrays: dict[str, NDArray[Any]]
    sha256: str


@lru_cache(maxsize=1)
def load_weights(path: Path = FILE) -> MotionWeights:
    """Read the weights. Raises CheckpointError if the file does not hold exactly the tensors of the network."""
    arrays, _ = read_safetensors(path)
    wanted = {**shapes(), **CALIBRATION}
    if different := sorted(wanted.keys() ^ arrays.keys()):
        raise CheckpointError(f"{path}: {shown(different)} are missing or unknown; install ig65m again")
    for key, shape in wanted.items():
        if arrays[key].shape != shape:
            raise CheckpointError(f"{path}: {key} has the shape {arrays[key].shape}, expected {shape}; install ig65m again")
    return MotionWeights({key: arrays[key].astype(np.float32) for key in wanted}, hashlib.sha256(path.read_bytes()).hexdigest())
