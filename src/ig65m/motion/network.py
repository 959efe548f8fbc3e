"""The aligner in an engine: chunks of frames in, alignments of pairs out."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.engines.choice import Choice, choose
from ig65m.engines.pixel_graph import Run, load_graph
from ig65m.errors import needs
from ig65m.motion.weights import MotionWeights, load_weights

NAME: Final = "camera_motion_aligner"

AT_ONCE: Final = 2
"""Chunks that are computed at the same time: operations this small do not keep all threads busy."""


@dataclass(frozen=True)
class MotionNetwork:
    """The network, loaded into an engine."""

    run: Run  # pixels (N, WINDOW, 96, 96, 3) uint8 -> alignments (N·len(PAIRS), sum(SIZES)) float32
    weights: MotionWeights
    engine: str  # library and version, precision, device


def load_network(choice: Choice | None = None) -> MotionNetwork:
    """Load the network into the engine of that choice, in float32. Default: OpenVINO on the CPU.

    Raises:
        UsageError: The engine is not installed.
        CheckpointError: The file of the weights is damaged.
    """
    choice = choice or choose()
    weights = load_weights()
    if choice.engine == "pytorch":
        name, run = _pytorch(weights, choice)
    else:
        from ig65m.motion.graph import graph_of

        name, run = load_graph(graph_of(weights).SerializeToString(), choice, at_once=AT_ONCE)
    return MotionNetwork(run, weights, f"{name}, fp32, {choice.device}")


def _pytorch(weights: MotionWeights, choice: Choice) -> tuple[str, Run]:
    with needs("torch", "the pytorch engine"):
        import torch

        from ig65m.engines.pytorch import exact, find_device
        from ig65m.models.aligner import Aligner
        from ig65m.models.aligner_plan import PAIRS, SIZES, shapes

    if choice.threads is not None:
        torch.set_num_threads(choice.threads)
    device = find_device(choice.device)
    network = Aligner()
    network.load_state_dict({key: torch.from_numpy(weights.arrays[key]) for key in shapes()})
    network.eval().requires_grad_(False).to(device)

    @torch.inference_mode()
    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with exact(device):
            alignment = network(torch.from_numpy(pixels).to(device), PAIRS)
        parts = [part.flatten(1) for part in alignment[: len(SIZES)]]
        rows: NDArray[np.float32] = torch.cat(parts, 1).cpu().numpy()
        return rows

    return f"pytorch {torch.__version__}", run
