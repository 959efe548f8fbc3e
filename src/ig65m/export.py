"""A network -> ONNX: one self-contained file, with what a program needs to know to use it."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch import Tensor

from ig65m.atomic import finished_file
from ig65m.errors import CheckpointError
from ig65m.graph import CLIPS, Graph, add_head, add_maps
from ig65m.models.network import Network
from ig65m.zoo.cards import Card
from ig65m.zoo.custom import as_network

LONG = 8  # frames from which on the networks of VMZ are the same graph


def export_onnx(model: Network, path: Path) -> None:
    """Write `model` as ONNX: input `clips` (N, 3, T, H, W) float32, normalised; outputs `logits`, if any, and `features`.

    N, T, H and W are free, T from 8 up: shorter clips are another graph of VMZ's, on which this one fails, and a network whose
    card says fewer frames is written for just that many, as is one whose stem spans the clip. Of C3D only N is free. Batch
    norms are folded into the convolutions. The metadata hold the card (`ig65m`) and, for programs that do not know it,
    `labels`, `mean`, `std` (of RGB on 0..255), `frames`, `scores` (what makes scores of logits, "softmax" or "sigmoid"),
    `origin`. Raises ModelError as `as_network`.
    """
    model = as_network(model)
    card: Card = model.card
    frames = card.frames or 2 * LONG
    short = any(model.spec.keeps_time(frames))
    fixed = short or model.spec.clip_frames is not None
    graph = Graph(model)
    features, logits = add_head(graph, add_maps(graph, CLIPS, model, frames), model)
    outputs = {"features": (features, model.spec.feature_width)}
    if logits is not None:
        outputs = {"logits": (logits, model.spec.classes), **outputs}
    one = None if fixed or not any(model.spec.keeps_time(1)) else _add_guard(graph)
    for name, (value, _) in outputs.items():
        graph.rename(value if one is None else graph.add("Mul", value, one), name)
    size = model.spec.clip_size or ("height", "width")
    shape = ["batch", model.spec.in_channels, frames if fixed else "frames", *size]
    written = graph.model(
        [helper.make_tensor_value_info(CLIPS, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name, (_, width) in outputs.items()],
    )
    helper.set_model_props(written, _metadata(card))
    onnx.checker.check_model(written, full_check=True)
    with finished_file(path) as temporary:
        onnx.save_model(written, temporary)


def _add_guard(graph: Graph) -> str:
    """One, if clips have at least LONG frames; else running the graph fails: element LONG-1 of as many ones as frames."""
    frames = graph.add("Shape", CLIPS, start=2, end=3)
    ones = graph.add("ConstantOfShape", frames, value=helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]))
    return graph.add("Gather", ones, graph.constant(np.array(LONG - 1)))


def onnx_difference(model: Network, path: Path, clips: Tensor) -> float:
    """Largest difference of the ONNX file in ONNX Runtime to `model` on normalised clips, relative to the largest output.

    Raises CheckpointError if the network's own outputs are not finite.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = ["logits", "features"] if model.spec.classes else ["features"]
    got = session.run(names, {CLIPS: clips.numpy()})
    with torch.inference_mode():
        maps = model.forward_features(clips)
        wanted = [model.forward_head(maps, pre_logits=name == "features") for name in names]
    if not all(bool(torch.isfinite(output).all()) for output in wanted):
        raise CheckpointError("its weights are finite, but what they make of a random clip is not: this is no trained network")
    pairs = zip(got, wanted, strict=True)
    return float(torch.stack([(torch.from_numpy(a) - b).abs().max() / b.abs().max().clamp(min=1e-12) for a, b in pairs]).max())


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
