"""Labels and groups of examples as arrays, and their distribution over folds."""

from collections.abc import Mapping, Sequence
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


def groups_of(examples: Sequence[Example], contents: Mapping[str, Sequence[str]] | None = None) -> NDArray[np.int64]:
    """Number of the group of each example, (examples,).

    `contents` has digests of the videos by their paths: groups with copies of one video become one.
    """
    joined: dict[str, str] = {}  # a group, or a digest -> one that it belongs to

    def first(name: str) -> str:
        while name in joined:
            name = joined[name]
        return name

    for example in examples:
        for digest in (contents or {}).get(example.video.path, ()):
            one, other = first(f"group {example.group}"), first(f"video {digest}")
            if one != other:
                joined[other] = one
    roots = [first(f"group {example.group}") for example in examples]
    numbers = {root: number for number, root in enumerate(dict.fromkeys(roots))}
    return np.array([numbers[root] for root in roots], np.int64)


def deal(positives: NDArray[np.bool_], groups: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """Fold of each example, (examples,): the groups of a class are dealt to the folds in turn, in a random order."""
    rng = np.random.default_rng(seed)
    first = {int(group): place for place, group in reversed(list(enumerate(groups)))}
    ordered = sorted(first, key=lambda group: (int(positives[first[group]].argmax()), rng.random()))
    fold = {group: place % FOLDS for place, group in enumerate(ordered)}
    return np.array([fold[int(group)] for group in groups], np.int64)
