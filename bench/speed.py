"""How much faster `ig65m extract` is than the program that people come from: `python bench/speed.py VIDEO`.

The baseline does what ig65m-pytorch's extract.py did: OpenCV decodes, each frame becomes float at its full size, torch resizes
it by bilinear interpolation, the network runs clip by clip in eager float32 with autograd left on, and nothing overlaps. Both
take R(2+1)D-34 on 32 frames, with the same random weights, start-up included, in turns, each in a process of its own. Prints
seconds, peak memory and ratios; `--json FILE` appends a JSON line. Needs the development dependencies.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL = "r2plus1d_34_32_kinetics"


def baseline(weights: str, video: str, output: str) -> None:
    """Features of a video, the way of 2019."""
    import cv2
    import numpy as np
    import torch
    import torch.nn.functional as F

    from ig65m.zoo.load import load_model

    model = load_model(weights)
    mean = torch.tensor([0.43216, 0.394666, 0.37645]).view(3, 1, 1, 1)
    std = torch.tensor([0.22803, 0.22145, 0.216989]).view(3, 1, 1, 1)
    capture = cv2.VideoCapture(video)
    frames, features = [], []
    while True:
        there, picture = capture.read()
        if not there:
            break
        frames.append(torch.from_numpy(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)))
        if len(frames) == 32:
            clip = torch.stack(frames).permute(3, 0, 1, 2).float() / 255  # (3, T, H, W) at full size
            clip = F.interpolate(clip, size=(128, 171), mode="bilinear", align_corners=False)
            clip = (clip[:, :, 8:120, 30:142] - mean) / std
            features.append(model.forward_head(model.forward_features(clip[None]), pre_logits=True).detach().numpy())
            frames = []
    np.save(output, np.concatenate(features))


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds and GiB of the largest process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    start = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    took = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return took, peak / 2**20 if peak > before else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("video", type=Path)
    parser.add_argument("--rounds", type=int, default=3, help="times that everything runs, in turns")
    parser.add_argument("--precisions", default="fp32,bf16", help="what ig65m runs in")
    parser.add_argument("--json", type=Path, help="append a JSON line to this file")
    args = parser.parse_args()
    from ig65m.bench import machine, network_for
    from ig65m.zoo.files import save_safetensors

    with tempfile.TemporaryDirectory() as folder:
        weights, output = f"{folder}/model.safetensors", f"{folder}/features.npy"
        network = network_for(MODEL)
        save_safetensors(network.state_dict(), network.card, Path(weights))
        program = str(Path(sys.executable).with_name("ig65m"))
        commands = {"baseline": [sys.executable, __file__, "--baseline", weights, str(args.video), output]}
        for precision in args.precisions.split(","):
            commands[precision] = [program, "extract", str(args.video), "--model", weights, "--precision", precision]
            commands[precision] += ["--output", output, "--overwrite"]
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                times[name].append(timed(command)[0])
                print(f"{name:10}{times[name][-1]:8.1f} s", flush=True)
    ratios = {
        name: statistics.median(base / own for base, own in zip(times["baseline"], those, strict=True))
        for name, those in times.items()
        if name != "baseline"
    }
    for name, ratio in ratios.items():
        print(f"{name:10}{ratio:8.2f} times as fast as the baseline (median of {args.rounds})")
    row: dict[str, Any] = {"seconds": times, "ratio": ratios, "machine": machine()}
    if args.json:
        with args.json.open("a") as out:
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--baseline"]:
        baseline(*sys.argv[2:])
    else:
        main()
