"""PyTorch engine, on the CPU or a CUDA device."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ig65m.engines.base import Arrays, Pooling, Precision, Work, check_work, finished, padded
from ig65m.engines.inference import Form, inference_form, plain_form
from ig65m.errors import UsageError
from ig65m.models.c3d import C3D
from ig65m.models.layer_names import find_layer, layer_widths
from ig65m.models.plan import plan_of
from ig65m.models.spec import ResNetSpec, Spec
from ig65m.models.weights import Weights

_TYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class PyTorchEngine:
    """Runs a network in PyTorch. fp32 is true float32: TF32 is off."""

    def __init__(
        self, weights: Weights, work: Work, *, precision: Precision = "fp32", device: str = "cpu", threads: int | None = None
    ) -> None:
        check_work(weights.spec, work)
        self.name = f"pytorch {torch.__version__}"
        self.precision = precision
        self.work = work
        self.place = find_device(device)
        self.device = str(self.place)
        if threads is not None:
            torch.set_num_threads(threads)
        self.dtype = _TYPES[precision]
        spec = weights.spec
        layer = None if work.layer is None else find_layer(spec, work.layer)
        in_form = _layers_in_form(spec)
        if layer is None or layer in in_form:
            self.model = inference_form(weights, self.place, self.dtype, form_on(self.place, self.dtype, spec))
        else:
            self.model = plain_form(weights, self.place, self.dtype)
        self.layer = None if layer is None else in_form.get(layer, layer)
        self.width = spec.feature_width if layer is None else layer_widths(spec)[layer]
        self.mean, self.std = (
            torch.tensor(values, device=self.place).view(3, 1, 1, 1)
            for values in (work.preprocessing.mean, work.preprocessing.std)
        )

    @torch.inference_mode()
    def __call__(self, clips: NDArray[Any]) -> Arrays:
        """Compute a batch: see `Engine`."""
        pixels = torch.from_numpy(padded(clips, self.work.batch_size))
        if self.place.type == "cuda":
            pixels = pixels.pin_memory().to(self.place, non_blocking=True)
        x = (pixels.permute(0, 4, 1, 2, 3).to(torch.float32) - self.mean) / self.std  # channels last in memory, as pixels are
        with exact(self.place):
            if self.layer is not None:
                features, logits = self._of_layer(x.to(self.dtype), self.layer)
            else:
                maps = self.model.forward_features(x.to(self.dtype)).float()
                logits = self._logits(maps)
                plain = self.work.pooling == Pooling()
                features = self.model.forward_head(maps, pre_logits=True) if plain else pool(maps, self.work.pooling)
        return finished(features.cpu().numpy(), logits.cpu().numpy(), len(clips))

    def _of_layer(self, x: Tensor, layer: str) -> tuple[Tensor, Tensor]:
        """Return the pooled output of a layer, and logits if they are asked for."""
        if self.work.logits:
            with self.model.kept(layer) as outputs:
                logits = self._logits(self.model.forward_features(x).float())
        else:
            outputs, logits = [self.model.forward_layer(x, layer)], x.new_zeros((len(x), 0), dtype=torch.float32)
        return pool(outputs[0][:, : self.width].float(), self.work.pooling), logits

    def _logits(self, maps: Tensor) -> Tensor:
        if not self.model.spec.classes:
            return maps.new_zeros((len(maps), 0))
        if self.work.window is None or isinstance(self.model, C3D):
            return self.model.forward_head(maps)
        return self.model.class_map(maps, self.work.window)


def form_on(device: torch.device, dtype: torch.dtype, spec: Spec) -> Form:
    """Return the form in which a network runs on a device.

    On a CPU, fused convolutions make bottlenecks faster, whose 1x1x1 convolutions wait for memory; others stay as fast.
    """
    if device.type == "cuda":
        return Form(input_multiple=8, channel_multiple=16)
    slow = isinstance(spec, ResNetSpec) and spec.bottleneck and dtype == torch.float32
    return Form(fused=slow and torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _layers_in_form(spec: Spec) -> dict[str, str]:
    """Return the layers that the form for inference has too, with their paths there; others are fused with their neighbours."""
    plan = plan_of(spec)
    if not plan.stages:
        return {}
    return {plan.stem[-1].path: "stem"} | {block.path: block.path for stage in plan.stages for block in stage}


def exact(device: torch.device) -> AbstractContextManager[Any]:
    """Turn TF32 off for the block, so that float32 is true float32 on a GPU."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)


def pool(maps: Tensor, pooling: Pooling) -> Tensor:
    """(N, C, T', H', W') -> (N, C), followed by the axes that are not pooled."""
    if pooling.spatial != "none":
        maps = maps.mean(dim=(3, 4)) if pooling.spatial == "mean" else maps.amax(dim=(3, 4))
    if pooling.temporal != "none":
        maps = maps.mean(dim=2) if pooling.temporal == "mean" else maps.amax(dim=2)
    return maps


def find_device(name: str) -> torch.device:
    """Return the device of that name. Raises UsageError, naming the available ones, if this machine lacks it."""
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device {name!r}; this machine has {', '.join(there)}") from None
    if device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count()):
        return device
    raise UsageError(f"this machine has no {name}; it has {', '.join(there)}")
