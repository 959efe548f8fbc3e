"""torch.hub entry points with the names and signature of ig65m-pytorch; they call `ig65m.load_model`.

model = torch.hub.load(".", "r2plus1d_34_32_kinetics", num_classes=400, pretrained=True, source="local")  # in a checkout
"""

import sys
from pathlib import Path as _Path
from typing import Any as _Any

sys.path.insert(0, str(_Path(__file__).resolve().parent / "src"))  # torch.hub uses a checkout that is not installed

dependencies = ["torch", "numpy", "safetensors", "filelock", "rich"]


def r2plus1d_34_8_ig65m(num_classes: int, pretrained: bool = False, progress: bool = False) -> _Any:
    """R(2+1)D-34 for clips of 8 frames, IG-65M, 487 classes."""
    return _load("r2plus1d_34_8_ig65m", num_classes, pretrained, progress)


def r2plus1d_34_32_ig65m(num_classes: int, pretrained: bool = False, progress: bool = False) -> _Any:
    """R(2+1)D-34 for clips of 32 frames, IG-65M, 359 classes."""
    return _load("r2plus1d_34_32_ig65m", num_classes, pretrained, progress)


def r2plus1d_34_8_kinetics(num_classes: int, pretrained: bool = False, progress: bool = False) -> _Any:
    """R(2+1)D-34 for clips of 8 frames, IG-65M, fine-tuned on Kinetics-400, 400 classes."""
    return _load("r2plus1d_34_8_kinetics", num_classes, pretrained, progress)


def r2plus1d_34_32_kinetics(num_classes: int, pretrained: bool = False, progress: bool = False) -> _Any:
    """R(2+1)D-34 for clips of 32 frames, IG-65M, fine-tuned on Kinetics-400, 400 classes."""
    return _load("r2plus1d_34_32_kinetics", num_classes, pretrained, progress)


def _load(name: str, num_classes: int, pretrained: bool, progress: bool) -> _Any:
    """Return the published weights in eval mode, or with `pretrained=False` random ones for training.

    Raises ig65m.errors.ModelError if `pretrained` weights have another number of classes.
    """
    from dataclasses import replace

    from ig65m.errors import ModelError
    from ig65m.models.network import network
    from ig65m.zoo.cards import find_card
    from ig65m.zoo.load import load_model

    spec = find_card(name).spec
    if not pretrained:
        return network(replace(spec, classes=num_classes))
    if num_classes != spec.classes:
        raise ModelError(
            f"{name} was trained on {spec.classes} classes, not {num_classes}: load it with num_classes={spec.classes} "
            "and replace its last layer `fc`, or load it with pretrained=False"
        )
    return load_model(name, progress=progress)
