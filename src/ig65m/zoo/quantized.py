"""Int8 networks as tensors, for their files."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ig65m.errors import CheckpointError, shown
from ig65m.models.card import Card
from ig65m.models.folding import drop_norms
from ig65m.models.network import Network, empty, simulate
from ig65m.models.quantization import INPUT, LEVELS, Quantization

_STEPS, _RANGE = ".steps", ".range"


def is_quantized(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are tensors of an int8 network."""
    return any(tensor.dtype == torch.int8 for tensor in tensors.values())


def quantized_tensors(model: Network) -> dict[str, Tensor]:
    """Return weights, int8 where they are multiples of `steps`, steps, and ranges of values."""
    assert model.quantization is not None
    quantization = model.quantization
    tensors = dict(model.state_dict())
    for path, steps in quantization.steps.items():
        step = torch.from_numpy(steps)
        tensors[f"{path}.weight"] = torch.round(tensors[f"{path}.weight"] / step.view(-1, 1, 1, 1, 1)).to(torch.int8)
        tensors[f"{path}{_STEPS}"] = step
    return tensors | {f"{path}{_RANGE}": torch.tensor(ends) for path, ends in quantization.ranges.items()}


def quantized_network(tensors: Mapping[str, Tensor], card: Card) -> Network:
    """Build the network from `quantized_tensors`, in eval mode. Raises CheckpointError if they do not fit the card."""
    model = empty(card.spec)
    drop_norms(model)
    convolutions = {path: module for path, module in model.named_modules() if isinstance(module, nn.Conv3d)}
    paths = {INPUT} | dict(model.named_modules()).keys()
    state, steps, ranges = {}, {}, {}
    for key, tensor in tensors.items():
        path = key.removesuffix(_STEPS).removesuffix(_RANGE)
        if key.endswith(_STEPS) and path in convolutions:
            steps[path] = _steps(key, tensor, convolutions[path].out_channels)
        elif key.endswith(_RANGE) and path in paths:
            ranges[path] = _range(key, tensor)
        else:
            state[key] = tensor
    wanted = model.state_dict()
    if odd := sorted(wanted.keys() ^ state.keys()):
        raise CheckpointError(f"expected {card.spec} in int8: {shown(odd)} are missing or unexpected")
    for key, tensor in state.items():
        path = key.removesuffix(".weight")
        kind = torch.int8 if key.endswith(".weight") and path in steps else torch.float32
        if tensor.shape != wanted[key].shape or tensor.dtype != kind:
            got = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise CheckpointError(f"{key} is {got}; expected {kind} {tuple(wanted[key].shape)}")
        if kind == torch.int8:
            state[key] = tensor.to(torch.float32) * torch.from_numpy(steps[path]).view(-1, 1, 1, 1, 1)
        elif not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{key} contains numbers that are not finite")
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False).eval()
    simulate(model, Quantization(steps, ranges))
    model.card = card
    return model


def _steps(key: str, tensor: Tensor, channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if tensor.dtype != torch.float32 or tensor.shape != (channels,) or not bool(((tensor > 0) & tensor.isfinite()).all()):
        raise CheckpointError(f"{key} is {tensor.dtype} {tuple(tensor.shape)}; expected {channels} positive float32 numbers")
    return tensor.numpy()


def _range(key: str, tensor: Tensor) -> tuple[float, float]:
    if tensor.dtype != torch.float32 or tensor.shape != (2,):
        raise CheckpointError(f"{key} is {tensor.dtype} {tuple(tensor.shape)}; expected two float32 numbers")
    low, high = map(float, tensor)
    if not (-3e38 < low <= 0 <= high < 3e38 and high - low > LEVELS * 1e-37):
        raise CheckpointError(f"{key} is {low} to {high}; expected a finite range that contains zero")
    return low, high
