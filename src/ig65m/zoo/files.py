"""Our model files: weights and the card that describes them, in one file each."""

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
from ig65m.zoo.cards import Card

_KEY = "ig65m"  # where the card stands in either format
_WRAPPINGS = ("state_dict", "model", "model_state_dict")  # what training frameworks keep a state dict under
_COMPILED = "_orig_mod."  # stands before, or within, the names of what torch.compile has wrapped
_FIRST = ("stem.0.weight", "conv1a.weight", "backbone.conv1.conv.weight")  # a tensor that each layout of a network has
_MAGIC = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how PyTorch's files begin, and those of 2019
_WANTED = re.compile(r"GLOBAL (.{1,1000}?) (?:was not an allowed|whose module)", re.DOTALL)  # a name that a pickle asks for
_ADVISED = {  # what else PyTorch gives advice on, by what stands in its message
    "TorchScript archives": "it is a TorchScript archive, which is a program",
    ".tar format": "it is of PyTorch's first format, .tar",
    "add_safe_globals": "it makes objects other than tensors",
    "must be imported": "it holds tensors of a kind that no network here has",
}

MAX_HEADER = 1 << 22  # bytes of a safetensors header; that of the 152-layer network has 120,000


def save_safetensors(state: Mapping[str, Tensor], card: Card, path: Path) -> None:
    """Write weights and card as safetensors; floats keep the precision that they have."""
    tensors = {key: tensor.contiguous().clone() for key, tensor in state.items()}  # none shares memory with another
    data = safetensors.torch.save(tensors, metadata={"format": "pt", _KEY: card.to_json()})
    with finished_file(path) as temporary:
        temporary.write_bytes(data)  # save_file would make it readable for its owner only


def save_pth(state: Mapping[str, Tensor], card: Card, path: Path) -> None:
    """Write weights as a plain state dict that any VideoResNet loads strictly.

    The card travels in the state dict's `_metadata`, which PyTorch keeps beside the tensors (also under
    `weights_only=True`) and from which a module reads nothing but its own version.
    """
    plain = OrderedDict(state)
    plain._metadata = OrderedDict({"": {"version": 1}, _KEY: {"card": card.to_json()}})  # type: ignore[attr-defined]
    data = io.BytesIO()
    torch.save(plain, data)
    with finished_file(path) as temporary:
        temporary.write_bytes(data.getbuffer())  # torch.save itself has no OSError for a full disk


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], Card | None]:
    """Tensors and, where the header has one, their card. Raises CheckpointError if the file is not safetensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise CheckpointError(f"{path} is no safetensors file: a header of {length} bytes, expected at most {MAX_HEADER}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:  # the library names its own error, and lets through what PyTorch trips over
        raise CheckpointError(f"{path} is not a whole safetensors file: {plain(error)}") from None
    return tensors, _card(path, header)


def read_pth(path: Path) -> tuple[dict[str, Tensor], Card | None]:
    """Tensors of a .pth state dict, or of one that training has wrapped, and their card where we wrote it; nothing is executed.

    Raises CheckpointError if the file is no state dict of tensors, or its tensors have more bytes than it.
    """
    with path.open("rb") as file:
        try:
            _check_not_compressed(file)
            with warnings.catch_warnings(action="ignore"):  # what PyTorch remarks, the error says
                loaded = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # PyTorch's unpickler lets through whatever a broken file makes it trip over
            if (size := _cut_at(file, error)) is not None:
                raise CheckpointError(
                    f"{path} has {size} bytes and breaks off there: it is cut off, or damaged; copy or download it again"
                ) from None
            reason = f"it does not load without executing code: {_reason(error)}"
            raise CheckpointError(f"{path} is not a PyTorch state dict; {reason}") from None
        size = file.seek(0, 2)
    # From here on nothing of a dict's or a tensor's own is called: a pickle can give both attributes of any name.
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds {type(loaded).__name__}; expected a state dict of tensors")
    wrapped = [name for name in _WRAPPINGS if isinstance(dict.get(loaded, name), dict)]
    if len(wrapped) > 1:
        raise CheckpointError(f"{path} holds dictionaries under {shown(wrapped)}; save the one that is meant, alone")
    if wrapped:
        loaded = dict.get(loaded, wrapped[0])
    tensors: dict[str, Tensor] = {}
    for key, value in dict.items(loaded):
        if type(key) is not str or type(value) not in (Tensor, torch.nn.Parameter):
            kinds = f"{type(value).__name__} under a key of {type(key).__name__}"
            raise CheckpointError(f"{path} holds {kinds}; expected a state dict of tensors")
        tensors[key] = value
    tensors = _without_prefix(path, tensors)
    with warnings.catch_warnings(action="ignore"):  # on unusual tensors, which are refused
        tensors = {key: Tensor.detach(value) for key, value in tensors.items()}
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values() if tensor.layout is torch.strided)
    if total > size:
        raise CheckpointError(f"{path} of {size} bytes says that its tensors have {total}: they overlap, or are not in it")
    metadata = vars(loaded).get("_metadata") if isinstance(loaded, OrderedDict) else None
    ours = dict.get(metadata, _KEY) if isinstance(metadata, dict) else None
    header = dict.get(ours, "card") if isinstance(ours, dict) else None
    return tensors, _card(path, header)


def _without_prefix(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the network's own names, where training has put others before them: `module.` of DataParallel,
    `_orig_mod.` of torch.compile, `model.` or any name of an attribute of a LightningModule.

    Raises CheckpointError if there are two networks, or a network and something else.
    """
    plain_names = {key.replace(_COMPILED, ""): tensor for key, tensor in tensors.items()}
    if len(plain_names) < len(tensors):
        raise CheckpointError(f"{path} holds tensors twice, with and without {_COMPILED!r}; save the network alone")
    found = sorted({key.removesuffix(first) for key in plain_names for first in _FIRST if f".{key}".endswith(f".{first}")})
    if len(found) > 1:
        raise CheckpointError(f"{path} holds networks under {shown(found)}; save the one that is meant, alone")
    if found in ([], [""]):
        return plain_names
    if others := [key for key in plain_names if not key.startswith(found[0])]:
        raise CheckpointError(f"{path} holds {shown(others)} besides the network under {shown(found)}; save the network alone")
    return {key.removeprefix(found[0]): tensor for key, tensor in plain_names.items()}


def _card(path: Path, header: Any) -> Card | None:
    if type(header) is not str or not header:
        return None
    try:
        return Card.from_json(header)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _check_not_compressed(file: BinaryIO) -> None:
    """Leave `file` at its start; raise CheckpointError if it is a zip whose records would grow in memory."""
    zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        with zipfile.ZipFile(file) as archive:
            grown = [
                record.filename
                for record in archive.infolist()
                if record.compress_type or record.compress_size != record.file_size
            ]
        if grown:
            raise CheckpointError(f"its records {shown(grown)} are compressed; PyTorch writes none such")
    file.seek(0)


def _cut_at(file: BinaryIO, error: Exception) -> int | None:
    """The size of a file that begins as PyTorch writes it, if at all, and, as `error` has found, does not end so; else None."""
    file.seek(0)
    head = file.read(32)
    begins_well = not head or head.startswith(_MAGIC)
    at_end = isinstance(error, zipfile.BadZipFile | EOFError | IndexError | struct.error) or "unexpected EOF" in str(error)
    return file.seek(0, 2) if begins_well and at_end else None


def _reason(error: Exception) -> str:
    """What PyTorch's message of several lines says is wrong, without its advice, which is to let the file execute code."""
    text = str(error)
    if wanted := _WANTED.search(text):
        return f"it asks for {shown([wanted[1]])}, which is refused; save its tensors alone (torch.save of a state_dict())"
    if words := next((words for mark, words in _ADVISED.items() if mark in text), None):
        return words
    lines = text.rpartition("WeightsUnpickler error: ")[2].strip().splitlines()
    return plain(lines[0]) if lines else type(error).__name__
