"""Training loop: clips are made on the fly; checkpoints resume a run as if it had not stopped."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ig65m.atomic import finished_file
from ig65m.errors import CheckpointError
from ig65m.models.network import network
from ig65m.models.spec import Spec
from ig65m.train.scenes import Library, make_masks, mirror, random_clip
from ig65m.train.sources import load_sources, textures
from ig65m.train.start import start_stem
from ig65m.zoo.cards import EMBEDDED, find_card
from ig65m.zoo.files import save_safetensors

CARD = find_card(EMBEDDED)
TEXTURES = 150

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """All that, with the pictures, determines a run. The data of a step depend on `seed` and step only."""

    seed: int
    steps: int
    batch_size: int = 32
    peak_rate: float = 3e-3
    weight_decay: float = 0.02
    warmup: float = 0.05  # share of the steps in which the learning rate rises
    easy: float = 0.15  # share of the steps over which plain clips are replaced by all kinds
    busy_from: int = 1000  # step from which more clips are static and busy
    handheld_from: int = 1500  # step from which a slowly swaying camera counts as static
    label_smoothing: float = 0.05
    average: float = 0.998  # weight of the old value in the running mean of the weights
    clip_norm: float = 2.0


class Clips(Dataset[tuple[Tensor, Tensor]]):
    """Batches of all steps: clips (N, 3, T, H, W) uint8 and labels (N,) int64; every second clip is its neighbour mirrored."""

    def __init__(self, library: Library, plan: Plan) -> None:
        self.library = library
        self.plan = plan

    def __len__(self) -> int:
        return self.plan.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        easing = max(0.0, 1 - step / (self.plan.easy * self.plan.steps))
        pairs = []
        for index in range(self.plan.batch_size // 2):
            rng = np.random.default_rng([self.plan.seed, step, index])
            plain = rng.random() < easing
            busy, handheld = step >= self.plan.busy_from, step >= self.plan.handheld_from
            clip, label = random_clip(rng, self.library, plain=plain, busy=busy, handheld=handheld)
            pairs += [(clip, label), mirror(rng, clip, label)]
        clips, labels = zip(*pairs, strict=True)
        return torch.stack(clips), torch.tensor(labels)


def make_library(paths: Sequence[Path], seed: int) -> Library:
    """Photographs and footage from the paths, textures and outlines from the seed."""
    photos, footage = load_sources(paths)
    rng = np.random.default_rng(seed)
    log.info("%d photographs, %d shots of footage, %d textures", len(photos), len(footage), TEXTURES)
    return Library(photos, footage, textures(rng, TEXTURES), make_masks(rng))


def learning_rate(plan: Plan, step: int) -> float:
    """Return the learning rate: linear rise, then half a cosine to zero."""
    rise = plan.warmup * plan.steps
    if step < rise:
        return plan.peak_rate * (step + 1) / rise
    return plan.peak_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / (plan.steps - rise)))


def normalise(clips: Tensor) -> Tensor:
    """(N, 3, T, H, W) uint8 -> normalised float32."""
    seen = CARD.preprocessing
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (seen.mean, seen.std))
    return ((clips - mean) / std).contiguous(memory_format=torch.channels_last_3d)


class Run:
    """A network in training, its optimiser, and the running mean of its weights."""

    def __init__(self, plan: Plan, spec: Spec = CARD.spec) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.step = 0
        self.seconds = 0.0
        self.network = network(spec).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        start_stem(self.network, plan.seed)
        self.mean = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        weights = list(self.network.parameters())
        groups = [
            {"params": [weight for weight in weights if weight.dim() > 1], "weight_decay": plan.weight_decay},
            {"params": [weight for weight in weights if weight.dim() <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=plan.peak_rate)

    def update(self, clips: Tensor, labels: Tensor) -> tuple[float, float]:
        """Make one step; returns the loss and the accuracy of the batch."""
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.plan, self.step)
        logits = self._logits(normalise(clips))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.plan.label_smoothing)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip_norm, error_if_nonfinite=True)
        self.optimiser.step()
        self.step += 1
        keep = min(self.plan.average, self.step / (self.step + 10))  # the mean follows fast at first
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.mean[name].lerp_(value, 1 - keep)
            else:
                self.mean[name].copy_(value)
        return loss.item(), (logits.argmax(1) == labels).float().mean().item()

    def _logits(self, x: Tensor) -> Tensor:
        """Normalised clips (N, 3, FRAMES, H, W) -> logits (N, classes), with the large maps in bfloat16.

        The rest, a tenth of the work, stays in float32: oneDNN's bfloat16 gradient of layer3.0.conv2.0.3, (3, 1, 1) over two
        frames, is infinite (torch 2.13, AVX-512).
        """
        network = self.network
        with torch.autocast("cpu", torch.bfloat16):
            x = network.layer2(network.layer1(network.stem(x)))
        logits: Tensor = network.forward_head(network.layer4(network.layer3(x.float())))
        return logits

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "plan": vars(self.plan),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "mean": self.mean,
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, checkpoint: Path) -> None:
        """Resume from a file of `save_checkpoint`.

        Raises CheckpointError if it belongs to a run with another plan.
        """
        state = torch.load(checkpoint, weights_only=True)
        if state["plan"] != vars(self.plan):
            raise CheckpointError(f"{checkpoint} belongs to another run: {state['plan']}, this one is {vars(self.plan)}")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.mean = state["mean"]
        self.step, self.seconds = state["step"], state["seconds"]

    def save_checkpoint(self, file: Path) -> None:
        """Write the state; a crash leaves the old file or the new one."""
        with finished_file(file) as temporary:
            torch.save(self.state(), temporary)

    def weights(self) -> dict[str, Tensor]:
        """Return the mean weights for publication: float16, step counts as integers."""
        return {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in self.mean.items()}


def batches(library: Library, run: Run, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches from the current step on, made by `workers` processes in advance (0: by this one)."""
    todo = range(run.step, run.plan.steps)
    loader = DataLoader(Clips(library, run.plan), batch_size=None, sampler=todo, num_workers=workers)
    return iter(loader)


def train(run: Run, library: Library, *, output: Path, checkpoint: Path, workers: int, save_every: int = 250) -> None:
    """Run to the end of the plan, and save checkpoints and weights."""
    plan = run.plan
    loss_mean, right_mean = math.nan, math.nan
    started = time.monotonic() - run.seconds
    for clips, labels in batches(library, run, workers):
        loss, right = run.update(clips, labels)
        run.seconds = time.monotonic() - started
        loss_mean = loss if math.isnan(loss_mean) else 0.98 * loss_mean + 0.02 * loss
        right_mean = right if math.isnan(right_mean) else 0.98 * right_mean + 0.02 * right
        if run.step % 50 == 0:
            log.info(
                "step %d of %d, loss %.3f, right %.3f, %.0f s", run.step, run.plan.steps, loss_mean, right_mean, run.seconds
            )
        if run.step % save_every == 0 or run.step == plan.steps:
            run.save_checkpoint(checkpoint)
            save_safetensors({key: tensor.numpy() for key, tensor in run.weights().items()}, CARD, output)
