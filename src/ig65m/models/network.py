"""A network of either family, from its spec."""

import torch

from ig65m.models.c3d import C3D
from ig65m.models.resnet import ResNet
from ig65m.models.spec import ResNetSpec, Spec

Network = ResNet | C3D


def network(spec: Spec) -> Network:
    """The network of a spec, with the weights that training starts from."""
    return ResNet(spec) if isinstance(spec, ResNetSpec) else C3D(spec)


def empty(spec: Spec) -> Network:
    """A network without storage (on the meta device): its names and shapes; `load_state_dict(assign=True)` fills it."""
    with torch.device("meta"):
        return network(spec)
