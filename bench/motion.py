"""Camera motion against known moves: the second version, the first one, OpenCV's features, and the codec's motion vectors.

python bench/motion.py --each 40 --seed 1               prints tables, then a line of JSON
python bench/motion.py --each 12 --seed 1 --degraded    each degradation alone
python bench/motion.py --each 12 --seed 1 --short       videos of 1 to 5 frames
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from known_motion import NAMES, PAIRS, UNIT, Film, draw, frames_of, handheld
from motion_estimators import ESTIMATORS
from numpy.typing import NDArray
from synthetic_motion import Picture, encode, photograph, with_intruder

import ig65m
from ig65m.motion.clip_motion import EDGE, MOVES, SLOWEST, label_of, moves_of

FIRST = "r2plus1d_10_camera_motion"
OURS = "ig65m"
WHOLE = 15  # frames in a whole clip
KINDS = ("single", "pair", "static", "hand")


@dataclass(frozen=True)
class Seen:
    """What an estimator says of a clip."""

    speeds: NDArray[np.float64] | None  # (4,) a second; None if it gives none, NaN if unknown
    sigma: NDArray[np.float64] | None
    moves: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class Case:
    """A clip of a film, with what each estimator says of it."""

    kind: str
    film: Film
    seen: dict[str, Seen]

    @property
    def truth(self) -> set[str]:
        """The labels of its moves."""
        signs = {name: np.sign(speed) for name, speed in self.film.speeds.items()}
        return {label for label, (column, sign) in MOVES.items() if signs.get(NAMES[column]) == sign}


def films(each: int, seed: int) -> Iterator[tuple[str, Film]]:
    """Yield `each` films of each move and pair, and as many of tripods and of hands."""
    for index in range(each):
        for place, name in enumerate(NAMES):
            yield "single", draw(np.random.default_rng([seed, 0, place, index]), (name,), 0.3, 4)
        for place, pair in enumerate(PAIRS):
            yield "pair", draw(np.random.default_rng([seed, 1, place, index]), pair, 0.5, 3)
        yield "static", draw(np.random.default_rng([seed, 2, index]), (), 1, 1)
        yield "hand", handheld(np.random.default_rng([seed, 3, index]))


def simple(speeds: NDArray[np.float64], fps: float) -> Seen:
    """Name the moves of an estimator without standard deviations, by the thresholds of ours."""
    known = np.nan_to_num(speeds)
    moves = moves_of(known, np.zeros(4), fps)
    return Seen(speeds, None, moves, label_of(moves))


def cases(chosen: Sequence[tuple[str, Film]], alter: Callable[[Picture, int], Picture] | None = None) -> Iterator[Case]:
    """Make the films, and yield every second clip of each, so that they do not overlap."""
    first = ig65m.load_model(FIRST)
    with tempfile.TemporaryDirectory() as folder:
        for kind, film in chosen:
            path = Path(folder) / "film.mp4"
            pictures = frames_of(film)
            if film.intruder:
                pictures = with_intruder(pictures, film.seed)
            encode(
                (alter(picture, index) if alter else picture for index, picture in enumerate(pictures)),
                path,
                film.fps,
                film.crf,
            )
            fps = float(film.fps)
            others = {name: estimator(path) for name, estimator in ESTIMATORS.items()}
            old = ig65m.classify(path, model=first, top_k=1, tail="drop", stride=16).clips
            clips = ig65m.estimate_motion(path).clips[::2]
            clips = tuple(clip for clip in clips if film.frames < WHOLE or clip.end - clip.start > (WHOLE - 0.5) / fps)
            for clip, before in zip(clips, old, strict=False):
                speeds = np.array([getattr(clip.speeds, name) for name in NAMES])
                sigma = np.array([getattr(clip.sigma, name) for name in NAMES])
                moves = moves_of(speeds, sigma, fps, clip.shake, clip.static)
                seen = {OURS: Seen(speeds, sigma, moves, clip.label)}
                best = before.labels[0].label
                seen["first version"] = Seen(None, None, () if best == "static" else (best,), best)
                for name, estimate in others.items():
                    seen[name] = simple(estimate.speeds(clip.start, clip.end - 1 / fps), fps)
                yield Case(kind, film, seen)


def summary(found: Sequence[Case], name: str) -> dict[str, float | None]:
    """Return the figures of an estimator; None for what it does not give."""
    by_kind = {kind: [case for case in found if case.kind == kind] for kind in KINDS}
    single, pairs = by_kind["single"], by_kind["pair"]
    figures: dict[str, float | None] = {"label right": _mean([{case.seen[name].label} == case.truth for case in single])}
    for low, high in ((0.3, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0)):
        some = [case for case in single if low <= _percent(case.film) < high]
        figures[f"label right, {low:g} to {high:g} %"] = _mean([{case.seen[name].label} == case.truth for case in some])
    errors = [(error, _percent(case.film)) for case in single for error in _errors(case, name)]
    figures["median relative error"] = float(np.median([abs(error) for error, _ in errors])) if errors else None
    figures["sign right above 0.5 %"] = _mean([error > -1 for error, percent in errors if percent > 0.5])
    figures["both moves found"] = _mean([case.truth <= set(case.seen[name].moves) for case in pairs])
    figures["third move found"] = _mean([bool(set(case.seen[name].moves) - case.truth) for case in pairs])
    figures["static: label static"] = _mean([case.seen[name].label == "static" for case in by_kind["static"]])
    figures["hand: label pan or tilt"] = _mean([case.seen[name].label[:3] in ("pan", "til") for case in by_kind["hand"]])
    for within in (1, 2):
        shares = [
            abs(speed - case.film.rate(axis)) <= within * sigma
            for case in [*single, *pairs]
            if case.seen[name].speeds is not None and case.seen[name].sigma is not None
            for axis, speed, sigma in zip(NAMES, case.seen[name].speeds, case.seen[name].sigma, strict=True)  # type: ignore[arg-type]
        ]
        figures[f"within {within} sigma"] = _mean(shares)
    return figures


def _percent(film: Film) -> float:
    """Speed of a film's only move in % a frame."""
    ((name, speed),) = film.speeds.items()
    return abs(speed) / UNIT[name]


def _errors(case: Case, name: str) -> Iterator[float]:
    """Yield the signed relative error of the speed; -1 stands for no speed."""
    speeds = case.seen[name].speeds
    if speeds is not None:
        for axis in case.film.speeds:
            speed = np.nan_to_num(speeds[NAMES.index(axis)])
            yield float(speed / case.film.rate(axis) - 1)


def _mean(values: Sequence[object]) -> float | None:
    return float(np.mean([bool(value) for value in values])) if values else None


def _noise(sigma: float) -> Callable[[Picture, int], Picture]:
    def alter(picture: Picture, index: int) -> Picture:
        noise = np.random.default_rng(index).normal(0, sigma, picture.shape)
        return np.asarray(np.clip(picture + noise, 0, 255), dtype=np.uint8)

    return alter


def _night(picture: Picture, index: int) -> Picture:
    return _noise(4.0)(np.asarray(picture * 0.12 + 6, dtype=np.uint8), index)


def _blur(picture: Picture, index: int) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), picture.shape[1] / 100), dtype=np.uint8)


def _bars(picture: Picture, index: int) -> Picture:
    result, bar = picture.copy(), picture.shape[0] // 8
    result[:bar] = result[-bar:] = 0
    return result


def _writing(picture: Picture, index: int) -> Picture:
    height, width = picture.shape[:2]
    result = picture.copy()
    for line in range(3):
        place = (width // 20, height * (7 + line) // 10)
        cv2.putText(result, "all that is written stays in its place", place, 0, width / 700, (255, 255, 255), 2)
    return result


def _flicker(picture: Picture, index: int) -> Picture:
    return np.asarray(np.clip(picture * (1 + 0.25 * np.sin(index * 1.9)), 0, 255), dtype=np.uint8)


def _half(picture: Picture, index: int) -> Picture:
    """An object that covers half of the picture and moves by itself."""
    height, width = picture.shape[:2]
    thing = cv2.resize(photograph("motorcycle_left.png"), (width // 2 + 200, height))
    left = (index * 3) % 200
    result = picture.copy()
    result[:, width // 2 :] = thing[:, left : left + width - width // 2]
    return result


DEGRADATIONS: dict[str, Callable[[Picture, int], Picture]] = {
    "night": _night,
    "noise": _noise(20.0),
    "blur": _blur,
    "letterbox": _bars,
    "writing": _writing,
    "flicker": _flicker,
    "half covered": _half,
}


def degraded(chosen: Sequence[tuple[str, Film]]) -> Iterator[tuple[str, list[Case]]]:
    """Yield the cases of each degradation alone."""
    for name, alter in DEGRADATIONS.items():
        yield name, list(cases(chosen, alter))
    yield "crf 38", list(cases([(kind, replace(film, crf=38)) for kind, film in chosen]))
    for fps in (12, 60):
        yield f"{fps} fps", list(cases([(kind, replace(film, fps=Fraction(fps))) for kind, film in chosen]))


def shortened(chosen: Sequence[tuple[str, Film]]) -> Iterator[tuple[str, list[Case]]]:
    """Yield the cases of single moves in videos of few frames."""
    for frames in (1, 2, 3, 5):
        single = [(kind, replace(film, frames=frames)) for kind, film in chosen if kind == "single"]
        yield f"{frames} frames", list(cases(single))


def print_table(title: str, rows: dict[str, dict[str, float | None]]) -> None:
    """Print figures as a Markdown table, a column for each of `rows`."""
    print(f"\n## {title}\n\n| | {' | '.join(rows)} |\n|---|{'---|' * len(rows)}")
    for figure in next(iter(rows.values())):
        values = [row[figure] for row in rows.values()]
        print(f"| {figure} | {' | '.join('' if value is None else f'{value:.3f}' for value in values)} |")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=40, help="films of each kind of move; each gives two clips")
    parser.add_argument("--seed", type=int, default=1)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--degraded", action="store_true", help="each degradation alone")
    only.add_argument("--short", action="store_true", help="videos of 1 to 5 frames")
    parser.add_argument("--verbose", action="store_true", help="print each wrong label on stderr")
    options = parser.parse_args()
    started = time.monotonic()
    chosen = list(films(options.each, options.seed))
    names = (OURS, "first version", *ESTIMATORS)
    tables = {}
    sets = (
        degraded(chosen) if options.degraded else shortened(chosen) if options.short else [("undegraded", list(cases(chosen)))]
    )
    for title, found in sets:
        tables[title] = {name: summary(found, name) for name in names}
        print_table(f"{title}, {len(found)} clips", tables[title])
        sys.stdout.flush()
        if options.verbose:
            for case in found:
                seen = case.seen[OURS]
                if case.kind == "single" and {seen.label} != case.truth:
                    print(f"{seen.label} instead of {case.truth}: {seen} {case.film}", file=sys.stderr)
    report = {
        "bench": "motion",
        "seed": options.seed,
        "each": options.each,
        "thresholds": {"slowest": SLOWEST.tolist(), "edge": EDGE.round(6).tolist()},
        "tables": tables,
        "seconds": round(time.monotonic() - started, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"ig65m": ig65m.__version__, "opencv": cv2.__version__, "python": platform.python_version()},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
