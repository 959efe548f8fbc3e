"""Which clips make which batch: an endless sequence of draws that depends on a seed only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from ig65m.errors import UsageError
from ig65m.train.dataset import ClipDataset, Item

Order = NDArray[np.int64]


def shuffled(count: int, seed: int, turn: int) -> Order:
    """Return the items 0 .. count-1 in random order; another one in each turn."""
    return np.random.default_rng([seed, turn]).permutation(count)


def balanced(classes: Sequence[int], seed: int, turn: int) -> Order:
    """Return as many items as there are, in random order, each class equally often, give or take one.

    classes: the class of each item. The items of a class come equally often, too, give or take one.
    """
    rng = np.random.default_rng([seed, turn])
    kinds = np.asarray(classes)
    present = rng.permutation(np.unique(kinds))
    shares = np.full(len(present), len(kinds) // len(present))
    shares[: len(kinds) % len(present)] += 1
    chosen = []
    for kind, share in zip(present, shares, strict=True):
        members = rng.permutation(np.flatnonzero(kinds == kind))
        chosen.append(np.resize(members, share))
    return rng.permutation(np.concatenate(chosen))


class Draws(Dataset[Item]):
    """An endless sequence of draws from a data set: all of its items, then all of them again in another order, and so on.

    The clip and the augmentation of draw n depend on the seed and n only, not on how many processes read the clips.
    """

    def __init__(self, clips: ClipDataset, seed: int, *, balance: bool) -> None:
        """Raises UsageError if classes are to be balanced and videos have several labels."""
        if balance and clips.multi_label:
            raise UsageError("classes cannot be balanced where a video may have several labels; leave the balance out")
        self.dataset, self.seed = clips, seed
        self.classes: list[int] | None = None
        if balance:
            self.classes = [int(clips.target(number)) for number in range(len(clips.examples)) for _ in range(clips.clips)]
        self._turn: tuple[int, Order] | None = None  # the last one that was used

    def __getitem__(self, draw: int) -> Item:
        turn, place = divmod(draw, len(self.dataset))
        if self._turn is None or self._turn[0] != turn:
            self._turn = turn, self.order(turn)
        rng = np.random.default_rng([self.seed, turn, place, 1]) if self.dataset.augment else None
        return self.dataset.item(int(self._turn[1][place]), rng)

    def order(self, turn: int) -> Order:
        """Return the items of a turn in their order."""
        if self.classes is None:
            return shuffled(len(self.dataset), self.seed, turn)
        return balanced(self.classes, self.seed, turn)


def batches(draws: Draws, steps: range, batch_size: int, *, part: int, parts: int, workers: int, pin: bool) -> DataLoader[Any]:
    """Return the batches of steps, of which this is process `part` of `parts`; `workers` processes read them in advance."""
    chosen: Any = [range(step * batch_size + part, (step + 1) * batch_size, parts) for step in steps]
    return DataLoader(draws, batch_sampler=chosen, num_workers=workers, pin_memory=pin)
