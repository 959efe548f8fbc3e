"""Lists of shots made by hand, at any frame times."""

from itertools import pairwise

from ig65m.types import Shot, ShotList

SETTINGS = {"network": "transnetv2", "sha256": "ab" * 32, "threshold": 0.5}
PARTS = [(0, 9), (10, 29), (33, 34), (35, 35), (36, 59)]  # first and last frames; 30 to 32 are within a transition
VARIABLE = [0]  # milliseconds
for number in range(1, 60):
    VARIABLE.append(VARIABLE[-1] + (120 if number % 3 == 1 else 40))


def shots_at(times, parts=PARTS, path="/videos/holiday.mp4"):
    """Shots of frames at these times in seconds; the last time is the end of the last frame."""
    transitions = ["gradual" if after[0] - before[1] > 1 else "cut" for before, after in pairwise(parts)]
    shots = [
        Shot(times[first], times[last + 1], first, last, transition, None if transition == "end" else 0.75)
        for (first, last), transition in zip(parts, [*transitions, "end"], strict=True)
    ]
    return ShotList(path, "ok", tuple(shots), SETTINGS, frames=shots[-1].last_frame + 1 if shots else 0)


def at_rate(fps, count=60, start=0.0):
    return [start + number / fps for number in range(count + 1)]
