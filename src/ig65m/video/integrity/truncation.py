"""Whether a video that ended without an error is complete: FFmpeg reads most truncated files like complete ones."""

from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from ig65m.video.integrity.container import is_cut, size_of
from ig65m.video.medium import Medium
from ig65m.video.packets import Seen

TOLERANCE = 0.002
"""Seconds by which the times of a packet and its picture may differ; never more than half of a picture's duration."""

MUCH = 0.5
"""Seconds that another video stream must continue after this one ends, or may start before that, to be its continuation."""


@dataclass(frozen=True)
class Shown:
    """Time and end of the last picture, shift of its times from the stream's, and the longest duration of a picture."""

    time: float
    end: float
    shift: float
    longest: float


def missing_end(medium: Medium, container: InputContainer, stream: VideoStream, seen: Seen, shown: Shown) -> str | None:
    """Return why the video should continue after the last picture; None if it need not."""
    end = shown.end - min(shown.shift, 0.0)
    promised = _promised_end(container, stream, seen, end, is_file=isinstance(medium, Path))
    breaks_off = f"breaks off at {shown.end:.3f} s"
    if promised - end > max(0.25, min(1.0, promised * 0.05), shown.longest):
        return f"{breaks_off}, expected {promised:.3f} s; it was cut or is still being written"
    tolerance = min(TOLERANCE, (shown.end - shown.time) / 2)
    if seen.last_due is not None and shown.shift <= 0 and seen.last_due - (shown.time - shown.shift) > tolerance:
        return f"{breaks_off}, expected another picture at {seen.last_due + shown.shift:.3f} s; it is damaged there"
    reached = seen.reached if container.format.name == "yuv4mpegpipe" else None
    if reached is not None and size_of(medium) - reached > len("FRAME\n"):
        return f"{breaks_off}, in the middle of a picture; it was cut or is still being written"
    if is_cut(medium, container.format.name):
        return f"{breaks_off}, before its container ends; it was cut or is still being written"
    for index, (first, last) in seen.others.items():
        if last - end > max(MUCH, shown.longest) and first - end > -MUCH:
            return (
                f"its video stream ends at {shown.end:.3f} s; another one (number {index}) goes on from {first:.3f} to "
                f"{last:.3f} s and was left out; if it is the same recording, remux the file"
            )
    return None


def _promised_end(container: InputContainer, stream: VideoStream, seen: Seen, end: float, *, is_file: bool) -> float:
    """Return the end of the video in seconds, by its last packet and its header.

    A track of mp4 with an index states its duration. Matroska and FLV state that of the longest track, which counts unless
    another track reached it. In a pipe FFmpeg writes the duration of its source there, even if it sends only a part.
    """
    promised = end if seen.video_end is None else max(end, seen.video_end)
    names = container.format.name.split(",")
    if "mov" in names and stream.frames and stream.duration is not None and stream.time_base is not None:
        return max(promised, float((stream.duration + (stream.start_time or 0)) * stream.time_base))
    if is_file and {"matroska", "flv"} & set(names) and container.duration is not None and seen.any_end is not None:
        whole = container.duration / av.time_base
        return max(promised, end + whole - max(end, seen.any_end))
    return promised
