"""Latency and recall of search: python bench/search.py

Vectors, and queries, are drawn around 10,000 centres with noise of 0.3 of a centre's norm, and indexed by way of a folder of
features. --clips 1000000 takes some minutes, and 10 GB of disk in --folder.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CENTRES, NOISE, WIDTH, EACH = 10_000, 0.3, 512, 1000
SETTINGS = {
    "name": "drawn",
    "sha256": "0" * 64,
    "preprocessing": {},
    "sampling": {"frames": 32, "frame_step": 1, "fps": None},
    "pooling": {"spatial": "mean", "temporal": "mean"},
    "precision": "fp32",
    "features": "float32",
}


class Drawn:
    """Draw vectors around centres."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.centres = self.random.standard_normal((CENTRES, WIDTH), np.float32)
        self.centres /= np.linalg.norm(self.centres, axis=1, keepdims=True)

    def __call__(self, count: int) -> NDArray[np.float32]:
        noise = self.random.standard_normal((count, WIDTH), np.float32) * np.float32(NOISE / np.sqrt(WIDTH))
        drawn: NDArray[np.float32] = self.centres[self.random.integers(0, CENTRES, count)] + noise
        return drawn


def write_features(folder: Path, draw: Drawn, clips: int, first: int = 0) -> None:
    """Write a folder of features of videos with EACH clips, numbered from `first`."""
    from ig65m.store.features import Features
    from ig65m.store.folder import Store, result_name
    from ig65m.types import ClipSpan, Segment

    spans = tuple(ClipSpan(1.28 * n, 1.28 * (n + 1), 32 * n, 32 * n + 31) for n in range(EACH))
    with Store(folder, SETTINGS) as store:
        for number in range(first, first + clips // EACH):
            video = Segment(f"/videos/{number:06}.mp4")
            store.claim(result_name(video))
            store.commit(video, str(number), Features(video.path, "ok", draw(EACH), spans, SETTINGS))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    done = work()
    return time.perf_counter() - start, done


def latency(index: Any, queries: NDArray[np.float32], **options: Any) -> dict[str, float]:
    """Return the milliseconds of a search for 10 hits."""
    index.search(queries[:1], 10, **options)
    times = [1e3 * timed(partial(index.search, query[None], 10, **options))[0] for query in queries]
    return {"median": float(np.median(times)), "p99": float(np.quantile(times, 0.99)), "most": max(times)}


def measure(clips: int, queries: int, place: Path) -> dict[str, Any]:
    from ig65m.search.hits import Where
    from ig65m.search.index import Index
    from ig65m.search.recall import measure_recall

    draw = Drawn()
    write_features(place / "features", draw, clips)
    build, (index, _) = timed(lambda: Index.build(place / "features", place / "index", say=print))
    shutil.rmtree(place / "features")
    row: dict[str, Any] = {"clips": len(index), "width": WIDTH, "kind": index.kind, "build_s": build}
    row["open_s"] = timed(lambda: Index.open(place / "index").search(draw(1), 10))[0]
    asked = draw(queries)
    row["search_ms"] = latency(index, asked)
    one = tuple(index.sources())[:1]
    row["search_without_a_video_ms"] = latency(index, asked[:100], where=Where(not_videos=one))
    row["search_in_a_video_ms"] = latency(index, asked[:100], where=Where(videos=one))
    found = measure_recall(index, queries=queries, vectors=asked)
    row["recall"] = found.recall
    write_features(place / "more", draw, 1000, first=clips // EACH)
    row["add_1000_s"] = timed(lambda: index.add(place / "more", say=print))[0]
    row["search_after_add_ms"] = latency(index, asked)
    row["bytes"] = sum(path.stat().st_size for path in (place / "index").rglob("*") if path.is_file())
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="where there is room; default: a temporary one")
    parser.add_argument("--json", type=Path, help="append a JSON line to this file")
    args = parser.parse_args()
    from ig65m.bench import machine

    for clips in args.clips:
        with tempfile.TemporaryDirectory(dir=args.folder) as place:
            row = measure(clips, args.queries, Path(place))
        print(f"\n{row['clips']:,} clips x {WIDTH}, {row['kind']} search, 10 hits")
        for name, value in row.items():
            numbers = value if isinstance(value, dict) else {"": value}
            texts = [f"{key} {each:,.4g}" if isinstance(each, float) else str(each) for key, each in numbers.items()]
            print(f"  {name:28}{', '.join(texts).strip()}", flush=True)
        if args.json:
            with args.json.open("a") as out:
                facts = machine() | {"lancedb": version("lancedb")}
                out.write(json.dumps({"bench": "search", **row, "queries": args.queries, "machine": facts}) + "\n")


if __name__ == "__main__":
    main()
