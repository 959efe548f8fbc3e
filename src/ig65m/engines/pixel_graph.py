"""Graphs with one input of pixels and one output, which are no network of a card, in the engines for graphs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.engines.choice import Choice

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def load_graph(graph: bytes, choice: Choice) -> tuple[str, Run]:
    """Load an ONNX graph, whose input is `pixels`, into OpenVINO or ONNX Runtime, in float32.

    Returns the name of the engine with its version, and the function from pixels to the output.
    """
    if choice.engine == "onnxruntime":
        import onnxruntime

        from ig65m.engines.onnxruntime import session

        loaded = session(graph, choice.threads)

        def run_session(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            output: Any = loaded.run(None, {"pixels": pixels})[0]
            return np.asarray(output)

        return f"onnxruntime {onnxruntime.__version__}", run_session
    import openvino

    from ig65m.engines.openvino import cached_graph

    return f"openvino {openvino.__version__.split('-')[0]}", partial(_infer, cached_graph(graph, choice.threads))


def _infer(loaded_and_memory: tuple[Any, Any], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run a model of OpenVINO, which is given with the memory that must live as long as it."""
    model, _ = loaded_and_memory
    return np.array(model.create_infer_request().infer({"pixels": pixels}, share_inputs=True)[0])
