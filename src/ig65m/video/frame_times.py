"""Times of decoded pictures: pictures -> frames."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Final

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from ig65m.errors import VideoError
from ig65m.types import Limits
from ig65m.video.clock import Clock
from ig65m.video.decoding import Damage, Decoded, Hole, Lost
from ig65m.video.frame import Frame, LostFrame, Orientations
from ig65m.video.integrity.truncation import Shown, missing_end
from ig65m.video.medium import Medium
from ig65m.video.packets import Seen

LONGEST_HOLE: Final = 3600.0
"""Longest damage in seconds that is filled with lost frames; a longer jump of times is a broken clock."""

ENOUGH: Final = 10
"""Number of frames from which on their mean distance is reliable."""


class Timing:
    """State of `frames`: the clock, and the frame whose end is not known yet."""

    def __init__(self, medium: Medium, container: InputContainer, stream: VideoStream, seen: Seen, limits: Limits) -> None:
        self.medium, self.container, self.stream, self.seen, self.limits = medium, container, stream, seen, limits
        self.rate = stream.average_rate or stream.guessed_rate
        self.clock = Clock(stream.time_base or Fraction(1, av.time_base), float(1 / self.rate) if self.rate else 0.0)
        self.orientations = Orientations()
        self.held: tuple[float, av.VideoFrame | Lost] | None = None
        self.begins = False  # whether the held frame is the first of another recording
        self.shown: tuple[float, float] | None = None  # time and end of the last picture
        self.longest = 0.0  # longest duration of a picture in seconds
        self.first = 0.0  # time of the first frame of the recording
        self.count = self.of_recording = 0  # number of frames so far
        self.hole: str | None = None  # why frames may be missing between the held one and the next

    def frames(self, decoded: Iterable[Decoded]) -> Iterator[Frame | LostFrame]:
        """Yield the frames. Raises VideoError after the last one if the video breaks off there."""
        failure: str | None = None
        try:
            for item in decoded:
                if isinstance(item, Hole):
                    self.hole = self.hole or item.reason
                    self.clock.shift += item.shift
                    continue
                if self.count >= self.limits.frames:
                    failure = f"is read: it has more than {self.limits.frames:,} frames; raise --max-frames to read it"
                    break
                yield from self._next(item)
        except Damage as damage:
            failure = f"can be decoded ({damage})"
        if self.held is not None:
            self.hole = None
            yield from self._until(self.held[0] + self.clock.period)
        self._judge(failure)

    def _next(self, item: av.VideoFrame | Lost) -> Iterator[Frame | LostFrame]:
        anew, is_seam = False, item.pts in self.seen.seams
        if isinstance(item, av.VideoFrame):
            is_first = self.shown is None and (self.held is None or isinstance(self.held[1], Lost))
            if is_first and self.container.format.name == "avi" and self.seen.entry is not None:
                self.clock.start_at(self.seen.entry, item)
            if self.seen.begins_anew:
                self.clock.begin_anew(item)
                anew, self.seen.begins_anew = True, False
        period = self.clock.period
        time = self.clock.time(item)
        if self.held is not None:
            until = time
            if is_seam or (self.hole is not None and time - self.held[0] > LONGEST_HOLE):
                self.hole, until = None, min(time, self.held[0] + period)
            yield from self._until(until)
        if self.held is None or anew:
            self.first, self.of_recording = time, 0
        self.held, self.begins = (time, item), self.count > 0 and (anew or is_seam)
        self.count += 1
        self.of_recording += 1
        if isinstance(item, av.VideoFrame):
            self.hole = None
        elif item.pts is None:  # its packet has no presentation time
            self.hole = self.hole or item.reason

    def _until(self, time: float) -> Iterator[Frame | LostFrame]:
        """Yield the held frame, which ends at `time`, and the frames missing between the two."""
        assert self.held is not None
        start, item = self.held
        missing = 0 if self.hole is None else self._missing(start, time)
        bounds = [*(start + number * (time - start) / (missing + 1) for number in range(1, missing + 1)), time]
        if isinstance(item, Lost):
            yield LostFrame(start, bounds[0], item.reason, self.begins)
        else:
            self.shown = start, bounds[0]
            self.longest = max(self.longest, bounds[0] - start)
            yield Frame(start, bounds[0], item, self.orientations.of(item), self.begins)
        for lost_start, lost_end in pairwise(bounds):
            yield LostFrame(lost_start, lost_end, self.hole or "")
        self.count += missing
        self.of_recording += missing

    def _missing(self, start: float, time: float) -> int:
        """Return the number of frames missing between two times, from the mean distance of the frames so far."""
        distance, usual = self.clock.period, float(1 / self.rate) if self.rate else 0.0
        if self.of_recording > ENOUGH and start > self.first:
            distance = (start - self.first) / (self.of_recording - 1)
        if abs(distance - usual) < 0.02 * usual:  # the stated rate is more exact than rounded times
            distance = usual
        count = round((time - start) / distance) - 1 if distance > 0 else 0
        return max(0, min(count, self.limits.frames - self.count))

    def _judge(self, failure: str | None) -> None:
        """Raise VideoError if the video should continue after its last frame."""
        if self.shown is None and self.seen.encrypted:
            raise VideoError(f"{self.medium}: its video is encrypted; decrypt it first")
        if self.shown is None:
            reason = failure or (f"can be decoded ({self.seen.skipped})" if self.seen.skipped else None)
            raise VideoError(
                f"{self.medium}: no frame of it {reason}" if reason else f"{self.medium}: its video stream has no frame"
            )
        time, end = self.shown
        if failure is not None:
            raise VideoError(f"{self.medium}: nothing after {end:.3f} s {failure}", last_good_time=end)
        shown = Shown(time, end, self.clock.shift, self.longest)
        missing = missing_end(self.medium, self.container, self.stream, self.seen, shown)
        if missing is not None:
            raise VideoError(f"{self.medium}: {missing}", last_good_time=end)
