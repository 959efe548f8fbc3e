"""Checks that the elements of a container lead from one packet to the next.

FFmpeg skips damaged parts of Matroska, AVI and FLV without an error, up to the next element that it recognises. The packets in
between are missing then.
"""

from collections.abc import Callable
from typing import BinaryIO, Final, NamedTuple

from ig65m.video.medium import Medium

MOST_ELEMENTS: Final = 1_000_000
"""Most elements between two packets; beyond, the container is not checked."""


class Element(NamedTuple):
    """An element whose content starts at `body`; the next element starts at `end`.

    Elements that contain others are entered: their `end` is their `body`. starts: number of bytes from `body` on at which
    packets may start. stream: identifies the stream of a packet.
    """

    body: int
    end: int
    starts: int = 0
    stream: bytes = b""


class Format(NamedTuple):
    """element: reads the element at a position, None if there is none. anchor: position of the element that contains a packet
    (given by FFmpeg's position and size), None if unknown.
    """

    element: Callable[[BinaryIO, int], Element | None]
    anchor: Callable[[BinaryIO, int, int], int | None]


class ElementWalk:
    """Follows the elements of a file from packet to packet."""

    def __init__(self, medium: Medium, format: Format) -> None:
        self._file = medium.open("rb")
        self._format = format
        self._place: int | None = None
        self._stream = b""  # the video stream

    def close(self) -> None:
        self._file.close()

    def broken(self, position: int, size: int, *, is_video: bool) -> bool:
        """Return whether video may be missing between the packet of the last call and this one, in file order.

        It is missing if the elements do not lead from one to the other, or if there is a packet of the video between them. The
        first call, and the first one after a break, only set the start.
        """
        begins = self._place is None
        if self._place is None:
            self._place = self._format.anchor(self._file, position, size)
        if self._place is None or position < self._place:  # read out of order, as AVI without interleaving is
            return False
        missing = False
        for _ in range(MOST_ELEMENTS):
            element = self._format.element(self._file, self._place)
            if element is None or (position < element.end and not element.body <= position < element.body + element.starts):
                self._place = self._format.anchor(self._file, position, size)
                return not begins
            self._place = element.end
            if position < element.end:
                self._stream = element.stream if is_video else self._stream
                return missing
            missing |= element.starts > 0 and element.stream == self._stream
        self._place = None
        return missing


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


_MASTERS: Final = {0x18538067, 0x1F43B675, 0xA0}  # Segment, Cluster, BlockGroup
_BLOCKS: Final = {0xA3, 0xA1}  # SimpleBlock, Block
_OTHERS: Final = {
    *(0x1A45DFA3, 0x1B538667, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1043A770, 0x1941A469, 0x1254C367, 0x1C53BB6B),  # top level
    *(0xE7, 0x5854, 0xA7, 0xAB, 0xAF),  # in a Cluster
    *(0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xC8, 0xA2),  # in a BlockGroup
    *(0xEC, 0xBF),  # Void, CRC-32
}
_KNOWN: Final = _BLOCKS | _OTHERS


def _matroska_element(file: BinaryIO, place: int) -> Element | None:
    """Source: RFC 8794 (element IDs and sizes), RFC 9559 (Matroska's elements)."""
    head = _read(file, place, 13)  # ID (4 bytes), size (8), track
    id_length = 9 - head[0].bit_length() if head else 9
    if id_length > 4 or len(head) <= id_length or head[id_length] == 0:
        return None
    name = int.from_bytes(head[:id_length], "big")
    width = 9 - head[id_length].bit_length()
    body = place + id_length + width
    if name in _MASTERS:
        return Element(body, body)
    unknown = (1 << 7 * width) - 1
    length = int.from_bytes(head[id_length : id_length + width], "big") & unknown
    if length == unknown or name not in _KNOWN:
        return None
    if name not in _BLOCKS:
        return Element(body, body + length)
    track = head[body - place : body - place + 1]  # numbers above 127 take more than a byte
    return Element(body, body + length, starts=1, stream=track)


def _matroska_anchor(file: BinaryIO, position: int, size: int) -> int | None:
    """The position is that of the block's content: track, time and flags (4 bytes), then the packet; ID and size precede it."""
    start = max(0, position - 9)
    head = _read(file, start, position - start)
    for width in range(1, 9):
        place = len(head) - width - 1
        if place < 0:
            break
        if head[place] in _BLOCKS and 9 - head[place + 1].bit_length() == width:
            length = int.from_bytes(head[place + 1 : place + 1 + width], "big") & ((1 << 7 * width) - 1)
            if length == size + 4:
                return start + place
    return None


def _is_fourcc(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _avi_element(file: BinaryIO, place: int) -> Element | None:
    """Source: Microsoft's AVI RIFF file reference."""
    head = _read(file, place, 12)
    if len(head) < 8 or not _is_fourcc(head[:4]):
        return None
    if head[:4] == b"RIFF" or (head[:4] == b"LIST" and head[8:] in (b"movi", b"rec ")):
        return Element(place + 12, place + 12)
    length = int.from_bytes(head[4:8], "little")
    is_palette = head[2:4] == b"pc"
    return Element(place + 8, place + 8 + length + length % 2, starts=0 if is_palette else length, stream=head[:2])


def _avi_anchor(file: BinaryIO, position: int, size: int) -> int | None:
    head = _read(file, max(0, position - 8), 8)
    return position - 8 if _is_fourcc(head[:4]) and int.from_bytes(head[4:], "little") >= size else None


def _flv_element(file: BinaryIO, place: int) -> Element | None:
    """A tag and the size after it; source: Adobe's FLV specification, annex E, and Enhanced RTMP."""
    head = _read(file, place, 13)
    if len(head) < 4 or head[0] & 0x1F not in {8, 9, 18}:
        return None
    end = place + 15 + int.from_bytes(head[1:4], "big")
    return Element(place, end, starts=0 if head[0] & 0x1F == 9 and not _is_picture(head[11:]) else 1, stream=head[:1])


def _is_picture(head: bytes) -> bool:
    """Return whether a video tag holds a picture, and not a decoder configuration, a command or the end."""
    if len(head) < 2:
        return False
    if head[0] & 0x80:
        return head[0] & 0x0F in {1, 3}
    return head[0] >> 4 != 5 and (head[0] & 0x0F not in {7, 12} or head[1] == 1)


def _flv_anchor(file: BinaryIO, position: int, size: int) -> int | None:
    element = _flv_element(file, position)
    return position if element is not None and element.end >= position + size else None


FORMATS: Final = {
    "matroska": Format(_matroska_element, _matroska_anchor),
    "avi": Format(_avi_element, _avi_anchor),
    "flv": Format(_flv_element, _flv_anchor),
}
"""By libavformat's name of the demuxer."""
