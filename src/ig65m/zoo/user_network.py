"""Takes the weights of a network from the caller, which may be wrapped or have another last layer."""

from dataclasses import replace

import torch
from torch import nn

from ig65m.errors import ModelError
from ig65m.models.c3d import C3D
from ig65m.models.card import Card
from ig65m.models.network import Network, weights_of
from ig65m.models.resnet import ResNet
from ig65m.models.weights import Weights

_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}


def checked_weights(model: object) -> Weights:
    """Return the weights of a network, without `torch.compile`, `DataParallel` or `DistributedDataParallel` around it.

    If its `fc` was replaced by a Linear with another number of outputs, their card has that number of classes, and no labels.

    Raises ModelError if it is not a network of `ig65m.load_model`, its last layer is not a plain Linear of the right width,
    its weights are not float32 or are on the meta device, or it is in training mode.
    """
    network = unwrapped(model)
    if network.training:
        name = network.card.name
        raise ModelError(f"{name} is in training mode, in which results depend on the batch; call its eval() first")
    return trained_weights(network)


def unwrapped(model: object) -> Network:
    """Return the network without wrappers. Raises ModelError if it is not a network of `ig65m.load_model`."""
    module = model
    while isinstance(module, nn.Module) and type(module).__name__ in _WRAPPERS:
        module = module.get_submodule(_WRAPPERS[type(module).__name__])
    if not isinstance(module, ResNet | C3D):
        raise ModelError(f"expected a model's name, a model file or a network of ig65m.load_model, got {type(module).__name__}")
    return module


def trained_weights(network: Network) -> Weights:
    """Return the weights of a network as `checked_weights`, also if it is in training mode."""
    card = network.card
    _check_weights(network, card)
    weights = weights_of(network)
    if network.quantization is not None:
        return weights
    classes = _classes(network, card)
    if classes == network.spec.classes == card.spec.classes:
        return weights
    return replace(weights, card=replace(card, spec=replace(network.spec, classes=classes), labels=None))


def _check_weights(network: Network, card: Card) -> None:
    for name, parameter in network.named_parameters():
        if parameter.is_meta:
            raise ModelError(f"{name} of {card.name} is on the meta device; load the network's weights first")
        if parameter.dtype != torch.float32:
            kind = str(parameter.dtype).removeprefix("torch.")
            raise ModelError(
                f"{name} of {card.name} is {kind}, expected float32; call the network's float(), and choose the "
                "precision of the arithmetic with precision=, such as 'bf16'"
            )


def _classes(network: Network, card: Card) -> int:
    """Return the number of classes of the last layer. Raises ModelError for an unexpected layer."""
    head = getattr(network, "fc", None)
    width = network.fc7.out_features if isinstance(network, C3D) else network.spec.feature_width
    if head is None or isinstance(head, nn.Identity):
        if isinstance(network, C3D) or network.spec.multi_label:
            raise ModelError(f"the last layer of {card.name} was removed; expected nn.Linear({width}, number of classes)")
        return 0
    if type(head) is not nn.Linear or head.bias is None:
        what = "a Linear without bias" if isinstance(head, nn.Linear) else type(head).__name__
        raise ModelError(f"the last layer of {card.name} (`fc`) is {what}; expected nn.Linear({width}, number of classes)")
    if head.in_features != width:
        raise ModelError(f"the last layer of {card.name} (`fc`) takes {head.in_features} features; the network gives {width}")
    if network.spec.multi_label and head.out_features != network.spec.classes:
        raise ModelError(
            f"the last layer of {card.name} has {head.out_features} outputs, its `pred_logit` {network.spec.classes}; "
            "replace both"
        )
    return head.out_features
