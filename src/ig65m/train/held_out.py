"""Logits of held-out clips, and videos that cannot be read."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from ig65m.engines.pytorch import find_device
from ig65m.errors import VideoError
from ig65m.models.network import Network, network_of
from ig65m.models.weights import Weights
from ig65m.train import processes
from ig65m.train.dataset import ClipDataset

BATCH = 8  # clips


def held_out_logits(weights: Weights, clips: ClipDataset, *, device: str = "cpu", workers: int = 0) -> NDArray[np.float32]:
    """Return logits (clips, classes) of all items of a data set, in order.

    With several processes each computes a part. Raises VideoError if a clip cannot be read.
    """
    place = processes.local_device(find_device(device))
    processes.join(place)
    with exact(place):
        return network_logits(network_of(weights).to(place), clips, place, workers).numpy()


@torch.no_grad()
def network_logits(network: Network, clips: ClipDataset, device: torch.device, workers: int) -> Tensor:
    """Return logits (clips, classes) float32 on the CPU, in eval mode; the same in all processes."""
    network.eval()
    part = range(processes.rank(), len(clips), processes.count())
    logits = torch.zeros(len(clips), network.spec.classes, device=device)
    numbers = iter(part)
    for batch in DataLoader(Subset(clips, part), batch_size=BATCH, num_workers=workers):
        x = batch[0] if isinstance(batch, list) else batch
        for row in network(x.to(device)).float():
            logits[next(numbers)] = row
    return processes.add_up(logits).cpu()


def targets(clips: ClipDataset) -> Tensor:
    """Return the targets of all items of a data set, in order: (clips,) or (clips, classes)."""
    each = torch.stack([clips.target(number) for number in range(len(clips.examples))])
    return each.repeat_interleave(clips.clips, 0)


class _Checks(Dataset[tuple[int, str]]):
    """For each video of a data set: its number, and why it cannot be read, or nothing."""

    def __init__(self, clips: ClipDataset) -> None:
        self.clips = clips

    def __getitem__(self, number: int) -> tuple[int, str]:
        try:
            self.clips.check_video(number)
        except VideoError as error:
            return number, str(error)
        return number, ""


def broken_videos(clips: ClipDataset, *, workers: int = 0) -> dict[int, str]:
    """Read the first and the last clip of each video; return number and error of each that cannot be read, in order."""
    chosen = range(processes.rank(), len(clips.examples), processes.count())
    found = DataLoader(_Checks(clips), batch_size=None, sampler=chosen, num_workers=workers)
    return dict(sorted(processes.gather_lists([(number, error) for number, error in found if error])))


def check_videos(datasets: list[ClipDataset], workers: int) -> None:
    """Raise VideoError, naming all videos that cannot be read."""
    errors = [error for clips in datasets for error in broken_videos(clips, workers=workers).values()]
    if errors:
        more = "" if len(errors) <= 10 else f"; and {len(errors) - 10} more"
        total = sum(len(clips.examples) for clips in datasets)
        raise VideoError(
            f"{len(errors)} of {total} videos cannot be read; take them out of the list: {'; '.join(errors[:10])}{more}"
        )


def exact(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which float32 is true float32: cuDNN would use TF32."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if device.type == "cuda" else nullcontext()
