"""Fine-tunes a network on labelled videos, and measures it on held-out ones."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ig65m.collection.label_list import Example, LabelList
from ig65m.errors import UsageError, VideoError, needs
from ig65m.learn.calibration import best_temperature
from ig65m.learn.examples import FOLDS, deal, groups_of, positives_of
from ig65m.learn.learner import class_warnings, described
from ig65m.learn.linear import LinearHead
from ig65m.learn.report import Report, count_classes, measure_held_out
from ig65m.models.weights import Weights
from ig65m.types import Limits

with needs("train", "fine-tuning"):
    from ig65m.train.dataset import ClipDataset
    from ig65m.train.finetune import Epoch, finetune
    from ig65m.train.held_out import broken_videos, held_out_logits
    from ig65m.train.loop import SAVE_EVERY
    from ig65m.train.recipe import Recipe

HELD_OUT_CLIPS = 5  # of each video, spread evenly


def learn_by_finetuning(
    base: Weights,
    listed: LabelList,
    recipe: Recipe,
    *,
    name: str,
    checkpoint: Path,
    frames: int | None = None,
    frame_step: int | None = None,
    fps: float | None = None,
    flip: bool = False,
    limits: Limits | None = None,
    in_process: bool = False,
    device: str = "cpu",
    workers: int = 0,
    save_every: float = SAVE_EVERY,
    on_step: Callable[[int, int, float], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[Weights, Report, tuple[str, ...]]:
    """Train a network on labelled videos, as `ig65m.train.finetune` does, and measure it on held-out ones.

    Returns the network, its report, and the errors of videos that cannot be read, which are left out.

    Args:
        base: The network to start from.
        listed: Labelled videos; `split_list` says which are held out.
        recipe: Settings of the training.
        name: Name of the learned network.
        frames, frame_step, fps, limits, in_process: How clips are chosen and decoded; see `ig65m.ClipDataset`.
        flip: Whether clips may be mirrored.
        checkpoint, device, workers, save_every, on_step, on_epoch: As in `ig65m.train.finetune`.

    Raises UsageError if the examples do not suffice, VideoError if no video can be read, and as `ig65m.train.finetune`.
    """
    train, choosing, measuring, how = split_list(listed, recipe.seed)
    options: dict[str, Any] = {"frames": frames, "frame_step": frame_step, "fps": fps}
    options |= {"limits": limits, "in_process": in_process}
    failed: dict[str, None] = {}

    def readable(part: LabelList, **more: Any) -> ClipDataset:
        clips = ClipDataset(part, base.card, **options, **more)
        broken = broken_videos(clips, workers=workers)
        failed.update(dict.fromkeys(broken.values()))
        if len(broken) == len(clips.examples):
            raise VideoError(f"none of {len(broken):,} videos can be read, such as: {next(iter(broken.values()))}")
        return clips.without(broken) if broken else clips

    trained = readable(train, augment=True, flip=flip)
    held_out = readable(choosing, clips=HELD_OUT_CLIPS)
    measured = held_out if measuring is choosing else readable(measuring, clips=HELD_OUT_CLIPS)
    running: dict[str, Any] = {"device": device, "workers": workers}
    weights = finetune(
        base,
        trained,
        held_out,
        recipe,
        checkpoint=checkpoint,
        save_every=save_every,
        on_step=on_step,
        on_epoch=on_epoch,
        **running,
    )
    logits = held_out_logits(weights, held_out, **running).astype(np.float64)
    own = np.repeat(positives_of(held_out.examples, listed.classes), HELD_OUT_CLIPS, axis=0)
    examples = len(np.unique(groups_of(held_out.examples)))
    temperature = best_temperature(logits, own, multi_label=listed.multi_label, examples=examples)
    if measured is not held_out:
        logits = held_out_logits(weights, measured, **running).astype(np.float64)
    found = measure_held_out(
        how,
        logits / temperature,
        positives_of(measured.examples, listed.classes),
        np.repeat(np.arange(len(measured.examples)), HELD_OUT_CLIPS),
        groups_of(measured.examples),
        multi_label=listed.multi_label,
    )
    own = positives_of(trained.examples, listed.classes)
    counts = count_classes(listed.classes, own, np.arange(len(own)), groups_of(trained.examples))
    settings: dict[str, Any] = {
        **asdict(recipe),
        "method": "finetune",
        "multi_label": listed.multi_label,
        "examples": len(trained.examples),
        "flip": flip,
    }
    videos = len(np.unique(groups_of(trained.examples)))
    warnings = tuple(class_warnings(counts, videos, measured=True, multi_label=listed.multi_label))
    report = Report(counts, found, temperature, settings, warnings)
    head = LinearHead(weights.arrays["fc.weight"], weights.arrays["fc.bias"]).divided(temperature)
    cooled = replace(weights, arrays={**weights.arrays, "fc.weight": head.weight, "fc.bias": head.bias})
    return described(cooled, base, report, name=name, labels_sha256=listed.sha256), report, tuple(failed)


def _drawn(listed: LabelList, seed: int) -> tuple[list[Example], list[Example]]:
    """Draw a fifth of the groups of each class; a class with one group is trained on."""
    positives, groups = positives_of(listed.examples, listed.classes), groups_of(listed.examples)
    held_out = deal(positives, groups, seed) == 0
    for own in positives.T:
        if own.any() and held_out[own].all():
            held_out[np.isin(groups, groups[own])] = False
    kept = [each for each, out in zip(listed.examples, held_out, strict=True) if not out]
    return kept, [each for each, out in zip(listed.examples, held_out, strict=True) if out]


def split_list(listed: LabelList, seed: int = 0) -> tuple[LabelList, LabelList, LabelList, str]:
    """Return the examples to train on, those that choose the best epoch and the temperature, those to measure with, and how
    these were held out.

    They are the splits "train", "val" and "test"; an example without a split is trained on. If "val" or "test" has no examples,
    the other one stands for both. If neither has any, a fifth of the groups of each class is held out.

    Raises UsageError if there are no examples to train on, or none that are held out.
    """
    parts: dict[str, list[Example]] = {"train": [], "val": [], "test": []}
    for example in listed.examples:
        parts[example.split or "train"].append(example)
    how = "the split test"
    if not (parts["val"] or parts["test"]):
        parts["train"], parts["val"] = _drawn(listed, seed)
        how = f"drawing one video in {FOLDS}, which also chose the epoch and the temperature"
    elif not parts["val"] or not parts["test"]:
        how = f"the split {'val' if parts['val'] else 'test'}, which also chose the epoch and the temperature"
    choosing, measuring = parts["val"] or parts["test"], parts["test"] or parts["val"]
    if not (parts["train"] and choosing):
        raise UsageError(
            f"fine-tuning needs videos to train on, and others to measure with; there are {len(parts['train']):,} and "
            f"{len(choosing):,}"
        )
    listed = replace(listed, missing=())  # which is said of the whole list
    held_out = replace(listed, examples=tuple(choosing))
    measured = held_out if measuring is choosing else replace(listed, examples=tuple(measuring))
    return replace(listed, examples=tuple(parts["train"])), held_out, measured, how
