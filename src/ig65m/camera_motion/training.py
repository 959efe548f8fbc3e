"""Training of the camera-motion network: the plan, and clips made on the fly."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ig65m.camera_motion.scenes import Library, make_masks, mirror, random_clip
from ig65m.camera_motion.sources import load_sources, textures
from ig65m.camera_motion.start import start_stem
from ig65m.models.network import network
from ig65m.models.resnet import ResNet
from ig65m.models.spec import Spec
from ig65m.train import loop
from ig65m.train.loop import Run
from ig65m.train.schedules import cosine
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


def normalise(clips: Tensor) -> Tensor:
    """(N, 3, T, H, W) uint8 -> normalised float32."""
    seen = CARD.preprocessing
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (seen.mean, seen.std))
    return ((clips - mean) / std).contiguous(memory_format=torch.channels_last_3d)


def new_run(plan: Plan, spec: Spec = CARD.spec) -> Run:
    """Return a run of the plan at step 0, from random weights. Raises TypeError unless the network is residual."""
    torch.manual_seed(plan.seed)
    model = network(spec).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if not isinstance(model, ResNet):
        raise TypeError("the camera-motion network is residual")
    start_stem(model, plan.seed)
    weights = list(model.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.dim() > 1], "weight_decay": plan.weight_decay},
        {"params": [weight for weight in weights if weight.dim() <= 1], "weight_decay": 0.0},
    ]
    return Run(
        model,
        torch.optim.AdamW(groups, lr=plan.peak_rate),
        plan=vars(plan),
        rate=lambda step: cosine(step, peak=plan.peak_rate, steps=plan.steps, warmup=plan.warmup * plan.steps),
        loss=lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=plan.label_smoothing),
        forward=lambda clips: _logits(model, normalise(clips)),
        clip_norm=plan.clip_norm,
        average=plan.average,
    )


def _logits(model: ResNet, x: Tensor) -> Tensor:
    """Normalised clips (N, 3, FRAMES, H, W) -> logits (N, classes), with the large maps in bfloat16.

    The rest, a tenth of the work, stays in float32: oneDNN's bfloat16 gradient of layer3.0.conv2.0.3, (3, 1, 1) over two
    frames, is infinite (torch 2.13, AVX-512).
    """
    with torch.autocast("cpu", torch.bfloat16):
        x = model.layer2(model.layer1(model.stem(x)))
    return model.forward_head(model.layer4(model.layer3(x.float())))


def published_weights(run: Run) -> dict[str, Tensor]:
    """Return the mean weights for publication: float16, step counts as integers."""
    return {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in run.mean.items()}


def batches(library: Library, plan: Plan, first_step: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches from a step on, made by `workers` processes in advance (0: by this one)."""
    todo = range(first_step, plan.steps)
    return iter(DataLoader(Clips(library, plan), batch_size=None, sampler=todo, num_workers=workers))


def train(run: Run, plan: Plan, library: Library, *, output: Path, checkpoint: Path, workers: int) -> None:
    """Run to the end of the plan, and save checkpoints and weights."""
    loss_mean, right_mean = math.nan, math.nan

    def report(loss: float, logits: Tensor, labels: Tensor) -> bool:
        nonlocal loss_mean, right_mean
        right = (logits.argmax(1) == labels).float().mean().item()
        loss_mean = loss if math.isnan(loss_mean) else 0.98 * loss_mean + 0.02 * loss
        right_mean = right if math.isnan(right_mean) else 0.98 * right_mean + 0.02 * right
        if run.step % 50 == 0:
            log.info("step %d of %d, loss %.3f, right %.3f, %.0f s", run.step, plan.steps, loss_mean, right_mean, run.seconds)
        return False

    def save_weights() -> None:
        save_safetensors({key: tensor.numpy() for key, tensor in published_weights(run).items()}, CARD, output)

    made = batches(library, plan, run.step, workers)
    loop.train(run, made, checkpoint=checkpoint, after_step=report, on_save=save_weights)
