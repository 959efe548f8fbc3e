"""Packets -> good pictures, up to the first damage."""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from ig65m.types import Limits
from ig65m.video.continuity import Continuity
from ig65m.video.sizes import is_cut

CONCEALED = "its decoder met damage there"
UNMARKED = {"mpegts", "mpeg", "asf", "gif", "apng", "ogg", "dv"}
"""Demuxers that do not mark a packet as corrupt where the file ends within it."""

LONG_AGO = -(1 << 63)

SEAM = 0.1
"""Seconds that decoding times must jump back at a key frame for it to begin another recording, appended to the first."""


def options(limits: Limits) -> dict[str, str]:
    """For FFmpeg's decoders, which count pixels with padding and alignment; checksums are looked at where a stream has them."""
    return {"max_pixels": str(limits.pixels * 5 // 4 + (1 << 20)), "err_detect": "crccheck"}


def too_large(width: int, height: int, limits: Limits) -> str | None:
    """What to say of a picture beyond the limit, None if it is within."""
    if width * height <= limits.pixels:
        return None
    return (
        f"a picture of {width}x{height}, more than the limit of {limits.pixels:,} pixels; raise --max-pixels if it is trusted"
    )


def why(error: av.FFmpegError, limits: Limits) -> str:
    """FFmpeg's words; for a size beyond what `options` allow it has none but "Invalid argument"."""
    if isinstance(error, av.ArgumentError):
        return f"{error.strerror}, or a picture of more than {limits.pixels:,} pixels: raise --max-pixels if it is trusted"
    return str(error.strerror)


class Damage(Exception):
    """Nothing good comes after the last picture; the message says why, and `before` is the faulty packet's timestamp."""

    def __init__(self, message: str, before: int | None = None) -> None:
        super().__init__(message)
        self.before = before


@dataclass(kw_only=True)
class Seen:
    """What the packets so far said; times are in seconds, but for entry and first_due, which are timestamps.

    always_key: the container's first packet is always a key frame. video_end, any_end: the latest end, of the video stream
    and of any stream. last_due: when the last picture is to be shown; first_due: the first. entry: the decoding time of the
    first packet of those that could be decoded. skipped: why pictures at the beginning were left out, though the first
    packet is a key frame. reached: the byte of the file where the last packet ended. begins_anew: the next picture is the first
    of another recording, whose times have nothing to do with those before; who reads it resets it.
    """

    always_key: bool
    video_end: float | None = None
    any_end: float | None = None
    last_due: float | None = None
    entry: int | None = None
    skipped: str | None = None
    starts_with_key: bool | None = None
    first_due: int | None = None
    reached: int | None = None
    begins_anew: bool = False

    def note(self, packet: "av.Packet[Stream]", *, is_video: bool) -> None:
        if is_video:
            if self.starts_with_key is None:
                self.starts_with_key = packet.is_keyframe or self.always_key
                self.first_due = None if packet.is_discard else packet.pts
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

    def entered_late(self, first: av.VideoFrame) -> bool:
        """Whether the first picture is not that of the first packet, though that was to be shown."""
        return first.pts is not None and self.first_due is not None and first.pts > self.first_due

    def pass_over(self, why: str) -> None:
        self.entry = None
        if self.starts_with_key and self.skipped is None:
            self.skipped = why


def decode(path: Path, container: InputContainer, stream: VideoStream, seen: Seen, limits: Limits) -> Iterator[av.VideoFrame]:
    """The stream's pictures in order of presentation; raises Damage after the last good one.

    A picture in which the decoder conceals an error is damage too. Before the first good picture, what cannot be decoded is
    passed over: a recording may begin between key frames.
    """
    begun = seam = False
    # Each of the decoder's threads may hold a packet, so an error is about one of the latest.
    recent: deque[int | None] = deque(maxlen=max(1, stream.codec_context.thread_count, os.cpu_count() or 1))
    packets = _packets(path, container, stream, seen)
    latest: av.Packet[Stream] | None = None
    ended = False
    while not ended:
        try:
            packet = next(packets, None)
        except Damage as damage:
            yield from _held_back(stream, damage.before)
            raise
        ended = packet is None
        try:
            before: list[av.VideoFrame] = []
            if packet is not None and _begins_anew(packet, latest):
                before, seam = _flushed(stream), True
            if packet is not None:
                latest = packet if packet.dts is not None else latest
                recent.append(packet.pts)
            pictures = before + stream.decode(packet)
        except av.FFmpegError as error:
            if begun:
                yield from _held_back(stream, min((LONG_AGO if pts is None else pts for pts in recent), default=None))
                raise Damage(why(error, limits)) from error
            seen.pass_over(why(error, limits))
            continue
        for number, picture in enumerate(pictures):
            _refuse_large(picture, limits)
            if not picture.is_corrupt:
                if not begun and seen.entered_late(picture):
                    seen.pass_over("nothing comes of its first packets")
                begun = True
                if seam and number >= len(before):
                    seen.begins_anew, seam = True, False
                yield picture
            elif begun:
                raise Damage(CONCEALED)
            else:
                seen.pass_over(CONCEALED)


def _refuse_large(picture: av.VideoFrame, limits: Limits) -> None:
    large = too_large(picture.width, picture.height, limits)
    if large is not None:
        raise Damage(large)


def _begins_anew(packet: "av.Packet[Stream]", latest: "av.Packet[Stream] | None") -> bool:
    """Whether another recording begins here, which was appended to the first with its own times."""
    if latest is None or latest.dts is None or packet.dts is None or not packet.is_keyframe:
        return False
    return (latest.dts - packet.dts) * packet.time_base >= SEAM


def _flushed(stream: VideoStream) -> list[av.VideoFrame]:
    """What the decoder holds back: it would lose some of it where the size changes (MPEG-2)."""
    pictures = stream.decode(None)
    stream.codec_context.flush_buffers()
    return pictures


def _packets(path: Path, container: InputContainer, stream: VideoStream, seen: Seen) -> Iterator["av.Packet[Stream]"]:
    """The stream's packets; one without bytes repeats the picture before it (Theora), or is PyAV's mark of the end.

    Raises Damage in place of the last packet where the file ends within it, and in MPEG-TS in place of one that is not
    complete. At the seam of joined recordings packets seem to be missing too, but the time jumps back.
    """
    held: av.Packet[Stream] | None = None
    with closing(Continuity(path, stream.id)) as continuity:
        is_ts = container.format.name == "mpegts"
        try:
            for packet in container.demux():
                if not packet.size:
                    continue
                if packet.stream_index != stream.index:
                    seen.note(packet, is_video=False)
                    continue
                broken = is_ts and packet.pos is not None and continuity.broken(packet.pos)
                if held is not None:
                    if broken and (held.dts or 0) <= (packet.dts or 0):
                        raise Damage("packets of it were lost", held.pts)
                    seen.note(held, is_video=True)
                    yield held
                held = packet
        except av.FFmpegError as error:
            raise Damage(str(error.strerror)) from error
    if held is None:
        return
    if (held.is_corrupt and not is_ts) or (container.format.name in UNMARKED and is_cut(path, container.format.name)):
        raise Damage("the file ends within a picture; it was cut or is still being written", held.pts)
    seen.note(held, is_video=True)
    yield held


def _held_back(stream: VideoStream, before: int | None) -> Iterator[av.VideoFrame]:
    """The good pictures that the decoder kept for their turn, up to the faulty packet's; without times, all but the last."""
    try:
        pictures = stream.decode(None)
    except av.FFmpegError:
        return
    for left, picture in zip(range(len(pictures) - 1, -1, -1), pictures, strict=True):
        is_late = left == 0 if picture.pts is None or before is None else picture.pts >= before
        if picture.is_corrupt or is_late:
            return
        yield picture
