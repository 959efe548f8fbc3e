"""TransNetV2 in an engine: windows of frames in, probabilities of a transition out."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.engines.choice import Choice, choose
from ig65m.engines.pixel_graph import Run, load_graph
from ig65m.errors import needs
from ig65m.shots.weights import ShotWeights, load_weights

NAME: Final = "transnetv2"


@dataclass(frozen=True)
class ShotNetwork:
    """TransNetV2, loaded into an engine; several threads may use it at once if `run` lets them."""

    run: Run  # pixels (1, 100, 27, 48, 3) uint8 -> logits (1, 100, 2) float32
    sha256: str  # of the file of its weights
    engine: str  # library and version, precision, device

    def probabilities(self, window: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the probability of each frame of a window, (100, 27, 48, 3) RGB -> (100, 2).

        The first says that the frame is the middle of a transition, the second that it is part of one.
        """
        logits = self.run(np.ascontiguousarray(window)[None])[0].astype(np.float64)
        probabilities: NDArray[np.float64] = np.exp(-np.logaddexp(0, -logits))
        return probabilities


def load_network(choice: Choice | None = None) -> ShotNetwork:
    """Load TransNetV2 into the engine of that choice, in float32. Default: OpenVINO on the CPU.

    Raises:
        UsageError: The engine or the weights are not installed.
        CheckpointError: The file of the weights is damaged.
    """
    choice = choice or choose()
    weights = load_weights()
    if choice.engine == "pytorch":
        name, run = _pytorch(weights, choice)
    else:
        from ig65m.shots.graph import graph_of

        name, run = load_graph(graph_of(weights).SerializeToString(), choice)
    return ShotNetwork(run, weights.sha256, f"{name}, fp32, {choice.device}")


def _pytorch(weights: ShotWeights, choice: Choice) -> tuple[str, Run]:
    with needs("torch", "the pytorch engine"):
        import torch

        from ig65m.engines.pytorch import exact, find_device
        from ig65m.models.transnetv2 import TransNetV2

    if choice.threads is not None:
        torch.set_num_threads(choice.threads)
    device = find_device(choice.device)
    with torch.device("meta"):
        network = TransNetV2()
    network.load_state_dict({key: torch.from_numpy(array) for key, array in weights.arrays.items()}, assign=True)
    network.eval().requires_grad_(False).to(device)

    @torch.inference_mode()
    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with exact(device):
            logits: NDArray[Any] = network(torch.from_numpy(pixels).to(device)).cpu().numpy()
        return logits

    return f"pytorch {torch.__version__}", run
