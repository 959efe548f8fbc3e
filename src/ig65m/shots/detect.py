"""Frames -> probabilities of transitions -> shots, one window after the other."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import VideoError
from ig65m.models.transnetv2_plan import CONTEXT, COUNTED, HEIGHT, WIDTH
from ig65m.shots.boundaries import shot_numbers
from ig65m.shots.flashes import flash_frames
from ig65m.types import Preprocessing
from ig65m.video.sample import Pixels, Sample
from ig65m.video.shot_clips import Numbered

PIXELS: Final = Preprocessing(
    resize=(HEIGHT, WIDTH), crop=(HEIGHT, WIDTH), mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0), resampling="bicubic"
)
"""How frames are resized for TransNetV2."""

MOST_HELD: Final = 1 << 30
"""Most bytes of frames that wait for the number of their shot."""

Scores = tuple[float, float]


def frame_scores(
    frames: Iterable[Pixels], probabilities: Callable[[NDArray[np.uint8]], NDArray[np.float64]]
) -> Iterator[Scores]:
    """Yield both probabilities of each frame (27, 48, 3): to be the middle of a transition, and to be part of one.

    `probabilities` is that of a `ShotNetwork`. Windows overlap by half, and the first and last frame are repeated beyond the
    ends of the video. A frame's probabilities come at most 75 frames late.
    """
    held: list[Pixels] = []  # frames from number `first` on
    first = start = 0  # `start`: first frame of the next window that counts

    def window() -> NDArray[np.float64]:
        numbers = np.arange(start - CONTEXT, start + COUNTED + CONTEXT).clip(0, first + len(held) - 1) - first
        return probabilities(np.stack([held[number] for number in numbers]))[CONTEXT : CONTEXT + COUNTED]

    for frame in frames:
        held.append(frame)
        if first + len(held) == start + COUNTED + CONTEXT:
            yield from map(_pair, window())
            start += COUNTED
            unneeded = max(0, start - CONTEXT - first)
            del held[:unneeded]
            first += unneeded
    count = first + len(held)
    while start < count:
        yield from map(_pair, window()[: count - start])
        start += COUNTED


def transition_scores(
    frames: Iterable[Pixels], probabilities: Callable[[NDArray[np.uint8]], NDArray[np.float64]]
) -> Iterator[tuple[float, float, float]]:
    """Yield both probabilities of each frame as `frame_scores`, and the one that decides whether it is the middle of a
    transition, which is 0 in a flash.
    """
    seen, also_seen = tee(frames)
    for (middle, part), is_flash in zip(frame_scores(seen, probabilities), flash_frames(also_seen), strict=True):
        yield middle, part, 0.0 if is_flash else middle


def _pair(row: NDArray[np.float64]) -> Scores:
    return float(row[0]), float(row[1])


def good_frames(samples: Iterable[Sample], pixels: Callable[[Sample], Pixels | None]) -> Iterator[tuple[Sample, Pixels]]:
    """Yield the samples with their pixels; a lost one has those of the sample before it, at the start those of the next.

    Lost samples at the end are left out: the video ends with its last good one.
    """
    lost: list[Sample] = []
    shown: Pixels | None = None
    for sample in samples:
        picture = pixels(sample)
        if picture is None:
            lost.append(sample)
            continue
        yield from ((each, picture if shown is None else shown) for each in lost)
        lost, shown = [], picture
        yield sample, picture


def number_samples(
    name: str, samples: Iterable[Sample], probabilities: Callable[[NDArray[np.uint8]], NDArray[np.float64]], threshold: float
) -> Iterator[Numbered]:
    """Yield each sample with the number of its shot, found from its second picture, `beside`.

    Raises VideoError if a transition at the start of the video `name` is so long that its frames would exhaust the memory.
    """
    waiting: deque[Sample] = deque()
    held = 0

    def frames() -> Iterator[Pixels]:
        nonlocal held
        for sample, picture in good_frames(samples, lambda each: each.beside):
            waiting.append(sample)
            held += 0 if sample.pixels is None else sample.pixels.nbytes
            if held > MOST_HELD:
                raise VideoError(f"{name}: its first {len(waiting)} frames are one transition; raise the threshold of shots")
            yield picture

    decisive = (decisive for _, _, decisive in transition_scores(frames(), probabilities))
    for shot in shot_numbers(decisive, threshold):
        sample = waiting.popleft()
        held -= 0 if sample.pixels is None else sample.pixels.nbytes
        yield sample, shot
