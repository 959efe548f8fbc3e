"""Cost of decoding in a worker process: `python bench/isolation.py VIDEO...`.

For each video, the clips of a 32-frame network are read in a worker process and in this process, alternating, `--runs` times
(frames a second, decoding and resizing only). `ig65m classify` runs in both ways, from start to end. Prints the medians, and
the median ratio of neighbouring runs, worker to in-process: 1.0 is the same speed. `--json FILE` appends JSON lines with the
versions.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ig65m.models.card import VMZ
from ig65m.video.clips import clips_of, read_clips
from ig65m.video.sample_reader import read_samples
from ig65m.video.sampling import Sampling

SAMPLING = Sampling(frames=32)


def in_worker(video: str) -> None:
    """Read all clips in a worker that is already running."""
    for _ in read_clips(video, SAMPLING, VMZ):
        pass


def in_process(video: str) -> None:
    """Read all clips in this process."""
    for _ in clips_of(read_samples(video, SAMPLING, VMZ), SAMPLING):
        pass


def command(video: str, *more: str) -> None:
    """Run `ig65m classify` with the embedded network."""
    model = ["--model", "r2plus1d_10_camera_motion"]
    subprocess.run(["ig65m", "classify", video, *model, *more], check=True, stdout=subprocess.DEVNULL)


def seconds(work: Callable[..., None], *args: str) -> float:
    """Return the wall-clock time of a call."""
    start = time.perf_counter()
    work(*args)
    return time.perf_counter() - start


def compare(video: str, what: str, isolated: Callable[[], float], here: Callable[[], float], runs: int) -> dict[str, Any]:
    """Run both ways alternately, after one run of each for warming up."""
    isolated(), here()
    pairs = [(isolated(), here()) for _ in range(runs)]
    ratios = sorted(a / b for a, b in pairs)
    return {
        "video": video.rpartition("/")[2],
        "what": what,
        "worker_s": round(statistics.median(a for a, _ in pairs), 3),
        "in_process_s": round(statistics.median(b for _, b in pairs), 3),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="file to append JSON lines to")
    args = parser.parse_args()
    machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    versions = {name: version(name) for name in ("ig65m", "av", "torch")}
    print(f"{'video':24} {'what':10} {'worker':>8} {'here':>8} {'ratio':>6}")
    for video in args.videos:
        for what, isolated, here in (
            ("reading", lambda: seconds(in_worker, video), lambda: seconds(in_process, video)),  # noqa: B023
            ("classify", lambda: seconds(command, video), lambda: seconds(command, video, "--in-process")),  # noqa: B023
        ):
            row = compare(video, what, isolated, here, args.runs)
            print(f"{row['video']:24} {what:10} {row['worker_s']:8.3f} {row['in_process_s']:8.3f} {row['ratio']:6.3f}")
            if args.json:
                with args.json.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(row | machine | versions) + "\n")


if __name__ == "__main__":
    main()
