"""Fine-tuning of a network on labelled videos."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ig65m.engines.pytorch import find_device
from ig65m.errors import UsageError
from ig65m.models.network import Network, network_of, weights_of, with_new_head
from ig65m.models.weights import Weights
from ig65m.train import loop, processes
from ig65m.train.dataset import ClipDataset
from ig65m.train.draws import Draws, batches
from ig65m.train.held_out import check_videos, exact, network_logits, targets
from ig65m.train.loop import SAVE_EVERY, Run
from ig65m.train.recipe import Recipe, loss_of, optimiser_of, rate_at
from ig65m.train.stages import parts_before
from ig65m.train.sync_norm import synchronise_norms


@dataclass(frozen=True)
class Epoch:
    """Result of an epoch."""

    number: int  # from 1
    loss: float  # mean over its steps
    held_out_loss: float
    held_out_accuracy: float  # share of clips, or of clips and labels in a multi-label list, that are right
    best: bool  # whether its weights are the best so far


def finetune(
    base: Weights,
    train: ClipDataset,
    held_out: ClipDataset,
    recipe: Recipe | None = None,
    *,
    checkpoint: Path,
    device: str = "cpu",
    workers: int = 0,
    save_every: float = SAVE_EVERY,
    on_step: Callable[[int, int, float], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Weights:
    """Train a network on labelled videos, from the weights of `base`, with a new last layer for the classes of `train`.

    If the checkpoint exists, the run is resumed, with the same result as if it had not stopped. With several processes, which
    torchrun starts, each computes its part of every batch; the result is that of one process.

    Args:
        base: The network to start from; its last layer is replaced.
        train: Clips to train on, normally with `augment`.
        held_out: Clips of other videos with the same classes. The weights of the epoch with their lowest loss are returned.
        recipe: Settings. Default: `Recipe()`.
        checkpoint: File for the state of the run; process 0 writes it. It stays when the run is complete.
        device: "cpu", "cuda", or "cuda:1".
        workers: Processes that read clips in advance, for each process that trains; 0: none.
        save_every: Seconds from one checkpoint to the next.
        on_step: Called in process 0 with the number of steps done, that of all steps, and the loss.
        on_epoch: Called in process 0 after each epoch; if the run is resumed, for the epochs so far first.

    Returns:
        The best weights, with the labels in the order of `train.classes`; in each process.

    Raises:
        UsageError: The data or the settings do not fit the network, or the loss is not finite.
        CheckpointError: The checkpoint is damaged, or belongs to a run with other settings or data.
        VideoError: A video cannot be read. All videos are checked before the first step, and all broken ones are named.
    """
    recipe = recipe or Recipe()
    place = processes.local_device(find_device(device))
    _check(base, train, held_out, recipe, place)
    processes.join(place)
    if recipe.batch_size < processes.count():
        raise UsageError(f"a batch of {recipe.batch_size} clips is too small for {processes.count()} processes")
    with exact(place):
        return _finetune(base, train, held_out, recipe, checkpoint, place, workers, save_every, on_step, on_epoch)


def _finetune(
    base: Weights,
    train: ClipDataset,
    held_out: ClipDataset,
    recipe: Recipe,
    checkpoint: Path,
    device: torch.device,
    workers: int,
    save_every: float,
    on_step: Callable[[int, int, float], None] | None,
    on_epoch: Callable[[Epoch], None] | None,
) -> Weights:
    draws = Draws(train, recipe.seed, balance=recipe.balance)
    epoch_steps = math.ceil(len(train) / recipe.batch_size)
    steps = recipe.epochs * epoch_steps
    network = start_network(base, train, recipe).to(device)
    if processes.count() > 1:
        synchronise_norms(network)
    run = Run(
        network,
        optimiser_of(network, recipe),
        plan=_plan(base, train, held_out, recipe),
        rate=partial(rate_at, recipe=recipe, epoch_steps=epoch_steps),
        loss=loss_of(multi_label=train.multi_label, label_smoothing=recipe.label_smoothing),
        forward=_mixed(network) if recipe.precision == "bf16" else network,
        frozen=parts_before(network, recipe.first),
    )
    run.notes = {"losses": 0.0, "epochs": [], "best": {}}
    if checkpoint.exists():
        run.restore(checkpoint)
    else:
        check_videos([train, held_out], workers)
    notes, wanted = run.notes, targets(held_out)

    def report(epoch: Epoch) -> None:
        if on_epoch is not None and processes.rank() == 0:
            on_epoch(epoch)

    def after_step(value: float, logits: Tensor, _: Tensor) -> bool:
        notes["losses"] += value
        if on_step is not None and processes.rank() == 0:
            on_step(run.step, steps, value)
        if run.step % epoch_steps:
            return False
        shown = network_logits(network, held_out, device, workers)
        held_out_loss = loss_of(multi_label=held_out.multi_label)(shown, wanted).item()
        if not math.isfinite(held_out_loss):
            raise UsageError(f"the held-out loss after step {run.step} is {held_out_loss}; lower the learning rate")
        right = ((shown > 0) == (wanted > 0)) if held_out.multi_label else shown.argmax(1) == wanted
        best = all(held_out_loss < each["held_out_loss"] for each in notes["epochs"])
        if best:
            notes["best"] = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        number, accuracy = run.step // epoch_steps, right.float().mean().item()
        epoch = Epoch(number, notes["losses"] / epoch_steps, held_out_loss, accuracy, best)
        notes["epochs"].append(asdict(epoch))
        notes["losses"] = 0.0
        report(epoch)
        return _is_over(notes["epochs"], recipe)

    for each in notes["epochs"]:
        report(Epoch(**each))
    todo = range(run.step, run.step if _is_over(notes["epochs"], recipe) else steps)
    if todo:
        on_gpu = device.type == "cuda"
        part, parts = processes.rank(), processes.count()
        made = batches(draws, todo, recipe.batch_size, part=part, parts=parts, workers=workers, pin=on_gpu)
        placed = ((clips.to(device, non_blocking=True), target.to(device)) for clips, target in made)
        loop.train(run, placed, checkpoint=checkpoint, after_step=after_step, whole=recipe.batch_size, save_every=save_every)
    network.load_state_dict(notes["best"])
    return weights_of(network)


def _is_over(epochs: list[dict[str, Any]], recipe: Recipe) -> bool:
    """Whether the last `patience` epochs were not better than those before."""
    return recipe.patience is not None and bool(epochs) and not any(each["best"] for each in epochs[-recipe.patience :])


def start_network(base: Weights, train: ClipDataset, recipe: Recipe) -> Network:
    """Return the network at step 0: the weights of `base`, a new last layer; stages before the first one have no gradients."""
    generator = torch.Generator().manual_seed(recipe.seed)
    own = replace(base, arrays={key: np.array(array) for key, array in base.arrays.items()})  # `base` stays as it is
    weights = with_new_head(own, len(train.classes), labels=train.classes, multi_label=train.multi_label, generator=generator)
    sampling = train.sampling
    card = replace(weights.card, frames=sampling.frames, frame_step=sampling.frame_step, fps=sampling.fps)
    network = network_of(replace(weights, card=card))
    for module in parts_before(network, recipe.first):
        module.requires_grad_(False)
    if weights.spec.multi_label:
        network.pred_logit.requires_grad_(False)  # the identity: the last layer alone decides
    return network


def _mixed(network: Network) -> Callable[[Tensor], Tensor]:
    def forward(clips: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            logits: Tensor = network(clips)
        return logits.float()

    return forward


def _check(base: Weights, train: ClipDataset, held_out: ClipDataset, recipe: Recipe, device: torch.device) -> None:
    """Raise UsageError if the data or the settings do not fit the network."""
    name = base.card.name
    if base.quantization is not None:
        raise UsageError(f"{name} is in int8 and cannot be trained; use the float32 network that it was made from")
    if base.spec.in_channels != 3:
        raise UsageError(f"{name} takes {base.spec.in_channels} channels of optical flow; fine-tuning needs a network for RGB")
    used = {label for each in train.examples for label in each.labels}
    if len(used) < (1 if train.multi_label else 2):
        raise UsageError(f"expected videos of at least two classes to train on, got those of {len(used)}")
    if (held_out.classes, held_out.multi_label) != (train.classes, train.multi_label):
        raise UsageError("the held-out videos have other classes than those to train on; take both from one list")
    if held_out.augment:
        raise UsageError("the held-out clips are augmented; their loss would not be reproducible")
    for clips in (train, held_out):
        if replace(base.card.preprocessing, crops=1) != clips.preprocessing:
            raise UsageError(f"the clips are not preprocessed as {name} needs; make the data sets with its card")
    if held_out.sampling != train.sampling:
        raise UsageError("the held-out clips have another length, step or rate than those to train on")
    if recipe.precision == "bf16" and device.type != "cuda":
        raise UsageError(f"mixed precision needs a GPU, and the device is {device}; use precision='fp32'")


def _plan(base: Weights, train: ClipDataset, held_out: ClipDataset, recipe: Recipe) -> dict[str, Any]:
    """Return all that determines a run."""
    return {
        "base": base.sha256,
        **asdict(recipe),
        **{f"train {key}": value for key, value in train.settings.items()},
        **{f"held-out {key}": value for key, value in held_out.settings.items()},
    }
