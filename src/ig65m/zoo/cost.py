"""What a network costs: counted on the network itself, run without storage."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ig65m.models.network import empty
from ig65m.zoo.cards import Card


@dataclass(frozen=True)
class Cost:
    """Trainable numbers, and multiply-adds of convolutions and last layer for one clip of the card's crop."""

    parameters: int
    multiply_adds: int


def cost(card: Card) -> Cost:
    """Count a card's network; a card without a clip length is counted at 8 frames."""
    model = empty(card.spec).eval()
    total = 0

    def count(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv3d):  # one multiply-add for each weight at each place of the output
            total += module.weight.numel() * output[0, 0].numel()

    for module in model.modules():
        module.register_forward_hook(count)
    clip = torch.empty(1, card.spec.in_channels, card.frames or 8, *card.preprocessing.crop, device="meta")
    model(clip)
    return Cost(sum(weight.numel() for weight in model.parameters()), total + model.fc.weight.numel())
