"""Calibration of clips, after the training of the network: how wrong speeds are, and what tells a tripod from a hand.

The errors of the frames of a clip are not independent, so the standard deviation that follows from pairs of frames is scaled;
a share of the move and a constant are added. With these three, 68 % of the errors in clean takes of moving cameras are within
one standard deviation, whatever their size. In takes of tripods more are, since their errors are next to nothing.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ig65m.camera_motion.takes import KnownTake
from ig65m.engines.pixel_graph import Run
from ig65m.motion.chunks import FRAME_STEP, ChunkSpan
from ig65m.motion.clip_motion import EDGE, facts, parallax_terms, terms
from ig65m.motion.path import FRAMES, ClipPath, Paths, pairs_of
from ig65m.motion.weights import MotionWeights

# Shares of the picture; what lies between two values counts as neither.
STILL = (0.0015, 0.008)  # a camera that goes less far in a clip stands still, one that goes farther does not
SHAKING = (0.0004, 0.001)  # a hand whose path deviates less from a straight one does not shake, one that deviates more does
MOVED = 0.03  # share of the picture from which a camera has moved
WITHIN = 0.683  # share of a normal distribution within one standard deviation
STEPS = 2500  # of the optimiser
LEAST_ERROR = 1e-6  # share of the picture that is added to errors before logarithms are taken
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


def observe(run: Run, weights: MotionWeights, known: KnownTake) -> Observed:
    """Return a take and its estimated path."""
    alignments = run(known.take.frames.numpy()[None])
    length = len(known.positions)
    times = tuple((np.arange(length) * FRAME_STEP / known.fps).tolist())
    span = ChunkSpan(0.0, times[-1], 0, (length - 1) * FRAME_STEP, times=times, aspect=known.aspect, joined=False)
    return Observed(known, next(iter(Paths().add(span, pairs_of(alignments, span, weights)))))


def calibrate(observed: Iterable[Observed], translations: Iterable[Observed]) -> dict[str, NDArray[np.float32]]:
    """Return the calibration of clips, in the shapes of `aligner_plan.CALIBRATION`."""
    kept = [each for each in observed if each.path.cut < 0.5]
    scale, share, floor = _spread([each for each in kept if "move" in each.known.kind and each.known.plain])
    result = {"parallax.weight": _parallax(kept, [each for each in translations if each.path.cut < 0.5])}
    features = torch.tensor(terms(np.array([facts(each.path) for each in kept])))
    result |= {"clip.scale": scale, "clip.share": share, "clip.floor": floor / torch.tensor(EDGE)}
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


def _parallax(observed: list[Observed], translations: list[Observed]) -> Tensor:
    """Fit the weights (2,) of what the network says of parallax, so that translations are told from as many clean moves."""
    moves = [each for each in observed if each.known.kind == "move" and each.known.plain][: len(translations)]
    features = torch.tensor(np.array([parallax_terms(each.path.parallax) for each in (*moves, *translations)]))
    return _logistic(features, torch.arange(len(features)) >= len(moves), "parallax")


def _spread(observed: list[Observed]) -> tuple[Tensor, Tensor, Tensor]:
    """Fit the three parts of the standard deviation, each (4,), by quantile regression on the logarithms of the errors.

    Of each speed, takes with and without a move in it count alike.
    """
    truth, end, sigma = (
        torch.tensor(np.array(values) * EDGE)
        for values in zip(*((each.truth, each.path.positions[-1], each.path.sigma) for each in observed), strict=True)
    )
    moved = truth.abs() > MOVED
    weight = torch.where(moved, 0.5 / moved.sum(0), 0.5 / (~moved).sum(0))
    wrong = (end - truth).abs()
    logs = torch.tensor([[1.0], [0.03], [3e-4]], dtype=torch.float64).log().repeat(1, 4).requires_grad_()

    def spread() -> Tensor:
        scale, share, floor = logs.exp()
        total: Tensor = ((scale * sigma) ** 2 + (share * end) ** 2 + floor**2).sqrt()
        return total

    optimiser = torch.optim.Adam([logs], lr=0.02)
    for _ in range(STEPS):
        above = (wrong + LEAST_ERROR).log() - spread().log()
        loss = (torch.maximum(WITHIN * above, (WITHIN - 1) * above) * weight).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    right = wrong < spread()
    for text, kind in (("with", moved), ("without", ~moved)):
        shares = ((right & kind).sum(0) / kind.sum(0)).tolist()
        log.info("within one standard deviation, %s a move: pan %.3f, tilt %.3f, zoom %.3f, roll %.3f", text, *shares)
    scale, share, floor = logs.detach().exp()
    return scale, share, floor


def _logistic(features: Tensor, labels: Tensor, name: str) -> Tensor:
    """Fit the weights of a logistic regression, whose first feature is 1."""
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
