"""Record of a video's shots as JSON, and its validation."""

import json
import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, Final, get_args

from ig65m.errors import check_choice
from ig65m.types import Failure, Shot, ShotList, Status, Transition

LONGEST: Final = 256 << 20  # bytes of a record; two million shots

_SHA256: Final = re.compile("[0-9a-f]{64}")
_MOST_FRAMES: Final = 1 << 53


@dataclass(frozen=True)
class Record:
    """The shots of a video, and which content they belong to."""

    shots: ShotList
    content: str | None  # digest of the video; None if it could not be read

    def to_json(self) -> str:
        """Return the record as JSON, with a line for each shot."""
        shots = self.shots
        head = {
            "path": shots.path,
            "content": self.content,
            "status": shots.status,
            "error": None if shots.error is None else shots.error.to_record(),
            "settings": dict(shots.settings),
            "frames": shots.frames,
        }
        lines = ",\n".join(f"  {json.dumps(asdict(shot), allow_nan=False)}" for shot in shots.shots)
        return f'{json.dumps(head, allow_nan=False)[:-1]}, "shots": [\n{lines}\n]}}\n'

    @staticmethod
    def from_json(text: str) -> "Record":
        """Parse a record. Raises ValueError, LookupError, TypeError or RecursionError if it is invalid."""
        record = json.loads(text, parse_constant=_no_constant)
        path, content, error = _text(record["path"]), record["content"], record["error"]
        check_choice("status", record["status"], get_args(Status))
        if content is not None:
            _sha256(content)
        if (record["status"] == "ok") != (error is None):
            raise ValueError(f"status {record['status']!r} and error {error!r:.80} contradict each other")
        if not isinstance(record["shots"], list):
            raise TypeError(f"expected a list of shots, got {record['shots']!r:.80}")
        shots, frames = tuple(map(_shot, record["shots"])), _frame(record["frames"])
        _check_order(shots, frames)
        if not shots and record["status"] != "failed":
            raise ValueError(f"status {record['status']!r} without shots")
        failure = None if error is None else _failure(error)
        return Record(ShotList(path, record["status"], shots, check_settings(record["settings"]), failure, frames), content)


def check_settings(settings: Any) -> dict[str, Any]:
    """Return network, sha256 and threshold. Raises ValueError, LookupError or TypeError if one is missing or invalid."""
    threshold = _number(settings["threshold"])
    if not 0 < threshold < 1:
        raise ValueError(f"the threshold must be between 0 and 1, got {threshold}")
    return {"network": _text(settings["network"]), "sha256": _sha256(settings["sha256"]), "threshold": threshold}


def _shot(record: Any) -> Shot:
    score = record["score"]
    if score is not None and not 0 <= _number(score) <= 1:
        raise ValueError(f"a score must be from 0 to 1, got {score}")
    check_choice("transition", record["transition"], get_args(Transition))
    times = (_number(record["start"]), _number(record["end"]))
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


def _failure(record: Any) -> Failure:
    last = record["last_good_time"]
    gaps = [[_number(time) for time in gap] for gap in record.get("gaps", [])]
    if any(len(gap) != 2 for gap in gaps):
        raise ValueError("a gap must be a start and an end")
    time = None if last is None else _number(last)
    return Failure(_text(record["stage"]), _text(record["message"]), time, tuple((gap[0], gap[1]) for gap in gaps))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected a text, got {value!r:.80}")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r:.80}")
    return float(value)


def _frame(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MOST_FRAMES:
        raise ValueError(f"expected the number of a frame, got {value!r:.80}")
    return value


def _sha256(value: Any) -> str:
    if not isinstance(value, str) or _SHA256.fullmatch(value) is None:
        raise ValueError(f"expected a sha256 of 64 hexadecimal digits, got {value!r:.80}")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
