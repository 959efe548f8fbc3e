"""Builds networks of both families from their specs."""

import torch
from torch import nn

from ig65m.models.c3d import C3D
from ig65m.models.quantization import INPUT, LEVELS, Quantization
from ig65m.models.resnet import ResNet
from ig65m.models.spec import ResNetSpec, Spec

Network = ResNet | C3D


def network(spec: Spec) -> Network:
    """Return the network of a spec with random weights, initialised for training."""
    return ResNet(spec) if isinstance(spec, ResNetSpec) else C3D(spec)


def empty(spec: Spec) -> Network:
    """Return a network on the meta device: names and shapes only; fill it with `load_state_dict(assign=True)`."""
    with torch.device("meta"):
        return network(spec)


def simulate(model: Network, quantization: Quantization) -> None:
    """Make PyTorch round a network's values as int8 engines do; its weights stay as they are.

    Raises AttributeError if the quantization names a module that the network does not have.
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
