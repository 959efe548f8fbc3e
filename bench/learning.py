"""Learns the labels of camera moves again from few clips of each, and tests on other sources of pictures.

python bench/learning.py --seed 1    prints a table, then one line of JSON. It needs the extras learn and dev.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from synthetic_motion import LABELS, SOURCES, draw_moves, make

import ig65m
from ig65m.collection.label_list import Example
from ig65m.learn.calibration import scores_of
from ig65m.learn.learner import learn_from_features
from ig65m.learn.linear import choose_strength, learn_head
from ig65m.learn.training_set import TrainingSet
from ig65m.metrics import calibration_error
from ig65m.types import Segment
from ig65m.zoo.load import load_weights

MODEL = "r2plus1d_10_camera_motion"
SIZES = ((640, 360), (352, 288), (360, 480))
EACH = (5, 20, 100)
TESTS = 40  # videos of each label


def moves_with_features(
    seed: int, each: int, sources: Sequence[str], extractor: ig65m.Extractor
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features (clips, C) and labels (clips,) of one clip of each video."""
    rows, labels = [], []
    with tempfile.TemporaryDirectory() as folder:
        for move in draw_moves(seed, each, SIZES, sources):
            path = Path(folder) / "move.mp4"
            make(move, path, frames=15)
            rows.append(extractor.extract(path).array[0])
            labels.append(LABELS.index(move.label))
    return np.stack(rows), np.array(labels)


def training_set(features: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str] = LABELS) -> TrainingSet:
    """Return a set with a video for each clip."""
    count = len(features)
    positives = np.eye(len(classes), dtype=bool)[labels]
    examples = tuple(Example(Segment(f"{number}.mp4"), (classes[label],), str(number)) for number, label in enumerate(labels))
    return TrainingSet(features, np.arange(count), examples, positives, np.arange(count), tuple(classes), multi_label=False)


def few(labels: NDArray[np.int64], each: int, seed: int) -> NDArray[np.bool_]:
    """Choose `each` clips of each label."""
    chosen = np.zeros(len(labels), bool)
    order = np.random.default_rng(seed).permutation(len(labels))
    for label in np.unique(labels):
        chosen[order[labels[order] == label][:each]] = True
    return chosen


def compare(data: TrainingSet, strength: float, tests: NDArray[np.float32]) -> float:
    """Return the largest difference of scores on other clips to those of scikit-learn, before calibration."""
    scaler = StandardScaler().fit(data.features.astype(float))
    model = LogisticRegression(C=1 / (strength * len(data.features)), tol=1e-8, max_iter=20_000)
    model.fit(scaler.transform(data.features.astype(float)), data.positives.argmax(1))
    theirs = model.predict_proba(scaler.transform(tests.astype(float)))
    return float(np.abs(scores_of(learn_head(data, strength)(tests), multi_label=False) - theirs).max())


def seconds_for(clips: int, width: int, classes: int = 10) -> float:
    """Return the seconds to choose a strength and learn a layer from random features."""
    rng = np.random.default_rng(0)
    labels = np.arange(clips) % classes
    features = (rng.normal(0, 0.15, (classes, width))[labels] + rng.normal(size=(clips, width))).astype(np.float32)
    data = training_set(features, labels, [str(number) for number in range(classes)])
    started = time.monotonic()
    strength, _ = choose_strength(data)
    learn_head(data, strength)
    return time.monotonic() - started


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--large", type=int, default=100_000, help="clips of the larger timing")
    options = parser.parse_args()
    base = load_weights(MODEL)
    extractor = ig65m.Extractor(MODEL)
    mine, others = SOURCES[::2], SOURCES[1::2]
    features, labels = moves_with_features(options.seed, max(EACH), mine, extractor)
    tests, right = moves_with_features(options.seed + 1, TESTS, others, extractor)
    print(f"{len(tests)} clips of {len(others)} other sources; the embedded network's own layer:", end=" ")
    own = tests @ base.arrays["fc.weight"].T + base.arrays["fc.bias"]
    print(f"{(own.argmax(1) == right).mean():.1%}")
    rows: list[dict[str, Any]] = []
    for each in EACH:
        whole = training_set(features, labels)
        data = whole.part(few(labels, each, options.seed))
        settings = {**extractor.settings, "precision": "fp32"}
        model, report = learn_from_features(base, settings, data, name="learned", labels_sha256="")
        scores = scores_of((tests @ model.arrays["fc.weight"].T + model.arrays["fc.bias"]).astype(float), multi_label=False)
        strength = report.settings["strength"]
        assert isinstance(strength, float)
        held_out = report.held_out
        rows.append(
            {
                "clips_of_each": each,
                "accuracy": round(float((scores.argmax(1) == right).mean()), 4),
                "held_out_accuracy": None if held_out is None else held_out.videos.top1,
                "calibration_error": round(calibration_error(scores, right), 4),
                "largest_difference_to_scikit_learn": compare(data, strength, tests),
                "temperature": round(report.temperature, 3),
            }
        )
        print(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in rows[-1].items()))
    times = {f"{clips}x512": round(seconds_for(clips, 512), 1) for clips in (1000, options.large)}
    print(f"seconds to learn 10 classes: {times}")
    record = {
        "bench": "learning",
        "seed": options.seed,
        "rows": rows,
        "seconds": times,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"ig65m": ig65m.__version__, "scikit-learn": sklearn.__version__, "python": platform.python_version()},
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
