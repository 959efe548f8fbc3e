"""Camera motion in words: "3.2 to 5.0 s pan right at 14 %/s with slow zoom in"."""

from math import expm1
from typing import Final

from ig65m.types import MotionSegment, Move

_FASTEST: Final = 500.0  # of a zoom; the magnification of a faster one is no float
LIKELY: Final = 0.5  # probability above which shake and a cut are mentioned
CERTAIN: Final = 0.8  # the same for parallax; its calibration assumes that half of all moves show it, which is too many

# Speeds below which a move is slow, in the units of `Speeds`. A pan of 5 % takes 20 seconds to cross the picture. Zoom and roll
# are slow if they move the middle of the picture's left and right edges by less than 2.5 % of its width a second.
SLOW: Final = {"pan": 0.05, "tilt": 0.05, "zoom": 0.05, "roll": 3.0}


def describe_segment(segment: MotionSegment) -> str:
    """Return its times, and what `describe_moves` says of it."""
    digits = 1 if segment.end - segment.start >= 0.1 else 2
    return f"{segment.start:.{digits}f} to {segment.end:.{digits}f} s {describe_moves(segment)}"


def describe_moves(segment: MotionSegment) -> str:
    """Return moves and what comes with them. The first move has its speed, the others if they are not slow."""
    if not segment.moves:
        return _without_moves(segment)
    first, *others = segment.moves
    more = [_move(move, speed=not is_slow(move)) for move in others]
    more += ["handheld shake"] if segment.shake > LIKELY else []
    more += ["parallax"] if segment.parallax > CERTAIN else []
    text = _move(first, speed=True)
    if more:
        *before, last = more
        text += f" with {', '.join(before)} and {last}" if before else f" with {last}"
    return f"{text}, cut" if segment.cut > LIKELY else text


def is_slow(move: Move) -> bool:
    """Return whether a move is slower than SLOW."""
    return move.speed < SLOW[_kind(move)]


def percent_a_second(zoom: float) -> float:
    """Return by how many percent a zoom enlarges the picture in a second; negative if it shrinks."""
    return 100 * expm1(min(zoom, _FASTEST))


def _without_moves(segment: MotionSegment) -> str:
    if segment.cut > LIKELY:
        return "cut"
    return "handheld shake" if segment.shake > LIKELY else "static"


def _move(move: Move, *, speed: bool) -> str:
    words = f"{'slow ' if is_slow(move) else ''}{move.move.replace('_', ' ')}"
    return f"{words} at {_speed(move)}" if speed else words


def _speed(move: Move) -> str:
    kind = _kind(move)
    if kind == "roll":
        return f"{_rounded(move.speed)} °/s"
    if kind == "zoom":
        return f"{_rounded(abs(percent_a_second(move.speed if move.move == 'zoom_in' else -move.speed)))} %/s"
    return f"{_rounded(100 * move.speed)} %/s"


def _rounded(value: float) -> str:
    """Format a number with two digits, or to an integer if it is longer."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def _kind(move: Move) -> str:
    return move.move.partition("_")[0]
