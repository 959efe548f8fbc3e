"""Reads and writes model files: weights and their card in one .safetensors or .pth file."""

import io
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor

from ig65m.atomic import finished_file
from ig65m.errors import CheckpointError, plain, shown
from ig65m.models.card import Card

_KEY = "ig65m"  # key of the card in both formats
_WRAPPINGS = ("state_dict", "model", "model_state_dict")  # keys under which training frameworks store a state dict
_COMPILED = "_orig_mod."  # prefix, or part, of names in a module compiled by torch.compile
_FIRST = ("stem.0.weight", "conv1a.weight", "backbone.conv1.conv.weight")  # a tensor of each naming scheme
_MAGIC = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # first bytes of PyTorch's files, and of those of 2019
_WANTED = re.compile(r"GLOBAL (.{1,1000}?) (?:was not an allowed|whose module)", re.DOTALL)  # a global that a pickle requests
_ADVISED = {  # messages of PyTorch, by a part of its text
    "TorchScript archives": "it is a TorchScript archive, which is a program",
    ".tar format": "it is in PyTorch's first format, .tar",
    "add_safe_globals": "it creates objects other than tensors",
    "must be imported": "it has tensors of an unsupported kind",
}

MAX_HEADER = 1 << 22  # largest safetensors header in bytes; that of the 152-layer network has 120,000


def save_safetensors(state: Mapping[str, Tensor], card: Card, path: Path) -> None:
    """Save weights and card as safetensors; the dtype of floats is kept."""
    tensors = {key: tensor.contiguous().clone() for key, tensor in state.items()}  # without shared memory
    data = safetensors.torch.save(tensors, metadata={"format": "pt", _KEY: card.to_json()})
    with finished_file(path) as temporary:
        temporary.write_bytes(data)  # save_file would make it readable for its owner only


def save_pth(state: Mapping[str, Tensor], card: Card, path: Path) -> None:
    """Save weights as a plain state dict, which any VideoResNet loads strictly.

    The card is in the state dict's `_metadata`, which PyTorch keeps (also under `weights_only=True`) and modules ignore.
    """
    plain = OrderedDict(state)
    plain._metadata = OrderedDict({"": {"version": 1}, _KEY: {"card": card.to_json()}})  # type: ignore[attr-defined]
    data = io.BytesIO()
    torch.save(plain, data)
    with finished_file(path) as temporary:
        temporary.write_bytes(data.getbuffer())  # torch.save raises no OSError for a full disk


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], Card | None]:
    """Read tensors, and their card if the header has one. Raises CheckpointError if the file is not safetensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise CheckpointError(f"{path} is not a safetensors file: its header has {length} bytes, expected at most {MAX_HEADER}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:  # its own error, and whatever a broken file raises in PyTorch
        raise CheckpointError(f"{path} is not a complete safetensors file: {plain(error)}") from None
    return tensors, _card(path, header)


def read_pth(path: Path) -> tuple[dict[str, Tensor], Card | None]:
    """Read tensors of a .pth state dict, or of one wrapped by a training framework, and the card if there is one; nothing is
    executed.

    Raises CheckpointError if the file is not a state dict of tensors, or its tensors exceed the file.
    """
    with path.open("rb") as file:
        try:
            _check_not_compressed(file)
            with warnings.catch_warnings(action="ignore"):  # warnings of PyTorch; errors say what is wrong
                loaded = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # PyTorch's unpickler lets any error of a broken file through
            if (size := _cut_at(file, error)) is not None:
                raise CheckpointError(
                    f"{path} is truncated or damaged: it ends after {size} bytes; copy or download it again"
                ) from None
            reason = f"it does not load without executing code: {_reason(error)}"
            raise CheckpointError(f"{path} is not a PyTorch state dict; {reason}") from None
        size = file.seek(0, 2)
    # From here on, no method of a dict or tensor is called: a pickle can set attributes of any name.
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} contains {type(loaded).__name__}; expected a state dict of tensors")
    wrapped = [name for name in _WRAPPINGS if isinstance(dict.get(loaded, name), dict)]
    if len(wrapped) > 1:
        raise CheckpointError(f"{path} contains several dictionaries, {shown(wrapped)}; save only one of them")
    if wrapped:
        loaded = dict.get(loaded, wrapped[0])
    tensors: dict[str, Tensor] = {}
    for key, value in dict.items(loaded):
        if type(key) is not str or type(value) not in (Tensor, torch.nn.Parameter):
            kinds = f"{type(value).__name__} under a key of {type(key).__name__}"
            raise CheckpointError(f"{path} contains {kinds}; expected a state dict of tensors")
        tensors[key] = value
    tensors = _without_prefix(path, tensors)
    with warnings.catch_warnings(action="ignore"):  # warnings about unusual tensors, which are refused
        tensors = {key: Tensor.detach(value) for key, value in tensors.items()}
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values() if tensor.layout is torch.strided)
    if total > size:
        raise CheckpointError(f"{path} of {size} bytes states tensors of {total} bytes: they overlap, or are missing")
    metadata = vars(loaded).get("_metadata") if isinstance(loaded, OrderedDict) else None
    ours = dict.get(metadata, _KEY) if isinstance(metadata, dict) else None
    header = dict.get(ours, "card") if isinstance(ours, dict) else None
    return tensors, _card(path, header)


def _without_prefix(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes that training adds to the network's names: `module.` of DataParallel, `_orig_mod.` of torch.compile,
    `model.` or another attribute of a LightningModule.

    Raises CheckpointError if there are two networks, or other tensors besides one.
    """
    plain_names = {key.replace(_COMPILED, ""): tensor for key, tensor in tensors.items()}
    if len(plain_names) < len(tensors):
        raise CheckpointError(f"{path} contains tensors twice, with and without {_COMPILED!r}; save only the network")
    found = sorted({key.removesuffix(first) for key in plain_names for first in _FIRST if f".{key}".endswith(f".{first}")})
    if len(found) > 1:
        raise CheckpointError(f"{path} contains several networks, {shown(found)}; save only one of them")
    if found in ([], [""]):
        return plain_names
    if others := [key for key in plain_names if not key.startswith(found[0])]:
        raise CheckpointError(f"{path} contains {shown(others)} besides the network {shown(found)}; save only the network")
    return {key.removeprefix(found[0]): tensor for key, tensor in plain_names.items()}


def _card(path: Path, header: Any) -> Card | None:
    if type(header) is not str or not header:
        return None
    try:
        return Card.from_json(header)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _check_not_compressed(file: BinaryIO) -> None:
    """Raise CheckpointError if `file` is a zip with compressed records, which could exhaust memory; rewinds the file."""
    zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        with zipfile.ZipFile(file) as archive:
            grown = [
                record.filename
                for record in archive.infolist()
                if record.compress_type or record.compress_size != record.file_size
            ]
        if grown:
            raise CheckpointError(f"its records {shown(grown)} are compressed, which PyTorch never writes")
    file.seek(0)


def _cut_at(file: BinaryIO, error: Exception) -> int | None:
    """Return the size of a file that begins as PyTorch writes it and, by `error`, is truncated; else None."""
    file.seek(0)
    head = file.read(32)
    begins_well = not head or head.startswith(_MAGIC)
    at_end = isinstance(error, zipfile.BadZipFile | EOFError | IndexError | struct.error) or "unexpected EOF" in str(error)
    return file.seek(0, 2) if begins_well and at_end else None


def _reason(error: Exception) -> str:
    """Return the cause from PyTorch's long message, without its advice to execute code."""
    text = str(error)
    if wanted := _WANTED.search(text):
        return f"it requests {shown([wanted[1]])}, which is refused; save only tensors (torch.save of a state_dict())"
    if words := next((words for mark, words in _ADVISED.items() if mark in text), None):
        return words
    lines = text.rpartition("WeightsUnpickler error: ")[2].strip().splitlines()
    return plain(lines[0]) if lines else type(error).__name__
