"""Parameters of an int8 network: steps of its weights and ranges of its values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

INPUT: Final = "input"  # stands for the network's input among module paths
LEVELS: Final = 255  # number of steps in a byte
LARGEST: Final = 127  # of a weight, in steps


@dataclass(frozen=True)
class Quantization:
    """How an int8 network rounds.

    steps: for each quantised convolution, by its path, the step (C,) float32 of each output channel; weights are -127 to 127
    steps. ranges: for each quantised module, by its path, the lowest and highest value of its output, LEVELS steps apart; zero
    is one of the values.
    """

    steps: Mapping[str, NDArray[np.float32]]
    ranges: Mapping[str, tuple[float, float]]

    def step(self, path: str) -> tuple[float, int]:
        """Return the step of a module's output, and the level (0 to LEVELS) of zero."""
        low, high = self.ranges[path]
        step = float(np.float32((high - low) / LEVELS))
        return step, round(-low / step)
