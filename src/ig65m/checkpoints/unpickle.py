"""Reads untrusted pickles with an interpreter that can execute nothing.

A pickle is a program for a stack machine. This module interprets the opcodes that checkpoints consist of. The only callables
are the functions of a `Vocabulary`: our own descriptions of numpy's (`numpy_pickle`) or PyTorch's (`torch_pickle`). Python's
unpickler is not used. Text and arrays stay in the file (`lazy_bytes`), the number of steps is bounded, and each step creates at
most one small object.
"""

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ig65m.checkpoints.lazy_bytes import Source, Stored, Truncated
from ig65m.errors import CheckpointError, shown

MAX_NAME: Final = 128  # most bytes of a key, a class name, or the digits of a number; VMZ's longest has 33
MAX_INTEGER: Final = 64  # most bytes of an integer
PROTOCOLS: Final = range(6)

_MARK = object()
_WHOLE = re.compile(rb"-?(0|[1-9][0-9]{0,19})")
_REFUSED = {
    b"i": "INST",
    b"o": "OBJ",
    b"\x81": "NEWOBJ",
    b"\x92": "NEWOBJ_EX",
    b"\x82": "EXT1",
    b"\x83": "EXT2",
    b"\x84": "EXT4",
    b"F": "FLOAT",
    b"G": "BINFLOAT",
    b"P": "PERSID",
    b"Q": "BINPERSID",
    b"\x97": "NEXT_BUFFER",
    b"\x8f": "EMPTY_SET",
    b"\x90": "ADDITEMS",
    b"\x91": "FROZENSET",
}


@dataclass
class Allowance:
    """What a pickle may still do: steps bound memory and time; bytes bound the decoded text."""

    steps: int
    bytes: int

    def step(self, count: int = 1) -> None:
        """Take steps. Raises CheckpointError if none are left."""
        self.steps -= count
        if self.steps < 0:
            raise CheckpointError("it takes more steps than any checkpoint would")

    def decode(self, size: int) -> None:
        """Decode `size` bytes. Raises CheckpointError if none are left."""
        self.bytes -= size
        if self.bytes < 0:
            raise CheckpointError("it builds more than the file contains: the same text is used repeatedly")


@dataclass(frozen=True)
class Global:
    """A name that the pickle requested and may use."""

    name: str


@dataclass(frozen=True)
class Opaque:
    """An object whose value is not needed."""

    what: str

    def __str__(self) -> str:
        return self.what


class Vocabulary(Protocol):
    """What a kind of checkpoint may do. All methods raise CheckpointError for anything else."""

    opcodes: frozenset[bytes]
    """Opcodes that it needs besides those of containers and numbers."""

    def find_global(self, module: str, name: str) -> Any:
        """Return the description of the global with that name."""

    def call(self, allowance: Allowance, function: Any, args: Any) -> Any:
        """Return the description of `function(*args)`."""

    def build(self, allowance: Allowance, target: Any, state: Any) -> None:
        """Set the state of an object."""

    def fill(self, allowance: Allowance, target: dict[Any, Any], items: Sequence[Any]) -> dict[Any, Any]:
        """Add alternating keys and values to `target`."""

    def find_stored(self, identity: Any) -> Any:
        """Return the description of an object outside the pickle, by its identity."""


def name_of(value: Any) -> str:
    """Read a short string."""
    if not isinstance(value, Stored) or value.kind == "bytes":
        raise CheckpointError(f"expected a name, got {kind_of(value)}")
    if value.size > MAX_NAME:
        raise CheckpointError(f"expected a name of at most {MAX_NAME} bytes, got {value}")
    name = b"".join(value.pieces()).decode("latin-1")
    if not (name.isascii() and name.isprintable()):
        raise CheckpointError(f"the name {shown([name])} has unexpected characters")
    return name


def kind_of(value: Any) -> str:
    """Describe a value for a message."""
    if isinstance(value, Stored | Opaque):
        return str(value)
    if isinstance(value, Global):
        return f"the name {value.name}"
    return "None" if value is None else type(value).__name__


def interpret(source: Source, vocabulary: Vocabulary, allowance: Allowance, start: int = 0) -> tuple[Any, int]:
    """Return what the pickle at `start` of a file describes, and where it ends.

    Raises CheckpointError if it is malformed, does anything but what `vocabulary` allows, or more than `allowance`.
    """
    machine = _Machine(source, vocabulary, allowance, start)
    return machine.run(), machine.position


class _Machine:
    """The stack machine: `run` interprets a file up to its STOP."""

    def __init__(self, source: Source, vocabulary: Vocabulary, allowance: Allowance, start: int) -> None:
        self.source = source
        self.vocabulary = vocabulary
        self.allowance = allowance
        self.entries = allowance.steps
        self.position = start
        self.frame_end = start
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def take(self, size: int) -> bytes:
        data = self.source.read(self.position, size)
        self.position += size
        return data

    def unpack(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def check(self, size: int, what: str) -> None:
        """Raise CheckpointError unless that many more bytes exist."""
        if size > self.source.size - self.position:
            left = self.source.size - self.position
            raise Truncated(f"it is truncated: {what} of {size} bytes at byte {self.position}, {left} left")

    def store(self, size: int, kind: Any, notation: Any = "plain") -> Stored:
        """Return the next `size` bytes, without reading them."""
        self.check(size, kind if kind == "bytes" else "text")
        self.position += size
        return Stored(self.source, self.position - size, size, kind, notation)

    def line_size(self) -> int:
        return self.source.find(b"\n", self.position) - self.position

    def line(self) -> bytes:
        if (size := self.line_size()) > MAX_NAME:
            raise CheckpointError(f"a line of {size} bytes; expected a name or a number of at most {MAX_NAME}")
        return self.take(size + 1)[:-1]

    def store_line(self, kind: Any, notation: Any) -> Stored:
        stored = self.store(self.line_size(), kind, notation)
        self.position += 1
        return stored

    def store_quoted(self) -> Stored:
        """A `str` of Python 2 in protocol 0, as in source text."""
        start, size = self.position, self.line_size()
        quotes = self.source.read(start, 1) + self.source.read(start + size - 1, 1) if size > 1 else b""
        if quotes not in (b"''", b'""'):
            raise CheckpointError("a quoted string is malformed")
        self.position += size + 1
        return Stored(self.source, start + 1, size - 2, "str", "quoted")

    def number(self, ending: bytes = b"") -> int:
        line = self.line().removesuffix(ending)
        if not _WHOLE.fullmatch(line):
            raise CheckpointError(f"{line[:40]!r} is not a whole number of at most 20 digits")
        return int(line)

    def number_or_truth(self) -> int:
        flag = self.source.read(self.position, min(3, self.source.size - self.position))
        if flag in (b"00\n", b"01\n"):
            self.position += 3
            return flag == b"01\n"
        return self.number()

    def long(self, size: int) -> int:
        if not 0 <= size <= MAX_INTEGER:
            raise CheckpointError(f"an integer of {size} bytes; expected at most {MAX_INTEGER}")
        return int.from_bytes(self.take(size), "little", signed=True)

    def start(self) -> None:
        if (protocol := self.take(1)[0]) not in PROTOCOLS:
            raise CheckpointError(f"it is of protocol {protocol}; pickles have up to {PROTOCOLS[-1]}")

    def start_frame(self) -> None:
        """A frame of pickle protocol 4; only its length is checked."""
        size = self.unpack("<Q")
        self.check(size, "a frame")
        if self.position < self.frame_end:
            raise CheckpointError("a frame begins within another")
        self.frame_end = self.position + size

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise CheckpointError("its stack is empty")
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

    def put(self, index: int) -> None:
        if not 0 <= index < self.entries:
            raise CheckpointError(f"it writes memo entry {index}; a checkpoint has at most {self.entries}")
        self.memo[index] = self.top()

    def recall(self, index: int) -> Any:
        if index not in self.memo:
            raise CheckpointError(f"it reads memo entry {index}, which does not exist")
        return self.memo[index]

    def append(self, items: list[Any]) -> None:
        if not isinstance(target := self.top(), list):
            raise CheckpointError(f"items are appended to {kind_of(target)}; expected a list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        if not isinstance(target := self.top(), dict):
            raise CheckpointError(f"items are set in {kind_of(target)}; expected a dictionary")
        self.vocabulary.fill(self.allowance, target, items)

    def dictionary(self) -> Any:
        return self.vocabulary.fill(self.allowance, {}, self.pop_to_mark())

    def find_global(self) -> Any:
        module, name = (self.line().decode("latin-1") for _ in range(2))
        return self.vocabulary.find_global(module, name)

    def find_stacked_global(self) -> Any:
        module, name = self.pop_tuple(2)
        return self.vocabulary.find_global(name_of(module), name_of(name))

    def reduce(self) -> Any:
        function, args = self.pop_tuple(2)
        return self.vocabulary.call(self.allowance, function, args)

    def build(self) -> None:
        state, target = self.pop(), self.top()
        self.vocabulary.build(self.allowance, target, state)

    def run(self) -> Any:
        while True:
            self.allowance.step()
            start, opcode = self.position, self.take(1)
            if opcode == b".":
                return self.pop()
            if opcode not in _OPCODES or (opcode in _REFUSED and opcode not in self.vocabulary.opcodes):
                raise CheckpointError(_unknown(opcode, start))
            _OPCODES[opcode](self)
            if start < self.frame_end < self.position:
                raise CheckpointError(f"what begins at byte {start} goes beyond the end of its frame")


def _unknown(opcode: bytes, position: int) -> str:
    if name := _REFUSED.get(opcode):
        more = f"it creates more than numbers (opcode {name} at byte {position})"
        return f"{more}, which a checkpoint does not need. It may be malicious"
    return f"byte {position} is {opcode!r}, which is not an opcode of a checkpoint"


def _push(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(make(machine))


_OPCODES: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.start(),
    b"\x95": lambda m: m.start_frame(),
    b"(": lambda m: m.stack.append(_MARK),
    b"0": lambda m: m.pop(),
    b"1": lambda m: m.pop_to_mark(),
    b"2": _push(lambda m: m.top()),
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"I": _push(lambda m: m.number_or_truth()),
    b"L": _push(lambda m: m.number(ending=b"L")),
    b"G": _push(lambda m: m.unpack(">d")),
    b"J": _push(lambda m: m.unpack("<i")),
    b"K": _push(lambda m: m.unpack("<B")),
    b"M": _push(lambda m: m.unpack("<H")),
    b"\x8a": _push(lambda m: m.long(m.unpack("<B"))),
    b"\x8b": _push(lambda m: m.long(m.unpack("<i"))),
    b"S": _push(lambda m: m.store_quoted()),
    b"U": _push(lambda m: m.store(m.unpack("<B"), "str")),
    b"T": _push(lambda m: m.store(m.unpack("<I"), "str")),
    b"V": _push(lambda m: m.store_line("text", "raw-unicode-escape")),
    b"X": _push(lambda m: m.store(m.unpack("<I"), "text", "utf-8")),
    b"\x8c": _push(lambda m: m.store(m.unpack("<B"), "text", "utf-8")),
    b"\x8d": _push(lambda m: m.store(m.unpack("<Q"), "text", "utf-8")),
    b"C": _push(lambda m: m.store(m.unpack("<B"), "bytes")),
    b"B": _push(lambda m: m.store(m.unpack("<I"), "bytes")),
    b"\x8e": _push(lambda m: m.store(m.unpack("<Q"), "bytes")),
    b"\x96": _push(lambda m: m.store(m.unpack("<Q"), "bytes")),
    b"}": _push(lambda m: {}),
    b"]": _push(lambda m: []),
    b")": _push(lambda m: ()),
    b"d": _push(lambda m: m.dictionary()),
    b"l": _push(lambda m: m.pop_to_mark()),
    b"t": _push(lambda m: tuple(m.pop_to_mark())),
    b"\x85": _push(lambda m: m.pop_tuple(1)),
    b"\x86": _push(lambda m: m.pop_tuple(2)),
    b"\x87": _push(lambda m: m.pop_tuple(3)),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.pop_to_mark()),
    b"s": lambda m: m.set_items([*m.pop_tuple(2)]),
    b"u": lambda m: m.set_items(m.pop_to_mark()),
    b"p": lambda m: m.put(m.number()),
    b"q": lambda m: m.put(m.unpack("<B")),
    b"r": lambda m: m.put(m.unpack("<I")),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"g": _push(lambda m: m.recall(m.number())),
    b"h": _push(lambda m: m.recall(m.unpack("<B"))),
    b"j": _push(lambda m: m.recall(m.unpack("<I"))),
    b"c": _push(lambda m: m.find_global()),
    b"\x93": _push(lambda m: m.find_stacked_global()),
    b"Q": _push(lambda m: m.vocabulary.find_stored(m.pop())),
    b"R": _push(lambda m: m.reduce()),
    b"b": lambda m: m.build(),
}
