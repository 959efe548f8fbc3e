"""Packets of MPEG-TS that were lost, which FFmpeg does not tell picture by picture: their counters jump."""

from pathlib import Path

import numpy as np

LENGTHS = ((188, 0), (192, 4), (204, 16))
"""Bytes of a packet with what surrounds it, and how far behind FFmpeg's position of it its sync byte is: what is more than 188,
though in packets of 204 bytes these are the 16 that come after the packet before."""

SYNC = 0x47
CHUNK = 204 * 4096


class Continuity:
    """The packets of one stream (`pid`) of a file, looked at once from the front to the back."""

    def __init__(self, path: Path, pid: int) -> None:
        self._file = path.open("rb")
        self._pid = pid
        self._length, self._before = 188, 0
        self._counter: int | None = None
        self._looked_at: int | None = None

    def close(self) -> None:
        self._file.close()

    def broken(self, end: int) -> bool:
        """Whether a packet is missing or marked as faulty, from where the last call ended up to the packet at byte `end`.

        The first call only says where to begin. After a loss the counting starts anew.
        """
        if self._looked_at is None:
            self._file.seek(end)
            head = self._file.read(5 * 204)
            for self._length, self._before in LENGTHS:
                if head[self._before :: self._length][:4] == bytes([SYNC] * 4):
                    break
        place, broken = (end if self._looked_at is None else self._looked_at), False
        stop = end + self._length
        while place < stop:
            self._file.seek(place)
            data = self._file.read(min(CHUNK, stop - place) // self._length * self._length)
            if not data:
                break
            broken |= self._look(np.frombuffer(data, np.uint8).reshape(-1, self._length)[:, self._before :])
            place += len(data)
        self._looked_at = max(stop, self._looked_at or 0)
        return broken

    def _look(self, packets: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]") -> bool:
        """Source: ISO/IEC 13818-1, 2.4.3: a counter of 4 bits grows with each packet that has a payload; one may come twice."""
        if (packets[:, 0] != SYNC).any():
            self._counter = None
            return True
        pids = (packets[:, 1].astype(int) & 0x1F) << 8 | packets[:, 2]
        broken = False
        for packet in packets[pids == self._pid, :6].tolist():
            has_payload, counter = packet[3] & 0x10, packet[3] & 0x0F
            restarts = packet[3] & 0x20 and packet[4] and packet[5] & 0x80
            if packet[1] & 0x80:
                broken = True
            if not has_payload:
                continue
            if self._counter is not None and not restarts and counter not in {self._counter, (self._counter + 1) % 16}:
                broken = True
            self._counter = counter
        return broken
