"""Finds packets lost from an MPEG transport stream by its continuity counters; FFmpeg does not say at which picture."""

from enum import Enum, auto
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ig65m.video.medium import Medium

LENGTHS: Final = ((188, 0), (192, 4), (204, 16))
"""Length of a packet in bytes, and the distance from FFmpeg's position of a packet to its sync byte."""

SYNC: Final = 0x47
CHUNK: Final = 204 * 4096


class Break(Enum):
    """Why the counters do not lead from one picture to the next."""

    LOSS = auto()  # packets are missing or flagged as faulty
    SEAM = auto()  # a recording or segment ends, and another one starts


class Picture(NamedTuple):
    """A coded picture in a transport stream; timestamps have 33 bits, at 90,000 Hz."""

    pts: int | None
    dts: int | None
    data: bytes


class Continuity:
    """Follows the transport packets of one stream from picture to picture.

    moved: if the programme continues under another PID, the last picture under the old one, which FFmpeg holds back until the
    file ends. The reader resets it.
    """

    def __init__(self, medium: Medium) -> None:
        self._file = medium.open("rb")
        self._length, self._before = 188, 0
        self._pid: int | None = None
        self._counter: int | None = None
        self._ended = False  # whether the last packet is padded, as the last one of a picture is
        self._tables = False  # whether the programme's tables came since the last packet
        self._end: int | None = None
        self.moved: Picture | None = None

    def close(self) -> None:
        self._file.close()

    def advance(self, position: int) -> Break | None:
        """Check the packets from the end of the last call to the one at `position`, which starts a picture.

        The first call only sets the start. After a break, counting restarts.
        """
        if self._end is None:
            self._file.seek(position)
            head = self._file.read(5 * 204)
            for self._length, self._before in LENGTHS:
                if head[self._before :: self._length][:4] == bytes([SYNC] * 4):
                    break
        start = position if self._end is None else self._end
        stop = position + self._length
        verdict: Break | None = None
        if start < stop:
            pid = self._pid_at(position)
            if pid is not None and pid != self._pid:
                self.moved = None if self._pid is None else self._last_picture(self._pid, start, position)
                self._pid, self._counter = pid, None
            while start < stop:
                self._file.seek(start)
                data = self._file.read(min(CHUNK, stop - start) // self._length * self._length)
                if not data:
                    break
                packets = np.frombuffer(data, np.uint8).reshape(-1, self._length)[:, self._before :]
                verdict = self._look(packets, is_end=start + len(data) >= stop) or verdict
                start += len(data)
        self._end = max(stop, self._end or 0)
        return verdict

    def _pid_at(self, position: int) -> int | None:
        """Return the stream's PID, which a new version of the programme map may change."""
        self._file.seek(position + self._before)
        head = self._file.read(4)
        return (head[1] & 0x1F) << 8 | head[2] if len(head) == 4 and head[0] == SYNC else None

    def _last_picture(self, pid: int, start: int, stop: int) -> Picture | None:
        """Return the picture that starts between two positions under that PID. Source: ISO/IEC 13818-1, 2.4.3."""
        stream, begun = bytearray(), False
        for place in range(start, stop, self._length):
            self._file.seek(place + self._before)
            packet = self._file.read(188)
            if len(packet) < 188 or packet[0] != SYNC or (packet[1] & 0x1F) << 8 | packet[2] != pid or not packet[3] & 0x10:
                continue
            begun |= bool(packet[1] & 0x40)
            if begun:
                stream += packet[5 + packet[4] if packet[3] & 0x20 else 4 :]
        if len(stream) < 19 or stream[:3] != b"\0\0\1":
            return None
        pts = _timestamp(stream[9:14]) if stream[7] & 0x80 else None
        dts = _timestamp(stream[14:19]) if stream[7] & 0x40 else pts
        return Picture(pts, dts, bytes(stream[9 + stream[8] :]))

    def _look(self, packets: NDArray[np.uint8], *, is_end: bool) -> Break | None:
        """Check packets; `is_end`: the last one starts a picture.

        Source: ISO/IEC 13818-1, 2.4.3: a counter of 4 bits grows with each packet that has a payload; a packet may be
        repeated.
        """
        verdict = None
        if (packets[:, 0] != SYNC).any():
            self._counter, verdict = None, Break.LOSS
        pids = (packets[:, 1].astype(int) & 0x1F) << 8 | packets[:, 2]
        own, tables = pids == self._pid, pids == 0
        for number in np.flatnonzero(own | tables).tolist():
            if tables[number]:
                self._tables = True
                continue
            head = packets[number, :6].tolist()
            has_payload, counter = head[3] & 0x10, head[3] & 0x0F
            restarts = head[3] & 0x20 and head[4] and head[5] & 0x80
            if head[1] & 0x80:
                verdict = Break.LOSS
            if not has_payload:
                continue
            if self._counter is not None and not restarts and counter not in {self._counter, (self._counter + 1) % 16}:
                is_start = is_end and number == len(packets) - 1 and head[1] & 0x40
                seam = is_start and self._tables and (self._ended or counter == 0) and verdict is None
                verdict = Break.SEAM if seam else Break.LOSS
            self._counter = counter
            self._ended = _is_filled_up(packets[number])
            self._tables = False
        return verdict


def _is_filled_up(packet: NDArray[np.uint8]) -> bool:
    """Return whether an adaptation field ends with stuffing: a packet that the end of a picture does not fill has it."""
    length = int(packet[4])
    return bool(packet[3] & 0x20) and 1 < length <= 182 and int(packet[4 + length]) == 0xFF


def _timestamp(data: bytes | bytearray) -> int:
    """Parse 33 bits in five bytes, with marker bits between them."""
    return (data[0] >> 1 & 0x07) << 30 | data[1] << 22 | (data[2] >> 1) << 15 | data[3] << 7 | data[4] >> 1
