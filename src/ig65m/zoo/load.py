"""A model's name or file -> the network, in eval mode, with its card."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ig65m.checkpoints.fit import build
from ig65m.checkpoints.vmz import read_vmz
from ig65m.errors import CheckpointError, ModelError
from ig65m.models.resnet import ResNet
from ig65m.zoo.cards import CARDS, Card, find_card, name_from
from ig65m.zoo.files import read_pth, read_safetensors
from ig65m.zoo.hub import file_sha256, weights_file

_READERS: dict[str, Callable[[Path], tuple[dict[str, Tensor], Card | None]]] = {
    ".safetensors": read_safetensors,
    ".pth": read_pth,
    ".pt": read_pth,
    ".pkl": lambda path: (read_vmz(path), None),
}


def load_model(model: str | Path, *, progress: bool | None = None) -> ResNet:
    """A network with weights, in eval mode; `model.card` says what it is.

    `model` is a name (`ig65m.list_models()`) or a file: .safetensors or .pth of ours, a .pth in the layout of
    torchvision's VideoResNet, a .pkl of VMZ. Files without a card of their own get one that says what their tensors tell;
    their clip length and labels stay unknown, unless the file is one of the published.

    Raises ModelError (no such name), CheckpointError (the file is not such a model), DownloadError, FileNotFoundError.
    """
    if not str(model) or "://" in str(model):
        raise ModelError(f"{str(model)!r} is neither a model's name (`ig65m models`) nor a file; download a file first")
    path = Path(model)
    if path.suffix.lower() not in _READERS:
        if path.exists():
            raise ModelError(f"{path} is not a model file; expected one of {', '.join(_READERS)}")
        card = find_card(str(model))
        path = weights_file(card, progress=progress)
        return read_model(path, card)
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is not a regular file")  # opening a pipe or a device could wait, or never end
    if not path.exists():
        raise FileNotFoundError(f"no model file {path}")
    return read_model(path, None)


def read_model(path: Path, card: Card | None) -> ResNet:
    """The network in a file; `card` is what is known of it beforehand, and goes before what the file says."""
    tensors, own = _READERS[path.suffix.lower()](path)
    card = card or own or _published(path)
    try:
        network = build(tensors)
        origin = f"converted from {name_from(path.name)}"
        network.card = card or Card(name=name_from(path.stem), spec=network.spec, origin=origin)
        if not network.card.spec.same_network(network.spec):
            raise CheckpointError(f"its tensors are of {network.spec}, its card is of {network.card.spec}")
        network.spec = network.card.spec
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return network


def _published(path: Path) -> Card | None:
    """The card of a published file, told by the sha256 of its bytes."""
    digest = file_sha256(path)
    return next((card for card in CARDS.values() if card.sha256 and digest.startswith(card.sha256)), None)


def weights_sha256(model: ResNet) -> str:
    """Hexadecimal sha256 of a network's weights: names and float32 values in the order of the names, whatever the file."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()
