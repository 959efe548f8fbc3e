"""Measures how fast this machine turns video into features: decoding, network, both together, and the limit of its
arithmetic.
"""

import platform
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ig65m.engines.base import Engine, Precision, Work
from ig65m.engines.choice import Choice
from ig65m.models.random_weights import random_weights
from ig65m.models.weights import Weights
from ig65m.onnx_graph import OPSET
from ig65m.pipeline import run
from ig65m.types import Clip
from ig65m.video.clips import Source, read_clips
from ig65m.video.sampling import Sampling
from ig65m.zoo.cards import find_card
from ig65m.zoo.cost import cost
from ig65m.zoo.load import load_weights

SIDE = 2048  # edge of the matrices whose product measures the arithmetic
SECONDS = 2.0  # shortest duration of a measurement


@dataclass(frozen=True)
class Speed:
    """Clips a second; None if not measured."""

    engine: str
    precision: str
    device: str
    threads: int | None
    batch_size: int
    network: float  # the engine alone
    limit: float  # multiply-adds of convolutions and last layer at the speed of a large matrix product
    gflops: float  # that speed, in the same precision and library
    decode: float | None = None  # decoding alone, to pixels of the network's size
    both: float | None = None  # the whole pipeline, with a loaded engine


def weights_for(model: str) -> Weights:
    """Load a file; for a name, return random weights, since speed does not depend on them."""
    if Path(model).suffix:
        return load_weights(model)
    return random_weights(find_card(model))


def measure(runs: Sequence[tuple[Weights, Choice]], video: Path | None, *, batch_size: int = 1) -> Iterator[Speed]:
    """Yield a `Speed` for each run of the same network, quantised or not."""
    card = runs[0][0].card
    work = Work(preprocessing=card.preprocessing, frames=card.frames or 8, batch_size=batch_size)
    sampling = Sampling(frames=work.frames, frame_step=card.frame_step, fps=card.fps)
    decode = None if video is None else _decode_speed(video, sampling, work)
    for weights, choice in runs:
        engine = choice.load(weights, work)
        clips = random_clips(work, batch_size)
        gflops = product_speed(choice, engine.precision)
        yield Speed(
            engine=engine.name,
            precision=engine.precision,
            device=engine.device,
            threads=choice.threads,
            batch_size=batch_size,
            network=batch_size / seconds(partial(engine, clips)),
            limit=gflops * 1e9 / (2 * cost(card).multiply_adds),
            gflops=gflops,
            decode=decode,
            both=None if video is None else _both_speed(video, sampling, work, engine),
        )


def random_clips(work: Work, count: int) -> NDArray[Any]:
    """Return noise (count, T, H, W, 3), as engines take it."""
    return np.random.default_rng(0).integers(0, 256, (count, *work.shape[1:]), np.uint8).astype(work.dtype)


def seconds(job: Callable[[], Any]) -> float:
    """Return the shortest time of `job` in at least three runs and at least SECONDS, after a run for warming up."""
    job()
    times: list[float] = []
    while len(times) < 3 or sum(times) < SECONDS:
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times)


def product_speed(choice: Choice, precision: Precision) -> float:
    """Return 10⁹ operations a second of a large matrix product."""
    operations = 2 * SIDE**3 / 1e9
    if choice.engine == "pytorch":
        import torch

        kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        matrix = torch.randn(SIDE, SIDE, device=choice.device).to(kind)

        def product() -> None:
            (matrix @ matrix)[0, 0].item()  # waits for the device

        return operations / seconds(product)
    proto, a = _product_graph(whole=precision == "int8")
    if choice.engine == "onnxruntime":
        from ig65m.engines.onnxruntime import session

        running = session(proto, choice.threads)
        return operations / seconds(lambda: running.run(None, {"a": a}))
    from ig65m.engines.openvino import compiled

    request = compiled(proto, precision, choice.threads).create_infer_request()
    return operations / seconds(lambda: request.infer({"a": a}, share_inputs=True))


def _product_graph(*, whole: bool) -> tuple[bytes, NDArray[Any]]:
    """Return the ONNX graph of a matrix product, in float32 or int8, and its left matrix "a"."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
    weights: dict[str, NDArray[Any]] = {"b": b}
    nodes = [helper.make_node("Identity", [name], [f"{name}_float"]) for name in "ab"]
    if whole:
        grid = ["step", "zero"]
        weights = {"step": np.array(0.05, np.float32), "zero": np.array(0, np.int8)}
        weights["b"] = random.integers(-127, 128, b.shape, np.int8)
        nodes = [helper.make_node("QuantizeLinear", ["a", *grid], ["a_whole"])]
        nodes.append(helper.make_node("DequantizeLinear", ["a_whole", *grid], ["a_float"]))
        nodes.append(helper.make_node("DequantizeLinear", ["b", *grid], ["b_float"]))
    nodes.append(helper.make_node("MatMul", ["a_float", "b_float"], ["c"]))
    nodes.append(helper.make_node("ReduceMax", ["c"], ["most"], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)],
        [helper.make_tensor_value_info("most", TensorProto.FLOAT, ())],
        [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=onnx.IR_VERSION_2023_5_5)
    return model.SerializeToString(), a


def _decode_speed(video: Path, sampling: Sampling, work: Work) -> float:
    start = time.perf_counter()
    count = sum(1 for _ in read_clips(video, sampling, work.preprocessing))
    return count / (time.perf_counter() - start)


def _both_speed(video: Path, sampling: Sampling, work: Work, engine: Engine) -> float:
    start = time.perf_counter()

    def read(source: Source) -> Generator[Clip, None, None]:
        return read_clips(source, sampling, work.preprocessing)

    (result,) = run([video], read, engine, batch_size=work.batch_size)
    if result.error is not None:
        raise RuntimeError(result.error.message)
    return len(result.clips) / (time.perf_counter() - start)


def machine() -> dict[str, str]:
    """Return the processor, and the versions of Python and of all libraries that compute."""
    names = ("ig65m", "torch", "openvino", "onnxruntime", "av", "numpy")
    info = Path("/proc/cpuinfo")
    model = next((line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line), "")
    return {"processor": model or platform.processor(), "python": platform.python_version()} | {
        name: version(name) for name in names if find_spec(name)
    }
