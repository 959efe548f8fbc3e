"""Settings of a fine-tuning, and the optimiser, learning rate and loss that follow from them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ig65m.errors import UsageError, check_choice
from ig65m.models.network import Network
from ig65m.train.schedules import cosine, stepped
from ig65m.train.stages import Stage

Schedule = Literal["cosine", "step"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a fine-tuning. Raises UsageError if a value is out of range.

    The optimiser, weight decay, steps and learning rate are those of VMZ's scripts for UCF101 and HMDB51: 0.0002 for each GPU
    of 4 clips, so 0.0008 for 16 clips.
    """

    epochs: int = 10  # an epoch is as many draws as there are clips, rounded up to whole batches
    batch_size: int = 16  # clips in a step, over all processes
    rate: float = 0.0008  # highest learning rate
    head_scale: float = 10.0  # the last layer's learning rate is so many times as high
    momentum: float = 0.9  # of Nesterov's kind
    weight_decay: float = 0.005  # of convolutions and linear layers; batch norms and biases have none
    warmup: float = 1.0  # epochs in which the learning rate rises linearly; at most all
    schedule: Schedule = "cosine"  # "cosine": half a cosine to 0; "step": times `drop` every `drop_every` epochs
    drop: float = 0.1  # for "step"
    drop_every: float = 2.0  # epochs, for "step"
    label_smoothing: float = 0.0  # share of the target that is spread over all classes
    first: Stage = "stem"  # first stage that is trained; those before it stay as they are
    balance: bool = False  # draw each class equally often
    patience: int | None = 3  # epochs without a lower held-out loss after which training stops; None: never
    precision: Precision = "fp32"  # "bf16": mixed precision, on a GPU only
    seed: int = 0  # decides the last layer's first weights, the order of clips, and their augmentation

    def __post_init__(self) -> None:
        check_choice("schedule", self.schedule, get_args(Schedule))
        check_choice("precision", self.precision, get_args(Precision))
        check_choice("first", self.first, get_args(Stage))
        for name in ("epochs", "batch_size", "patience"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise UsageError(f"{name} must be a whole number of at least 1, got {value!r}")
        if type(self.seed) is not int or self.seed < 0:
            raise UsageError(f"seed must be a whole number of at least 0, got {self.seed!r}")
        for name in ("rate", "head_scale", "drop", "drop_every"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be a positive number, got {getattr(self, name)!r}")
        for name, below in (("momentum", 1.0), ("weight_decay", math.inf), ("label_smoothing", 1.0)):
            if not 0 <= getattr(self, name) < below:
                raise UsageError(f"{name} must be at least 0 and below {below:g}, got {getattr(self, name)!r}")
        if not 0 <= self.warmup <= self.epochs:
            raise UsageError(f"warmup must be from 0 to {self.epochs} epochs, got {self.warmup!r}")
        if self.momentum == 0:
            raise UsageError("momentum must be above 0")


def optimiser_of(network: Network, recipe: Recipe) -> torch.optim.SGD:
    """Return SGD for the parameters with gradients: a higher rate for the last layer, weight decay for weights only."""
    groups = []
    for is_head in (False, True):
        for decays in (True, False):
            chosen = [
                parameter
                for name, parameter in network.named_parameters()
                if parameter.requires_grad and name.startswith("fc.") == is_head and (parameter.dim() > 1) == decays
            ]
            scale, decay = recipe.head_scale if is_head else 1.0, recipe.weight_decay if decays else 0.0
            if chosen:
                groups.append({"params": chosen, "scale": scale, "weight_decay": decay})
    return torch.optim.SGD(groups, lr=recipe.rate, momentum=recipe.momentum, nesterov=True)


def rate_at(step: int, *, recipe: Recipe, epoch_steps: int) -> float:
    """Return the learning rate of a step."""
    warmup = recipe.warmup * epoch_steps
    if recipe.schedule == "cosine":
        return cosine(step, peak=recipe.rate, steps=recipe.epochs * epoch_steps, warmup=warmup)
    drop_every = max(1, round(recipe.drop_every * epoch_steps))
    return stepped(step, peak=recipe.rate, warmup=warmup, drop_every=drop_every, factor=recipe.drop)


def loss_of(*, multi_label: bool, label_smoothing: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the mean loss of logits: cross-entropy, or in a multi-label list binary cross-entropy of each class."""
    if not multi_label:
        return partial(F.cross_entropy, label_smoothing=label_smoothing)

    def binary(logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets * (1 - label_smoothing) + 0.5 * label_smoothing)

    return binary
