"""Start of `ig65m classify` on a short video: `python bench/start.py [--against OTHER/bin/ig65m]`.

Labels the first second of the bundled clip with the embedded network, whose compiled model is in the cache, in a new process
each time. With `--against`, another installation does the same in turn. Prints medians of wall-clock seconds, of CPU seconds
of all processes, and of the main process's peak memory. `--json FILE` appends a JSON line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CLIP = Path(__file__).parent.parent / "src" / "ig65m" / "demo" / "clip.mp4"
MODEL = "r2plus1d_10_camera_motion"


def start(program: str) -> dict[str, float]:
    """Run once; return seconds, CPU seconds and MB."""
    command = [program, "classify", str(CLIP), "--model", MODEL, "--end", "1", "--json"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{program} ended with status {status}")
    return {"seconds": time.perf_counter() - began, "cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--against", help="program of another installation")
    parser.add_argument("--rounds", type=int, default=10, help="number of rounds")
    parser.add_argument("--json", type=Path, help="append a JSON line to this file")
    args = parser.parse_args()
    from ig65m.bench import machine

    programs = {"this": str(Path(sys.executable).with_name("ig65m"))} | ({"other": args.against} if args.against else {})
    for program in programs.values():
        start(program)  # compiles the model, and Python's modules
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    for _ in range(args.rounds):
        for name, program in programs.items():
            rounds[name].append(start(program))
    for name, rows in rounds.items():
        middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        print(f"{name:6}" + ", ".join(f"{key} {value:.2f}" for key, value in middle.items()))
    if args.json:
        with args.json.open("a") as out:
            result: dict[str, Any] = {"bench": "start", "rounds": rounds, "machine": machine()}
            out.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
