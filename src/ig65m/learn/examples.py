"""Labels and groups of examples as arrays, and their distribution over folds."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.collection.label_list import Example

FOLDS: Final = 5


def positives_of(examples: Sequence[Example], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each example has each label, (examples, classes)."""
    numbers = {label: number for number, label in enumerate(classes)}
    positives = np.zeros((len(examples), len(classes)), np.bool_)
    for row, example in zip(positives, examples, strict=True):
        row[[numbers[label] for label in example.labels]] = True
    return positives


def groups_of(examples: Sequence[Example]) -> NDArray[np.int64]:
    """Number of the group of each example, (examples,)."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(each.group for each in examples))}
    return np.array([numbers[each.group] for each in examples], np.int64)


def deal(positives: NDArray[np.bool_], groups: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """Fold of each example, (examples,): the groups of a class are dealt to the folds in turn, in a random order."""
    rng = np.random.default_rng(seed)
    first = {int(group): place for place, group in reversed(list(enumerate(groups)))}
    ordered = sorted(first, key=lambda group: (int(positives[first[group]].argmax()), rng.random()))
    fold = {group: place % FOLDS for place, group in enumerate(ordered)}
    return np.array([fold[int(group)] for group in groups], np.int64)
