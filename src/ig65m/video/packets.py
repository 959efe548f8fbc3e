"""Reads the packets of a video stream in file order, and reports where packets are missing."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ig65m.video.integrity.container import is_cut
from ig65m.video.integrity.elements import FORMATS, ElementWalk
from ig65m.video.integrity.mpegts import Break, Continuity
from ig65m.video.medium import Medium

if TYPE_CHECKING:
    Packet = av.Packet[Stream]
else:
    Packet = av.Packet

UNMARKED: Final = {"mpegts", "mpeg", "asf", "gif", "apng", "ogg", "dv"}
"""Demuxers that do not mark a packet as corrupt where the file ends within it."""

JUMP_BACK: Final = 0.1
"""Seconds that decoding times must jump back at a key frame to start another, appended recording."""

JUMP_ON: Final = 1.0
"""Seconds that times must jump forward at the seam of two segments to be a new clock."""

ZEROS: Final = bytes(16)
"""A run of zeros that no coded picture of NO_ZEROS contains: these codecs escape anything like a start code."""

NO_ZEROS: Final = {"h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video"}

MOST_FAILURES: Final = 16
"""Times in a row that FFmpeg may fail to read a packet before the rest of the file is given up."""

CUT: Final = "it ends within a picture; it was cut or is still being written"

CLOCK: Final = 1 << 33
"""Timestamps of MPEG-TS wrap after this many units."""

COVERS: Final = Disposition.attached_pic | Disposition.timed_thumbnails


@dataclass(frozen=True)
class Loss:
    """Packets are missing here, or damaged beyond use."""

    reason: str
    packet: Packet | None = None  # an incomplete packet
    only: bool = False  # no other packets are missing
    shift: float = 0.0  # seconds by which later timestamps are too early
    is_end: bool = False  # the file ends here


@dataclass(frozen=True)
class Seam:
    """The packets after this belong to another recording with an unrelated clock."""


@dataclass(kw_only=True)
class Seen:
    """Facts about the packets read so far."""

    always_key: bool  # the container's first packet is always a key frame
    video_end: float | None = None  # seconds, latest end of a packet of the video stream
    any_end: float | None = None  # the same of any stream
    last_due: float | None = None  # seconds, when the last picture is to be shown
    first_due: int | None = None  # timestamp of the first picture
    entry: int | None = None  # decoding timestamp of the first packet that could be decoded
    skipped: str | None = None  # why the first packets could not be decoded, though the first one is a key frame
    starts_with_key: bool | None = None
    reached: int | None = None  # byte of the file where the last packet ended
    encrypted: bool = False
    begins_anew: bool = False  # the next picture is the first of another recording; whoever reads this resets it
    seams: set[int] = field(default_factory=set)  # timestamps of the first pictures of segments that were joined
    others: dict[int, list[float]] = field(default_factory=dict)  # first and last time of each other video stream

    def note(self, packet: Packet, *, is_video: bool) -> None:
        """Record the facts of a packet of the video stream, or of another stream."""
        if is_video:
            if self.starts_with_key is None:
                self.starts_with_key = packet.is_keyframe or self.always_key
                self.first_due = None if packet.is_discard else packet.pts
                self.encrypted = packet.has_sidedata("encryption_info") or "enc_key_id" in packet.stream.metadata
            if self.entry is None:
                self.entry = packet.dts
            self.reached = None if packet.pos is None else packet.pos + packet.size
        if packet.pts is None or packet.is_discard:
            return
        due = float(packet.pts * packet.time_base)
        end = due + float((packet.duration or 0) * packet.time_base)
        self.any_end = end if self.any_end is None else max(self.any_end, end)
        if is_video:
            self.video_end = end if self.video_end is None else max(self.video_end, end)
            self.last_due = due if self.last_due is None else max(self.last_due, due)
        elif packet.stream.type == "video" and not packet.stream.disposition & COVERS:
            times = self.others.setdefault(packet.stream_index, [due, end])
            times[:] = min(times[0], due), max(times[1], end)

    def entered_late(self, first: av.VideoFrame) -> bool:
        """Whether the first picture is not that of the first packet, although that was to be shown."""
        return first.pts is not None and self.first_due is not None and first.pts > self.first_due

    def pass_over(self, reason: str) -> None:
        """Note that packets before the first good picture could not be decoded."""
        self.entry = None
        if self.skipped is None:
            self.skipped = reason


class Packets:
    """The packets of one stream. Empty packets, which repeat the picture before in Theora, are skipped."""

    def __init__(self, medium: Medium, container: InputContainer, stream: VideoStream, seen: Seen) -> None:
        self.medium, self.container, self.stream, self.seen = medium, container, stream, seen
        self.name = container.format.name
        self._has_no_zeros = stream.codec_context.name in NO_ZEROS
        self._continuity = Continuity(medium) if self.name == "mpegts" else None
        known = next((name for name in self.name.split(",") if name in FORMATS), None)
        self._walk = None if known is None else ElementWalk(medium, FORMATS[known])
        self._items = self._read()

    def next(self) -> Packet | Loss | Seam | None:
        """Return the next packet; None after the last."""
        return next(self._items, None)

    def close(self) -> None:
        """Close the files opened beside the container."""
        for file in (self._continuity, self._walk):
            if file is not None:
                file.close()

    def _read(self) -> Iterator[Packet | Loss | Seam]:
        """Hold back one packet: whether it is complete is known only with the next one."""
        held: Packet | None = None
        latest: Packet | None = None  # with a decoding time
        for item in self._own():
            if isinstance(item, Loss):
                is_whole = held is not None and not held.is_corrupt
                yield from [self._whole(held)] if held is not None and is_whole else []
                yield item if is_whole else replace(item, packet=held)
                held = None
                continue
            packet, change, skipped = item
            seam = packet.is_keyframe and _is_back(latest, packet, 0.0 if change else JUMP_BACK)
            if held is not None:
                if change is Break.SEAM and not _is_seam(held, packet):
                    change = Break.LOSS
                if change is Break.LOSS and not _is_back(latest, packet, 0.0):
                    yield Loss("packets of it were lost", held)
                else:
                    yield self._whole(held)
                yield from self._skipped(held, packet) if skipped else []
                yield from [Seam()] if seam else []
            if change is Break.SEAM and not seam and packet.pts is not None:
                self.seen.seams.add(packet.pts)
            held = packet
            latest = packet if packet.dts is not None else latest
        if held is None:
            return
        is_cut_off = held.is_corrupt and self.name != "mpegts"
        if is_cut_off or (self.name in UNMARKED and is_cut(self.medium, self.name)):
            yield Loss(CUT, held, is_end=True)
        else:
            yield self._whole(held)

    def _own(self) -> Iterator[Loss | tuple[Packet, Break | None, bool]]:
        """Yield the stream's packets, each with its relation to the one before, and whether FFmpeg skipped damage between
        them.
        """
        before: Packet | None = None
        moved: set[tuple[int | None, int | None]] = set()
        skipped = False
        for item in self._demuxed():
            if isinstance(item, Loss):
                yield item
                continue
            if not item.size:
                continue
            is_own = item.stream_index == self.stream.index
            if self._walk is not None and item.pos is not None:
                skipped |= self._walk.broken(item.pos, item.size, is_video=is_own)
            if not is_own:
                self.seen.note(item, is_video=False)
                continue
            if (item.pts, item.dts) in moved:
                moved.remove((item.pts, item.dts))
                continue
            change = None
            if self._continuity is not None and item.pos is not None:
                change = self._continuity.advance(item.pos)
                if before is not None and (last := self._moved(before)) is not None:
                    moved.add((last.pts, last.dts))
                    yield last, None, False
            yield item, change, skipped
            before, skipped = item, False

    def _whole(self, packet: Packet) -> Packet | Loss:
        """Return the packet, or a loss if a part of it was overwritten with zeros, which decoders do not always notice."""
        self.seen.note(packet, is_video=True)
        if self._has_no_zeros and _is_zeroed(packet):
            return Loss("a part of it is overwritten with zeros", packet, only=True)
        return packet

    def _demuxed(self) -> Iterator[Packet | Loss]:
        """Yield packets of all streams; after FFmpeg fails to read one, continue with the next one."""
        failures = 0
        while True:
            try:
                for packet in self.container.demux():
                    failures = 0
                    yield packet
                return
            except IndexError:  # PyAV, for a packet of a stream that appeared after the file was opened
                continue
            except av.FFmpegError as error:
                failures += 1
                is_end = is_cut(self.medium, self.name)
                yield Loss(CUT if is_end else str(error.strerror), is_end=is_end)
                if failures > MOST_FAILURES or not isinstance(error, av.InvalidDataError):
                    return

    def _moved(self, before: Packet) -> Packet | None:
        """Return the last picture under the old PID of a programme that moved to another PID, after the packet `before`."""
        assert self._continuity is not None
        picture, self._continuity.moved = self._continuity.moved, None
        if picture is None or before.dts is None or picture.dts is None:
            return None
        wraps = (before.dts - picture.dts + (CLOCK >> 1)) // CLOCK * CLOCK  # FFmpeg continues to count after 33 bits wrap
        packet = av.Packet(picture.data)
        packet.dts, packet.pts = picture.dts + wraps, None if picture.pts is None else picture.pts + wraps
        packet.time_base, packet.stream = before.time_base, self.stream
        packet.duration = before.duration or 0
        return packet

    def _skipped(self, before: Packet, after: Packet) -> Iterator[Loss]:
        """Return the loss between two packets. AVI has no timestamps, so its index tells how many pictures were skipped."""
        reason, shift = "a part of the file is damaged there", 0.0
        if self.name == "avi":
            entries = [entry for entry in self.stream.index_entries if entry.size]
            places = {entry.pos + 8: number for number, entry in enumerate(entries)}
            first, last = places.get(before.pos or 0), places.get(after.pos or 0)
            if first is not None and last is not None:
                if last <= first + 1:
                    return
                shift = float((entries[last].timestamp - entries[first + 1].timestamp) * (self.stream.time_base or 0))
        yield Loss(reason, shift=shift)


def _is_zeroed(packet: Packet) -> bool:
    """Whether ZEROS occur within a packet; at its end, or before a start code, they are padding."""
    words = np.frombuffer(memoryview(packet), np.uint64, packet.size // 8)
    if words.all():
        return False
    data = bytes(packet)
    start = data.find(ZEROS)
    behind = data[start:].lstrip(b"\0") if start >= 0 else b""
    return behind != b"" and behind[0] != 1


def _is_seam(before: Packet, packet: Packet) -> bool:
    """Return whether a packet whose counters restart begins a segment, and is not what remains after a loss.

    Its time continues that of the packet before, goes back, or jumps by more than such a loss would last.
    """
    if not packet.is_keyframe or before.dts is None or packet.dts is None:
        return False
    step = packet.dts - before.dts
    return step <= 1.5 * (before.duration or 0) or step * packet.time_base > JUMP_ON


def _is_back(latest: Packet | None, packet: Packet, seconds: float) -> bool:
    """Whether decoding times jump back by at least that much."""
    if latest is None or latest.dts is None or packet.dts is None:
        return False
    return latest.dts > packet.dts and (latest.dts - packet.dts) * packet.time_base >= seconds
