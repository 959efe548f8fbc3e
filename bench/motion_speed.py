"""Frames of video a second of the camera-motion network without decoding, beside OpenCV's estimate and decoding, in turn.

python bench/motion_speed.py [--rounds 5]
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import openvino
from motion_estimators import by_features
from synthetic_motion import footage_file

import ig65m
from ig65m.motion.chunks import PIXELS, SAMPLING, chunks_of
from ig65m.motion.estimate import Estimate
from ig65m.motion.network import AT_ONCE, load_network
from ig65m.video.sample_reader import read_samples

REPEATS = 6  # of the network in a round, so that a round is long enough to time


def frames_in(path: Path) -> int:
    """Decode a video."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    path = footage_file("bikes")
    count = frames_in(path)
    network = load_network()
    chunks = list(chunks_of(read_samples(path, SAMPLING, PIXELS)))

    def ours() -> None:
        for _ in range(REPEATS):
            estimate = Estimate(network.weights)
            for start in range(0, len(chunks), AT_ONCE):
                some = chunks[start : start + AT_ONCE]
                rows = network.run(np.stack([chunk.pixels for chunk in some]).astype(np.uint8, copy=False))
                for alignments, chunk in zip(np.split(rows, len(some)), some, strict=True):
                    estimate.add(alignments, chunk.span)  # type: ignore[arg-type]
            estimate.finish()

    work: dict[str, Callable[[], object]] = {
        "network and fit": ours,
        "OpenCV, with decoding": lambda: by_features(path),
        "decoding": lambda: frames_in(path),
        "ig65m.estimate_motion": lambda: ig65m.estimate_motion(path, in_process=True),
    }
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(options.rounds):
        for name, run in work.items():
            started = time.perf_counter()
            run()
            frames = count * (REPEATS if run is ours else 1)
            found[name].append(round(frames / (time.perf_counter() - started), 1))
    for name, rates in found.items():
        print(f"{name:24} {np.median(rates):7.0f} frames a second ({min(rates):.0f} to {max(rates):.0f})")
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    versions = {"ig65m": ig65m.__version__, "openvino": openvino.__version__.split("-")[0]}
    print(json.dumps({"bench": "motion_speed", "frames": count, "frames_a_second": found, **machine, **versions}))


if __name__ == "__main__":
    main()
