"""Whether a video that ended without an error is whole, for FFmpeg reads most files that were cut like whole ones."""

from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from ig65m.video.integrity.container import is_cut
from ig65m.video.packets import Seen

TOLERANCE = 0.002
"""Seconds by which a packet's time and its picture's may differ; never more than half of what a picture lasts."""

MUCH = 0.5
"""Seconds that another video stream must go on after the end of this one, and may start before that, to be its continuation."""


@dataclass(frozen=True)
class Shown:
    """The last picture's time and end, what was added to the stream's own times for them, and the longest a picture lasted."""

    time: float
    end: float
    shift: float
    longest: float


def missing_end(path: Path, container: InputContainer, stream: VideoStream, seen: Seen, shown: Shown) -> str | None:
    """Say why the video should go on after what was shown; None if nothing tells that it should."""
    end = shown.end - min(shown.shift, 0.0)
    promised = _promised_end(container, stream, seen, end)
    breaks_off = f"breaks off at {shown.end:.3f} s"
    if promised - end > max(0.25, min(1.0, promised * 0.05), shown.longest):
        return f"{breaks_off}, expected {promised:.3f} s; it was cut or is still being written"
    tolerance = min(TOLERANCE, (shown.end - shown.time) / 2)
    if seen.last_due is not None and shown.shift <= 0 and seen.last_due - (shown.time - shown.shift) > tolerance:
        return f"{breaks_off}, expected one more picture at {seen.last_due + shown.shift:.3f} s; it is damaged there"
    reached = seen.reached if container.format.name == "yuv4mpegpipe" else None
    if reached is not None and path.stat().st_size - reached > len("FRAME\n"):
        return f"{breaks_off}, in the middle of a picture; it was cut or is still being written"
    if is_cut(path, container.format.name):
        return f"{breaks_off}, and so does the file, before its container ends; it was cut or is still being written"
    for index, (first, last) in seen.others.items():
        if last - end > max(MUCH, shown.longest) and first - end > -MUCH:
            return (
                f"its video stream ends at {shown.end:.3f} s; another one (number {index}) goes on from {first:.3f} to "
                f"{last:.3f} s and was left out; if it is the same recording, remux the file"
            )
    return None


def _promised_end(container: InputContainer, stream: VideoStream, seen: Seen, end: float) -> float:
    """When the video should end, in seconds: after its last packet, and where its header says so.

    A track of mp4 that has an index says how long it is. Matroska and FLV say how long the longest track is; that counts
    for the video as far as no other track reached it.
    """
    promised = end if seen.video_end is None else max(end, seen.video_end)
    names = container.format.name.split(",")
    if "mov" in names and stream.frames and stream.duration is not None and stream.time_base is not None:
        return max(promised, float((stream.duration + (stream.start_time or 0)) * stream.time_base))
    if {"matroska", "flv"} & set(names) and container.duration is not None and seen.any_end is not None:
        whole = container.duration / av.time_base
        return max(promised, end + whole - max(end, seen.any_end))
    return promised
