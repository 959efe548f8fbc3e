"""An index of all frames of a video: their times, from a pass over the packets, of which none is decoded."""

from array import array
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ig65m.errors import VideoError
from ig65m.types import Limits
from ig65m.video.integrity.elements import FORMATS, ElementWalk
from ig65m.video.integrity.truncation import Shown, missing_end
from ig65m.video.packets import COVERS, JUMP_BACK, Seen
from ig65m.video.reader import check_file, has_format, open_video
from ig65m.video.sample import SeekError

CONTAINERS: Final = ("mov", "matroska")
"""Demuxers that seek to a key frame exactly."""

CODECS: Final = {"h264", "hevc", "vp9", "av1", "mjpeg", "prores", "ffv1"}
"""Codecs of which each packet in these containers gives one frame; VP8 and MPEG-4 have packets that are not shown."""

EXACT: Final = 1 << 53
"""From here on, a float64 does not hold every whole number."""

_UNKNOWN: Final = -(1 << 63)  # a decoding time that is missing


class IndexedFrame(NamedTuple):
    """A frame that was not decoded: displayed from `time` to `end` in seconds."""

    number: int  # from 0, in presentation order
    time: float
    end: float


@dataclass(frozen=True)
class FrameIndex:
    """All N frames of a video in presentation order; K of them are key frames."""

    times: NDArray[np.float64]  # (N + 1,): frame n is displayed from times[n] to times[n + 1] seconds
    pts: NDArray[np.int64]  # (N,): presentation times in the stream's time base
    keys: NDArray[np.int64]  # (K,): numbers of the key frames, ascending

    def __len__(self) -> int:
        return len(self.pts)

    def __iter__(self) -> Iterator[IndexedFrame]:
        times = self.times.tolist()
        return map(IndexedFrame, range(len(self)), times, times[1:])


def read_index(path: Path, limits: Limits, on_packet: Callable[[], None] | None = None) -> FrameIndex:
    """Return the index of a video file; `on_packet` is called after each packet.

    It is exact in the containers and with the codecs above, if no packet is missing, marked as damaged or hidden, and if all
    presentation times are there and differ. Memory is some 60 bytes a frame meanwhile.

    Raises SeekError if the index would not be exact, or the file cannot be opened.
    """
    try:
        check_file(path)
        with open_video(path, limits) as (container, stream):
            codec = stream.codec_context.codec.canonical_name
            if not has_format(container, *CONTAINERS):
                raise SeekError(f"the container {container.format.name} has no exact index")
            if codec not in CODECS:
                raise SeekError(f"a packet of {codec} may give no frame")
            return _index(path, container, stream, _read_packets(path, container, stream, limits.frames, on_packet))
    except VideoError as error:
        raise SeekError(str(error)) from error


class _Packets:
    """Facts about the packets of a file: a number for each one of the video stream, in file order."""

    def __init__(self) -> None:
        self.pts, self.dts, self.durations = array("q"), array("q"), array("q")
        self.is_key = bytearray()
        self.seen = Seen(always_key=True)
        self.others: dict[int, list[int]] = {}  # by stream: first time and last end, in the stream's time base


def _read_packets(
    path: Path, container: InputContainer, stream: VideoStream, most: int, on_packet: Callable[[], None] | None
) -> _Packets:
    """Read all packets. Raises SeekError if one is missing, damaged, hidden or without a time."""
    found = _Packets()
    own = stream.index
    walk = ElementWalk(path, FORMATS["matroska"]) if has_format(container, "matroska") else None
    try:
        with nullcontext() if walk is None else closing(walk):
            for packet in container.demux():
                size, pts = packet.size, packet.pts
                if not size:
                    continue
                is_own = packet.stream_index == own
                if walk is not None and packet.pos is not None and walk.broken(packet.pos, size, is_video=is_own):
                    raise SeekError("a part of the file is damaged")
                if not is_own:
                    if pts is not None and not packet.is_discard:
                        end = pts + (packet.duration or 0)
                        times = found.others.setdefault(packet.stream_index, [pts, end])
                        times[:] = min(times[0], pts), max(times[1], end)
                    continue
                if pts is None or packet.is_corrupt or packet.is_discard:
                    raise SeekError("a packet has no time, is damaged or not to be shown")
                if len(found.pts) == most:
                    raise SeekError(f"it has more than {most:,} frames")
                if not found.pts:
                    found.seen.note(packet, is_video=True)
                found.pts.append(pts)
                found.dts.append(_UNKNOWN if packet.dts is None else packet.dts)
                found.durations.append(packet.duration or 0)
                found.is_key.append(packet.is_keyframe)
                if on_packet is not None:
                    on_packet()
    except (av.FFmpegError, IndexError) as error:
        raise SeekError(f"a packet cannot be read ({error})") from error
    return found


def _index(path: Path, container: InputContainer, stream: VideoStream, packets: _Packets) -> FrameIndex:
    """Return the index. Raises SeekError if presentation times do not tell which frames come when."""
    pts, dts, durations = (np.array(each, np.int64) for each in (packets.pts, packets.dts, packets.durations))
    is_key = np.frombuffer(packets.is_key, np.uint8).astype(bool)
    if not len(pts) or packets.seen.encrypted:
        raise SeekError("it has no packets, or encrypted ones")
    order = np.argsort(pts, kind="stable")
    ordered = pts[order]
    if order[0] != 0 or not is_key[0] or (np.diff(ordered) <= 0).any():
        raise SeekError("two frames have the same time, or the first packet is not the first frame")
    base = stream.time_base or Fraction(1, av.time_base)
    known = dts != _UNKNOWN
    if ((-np.diff(dts[known]) * float(base) >= JUMP_BACK) & is_key[known][1:]).any():
        raise SeekError("another recording is appended to it")
    if max(abs(int(ordered[0])), abs(int(ordered[-1]))) * base.numerator >= EXACT:
        raise SeekError("its times are too large")
    # Correctly rounded, as float(pts * base) is: numerator and denominator are whole numbers that float64 holds.
    shown = ordered * base.numerator / base.denominator
    duration = float(int(durations[order[-1]]) * base)
    if duration <= 0:
        rate = stream.average_rate or stream.guessed_rate
        duration = float(shown[-1] - shown[-2]) if len(shown) > 1 else float(1 / rate) if rate else 0.0
    times = np.append(shown, shown[-1] + duration)
    _note_ends(packets, container, int((pts + durations).max()) * base, int(ordered[-1]) * base)
    ends = Shown(float(times[-2]), float(times[-1]), 0.0, float(np.diff(times).max()))
    if (missing := missing_end(path, container, stream, packets.seen, ends)) is not None:
        raise SeekError(missing)
    return FrameIndex(times, ordered, np.flatnonzero(is_key[order]))


def _note_ends(packets: _Packets, container: InputContainer, end: Fraction, last: Fraction) -> None:
    """Record where the streams end, in seconds: the video stream at `end`, with a last frame at `last`."""
    seen = packets.seen
    seen.video_end, seen.last_due = float(end), float(last)
    ends = [seen.video_end]
    for number, times in packets.others.items():
        stream = container.streams[number]
        base = stream.time_base or Fraction(1, av.time_base)
        ends.append(float(times[1] * base))
        if stream.type == "video" and not stream.disposition & COVERS:
            seen.others[number] = [float(time * base) for time in times]
    seen.any_end = max(ends)
