"""Builds PyTorch networks of both families, from their specs or with weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ig65m.errors import UsageError
from ig65m.models.c3d import C3D
from ig65m.models.head import with_head
from ig65m.models.plan import plan_of
from ig65m.models.quantization import INPUT, LEVELS, Quantization
from ig65m.models.resnet import ResNet
from ig65m.models.spec import ResNetSpec, Spec
from ig65m.models.weights import Weights

Network = ResNet | C3D


def network(spec: Spec) -> Network:
    """Return the network of a spec with random weights, initialised for training."""
    return ResNet(spec) if isinstance(spec, ResNetSpec) else C3D(spec)


def empty(spec: Spec) -> Network:
    """Return a network on the meta device: names and shapes only; fill it with `load_state_dict(assign=True)`."""
    with torch.device("meta"):
        return network(spec)


def network_of(weights: Weights) -> Network:
    """Return the network of these weights, in eval mode; it shares their memory."""
    model = empty(weights.spec)
    if weights.quantization is not None:
        drop_norms(model)
    model.load_state_dict({key: torch.from_numpy(array) for key, array in weights.arrays.items()}, assign=True)
    model.eval()
    if weights.quantization is not None:
        model.requires_grad_(False)
        _simulate(model, weights.quantization)
    model.card = weights.card
    return model


def weights_of(model: Network) -> Weights:
    """Return the weights of a network, which share its memory on a CPU."""
    arrays = {key: tensor.detach().cpu().numpy() for key, tensor in model.state_dict().items()}
    return Weights(model.card, arrays, model.quantization)


def with_new_head(
    weights: Weights,
    classes: int,
    *,
    labels: Sequence[str] | None = None,
    multi_label: bool = False,
    generator: torch.Generator | None = None,
) -> Weights:
    """Return the network with a new last layer to be trained: weights N(0, 0.01), bias 0, as VMZ starts; C3D keeps its fc7.

    `generator` decides the weights. Default: PyTorch's own. Raises UsageError for an int8 network.
    """
    if weights.quantization is not None:
        raise UsageError(f"{weights.card.name} is in int8 and cannot be trained; use the float32 network that it was made from")
    weight = torch.empty(classes, weights.spec.feature_width).normal_(0, 0.01, generator=generator)
    bias = torch.zeros(classes)
    options: dict[str, Any] = {"labels": labels, "multi_label": multi_label}
    return with_head(weights, weight.numpy(), bias.numpy(), on_features=False, **options)


def drop_norms(model: Network) -> None:
    """Give a network the shape of folded weights; its own weights are meaningless afterwards."""
    for path, conv in plan_of(model.spec).convolutions.items():
        module = model.get_submodule(path)
        module.bias = model.get_submodule(conv.norm).bias
        model.set_submodule(conv.norm, nn.Identity())


def _simulate(model: Network, quantization: Quantization) -> None:
    """Make PyTorch round a network's values as int8 engines do; its weights stay as they are."""

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
