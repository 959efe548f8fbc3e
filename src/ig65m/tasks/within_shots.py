"""How clips are kept within shots: shots that are found on the way, or those of a folder of `ig65m shots`."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ig65m.engines.choice import Choice
from ig65m.errors import UsageError, VideoError
from ig65m.shots.boundaries import THRESHOLD
from ig65m.shots.detect import PIXELS, number_samples
from ig65m.shots.folder import ShotFolder
from ig65m.shots.network import load_network
from ig65m.tasks.shots import shot_settings
from ig65m.types import Frames, Limits, Segment
from ig65m.video.sample import Sample, name_of
from ig65m.video.shot_clips import Numbered, WithinShots


@dataclass(frozen=True)
class ShotSource:
    """Where the shots of videos come from, and all that they depend on besides the video."""

    within: WithinShots
    settings: dict[str, Any]


def shot_source(shots: bool | str | os.PathLike[str], choice: Choice, limits: Limits, *, has_range: bool) -> ShotSource | None:
    """Return where shots come from: found on the way for True, read from a folder for a path, None for False.

    Raises UsageError if the weights are not installed, if it is not a folder of shots, and for a folder if the videos are read
    from a start or to an end.
    """
    if isinstance(shots, bool):
        return _found(choice, limits) if shots else None
    if not isinstance(shots, str | os.PathLike):
        raise UsageError(f"within_shots must be True, False or a folder of shots, got {shots!r:.60}")
    folder = Path(shots)
    if has_range:
        raise UsageError(f"the shots in {folder} are those of whole videos; leave start and end out, or the folder")
    known = ShotFolder(folder)

    def number(source: object, samples: Iterable[Sample]) -> Iterator[Numbered]:
        return _numbered(known, source, samples)

    return ShotSource(WithinShots(number, most=limits.frames), known.settings)


def _found(choice: Choice, limits: Limits) -> ShotSource:
    network = load_network(choice)

    def number(source: object, samples: Iterable[Sample]) -> Iterator[Numbered]:
        return number_samples(name_of(source), samples, network.probabilities, THRESHOLD)

    return ShotSource(WithinShots(number, PIXELS, limits.frames), shot_settings(network.sha256, THRESHOLD))


def _numbered(known: ShotFolder, source: object, samples: Iterable[Sample]) -> Iterator[Numbered]:
    """Yield the samples with the numbers of the shots in a folder."""
    if isinstance(source, Frames):
        raise UsageError(f"frames in memory have no shots in {known.folder}; pass within_shots=True")
    if isinstance(source, Segment) and (source.start is not None or source.end is not None):
        raise UsageError(f"{source}: the shots in {known.folder} are those of whole videos; give the whole video")
    name = name_of(source)
    found = known.read(name)
    shots = enumerate(found.shots)
    number, shot = next(shots, (0, None))
    for frame, sample in enumerate(samples):
        if frame >= found.frames and not sample.lost:
            until = f"its shots in {known.folder} are known up to {sample.time:.3f} s only"
            raise VideoError(f"{name}: {until}; {known.command(name)}", last_good_time=sample.time)
        while shot is not None and frame > shot.last_frame:
            number, shot = next(shots, (0, None))
        yield sample, number if shot is not None and frame >= shot.first_frame else None
