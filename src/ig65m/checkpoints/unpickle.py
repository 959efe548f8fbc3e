"""Pickles of strangers -> plain values and numpy arrays, by an interpreter that has nothing in it to execute.

A pickle is a program for a stack machine. The opcodes that VMZ's checkpoints consist of are interpreted here; the calls
that a pickle may ask for are a closed table of functions of ours, and an array comes to be only after its dtype, shape and
number of bytes have been found to agree. Python's own unpickler takes no part. Text and arrays are views of the file's
bytes, so that memory stays near the size of the file.
"""

import codecs
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import CheckpointError, shown

MAX_OPCODES = 500_000  # a 152-layer checkpoint has about 40,000; each makes at most one small object
MAX_NAME = 1_000  # bytes in a dictionary key or a class name
MAX_DIMENSIONS = 8
_PAIR_BYTES = 20  # in the file, for a name and an array: at least

_DTYPES = {code: np.dtype(code) for code in ("f2", "f4", "f8", "i4", "i8")}
_MARK = object()


@dataclass(frozen=True)
class _Text:
    """A string of the file: latin-1 for a `str` of Python 2, which may hold text or bytes; else unicode text."""

    view: memoryview
    encoding: Literal["latin-1", "utf-8", "raw-unicode-escape"]


@dataclass(frozen=True)
class _Global:
    name: str


class _DType:
    """numpy.dtype as the pickle describes it: a code, then (by BUILD) a byte order."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise CheckpointError("an array has a structured or sub-array dtype; expected plain numbers")
        order = _name(state[1])
        if order not in ("<", ">"):
            raise CheckpointError(f"a dtype has the byte order {order!r}; expected '<' or '>'")
        self.dtype = self.dtype.newbyteorder("<" if order == "<" else ">")


class _Array:
    """numpy.ndarray as the pickle describes it: empty, then (by BUILD) shape, dtype, order and bytes."""

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise CheckpointError("an array's state is not (version, shape, dtype, is_fortran, bytes)")
        shape, dtype, fortran, raw = state[-4:]
        self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    """Check that bytes, dtype and shape agree; only then make the array, a view of the bytes."""
    if isinstance(raw, _Text) and raw.encoding == "latin-1":
        raw = raw.view
    if not isinstance(raw, memoryview | bytearray):
        raise CheckpointError("an array's data are not bytes (arrays of objects are refused)")
    if not isinstance(dtype, _DType):
        raise CheckpointError("an array's dtype is not a numpy.dtype")
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise CheckpointError(f"an array's shape is not a tuple of at most {MAX_DIMENSIONS} sizes")
    if prod(size for size in shape if size) >= 2**31:
        raise CheckpointError(f"an array of shape {shape} is larger than any of a checkpoint")
    if prod(shape) * dtype.dtype.itemsize != len(raw):
        raise CheckpointError(f"an array of shape {shape} and dtype {dtype.dtype} cannot have {len(raw)} bytes")
    flat: NDArray[Any] = np.frombuffer(raw, dtype.dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _name(value: Any) -> str:
    """A short string of the file as `str`."""
    if not isinstance(value, _Text) or len(value.view) > MAX_NAME:
        raise CheckpointError(f"expected a name of at most {MAX_NAME} bytes, got {_kind(value)}")
    try:
        return str(value.view, value.encoding)
    except UnicodeDecodeError:
        raise CheckpointError(f"a name is not valid {value.encoding}") from None


def _kind(value: Any) -> str:
    if isinstance(value, _Text):
        return f"text of {len(value.view)} bytes"
    return f"the name {value.name}" if isinstance(value, _Global) else type(value).__name__.strip("_")


def _call_reconstruct(_: "_Machine", *args: Any) -> _Array:
    if len(args) != 3 or args[0] != _Global("numpy.ndarray"):
        raise CheckpointError("_reconstruct makes something other than a numpy.ndarray")
    return _Array()


def _call_dtype(_: "_Machine", *args: Any) -> _DType:
    code = _name(args[0]) if args else ""
    dtype = _DTYPES.get(code.lstrip("<=|"))
    if dtype is None:
        raise CheckpointError(f"an array has the dtype {code!r}; expected one of {', '.join(_DTYPES)}")
    return _DType(dtype)


def _call_frombuffer(_: "_Machine", *args: Any) -> _Array:
    """numpy's `_frombuffer(bytes, dtype, shape, order)`; since 2.4 an order "K" has the order of the axes behind it."""
    if len(args) not in (4, 5):
        raise CheckpointError("_frombuffer takes bytes, dtype, shape, order and perhaps the order of the axes")
    raw, dtype, shape, order = args[:4]
    axes = args[4] if len(args) == 5 else None
    array = _Array()
    if axes is None and _name(order) in ("C", "F"):
        array.value = _array(raw, dtype, shape, _name(order))
    elif _name(order) == "K" and isinstance(axes, tuple):
        stored = _array(raw, dtype, shape, "C")
        if not all(type(axis) is int for axis in axes) or sorted(axes) != list(range(stored.ndim)):
            raise CheckpointError("the order of an array's axes is not a permutation of them")
        array.value = stored.transpose(axes)
    else:
        raise CheckpointError("an array's memory is in neither C nor Fortran order")
    return array


def _call_encode(machine: "_Machine", *args: Any) -> bytearray:
    """_codecs.encode(text, 'latin1'): how Python 3 writes bytes in protocols 0 to 2; done piecewise, to bound memory."""
    if len(args) != 2 or not isinstance(args[0], _Text) or _name(args[1]) not in ("latin1", "latin-1"):
        raise CheckpointError("_codecs.encode is used for something other than bytes")
    machine.spend(len(args[0].view))
    decoder = codecs.getincrementaldecoder(args[0].encoding)()
    view, out = args[0].view, bytearray()
    try:
        for start in range(0, len(view), 1 << 20):
            piece = view[start : start + (1 << 20)]
            out += decoder.decode(piece, final=start + len(piece) == len(view)).encode("latin-1")
    except UnicodeError:
        raise CheckpointError("text that should hold bytes has characters beyond latin-1") from None
    return out


def _call_ordered_dict(machine: "_Machine", *args: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    pairs = args[0] if args else []
    if len(args) > 1 or not isinstance(pairs, list):
        raise CheckpointError("an OrderedDict is not made from a list of pairs")
    machine.spend(_PAIR_BYTES * len(pairs))
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise CheckpointError("an OrderedDict is not made from a list of pairs")
        _fill(out, pair)
    return out


def _call_bytes(_: "_Machine", *args: Any) -> bytearray:
    """bytes(): how Python 3 writes no bytes in protocols 0 to 2."""
    if args:
        raise CheckpointError("bytes are made from something")
    return bytearray()


_CALLS: dict[str, Callable[..., Any]] = {
    "__builtin__.bytes": _call_bytes,
    "numpy.core.multiarray._reconstruct": _call_reconstruct,
    "numpy._core.multiarray._reconstruct": _call_reconstruct,
    "numpy.core.numeric._frombuffer": _call_frombuffer,
    "numpy._core.numeric._frombuffer": _call_frombuffer,
    "numpy.dtype": _call_dtype,
    "_codecs.encode": _call_encode,
    "collections.OrderedDict": _call_ordered_dict,
}
_KNOWN = {*_CALLS, "numpy.ndarray"}


def _global(module: str, name: str) -> _Global:
    found = _Global(f"{module}.{name}")
    if found.name not in _KNOWN:
        raise CheckpointError(
            f"it asks for {found.name!r}; a VMZ checkpoint needs nothing but numpy arrays. It may be malicious"
        )
    return found


def _fill(target: dict[str, Any], items: Sequence[Any]) -> dict[str, Any]:
    """Keys and values in turn -> `target`, each key a name that was not there yet."""
    if len(items) % 2:
        raise CheckpointError("a dictionary has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        name = _name(key)
        if name in target:
            raise CheckpointError(f"{name!r} occurs twice")
        target[name] = value
    return target


class _Machine:
    """The stack machine: `run` interprets `data` up to its STOP."""

    def __init__(self, data: bytes) -> None:
        self.bytes = data
        self.data = memoryview(data)
        self.position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.budget = len(data)

    def spend(self, size: int) -> None:
        """Account for `size` bytes made from the file's; what is recalled again and again would make more than it holds."""
        self.budget -= size
        if self.budget < 0:
            raise CheckpointError("it builds more than it holds: the same text or list is used over and over")

    def take(self, size: int) -> memoryview:
        if not 0 <= size <= len(self.data) - self.position:
            raise CheckpointError(f"it is cut short: {size} bytes expected, {len(self.data) - self.position} left")
        self.position += size
        return self.data[self.position - size : self.position]

    def unpack(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> memoryview:
        end = self.bytes.find(b"\n", self.position)
        if end < 0:
            raise CheckpointError("it is cut short within a line")
        return self.take(end + 1 - self.position)[:-1]

    def short_line(self) -> bytes:
        line = self.line()
        if len(line) > MAX_NAME:
            raise CheckpointError(f"a line of {len(line)} bytes; expected a name or a number of at most {MAX_NAME}")
        return bytes(line)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise CheckpointError("its stack runs empty")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise CheckpointError("a mark is missing from its stack")

    def pop_tuple(self, size: int) -> tuple[Any, ...]:
        return tuple(reversed([self.pop() for _ in range(size)]))

    def top(self) -> Any:
        self.stack.append(top := self.pop())
        return top

    def recall(self, index: int) -> Any:
        if index not in self.memo:
            raise CheckpointError(f"it refers to the memo's entry {index}, which it never made")
        return self.memo[index]

    def number(self, convert: Callable[[bytes], Any]) -> Any:
        line = self.short_line()
        try:
            return convert(line)
        except ValueError:
            raise CheckpointError(f"{line[:40]!r} is not a number") from None

    def long(self, size: int) -> int:
        if size > 8:
            raise CheckpointError(f"an integer of {size} bytes; expected at most 8")
        return int.from_bytes(self.take(size), "little", signed=True)

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.top(), list):
            raise CheckpointError(f"items are appended to {_kind(self.top())}; expected a list")
        self.top().extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, dict):
            raise CheckpointError(f"items are set in {_kind(target)}; expected a dictionary")
        _fill(target, items)

    def reduce(self) -> Any:
        args, function = self.pop(), self.pop()
        if not isinstance(function, _Global) or function.name not in _CALLS or not isinstance(args, tuple):
            raise CheckpointError(f"it calls {_kind(function)}; only numpy arrays are built here")
        return _CALLS[function.name](self, *args)

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if not isinstance(target, _Array | _DType):
            raise CheckpointError(f"it sets the state of {_kind(target)}; only arrays and dtypes have one")
        target.build(state)

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            opcode = bytes(self.take(1))
            if opcode == b".":
                return self.pop()
            action = _OPCODES.get(opcode)
            if action is None:
                raise CheckpointError(f"opcode {opcode!r} at byte {self.position - 1} is none that a VMZ checkpoint has")
            action(self)
        raise CheckpointError(f"it has more than {MAX_OPCODES} opcodes")


def _push(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(make(machine))


def _put(index: Callable[[_Machine], int]) -> Callable[[_Machine], None]:
    return lambda machine: machine.memo.__setitem__(index(machine), machine.top())


def _quoted(line: memoryview) -> _Text:
    """A Python 2 `str` in protocol 0, quoted and escaped as in source text."""
    if len(line) < 2 or line[0] not in b"'\"" or line[-1] != line[0]:
        raise CheckpointError("a quoted string is malformed")
    try:
        return _Text(memoryview(codecs.escape_decode(line[1:-1])[0]), "latin-1")
    except ValueError:
        raise CheckpointError("a quoted string has a malformed escape") from None


def _int_line(line: bytes) -> Any:
    return {b"00": False, b"01": True}.get(line) if line in (b"00", b"01") else int(line)


def _stack_global(machine: _Machine) -> _Global:
    module, name = machine.pop_tuple(2)
    return _global(_name(module), _name(name))


_OPCODES: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME: a hint on buffering, of no use here
    b"(": lambda m: m.stack.append(_MARK),
    b"0": lambda m: m.pop(),
    b"1": lambda m: m.pop_to_mark(),
    b"2": _push(lambda m: m.top()),
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"I": _push(lambda m: m.number(_int_line)),
    b"L": _push(lambda m: m.number(lambda line: int(line.rstrip(b"L")))),
    b"F": _push(lambda m: m.number(float)),
    b"J": _push(lambda m: m.unpack("<i")),
    b"K": _push(lambda m: m.unpack("<B")),
    b"M": _push(lambda m: m.unpack("<H")),
    b"\x8a": _push(lambda m: m.long(m.unpack("<B"))),
    b"\x8b": _push(lambda m: m.long(m.unpack("<I"))),
    b"G": _push(lambda m: m.unpack(">d")),
    b"S": _push(lambda m: _quoted(m.line())),
    b"U": _push(lambda m: _Text(m.take(m.unpack("<B")), "latin-1")),
    b"T": _push(lambda m: _Text(m.take(m.unpack("<I")), "latin-1")),
    b"V": _push(lambda m: _Text(m.line(), "raw-unicode-escape")),
    b"X": _push(lambda m: _Text(m.take(m.unpack("<I")), "utf-8")),
    b"\x8c": _push(lambda m: _Text(m.take(m.unpack("<B")), "utf-8")),
    b"\x8d": _push(lambda m: _Text(m.take(m.unpack("<Q")), "utf-8")),
    b"C": _push(lambda m: m.take(m.unpack("<B"))),
    b"B": _push(lambda m: m.take(m.unpack("<I"))),
    b"\x8e": _push(lambda m: m.take(m.unpack("<Q"))),
    b"\x96": _push(lambda m: m.take(m.unpack("<Q"))),
    b"}": _push(lambda m: {}),
    b"]": _push(lambda m: []),
    b")": _push(lambda m: ()),
    b"d": _push(lambda m: _fill({}, m.pop_to_mark())),
    b"l": _push(lambda m: m.pop_to_mark()),
    b"t": _push(lambda m: tuple(m.pop_to_mark())),
    b"\x85": _push(lambda m: m.pop_tuple(1)),
    b"\x86": _push(lambda m: m.pop_tuple(2)),
    b"\x87": _push(lambda m: m.pop_tuple(3)),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.pop_to_mark()),
    b"s": lambda m: m.set_items([*m.pop_tuple(2)]),
    b"u": lambda m: m.set_items(m.pop_to_mark()),
    b"p": _put(lambda m: m.number(int)),
    b"q": _put(lambda m: m.unpack("<B")),
    b"r": _put(lambda m: m.unpack("<I")),
    b"\x94": _put(lambda m: len(m.memo)),
    b"g": _push(lambda m: m.recall(m.number(int))),
    b"h": _push(lambda m: m.recall(m.unpack("<B"))),
    b"j": _push(lambda m: m.recall(m.unpack("<I"))),
    b"c": _push(lambda m: _global(*(str(m.short_line(), "latin-1") for _ in range(2)))),
    b"\x93": _push(_stack_global),
    b"R": _push(lambda m: m.reduce()),
    b"b": lambda m: m.build(),
}


def read_blobs(path: Path) -> dict[str, NDArray[Any]]:
    """A VMZ checkpoint, written by Python 2 or 3 in any protocol -> {blob name: array}, arrays read-only views of the file.

    Raises CheckpointError if the file is no such pickle, or holds anything but arrays of plain numbers; FileNotFoundError.
    """
    data = path.read_bytes()
    try:
        machine = _Machine(data)
        value = machine.run()
        if machine.position != len(data):
            raise CheckpointError(f"{len(data) - machine.position} bytes follow its end")
        if isinstance(value, dict) and "blobs" in value:
            if others := sorted(value.keys() - {"blobs"}):
                raise CheckpointError(f"beside 'blobs' it holds {shown(others)}")
            value = value["blobs"]
        if not isinstance(value, dict) or not value:
            raise CheckpointError(f"it holds {_kind(value)}; expected a dictionary of arrays")
        for name, blob in value.items():
            if not isinstance(blob, _Array) or blob.value is None:
                raise CheckpointError(f"its blob {shown([name])} is {_kind(blob)}; expected an array")
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not a checkpoint of VMZ (a pickle of float arrays): {error}") from None
    return {name: blob.value for name, blob in value.items()}
