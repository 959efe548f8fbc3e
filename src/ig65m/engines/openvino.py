"""OpenVINO engine, on the CPU."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from ig65m.engines import cache
from ig65m.engines.base import Arrays, Precision, Work, check_work, finished, padded
from ig65m.errors import UsageError
from ig65m.models.weights import Weights

_NAMES: dict[Precision, tuple[str, str]] = {  # OpenVINO's names: of the precision hint, and of the CPU's capability
    "fp32": ("f32", "FP32"),
    "bf16": ("bf16", "BF16"),
    "fp16": ("f16", "FP16"),
    "int8": ("f32", "INT8"),  # layers that are not quantised run in float32
}
_ISA = "ONEDNN_MAX_CPU_ISA"
_WITHOUT_AMX = "AVX512_CORE_FP16"
_PROBE = """
import numpy, openvino
from openvino import opset13 as op
x = op.parameter([1, 64, 16, 16], openvino.Type.f32)
y = op.convolution(x, op.constant(numpy.ones((64, 64, 3, 3), numpy.float32)), [1, 1], [1, 1], [1, 1], [1, 1])
model = openvino.Core().compile_model(openvino.Model([y], [x]), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
model([numpy.ones((1, 64, 16, 16), numpy.float32)])
"""

_PACKAGE = Path(__file__).parent.parent
_SOURCES = [
    _PACKAGE / name
    for name in ("onnx_graph.py", "engines/graph.py", "models/plan.py", "models/layer_names.py", "models/weights.py")
]
"""What the graph of given weights depends on."""

_started = False  # OpenVINO inspects the processor when it is first used


def announces_amx() -> bool:
    """Whether the processor announces AMX."""
    processor = Path("/proc/cpuinfo")
    return processor.exists() and "amx_tile" in processor.read_text()


def avoid_amx() -> None:
    """Disable AMX if the machine announces it but kills processes that use it, as some virtual machines do.

    Only another process can find out. Raises UsageError if OpenVINO was already used in this process.
    """
    if _ISA in os.environ or not announces_amx():
        return
    done = subprocess.run([sys.executable, "-P", "-c", _PROBE], capture_output=True, check=False)
    if done.returncode != -signal.SIGILL:
        return
    if _started:
        raise UsageError(f"this machine announces AMX but does not support it; restart with {_ISA}={_WITHOUT_AMX}")
    os.environ[_ISA] = _WITHOUT_AMX


@lru_cache(maxsize=1)
def shared_core() -> openvino.Core:
    """Return the one instance of OpenVINO, which lives as long as the program.

    Each instance gives its thread another stack for signal handlers (sigaltstack). If instances do not end in the reverse order
    of their start, or end in other threads, one that is freed stays in use, and the next signal ends the program.
    """
    return openvino.Core()


def core_for(precision: Precision) -> openvino.Core:
    """Return OpenVINO, if this CPU has the precision. Raises UsageError, naming what is available, if not."""
    global _started  # noqa: PLW0603 - as global as what OpenVINO remembers
    if precision in ("bf16", "fp16"):
        avoid_amx()
    _started = True
    core = shared_core()
    there = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    capability = _NAMES[precision][1]
    if capability not in there:
        have = ", ".join(name for name, (_, known) in _NAMES.items() if known in there)
        raise UsageError(f"OpenVINO has no {precision} on this CPU, it has {have}")
    return core


def compiled(graph: bytes | Path, precision: Precision, threads: int | None, streams: int = 1) -> openvino.CompiledModel:
    """Compile an ONNX graph for the CPU; `threads` None is one for each core. Raises UsageError as `core_for`."""
    core = core_for(precision)
    return core.compile_model(core.read_model(graph), "CPU", _config(precision, threads, streams))


def _config(precision: Precision, threads: int | None, streams: int) -> dict[str, Any]:
    # OpenVINO would choose bfloat16 on a CPU that has it; float32 must be requested.
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _NAMES[precision][0], "PERFORMANCE_HINT": "LATENCY"}
    if streams > 1:
        config["NUM_STREAMS"] = streams
    return config if threads is None else config | {"INFERENCE_NUM_THREADS": threads}


def _cached(
    weights: Weights, work: Work, precision: Precision, threads: int | None, reload: Callable[[], Weights] | None
) -> tuple[Any, Any]:
    """Return the compiled network, from the cache or stored there, and the object that must live as long as it."""
    source = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()
    key = _key(precision, weights=weights.sha256, work=asdict(work), graph=source)
    if (kept := cache.load(key)) is not None:
        if reload is not None:
            weights.free()  # before OpenVINO copies them: memory would hold the weights three times
        if (made := _imported(kept, precision, threads)) is not None:
            return made
        if reload is not None:
            weights = reload()
    from ig65m.engines.graph import graph_file

    with graph_file(weights, work, free_weights=reload is not None) as path:
        return _stored(key, compiled(path, precision, threads))


def cached_graph(graph: bytes, threads: int | None, *, at_once: int) -> tuple[Any, Any]:
    """As `compiled` in float32, but from the cache or stored there; and the object that must live as long as the result.

    It serves `at_once` requests at the same time, with a part of the threads for each.
    """
    streams = at_once if threads is None else min(at_once, threads)
    key = _key("fp32", graph=hashlib.sha256(graph).hexdigest(), streams=streams)
    made = None if (kept := cache.load(key)) is None else _imported(kept, "fp32", threads, streams)
    return made or _stored(key, compiled(graph, "fp32", threads, streams))


def _key(precision: Precision, **what: Any) -> dict[str, Any]:
    core = core_for(precision)
    return {
        **what,
        "precision": precision,
        "engine": f"openvino {openvino.__version__}",
        "processor": [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")],
        "instructions": os.environ.get(_ISA),
    }


def _imported(kept: cache.CachedModel, precision: Precision, threads: int | None, streams: int = 1) -> tuple[Any, Any] | None:
    """Load an entry of the cache; None if OpenVINO rejects it, so that it is compiled again."""
    tensor = openvino.Tensor(kept.model, shared_memory=True)
    with suppress(RuntimeError):
        made = core_for(precision).import_model(tensor, "CPU", _config(precision, threads, streams))
        kept.release()
        return made, tensor
    return None


def _stored(key: dict[str, Any], made: openvino.CompiledModel) -> tuple[Any, Any]:
    cache.store(key, made.export_model().getbuffer())
    return made, None


class OpenVINOEngine:
    """Runs a network's graph in OpenVINO."""

    device = "cpu"

    def __init__(
        self,
        weights: Weights,
        work: Work,
        *,
        precision: Precision = "fp32",
        threads: int | None = None,
        reload: Callable[[], Weights] | None = None,
    ) -> None:
        check_work(weights.spec, work)
        self.name = f"openvino {openvino.__version__.split('-')[0]}"
        self.precision = precision
        self.work = work
        self.model, kept = _cached(weights, work, precision, threads, reload)
        self.request = self.model.create_infer_request()
        self.outputs = {name: output for output in self.model.outputs for name in output.names}
        self._kept = kept

    def __call__(self, clips: NDArray[Any]) -> Arrays:
        """Compute a batch: see `Engine`."""
        pixels = np.ascontiguousarray(padded(clips, self.work.batch_size))
        self.request.infer({"pixels": pixels}, share_inputs=True)
        values = {name: np.array(self.request.get_tensor(output).data) for name, output in self.outputs.items()}
        return finished(values["features"], values.get("logits", np.zeros((len(pixels), 0), np.float32)), len(clips))
