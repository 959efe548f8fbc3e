"""Presentation times of pictures from timestamps that may be missing or wrong."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

NEW_TIMELINE = 1.0
"""Seconds that times must jump back to start another recording, unless a key frame starts one."""


class Stamped(Protocol):
    """A picture or a lost picture, with timestamps and duration in the stream's time base."""

    @property
    def pts(self) -> int | None: ...

    @property
    def dts(self) -> int | None: ...

    @property
    def duration(self) -> int: ...


@dataclass
class Clock:
    """Computes the presentation time of each picture in turn, in seconds; times never go back.

    A picture's timestamp is its presentation time. Its decoding time is used if that is missing, or if presentation times went
    back more often than decoding times. Source: FFmpeg's guess_correct_pts.

    period: duration of the last picture. shift: seconds added to all times.
    """

    time_base: Fraction
    period: float
    shift: float = 0.0
    last: float | None = None
    _last_pts: int | None = None
    _last_dts: int | None = None
    _disorder: int = 0  # how often presentation times did not grow, minus how often decoding times did not

    def start_at(self, dts: int, first: Stamped) -> None:
        """Correct the times of AVI, which has decoding times only: a decoder that reorders outputs its first picture some
        packets late.
        """
        late = first.dts if first.pts is None else first.pts
        if late is not None:
            self.shift = float((dts - late) * self.time_base)

    def begin_anew(self, picture: Stamped) -> None:
        """Continue the times of this recording with the first picture of another one, appended with times of its own."""
        stamp = picture.dts if picture.pts is None else picture.pts
        self._last_pts, self._last_dts, self._disorder = None, None, 0
        if stamp is not None and self.last is not None:
            self.shift = self.last + self.period - float(stamp * self.time_base)

    def stamp(self, picture: Stamped) -> int | None:
        """Return the picture's timestamp in units of `time_base`. Must be called once for each picture."""
        pts, dts = picture.pts, picture.dts
        if pts is not None:
            self._disorder += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        if dts is not None:
            self._disorder -= self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        return dts if pts is None or (self._disorder > 0 and dts is not None) else pts

    def time(self, picture: Stamped) -> float:
        stamp = self.stamp(picture)
        follows = 0.0 if self.last is None else self.last + self.period
        time = follows if stamp is None else float(stamp * self.time_base) + self.shift
        if self.last is not None:
            if self.last - time >= NEW_TIMELINE:
                self.shift += follows - time
                time = follows
            time = max(time, self.last)
        if picture.duration > 0:
            self.period = float(picture.duration * self.time_base)
        elif self.last is not None and time > self.last:
            self.period = time - self.last
        self.last = time
        return time
