"""Reads and writes model files: weights and their card in one .safetensors or .pth file."""

import io
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from ig65m.atomic import finished_file
from ig65m.checkpoints.lazy_bytes import Truncated
from ig65m.checkpoints.torch_file import TorchFile, open_torch_file
from ig65m.checkpoints.torch_pickle import Dictionary, Tensor, text_of
from ig65m.checkpoints.unpickle import kind_of
from ig65m.errors import CheckpointError, needs, plain, shown
from ig65m.models.card import Card

Arrays = dict[str, NDArray[Any]]

_KEY = "ig65m"  # key of the card in both formats
_WRAPPINGS = ("state_dict", "model", "model_state_dict")  # keys under which training frameworks store a state dict
_COMPILED = "_orig_mod."  # prefix, or part, of names in a module compiled by torch.compile
_FIRST = ("stem.0.weight", "conv1a.weight", "backbone.conv1.conv.weight")  # a tensor of each naming scheme

MAX_HEADER: Final = 1 << 22
"""Largest safetensors header in bytes; that of the 152-layer network has 120,000."""


def save_safetensors(arrays: Mapping[str, NDArray[Any]], card: Card, path: Path) -> None:
    """Save weights and card as safetensors; the dtype of floats is kept."""
    whole = {key: np.asarray(array, order="C") for key, array in arrays.items()}
    data = safetensors.numpy.save(whole, metadata={"format": "pt", _KEY: card.to_json()})
    with finished_file(path) as temporary:
        temporary.write_bytes(data)  # save_file would make it readable for its owner only


def save_pth(arrays: Mapping[str, NDArray[Any]], card: Card, path: Path) -> None:
    """Save weights as a plain state dict, which any VideoResNet loads strictly.

    The card is in the state dict's `_metadata`, which PyTorch keeps (also under `weights_only=True`) and modules ignore. Raises
    UsageError if PyTorch is not installed.
    """
    with needs("torch", "writing a .pth file"):
        import torch
    state = OrderedDict((key, torch.from_numpy(array)) for key, array in arrays.items())
    state._metadata = OrderedDict({"": {"version": 1}, _KEY: {"card": card.to_json()}})  # type: ignore[attr-defined]
    data = io.BytesIO()
    torch.save(state, data)
    with finished_file(path) as temporary:
        temporary.write_bytes(data.getbuffer())  # torch.save raises no OSError for a full disk


def read_safetensors(path: Path) -> tuple[Arrays, Card | None]:
    """Read arrays, and their card if the header has one; bfloat16 becomes float32, which is exact.

    Raises CheckpointError if the file is not safetensors.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise CheckpointError(f"{path} is not a safetensors file: its header has {length} bytes, expected at most {MAX_HEADER}")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            header = (file.metadata() or {}).get(_KEY)
            keys = list(file.keys())
            if any(file.get_slice(key).get_dtype() == "BF16" for key in keys):
                import ml_dtypes  # noqa: F401 - gives numpy this dtype
            arrays = {key: _plain_dtype(file.get_tensor(key)) for key in keys}
    except Exception as error:  # its own error, and whatever a broken file raises in numpy
        raise CheckpointError(f"{path} is not a complete safetensors file: {plain(error)}") from None
    return arrays, _card(path, header)


def _plain_dtype(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def read_pth(path: Path) -> tuple[Arrays, Card | None]:
    """Read arrays of a .pth state dict, or of one wrapped by a training framework, and the card if there is one; nothing is
    executed, and PyTorch is not needed. bfloat16 becomes float32.

    Raises CheckpointError if the file is not a state dict of tensors, or its tensors exceed the file.
    """
    size = path.stat().st_size
    try:
        with open_torch_file(path) as file:
            state, tensors = _state_dict(file.content)
            arrays = _read(file, _without_prefix(tensors), size)
    except Truncated:
        raise CheckpointError(
            f"{path} is truncated or damaged: it ends after {size} bytes; copy or download it again"
        ) from None
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not a PyTorch state dict: {plain(error, 700)}") from None
    metadata = (state.attributes or {}).get("_metadata") if isinstance(state, Dictionary) else None
    ours = metadata.get(_KEY) if isinstance(metadata, dict) else None
    header = ours.get("card") if isinstance(ours, dict) else None
    return arrays, _card(path, header if header is None else text_of(header))


def _state_dict(content: Any) -> tuple[dict[Any, Any], dict[str, Tensor]]:
    """Return the state dict, unwrapped, and its tensors by name."""
    if not isinstance(content, dict):
        kind = "a tensor" if isinstance(content, Tensor) else f"a {type(content).__name__}"
        raise CheckpointError(f"it contains {kind}; expected a state dict of tensors")
    wrapped = [name for name in _WRAPPINGS if isinstance(content.get(name), dict)]
    if len(wrapped) > 1:
        raise CheckpointError(f"it contains several dictionaries, {shown(wrapped)}; save only one of them")
    if wrapped:
        content = content[wrapped[0]]
    for key, value in content.items():
        if type(key) is not str or not isinstance(value, Tensor):
            kinds = f"{kind_of(value)} under a key of {type(key).__name__}"
            raise CheckpointError(f"it contains {kinds}; expected a state dict of dense tensors")
    return content, dict(content)


def _read(file: TorchFile, tensors: Mapping[str, Tensor], size: int) -> Arrays:
    for key, tensor in tensors.items():
        if tensor.numbers > tensor.storage.numbers:
            raise CheckpointError(f"{shown([key])} of shape {tensor.shape} has fewer elements than its shape says")
    total = sum(tensor.numbers * tensor.storage.itemsize for tensor in tensors.values())
    if total > size:
        raise CheckpointError(f"its tensors have {total} bytes, but the file {size}: they overlap, or are missing")
    return {key: file.read(tensor) for key, tensor in tensors.items()}


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes that training adds to the network's names: `module.` of DataParallel, `_orig_mod.` of torch.compile,
    `model.` or another attribute of a LightningModule.

    Raises CheckpointError if there are two networks, or other tensors besides one.
    """
    plain_names = {key.replace(_COMPILED, ""): tensor for key, tensor in tensors.items()}
    if len(plain_names) < len(tensors):
        raise CheckpointError(f"it contains tensors twice, with and without {_COMPILED!r}; save only the network")
    found = sorted({key.removesuffix(first) for key in plain_names for first in _FIRST if f".{key}".endswith(f".{first}")})
    if len(found) > 1:
        raise CheckpointError(f"it contains several networks, {shown(found)}; save only one of them")
    if found in ([], [""]):
        return plain_names
    if others := [key for key in plain_names if not key.startswith(found[0])]:
        raise CheckpointError(f"it contains {shown(others)} besides the network {shown(found)}; save only the network")
    return {key.removeprefix(found[0]): tensor for key, tensor in plain_names.items()}


def _card(path: Path, header: Any) -> Card | None:
    if type(header) is not str or not header:
        return None
    try:
        return Card.from_json(header)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
