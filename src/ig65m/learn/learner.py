"""Learns a last layer from features, measures it on held-out videos, and makes it part of the network."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError, shown
from ig65m.learn.calibration import best_temperature
from ig65m.learn.examples import FOLDS, deal
from ig65m.learn.linear import choose_strength, held_out_logits, learn_head
from ig65m.learn.report import FEW, ClassCount, HeldOut, Report, count_classes, measure_held_out
from ig65m.learn.training_set import TrainingSet, preprocessing_of
from ig65m.models.card import LINEAR, Learned, Scalar
from ig65m.models.head import with_head
from ig65m.models.weights import Weights

MOST_COMPARED: Final = 50  # classes with few videos whose names are compared with all others


def learn_from_features(
    weights: Weights, settings: Mapping[str, Any], data: TrainingSet, *, name: str, labels_sha256: str, seed: int = 0
) -> tuple[Weights, Report]:
    """Learn a new last layer of a network.

    Examples of the splits "val" and "test" are held out. If there are none, each fifth of the groups is held out once, and
    predicted by a layer that was learned from the others. The temperature is chosen on groups that are held out of the training
    examples in the same way; the logits are divided by it.

    Args:
        weights: The network that computed the features.
        settings: Settings of the folder of features.
        data: Features and labels.
        name: Name of the learned network.
        labels_sha256: Digest of the labelled videos.
        seed: Of the random order in which groups are dealt to folds.

    Raises UsageError if there are no examples to learn from, or they have only one class.
    """
    if not data.examples:
        raise UsageError(
            "no clip belongs to a labelled video; all failed, are not among the features, or end before their part"
        )
    train = np.array([each.split in (None, "train") for each in data.examples], np.bool_)
    if not train.any():
        raise UsageError("all examples belong to the splits val or test; there is none to learn from")
    learned, others = data.part(train), data.part(~train)
    there = [data.classes[place] for place in np.flatnonzero(learned.positives.any(axis=0))]
    if len(there) < (1 if data.multi_label else 2):
        raise UsageError(f"the examples to learn from have the labels {shown(there)} only; expected at least two")
    videos = len(np.unique(learned.groups))
    strength, _ = choose_strength(learned, seed)
    head = learn_head(learned, strength)
    logits = held_out_logits(learned, strength, seed)
    positives = learned.positives[learned.owners]
    temperature = 1.0
    if logits is not None:
        temperature = best_temperature(logits, positives, multi_label=data.multi_label, examples=videos)
    head = head.divided(temperature)
    held_out = None
    if len(others.examples):
        splits = " and ".join(sorted({str(each.split) for each in others.examples}))
        held_out = _measure(f"the split {splits}", head(others.features), others)
    elif logits is not None:
        folds = len(np.unique(deal(learned.positives, learned.groups, seed)))
        held_out = _measure(f"cross-validation in {folds} parts, whole videos", logits / temperature, learned)
    counts = count_classes(data.classes, learned.positives, learned.owners, learned.groups)
    warnings = list(class_warnings(counts, videos, measured=held_out is not None, multi_label=data.multi_label))
    if shared := len(np.intersect1d(learned.groups, others.groups)):
        warnings.append(f"{shared:,} videos are on both sides of the split, so the result looks better than it is")
    if not head.converged:
        warnings.append("the optimiser stopped before it converged; the result may be improved by fewer classes or more videos")
    facts: dict[str, Scalar] = {
        "method": LINEAR,
        "strength": strength,
        "folds": FOLDS,
        "seed": seed,
        "multi_label": data.multi_label,
        "examples": len(learned.examples),
        "clips": len(learned.features),
        "precision": settings.get("precision"),
        "stride": settings["sampling"]["stride"],
    }
    report = Report(counts, held_out, temperature, facts, tuple(warnings))
    model = with_head(weights, head.weight, head.bias, labels=data.classes, multi_label=data.multi_label)
    sampling = settings["sampling"]
    card = replace(
        model.card,
        preprocessing=preprocessing_of(settings["preprocessing"]),
        frames=sampling["frames"],
        frame_step=sampling["frame_step"],
        fps=sampling["fps"],
    )
    return described(replace(model, card=card), weights, report, name=name, labels_sha256=labels_sha256), report


def described(model: Weights, base: Weights, report: Report, *, name: str, labels_sha256: str) -> Weights:
    """Return a learned network with a card that says where it comes from."""
    metrics: dict[str, Scalar] = {}
    if (held_out := report.held_out) is not None:
        metrics = {"held_out": held_out.how, "examples": held_out.examples}
        metrics |= {key: value for key, value in vars(held_out.videos).items() if value is not None}
        metrics |= {f"clip_{key}": value for key, value in vars(held_out.clips).items() if value is not None}
        if held_out.interval is not None:
            metrics |= dict(zip(("interval_low", "interval_high"), held_out.interval, strict=True))
    learned = Learned(
        base=base.card.name,
        base_sha256=base.sha256,
        labels_sha256=labels_sha256,
        temperature=report.temperature,
        settings=dict(report.settings),
        metrics=metrics,
    )
    return replace(model, card=replace(model.card, name=name, origin=f"learned from {base.card.name}", learned=learned))


def class_warnings(counts: Sequence[ClassCount], videos: int, *, measured: bool, multi_label: bool = False) -> Iterator[str]:
    """Yield what a person should know before trusting the result; `videos` is the number of videos that were learned from."""
    if not measured:
        yield "no video could be held out, so how good the result is, is not known; give each class at least two videos"
    if none := [each.label for each in counts if not each.videos]:
        yield f"{shown(none)}: no video to learn from; never predicted"
    if every := [each.label for each in counts if multi_label and each.videos == videos]:
        yield f"{shown(every)}: all videos have this label; always predicted"
    few = [each.label for each in counts if 0 < each.videos < FEW]
    if few:
        yield f"{shown(few)}: fewer than {FEW} videos; give more for a reliable result"
    labels = [each.label for each in counts]
    for label in few[:MOST_COMPARED]:
        if near := get_close_matches(label, [other for other in labels if other != label], 1, cutoff=0.85):
            yield f"{shown([label])} is nearly {shown(near)}; are they one class?"
            return


def _measure(how: str, logits: NDArray[np.float64], data: TrainingSet) -> HeldOut:
    return measure_held_out(how, logits, data.positives, data.owners, data.groups, multi_label=data.multi_label)
