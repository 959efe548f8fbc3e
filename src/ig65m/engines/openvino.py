"""OpenVINO engine, on the CPU."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from ig65m.engines.base import Arrays, Precision, Work, finished, graph_of, padded
from ig65m.errors import UsageError
from ig65m.models.network import Network

_NAMES: dict[Precision, tuple[str, str]] = {  # OpenVINO's: of the hint, and of what the CPU can do
    "fp32": ("f32", "FP32"),
    "bf16": ("bf16", "BF16"),
    "fp16": ("f16", "FP16"),
    "int8": ("f32", "INT8"),  # what is not quantised is float32
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


_started = False  # OpenVINO looks at the processor once, when it is first used


def announces_amx() -> bool:
    """Whether the processor says that it has AMX."""
    processor = Path("/proc/cpuinfo")
    return processor.exists() and "amx_tile" in processor.read_text()


def avoid_amx() -> None:
    """Keep OpenVINO off AMX where the machine announces it and kills whoever uses it, as some virtual machines do.

    Only another process can find out.

    Raises UsageError if it is too late for this one.
    """
    if _ISA in os.environ or not announces_amx():
        return
    done = subprocess.run([sys.executable, "-P", "-c", _PROBE], capture_output=True, check=False)
    if done.returncode != -signal.SIGILL:
        return
    if _started:
        raise UsageError(f"this machine announces AMX and does not have it; start again with {_ISA}={_WITHOUT_AMX}")
    os.environ[_ISA] = _WITHOUT_AMX


def compiled(graph: bytes, precision: Precision, threads: int | None) -> openvino.CompiledModel:
    """A serialised ONNX graph, ready to run on the CPU; `threads` None: as many as there are cores.

    Raises UsageError, naming what there is, if this CPU lacks the precision.
    """
    global _started  # noqa: PLW0603 - as global as what OpenVINO remembers
    if precision in ("bf16", "fp16"):
        avoid_amx()
    _started = True
    core = openvino.Core()
    there = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    hint, capability = _NAMES[precision]
    if capability not in there:
        have = ", ".join(name for name, (_, known) in _NAMES.items() if known in there)
        raise UsageError(f"OpenVINO has no {precision} on this CPU, it has {have}")
    # OpenVINO takes bfloat16 by itself where the CPU has it, so float32 must be said.
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    return core.compile_model(core.read_model(graph), "CPU", config)


class OpenVINOEngine:
    """Runs a network's graph in OpenVINO."""

    device = "cpu"

    def __init__(self, model: Network, work: Work, *, precision: Precision = "fp32", threads: int | None = None) -> None:
        self.name = f"openvino {openvino.__version__.split('-')[0]}"
        self.precision = precision
        self.work = work
        self.model = compiled(graph_of(model, work).SerializeToString(), precision, threads)
        self.request = self.model.create_infer_request()
        self.outputs = {name: output for output in self.model.outputs for name in output.names}

    def __call__(self, clips: NDArray[Any]) -> Arrays:
        """As `Engine` says."""
        pixels = np.ascontiguousarray(padded(clips, self.work.batch_size))
        self.request.infer({"pixels": pixels}, share_inputs=True)
        values = {name: np.array(self.request.get_tensor(output).data) for name, output in self.outputs.items()}
        return finished(values["features"], values.get("logits", np.zeros((len(pixels), 0), np.float32)), len(clips))
