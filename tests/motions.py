"""Camera motion made by hand."""

import math
from dataclasses import replace

from ig65m.types import CameraMotion, ClipMotion, MotionSegment, Move, Speeds

SETTINGS = {"network": "motion_field", "sha256": "ab" * 32}
STILL = Speeds(0.0, 0.0, 0.0, 0.0)


def clip(start=0.0, end=1.0, label="static", **values):
    """A clip: speeds, and probabilities of static, shake, cut and parallax, by their names."""
    speeds = Speeds(**{name: values.pop(name, 0.0) for name in ("pan", "tilt", "zoom", "roll")})
    chances = {name: values.pop(name, 0.0) for name in ("static", "shake", "cut", "parallax")}
    assert not values
    return ClipMotion(start, end, speeds, Speeds(0.01, 0.01, 0.005, 0.5), **chances, label=label)


def segment(start, end, *moves, **chances):
    """A segment; each move is its name and speed."""
    made = tuple(Move(name, speed, 0.01) for name, speed in moves)
    return MotionSegment(start, end, made, **dict.fromkeys(("static", "shake", "cut", "parallax"), 0.0) | chances)


def motion(path="/videos/holiday.mp4"):
    """Three seconds: the camera stands for one, then it pans right and zooms in."""
    clips = [clip(0.0, 1.0, static=0.9), clip(0.5, 1.5, "pan_right", pan=0.1, zoom=0.01)]
    clips += [clip(at, at + 1, "pan_right", pan=0.14, zoom=0.02) for at in (1.0, 1.5, 2.0)]
    segments = (segment(0.0, 1.0, static=0.9), segment(1.0, 3.0, ("pan_right", 0.14), ("zoom_in", 0.02), parallax=0.9))
    return CameraMotion(path, "ok", segments, tuple(clips), SETTINGS)


def wandering(seconds, step=0.5):
    """Made-up motion of any length, with every move, shake and cuts."""
    clips, segments = [], []
    for number in range(max(1, int(seconds / step) - 1)):
        at = number * step
        turn = 2 * math.pi * at / 20
        pan = max(0.0, math.sin(turn)) * 0.3
        speeds = {
            "pan": pan,
            "tilt": min(0.0, math.sin(turn)) * 0.1,
            "zoom": 0.2 * max(0, math.cos(turn) - 0.7),
            "roll": 4 * pan,
        }
        made = clip(at, at + 2 * step, **speeds, shake=0.5 + 0.5 * math.sin(turn * 3), cut=float(number % 33 == 20), static=0.1)
        clips.append(replace(made, sigma=Speeds(0.01 + 0.1 * pan, 0.01, 0.01, 0.4)))
        moves = [
            ("pan_right", pan),
            ("tilt_down", -speeds["tilt"]),
            ("zoom_in", speeds["zoom"]),
            ("roll_clockwise", speeds["roll"]),
        ]
        segments.append(segment(at, at + step, *[(name, speed) for name, speed in moves if speed > 0.02]))
    return CameraMotion("/videos/holiday.mp4", "ok", tuple(segments), tuple(clips), SETTINGS)
