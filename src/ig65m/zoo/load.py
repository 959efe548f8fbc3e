"""Loads the weights of a network by name or from a file, with its card."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from ig65m.checkpoints.identify import identify
from ig65m.checkpoints.mmaction import is_mmaction, state_dict_keys, their_name
from ig65m.checkpoints.vmz import read_vmz
from ig65m.errors import CheckpointError, ModelError, UsageError, check_choice, needs
from ig65m.models.card import MMACTION2, Card, name_from
from ig65m.models.spec import BUILDERS, POOLED, Builder, C3DSpec, ResNetSpec, Spec
from ig65m.models.weights import Weights
from ig65m.zoo.cards import CARDS, card_for, find_card
from ig65m.zoo.files import read_pth, read_safetensors
from ig65m.zoo.hub import file_sha256, weights_file
from ig65m.zoo.quantized import is_quantized, quantized_weights

if TYPE_CHECKING:
    from ig65m.models.network import Network

SHARED = ("r2plus1d", "r3d", "mc3")  # architectures with 18 layers that torchvision has too


@dataclass(frozen=True)
class _Contents:
    """Contents of a model file: arrays by state-dict key, and a card if it has one.

    layout: naming scheme of the file; "videoresnet" is ours and torchvision's. called: names of the arrays in the file.
    """

    arrays: dict[str, NDArray[Any]]
    card: Card | None = None
    left_out: tuple[str, ...] = ()
    layout: Literal["videoresnet", "vmz", "mmaction2"] = "videoresnet"
    called: dict[str, str] | None = None


def _read_vmz(path: Path) -> _Contents:
    arrays, left_out = read_vmz(path)
    return _Contents(arrays, left_out=left_out, layout="vmz")


def _read_pth(path: Path) -> _Contents:
    arrays, card = read_pth(path)
    if card is not None or not is_mmaction(arrays):
        return _Contents(arrays, card)
    try:
        keys = state_dict_keys(arrays)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    called = {key: name for name, key in keys.items()}
    return _Contents({key: arrays[name] for name, key in keys.items()}, layout="mmaction2", called=called)


_READERS: dict[str, Callable[[Path], _Contents]] = {
    ".safetensors": lambda path: _Contents(*read_safetensors(path)),
    ".pth": _read_pth,
    ".pt": _read_pth,
    ".pkl": _read_vmz,
}


def load_model(
    model: str | Path,
    *,
    num_classes: int | None = None,
    progress: bool | None = None,
    pool1: bool | None = None,
    origin: Builder | None = None,
) -> "Network":
    """Load a network with its weights, in eval mode; `model.card` describes it.

    Args:
        model: A name of `ig65m.list_models()`, or a file: .safetensors or .pth of ig65m; .pth with the names of torchvision's
            VideoResNet or of mmaction2's CSN; .pkl of VMZ. A file without a card gets one from its tensors; clip length and
            labels stay unknown, unless it is a published file.
        num_classes: Replace the last layer by a new one with this number of classes, to be trained. Its weights are random, as
            `torch.manual_seed` says; scores are the softmax of its logits. Default: the network's own last layer.
        progress: Whether to show a download bar on stderr. Default: if stderr is a terminal.
        pool1: Whether the network of a file without a card has a max pooling after the stem. Default: only CSN has.
        origin: Who trained the weights of an ambiguous file without a card: "vmz" or "torchvision" for an 18-layer VideoResNet,
            "vmz" or "mmaction2" for mmaction2's names.

    Returns:
        An `nn.Module`: `model(x)` maps normalised clips (N, 3, T, H, W) float32 to logits (N, classes).

    Raises:
        ModelError: There is no such model.
        CheckpointError: The file is damaged, unsafe, not a network, or ambiguous.
        DownloadError: The weights cannot be downloaded.
        FileNotFoundError: The file does not exist.
        UsageError: PyTorch is not installed; or `num_classes` is below 1, or asked of an int8 network, which cannot be trained.

    Example:
        >>> model = ig65m.load_model("r2plus1d_10_camera_motion")
        >>> model(torch.zeros(1, 3, 8, 64, 64)).shape
        torch.Size([1, 9])
        >>> model.card.labels[0]
        'static'
    """
    with needs("torch", "ig65m.load_model"):
        from ig65m.models.network import network_of, with_new_head
    if num_classes is not None and (type(num_classes) is not int or num_classes < 1):
        raise UsageError(f"num_classes must be a whole number of at least 1, got {num_classes!r}")
    weights = load_weights(model, progress=progress, pool1=pool1, origin=origin)
    return network_of(weights if num_classes is None else with_new_head(weights, num_classes))


def load_weights(
    model: str | Path, *, progress: bool | None = None, pool1: bool | None = None, origin: Builder | None = None
) -> Weights:
    """Load the weights of a network, which engines take. Parameters and errors are those of `load_model`."""
    if origin is not None:
        check_choice("origin", origin, BUILDERS)
    if not str(model) or "://" in str(model):
        raise ModelError(f"{str(model)!r} is neither a model's name (`ig65m models`) nor a local file; download the file first")
    path = Path(model)
    if path.suffix.lower() not in _READERS:
        if path.exists():
            raise ModelError(f"{path} is not a model file; expected one of {', '.join(_READERS)}")
        card = find_card(str(model))
        path = weights_file(card, progress=progress)
        return read_weights(path, card)
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is not a regular file")  # opening a pipe or a device could block
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such model file")
    return read_weights(path, None, pool1=pool1, origin=origin)


def read_weights(path: Path, card: Card | None, *, pool1: bool | None = None, origin: Builder | None = None) -> Weights:
    """Read the weights in a file; a `card` that is known beforehand overrides that of the file."""
    contents = _READERS[path.suffix.lower()](path)
    if is_quantized(contents.arrays):
        return _quantized(path, contents)
    by_name = card is not None
    card = card or contents.card or _published(path)

    def completed(spec: Spec) -> Spec:
        if card is None:
            return _completed(spec, pool1, origin, contents.layout)
        if pool1 not in (None, card.spec.pool1) or origin not in (None, card.spec.builder):
            pooling = "with" if card.spec.pool1 else "without"
            raise CheckpointError(f"it is {card.spec}, {pooling} pool1; leave --pool1 and --origin out")
        if isinstance(spec, C3DSpec):
            return spec
        return replace(spec, pool1=card.spec.pool1, builder=card.spec.builder)

    try:
        name_of = their_name if contents.layout == "mmaction2" else None
        found, arrays = identify(contents.arrays, completed, contents.called, name_of)
        if card is None:
            preprocessing = MMACTION2 if contents.layout == origin == "mmaction2" else None
            name, file = name_from(path.stem), name_from(path.name)
            card = card_for(found, name=name, origin=f"converted from {file}", preprocessing=preprocessing)
        elif by_name and card.classes_unpublished:
            spec = replace(card.spec, classes=found.classes, multi_label=found.multi_label)
            card = replace(card, spec=spec, labels=card.labels if spec.classes == card.spec.classes else None)
        if not card.spec.same_network(found):
            raise CheckpointError(f"its tensors are those of {found}, but its card describes {card.spec}")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return Weights(replace(card, left_out=contents.left_out) if contents.left_out else card, arrays)


def _quantized(path: Path, contents: _Contents) -> Weights:
    if contents.card is None:
        raise CheckpointError(f"{path} is in int8 without a card; use a file of `ig65m quantize`")
    try:
        return quantized_weights(contents.arrays, contents.card)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _completed(spec: Spec, pool1: bool | None, origin: Builder | None, layout: str) -> Spec:
    """Complete `spec` with what shapes do not tell: pool1 and builder. Raises CheckpointError if that is ambiguous."""
    if isinstance(spec, C3DSpec):
        if pool1 or origin not in (None, "vmz"):
            raise CheckpointError(f"{spec} is VMZ's and has no pool1; leave --pool1 and --origin out")
        return spec
    return replace(spec, pool1=spec.pool1 if pool1 is None else pool1, builder=_builder(spec, origin, layout))


def _builder(spec: ResNetSpec, origin: Builder | None, layout: str) -> Builder:
    """Return the builder of a network; shapes tell it only by the widths of (2+1)-D convolutions."""
    if layout == "mmaction2":
        if spec.architecture not in POOLED:
            raise CheckpointError(f"its tensors have mmaction2's names for CSN, but are those of {spec}")
        if origin not in ("vmz", "mmaction2"):
            got = f"; {origin} does not use these names" if origin else ""
            raise CheckpointError(
                f"{spec} with mmaction2's names was trained by VMZ, or by mmaction2 with another mean and "
                f"deviation{got}; say which with `ig65m convert --origin vmz` or `--origin mmaction2` (in Python: origin=)"
            )
        return "mmaction2"
    known: Builder | None = None
    if layout == "vmz" or spec.architecture not in SHARED or spec.depth != 18:
        known = "vmz"
    elif spec.architecture == "r2plus1d":
        known = spec.builder
    if known is None and origin not in ("vmz", "torchvision"):
        got = f"; {origin} uses other names" if origin else ""
        raise CheckpointError(
            f"{spec} could be VMZ's or torchvision's, which differ in the eps of batch norms{got}; say which with "
            "`ig65m convert --origin vmz` or `--origin torchvision` (in Python: origin=)"
        )
    if known and origin and known != origin:
        raise CheckpointError(f"it is a network of {BUILDERS[known]}, not of {BUILDERS[origin]}; leave --origin out")
    return known or origin or "vmz"


def _published(path: Path) -> Card | None:
    """Return the card of a published file, recognised by its sha256."""
    digest = file_sha256(path)
    return next((card for card in CARDS.values() if card.sha256 and digest.startswith(card.sha256)), None)
