"""A network -> ONNX: one self-contained file, with what a program needs to know to use it."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from ig65m.atomic import finished_file
from ig65m.errors import CheckpointError
from ig65m.models.network import Network
from ig65m.zoo.cards import Card

OPSET = 20


class _WithFeatures(nn.Module):
    """The network with two outputs, logits and the features before the last layer; features only if it has no last layer.

    With `min_frames` the graph fails on shorter clips, for which it would be another function: both outputs are multiplied
    by element `min_frames - 1` of as many ones as there are frames.
    """

    def __init__(self, model: Network, min_frames: int = 1) -> None:
        super().__init__()
        self.model = model
        self.min_frames = min_frames

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        maps = self.model.forward_features(clips)
        outputs = [self.model.forward_head(maps)] if self.model.spec.classes else []
        outputs.append(self.model.forward_head(maps, pre_logits=True))
        if self.min_frames > 1:
            one = torch.ones(clips.shape[2])[self.min_frames - 1]
            outputs = [output * one for output in outputs]
        return tuple(outputs)


def _outputs(model: Network) -> list[str]:
    return ["logits", "features"] if model.spec.classes else ["features"]


def export_onnx(model: Network, path: Path) -> None:
    """Write `model` as ONNX: input `clips` (N, 3, T, H, W) float32, normalised; outputs `logits`, if any, and `features`.

    N, T, H and W are free, T from 8 up: shorter clips are another graph, on which this one fails, and a network whose card
    says fewer frames is written for just that many, as is one whose stem spans the clip. Of C3D only N is free. Batch norms
    are folded into the convolutions. The metadata hold the card (`ig65m`) and, for programs that do not know it, `labels`,
    `mean`, `std` (of RGB on 0..255), `frames`, `scores` (what makes scores of logits, "softmax" or "sigmoid"), `origin`.
    """
    card: Card = model.card
    short = card.frames is not None and card.frames < 8
    fixed = short or model.spec.clip_frames is not None
    size = model.spec.clip_size or (64, 64)
    example = torch.zeros(2, model.spec.in_channels, (card.frames or 16) if fixed else 16, *size)
    free = {0: torch.export.Dim("batch")}
    if model.spec.clip_size is None:
        free |= {3: torch.export.Dim("height"), 4: torch.export.Dim("width")}
    if not fixed:
        free[2] = torch.export.Dim("frames", min=8)
    with _quiet_exporter():
        program = torch.onnx.export(
            _WithFeatures(model, min_frames=1 if fixed else 8).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["clips"],
            output_names=_outputs(model),
            dynamic_shapes=(free,),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    for node in graph.graph.node:
        del node.metadata_props[:]  # the exporter's notes, paths of this machine's source files among them
    onnx.helper.set_model_props(graph, _metadata(card))
    onnx.checker.check_model(graph)
    with finished_file(path) as temporary:
        onnx.save_model(graph, temporary)


def onnx_difference(model: Network, path: Path, clips: Tensor) -> float:
    """Largest difference of the ONNX file in ONNX Runtime to `model` on normalised clips, relative to the largest output.

    Raises CheckpointError if the network's own outputs are not finite.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(_outputs(model), {"clips": clips.numpy()})
    with torch.inference_mode():
        wanted = _WithFeatures(model)(clips)
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


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's remarks on itself (deprecations, that torchvision is absent) from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
