"""Our model files: weights and the card that describes them, in one file each."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from ig65m.atomic import finished_file
from ig65m.errors import CheckpointError
from ig65m.zoo.cards import Card

_KEY = "ig65m"  # where the card stands in either format


def save_safetensors(state: Mapping[str, Tensor], card: Card, path: Path) -> None:
    """Write weights and card as safetensors; floats keep the precision that they have."""
    with finished_file(path) as temporary:
        tensors = {key: tensor.contiguous().clone() for key, tensor in state.items()}  # none shares memory with another
        save_file(tensors, temporary, metadata={"format": "pt", _KEY: card.to_json()})


def save_pth(state: Mapping[str, Tensor], card: Card, path: Path) -> None:
    """Write weights as a plain state dict that any VideoResNet loads strictly.

    The card travels in the state dict's `_metadata`, which PyTorch keeps beside the tensors (also under
    `weights_only=True`) and from which a module reads nothing but its own version.
    """
    plain = OrderedDict(state)
    plain._metadata = OrderedDict({"": {"version": 1}, _KEY: {"card": card.to_json()}})  # type: ignore[attr-defined]
    with finished_file(path) as temporary:
        torch.save(plain, temporary)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], Card | None]:
    """Tensors and, where the header has one, their card. Raises CheckpointError if the file is not safetensors."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from None
    return tensors, Card.from_json(header) if header else None


def read_pth(path: Path) -> tuple[dict[str, Tensor], Card | None]:
    """Tensors of a .pth state dict and, where we wrote it, their card; nothing in the file is executed.

    Raises CheckpointError if the file is no state dict of tensors.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # PyTorch's unpickler lets through whatever a broken file makes it trip over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a PyTorch state dict that loads without executing code: {reason}") from None
    if not isinstance(loaded, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items()):
        raise CheckpointError(f"{path} holds something other than a state dict of tensors")
    metadata: Any = getattr(loaded, "_metadata", None)
    ours = metadata.get(_KEY) if isinstance(metadata, dict) else None
    header = ours.get("card") if isinstance(ours, dict) else None
    return dict(loaded), Card.from_json(header) if isinstance(header, str) else None
