"""VMZ's pickles: what they may call are the constructors of numpy arrays, described but not executed.

Nothing of numpy is called for a pickle. A `Blob` describes an array; it is created only after dtype, shape and number of bytes
were found to agree. Its numbers stay in the file until `Blob.read`.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ig65m.checkpoints.lazy_bytes import Source, Stored
from ig65m.checkpoints.unpickle import Allowance, Global, interpret, kind_of, name_of
from ig65m.errors import CheckpointError, shown

MAX_STEPS: Final = 200_000  # most opcodes, and pairs of an OrderedDict; the 152-layer checkpoints have up to 37,000
MAX_BLOBS: Final = 4_000  # most blobs; the 152-layer checkpoints have 1,032
MAX_DIMENSIONS: Final = 8
MAX_NUMBERS: Final = 2**31  # most numbers in one array

_DTYPES = {code: np.dtype(code) for code in ("f2", "f4", "f8", "i4", "i8")}


@dataclass(frozen=True)
class Blob:
    """An array in a file. `stored` is its shape before the permutation `axes` of its axes."""

    data: Stored
    dtype: np.dtype[Any]
    stored: tuple[int, ...]
    order: Literal["C", "F"] = "C"
    axes: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored if self.axes is None else tuple(self.stored[axis] for axis in self.axes)

    @property
    def nbytes(self) -> int:
        return prod(self.stored) * self.dtype.itemsize

    def read(self, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
        """Read the array in C order, converted to `dtype`; takes its memory and that of a piece."""
        array: NDArray[Any] = np.empty(self.shape, self.dtype if dtype is None else dtype)
        view = array if self.axes is None else array.transpose(np.argsort(self.axes))
        view = view.T if self.order == "F" else view  # its numbers in C order are those of the file
        flat = view.reshape(-1) if view.flags.c_contiguous else view.flat
        position, rest = 0, b""
        for piece in self.data.pieces():
            piece = rest + piece  # noqa: PLW2901
            whole = len(piece) - len(piece) % self.dtype.itemsize
            numbers = np.frombuffer(piece[:whole], self.dtype)
            flat[position : position + len(numbers)] = numbers
            position, rest = position + len(numbers), piece[whole:]
        return array


class DType:
    """numpy.dtype as in the pickle: a code, then (by BUILD) a byte order."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.built = False

    def build(self, _: Allowance, state: Any) -> None:
        if self.built:
            raise CheckpointError("the state of a dtype is set twice")
        if type(state) is not tuple or len(state) != 8 or (state[0], *state[2:]) != (3, None, None, None, -1, -1, 0):
            raise CheckpointError("an array has a structured, sub-array or otherwise unusual dtype; expected plain numbers")
        order = name_of(state[1])
        if order not in ("<", ">"):
            raise CheckpointError(f"a dtype has the byte order {shown([order])}; expected '<' or '>'")
        self.dtype = self.dtype.newbyteorder("<" if order == "<" else ">")
        self.built = True


class Array:
    """numpy.ndarray as in the pickle: empty, then (by BUILD) shape, dtype, order and bytes."""

    def __init__(self, blob: Blob | None = None) -> None:
        self.blob = blob

    def build(self, allowance: Allowance, state: Any) -> None:
        if self.blob is not None:
            raise CheckpointError("the state of an array is set twice")
        if type(state) is not tuple or len(state) != 5 or state[0] != 1 or state[3] not in (0, 1):
            raise CheckpointError("an array's state is not (version 1, shape, dtype, is_fortran, bytes)")
        _, shape, dtype, fortran, raw = state
        self.blob = _blob(allowance, raw, dtype, shape, "F" if fortran else "C")


def _blob(allowance: Allowance, raw: Any, dtype: Any, shape: Any, order: Literal["C", "F"]) -> Blob:
    """Check that bytes, dtype and shape agree."""
    if not isinstance(raw, Stored) or raw.kind == "text":
        raise CheckpointError("an array's data are not bytes (arrays of objects are refused)")
    if not isinstance(dtype, DType):
        raise CheckpointError("an array's dtype is not a numpy.dtype")
    if type(shape) is not tuple or len(shape) > MAX_DIMENSIONS or not all(type(n) is int for n in shape):
        raise CheckpointError(f"an array's shape is not a tuple of at most {MAX_DIMENSIONS} whole numbers")
    if any(n < 0 for n in shape):
        raise CheckpointError(f"an array's shape {shape} is negative")
    if prod(n for n in shape if n) >= MAX_NUMBERS:
        raise CheckpointError(f"an array of shape {shape} is larger than any of a checkpoint")
    if raw.notation == "plain":
        size = raw.size
    else:
        allowance.decode(raw.size)
        size = sum(map(len, raw.pieces()))
    blob = Blob(raw, dtype.dtype, shape, order)
    if blob.nbytes != size:
        raise CheckpointError(f"an array of shape {shape} and dtype {dtype.dtype} has {size} bytes; expected {blob.nbytes}")
    return blob


def _fill(target: dict[str, Any], items: Sequence[Any]) -> dict[str, Any]:
    """Add alternating keys and values to `target`; each key must be a new name."""
    if len(items) % 2:
        raise CheckpointError("a dictionary has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        name = name_of(key)
        if name in target:
            raise CheckpointError(f"{shown([name])} occurs twice")
        target[name] = value
    return target


def _reconstruct(_: Allowance, *args: Any) -> Array:
    kind = args[2] if len(args) == 3 else None
    is_b = isinstance(kind, Stored) and kind.size == 1 and b"".join(kind.pieces()) == b"b"
    if not is_b or args[:2] != (Global("numpy.ndarray"), (0,)):
        raise CheckpointError("_reconstruct makes something other than an empty numpy.ndarray")
    return Array()


def _dtype(_: Allowance, *args: Any) -> DType:
    if len(args) != 3 or args[1] not in (0, 1) or args[2] not in (0, 1):
        raise CheckpointError("numpy.dtype is not given a code and two truth values")
    code = name_of(args[0])
    if code not in _DTYPES:
        raise CheckpointError(f"an array has the dtype {shown([code])}; expected one of {', '.join(_DTYPES)}")
    return DType(_DTYPES[code])


def _frombuffer(allowance: Allowance, *args: Any) -> Array:
    """numpy's `_frombuffer(bytes, dtype, shape, order)`; since 2.4 the order "K" is followed by the order of the axes."""
    if len(args) not in (4, 5):
        raise CheckpointError("_frombuffer takes bytes, dtype, shape, order and perhaps the order of the axes")
    raw, dtype, shape = args[:3]
    if not isinstance(raw, Stored) or raw.kind != "bytes":
        raise CheckpointError(f"_frombuffer is given {kind_of(raw)}; expected bytes")
    order, axes = name_of(args[3]), args[4] if len(args) == 5 else None
    if axes is None and order in ("C", "F"):
        return Array(_blob(allowance, raw, dtype, shape, "F" if order == "F" else "C"))
    if order != "K":
        raise CheckpointError("an array's memory is in neither C nor Fortran order")
    blob = _blob(allowance, raw, dtype, shape, "C")
    if type(axes) is not tuple or not all(type(n) is int for n in axes) or sorted(axes) != list(range(len(blob.stored))):
        raise CheckpointError("the order of an array's axes is not a permutation of them")
    return Array(Blob(raw, blob.dtype, blob.stored, axes=axes))


def _encode(_: Allowance, *args: Any) -> Stored:
    """_codecs.encode(text, 'latin1'): how Python 3 pickles bytes in protocols 0 to 2."""
    text = args[0] if len(args) == 2 else None
    if not isinstance(text, Stored) or text.kind != "text" or name_of(args[1]) not in ("latin1", "latin-1"):
        raise CheckpointError("_codecs.encode is used for something other than bytes")
    return Stored(text.source, text.start, text.size, "bytes", text.notation)


def _bytes(_: Allowance, *args: Any) -> Stored:
    """bytes(): how Python 3 pickles empty bytes in protocols 0 to 2."""
    if args:
        raise CheckpointError("bytes are made from something")
    return _NO_BYTES


def _ordered_dict(allowance: Allowance, *args: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    pairs = args[0] if args else []
    if len(args) > 1 or not isinstance(pairs, list):
        raise CheckpointError("an OrderedDict is not made from a list of pairs")
    allowance.step(len(pairs))
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise CheckpointError("an OrderedDict is not made from a list of pairs")
        _fill(out, pair)
    return out


_NO_BYTES = Stored(Source(io.BytesIO()), 0, 0, "bytes")
_CALLS: dict[str, Callable[..., Any]] = {
    "__builtin__.bytes": _bytes,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "collections.OrderedDict": _ordered_dict,
}
_GLOBALS = {name: Global(name) for name in (*_CALLS, "numpy.ndarray")}


class _NumpyVocabulary:
    """What the pickles of numpy arrays may do."""

    opcodes: frozenset[bytes] = frozenset()

    def find_global(self, module: str, name: str) -> Global:
        """Return the global of that name, if it is a constructor of arrays."""
        full = f"{module}.{name}"
        if full not in _GLOBALS:
            raise CheckpointError(f"it requests {shown([full])}; a checkpoint needs only numpy arrays. It may be malicious")
        return _GLOBALS[full]

    def call(self, allowance: Allowance, function: Any, args: Any) -> Any:
        """Return the description of `function(*args)`, for a function of `find_global`."""
        if not isinstance(function, Global) or function.name not in _CALLS or not isinstance(args, tuple):
            raise CheckpointError(f"it calls {kind_of(function)}; only numpy arrays are built here")
        return _CALLS[function.name](allowance, *args)

    def build(self, allowance: Allowance, target: Any, state: Any) -> None:
        """Set the state of an array or dtype."""
        if not isinstance(target, Array | DType):
            raise CheckpointError(f"it sets the state of {kind_of(target)}; only arrays and dtypes have one")
        target.build(allowance, state)

    def fill(self, _: Allowance, target: dict[str, Any], items: Sequence[Any]) -> dict[str, Any]:
        """Add alternating keys and values to `target`; each key must be a new name."""
        return _fill(target, items)

    def find_stored(self, _: Any) -> Any:
        """Never called: the opcode for it is refused."""
        raise CheckpointError("it has objects outside the pickle")


def read_blobs(file: BinaryIO) -> dict[str, Blob]:
    """Read a VMZ checkpoint, written by Python 2 or 3 in any protocol: {blob name: array}, arrays still in the file.

    Raises CheckpointError if the file is not such a pickle, or contains anything but arrays of plain numbers.
    """
    source = Source(file)
    if not source.size:
        raise CheckpointError("it is empty")
    if source.read(0, min(4, source.size)) == b"PK\x03\x04":
        raise CheckpointError("it is a zip file; if it is PyTorch's, rename it to .pth")
    value, end = interpret(source, _NumpyVocabulary(), Allowance(MAX_STEPS, source.size))
    if end != source.size:
        raise CheckpointError(f"{source.size - end} bytes follow its end")
    if isinstance(value, dict) and "blobs" in value:
        if others := sorted(value.keys() - {"blobs"}):
            raise CheckpointError(f"it contains {shown(others)} besides 'blobs'")
        value = value["blobs"]
    if not isinstance(value, dict) or not value:
        raise CheckpointError(f"it contains {kind_of(value)}; expected a dictionary of arrays")
    if len(value) > MAX_BLOBS:
        raise CheckpointError(f"it contains {len(value)} blobs; expected at most {MAX_BLOBS}")
    blobs: dict[str, Blob] = {}
    for name, array in value.items():
        if not isinstance(array, Array) or array.blob is None:
            raise CheckpointError(f"its blob {shown([name])} is {kind_of(array)}; expected an array")
        blobs[name] = array.blob
    if sum(blob.nbytes for blob in blobs.values()) > source.size:
        raise CheckpointError("its arrays have more bytes than the file: some are used repeatedly")
    return blobs
