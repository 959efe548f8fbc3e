"""Camera motion as JSON: of `ig65m motion --json`, of a folder's records, and as rows of a table. Records are validated."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, Final

from ig65m.errors import check_choice
from ig65m.motion.clip_motion import MOVES
from ig65m.store.record_folder import Kind, Record, record_head, record_text
from ig65m.store.record_values import list_value, number_value, probability, sha256_value, text_value
from ig65m.types import CameraMotion, ClipMotion, MotionSegment, Move, Speeds
from ig65m.zoo.labels import built_in

LABELS: Final = built_in("camera_motion")
SPEEDS: Final = ("pan", "tilt", "zoom", "roll")
PROBABILITIES: Final = ("static", "shake", "cut", "parallax")

_SLACK: Final = 1e-6  # seconds by which times may be out of order, since they are sums


def video_values(motion: CameraMotion) -> dict[str, Any]:
    """Return the camera motion of a video as JSON values."""
    return {
        "path": motion.path,
        "status": motion.status,
        "error": None if motion.error is None else motion.error.to_record(),
        "segments": [asdict(segment) | {"moves": list(map(asdict, segment.moves))} for segment in motion.segments],
        "clips": [clip_values(clip) for clip in motion.clips],
    }


def clip_values(clip: ClipMotion) -> dict[str, Any]:
    """Return a clip as JSON values; its speeds stand beside its times."""
    values = asdict(clip)
    return {"start": values.pop("start"), "end": values.pop("end"), **values.pop("speeds"), **values}


def clip_row(path: str, clip: ClipMotion) -> dict[str, Any]:
    """Return a clip as a row of a table, all standard deviations in columns of their own."""
    row = {"path": path, **clip_values(clip)}
    sigma = {f"sigma_{name}": value for name, value in row.pop("sigma").items()}
    return {name: row.pop(name) for name in ("path", "start", "end", *SPEEDS)} | sigma | row


def to_json(record: Record[CameraMotion]) -> str:
    """Return the record as JSON, with a line for each segment and each clip."""
    values = video_values(record.result)
    return record_text(record, {}, {name: values[name] for name in ("segments", "clips")})


def from_json(text: str) -> Record[CameraMotion]:
    """Parse a record. Raises ValueError, LookupError, TypeError or RecursionError if it is invalid."""
    values, head = record_head(text, "segments", "clips")
    segments, clips = tuple(map(_segment, values["segments"])), tuple(map(_clip, values["clips"]))
    for before, segment in pairwise(segments):
        if segment.start < before.end - _SLACK:
            raise ValueError(f"segments must follow each other, got one from {segment.start} s after one to {before.end} s")
    for earlier, clip in pairwise(clips):
        if clip.start < earlier.start - _SLACK:
            raise ValueError(f"clips must be in order, got one from {clip.start} s after one from {earlier.start} s")
    if head.status == "failed" and (segments or clips):
        raise ValueError("status 'failed', but there are segments or clips")
    settings = check_settings(values["settings"])
    return Record(CameraMotion(head.path, head.status, segments, clips, settings, head.error), head.content)


def check_settings(settings: Any) -> dict[str, Any]:
    """Return all settings. Raises ValueError, LookupError or TypeError if network or sha256 is missing or invalid."""
    return {**settings, "network": text_value(settings["network"]), "sha256": sha256_value(settings["sha256"])}


def _clip(values: Any) -> ClipMotion:
    speeds = Speeds(*(number_value(values[name]) for name in SPEEDS))
    sigma = Speeds(*(_deviation(values["sigma"][name]) for name in SPEEDS))
    probabilities = _probabilities(values)
    check_choice("label", values["label"], LABELS)
    return ClipMotion(*_times(values), speeds, sigma, *probabilities, values["label"])


def _segment(values: Any) -> MotionSegment:
    moves = tuple(map(_move, list_value(values["moves"])))
    _check_moves(moves)
    return MotionSegment(*_times(values), moves, *_probabilities(values))


def _move(values: Any) -> Move:
    check_choice("move", values["move"], MOVES)
    speed = number_value(values["speed"])
    if speed < 0:
        raise ValueError(f"the speed of a move must be positive, got {speed}")
    return Move(values["move"], speed, _deviation(values["sigma"]))


def _check_moves(moves: Sequence[Move]) -> None:
    kinds = [move.move.partition("_")[0] for move in moves]
    if len({*kinds}) < len(kinds):
        raise ValueError(f"a segment has at most one pan, tilt, zoom and roll, got {[move.move for move in moves]}")


def _probabilities(values: Any) -> tuple[float, float, float, float]:
    static, shake, cut, parallax = (probability(values[name]) for name in PROBABILITIES)
    return static, shake, cut, parallax


def _times(values: Any) -> tuple[float, float]:
    start, end = number_value(values["start"]), number_value(values["end"])
    if end < start:
        raise ValueError(f"an end must not be before its start, got {start} s and {end} s")
    return start, end


def _deviation(value: Any) -> float:
    if (sigma := number_value(value)) < 0:
        raise ValueError(f"a standard deviation must not be negative, got {sigma}")
    return sigma


MOTION: Final = Kind("motion", "camera motion", "was estimated", check_settings, to_json, from_json)
