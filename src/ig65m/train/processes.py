"""Training in several processes, started by torchrun: each computes a part of every batch."""

import atexit
import os
from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


def count() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0, also before `join`; process 0 writes the files."""
    return dist.get_rank() if count() > 1 else int(os.environ.get("RANK", "0"))


def join(device: torch.device) -> None:
    """Join the processes that torchrun started, if it did, until this process ends: by NCCL on a GPU, by Gloo on a CPU.

    A process group that exists is used.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and count() == 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)


def local_device(device: torch.device) -> torch.device:
    """Return the device of this process: the GPUs of a machine are distributed over its processes by torchrun's LOCAL_RANK."""
    if str(device) == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def add_up(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, computed in place; it is not differentiable."""
    if count() > 1:
        dist.all_reduce(values)
    return values


def add_up_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace all gradients by their sums over all processes."""
    if count() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = add_up(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    for gradient, values in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(values.view(gradient.shape))


def gather_lists(items: list[T]) -> list[T]:
    """Return the items of all processes, in order of the processes."""
    if count() == 1:
        return items
    everyone: list[list[T]] = [[] for _ in range(count())]
    dist.all_gather_object(everyone, items)
    return [item for each in everyone for item in each]
