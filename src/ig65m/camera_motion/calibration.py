"""Calibration of clips, after the training of the network: how wrong speeds are, and what tells a tripod from a hand.

The errors of the frames of a clip are not independent, so the standard deviation that follows from pairs of frames is scaled;
a share of the move and a constant are added, all three so that the truth of random takes is most likely.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ig65m.camera_motion.scenes import Library
from ig65m.camera_motion.takes import KnownTake, random_take
from ig65m.engines.pixel_graph import Run
from ig65m.motion.chunks import FRAME_STEP, ChunkSpan
from ig65m.motion.clip_motion import EDGE, facts, terms
from ig65m.motion.path import FRAMES, ClipPath, Paths, pairs_of
from ig65m.motion.weights import MotionWeights

# Shares of the picture; what lies between two values counts as neither.
STILL = (0.001, 0.003)  # a camera that goes less far in a clip stands still, one that goes farther does not
SHAKING = (0.0004, 0.001)  # a hand whose path deviates less from a straight one does not shake, one that deviates more does
STEPS = 2000  # of the optimiser
RIDGE = 1e-3  # penalty on the squares of the weights of the logistic regressions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Observed:
    """A take and the path that was estimated of its first clip."""

    known: KnownTake
    path: ClipPath

    @property
    def truth(self) -> NDArray[np.float64]:
        """True position (4,) of the camera at the end of the clip."""
        return np.asarray(self.known.positions[FRAMES - 1])


def observe(run: Run, weights: MotionWeights, library: Library, seed: int, index: int) -> Observed:
    """Return a random take and its estimated path; it depends on seed and index."""
    known = random_take(np.random.default_rng([seed, index]), library)
    alignments = run(known.take.frames.numpy()[None])
    length = len(known.positions)
    times = tuple((np.arange(length) * FRAME_STEP / known.fps).tolist())
    span = ChunkSpan(0.0, times[-1], 0, (length - 1) * FRAME_STEP, times=times, aspect=known.aspect, joined=False)
    return Observed(known, next(iter(Paths().add(span, pairs_of(alignments, span, weights)))))


def calibrate(observed: Iterable[Observed]) -> dict[str, NDArray[np.float32]]:
    """Return the calibration of clips, in the shapes of `aligner_plan.CALIBRATION`."""
    kept = [each for each in observed if each.path.cut < 0.5]
    off = torch.tensor(np.array([each.path.positions[-1] - each.truth for each in kept]) * EDGE)
    size = torch.tensor(np.array([each.path.positions[-1] for each in kept]) * EDGE)
    sigma = torch.tensor(np.array([each.path.sigma for each in kept]) * EDGE)
    scale, share, floor = _spread(off, sigma, size)
    within = (off.abs() < _combined(sigma, size, scale, share, floor)).double().mean(0)
    log.info("within one standard deviation: pan %.3f, tilt %.3f, zoom %.3f, roll %.3f", *within.tolist())
    features = torch.tensor(terms(np.array([facts(each.path) for each in kept])))
    result = {"clip.scale": scale, "clip.share": share, "clip.floor": floor / torch.tensor(EDGE)}
    for name, amounts, (least, most) in (
        ("static", [_reach(each) for each in kept], STILL),
        ("shake", [-_tremble(each) for each in kept], (-SHAKING[1], -SHAKING[0])),
    ):
        amount = torch.tensor(amounts)
        clear = (amount <= least) | (amount >= most)
        result[f"{name}.weight"] = _logistic(features[clear], amount[clear] <= least, name)
    return {name: value.numpy().astype(np.float32) for name, value in result.items()}


def _reach(each: Observed) -> float:
    """Return how far the camera truly went in a clip, as a share of the picture."""
    return float(np.abs(each.known.positions[:FRAMES] * EDGE).max())


def _tremble(each: Observed) -> float:
    """Return the deviation of a hand's true path in a clip from a straight one, as a share of the picture; 0 without a hand."""
    if "hand" not in each.known.kind:
        return 0.0
    positions = each.known.positions[:FRAMES] * EDGE
    line = np.linspace(0, 1, len(positions))[:, None] * positions[-1]
    return float(np.sqrt(np.mean((positions - line) ** 2, axis=0)).max())


def _combined(sigma: Tensor, size: Tensor, scale: Tensor, share: Tensor, floor: Tensor) -> Tensor:
    return ((scale * sigma) ** 2 + (share * size) ** 2 + floor**2).sqrt()


def _spread(off: Tensor, sigma: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit the three parts of the standard deviation, each (4,), by the likelihood under Cauchy's distribution.

    It ignores the few takes whose motion cannot be seen at all.
    """
    logs = torch.tensor([[1.0], [0.03], [3e-4]], dtype=torch.float64).log().repeat(1, 4).requires_grad_()
    optimiser = torch.optim.Adam([logs], lr=0.02)
    for _ in range(STEPS):
        spread = _combined(sigma, size, *logs.exp())
        loss = ((off / spread).square().log1p() + spread.log()).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    scale, share, floor = logs.detach().exp()
    # Users expect 68 % within a standard deviation, as of a normal distribution.
    wanted = torch.quantile(off.abs() / _combined(sigma, size, scale, share, floor), 0.683, dim=0)
    return scale * wanted, share * wanted, floor * wanted


def _logistic(features: Tensor, labels: Tensor, name: str) -> Tensor:
    """Fit the weights (15,) of a logistic regression."""
    centre, spread = features.mean(0), features.std(0)
    centre[0], spread[0] = 0, 1  # the constant
    standard = (features - centre) / spread
    weight = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(standard @ weight, labels.double()) + RIDGE * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    found = weight.detach()
    right = ((standard @ found > 0) == labels).double().mean()
    log.info("%s: right in %.3f of %d takes", name, right, len(labels))
    own = found / spread
    own[0] = found[0] - (found[1:] * centre[1:] / spread[1:]).sum()
    return own
