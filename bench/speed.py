"""Speed of `ig65m extract` compared with ig65m-pytorch: `python bench/speed.py VIDEO`.

The baseline does what ig65m-pytorch's extract.py did: OpenCV decodes; each frame becomes float at full size; torch resizes it
bilinearly; the network runs clip by clip in eager float32 with autograd; nothing overlaps. Both run R(2+1)D-34 on 32 frames
with the same random weights, including start-up, alternating, each in its own process.

In the same rounds, `ig65m bench` measures the network alone and decoding alone: their sum is the time of a program that does
nothing else. Prints seconds, peak memory of all processes, and ratios. `--json FILE` appends a JSON line. Needs the
development dependencies.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL = "r2plus1d_34_32_kinetics"


def baseline(weights: str, video: str, output: str) -> None:
    """Extract features of a video as in 2019."""
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


def eager_speed(weights: str) -> None:
    """Print clips a second of the network alone in eager float32 without autograd."""
    import torch

    from ig65m.bench import seconds
    from ig65m.zoo.load import load_model

    model = load_model(weights)
    clip = torch.randn(1, 3, 32, 112, 112)
    with torch.inference_mode():
        print(1 / seconds(lambda: model(clip)))


def timed(command: list[str]) -> tuple[float, float]:
    """Return seconds, and the peak GB of the command and its children."""
    import psutil
    from peak_memory import peak_memory

    start = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    most = 0.0
    while process.poll() is None:
        most = max(most, peak_memory(process))
        time.sleep(0.1)
    took = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(process.stderr.read().decode())
    return took, most


def alone(program: str, model: str, video: str, precision: str) -> tuple[float, float]:
    """Return clips a second of the network alone, and of decoding alone."""
    command = [program, "bench", video, "--model", model, "--engine", "openvino", "--precision", precision, "--json"]
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return row["network"], row["decode"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("video", type=Path)
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    parser.add_argument("--precisions", default="fp32,bf16,int8", help="precision of ig65m")
    parser.add_argument("--json", type=Path, help="append a JSON line to this file")
    args = parser.parse_args()
    from ig65m.bench import machine, weights_for
    from ig65m.zoo.files import save_safetensors

    program = str(Path(sys.executable).with_name("ig65m"))
    video, precisions = str(args.video), args.precisions.split(",")
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in ("baseline", *precisions)}
    with tempfile.TemporaryDirectory() as folder:
        weights, output, small = (f"{folder}/{name}" for name in ("model.safetensors", "features.npy", "int8.safetensors"))
        random = weights_for(MODEL)
        save_safetensors(random.arrays, random.card, Path(weights))
        del random
        if "int8" in precisions:
            quantize = [program, "quantize", weights, video, "--output", small, "--clips", "16", "--force"]
            subprocess.run(quantize, check=True, capture_output=True)
        for _ in range(args.rounds):
            took, held = timed([sys.executable, __file__, "--baseline", weights, video, output])
            run = [sys.executable, __file__, "--eager", weights]
            eager = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
            clips = _clips(output)
            measured["baseline"].append({"seconds": took, "memory": held, "network": eager})
            print(f"{'baseline':10}{took:8.1f} s {held:6.2f} GB; network alone {eager:.2f} clips/s", flush=True)
            for precision in precisions:
                model = small if precision == "int8" else weights
                command = [program, "extract", video, "--model", model, "--precision", precision, "--output", output]
                own, own_held = timed([*command, "--overwrite"])
                network_speed, decode_speed = alone(program, model, video, precision)
                row = {
                    "seconds": own,
                    "memory": own_held,
                    "network": network_speed,
                    "decode": decode_speed,
                    "ratio": took / own,
                    "memory_ratio": own_held / held,
                    "network_ratio": network_speed / eager,
                    "share_of_sum": own / (clips / network_speed + clips / decode_speed),
                }
                measured[precision].append(row)
                print(f"{precision:10}" + ", ".join(f"{key} {value:.2f}" for key, value in row.items()), flush=True)
    for precision in precisions:
        print(f"\n{precision}, medians of {args.rounds}:")
        for key in measured[precision][0]:
            print(f"  {key:14}{statistics.median(row[key] for row in measured[precision]):8.2f}")
    if args.json:
        with args.json.open("a") as out:
            result: dict[str, Any] = {"bench": "speed", "clips": clips, "measured": measured, "machine": machine()}
            out.write(json.dumps(result) + "\n")


def _clips(path: str) -> int:
    import numpy as np

    return len(np.load(path))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--baseline"]:
        baseline(*sys.argv[2:])
    elif sys.argv[1:2] == ["--eager"]:
        eager_speed(sys.argv[2])
    else:
        main()
