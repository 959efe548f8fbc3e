"""PyTorch engine: clips of bytes in, features and logits out."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ig65m.errors import ModelError, UsageError
from ig65m.models.c3d import C3D
from ig65m.models.network import Network
from ig65m.types import Preprocessing

Reduction = Literal["mean", "max", "none"]


@dataclass(frozen=True)
class Pooling:
    """How feature maps (C, T', H', W') become features: over space first, then over time."""

    spatial: Reduction = "mean"
    temporal: Reduction = "mean"

    def __post_init__(self) -> None:
        for value in (self.spatial, self.temporal):
            if value not in get_args(Reduction):
                raise UsageError(f"pooling {value!r} is none of {', '.join(get_args(Reduction))}")

    def __call__(self, maps: Tensor) -> Tensor:
        """(N, C, T', H', W') -> (N, C), with the axes that are not pooled kept behind C."""
        if self.spatial != "none":
            maps = maps.mean(dim=(3, 4)) if self.spatial == "mean" else maps.amax(dim=(3, 4))
        if self.temporal != "none":
            maps = maps.mean(dim=2) if self.temporal == "mean" else maps.amax(dim=2)
        return maps


class PyTorchEngine:
    """Runs a network on batches of clips, on the CPU or on a CUDA device, in float32 (TF32 off)."""

    def __init__(
        self,
        model: Network,
        preprocessing: Preprocessing,
        *,
        pooling: Pooling | None = None,
        device: str = "cpu",
        window: tuple[int, int] | None = None,
    ) -> None:
        if isinstance(model, C3D) and (pooling not in (None, Pooling()) or window is not None):
            raise UsageError("C3D ends in fully connected layers: it has no feature maps to pool otherwise, or to slide over")
        self.device = find_device(device)
        self.model = model.to(self.device)
        self.pooling = pooling or Pooling()
        self.window = window
        self.mean = torch.tensor(preprocessing.mean, device=self.device).view(3, 1, 1, 1)
        self.std = torch.tensor(preprocessing.std, device=self.device).view(3, 1, 1, 1)

    @torch.inference_mode()
    def __call__(self, clips: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """RGB on 0..255 (N, T, H, W, 3), uint8 or float32 -> features (N, C, ...) and logits (N, classes), float32.

        With a `window`, the logits are those of each place of it in the feature maps, (N, classes, places): the network is
        run fully convolutionally. Raises ModelError if anything is not finite.
        """
        x = torch.from_numpy(clips).to(self.device).permute(0, 4, 1, 2, 3).to(torch.float32)
        with self._exact():
            maps = self.model.forward_features(((x - self.mean) / self.std).contiguous())
            logits = self._logits(maps)
        if not bool(torch.isfinite(maps).all() and torch.isfinite(logits).all()):
            raise ModelError("the network gives numbers that are not finite; its weights are damaged, or no trained network")
        features = self.model.forward_head(maps, pre_logits=True) if self.pooling == Pooling() else self.pooling(maps)
        return features.cpu().numpy(), logits.cpu().numpy()

    def _logits(self, maps: Tensor) -> Tensor:
        if not self.model.spec.classes:
            return maps.new_zeros((len(maps), 0))
        if self.window is None or isinstance(self.model, C3D):
            return self.model.forward_head(maps)
        return self.model.class_map(maps, self.window).flatten(2)

    def _exact(self) -> AbstractContextManager[Any]:
        if self.device.type != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)


def find_device(name: str) -> torch.device:
    """The device of that name. Raises UsageError, naming what there is, if this machine lacks it."""
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"{name!r} is no device; this machine has {', '.join(there)}") from None
    if device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count()):
        return device
    raise UsageError(f"this machine has no {name}; it has {', '.join(there)}")
