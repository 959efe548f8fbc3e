"""Which engine runs a network, in which precision."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, cast, get_args

from ig65m.engines.base import Engine, Precision, Work
from ig65m.errors import UsageError, check_choice, check_installed, needs
from ig65m.models.weights import Weights

EngineName = Literal["openvino", "onnxruntime", "pytorch"]
PRECISIONS: Final[dict[EngineName, tuple[Precision, ...]]] = {
    "openvino": ("fp32", "bf16", "fp16", "int8"),
    "onnxruntime": ("fp32", "int8"),
    "pytorch": ("fp32", "bf16", "fp16"),
}
LIBRARIES: Final[dict[EngineName, str]] = {"openvino": "openvino", "onnxruntime": "onnxruntime", "pytorch": "torch"}
"""What is imported for an engine; but for OpenVINO, also the name of the extra that installs it."""

MAX_THREADS: Final = 1024


@dataclass(frozen=True)
class Choice:
    """An engine with its precision, device and number of threads.

    Precision None is int8 for a quantised network. For any other network it is fp32 on a CPU, and on a GPU the fastest
    precision whose features agree with float32 (`parity.py`). Threads None is one for each core.
    """

    engine: EngineName
    precision: Precision | None
    device: str
    threads: int | None

    def load(self, weights: Weights, work: Work, *, reload: Callable[[], Weights] | None = None) -> Engine:
        """Load the engine. To save memory, it may free weights that `reload` can load again.

        Raises UsageError if the engine cannot do the work, is not installed, or lacks the precision on this machine.
        """
        precision = self._precision(weights)
        if self.engine == "pytorch":
            from ig65m.engines.parity import precision_on
            from ig65m.engines.pytorch import PyTorchEngine, find_device

            if _is_gpu(self.device):
                precision = precision_on(find_device(self.device), weights, work, self.precision)
            return PyTorchEngine(weights, work, precision=precision, device=self.device, threads=self.threads)
        if self.engine == "onnxruntime":
            from ig65m.engines.onnxruntime import OnnxRuntimeEngine

            return OnnxRuntimeEngine(weights, work, precision=precision, threads=self.threads, free_weights=reload is not None)
        from ig65m.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(weights, work, precision=precision, threads=self.threads, reload=reload)

    def _precision(self, weights: Weights) -> Precision:
        """Return the precision for this network. Raises UsageError if the engine cannot run it so."""
        if weights.quantization is None:
            if self.precision == "int8":
                raise UsageError("this network is not quantised; make an int8 model with `ig65m quantize`")
            return self.precision or "fp32"
        if self.precision not in (None, "int8"):
            raise UsageError(f"this network is in int8; for {self.precision} use the one that it was quantised from")
        if "int8" not in PRECISIONS[self.engine]:
            able = ", ".join(name for name, those in PRECISIONS.items() if "int8" in those)
            raise UsageError(f"{self.engine} cannot run this int8 network; use {able}")
        return "int8"


def choose(engine: str | None = None, precision: str | None = None, device: str = "cpu", threads: int | None = None) -> Choice:
    """Return the choice of that engine; by default OpenVINO on a CPU and PyTorch on a GPU.

    Raises UsageError, naming what is available, for an engine, precision or device that is not.
    """
    on_gpu = _is_gpu(device)
    name = engine or ("pytorch" if on_gpu else "openvino")
    check_choice("engine", name, get_args(EngineName))
    if on_gpu and name != "pytorch":
        raise UsageError(f"{name} runs on the CPU only; use pytorch on {device}")
    library = LIBRARIES[cast("EngineName", name)]
    check_installed(library, library, f"the {name} engine")
    there = PRECISIONS[cast("EngineName", name)]
    if precision is not None and precision not in there:
        others = ", ".join(other for other, those in PRECISIONS.items() if precision in those)
        near = get_close_matches(precision, there, 1)
        hint = f"; use {others} for {precision}" if others else f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{name} has no precision {precision!r}; it has {', '.join(there)}{hint}")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"the number of threads must be from 1 to {MAX_THREADS}, got {threads}")
    return Choice(cast(EngineName, name), precision, device, threads)


def _is_gpu(device: str) -> bool:
    """Return whether a device is a GPU of this machine. Raises UsageError for one that is not there."""
    if device == "cpu":
        return False
    with needs("torch", f"device {device!r}"):
        from ig65m.engines.pytorch import find_device
    return find_device(device).type != "cpu"


def described(engine: Engine, threads: int | None) -> str:
    """Describe an engine in a line: "openvino 2026.4.1, fp32, cpu"."""
    count = "" if threads is None else f", {threads} thread{'s' if threads > 1 else ''}"
    return f"{engine.name}, {engine.precision}, {engine.device}{count}"
