"""Which engine runs a network, in which precision."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, cast, get_args

from ig65m.engines.base import Engine, Precision, Work
from ig65m.engines.pytorch import find_device
from ig65m.errors import UsageError, check_choice
from ig65m.models.network import Network

EngineName = Literal["openvino", "onnxruntime", "pytorch"]
PRECISIONS: Final[dict[EngineName, tuple[Precision, ...]]] = {
    "openvino": ("fp32", "bf16", "fp16", "int8"),
    "onnxruntime": ("fp32", "int8"),
    "pytorch": ("fp32", "bf16", "fp16"),
}
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

    def load(self, model: Network, work: Work, *, reload: Callable[[], Network] | None = None) -> Engine:
        """Load the engine. To save memory, it may free the weights of a network that `reload` can load again.

        Raises UsageError if the engine cannot do the work, or lacks the precision on this machine.
        """
        precision = self._precision(model)
        if self.engine == "pytorch":
            from ig65m.engines.parity import precision_on
            from ig65m.engines.pytorch import PyTorchEngine

            place = find_device(self.device)
            if place.type != "cpu":
                precision = precision_on(place, model, work, self.precision)
            return PyTorchEngine(model, work, precision=precision, device=self.device, threads=self.threads)
        if self.engine == "onnxruntime":
            from ig65m.engines.onnxruntime import OnnxRuntimeEngine

            return OnnxRuntimeEngine(model, work, precision=precision, threads=self.threads, free_weights=reload is not None)
        from ig65m.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(model, work, precision=precision, threads=self.threads, reload=reload)

    def _precision(self, model: Network) -> Precision:
        """Return the precision for this network. Raises UsageError if the engine cannot run it so."""
        if model.quantization is None:
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
    on_gpu = find_device(device).type != "cpu"
    name = engine or ("pytorch" if on_gpu else "openvino")
    check_choice("engine", name, get_args(EngineName))
    if on_gpu and name != "pytorch":
        raise UsageError(f"{name} runs on the CPU only; use pytorch on {device}")
    there = PRECISIONS[cast("EngineName", name)]
    if precision is not None and precision not in there:
        others = ", ".join(other for other, those in PRECISIONS.items() if precision in those)
        near = get_close_matches(precision, there, 1)
        hint = f"; use {others} for {precision}" if others else f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{name} has no precision {precision!r}; it has {', '.join(there)}{hint}")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"the number of threads must be from 1 to {MAX_THREADS}, got {threads}")
    return Choice(cast(EngineName, name), precision, device, threads)


def described(engine: Engine, threads: int | None) -> str:
    """Describe an engine in a line: "openvino 2026.4.1, fp32, cpu"."""
    count = "" if threads is None else f", {threads} thread{'s' if threads > 1 else ''}"
    return f"{engine.name}, {engine.precision}, {engine.device}{count}"
