"""Reads untrusted pickles of numpy arrays with an interpreter that can execute nothing.

A pickle is a program for a stack machine. This module interprets the opcodes that VMZ's checkpoints consist of. The only
callables are a fixed table of our own functions (`numpy_stub`). Python's unpickler is not used. Text and arrays stay in the
file (`lazy_bytes`), the number of steps is bounded, and each step creates at most one small object.
"""

import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from ig65m.checkpoints.lazy_bytes import Source, Stored
from ig65m.checkpoints.numpy_stub import (
    MAX_NAME,
    Allowance,
    Array,
    Blob,
    DType,
    Global,
    call,
    fill,
    find_global,
    kind_of,
    name_of,
)
from ig65m.errors import CheckpointError, shown

MAX_STEPS = 200_000  # most opcodes, and pairs of an OrderedDict; the 152-layer checkpoints have up to 37,000
MAX_BLOBS = 4_000  # most blobs; the 152-layer checkpoints have 1,032
PROTOCOLS = range(6)

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


class _Machine:
    """The stack machine: `run` interprets a file up to its STOP."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.position = 0
        self.frame_end = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.allowance = Allowance(MAX_STEPS, source.size)

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
            raise CheckpointError(f"it is truncated: {what} of {size} bytes at byte {self.position}, {left} left")

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
        if not 0 <= size <= 8:
            raise CheckpointError(f"an integer of {size} bytes; expected at most 8")
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
        if not 0 <= index < MAX_STEPS:
            raise CheckpointError(f"it writes memo entry {index}; a checkpoint has at most {MAX_STEPS}")
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
        fill(target, items)

    def find_global(self) -> Global:
        module, name = (self.line().decode("latin-1") for _ in range(2))
        return find_global(module, name)

    def find_stacked_global(self) -> Global:
        module, name = self.pop_tuple(2)
        return find_global(name_of(module), name_of(name))

    def reduce(self) -> Any:
        function, args = self.pop_tuple(2)
        return call(self.allowance, function, args)

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if not isinstance(target, Array | DType):
            raise CheckpointError(f"it sets the state of {kind_of(target)}; only arrays and dtypes have one")
        target.build(self.allowance, state)

    def run(self) -> Any:
        while True:
            self.allowance.step()
            start, opcode = self.position, self.take(1)
            if opcode == b".":
                return self.pop()
            if opcode not in _OPCODES:
                raise CheckpointError(_unknown(opcode, start))
            _OPCODES[opcode](self)
            if start < self.frame_end < self.position:
                raise CheckpointError(f"what begins at byte {start} goes beyond the end of its frame")


def _unknown(opcode: bytes, position: int) -> str:
    if name := _REFUSED.get(opcode):
        more = f"it creates more than arrays (opcode {name} at byte {position})"
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
    b"d": _push(lambda m: fill({}, m.pop_to_mark())),
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
    b"R": _push(lambda m: m.reduce()),
    b"b": lambda m: m.build(),
}


def read_blobs(file: BinaryIO) -> dict[str, Blob]:
    """Read a VMZ checkpoint, written by Python 2 or 3 in any protocol: {blob name: array}, arrays still in the file.

    Raises CheckpointError if the file is not such a pickle, or contains anything but arrays of plain numbers.
    """
    source = Source(file)
    if not source.size:
        raise CheckpointError("it is empty")
    if source.read(0, min(4, source.size)) == b"PK\x03\x04":
        raise CheckpointError("it is a zip file; if it is PyTorch's, rename it to .pth")
    machine = _Machine(source)
    value = machine.run()
    if machine.position != source.size:
        raise CheckpointError(f"{source.size - machine.position} bytes follow its end")
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
