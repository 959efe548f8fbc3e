"""Whether a file is shorter than its container states; FFmpeg reads both without an error."""

import re
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from ig65m.video.medium import BytesDiscarded, Medium

MOST_PARTS = 1_000_000
"""Most boxes or elements that are read; a file with more is not checked."""

TAIL = 1 << 18
"""Bytes at the end of a file in which the last page or pack is searched; an Ogg page has at most 65307, a PES packet 65541."""


def is_cut(medium: Medium, format_name: str) -> bool:
    """Return whether the container (libavformat's name for it) states bytes that the file does not have.

    False if the format has no sizes, they were left open, or a stream is too long to be walked through again. Bytes after a
    complete container, such as padding, are ignored.
    """
    look = next((_FORMATS[name] for name in format_name.split(",") if name in _FORMATS), None)
    if look is None:
        return False
    with medium.open("rb") as file, suppress(BytesDiscarded):
        return look(file, file.seek(0, 2))
    return False


def size_of(medium: Medium) -> int:
    """Return the number of bytes."""
    with medium.open("rb") as file:
        return file.seek(0, 2)


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _boxes(file: BinaryIO, size: int) -> bool:
    """ISO base media: the boxes of the top level; source: ISO/IEC 14496-12, 4.2."""
    place = 0
    for _ in range(MOST_PARTS):
        head = _at(file, place, 16)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if place + length > size:
            return kind in {b"moov", b"moof", b"mdat", b"mfra", b"sidx"}
        if length < 8:
            break
        place += length
    return False


_EBML_KNOWN = {b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\x1c\x53\xbb\x6b", b"\x16\x54\xae\x6b", b"\xa0", b"\xa3", b"\xe7"}
"""Segment, Cluster, Cues, Tracks; in a cluster BlockGroup, SimpleBlock, Timestamp."""


def _elements(file: BinaryIO, size: int) -> bool:
    """Matroska: top-level elements, and those inside a segment or cluster of unknown size; source: RFC 8794."""
    place = 0
    for _ in range(MOST_PARTS):
        head = _at(file, place, 12)
        name_length = 9 - head[0].bit_length() if head else 9
        if name_length > 4 or len(head) <= name_length or head[name_length] == 0:
            break
        name, width = head[:name_length], 9 - head[name_length].bit_length()
        place += name_length + width
        unknown = (1 << 7 * width) - 1
        length = int.from_bytes(head[name_length : name_length + width], "big") & unknown
        if length == unknown:
            if name not in _EBML_KNOWN:
                break
            continue
        place += length
        if place > size:
            return name in _EBML_KNOWN
    return False


def _riff(file: BinaryIO, size: int) -> bool:
    """AVI: one or several RIFF chunks; up to 16 wrong bytes are forgiven, and sizes that were never filled in."""
    place = 0
    while head := _at(file, place, 8):
        name, length = head[:4], int.from_bytes(head[4:], "little")
        if name != b"RIFF" or length in (0, 0xFFFFFFFF):
            break
        place += 8 + length + length % 2
        if place > size + 16:
            return True
    return False


def _ts(file: BinaryIO, size: int) -> bool:
    """MPEG-TS: packets of 188 bytes that start with 0x47, alone, after 4 bytes of time, or before 16 of correction."""
    head = _at(file, 0, 4096)
    for length, before in ((188, 0), (192, 4), (204, 0)):
        for first in range(before, length + before):
            if head[first::length][:5] == b"\x47" * 5:
                rest = (size - (first - before)) % length
                tail = _at(file, size - rest, rest)
                return tail[before : before + 1] == b"\x47" or (0 < rest <= before)
    return False


def _packs(file: BinaryIO, size: int) -> bool:
    """MPEG program stream: from a pack header near the end on; source: ISO/IEC 13818-1, 2.5.3."""
    data = _at(file, max(0, size - TAIL), TAIL)
    place = data.find(b"\0\0\1\xba")
    while 0 <= place < len(data):
        head = data[place : place + 14]
        if not head.startswith(b"\0\0\1"):
            return b"\0\0\1".startswith(head)
        if len(head) < 4:
            return True
        if head[3] == 0xB9:
            place += 4
        elif head[3] == 0xBA:
            place += 12 if len(head) > 4 and head[4] >> 6 == 0 else 14 + (head[13] & 7 if len(head) == 14 else 0)
        elif head[3] > 0xBA:
            place += 6 + int.from_bytes(head[4:6], "big")
        else:
            return False
    return place > len(data)


def _pages(file: BinaryIO, size: int) -> bool:
    """Ogg: the last page must be complete and have the end-of-stream flag; source: RFC 3533, 6."""
    data = _at(file, max(0, size - TAIL), TAIL)
    page = data[data.rfind(b"OggS") :]
    return len(page) < 27 or 27 + page[26] + sum(page[27 : 27 + page[26]]) > len(page) or not page[5] & 4


def _asf(file: BinaryIO, size: int) -> bool:
    """ASF: its File Properties Object states the file's size, unless it was broadcast; source: the ASF specification, 3.2."""
    data = _at(file, 0, 1 << 16)
    found = data.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    properties = data[found : found + 92]
    if found < 0 or len(properties) < 92:
        return False
    return not properties[88] & 1 and int.from_bytes(properties[40:48], "little") > size


def _mxf(file: BinaryIO, size: int) -> bool:
    """MXF: the position of the footer in the header; source: SMPTE ST 377-1, 7.1."""
    pack = re.search(rb"\x06\x0e\x2b\x34\x02\x05\x01.\x0d\x01\x02\x01\x01\x02..", _at(file, 0, 1 << 17), re.DOTALL)
    if pack is None:
        return False
    body = _at(file, pack.end(), 49)
    width = body[0] & 0x7F if body and body[0] & 0x80 else 0
    return int.from_bytes(body[1 + width + 24 : 1 + width + 32], "big") >= size


def _png_chunks(file: BinaryIO, size: int) -> bool:
    place = 8
    for _ in range(MOST_PARTS):
        head = _at(file, place, 8)
        if head[4:] == b"IEND":
            return False
        place += 12 + int.from_bytes(head[:4], "big")
        if place > size or len(head) < 8:
            return True
    return False


def _gif(file: BinaryIO, size: int) -> bool:
    """GIF: blocks up to the trailer; source: the GIF89a specification."""
    head = _at(file, 0, 13)
    if len(head) < 13:
        return True
    file.seek(_colours(head[10]), 1)
    while (kind := file.read(1)) != b"\x3b":
        if kind == b"\x2c":
            file.seek(_colours((file.read(9) or b"\0")[-1]) + 1, 1)
        elif kind == b"\x21":
            file.seek(1, 1)
        else:
            return True
        while (length := file.read(1)) > b"\0":
            file.seek(length[0], 1)
    return False


def _colours(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _tags(file: BinaryIO, size: int) -> bool:
    """FLV: tags of audio (8), video (9) and data (18); source: Adobe's FLV specification, annex E."""
    place = 13
    for _ in range(MOST_PARTS):
        head = _at(file, place, 4)
        if len(head) < 4 or head[0] not in {8, 9, 18}:
            return 0 < len(head) < 4 and head[0] in {8, 9, 18}
        place += 15 + int.from_bytes(head[1:], "big")
        if place > size:
            return True
    return False


def _dv(file: BinaryIO, size: int) -> bool:
    """DV: frames of one size, with 625 or 525 lines; source: IEC 61834."""
    head = _at(file, 0, 4)
    return size % (144_000 if head[3] & 0x80 else 120_000) > 0


def _ivf(file: BinaryIO, size: int) -> bool:
    place = 32
    for _ in range(MOST_PARTS):
        head = _at(file, place, 12)
        if len(head) < 12:
            return place != size
        place += 12 + int.from_bytes(head[:4], "little")
    return False


_FORMATS: dict[str, Callable[[BinaryIO, int], bool]] = {
    "mov": _boxes,
    "matroska": _elements,
    "avi": _riff,
    "mpegts": _ts,
    "mpeg": _packs,
    "ogg": _pages,
    "asf": _asf,
    "mxf": _mxf,
    "apng": _png_chunks,
    "ivf": _ivf,
    "gif": _gif,
    "flv": _tags,
    "dv": _dv,
}
