"""Exports a network to one self-contained ONNX file with its metadata."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ig65m.atomic import finished_file
from ig65m.models.card import Card
from ig65m.models.weights import Weights
from ig65m.onnx_graph import CLIPS, Graph, add_head, add_maps

LONG = 8  # number of frames from which on VMZ's networks have the same graph


def export_onnx(weights: Weights, path: Path) -> None:
    """Export a network to ONNX: input `clips` (N, 3, T, H, W) float32, normalised; outputs `features`, and `logits` if it has
    classes.

    N, H, W and T are free, T from 8 on. VMZ's network is another graph for shorter clips, on which this one fails. If the card
    has fewer than 8 frames, or the stem spans the clip, T is fixed. For C3D only N is free. Batch norms are folded.

    The metadata have the card (`ig65m`), and for other programs `labels`, `mean` and `std` (of RGB on 0..255), `frames`,
    `scores` ("softmax" or "sigmoid" of the logits) and `origin`.
    """
    card, spec = weights.card, weights.spec
    frames = card.frames or 2 * LONG
    short = any(spec.keeps_time(frames))
    fixed = short or spec.clip_frames is not None
    graph = Graph(weights)
    features, logits = add_head(graph, add_maps(graph, CLIPS, frames))
    outputs = {"features": (features, spec.feature_width)}
    if logits is not None:
        outputs = {"logits": (logits, spec.classes), **outputs}
    one = None if fixed or not any(spec.keeps_time(1)) else _add_guard(graph)
    for name, (value, _) in outputs.items():
        graph.rename(value if one is None else graph.add("Mul", value, one), name)
    size = spec.clip_size or ("height", "width")
    shape = ["batch", spec.in_channels, frames if fixed else "frames", *size]
    written = graph.model(
        [helper.make_tensor_value_info(CLIPS, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name, (_, width) in outputs.items()],
    )
    helper.set_model_props(written, _metadata(card))
    onnx.checker.check_model(written, full_check=True)
    with finished_file(path) as temporary:
        onnx.save_model(written, temporary)


def _add_guard(graph: Graph) -> str:
    """Add a value that is 1 if clips have at least LONG frames; otherwise running the graph fails, by indexing out of range."""
    frames = graph.add("Shape", CLIPS, start=2, end=3)
    ones = graph.add("ConstantOfShape", frames, value=helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]))
    return graph.add("Gather", ones, graph.constant(np.array(LONG - 1)))


def _metadata(card: Card) -> dict[str, str]:
    facts = {
        "ig65m": card.to_json(),
        "mean": json.dumps(card.preprocessing.mean),
        "std": json.dumps(card.preprocessing.std),
        "labels": json.dumps(card.labels) if card.labels else None,
        "frames": str(card.frames) if card.frames else None,
        "scores": ("sigmoid" if card.spec.multi_label else "softmax") if card.spec.classes else None,
        "origin": card.origin,
    }
    return {key: value for key, value in facts.items() if value is not None}
