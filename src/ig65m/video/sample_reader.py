"""Sampled frames of a video, resized: what clips are made of."""

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

from ig65m.errors import UsageError, VideoError
from ig65m.types import Frames, Limits, Preprocessing
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.live import read_live
from ig65m.video.reader import read_frames
from ig65m.video.sample import Pixels, Sample, name_of
from ig65m.video.sampling import TOLERANCE, Sampling, is_within, needed, samples
from ig65m.video.stream import Stream
from ig65m.video.stream_clips import recordings
from ig65m.video.stream_reader import read_pipe
from ig65m.video.transforms import Scaler, to_pixels

MOST_GAPS: Final = 1000
"""Most gaps in a video; after more, the rest of it is given up."""


def read_samples(
    source: Path | str | Frames | Stream,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    image_fps: float = 25.0,
    beside: Preprocessing | None = None,
    limits: Limits | None = None,
    on_frame: Callable[[Frame | LostFrame], None] | None = None,
    on_wait: Callable[[], None] | None = None,
    on_news: Callable[[str], None] | None = None,
) -> Generator[Sample, None, None]:
    """Yield the samples of a video file, a folder of images (`image_fps` frames a second), frames in memory or a stream.

    Each frame is decoded and resized once, however many clips contain it. With `beside`, samples carry a second, smaller
    picture of each frame with pixels. `on_frame` is called with each decoded frame; `on_wait` while a stream gives nothing, and
    `on_news` with a line when its connection is lost. Each recording in a stream is sampled by itself.

    Raises VideoError if nothing can be read, or after the last sample if the video breaks off, frames between start and end
    were lost, or whole pictures change their size. Raises UsageError if no frame lies between start and end.
    """
    limits = limits or Limits()
    if isinstance(source, Stream) and source.pipe is not None:
        frames = read_pipe(source, limits, on_wait)
    elif isinstance(source, Stream):
        frames = read_live(source, limits, on_wait, on_news)
    else:
        start = None if sampling.start is None else sampling.start - TOLERANCE
        frames = read_frames(source, image_fps=image_fps, start=start, limits=limits)
    noted = _Noted(frames, sampling, on_frame, endless=isinstance(source, Stream) and source.prompt)
    scaler, second = Scaler(), Scaler()
    resized: tuple[Frame, Pixels, Pixels | None] | None = None
    shown = -math.inf
    with closing(frames):
        try:
            for number, frame in _numbered(noted, sampling, limits.frames, apart=isinstance(source, Stream)):
                pixels = small = shape = None
                if number == 0:
                    resized = None  # pictures of another recording may have another size
                if isinstance(frame, Frame) and needed(number, sampling):
                    if resized is None or resized[0] is not frame:
                        also = None if beside is None else to_pixels(frame, beside, second)
                        before = resized
                        resized = frame, to_pixels(frame, preprocessing, scaler), also
                        if before is not None and before[1].shape != resized[1].shape:
                            raise VideoError(_size_changes(before[1], resized[1], frame.time), last_good_time=frame.time)
                    _, pixels, small = resized
                    shape = frame.shape
                is_lost, lost_before = isinstance(frame, LostFrame), number > 0 and noted.lost_between(shown, frame.time)
                begins = number == 0 and shown > -math.inf
                yield Sample(frame.time, frame.end, pixels, is_lost, lost_before, small, shape, begins)
                shown = frame.time
        except VideoError as error:
            named = error is noted.error  # from the reader, which names the video
            message = str(error) if named else f"{name_of(source)}: {error}"
            raise noted.with_gaps(message, name_of(source), error.last_good_time) from error
    if shown == -math.inf:
        raise UsageError(_nothing_within(source, sampling, noted.first, noted.last))
    if noted.gaps:
        raise noted.with_gaps("", name_of(source), noted.last_good)


def _numbered(noted: "_Noted", sampling: Sampling, most: int, *, apart: bool) -> Iterator[tuple[int, Frame | LostFrame]]:
    """Yield the samples with their numbers; with `apart`, each recording is sampled and numbered by itself."""
    for part in recordings(noted) if apart else [noted]:
        chosen = samples(part, sampling, most=most)
        yield from enumerate(chosen if sampling.last is None else islice(chosen, sampling.last + 1))
        if sampling.end is not None and noted.last is not None and noted.last.time >= sampling.end - TOLERANCE:
            return


class _Noted:
    """Passes frames on, and records facts for error messages."""

    def __init__(
        self,
        frames: Iterable[Frame | LostFrame],
        sampling: Sampling,
        on_frame: Callable[[Frame | LostFrame], None] | None,
        *,
        endless: bool,
    ) -> None:
        """`endless`: only the latest gaps are kept."""
        self._endless = endless
        self._frames, self._sampling, self._on_frame = frames, sampling, on_frame
        self.first: Frame | LostFrame | None = None
        self.last: Frame | LostFrame | None = None
        self.last_good: float | None = None
        self.error: VideoError | None = None
        self.gaps: list[tuple[float, float]] = []
        self.reasons: list[str] = []
        self._lost: list[float] = []  # times of lost frames that no sample has reached

    def __iter__(self) -> Iterator[Frame | LostFrame]:
        try:
            for frame in self._frames:
                self.first = self.first or frame
                self.last = frame
                if isinstance(frame, Frame):
                    self.last_good = frame.end
                elif is_within(frame, self._sampling):
                    self._note_lost(frame)
                if self._on_frame is not None:
                    self._on_frame(frame)
                yield frame
        except VideoError as error:
            self.error = error
            raise

    def _note_lost(self, frame: LostFrame) -> None:
        self._lost.append(frame.time)
        if self.gaps and frame.time <= self.gaps[-1][1]:
            self.gaps[-1] = self.gaps[-1][0], frame.end
        elif len(self.gaps) == MOST_GAPS and not self._endless:
            raise VideoError(f"damaged in more than {MOST_GAPS} places", last_good_time=self.last_good)
        else:
            self.gaps.append((frame.time, frame.end))
            self.reasons.append(frame.reason)
            del self.gaps[:-MOST_GAPS], self.reasons[:-MOST_GAPS]

    def lost_between(self, before: float, time: float) -> bool:
        """Return whether frames between two times are lost. Times must increase from call to call."""
        passed = [lost for lost in self._lost if lost <= time]
        self._lost = self._lost[len(passed) :]
        return any(before < lost < time for lost in passed)

    def with_gaps(self, message: str, name: str, last_good_time: float | None) -> VideoError:
        """Return the error for a video with these gaps that otherwise ended as the message says."""
        if self.last_good is None:
            return VideoError(message or f"{name}: no frame can be decoded ({self.reasons[0]})")
        listed = [
            f"{start:.3f} to {end:.3f} s ({reason})"
            for (start, end), reason in zip(self.gaps, self.reasons, strict=True)
            if not message or start < self.last_good
        ]
        if listed:
            more = f" and {len(listed) - 3} more parts" if len(listed) > 3 else ""
            lost = f"lost to damage: {', '.join(listed[:3])}{more}; clips that touch these parts are left out"
            message = f"{message}; before that, {lost}" if message else f"{name}: {lost}"
        return VideoError(message, last_good_time=last_good_time, gaps=self.gaps)


def _size_changes(before: Pixels, after: Pixels, time: float) -> str:
    sizes = " to ".join(f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (before, after))
    return (
        f"the size of its whole pictures changes from {sizes} at {time:.3f} s, and clips have one size; "
        "use a --preprocessing with a crop to read it all"
    )


def _nothing_within(
    source: Path | str | Frames | Stream, sampling: Sampling, first: Frame | LostFrame | None, last: Frame | LostFrame | None
) -> str:
    asked = f"from {'its beginning' if sampling.start is None else f'{sampling.start} s'}"
    asked += f" to {'its end' if sampling.end is None else f'{sampling.end} s'}"
    if sampling.end is not None and first is not None and first.time >= sampling.end:
        return f"{name_of(source)}: no frame {asked}: its first frame is at {first.time:.3f} s"
    if sampling.start is not None and last is not None and last.end <= sampling.start + TOLERANCE:
        return f"{name_of(source)}: no frame {asked}: its frames end at {last.end:.3f} s"
    return f"{name_of(source)}: no frame starts {asked}; give a longer range"
