"""Reads files of `torch.save` into numpy arrays, without PyTorch: a zip archive, or the format of 2019.

A pickle describes the tensors (`torch_pickle`); their numbers lie beside it, in records of the archive or after the pickle.
"""

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.checkpoints.lazy_bytes import Source, Truncated
from ig65m.checkpoints.torch_pickle import Storage, Tensor, TorchVocabulary
from ig65m.checkpoints.unpickle import Allowance, interpret, name_of
from ig65m.errors import CheckpointError, plain, shown

MAX_STEPS: Final = 1_000_000  # most opcodes; a checkpoint of the 152-layer network with its optimizer has about 200,000
MAX_PICKLE: Final = 1 << 26  # most bytes of the pickle in an archive
MAX_DIRECTORY: Final = 1 << 22  # most bytes of an archive's directory; the 152-layer network has 200,000
_TAIL: Final = 1 << 17  # bytes at the end of an archive in which the size of its directory is

_ZIP: Final = b"PK\x03\x04"
_OF_2019: Final = re.compile(rb"\x80[\2-\5](?:\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL)  # its magic number
_START_OF_2019: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # as PyTorch writes it by default
_VERSION: Final = 1001  # of that format


@dataclass(frozen=True)
class Section:
    """Where the numbers of a storage are in the file; crc32 is 0 if it was not recorded."""

    start: int
    size: int
    crc32: int = 0


class TorchFile:
    """A file of `torch.save`: `content` is what was saved, with a `Tensor` for each tensor, whose numbers `read` reads."""

    def __init__(self, file: BufferedReader, content: Any, sections: Mapping[str, Section], byte_order: str) -> None:
        self.content = content
        self._file, self._sections, self._order = file, sections, byte_order
        self._storages: dict[Storage, NDArray[Any]] = {}

    def read(self, tensor: Tensor) -> NDArray[Any]:
        """Return the numbers of a tensor in memory of its own; bfloat16 becomes float32, which is exact.

        Raises CheckpointError if they are missing from the file or damaged.
        """
        is_first = tensor.storage not in self._storages
        if is_first:
            self._storages[tensor.storage] = self._read_storage(tensor.storage)
        numbers = self._storages[tensor.storage]
        steps = [step * numbers.itemsize for step in tensor.strides]
        if not tensor.numbers:
            return np.zeros(tensor.shape, numbers.dtype)
        array = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, steps)
        return np.asarray(array, order="C") if is_first else array.copy(order="C")

    def _read_storage(self, storage: Storage) -> NDArray[Any]:
        is_bfloat16 = storage.dtype == "bfloat16"
        dtype = np.dtype("u2" if is_bfloat16 else storage.dtype).newbyteorder("<" if self._order == "little" else ">")
        section = self._sections.get(storage.key)
        if section is None:
            raise CheckpointError(f"the numbers of its storage {shown([storage.key])} are missing")
        size = storage.numbers * storage.itemsize
        if section.size < size:
            raise CheckpointError(f"its storage {shown([storage.key])} has {section.size} bytes; expected {size}")
        raw = np.empty(section.size, np.uint8)
        self._file.seek(section.start)
        if self._file.readinto(raw.data) < section.size:
            raise Truncated("the file ends within its numbers")
        if section.crc32 and zlib.crc32(raw.data) != section.crc32:
            raise CheckpointError(f"its storage {shown([storage.key])} is damaged: its checksum is another one")
        numbers = raw[:size].view(dtype)
        numbers = numbers.astype(dtype.newbyteorder("="), copy=False)
        return (numbers.astype(np.uint32) << 16).view(np.float32) if is_bfloat16 else numbers


@contextmanager
def open_torch_file(path: Path) -> Iterator[TorchFile]:
    """Open a file of `torch.save`, until the block ends; nothing in it is executed.

    Raises Truncated if it ends too early, CheckpointError if it creates anything but dense tensors and plain values.
    """
    with path.open("rb") as file:
        head = file.read(512)
        if head.startswith(_ZIP):
            yield _open_archive(file)
        elif (magic := _OF_2019.match(head)) is not None:
            yield _open_2019(file, magic.end())
        elif head[257:262] == b"ustar":
            raise CheckpointError("it is in PyTorch's first format, .tar")
        elif _START_OF_2019.startswith(head) or _ZIP.startswith(head):
            raise Truncated("the file ends at its beginning")
        else:
            raise CheckpointError("it begins neither as a zip archive nor as PyTorch's files of 2019")


def _open_archive(file: BufferedReader) -> TorchFile:
    _check_directory(file)
    try:
        with zipfile.ZipFile(file) as archive:
            records = {record.filename: record for record in archive.infolist()}
            folder = next((name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl")), None)
            if folder is None:
                raise CheckpointError(f"the zip archive has no data.pkl; it has {shown(list(records))}")
            if others := [name for name in records if not name.startswith(folder)]:
                raise CheckpointError(f"it has {shown(others)} beside the folder {shown([folder])}")
            if len(records) < len(archive.infolist()):
                raise CheckpointError("it has several records of one name")
            _check_records(records, file)
            if f"{folder}constants.pkl" in records:
                raise CheckpointError("it is a TorchScript archive, which is a program")
            sections = {name: _section(file, record) for name, record in records.items()}
    except CheckpointError:
        raise
    except (zipfile.BadZipFile, struct.error, RuntimeError, EOFError, ValueError, OSError) as error:
        raise Truncated(f"the zip archive is incomplete: {plain(error)}") from None
    order = _record(file, sections.get(f"{folder}byteorder"), 6) or b"little"
    if order not in (b"little", b"big"):
        raise CheckpointError(f"its byte order is {shown([order.decode('latin-1')])}; expected little or big")
    data = _record(file, sections[f"{folder}data.pkl"], MAX_PICKLE)
    content, _ = _interpreted(Source(BytesIO(data)), TorchVocabulary(), Allowance(MAX_STEPS, len(data)), 0)
    prefix = f"{folder}data/"
    numbers = {name.removeprefix(prefix): section for name, section in sections.items() if name.startswith(prefix)}
    return TorchFile(file, content, numbers, order.decode())


def _check_directory(file: BufferedReader) -> None:
    """Raise CheckpointError if the archive's directory is larger than any of PyTorch's, since Python reads all of it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    for mark, layout, offset in ((b"PK\5\6", "<I", 12), (b"PK\6\6", "<Q", 40)):  # the second one is of a large archive
        for found in re.finditer(mark, tail):
            if (place := found.start() + offset) + struct.calcsize(layout) > len(tail):
                continue
            stated = struct.unpack_from(layout, tail, place)[0]
            if MAX_DIRECTORY < stated < 0xFFFFFFFF:
                raise CheckpointError(f"its directory has {stated} bytes; expected at most {MAX_DIRECTORY}")


def _record(file: BufferedReader, section: Section | None, most: int) -> bytes:
    """Return at most `most` bytes of a record; none if there is no such record."""
    if section is None:
        return b""
    file.seek(section.start)
    data = file.read(min(section.size, most))
    if section.crc32 and zlib.crc32(data) != section.crc32:
        raise CheckpointError("its description of the tensors is damaged: its checksum is another one")
    return data


def _interpreted(source: Source, vocabulary: TorchVocabulary, allowance: Allowance, start: int) -> tuple[Any, int]:
    try:
        return interpret(source, vocabulary, allowance, start)
    except Truncated:
        raise
    except CheckpointError as error:
        raise CheckpointError(f"it does not load without executing code: {error}") from None


def _check_records(records: Mapping[str, zipfile.ZipInfo], file: BufferedReader) -> None:
    """Raise CheckpointError for records that are compressed, which could exhaust memory, or overlap."""
    if grown := [name for name, each in records.items() if each.compress_type or each.compress_size != each.file_size]:
        raise CheckpointError(f"its records {shown(grown)} are compressed, which PyTorch never writes")
    if sum(record.file_size for record in records.values()) > file.seek(0, os.SEEK_END):
        raise CheckpointError("its records have more bytes than the file: they overlap")
    if large := [name for name, each in records.items() if name.endswith("data.pkl") and each.file_size > MAX_PICKLE]:
        raise CheckpointError(f"its record {shown(large)} is larger than {MAX_PICKLE} bytes")


def _section(file: BufferedReader, record: zipfile.ZipInfo) -> Section:
    """Return where the bytes of an uncompressed record are: after its own header, whose name and extra field vary in length."""
    file.seek(record.header_offset)
    mark, name, extra = struct.unpack("<4s22xHH", file.read(30))
    if mark != _ZIP:
        raise zipfile.BadZipFile("a record has no header")
    return Section(record.header_offset + 30 + name + extra, record.file_size, record.CRC)


def _open_2019(file: BufferedReader, place: int) -> TorchFile:
    """Open the format of 2019: from `place` on, after a magic number, pickles of a version, facts of the machine, the content,
    and the storages' keys; then each storage, as its number of elements and their bytes.
    """
    source = Source(file)
    vocabulary, allowance = TorchVocabulary(), Allowance(MAX_STEPS, source.size)
    values: list[Any] = []
    for _ in range(4):
        value, place = _interpreted(source, vocabulary, allowance, place)
        values.append(value)
    version, machine, content, keys = values
    if version != _VERSION or not isinstance(machine, dict) or not isinstance(keys, list):
        raise CheckpointError(f"its format is not version {_VERSION}")
    sections = {}
    for key in map(name_of, keys):
        if key not in vocabulary.storages or key in sections:
            raise CheckpointError(f"its storage {shown([key])} belongs to no tensor, or comes twice")
        storage = vocabulary.storages[key]
        size = storage.numbers * storage.itemsize
        if int.from_bytes(source.read(place, 8), "little") != storage.numbers:
            raise CheckpointError(f"its storage {shown([key])} has another size than its tensors say")
        sections[key] = Section(place + 8, size)
        place += 8 + size
    if place > source.size:
        raise Truncated("the file ends within its numbers")
    return TorchFile(file, content, sections, "little")  # whatever the machine: PyTorch wrote it so on all
