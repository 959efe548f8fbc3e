"""Folds batch norms into the convolutions before them."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from ig65m.models.network import Network


def folded(conv: nn.Conv3d, norm: nn.BatchNorm3d | None) -> tuple[Tensor, Tensor | None]:
    """Return float32 weight and bias of the convolution that equals `conv` followed by `norm` in eval mode; computed in
    float64.
    """
    if norm is None:
        return conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
    weight, bias, mean, variance = (
        value.detach().double() for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var) if value is not None
    )
    scale = weight / torch.sqrt(variance + norm.eps)
    own = 0.0 if conv.bias is None else conv.bias.detach().double()
    return (conv.weight.detach().double() * scale.view(-1, 1, 1, 1, 1)).float(), ((own - mean) * scale + bias).float()


def fold(model: Network) -> None:
    """Fold all batch norms of a network, and replace them by identities."""
    values = [(conv, *folded(conv, norm)) for conv, norm, _ in _pairs(model)]
    drop_norms(model)
    for conv, weight, bias in values:
        assert bias is not None
        conv.weight, conv.bias = (nn.Parameter(value, requires_grad=False) for value in (weight, bias))


def drop_norms(model: Network) -> None:
    """Give a network the shape that `fold` gives it; the weights are meaningless afterwards."""
    for conv, norm, name in list(_pairs(model)):
        conv.bias = norm.bias
        model.set_submodule(name, nn.Identity())


def _pairs(model: Network) -> Iterator[tuple[nn.Conv3d, nn.BatchNorm3d, str]]:
    """Yield each convolution that is followed by a batch norm, with that and its path."""
    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    for (_, conv), (name, norm) in pairwise(leaves):
        if isinstance(conv, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d):
            yield conv, norm, name
