"""PyTorch's pickles: what they may call are the constructors of dense tensors, described but not executed.

A `Tensor` describes numbers of a `Storage`, which lies outside the pickle. Objects that checkpoints have besides weights, such
as dtypes and devices, become an `Opaque`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final

import numpy as np

from ig65m.checkpoints.lazy_bytes import Stored
from ig65m.checkpoints.unpickle import Allowance, Global, Opaque, kind_of, name_of
from ig65m.errors import CheckpointError, shown

MAX_DIMENSIONS: Final = 8
MAX_NUMBERS: Final = 2**40  # most numbers in one tensor
MAX_KEY: Final = 1 << 14  # most bytes of a key

_DTYPES: Final = {  # numpy's dtypes, by the name of PyTorch's storage
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
_OPAQUE: Final = {
    *("torch.Size", "torch.device", "torch.serialization._get_layout", "_codecs.encode"),
    *(f"{module}.{name}" for module in ("__builtin__", "builtins") for name in ("set", "bytes", "bytearray", "complex")),
}
_TENSORS: Final = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_REBUILT: Final = "torch._utils._rebuild_"


@dataclass(frozen=True)
class Storage:
    """A row of numbers outside the pickle."""

    key: str
    dtype: str  # a value of _DTYPES
    numbers: int

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return np.dtype("u2" if self.dtype == "bfloat16" else self.dtype).itemsize


@dataclass(frozen=True)
class Tensor:
    """Numbers of a storage: from `offset` on, `strides` apart."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass
class TorchVocabulary:
    """What the pickles of PyTorch may do; `storages` has those that were mentioned, by their keys."""

    storages: dict[str, Storage] = field(default_factory=dict)
    opcodes: frozenset[bytes] = frozenset((b"G", b"Q"))

    def find_global(self, module: str, name: str) -> Any:
        """Return the global of that name, if it makes tensors or something harmless."""
        full = f"{module}.{name}"
        is_storage = full.startswith("torch.") and name.endswith("Storage")
        if full in _CALLS or full in _OPAQUE or full in _TENSORS or full.startswith(_REBUILT) or is_storage:
            return Global(full)
        if module == "torch" and name.isidentifier() and name.islower():  # a dtype or a layout, which is only compared
            return Opaque(full)
        raise CheckpointError(
            f"it requests {shown([full])}, which is refused; save only tensors (torch.save of a state_dict())"
        )

    def call(self, allowance: Allowance, function: Any, args: Any) -> Any:
        """Return the description of `function(*args)`, for a function of `find_global`."""
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise CheckpointError(f"it calls {kind_of(function)}")
        if function.name in _OPAQUE:
            return Opaque(function.name)
        if function.name.startswith(_REBUILT) and function.name not in _CALLS:
            return Opaque(f"a tensor of an unsupported kind ({function.name.removeprefix(_REBUILT)})")
        if function.name not in _CALLS:
            raise CheckpointError(f"it calls {kind_of(function)}")
        return _CALLS[function.name](self, allowance, *args)

    def build(self, allowance: Allowance, target: Any, state: Any) -> None:
        """Set the attributes of an OrderedDict."""
        if not isinstance(target, Dictionary) or not isinstance(state, dict):
            raise CheckpointError(f"it sets the state of {kind_of(target)}; only an OrderedDict has one")
        target.attributes = state

    def fill(self, allowance: Allowance, target: dict[Any, Any], items: Sequence[Any]) -> dict[Any, Any]:
        """Add alternating keys and values to `target`; keys are text or numbers."""
        if len(items) % 2:
            raise CheckpointError("a dictionary has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(allowance, key)] = value
        return target

    def find_stored(self, identity: Any) -> Storage | Opaque:
        """Return the storage that `identity` describes: "storage", type, key, device, number of elements, and in the format of
        2019 the storage that it is a part of.
        """
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or name_of(identity[0]) != "storage":
            raise CheckpointError("an object outside the pickle is not a storage")
        kind, key, _, numbers, *part = identity[1:]
        if not isinstance(kind, Global) or not kind.name.endswith("Storage"):
            raise CheckpointError(f"a storage is of {kind_of(kind)}")
        if kind.name not in _DTYPES:
            return Opaque(f"a tensor of an unsupported dtype ({kind.name})")
        if type(numbers) is not int or not 0 <= numbers < MAX_NUMBERS:
            raise CheckpointError("a storage does not say how many numbers it has")
        if part not in ([], [None]):
            raise CheckpointError("a storage is a part of another one, as PyTorch wrote before version 0.4")
        storage = Storage(name_of(key), _DTYPES[kind.name], numbers)
        if self.storages.setdefault(storage.key, storage) != storage:
            raise CheckpointError(f"the storage {shown([storage.key])} is described in two ways")
        return storage


class Dictionary(dict[Any, Any]):
    """An OrderedDict, with the attributes that the pickle gives it."""

    attributes: dict[Any, Any] | None = None


def text_of(value: Any) -> str | None:
    """Return what a text of a pickle says; None if it is no text, or is malformed."""
    if not isinstance(value, Stored) or value.kind == "bytes":
        return None
    try:
        return b"".join(value.source.pieces(value.start, value.size)).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _key(allowance: Allowance, key: Any) -> Any:
    if isinstance(key, Stored) and key.size <= MAX_KEY:
        allowance.decode(key.size)
        if (text := text_of(key)) is not None:
            return text
    elif key is None or type(key) in (int, bool, float):
        return key
    raise CheckpointError(f"{kind_of(key)} is a key of a dictionary; expected a name or a number")


def _tensor(_: TorchVocabulary, allowance: Allowance, *args: Any) -> Tensor | Opaque:
    """torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks, metadata); version 1 ends with the
    strides.
    """
    if args and isinstance(args[0], Opaque):
        return args[0]
    if not 4 <= len(args) <= 7 or not isinstance(args[0], Storage):
        raise CheckpointError("a tensor is not made from a storage, an offset, a shape and strides")
    storage, offset, shape, strides = args[:4]
    for sizes in (shape, strides, (offset,)):
        if type(sizes) is not tuple or len(sizes) > MAX_DIMENSIONS or not all(type(n) is int and 0 <= n < 2**63 for n in sizes):
            raise CheckpointError(f"a tensor's offset, shape and strides are not at most {MAX_DIMENSIONS} whole numbers each")
    if len(shape) != len(strides):
        raise CheckpointError(f"a tensor of {len(shape)} dimensions has {len(strides)} strides")
    if prod(n or 1 for n in shape) >= MAX_NUMBERS:
        raise CheckpointError(f"a tensor of shape {shape} is larger than any of a checkpoint")
    strides = tuple(step if n > 1 else 0 for n, step in zip(shape, strides, strict=True))  # others are not used
    if prod(shape) and offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) >= storage.numbers:
        raise CheckpointError(f"a tensor of shape {shape} is larger than its storage of {storage.numbers} numbers")
    return Tensor(storage, offset, shape, strides)


def _parameter(_: TorchVocabulary, allowance: Allowance, *args: Any) -> Tensor | Opaque:
    """torch._utils._rebuild_parameter(tensor, requires_grad, hooks), and perhaps Python attributes."""
    if len(args) not in (3, 4) or not isinstance(args[0], Tensor | Opaque):
        raise CheckpointError("a parameter is not made from a tensor")
    return args[0]


def _with_attributes(vocabulary: TorchVocabulary, allowance: Allowance, *args: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2(function, type, arguments, attributes)."""
    if len(args) != 4 or not isinstance(args[1], Global) or args[1].name not in _TENSORS:
        raise CheckpointError("a tensor with attributes is of an unknown type")
    if not isinstance(args[0], Global) or not args[0].name.startswith(_REBUILT):  # nor this one again, without end
        raise CheckpointError(f"a tensor with attributes is made by {kind_of(args[0])}")
    return vocabulary.call(allowance, args[0], args[2])


def _dictionary(vocabulary: TorchVocabulary, allowance: Allowance, *args: Any) -> Dictionary:
    """collections.OrderedDict() or Counter(), of nothing, a list of pairs, or a dictionary."""
    made = Dictionary()
    content = args[0] if args else []
    if len(args) > 1 or not isinstance(content, list | dict):
        raise CheckpointError("a dictionary is made from something else than pairs")
    pairs = list(content.items()) if isinstance(content, dict) else content
    allowance.step(len(pairs))
    if isinstance(content, dict):
        made.update(content)
        return made
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise CheckpointError("a dictionary is made from something else than pairs")
        vocabulary.fill(allowance, made, pair)
    return made


_CALLS: Final[dict[str, Callable[..., Any]]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
}
