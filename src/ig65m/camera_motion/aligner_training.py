"""Training of the aligner: the plan, its loss, and scenes made on the fly."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ig65m.atomic import finished_file
from ig65m.camera_motion.calibration import Observed, calibrate, observe
from ig65m.camera_motion.known_scenes import FACTS, PAIRS, random_scene
from ig65m.camera_motion.scenes import Library
from ig65m.camera_motion.takes import KnownTake, random_take, random_translation
from ig65m.models.aligner import Aligner, Alignment
from ig65m.models.aligner_plan import CELLS, SIZES
from ig65m.models.aligner_plan import PAIRS as CHUNK_PAIRS
from ig65m.motion.fit import fit
from ig65m.motion.weights import MotionWeights
from ig65m.train import loop
from ig65m.train.loop import Run
from ig65m.train.schedules import cosine

# Displacement of the picture's edge in cells, for one unit of a, b, s, r.
EDGE_CELLS = torch.tensor([CELLS, CELLS, CELLS / 2, CELLS / 2])
PARTS = [*SIZES, CELLS * CELLS]  # numbers of each part of an alignment
SLOW = 0.1  # cells below which an error counts by its size, above by its share of the move

TAKES_PER_TRANSLATION = 4  # in the calibration, for each take with parallax

MakeTake = Callable[[np.random.Generator, Library], KnownTake]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignerPlan:
    """All that, with the pictures, determines a run. The data of a step depend on `seed` and step only."""

    seed: int
    steps: int
    batch_size: int = 16  # scenes
    peak_rate: float = 1.5e-3
    hard_from: int = 4500  # step from which scenes are hard; the learning rate rises and falls once more
    hard_rate: float = 5e-4  # the highest then
    weight_decay: float = 0.01
    warmup: float = 0.03  # share of the steps in which the learning rate rises
    average: float = 0.998  # weight of the old value in the running mean of the weights
    clip_norm: float = 2.0


class Scenes(Dataset[tuple[Tensor, Tensor]]):
    """Batches of all steps: frames (N, 3, 96, 96, 3) uint8 and targets (N, pairs, len(FACTS) + 24·24) float32.

    The targets of a pair are its facts, then its cells.
    """

    def __init__(self, library: Library, plan: AlignerPlan) -> None:
        self.library = library
        self.plan = plan

    def __len__(self) -> int:
        return self.plan.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        scenes = [
            random_scene(np.random.default_rng([self.plan.seed, step, index]), self.library, hard=step >= self.plan.hard_from)
            for index in range(self.plan.batch_size)
        ]
        targets = [torch.cat([scene.facts, scene.camera.flatten(1)], 1) for scene in scenes]
        return torch.stack([scene.frames for scene in scenes]), torch.stack(targets)


def packed(alignment: Alignment) -> Tensor:
    """Put an alignment of P pairs into one tensor (P, sum(PARTS))."""
    return torch.cat([part.flatten(1) for part in alignment], 1)


def unpacked(rows: Tensor) -> Alignment:
    """Undo `packed`."""
    start, normal, target, judged, camera = torch.split(rows, PARTS, 1)
    return Alignment(start, normal.reshape(-1, 6, 6), target, judged, camera.reshape(-1, CELLS, CELLS))


def fitted(network: Aligner, alignment: Alignment, aspect: Tensor) -> tuple[Tensor, Tensor]:
    """Return a, b, s, r and their standard deviations, both (P, 4), in cells at the picture's edge."""
    similar, covariance = fit(torch, alignment.start, alignment.normal, alignment.target, aspect)
    variance = torch.diagonal(covariance, dim1=1, dim2=2) * EDGE_CELLS**2
    sigma = (variance * (2 * network.pair["log_scale"]).exp() + (2 * network.pair["log_floor"]).exp()).sqrt()
    return similar * EDGE_CELLS, sigma


def aligner_loss(network: Aligner, rows: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of packed alignments (P, ...) and targets of `Scenes`: the sum of five.

    Negative log-likelihood of the moves under Laplace's distribution with their standard deviations; their relative error,
    since a likelihood alone lets a network give up on what is hard; and cross-entropies of the cells and of the pairs.
    """
    alignment = unpacked(rows)
    facts, cells = torch.split(targets.flatten(0, 1), [len(FACTS), CELLS * CELLS], 1)
    true = dict(zip(FACTS, facts.unbind(1), strict=True))
    valid = true["valid"]
    similar, sigma = fitted(network, alignment, true["aspect"])
    moved = torch.stack([true[name] for name in "absr"], 1) * EDGE_CELLS
    wrong = (similar - moved).abs()
    likelihood = ((math.sqrt(2) * wrong / sigma + sigma.log()).mean(1) * valid).sum() / valid.sum()
    relative = (wrong / (SLOW + moved.abs())).clamp(max=5).mean(1)
    relative = (relative * valid).sum() / valid.sum()
    camera = F.binary_cross_entropy_with_logits(alignment.camera.flatten(1), cells, weight=valid[:, None])
    cut = F.binary_cross_entropy_with_logits(alignment.judged[:, 0], true["cut"])
    known = (true["parallax"] >= 0).float()
    parallax = F.binary_cross_entropy_with_logits(alignment.judged[:, 1], true["parallax"].clamp(min=0), known)
    total: Tensor = likelihood + relative + 0.5 * camera + 0.5 * cut + 0.3 * parallax
    return total


def learning_rate(plan: AlignerPlan, step: int) -> float:
    """Return the learning rate of a step."""
    easy = min(plan.hard_from, plan.steps)
    if step < easy:
        return cosine(step, peak=plan.peak_rate, steps=easy, warmup=plan.warmup * easy)
    hard = plan.steps - easy
    return cosine(step - easy, peak=plan.hard_rate, steps=hard, warmup=plan.warmup * hard)


def new_aligner_run(plan: AlignerPlan) -> Run:
    """Return a run of the plan at step 0, from random weights that weigh all cells alike."""
    torch.manual_seed(plan.seed)
    network = Aligner()
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            with torch.no_grad():
                module.weight.mul_(0.1 if path in ("cell", "judge") else 0.3 if "decoder" in path or path == "whole" else 1)
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
        rate=partial(learning_rate, plan),
        loss=lambda rows, targets: aligner_loss(network, rows, targets),
        forward=lambda frames: packed(network(frames, PAIRS)),
        clip_norm=plan.clip_norm,
        average=plan.average,
    )


def scene_batches(library: Library, plan: AlignerPlan, first_step: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches from a step on, made by `workers` processes in advance (0: by this one)."""
    return iter(DataLoader(Scenes(library, plan), batch_size=None, sampler=range(first_step, plan.steps), num_workers=workers))


def train_aligner(run: Run, plan: AlignerPlan, library: Library, *, checkpoint: Path, workers: int) -> None:
    """Run to the end of the plan, and save checkpoints."""
    network = run.network
    if not isinstance(network, Aligner):
        raise TypeError("the run trains an aligner")
    errors: list[Tensor] = []
    judged: list[Tensor] = []
    losses: list[float] = []

    def report(loss: float, rows: Tensor, targets: Tensor) -> bool:
        losses.append(loss)
        alignment = unpacked(rows)
        facts, cells = torch.split(targets.flatten(0, 1), [len(FACTS), CELLS * CELLS], 1)
        true = dict(zip(FACTS, facts.unbind(1), strict=True))
        similar, sigma = fitted(network, alignment, true["aspect"])
        moved = torch.stack([true[name] for name in "absr"], 1) * EDGE_CELLS
        errors.append(torch.stack([(similar - moved).abs(), moved.abs(), sigma], -1)[true["valid"] > 0].detach())
        camera = (alignment.camera.flatten(1) > 0) == (cells > 0)
        cut = (alignment.judged[:, 0] > 0) == (true["cut"] > 0)
        parallax = ((alignment.judged[:, 1] > 0) == (true["parallax"] > 0))[true["parallax"] >= 0]
        judged.append(torch.stack([part.float().mean() for part in (camera, cut, parallax)]))
        if run.step % 50 == 0:
            wrong, size, sigma = torch.cat(errors).unbind(-1)
            slow, fast = (size > 0.1) & (size < 1), size > 1
            log.info(
                "step %d of %d, loss %.3f, error %.4f cells, relative %.3f slow, %.3f fast, within sigma %.2f, "
                "right camera %.3f, cut %.3f, parallax %.3f, %.0f s",
                run.step,
                plan.steps,
                float(np.mean(losses)),
                wrong.median(),
                (wrong[slow] / size[slow]).median(),
                (wrong[fast] / size[fast]).median(),
                (wrong < sigma).float().mean(),
                *torch.stack(judged).nanmean(0).tolist(),
                run.seconds,
            )
            errors.clear()
            judged.clear()
            losses.clear()
        return False

    loop.train(run, scene_batches(library, plan, run.step, workers), checkpoint=checkpoint, after_step=report)


class Takes(Dataset[KnownTake]):
    """Takes for the calibration, by `make`; each depends on `seed` and its index only."""

    def __init__(self, make: MakeTake, library: Library, seed: int, count: int) -> None:
        self.make, self.library, self.seed, self.count = make, library, seed, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> KnownTake:
        return self.make(np.random.default_rng([self.seed, index]), self.library)


def publish(run: Run, library: Library, output: Path, *, seed: int, takes: int, workers: int) -> None:
    """Calibrate the mean weights on random takes, made by `workers` processes, and write both in float16 and float32."""
    network = Aligner()
    arrays = {name: value.half().float() for name, value in run.mean.items()}
    network.load_state_dict(arrays)
    network.eval()

    @torch.inference_mode()
    def align(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = packed(network(torch.from_numpy(pixels), CHUNK_PAIRS))[:, : sum(SIZES)].numpy()
        return rows

    weights = MotionWeights({name: value.numpy() for name, value in arrays.items()}, sha256="")

    def observed(make: MakeTake, count: int) -> Iterator[Observed]:
        for take in DataLoader(Takes(make, library, seed, count), batch_size=None, num_workers=workers):
            yield observe(align, weights, take)

    calibration = calibrate(observed(random_take, takes), observed(random_translation, takes // TAKES_PER_TRANSLATION))
    halves = {name: value.half().contiguous().numpy() for name, value in run.mean.items()}
    data = safetensors.numpy.save({**halves, **calibration}, metadata={"format": "pt"})
    with finished_file(output) as temporary:
        temporary.write_bytes(data)
