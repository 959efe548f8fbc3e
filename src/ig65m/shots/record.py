"""Record of a video's shots as JSON, and its validation."""

from dataclasses import asdict
from itertools import pairwise
from typing import Any, Final, get_args

from ig65m.errors import check_choice
from ig65m.store.record_folder import Kind, Record, record_head, record_text
from ig65m.store.record_values import number_value, probability, sha256_value, text_value
from ig65m.types import Shot, ShotList, Transition

_MOST_FRAMES: Final = 1 << 53


def to_json(record: Record[ShotList]) -> str:
    """Return the record as JSON, with a line for each shot."""
    shots = record.result
    return record_text(record, {"frames": shots.frames}, {"shots": [asdict(shot) for shot in shots.shots]})


def from_json(text: str) -> Record[ShotList]:
    """Parse a record. Raises ValueError, LookupError, TypeError or RecursionError if it is invalid."""
    values, head = record_head(text, "shots")
    shots, frames = tuple(map(_shot, values["shots"])), _frame(values["frames"])
    _check_order(shots, frames)
    if not shots and head.status != "failed":
        raise ValueError(f"status {head.status!r} without shots")
    settings = check_settings(values["settings"])
    return Record(ShotList(head.path, head.status, shots, settings, head.error, frames), head.content)


def check_settings(settings: Any) -> dict[str, Any]:
    """Return network, sha256 and threshold. Raises ValueError, LookupError or TypeError if one is missing or invalid."""
    threshold = number_value(settings["threshold"])
    if not 0 < threshold < 1:
        raise ValueError(f"the threshold must be between 0 and 1, got {threshold}")
    return {"network": text_value(settings["network"]), "sha256": sha256_value(settings["sha256"]), "threshold": threshold}


def _shot(record: Any) -> Shot:
    score = record["score"]
    if score is not None:
        probability(score)
    check_choice("transition", record["transition"], get_args(Transition))
    times = (number_value(record["start"]), number_value(record["end"]))
    frames = (_frame(record["first_frame"]), _frame(record["last_frame"]))
    if not (times[0] <= times[1] and frames[0] <= frames[1]):
        raise ValueError(f"a shot must not end before it starts, got {times} s, frames {frames}")
    return Shot(*times, *frames, record["transition"], score)


def _check_order(shots: tuple[Shot, ...], frames: int) -> None:
    if shots and not shots[-1].last_frame < frames:
        raise ValueError(f"the last shot ends with frame {shots[-1].last_frame}, but there are {frames} frames")
    if [shot.transition == "end" for shot in shots] != [number == len(shots) for number in range(1, len(shots) + 1)]:
        raise ValueError("the last shot, and no other, must have the transition 'end'")
    for before, shot in pairwise(shots):
        if not (before.end <= shot.start and before.last_frame < shot.first_frame):
            raise ValueError(f"shots must follow each other, got one from {shot.start} s after one to {before.end} s")
    if shots and not shots[0].start < shots[-1].end:
        raise ValueError("the shots of a video must last longer than 0 s")


def _frame(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MOST_FRAMES:
        raise ValueError(f"expected the number of a frame, got {value!r:.80}")
    return value


SHOTS: Final = Kind("shots", "shots", "were found", check_settings, to_json, from_json, suffixes=(".csv", ".edl"))
