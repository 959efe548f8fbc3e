"""Stages of a network, from the input to the last layer; fine-tuning may begin at any of them."""

from typing import Final, Literal, get_args

from torch import nn

from ig65m.models.network import Network
from ig65m.models.resnet import ResNet

Stage = Literal["stem", "layer1", "layer2", "layer3", "layer4", "fc"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


def parts_before(network: Network, first: Stage) -> list[nn.Module]:
    """Return the modules of all stages before `first`.

    C3D's stages are its five groups of convolutions; its stage fc has all three fully connected layers.
    """
    before = STAGES[: STAGES.index(first)]
    if isinstance(network, ResNet):
        return [network.get_submodule(stage) for stage in before]
    prefixes = tuple(f"conv{STAGES.index(stage) + 1}" for stage in before)
    return [module for name, module in network.named_children() if name.startswith(prefixes)]
