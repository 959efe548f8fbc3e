"""Choose clips by an expression over their camera motion, such as `pan_right>0.05 and shake<0.3`.

    expression  = conjunction {"or" conjunction}
    conjunction = negation {"and" negation}
    negation    = "not" negation | "(" expression ")" | comparison
    comparison  = NAME order NUMBER | NUMBER order NAME
    order       = "<" | "<=" | ">" | ">="

NUMBER is decimal, with an optional sign, fraction and exponent: 0.05, -3, 1e-2. NAME is one of NAMES.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from operator import ge, gt, le, lt
from typing import Final, NoReturn

from ig65m.errors import UsageError, plain
from ig65m.types import ClipMotion

Keep = Callable[[ClipMotion], bool]

LONGEST: Final = 1000  # characters of an expression
DEEPEST: Final = 30  # parentheses and `not` within each other
TOUCH: Final = 1e-3  # seconds between two clips that still touch

# Signed speeds, and the speed in one direction, which is 0 if the camera moves in the other; units are those of `Speeds`.
_VALUES: Final[dict[str, Callable[[ClipMotion], float]]] = {
    "pan": lambda clip: clip.speeds.pan,
    "tilt": lambda clip: clip.speeds.tilt,
    "zoom": lambda clip: clip.speeds.zoom,
    "roll": lambda clip: clip.speeds.roll,
    "pan_right": lambda clip: max(0.0, clip.speeds.pan),
    "pan_left": lambda clip: max(0.0, -clip.speeds.pan),
    "tilt_up": lambda clip: max(0.0, clip.speeds.tilt),
    "tilt_down": lambda clip: max(0.0, -clip.speeds.tilt),
    "zoom_in": lambda clip: max(0.0, clip.speeds.zoom),
    "zoom_out": lambda clip: max(0.0, -clip.speeds.zoom),
    "roll_clockwise": lambda clip: max(0.0, clip.speeds.roll),
    "roll_counterclockwise": lambda clip: max(0.0, -clip.speeds.roll),
    "static": lambda clip: clip.static,
    "shake": lambda clip: clip.shake,
    "cut": lambda clip: clip.cut,
    "parallax": lambda clip: clip.parallax,
}
NAMES: Final = tuple(_VALUES)

_ORDERS: Final[dict[str, Callable[[float, float], bool]]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
_WORDS: Final = ("and", "or", "not")
_NUMBER: Final = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_TOKEN: Final = re.compile(
    rf"(?P<number>{_NUMBER})|(?P<name>[A-Za-z_]\w*)|(?P<sign>[<>]=?|[()])|(?P<other>[=!&|]+|.)", re.DOTALL
)


@dataclass(frozen=True)
class _Token:
    kind: str | None  # "number", "name", "sign", "other"; None at the end
    text: str
    place: int  # number of its first character, from 1


def compile_filter(text: str) -> Keep:
    """Return the function that an expression stands for; it is given a clip.

    Raises UsageError, which says what was found where, and what was expected, if the expression is invalid.
    """
    if len(text) > LONGEST:
        raise UsageError(f"the expression has {len(text):,} characters; expected at most {LONGEST:,}")
    return _Parser(text).parsed()


def selected_parts(clips: Iterable[ClipMotion], keep: Keep) -> list[tuple[float, float]]:
    """Return the parts of a video, start and end in seconds, that the selected clips cover, in order.

    Clips that overlap or touch make one part. Parts that no list can name, without duration or before 0 s, are left out.
    """
    parts: list[tuple[float, float]] = []
    for clip in sorted(filter(keep, clips), key=lambda clip: clip.start):
        if parts and clip.start <= parts[-1][1] + TOUCH:
            parts[-1] = (parts[-1][0], max(parts[-1][1], clip.end))
        else:
            parts.append((clip.start, clip.end))
    return [(start, end) for start, end in parts if end > max(start, 0)]


def list_text(rows: Iterable[tuple[str, float, float]], *, header: bool = True) -> str:
    """Return rows of path, start and end as a list of videos in CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerows([("path", "start", "end")] if header else [])
    table.writerows(rows)
    return text.getvalue()


def check_listable(paths: Sequence[str]) -> None:
    """Raise UsageError for a path that a list of videos cannot have: its lines are stripped."""
    for path in paths:
        if path != path.strip() or "\r" in path:
            raise UsageError(
                f"{plain(repr(path))} cannot be in a list of videos, for it has white space at an end or a carriage return; "
                "rename it"
            )


class _Parser:
    """A recursive descent: a method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        matches = (match for match in _TOKEN.finditer(text) if not match[0].isspace())
        self.tokens = [_Token(match.lastgroup, match[0], match.start() + 1) for match in matches]
        self.tokens.append(_Token(None, "", len(text) + 1))
        self.next = 0
        self.depth = 0

    def parsed(self) -> Keep:
        keep = self.expression()
        if self.token.kind is not None:
            self.fail("`and`, `or`, or the end")
        return keep

    def expression(self) -> Keep:
        parts = [self.conjunction()]
        while self.accept("or"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else lambda clip: any(part(clip) for part in parts)

    def conjunction(self) -> Keep:
        parts = [self.negation()]
        while self.accept("and"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else lambda clip: all(part(clip) for part in parts)

    def negation(self) -> Keep:
        if self.depth == DEEPEST:
            raise self.error(f"expected at most {DEEPEST} parentheses and `not` within each other")
        self.depth += 1
        if self.accept("not"):
            inner = self.negation()
            keep: Keep = lambda clip: not inner(clip)  # noqa: E731
        elif self.accept("("):
            keep = self.expression()
            if not self.accept(")"):
                self.fail("`and`, `or` or `)`")
        else:
            keep = self.comparison()
        self.depth -= 1
        return keep

    def comparison(self) -> Keep:
        if self.token.kind == "number":
            number = self.number()
            order = self.order()
            value = self.name("a name")
            return lambda clip: order(number, value(clip))
        value = self.name("a name, a number, `not` or `(`")
        order = self.order()
        number = self.number()
        return lambda clip: order(value(clip), number)

    def name(self, expected: str) -> Callable[[ClipMotion], float]:
        if self.token.kind != "name" or self.token.text in _WORDS:
            self.fail(expected)
        if self.token.text not in _VALUES:
            near = get_close_matches(self.token.text.lower(), (*NAMES, *_WORDS), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self.error(f"{self.shown} is not one of {', '.join(NAMES)}{hint}")
        return _VALUES[self.taken().text]

    def order(self) -> Callable[[float, float], bool]:
        if self.token.text not in _ORDERS:
            self.fail("<, <=, > or >=")
        return _ORDERS[self.taken().text]

    def number(self) -> float:
        if self.token.kind != "number":
            self.fail("a number")
        number = float(self.token.text)
        if not isfinite(number):
            self.fail("a number that is not so large")
        self.taken()
        return number

    @property
    def token(self) -> _Token:
        return self.tokens[self.next]

    @property
    def shown(self) -> str:
        return "the end" if self.token.kind is None else plain(repr(self.token.text), 40)

    def taken(self) -> _Token:
        self.next += 1
        return self.tokens[self.next - 1]

    def accept(self, text: str) -> bool:
        found = self.token.text == text
        self.next += found
        return found

    def fail(self, expected: str) -> NoReturn:
        raise self.error(f"expected {expected}, got {self.shown}{self.hint()}")

    def hint(self) -> str:
        """Say what to write instead of some tokens of other languages."""
        if self.token.text in _ORDERS:
            return "; join two comparisons by `and`"
        near = {"&": "and", "&&": "and", "|": "or", "||": "or", "!": "not", "AND": "and", "OR": "or", "NOT": "not"}
        word = near.get(self.token.text) or near.get(self.token.text.upper())
        return f"; write `{word}`" if word and self.token.text != word else ""

    def error(self, problem: str) -> UsageError:
        return UsageError(f"expression {plain(repr(self.text), 120)}, character {self.token.place}: {problem}")
