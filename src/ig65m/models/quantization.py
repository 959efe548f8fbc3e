"""A network in int8: the whole numbers that it is run with, beside float weights that are multiples of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ig65m.models.network import Network

INPUT: Final = "input"  # stands for the network's input among the paths of modules
LEVELS: Final = 255  # steps of a byte


@dataclass(frozen=True)
class Quantization:
    """What engines run in whole numbers.

    steps: by path of a convolution, the step (C,) float32 of each output channel's weights, which are -127 to 127 of it.
    ranges: by path of a module, the least and the greatest value that its output can take, LEVELS steps apart; zero is one
    of the values.
    """

    steps: Mapping[str, NDArray[np.float32]]
    ranges: Mapping[str, tuple[float, float]]

    def step(self, path: str) -> tuple[float, int]:
        """The step of a module's output, and which of 0 to LEVELS stands for zero."""
        low, high = self.ranges[path]
        step = float(np.float32((high - low) / LEVELS))
        return step, round(-low / step)


def simulate(model: Network, quantization: Quantization) -> None:
    """Round a network's values as the engines do, so that in PyTorch it is the same function.

    Its weights are what they are. Raises AttributeError for a path that it has not.
    """

    def rounded(path: str, x: torch.Tensor) -> torch.Tensor:
        step, zero = quantization.step(path)
        return torch.fake_quantize_per_tensor_affine(x, step, zero, 0, LEVELS)

    for path in quantization.ranges:
        if path == INPUT:
            first = next(module for module in model.modules() if isinstance(module, nn.Conv3d))
            first.register_forward_pre_hook(lambda _, args: (rounded(INPUT, args[0]), *args[1:]))
        else:
            model.get_submodule(path).register_forward_hook(lambda _, args, x, path=path: rounded(path, x))
    model.quantization = quantization
