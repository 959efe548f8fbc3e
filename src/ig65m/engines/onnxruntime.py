"""ONNX Runtime engine, on the CPU, in float32 or int8."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ig65m.engines.base import Arrays, Precision, Work, finished, padded
from ig65m.engines.graph import graph_file
from ig65m.models.weights import Weights


def session(graph: bytes | Path, threads: int | None) -> onnxruntime.InferenceSession:
    """Load a graph for the CPU; `threads` None is one for each core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class OnnxRuntimeEngine:
    """Runs a network's graph in ONNX Runtime."""

    device = "cpu"

    def __init__(
        self,
        weights: Weights,
        work: Work,
        *,
        precision: Precision = "fp32",
        threads: int | None = None,
        free_weights: bool = False,
    ) -> None:
        self.precision = precision
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.work = work
        with graph_file(weights, work, free_weights=free_weights) as path:
            self.session = session(path, threads)
        self.outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, clips: NDArray[Any]) -> Arrays:
        """Compute a batch: see `Engine`."""
        pixels = padded(clips, self.work.batch_size)
        values = dict(zip(self.outputs, self.session.run(self.outputs, {"pixels": pixels}), strict=True))
        return finished(values["features"], values.get("logits", np.zeros((len(pixels), 0), np.float32)), len(clips))
