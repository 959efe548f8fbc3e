"""Gives a network another last layer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import ModelError
from ig65m.models.card import Card
from ig65m.models.plan import head_shapes
from ig65m.models.spec import C3DSpec
from ig65m.models.weights import Weights


def with_head(
    weights: Weights,
    weight: NDArray[Any],
    bias: NDArray[Any],
    *,
    labels: Sequence[str] | None = None,
    multi_label: bool = False,
    on_features: bool = True,
) -> Weights:
    """Return the network with the last layer `weight` (classes, C), `bias` (classes,) float32.

    Logits are `features @ weight.T + bias`, for features (C,) of `extract`. C3D has a layer fc7 between its features (fc6) and
    the last layer. With `on_features` fc7 becomes the identity, which changes nothing, since fc6 is not negative. Otherwise it
    stays, and the last layer takes its output.

    The card keeps what holds for the layers below; accuracies, addresses and digests of the old network are dropped. Raises
    ModelError if the shapes do not fit.
    """
    spec = replace(weights.spec, classes=len(bias), multi_label=multi_label)
    arrays = {"fc.weight": weight, "fc.bias": bias}
    if isinstance(spec, C3DSpec) and on_features:
        width = spec.feature_width
        arrays |= {"fc7.weight": np.eye(width, dtype=np.float32), "fc7.bias": np.zeros(width, np.float32)}
    if multi_label:
        arrays |= {"pred_logit.weight": np.ones(len(bias), np.float32), "pred_logit.bias": np.zeros(len(bias), np.float32)}
    shapes = head_shapes(spec)
    arrays = {key: np.ascontiguousarray(array, np.float32) for key, array in arrays.items()}
    for key, array in arrays.items():
        if array.shape != shapes[key]:
            raise ModelError(f"{key} has the shape {array.shape}; {spec} takes {shapes[key]}")
    kept = {key: array for key, array in weights.arrays.items() if key.split(".")[0] not in ("fc", "pred_logit")}
    card = derived_card(weights.card, spec=spec, labels=None if labels is None else tuple(labels))
    return replace(weights, card=card, arrays=kept | arrays)


def derived_card(card: Card, **changes: Any) -> Card:
    """Return the card of a network made from another one, without what holds for that one's last layer and file only."""
    dropped = dict.fromkeys(("top1", "top5", "clip_top1", "url", "sha256", "onnx", "caffe2", "page", "learned"))
    return replace(card, **dropped, audio_visual=False, embedded=False, **changes)  # type: ignore[arg-type]
