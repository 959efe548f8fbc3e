"""Which engine runs a network: what was asked for, or the fastest for the device, in a precision as good as float32."""

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
    """An engine, its precision, its device, and how many threads it may use (None: its own choice, a thread a core).

    Without a precision it is int8 of a quantised network; of any other fp32 on the CPU, and on a GPU the fastest that gives
    the features of fp32 there (`parity.py`).
    """

    engine: EngineName
    precision: Precision | None
    device: str
    threads: int | None

    def load(self, model: Network, work: Work, *, reload: Callable[[], Network] | None = None) -> Engine:
        """The engine for that network and work; to save memory it may take the weights of one that `reload` can load again.

        Raises UsageError if the engine cannot do it, or lacks the precision here.
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
            from ig65m.engines.onnx import OnnxRuntimeEngine

            return OnnxRuntimeEngine(model, work, precision=precision, threads=self.threads, free_weights=reload is not None)
        from ig65m.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(model, work, precision=precision, threads=self.threads, reload=reload)

    def _precision(self, model: Network) -> Precision:
        """The precision that this network has in this engine. Raises UsageError if it has none such."""
        if model.quantization is None:
            if self.precision == "int8":
                raise UsageError("this network is not in int8; `ig65m quantize` makes a model file that is")
            return self.precision or "fp32"
        if self.precision not in (None, "int8"):
            raise UsageError(f"this network is in int8; for {self.precision} take the one that it was made from")
        if "int8" not in PRECISIONS[self.engine]:
            able = ", ".join(name for name, those in PRECISIONS.items() if "int8" in those)
            raise UsageError(f"{self.engine} has no int8, which this network is in; {able} have it")
        return "int8"


def choose(engine: str | None = None, precision: str | None = None, device: str = "cpu", threads: int | None = None) -> Choice:
    """The engine of that name, or OpenVINO on the CPU and PyTorch on a GPU, in that precision.

    Raises UsageError, naming what there is, for what there is not.
    """
    on_gpu = find_device(device).type != "cpu"
    name = engine or ("pytorch" if on_gpu else "openvino")
    check_choice("engine", name, get_args(EngineName))
    if on_gpu and name != "pytorch":
        raise UsageError(f"{name} runs on the CPU here; on {device} there is pytorch")
    there = PRECISIONS[cast("EngineName", name)]
    if precision is not None and precision not in there:
        others = ", ".join(other for other, those in PRECISIONS.items() if precision in those)
        near = get_close_matches(precision, there, 1)
        hint = f"; {precision} is what {others} can do" if others else f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{name} has no precision {precision!r} here, it has {', '.join(there)}{hint}")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"the number of threads must be from 1 to {MAX_THREADS}, got {threads}")
    return Choice(cast(EngineName, name), precision, device, threads)


def described(engine: Engine, threads: int | None) -> str:
    """An engine in a line, for people: "openvino 2026.4.1, fp32, cpu"."""
    count = "" if threads is None else f", {threads} thread{'s' if threads > 1 else ''}"
    return f"{engine.name}, {engine.precision}, {engine.device}{count}"
