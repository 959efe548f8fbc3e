"""A model's name or file -> the network, in eval mode, with its card."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ig65m.checkpoints.fit import build
from ig65m.checkpoints.vmz import read_vmz
from ig65m.errors import CheckpointError, ModelError, UsageError
from ig65m.models.resnet import ResNet
from ig65m.models.spec import EPS, Builder, ResNetSpec
from ig65m.zoo.cards import CARDS, Card, card_for, find_card, name_from
from ig65m.zoo.files import read_pth, read_safetensors
from ig65m.zoo.hub import file_sha256, weights_file

SHARED = ("r2plus1d", "r3d", "mc3")  # architectures that torchvision has too, of 18 layers

_READERS: dict[str, Callable[[Path], tuple[dict[str, Tensor], Card | None]]] = {
    ".safetensors": read_safetensors,
    ".pth": read_pth,
    ".pt": read_pth,
    ".pkl": lambda path: (read_vmz(path), None),
}


def load_model(
    model: str | Path, *, progress: bool | None = None, pool1: bool | None = None, origin: Builder | None = None
) -> ResNet:
    """A network with weights, in eval mode; `model.card` says what it is.

    `model` is a name (`ig65m.list_models()`) or a file: .safetensors or .pth of ours, a .pth in the layout of
    torchvision's VideoResNet, a .pkl of VMZ. Files without a card of their own get one that says what their tensors tell;
    their clip length and labels stay unknown, unless the file is one of the published. Of such files `pool1` says whether
    the network has that pooling (None: CSN networks have it, the others not), and `origin` who built it, "vmz" or
    "torchvision", where the tensors fit both.

    Raises ModelError (no such name), CheckpointError (the file is not such a model, or could be two), DownloadError,
    FileNotFoundError.
    """
    if origin is not None and origin not in EPS:
        raise UsageError(f"origin {origin!r} is none of {', '.join(EPS)}")
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
    return read_model(path, None, pool1=pool1, origin=origin)


def read_model(path: Path, card: Card | None, *, pool1: bool | None = None, origin: Builder | None = None) -> ResNet:
    """The network in a file; `card` is what is known of it beforehand, and goes before what the file says."""
    tensors, own = _READERS[path.suffix.lower()](path)
    card = card or own or _published(path)

    def completed(spec: ResNetSpec) -> ResNetSpec:
        known = spec if card is None else card.spec
        if card is not None and (pool1 not in (None, known.pool1) or origin not in (None, known.builder)):
            raise CheckpointError(f"it is known to be a {known}, pool1: {known.pool1}; leave --pool1 and --origin out")
        if card is None:
            builder = _builder(spec, origin, is_vmz=path.suffix.lower() == ".pkl")
            known = replace(spec, pool1=spec.pool1 if pool1 is None else pool1, builder=builder)
        return replace(spec, pool1=known.pool1, builder=known.builder)

    try:
        network = build(tensors, completed)
        network.card = card or card_for(
            network.spec, name=name_from(path.stem), origin=f"converted from {name_from(path.name)}"
        )
        if not network.card.spec.same_network(network.spec):
            raise CheckpointError(f"its tensors are of {network.spec}, its card is of {network.card.spec}")
        network.spec = network.card.spec
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return network


def _builder(spec: ResNetSpec, origin: Builder | None, *, is_vmz: bool) -> Builder:
    """Who built a network, of which the shapes say so only in the widths of (2+1)-D convolutions."""
    told: Builder | None = None
    if is_vmz or spec.architecture not in SHARED or spec.depth != 18:
        told = "vmz"
    elif spec.architecture == "r2plus1d":
        told = spec.builder
    if told is None and origin is None:
        raise CheckpointError(
            f"a {spec} could be VMZ's or torchvision's, which differ in their batch norms' eps; convert it with "
            "`ig65m convert --origin`, or load it with origin="
        )
    if None not in (told, origin) and told != origin:
        raise CheckpointError(f"its tensors are of {told}'s, not of {origin}'s; leave --origin out")
    return told or origin or "vmz"


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
