"""Saves a network that the caller trained as a model file, which every command takes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ig65m.errors import ModelError, UsageError, needs, shown
from ig65m.models.card import name_from
from ig65m.models.head import derived_card
from ig65m.models.weights import stored_arrays
from ig65m.zoo.files import save_pth, save_safetensors

_WRITERS: Final[dict[str, Callable[..., None]]] = {".safetensors": save_safetensors, ".pth": save_pth}


def save_model(model: Any, path: str | os.PathLike[str], *, labels: Sequence[str] | None = None) -> None:
    """Save a network with its card, as a file that `ig65m.load_model` and every command take.

    Args:
        model: A network of `ig65m.load_model`, after your training; also within `torch.compile`, `DataParallel` or
            `DistributedDataParallel`, and with another last layer. It may be in training mode and on a GPU.
        path: A file ending in .safetensors or .pth. An existing file is replaced once the new one is complete.
        labels: Names of the classes in order, such as `ClipDataset.classes`. Default: those of the card.

    Raises:
        ModelError: `model` is no such network, or some of its weights are not finite or not float32.
        UsageError: The path has another ending, or there is not a label for each class.

    Example:
        >>> model = ig65m.load_model("r2plus1d_10_camera_motion", num_classes=2)
        >>> ig65m.save_model(model, "mine.safetensors", labels=["day", "night"])
        >>> ig65m.load_model("mine.safetensors").card.labels
        ('day', 'night')
    """
    with needs("torch", "ig65m.save_model"):
        from ig65m.zoo.user_network import trained_weights, unwrapped
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(f"{path} must end in {' or '.join(_WRITERS)}")
    weights = trained_weights(unwrapped(model))
    if broken := [key for key, array in weights.arrays.items() if not np.isfinite(array).all()]:
        raise ModelError(f"{shown(broken)} of {weights.card.name} are not finite; the training has diverged")
    if isinstance(labels, str):
        raise UsageError(f"labels must be a sequence with a name for each class, got the text {shown([labels])}")
    labels = weights.card.labels if labels is None else tuple(labels)
    if labels is not None and len(labels) != weights.spec.classes:
        raise UsageError(f"{len(labels)} labels for {weights.spec.classes} classes; give one for each class, in order")
    card = derived_card(weights.card, name=name_from(path.stem), labels=labels)
    _WRITERS[path.suffix.lower()](stored_arrays(replace(weights, card=card)), card, path)
