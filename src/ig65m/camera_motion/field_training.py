"""Training of the motion-field network: the plan, its loss, and scenes made on the fly."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ig65m.camera_motion.fields import PAIRS, TARGETS, random_scene
from ig65m.camera_motion.scenes import Library
from ig65m.models.motion_field import MotionField
from ig65m.models.motion_field_plan import CELLS
from ig65m.motion.fit import fit
from ig65m.train import loop
from ig65m.train.loop import Run
from ig65m.train.schedules import cosine

# Displacement of the picture's edge in cells, for one unit of a, b, s, r.
EDGE_CELLS = torch.tensor([CELLS, CELLS, CELLS / 2, CELLS / 2])
LOG_SIGMA = (-4.0, 3.0)  # range of the network's log_sigma that the loss sees

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FieldPlan:
    """All that, with the pictures, determines a run. The data of a step depend on `seed` and step only."""

    seed: int
    steps: int
    batch_size: int = 16  # scenes
    peak_rate: float = 1.5e-3
    weight_decay: float = 0.01
    warmup: float = 0.04  # share of the steps in which the learning rate rises
    easy: float = 0.06  # share of the steps over which plain scenes are replaced by all kinds
    average: float = 0.998  # weight of the old value in the running mean of the weights
    clip_norm: float = 2.0


class Scenes(Dataset[tuple[Tensor, Tensor]]):
    """Batches of all steps: frames (N, 3, 96, 96, 3) uint8 and targets (N, pairs, channels, 24, 24) float32."""

    def __init__(self, library: Library, plan: FieldPlan) -> None:
        self.library = library
        self.plan = plan

    def __len__(self) -> int:
        return self.plan.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        easing = max(0.0, 1 - step / (self.plan.easy * self.plan.steps))
        scenes = []
        for index in range(self.plan.batch_size):
            rng = np.random.default_rng([self.plan.seed, step, index])
            scenes.append(random_scene(rng, self.library, plain=bool(rng.random() < easing)))
        return torch.stack([scene.frames for scene in scenes]), torch.stack([scene.targets for scene in scenes])


def fitted(network: MotionField, fields: Tensor, aspect: Tensor) -> tuple[Tensor, Tensor]:
    """Fields (P, 6, 24, 24) -> a, b, s, r and their standard deviations, both (P, 4), in cells at the picture's edge."""
    right, down, log_sigma, camera = fields[:, :4].unbind(1)
    similar, covariance = fit(torch, right, down, log_sigma.clamp(*LOG_SIGMA), camera.sigmoid(), aspect)
    variance = torch.diagonal(covariance, dim1=1, dim2=2) * EDGE_CELLS**2
    sigma = (variance * (2 * network.pair["log_scale"]).exp() + (2 * network.pair["log_floor"]).exp()).sqrt()
    return similar * EDGE_CELLS, sigma


def field_loss(network: MotionField, fields: Tensor, targets: Tensor) -> Tensor:
    """Fields (N, pairs, 6, 24, 24) and targets -> negative log-likelihood of cells, of the fit, and of the yes-or-no outputs."""
    fields, targets = fields.flatten(0, 1), targets.flatten(0, 1)
    true = dict(zip(TARGETS, targets.unbind(1), strict=True))
    log_sigma = fields[:, 2].clamp(*LOG_SIGMA)
    off = (fields[:, :2] - targets[:, :2]).abs().sum(1)
    cells = true["camera"] * true["valid"]
    # Laplace's distribution with the standard deviation sigma, in both directions.
    field = ((math.sqrt(2) * off * (-log_sigma).exp() + 2 * log_sigma) * cells).sum() / cells.sum().clamp(min=1)
    camera = F.binary_cross_entropy_with_logits(fields[:, 3], true["camera"], weight=true["valid"])
    whole = targets[:, :, 0, 0]
    kept = whole[:, TARGETS.index("valid")] > 0
    similar, sigma = fitted(network, fields[kept], whole[kept, TARGETS.index("aspect")])
    wrong = (similar - whole[kept, 4:8] * EDGE_CELLS).abs()
    motion = (math.sqrt(2) * wrong / sigma + sigma.log()).mean()
    cut = F.binary_cross_entropy_with_logits(fields[:, 4, 0, 0], whole[:, TARGETS.index("cut")])
    known = (whole[:, TARGETS.index("parallax")] >= 0).float()
    parallax = F.binary_cross_entropy_with_logits(fields[:, 5, 0, 0], whole[:, TARGETS.index("parallax")].clamp(min=0), known)
    return field + 0.3 * camera + 0.5 * motion + 0.3 * cut + 0.2 * parallax


def new_field_run(plan: FieldPlan) -> Run:
    """Return a run of the plan at step 0, from random weights."""
    torch.manual_seed(plan.seed)
    network = MotionField()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        network.get_submodule("cell").weight.mul_(0.1)  # type: ignore[operator]
        for path in network.decoder.children():  # type: ignore[union-attr]
            path.weight.mul_(0.3)  # type: ignore[operator, union-attr]
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = list(network.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.dim() > 1], "weight_decay": plan.weight_decay},
        {"params": [weight for weight in weights if weight.dim() <= 1], "weight_decay": 0.0},
    ]
    return Run(
        network,
        torch.optim.AdamW(groups, lr=plan.peak_rate),
        plan=vars(plan),
        rate=lambda step: cosine(step, peak=plan.peak_rate, steps=plan.steps, warmup=plan.warmup * plan.steps),
        loss=lambda fields, targets: field_loss(network, fields, targets),
        forward=lambda frames: network(frames, PAIRS),
        clip_norm=plan.clip_norm,
        average=plan.average,
    )


def scene_batches(library: Library, plan: FieldPlan, first_step: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches from a step on, made by `workers` processes in advance (0: by this one)."""
    return iter(DataLoader(Scenes(library, plan), batch_size=None, sampler=range(first_step, plan.steps), num_workers=workers))


def train_field(run: Run, plan: FieldPlan, library: Library, *, checkpoint: Path, workers: int) -> None:
    """Run to the end of the plan, and save checkpoints."""
    network = run.network
    if not isinstance(network, MotionField):
        raise TypeError("the run trains a motion-field network")
    errors: list[Tensor] = []
    losses: list[float] = []

    def report(loss: float, fields: Tensor, targets: Tensor) -> bool:
        losses.append(loss)
        fields, targets = fields.flatten(0, 1), targets.flatten(0, 1)
        whole = targets[:, :, 0, 0]
        kept = whole[:, TARGETS.index("valid")] > 0
        similar, sigma = fitted(network, fields[kept], whole[kept, TARGETS.index("aspect")])
        true = whole[kept, 4:8] * EDGE_CELLS
        errors.append(torch.stack([(similar - true).abs(), true.abs(), sigma], -1).detach())
        if run.step % 50 == 0:
            wrong, size, sigma = torch.cat(errors).unbind(-1)
            moving = size > 0.1
            log.info(
                "step %d of %d, loss %.3f, error %.4f cells, relative %.3f, within sigma %.2f, %.0f s",
                run.step,
                plan.steps,
                float(np.mean(losses)),
                wrong.median(),
                (wrong[moving] / size[moving]).median(),
                (wrong < sigma).float().mean(),
                run.seconds,
            )
            errors.clear()
            losses.clear()
        return False

    loop.train(run, scene_batches(library, plan, run.step, workers), checkpoint=checkpoint, after_step=report)
