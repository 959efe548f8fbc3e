"""Extraction on a Ray cluster: a Ray Data job whose actors do what one machine does, into the same folder of features."""

import json
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import ray.data

from ig65m.collection import Outcome, extract_collection, open_store
from ig65m.errors import UsageError, plain
from ig65m.store.content import Hash
from ig65m.store.journal import Entry
from ig65m.store.parquet import Dtype
from ig65m.tasks import load_extractor
from ig65m.types import Segment


class _Worker:
    """An actor: a network, loaded once, and the folder of features, which must be there under the same name on every node."""

    def __init__(self, folder: Path, options: Mapping[str, Any], dtype: Dtype, content: Hash, *, retry_failed: bool) -> None:
        self.extractor = load_extractor(**options)
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
    address: str | None = None,
    dtype: Dtype = "float32",
    content: Hash = "sampled",
    retry_failed: bool = False,
) -> Generator[Outcome, None, None]:
    """As `extract_collection` with `load_extractor(**options)`, on the Ray cluster at that address (None: on this machine).

    Each actor decodes beside its network, in a process of its own; there is one for each node that has a CPU, or for each GPU
    with `options["device"]` "cuda". A video that fails is an outcome like any other. Ray starts an actor that was killed again,
    elsewhere if its node is gone, and gives it the same videos: what had been finished of them is in the folder.

    Raises UsageError if there is no such cluster, or none with a GPU where one is asked for.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        if address is not None and (place := re.fullmatch(r"([^/]+):([0-9]+)", address)):
            socket.create_connection((place[1], int(place[2])), timeout=10).close()  # Ray itself tries for minutes
        with _own_signals():
            # With no address at all Ray joins whichever cluster it finds here.
            ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise UsageError(f"no Ray cluster at {address!r} ({plain(error)}); `ray start --head` starts one") from None
    try:
        on_gpu = options.get("device", "cpu") != "cpu"
        actors, needs = _pool(on_gpu=on_gpu)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        together = 8 if on_gpu else 1  # short videos fill batches together
        blocks = max(1, -(-len(videos) // together))
        rows = ray.data.from_items([{"video": _text(video)} for video in videos], override_num_blocks=blocks).map_batches(
            _Worker,
            batch_size=together,
            compute=ray.data.ActorPoolStrategy(size=min(actors, blocks)),
            fn_constructor_args=(folder.absolute(), _anywhere(options), dtype, content),
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
    """What SIGTERM does stays as it was; Ray would have it end the driver in its own way."""
    if threading.current_thread() is not threading.main_thread():  # then it is out of Ray's reach
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _pool(*, on_gpu: bool) -> tuple[int, dict[str, Any]]:
    """How many actors, and what Ray is to reserve for each."""
    kind = "GPU" if on_gpu else "CPU"
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    there = [node["Resources"].get(kind, 0) for node in nodes if node["Alive"]]
    count = int(sum(there)) if on_gpu else sum(number > 0 for number in there)
    if not count:
        raise UsageError(f"no node of this Ray cluster has a {kind}")
    # Next to nothing of a CPU, so that an actor whose node is gone finds room on another.
    return count, {"num_gpus": 1, "num_cpus": 1} if on_gpu else {"num_cpus": 0.01}


def _anywhere(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as they hold in another working folder."""
    model = Path(options["model"])
    return {**options, "model": str(model.absolute()) if model.exists() else options["model"]}


def _text(video: Segment) -> str:
    return json.dumps(asdict(video))


def _video(text: str) -> Segment:
    video = json.loads(text)
    return Segment(**video | {"starts": None if video["starts"] is None else tuple(video["starts"])})
