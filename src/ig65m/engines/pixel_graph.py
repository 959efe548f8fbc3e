"""Graphs with one input of pixels and one output, which are no network of a card, in the engines for graphs."""

from collections.abc import Callable
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

    from ig65m.engines.openvino import compiled

    model = compiled(graph, "fp32", choice.threads)

    def run_model(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array(model.create_infer_request().infer({"pixels": pixels}, share_inputs=True)[0])

    return f"openvino {openvino.__version__.split('-')[0]}", run_model
