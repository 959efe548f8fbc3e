"""Reads single frames of a video without decoding the parts between them.

A pass over the packets, of which nothing is decoded, gives the times of all frames. Then the decoder starts at the key frame
before each wanted frame. Every decoded frame is compared with what the packets promised, so the result is that of decoding
everything, or Unexpected is raised. This is the policy of torchcodec's exact seek mode.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from ig65m.errors import VideoError
from ig65m.types import Limits
from ig65m.video.clock import Clock
from ig65m.video.decoding import Damage, decode
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.frame_times import Timing
from ig65m.video.integrity.truncation import Shown, missing_end
from ig65m.video.packets import Packets, Seen
from ig65m.video.reader import has_format, open_video

CONTAINERS: Final = ("mov", "matroska")
"""Demuxers that seek to a key frame exactly."""

CODECS: Final = {"h264", "hevc", "vp9", "av1", "mjpeg", "prores", "ffv1"}
"""Codecs of which each packet in these containers gives one frame; VP8 and MPEG-4 have packets that are not shown."""

WORTH: Final = 50
"""Frames that must lie between two wanted ones to seek instead of decoding them."""


class Unexpected(Exception):
    """A decoded frame is not what the packets promised: the video must be decoded from its start."""


@dataclass(frozen=True, slots=True)
class IndexedFrame:
    """A frame that was not decoded: displayed from `time` to `end` in seconds."""

    number: int  # from 0, in presentation order
    time: float
    end: float
    pts: int
    dts: int | None
    is_key: bool


def read_index(path: Path, limits: Limits, on_packet: Callable[[], None] | None = None) -> list[IndexedFrame] | None:
    """Return all frames of a video file in presentation order, without decoding; None if that would not be exact.

    It is exact in the containers and with the codecs above, if nothing is missing, damaged or hidden, and if all presentation
    times are there and differ. Memory grows by some 300 bytes a frame. Raises VideoError as `read_frames`, if the file cannot
    be opened.
    """
    with open_video(path, limits) as (container, stream):
        if not has_format(container, *CONTAINERS) or stream.codec_context.codec.canonical_name not in CODECS:
            return None
        seen = Seen(always_key=True)
        stamped = _stamped(path, container, stream, seen, limits.frames, on_packet)
        if stamped is None:
            return None
        rate = stream.average_rate or stream.guessed_rate
        clock = Clock(stream.time_base or Fraction(1, av.time_base), float(1 / rate) if rate else 0.0)
        times = [clock.time(packet) for packet in stamped]
        times.append(times[-1] + clock.period)
        longest = max(end - time for time, end in pairwise(times))
        if missing_end(path, container, stream, seen, Shown(times[-2], times[-1], clock.shift, longest)) is not None:
            return None
    return [
        IndexedFrame(number, time, end, packet.pts, packet.dts, packet.is_key)
        for number, (packet, (time, end)) in enumerate(zip(stamped, pairwise(times), strict=True))
    ]


@dataclass(frozen=True, slots=True)
class _Packet:
    pts: int
    dts: int | None
    duration: int
    is_key: bool


def _stamped(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    seen: Seen,
    most: int,
    on_packet: Callable[[], None] | None,
) -> list[_Packet] | None:
    """Return the packets in presentation order; None if one is missing, damaged, hidden or without a time of its own."""
    found: list[_Packet] = []
    with closing(Packets(path, container, stream, seen)) as packets:
        while (item := packets.next()) is not None:
            if not isinstance(item, av.Packet) or item.is_discard or item.pts is None or len(found) == most:
                return None
            found.append(_Packet(item.pts, item.dts, item.duration or 0, item.is_keyframe))
            if on_packet is not None:
                on_packet()
    if not found or not found[0].is_key or seen.seams or seen.encrypted:
        return None
    ordered = sorted(found, key=lambda packet: packet.pts)
    is_exact = ordered[0] is found[0] and all(before.pts < after.pts for before, after in pairwise(ordered))
    return ordered if is_exact else None


def frames_at(
    path: Path,
    index: Sequence[IndexedFrame],
    numbers: Sequence[int],
    limits: Limits,
    on_frame: Callable[[Frame | LostFrame], None] | None = None,
) -> Generator[Frame, None, None]:
    """Yield the frames of these numbers, which ascend.

    Raises Unexpected if a decoded frame, wanted or not, is lost or has another time than the index says.
    """
    keys = [frame.number for frame in index if frame.is_key]
    reading: Generator[tuple[int, Frame], None, None] | None = None
    at = -1
    with open_video(path, limits) as (container, stream):
        try:
            for wanted in numbers:
                key = keys[bisect_right(keys, wanted) - 1]
                if reading is None or (key > at and wanted - at > WORTH):
                    if reading is not None:
                        reading.close()
                    reading = _read_from(path, container, stream, index, index[key], limits, on_frame)
                for at, frame in reading:
                    if at == wanted:
                        yield frame
                        break
                else:
                    raise Unexpected(f"frame {wanted} does not come")
        except (VideoError, av.FFmpegError) as error:
            raise Unexpected(str(error)) from error
        finally:
            if reading is not None:
                reading.close()


def _read_from(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    index: Sequence[IndexedFrame],
    key: IndexedFrame,
    limits: Limits,
    on_frame: Callable[[Frame | LostFrame], None] | None,
) -> Generator[tuple[int, Frame], None, None]:
    """Yield frames with their numbers, from a key frame on or from an earlier one."""
    stream.codec_context.flush_buffers()
    is_mov = has_format(container, "mov")
    container.seek(key.pts if key.dts is None or not is_mov else key.dts, stream=stream)
    seen = Seen(always_key=True)
    with closing(decode(path, container, stream, seen, limits, partial(open_video, path, limits, 1))) as pictures:
        try:
            first = next(pictures, None)
        except Damage as damage:
            raise Unexpected(str(damage)) from damage
        if not isinstance(first, av.VideoFrame) or first.pts is None:
            raise Unexpected("no picture comes")
        number = bisect_left(index, first.pts, key=lambda frame: frame.pts)
        if number > key.number or index[number].pts != first.pts or not index[number].is_key:
            raise Unexpected("the first picture is not that of a key frame")
        for frame in Timing(path, container, stream, seen, limits).frames(chain([first], pictures)):
            if on_frame is not None:
                on_frame(frame)
            promised = index[number] if number < len(index) else None
            if not isinstance(frame, Frame) or promised is None or (frame.time, frame.end) != (promised.time, promised.end):
                raise Unexpected(f"frame {number} is not as promised")
            yield number, frame
            number += 1
