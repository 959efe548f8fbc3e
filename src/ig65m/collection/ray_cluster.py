"""Extraction on a Ray cluster: a Ray Data job whose actors extract into one folder of features."""

import json
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import ray.data

from ig65m.collection.extraction import ClipNetwork, Outcome, extract_collection, open_store
from ig65m.errors import UsageError, plain
from ig65m.store.digest import Hash
from ig65m.store.features import Dtype
from ig65m.store.journal import Entry
from ig65m.tasks.extractor import Extractor
from ig65m.types import Segment


class _Worker:
    """An actor: a loaded network, and the folder of features, which must have the same path on every node."""

    def __init__(
        self,
        load: Callable[..., ClipNetwork],
        folder: Path,
        options: Mapping[str, Any],
        dtype: Dtype,
        content: Hash,
        *,
        retry_failed: bool,
    ) -> None:
        self.extractor = load(**options)
        self.store = open_store(folder, self.extractor, dtype=dtype, content=content)
        self.retry_failed = retry_failed

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        videos = [_video(text) for text in batch["video"]]
        rows: dict[str, list[Any]] = {"video": [], "entry": [], "made": []}
        for outcome in extract_collection(videos, self.extractor, self.store, retry_failed=self.retry_failed):
            rows["video"].append(_text(outcome.video))
            rows["entry"].append("" if outcome.entry is None else outcome.entry.to_json())
            rows["made"].append(outcome.made)
        return rows


def extract_on_ray(
    videos: Sequence[Segment],
    folder: Path,
    options: Mapping[str, Any],
    *,
    load: Callable[..., ClipNetwork] = Extractor,
    address: str | None = None,
    dtype: Dtype = "float32",
    content: Hash = "sampled",
    retry_failed: bool = False,
) -> Generator[Outcome, None, None]:
    """Run `extract_collection` with `load(**options)` on the Ray cluster at `address`; None is this machine.

    There is an actor for each node with a CPU, or with `options["device"]` "cuda" for each GPU. Each decodes in a worker
    process beside its network. Ray restarts a killed actor, on another node if necessary, with the same videos; those that it
    had finished are in the folder.

    Raises UsageError if there is no such cluster, or no GPU in it if one is asked for.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        if address is not None and (place := re.fullmatch(r"([^/]+):([0-9]+)", address)):
            socket.create_connection((place[1], int(place[2])), timeout=10).close()  # Ray would retry for minutes
        with _own_signals():
            # Without an address Ray joins any cluster that it finds.
            ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise UsageError(f"no Ray cluster at {address!r} ({plain(error)}); `ray start --head` starts one") from None
    try:
        on_gpu = options.get("device", "cpu") != "cpu"
        actors, needs = _pool(on_gpu=on_gpu)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        together = 8 if on_gpu else 1  # several, so that short videos share batches
        blocks = max(1, -(-len(videos) // together))
        rows = ray.data.from_items([{"video": _text(video)} for video in videos], override_num_blocks=blocks).map_batches(
            _Worker,
            batch_size=together,
            compute=ray.data.ActorPoolStrategy(size=min(actors, blocks)),
            fn_constructor_args=(load, folder.absolute(), _anywhere(options), dtype, content),
            fn_constructor_kwargs={"retry_failed": retry_failed},
            **needs,
        )
        for row in rows.iter_rows():
            entry = Entry.from_json(row["entry"]) if row["entry"] else None
            yield Outcome(_video(row["video"]), entry, bool(row["made"]))
    finally:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():  # Ray sets no handlers outside the main thread
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _pool(*, on_gpu: bool) -> tuple[int, dict[str, Any]]:
    """Return the number of actors, and the resources that Ray reserves for each."""
    kind = "GPU" if on_gpu else "CPU"
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    there = [node["Resources"].get(kind, 0) for node in nodes if node["Alive"]]
    count = int(sum(there)) if on_gpu else sum(number > 0 for number in there)
    if not count:
        raise UsageError(f"no node of this Ray cluster has a {kind}")
    # Almost no CPU, so that an actor whose node is gone fits on another.
    return count, {"num_gpus": 1, "num_cpus": 1} if on_gpu else {"num_cpus": 0.01}


def _anywhere(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with absolute paths; a model is a file, a name, or None for the default."""
    model = options["model"]
    return {**options, "model": str(Path(model).absolute()) if model is not None and Path(model).exists() else model}


def _text(video: Segment) -> str:
    return json.dumps(asdict(video))


def _video(text: str) -> Segment:
    video = json.loads(text)
    return Segment(**video | {"starts": None if video["starts"] is None else tuple(video["starts"])})
