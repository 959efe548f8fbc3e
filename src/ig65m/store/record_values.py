"""Checks of values in a record that was read as JSON; each raises ValueError, LookupError or TypeError if one is invalid."""

import json
import re
from math import isfinite
from typing import Any, Final, get_args

from ig65m.errors import check_choice
from ig65m.types import Failure, Status

_SHA256: Final = re.compile("[0-9a-f]{64}")


def parsed(text: str) -> Any:
    """Parse JSON, without the numbers that JSON does not have. Raises ValueError or RecursionError."""
    return json.loads(text, parse_constant=_no_constant)


def text_value(value: Any) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected a text, got {value!r:.80}")
    return value


def number_value(value: Any) -> float:
    """Return a finite number."""
    if type(value) not in (int, float) or not isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r:.80}")
    return float(value)


def probability(value: Any) -> float:
    """Return a number from 0 to 1."""
    if not 0 <= (number := number_value(value)) <= 1:
        raise ValueError(f"expected a number from 0 to 1, got {number}")
    return number


def list_value(value: Any) -> list[Any]:
    """Return a list."""
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {value!r:.80}")
    return value


def sha256_value(value: Any) -> str:
    """Return a digest."""
    if not isinstance(value, str) or _SHA256.fullmatch(value) is None:
        raise ValueError(f"expected a sha256 of 64 hexadecimal digits, got {value!r:.80}")
    return value


def status_value(status: Any, error: Any) -> tuple[Status, Failure | None]:
    """Return the status of a video and its error, which fit each other."""
    check_choice("status", status, get_args(Status))
    if (status == "ok") != (error is None):
        raise ValueError(f"status {status!r} and error {error!r:.80} contradict each other")
    return status, None if error is None else _failure(error)


def _failure(record: Any) -> Failure:
    last = record["last_good_time"]
    gaps = [[number_value(time) for time in gap] for gap in record.get("gaps", [])]
    if any(len(gap) != 2 for gap in gaps):
        raise ValueError("a gap must be a start and an end")
    time = None if last is None else number_value(last)
    return Failure(text_value(record["stage"]), text_value(record["message"]), time, tuple((gap[0], gap[1]) for gap in gaps))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
