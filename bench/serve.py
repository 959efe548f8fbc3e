"""Throughput and latency of `ig65m serve` with many clients: `python bench/serve.py [VIDEO]`.

A service over an index of one video classifies short videos (pieces of VIDEO, by default the bundled clip, each of its own
size) over HTTP: for one client, then for many, then for one again. A client sends its next upload after the response to the
last one. Prints requests and clips a second, mean batch, median and 99 % latency, and the memory of the service and its
workers before and after. `--json FILE` appends a JSON line. Needs the development dependencies.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import psutil
from peak_memory import peak_memory

import ig65m

MODEL = "r2plus1d_10_camera_motion"
PROGRAM = str(Path(sys.executable).with_name("ig65m"))
CLIP = Path(ig65m.__file__).parent / "demo" / "clip.mp4"


@dataclass(frozen=True)
class Round:
    """Measurements: latencies in seconds, 503s that were retried, and the service's own counts."""

    clients: int
    seconds: float
    times: list[float]
    refused: int
    clips: int
    batches: int
    memory: list[float]  # GB, sampled

    def row(self) -> dict[str, float]:
        """Return the figures of the table."""
        edge = max(1, len(self.memory) // 10)
        return {
            "clients": self.clients,
            "requests": len(self.times),
            "refused": self.refused,
            "requests_per_second": len(self.times) / self.seconds,
            "clips_per_second": self.clips / self.seconds,
            "mean_batch": self.clips / self.batches,
            "p50": float(np.percentile(self.times, 50)),
            "p99": float(np.percentile(self.times, 99)),
            "memory_first": float(np.mean(self.memory[edge : 2 * edge])),
            "memory_last": float(np.mean(self.memory[-edge:])),
        }


def pieces(video: Path, folder: Path, frames: int) -> list[bytes]:
    """Split the video into H.264 files of that many frames; a shorter last one is left out."""
    made: list[bytes] = []
    pictures: list[av.VideoFrame] = []
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            pictures.append(frame)
            if len(pictures) == frames:
                path = folder / f"{len(made)}.mp4"
                with av.open(str(path), "w") as output:
                    stream = output.add_stream("libx264", rate=25)
                    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
                    for number, picture in enumerate(pictures):
                        picture.pts, picture.time_base = number, Fraction(1, 25)
                        output.mux(stream.encode(picture))
                    output.mux(stream.encode(None))
                made.append(path.read_bytes())
                pictures = []
    return made


@contextmanager
def service(folder: Path, video: Path, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run a service over an index of the video for the block; yields its URL and process."""
    extract = [PROGRAM, "extract", str(video), "--output", str(folder / "features"), "--model", MODEL, "--top-k", "5"]
    subprocess.run(extract, check=True, capture_output=True)
    build = [PROGRAM, "index", "build", str(folder / "features"), str(folder / "index")]
    subprocess.run(build, check=True, capture_output=True)
    process = psutil.Popen(
        [PROGRAM, "serve", str(folder / "index"), "--port", "0", *options], stderr=subprocess.PIPE, text=True
    )
    try:
        for line in process.stderr:
            if found := re.search(r"http://\S+:\d+", line):
                yield found[0], process
                break
    finally:
        process.terminate()
        process.wait()


def run(url: str, process: psutil.Process, bodies: list[bytes], clients: int, requests: int) -> Round:
    """Send that many requests, shared by concurrent clients."""
    numbers = iter(range(requests))
    times: list[float] = []
    refused = [0]
    lock = threading.Lock()

    def client() -> None:
        with httpx.Client(base_url=url, timeout=300) as web:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                begun = time.perf_counter()
                while (answer := web.post("/api/classify", content=bodies[number % len(bodies)])).status_code == 503:
                    refused[0] += 1
                    time.sleep(float(answer.headers["retry-after"]))
                answer.raise_for_status()
                times.append(time.perf_counter() - begun)

    before = httpx.get(f"{url}/api/health").json()["batches"]
    threads = [threading.Thread(target=client) for _ in range(clients)]
    memory: list[float] = []
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(peak_memory(process))
        time.sleep(0.2)
    took = time.perf_counter() - begun
    after = httpx.get(f"{url}/api/health").json()["batches"]
    counts = {key: after[key] - before[key] for key in ("clips", "count")}
    return Round(clients, took, times, refused[0], counts["clips"], counts["count"], memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("video", type=Path, nargs="?", default=CLIP)
    parser.add_argument("--frames", type=int, default=60, help="of each upload")
    parser.add_argument("--clients", type=int, default=16, help="number of concurrent clients")
    parser.add_argument(
        "--requests", type=int, default=1000, help="requests of the many clients together; one client sends a fifth"
    )
    parser.add_argument("--workers", type=int, default=4, help="uploads that the service processes at the same time")
    parser.add_argument("--json", type=Path, help="append a JSON line to this file")
    args = parser.parse_args()
    from ig65m.bench import machine

    with tempfile.TemporaryDirectory() as folder:
        bodies = pieces(args.video, Path(folder), args.frames)
        with service(Path(folder), args.video, "--workers", str(args.workers)) as (url, process):
            run(url, process, bodies, 4, 40)  # everything is loaded by then
            plan = ((1, args.requests // 5), (args.clients, args.requests), (1, args.requests // 5))
            rows = []
            for clients, requests in plan:
                rows.append(run(url, process, bodies, clients, requests).row())
                print(", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()), flush=True)
    alone = max(rows[0]["requests_per_second"], rows[2]["requests_per_second"])
    print(f"{args.clients} clients together: {rows[1]['requests_per_second'] / alone:.2f} times the requests of one")
    if args.json:
        facts = {"frames": args.frames, "workers": args.workers, "bytes": [len(body) for body in bodies]}
        result: dict[str, Any] = {"bench": "serve", "model": MODEL, **facts, "measured": rows, "machine": machine()}
        with args.json.open("a") as out:
            out.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
