"""Graphs without a model card, from one input of pixels to one output, in the engines for graphs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.engines.choice import Choice

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def load_graph(graph: bytes, choice: Choice, *, at_once: int = 1) -> tuple[str, Run]:
    """Load an ONNX graph, whose input is one item of `pixels`, into OpenVINO or ONNX Runtime, in float32.

    Returns the name of the engine with its version, and the function from items (N, ...) to their outputs, one after the other
    along the first axis. OpenVINO computes `at_once` items at the same time.
    """
    if choice.engine == "onnxruntime":
        import onnxruntime

        from ig65m.engines.onnxruntime import session

        loaded = session(graph, choice.threads)

        def run_session(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            outputs: list[Any] = [loaded.run(None, {"pixels": item[None]})[0] for item in pixels]
            return np.concatenate(outputs)

        return f"onnxruntime {onnxruntime.__version__}", run_session
    import openvino

    from ig65m.engines.openvino import cached_graph

    return f"openvino {openvino.__version__.split('-')[0]}", partial(
        _infer, cached_graph(graph, choice.threads, at_once=at_once)
    )


def _infer(loaded_and_memory: tuple[Any, Any], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run OpenVINO's model, given with the memory that must live as long as it, on items (N, ...)."""
    model, _ = loaded_and_memory
    requests = [model.create_infer_request() for _ in pixels]
    for request, item in zip(requests, pixels, strict=True):
        request.start_async({"pixels": item[None]}, share_inputs=True)
    for request in requests:
        request.wait()
    return np.concatenate([request.get_output_tensor(0).data for request in requests])
