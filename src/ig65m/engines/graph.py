"""The ONNX graph that OpenVINO and ONNX Runtime run: pixels in, features and logits out."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper

from ig65m.engines.base import Pooling, Work, check_work
from ig65m.models.weights import Weights
from ig65m.onnx_graph import Graph, add_class_map, add_head, add_layer, add_maps, add_pixels


@contextmanager
def graph_file(weights: Weights, work: Work, *, free_weights: bool = False) -> Iterator[Path]:
    """Write the graph of `graph_of` and its weights to temporary files, until the block ends.

    With `free_weights`, the weights are freed then.
    """
    with tempfile.TemporaryDirectory(prefix="ig65m-") as folder:
        path = Path(folder) / "graph.onnx"
        beside = path.with_name("weights.bin")
        try:
            with beside.open("wb") as file:
                graph = graph_of(weights, work, file)
        except OSError as error:
            error.filename = str(beside)
            raise
        path.write_bytes(graph.SerializeToString())
        if free_weights:
            weights.free()
        yield path


def graph_of(weights: Weights, work: Work, file: BinaryIO | None = None) -> onnx.ModelProto:
    """Return the network as a graph for that work: input `pixels`, outputs `features`, and `logits` if there are classes."""
    spec = weights.spec
    check_work(spec, work)
    graph = Graph(weights, file, layer=work.layer, whole=work.logits)
    maps = add_maps(graph, add_pixels(graph, "pixels", work.preprocessing.mean, work.preprocessing.std), work.frames)
    features, logits = add_head(graph, maps) if work.logits or work.layer is None else (maps, None)
    if work.window is not None and spec.classes:
        logits = add_class_map(graph, maps, work.window)
    if work.layer is not None:
        features = _add_pooling(graph, add_layer(graph), work.pooling)
    elif work.pooling != Pooling():
        features = _add_pooling(graph, maps, work.pooling)
    outputs = {"features": features} | ({} if logits is None else {"logits": logits})
    for name, value in outputs.items():
        graph.rename(value, name)
    whole = work.preprocessing.crop is None
    shape = [size if axis not in (2, 3) or not whole else None for axis, size in enumerate(work.shape)]
    kind = TensorProto.UINT8 if work.dtype == np.uint8 else TensorProto.FLOAT
    return graph.model(
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )


def _add_pooling(graph: Graph, maps: str, pooling: Pooling) -> str:
    for reduction, axes in ((pooling.spatial, (3, 4)), (pooling.temporal, (2,))):
        if reduction != "none":
            operator = "ReduceMean" if reduction == "mean" else "ReduceMax"
            maps = graph.add(operator, maps, graph.constant(np.array(axes)), keepdims=0)
    return maps
