"""Frames of a video -> chunks that the network sees at once."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np

from ig65m.errors import VideoError
from ig65m.models.aligner_plan import EDGE, WINDOW
from ig65m.types import Clip, ClipSpan, Preprocessing
from ig65m.video.sample import Sample
from ig65m.video.sampling import Sampling

FRAME_STEP: Final = 2
"""Frames from one that the network sees to the next."""

PIXELS: Final = Preprocessing(
    resize=(EDGE, EDGE), crop=(EDGE, EDGE), mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0), resampling="area"
)
"""How frames are resized for the network: the whole frame, whatever its aspect ratio."""

SAMPLING: Final = Sampling(frames=WINDOW, frame_step=FRAME_STEP, stride=(WINDOW - 1) * FRAME_STEP)
"""Which frames are resized: every second one."""


@dataclass(frozen=True, kw_only=True)
class ChunkSpan(ClipSpan):
    """Where a chunk is in its video, and what its frames were."""

    times: tuple[float, ...]  # of its real frames, in seconds; at most WINDOW
    aspect: float  # width divided by height of the frames before they were resized
    joined: bool  # whether its first frame is the last one of the chunk before


def chunks_of(samples: Generator[Sample, None, None]) -> Generator[Clip, None, None]:
    """Yield chunks of WINDOW frames from samples as SAMPLING says; the last frame of a chunk is the first one of the next.

    A chunk ends early where frames are lost, where the shape of the picture changes, and at the end of the video; its last
    frame is then repeated. An error that ends the samples is raised after the last chunk.
    """
    failure: VideoError | None = None
    held: list[tuple[int, Sample]] = []
    joined = False

    def numbered() -> Iterator[tuple[int, Sample]]:
        nonlocal failure
        try:
            yield from enumerate(samples)
        except VideoError as error:
            failure = error

    with closing(samples):
        for number, sample in numbered():
            changed = held and sample.shape is not None and sample.shape != held[-1][1].shape
            if held and (sample.lost or sample.lost_before or changed):
                yield _chunk(held, joined=joined)
                held, joined = [], False
            if sample.pixels is None:
                continue
            held.append((number, sample))
            if len(held) == WINDOW:
                yield _chunk(held, joined=joined)
                held, joined = held[-1:], True
        if held and not (joined and len(held) == 1):
            yield _chunk(held, joined=joined)
    if failure is not None:
        raise failure


def _chunk(held: list[tuple[int, Sample]], *, joined: bool) -> Clip:
    pictures = [sample.pixels for _, sample in held if sample.pixels is not None]
    pictures += pictures[-1:] * (WINDOW - len(pictures))
    first, last = held[0], held[-1]
    assert first[1].shape is not None, "a sample with pixels has the shape of its frame"
    height, width = first[1].shape
    times = tuple(sample.time for _, sample in held)
    span = ClipSpan(first[1].time, last[1].end, first[0], last[0])
    whole = ChunkSpan(**vars(span), times=times, aspect=width / height, joined=joined)
    return Clip(np.stack(pictures).astype(np.uint8, copy=False), whole)
