"""Which engine runs a network: what was asked for, or the fastest for the device that gives float32."""

from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from ig65m.engines.base import Engine, Precision, Work
from ig65m.engines.pytorch import find_device
from ig65m.errors import UsageError
from ig65m.models.network import Network

EngineName = Literal["openvino", "onnxruntime", "pytorch"]
PRECISIONS: Final[dict[EngineName, tuple[Precision, ...]]] = {
    "openvino": ("fp32", "bf16", "fp16"),
    "onnxruntime": ("fp32",),
    "pytorch": ("fp32", "bf16", "fp16"),
}
MAX_THREADS: Final = 1024


@dataclass(frozen=True)
class Choice:
    """An engine, its precision, its device, and how many threads it may use (None: its own choice, a thread a core)."""

    engine: EngineName
    precision: Precision
    device: str
    threads: int | None

    def load(self, model: Network, work: Work) -> Engine:
        """The engine for that network and work. Raises UsageError if it cannot do it, or lacks the precision here."""
        if self.engine == "pytorch":
            from ig65m.engines.pytorch import PyTorchEngine

            return PyTorchEngine(model, work, precision=self.precision, device=self.device, threads=self.threads)
        if self.engine == "onnxruntime":
            from ig65m.engines.onnx import OnnxRuntimeEngine

            return OnnxRuntimeEngine(model, work, threads=self.threads)
        from ig65m.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(model, work, precision=self.precision, threads=self.threads)


def choose(engine: str | None = None, precision: str | None = None, device: str = "cpu", threads: int | None = None) -> Choice:
    """The engine of that name, or OpenVINO on the CPU and PyTorch on a GPU; the precision is fp32 unless another is named.

    Raises UsageError, naming what there is, for what there is not.
    """
    on_gpu = find_device(device).type != "cpu"
    name = engine or ("pytorch" if on_gpu else "openvino")
    if name not in get_args(EngineName):
        raise UsageError(f"engine {name!r} is none of {', '.join(get_args(EngineName))}")
    if on_gpu and name != "pytorch":
        raise UsageError(f"{name} runs on the CPU here; on {device} there is pytorch")
    there = PRECISIONS[cast(EngineName, name)]
    if (precision or "fp32") not in there:
        others = ", ".join(other for other, those in PRECISIONS.items() if precision in those)
        hint = f"; {precision} is what {others} can do" if others else ""
        raise UsageError(f"{name} has no precision {precision!r} here, it has {', '.join(there)}{hint}")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"the number of threads must be from 1 to {MAX_THREADS}, got {threads}")
    return Choice(cast(EngineName, name), cast(Precision, precision or "fp32"), device, threads)


def described(engine: Engine, threads: int | None) -> str:
    """An engine in a line, for people: "openvino 2026.4.1, fp32, cpu"."""
    count = "" if threads is None else f", {threads} thread{'s' if threads > 1 else ''}"
    return f"{engine.name}, {engine.precision}, {engine.device}{count}"
