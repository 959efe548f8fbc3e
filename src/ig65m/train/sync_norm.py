"""Batch norm over the clips of all processes, on a CPU and on a GPU; PyTorch's SyncBatchNorm refuses a CPU."""

from typing import Any

import torch
from torch import Tensor, nn

from ig65m.train.processes import add_up, count


class _Normalise(torch.autograd.Function):
    """(x - mean) / deviation, scaled and shifted, with mean and deviation of the batches of all processes together."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = _precise(x)
        total = add_up(torch.cat([wide.sum(_OTHERS), wide.new_tensor([wide.numel() / wide.shape[1]])]))
        number = total[-1]
        mean = total[:-1] / number
        variance = add_up((wide - _wide(mean)).square().sum(_OTHERS)) / number
        inverse = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, weight, mean, inverse, number)
        ctx.mark_non_differentiable(mean, variance, number)
        y = (wide - _wide(mean)) * _wide(inverse * weight) + _wide(bias)
        return y.to(x.dtype), mean, variance, number

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse, number = ctx.saved_tensors
        upstream = _precise(gradients[0])
        normalised = (_precise(x) - _wide(mean)) * _wide(inverse)
        to_bias, to_weight = upstream.sum(_OTHERS), (upstream * normalised).sum(_OTHERS)
        sums = add_up(torch.stack([to_bias, to_weight])) / number
        to_x = (upstream - _wide(sums[0]) - normalised * _wide(sums[1])) * _wide(inverse * weight)
        return to_x.to(x.dtype), to_weight, to_bias, None


_OTHERS = (0, 2, 3, 4)  # axes of clips (N, C, T, H, W) besides the channels


def _precise(values: Tensor) -> Tensor:
    """Return bfloat16 and float16 in float32, other values as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _wide(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1, 1)


class SyncBatchNorm3d(nn.BatchNorm3d):
    """Batch norm whose statistics in training are those of the whole batch, of which each process has a part.

    Gradients are those of the sum of the losses of all processes. In eval mode, and in a single process, it is
    `nn.BatchNorm3d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> the same shape."""
        if not self.training or count() == 1:
            return super().forward(x)
        y: Tensor
        y, mean, variance, number = _Normalise.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr, arg-type]
            self.running_var.lerp_(variance * number / (number - 1), self.momentum)  # type: ignore[union-attr, arg-type]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return y


def synchronise_norms(network: nn.Module) -> None:
    """Make the batch norms of a network use the statistics of the whole batch; weights and buffers stay shared."""
    for path, module in list(network.named_modules()):
        if type(module) is nn.BatchNorm3d:
            norm = SyncBatchNorm3d(module.num_features, module.eps, module.momentum, device="meta")
            norm.load_state_dict(module.state_dict(keep_vars=True), assign=True)
            norm.train(module.training)
            network.set_submodule(path, norm)
