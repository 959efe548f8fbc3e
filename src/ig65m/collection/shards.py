"""Shards: shares of many videos with equal playing time, the same on every machine."""

import re
from collections.abc import Sequence
from typing import Final

from ig65m.errors import UsageError, VideoError
from ig65m.types import Limits, Segment
from ig65m.video.isolation import Decoder

MAX_SHARDS: Final = 100_000
LEAST: Final = 0.1  # seconds that a video counts at least


def parse_shard(text: str) -> tuple[int, int]:
    """Parse "3/16" to (3, 16). Raises UsageError for anything else."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= MAX_SHARDS:
        raise UsageError(f"a shard must be K/N with K from 1 to N, N at most {MAX_SHARDS:,}, such as 3/16; got {text!r}")
    return int(match[1]), int(match[2])


def share(videos: Sequence[Segment], number: int, count: int, *, image_fps: float, limits: Limits) -> list[Segment]:
    """Return share `number` (from 1) of `count`: each video, the longest first, goes to the share that is shortest so far.

    Durations are those in the files' headers.
    """
    with Decoder(limits) as decoder:
        lengths = {video: _length(video, decoder, image_fps) for video in videos}
    sums = [(0.0, each) for each in range(count)]
    mine = set()
    for video in sorted(videos, key=lambda video: (-lengths[video], str(video))):
        shortest = min(sums)
        sums[shortest[1]] = (shortest[0] + lengths[video], shortest[1])
        if shortest[1] == number - 1:
            mine.add(video)
    return [video for video in videos if video in mine]


def _length(video: Segment, decoder: Decoder, image_fps: float) -> float:
    if video.starts is not None:
        return float(max(1, len(video.starts)))
    try:
        length = decoder.read_duration(video.path, image_fps=image_fps)
    except (VideoError, OSError):
        length = 0.0
    end = length if video.end is None else min(video.end, length)
    return max(LEAST, end - (video.start or 0.0))
