"""Decodes packets to pictures in presentation order, and reports each lost picture in its place.

After damage, decoding continues at the next key frame that decodes. Pictures whose packets lie between the damage and that key
frame are dropped: the decoder may have predicted them from a damaged picture without reporting it.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream

from ig65m.types import Limits
from ig65m.video.medium import Medium
from ig65m.video.packets import Loss, Packet, Packets, Seam, Seen

CONCEALED: Final = "its decoder found damage there"
NOT_ALONE: Final = "its key frame cannot be decoded alone"
NOTHING: Final = "its first packets give no picture"
MOST_HELD: Final = 256 << 20
"""Most bytes of packets kept for decoding again, and of pictures that wait for the one they may be predicted from."""

LONGEST_RUN: Final = 17
"""Most pictures that may wait, or precede their key frame; H.264 and HEVC allow 16."""

Spare = Callable[[], AbstractContextManager[VideoCodecContext]]


def options(limits: Limits) -> dict[str, str]:
    """Return options for FFmpeg's decoders, which count pixels with padding and alignment; checksums are verified."""
    return {"max_pixels": str(limits.pixels * 5 // 4 + (1 << 20)), "err_detect": "crccheck"}


def too_large(width: int, height: int, limits: Limits) -> str | None:
    """Return the message for a picture beyond the limit; None if it is within."""
    if width * height <= limits.pixels:
        return None
    return f"a picture of {width}x{height}, more than the limit of {limits.pixels:,} pixels; raise --max-pixels to read it"


def describe_error(error: av.FFmpegError, limits: Limits) -> str:
    """Return FFmpeg's message; for a size beyond `options` that is only "Invalid argument"."""
    if isinstance(error, av.ArgumentError):
        return f"{error.strerror}, or a picture of more than {limits.pixels:,} pixels: raise --max-pixels to read it"
    return str(error.strerror)


class Damage(Exception):
    """No good picture follows the last one; the message says why."""


@dataclass(frozen=True)
class Lost:
    """A lost picture: timestamp and duration of its packet, in the stream's time base."""

    pts: int | None
    dts: int | None
    duration: int
    reason: str


@dataclass(frozen=True)
class Hole:
    """An unknown number of pictures is missing here; later timestamps are `shift` seconds too early."""

    reason: str
    shift: float = 0.0


Decoded = av.VideoFrame | Lost | Hole


def decode(
    medium: Medium, container: InputContainer, stream: VideoStream, seen: Seen, limits: Limits, open_spare: Spare
) -> Generator[Decoded, None, None]:
    """Decode the stream's pictures in presentation order.

    `open_spare` opens another decoder for the stream, with one thread. If a recording does not start with a key frame, packets
    before its first good picture are skipped without an error. Raises Damage if no further picture can be decoded.
    """
    with ExitStack() as opened:
        packets = Packets(medium, container, stream, seen)
        opened.callback(packets.close)

        def spare() -> VideoCodecContext:
            return opened.enter_context(open_spare())

        yield from _Decoding(stream, packets, seen, limits, spare).run()


class _Decoding:
    """State of `decode`.

    A multi-threaded decoder reports damage late and without naming the packet. After a report, the packets since the last key
    frame are decoded again by a single-threaded decoder, one by one, to find the damaged packet.
    """

    def __init__(
        self, stream: VideoStream, packets: Packets, seen: Seen, limits: Limits, spare: Callable[[], VideoCodecContext]
    ) -> None:
        self.stream, self.packets, self.seen, self.limits = stream, packets, seen, limits
        self.open_spare = spare
        self.spare: VideoCodecContext | None = None
        self.ahead: deque[Packet | Loss | Seam] = deque()  # read ahead, to be decoded next
        self.kept: deque[Packet] = deque()  # sent to the decoder, from a key frame on; empty if too large
        self.kept_bytes = 0
        self.held: list[av.VideoFrame] = []  # wait for the picture that they may be predicted from
        self.good: deque[av.VideoFrame] = (
            deque()
        )  # ready; one is yielded for each decoded picture, so that decoding continues meanwhile
        self.last: int | None = None  # timestamp of the last picture yielded or lost
        self.entry: Packet | None = None  # key frame at which decoding continued, until its picture comes
        self.replayed: int | None = None  # timestamp up to which pictures come again
        self.begun = self.at_seam = False
        self.sent = self.given = 0  # numbers of packets, and of pictures yielded or lost, for streams without timestamps
        threads = max(1, stream.codec_context.thread_count, os.cpu_count() or 1)
        self.lag = threads + LONGEST_RUN  # packets after which the picture of one has come

    def run(self) -> Iterator[Decoded]:
        while True:
            item = self._next()
            if isinstance(item, Loss):
                yield from self._damaged(item.reason, item)
            elif isinstance(item, Seam):
                self.ahead.appendleft(item)
                yield from self._decoded(None)
                if self.ahead[0] is item:  # else damage was found, and the packet comes again
                    self.ahead.popleft()
                    self._release()
                    yield from self._give()
                    self.stream.codec_context.flush_buffers()
                    self._keep_none()
                    self.at_seam = True
            else:
                yield from self._decoded(item)
                if item is None and not self.ahead:
                    break
        self._release()
        yield from self._give()

    def _next(self) -> Packet | Loss | Seam | None:
        if self.ahead:
            return self.ahead.popleft()
        item = self.packets.next()
        self.sent += isinstance(item, av.Packet) or (isinstance(item, Loss) and item.packet is not None)
        return item

    def _decoded(self, packet: Packet | None) -> Iterator[Decoded]:
        """Decode a packet and yield the pictures that are safe; None drains the decoder."""
        if packet is not None:
            self._keep(packet)
        try:
            pictures = self.stream.decode(packet)
        except av.FFmpegError as error:
            yield from self._damaged(describe_error(error, self.limits))
            return
        if pictures and self.at_seam:
            self.at_seam, self.last, self.seen.begins_anew = False, None, True
        for picture in pictures:
            if (large := too_large(picture.width, picture.height, self.limits)) is not None:
                self._release()
                yield from self._give()
                raise Damage(large)
            if (reason := self._damage_in(picture)) is not None:
                yield from self._damaged(reason, bad=None if reason == CONCEALED else 0)
                return
            if not self.begun and self.seen.entered_late(picture):
                if self.seen.starts_with_key:
                    yield from self._lost([each for each in self.kept if (each.pts or 0) < (picture.pts or 0)], NOTHING)
                else:
                    self.seen.pass_over(NOTHING)
            self.begun, self.entry = True, None
            if self.replayed is not None and (_stamp(picture) or 0) <= self.replayed:
                continue
            self.replayed = None
            self.held.append(picture)
            if picture.pict_type != PictureType.B or self._is_full():
                self._release(1)  # damage at its end may show only at the next one
            yield from self._give(1)
        if packet is None and self.entry is not None:
            yield from self._damaged(NOT_ALONE, bad=0)

    def _damage_in(self, picture: av.VideoFrame) -> str | None:
        if picture.is_corrupt:
            return CONCEALED
        if self.entry is None or (picture.key_frame and (self.entry.pts is None or picture.pts == self.entry.pts)):
            return None
        return NOT_ALONE

    def _is_full(self) -> bool:
        """Whether no further picture may be held back."""
        latest = self.held[-1]
        size = latest.width * latest.height * latest.format.padded_bits_per_pixel // 8
        return len(self.held) >= min(LONGEST_RUN, MOST_HELD // max(size, 1))

    def _release(self, but: int = 0) -> None:
        """Mark held pictures as safe, except the latest `but`: all pictures that they may be predicted from are good."""
        count = len(self.held) - but
        for picture in self.held[:count]:
            self.last = _stamp(picture)
        self.given += count
        self.good += self.held[:count]
        del self.held[:count]

    def _give(self, most: int | None = None) -> Iterator[av.VideoFrame]:
        for _ in range(len(self.good) if most is None else min(most, len(self.good))):
            yield self.good.popleft()

    def _keep(self, packet: Packet) -> None:
        """Keep the packets whose pictures may still be pending, starting at a key frame."""
        if not self.kept and not (packet.is_keyframe or self.sent == 1):
            return
        self.kept.append(packet)
        self.kept_bytes += packet.size
        if packet.is_keyframe:
            keys = [place for place in range(1, len(self.kept) - self.lag) if self.kept[place].is_keyframe]
            for _ in range(keys[-1] if keys else 0):
                self.kept_bytes -= self.kept.popleft().size
        if self.kept_bytes > MOST_HELD:
            self._keep_none()

    def _keep_none(self) -> None:
        self.kept.clear()
        self.kept_bytes = 0

    def _damaged(self, reason: str, loss: Loss | None = None, bad: int | None = None) -> Iterator[Decoded]:
        """Yield the good pictures before the damage and the lost ones after it, then continue at the next key frame.

        loss: packets are missing after the last one sent. bad: index of the damaged packet in `kept`, if known. Raises Damage
        if there is no further key frame.
        """
        if not self.begun and not self.seen.starts_with_key:
            self._pass_over(reason, loss)
            return
        timed = all(_stamp(packet) is not None for packet in self.kept)
        holes = [Hole(reason)] if loss is None and not self.kept else []
        good: list[av.VideoFrame] = []
        if bad is None:
            good, bad = self._again() if timed else ([], len(self.kept))
        self.stream.codec_context.flush_buffers()
        kept = list(self.kept)
        self._keep_none()
        behind = _behind(kept, bad)
        if behind < bad:
            self.replayed = self.last
        elif bad > 0 and (bad < len(kept) if loss is None else loss.packet is None and not loss.is_end):
            bad -= 1  # damage that reaches back into the packet before is seldom reported there
        after: list[Packet | Loss | Seam] = [*kept[behind:], *([] if loss is None else [loss])]
        self.ahead.extendleft(reversed(after))
        lost = kept[bad:behind]
        is_end = not self._skip_to_key(lost, holes)
        unseen = [*lost, loss.packet] if loss and loss.is_end and loss.packet else lost
        self.held = self._shown_before(unseen, good)
        if loss is not None and loss.packet is None and not loss.is_end:
            self.held = _up_to_hole(self.held, kept)
        self._release()
        yield from self._give()
        yield from holes
        if timed:
            not_shown = [] if loss is not None and loss.is_end else kept[: min(bad, behind)]
            yield from self._lost([*not_shown, *lost], reason)
        else:
            yield from [Lost(None, None, 0, reason)] * (self.sent - self.given)
            self.given = self.sent
        if is_end:
            raise Damage(reason)

    def _shown_before(self, lost: list[Packet], good: list[av.VideoFrame]) -> list[av.VideoFrame]:
        """Return good pictures before the first lost one. Without timestamps, the last ones are dropped: they may follow it."""
        stamps = [packet.pts for packet in lost if packet.pts is not None]
        if not lost:
            return good
        if len(stamps) < len(lost) or all(picture.pts is None for picture in good):
            return good[: max(0, len(good) - self.stream.codec_context.reorder_depth)]
        before = [number for number, each in enumerate(good) if each.pts is not None and each.pts < min(stamps)]
        return good[: before[-1] + 1] if before else []

    def _pass_over(self, reason: str, loss: Loss | None) -> None:
        self.seen.pass_over(reason)
        self.held.clear()
        if loss is not None:
            self.stream.codec_context.flush_buffers()
            if loss.is_end:
                raise Damage(reason)

    def _again(self) -> tuple[list[av.VideoFrame], int]:
        """Decode the kept packets again. Returns the good pictures not yielded yet, and the index of the first bad packet."""
        if self.spare is None:
            self.spare = self.open_spare()
        self.spare.flush_buffers()
        good: list[av.VideoFrame] = []
        for number, packet in enumerate([*self.kept, None]):
            try:
                pictures = self.spare.decode(packet)
            except av.FFmpegError:
                for picture in _rest_of(self.spare):
                    if picture.is_corrupt:
                        return self._up_to(picture, good, number)
                    good.append(picture)
                return self._new(good), number
            for picture in pictures:
                if picture.is_corrupt:
                    return self._up_to(picture, good, number)
                good.append(picture)
            good = self._new(good)
        return good, len(self.kept)

    def _new(self, pictures: Iterable[av.VideoFrame]) -> list[av.VideoFrame]:
        """Return pictures that were not yielded yet."""
        return [each for each in pictures if self.last is None or (stamp := _stamp(each)) is None or stamp > self.last]

    def _up_to(self, corrupt: av.VideoFrame, good: list[av.VideoFrame], number: int) -> tuple[list[av.VideoFrame], int]:
        """As `_again`, when packet `number` made the decoder output a corrupt picture."""
        while good and good[-1].pict_type == PictureType.B:  # may be predicted from the corrupt one
            good.pop()
        if corrupt.pts is None:
            return self._new(good), max(0, number - self.stream.codec_context.reorder_depth)
        sent = [packet.pts for packet in self.kept]
        return self._new(good), sent.index(corrupt.pts) if corrupt.pts in sent else number

    def _skip_to_key(self, lost: list[Packet], holes: list[Hole]) -> bool:
        """Skip to the next key frame, and packets after it that are presented before it; False if there is none."""
        while (item := self._next()) is not None:
            if isinstance(item, Loss):
                holes += [] if item.only else [Hole(item.reason, item.shift)]
                lost += [item.packet] if item.packet is not None and not item.is_end else []
            elif isinstance(item, Seam):
                self.at_seam = True
            elif item.is_keyframe:
                break
            else:
                lost.append(item)
        if not isinstance(item, av.Packet):
            return False
        self.entry = item
        if not self.begun:
            self.seen.entry = item.dts
        following = self._next()
        while isinstance(following, av.Packet) and not following.is_keyframe and _is_before(following, item):
            lost.append(following)
            following = self._next()
        self.ahead.extendleft([item] if following is None else [following, item])
        return True

    def _lost(self, packets: Iterable[Packet], reason: str) -> Iterator[Lost]:
        """Report packets as lost, in presentation order; packets that are not to be shown are ignored."""
        stamped = [(stamp, each) for each in packets if not each.is_discard and (stamp := _stamp(each)) is not None]
        for stamp, packet in sorted(stamped, key=lambda pair: pair[0]):
            if self.last is None or stamp > self.last:
                self.last = stamp
                self.given += 1
                yield Lost(packet.pts, packet.dts if packet.pts is None else None, packet.duration or 0, reason)


def _stamp(timed: av.VideoFrame | Packet) -> int | None:
    return timed.dts if timed.pts is None else timed.pts


def _behind(packets: list[Packet], bad: int) -> int:
    """Index at which to continue: after the bad packet, or at its key frame if the bad packet is presented before that."""
    key = next((number for number in range(min(bad, len(packets) - 1), 0, -1) if packets[number].is_keyframe), 0)
    return key if 0 < key < bad < len(packets) and _is_before(packets[bad], packets[key]) else bad + 1


def _up_to_hole(good: list[av.VideoFrame], packets: list[Packet]) -> list[av.VideoFrame]:
    """Good pictures before the first missing one: a missing packet may be presented before the last packet that came."""
    stamps = sorted(packet.pts for packet in packets if packet.pts is not None)
    if len(stamps) < len(packets):
        return good  # `_shown_before` has dropped the pictures that may come after the missing ones
    steps = sorted(after - before for before, after in pairwise(stamps))
    if not steps:
        return good
    usual = steps[len(steps) // 2]
    apart = [after for before, after in pairwise(stamps[-LONGEST_RUN:]) if after - before > 1.5 * usual]
    return [picture for picture in good if not apart or picture.pts is None or picture.pts < apart[0]]


def _is_before(packet: Packet, key: Packet) -> bool:
    """Whether a packet is presented before the key frame that it follows in the file."""
    return packet.pts is not None and key.pts is not None and packet.pts < key.pts


def _rest_of(decoder: VideoCodecContext) -> list[av.VideoFrame]:
    try:
        return decoder.decode(None)
    except av.FFmpegError:
        return []
