"""Which class of a network each label of a list means."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from ig65m.collection.label_list import Example, spelling
from ig65m.errors import UsageError, shown
from ig65m.models.card import Card


def labels_of(card: Card, labels: Sequence[str] | None) -> tuple[str, ...]:
    """The labels of a network: those given, or its own. Raises UsageError if there are none."""
    found = labels or card.labels
    if not found:
        raise UsageError(f"{card.name} has no labels; give a JSON array of its classes' names with --labels")
    return tuple(found)


def match_labels(examples: Iterable[Example], labels: Sequence[str], *, where: str) -> dict[str, int]:
    """Return the class of each label of the examples: the equal one, or the only one that differs in spelling alone.

    Spelling is as in `spelling`. If all labels are numbers, and none is the name of a class, they are the numbers of classes,
    from 0, as in the lists of SlowFast and VMZ. `where` names the list in messages.

    Raises UsageError if a label has no class, or several.
    """
    exact = {label: number for number, label in reversed(list(enumerate(labels)))}
    alike: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        alike.setdefault(spelling(label), []).append(number)
    found: dict[str, int] = {}
    examples = tuple(examples)
    used = {label for example in examples for label in example.labels}
    if all(label.isascii() and label.isdigit() and len(label) < 10 for label in used) and not used & exact.keys():
        if (largest := max(map(int, used), default=0)) >= len(labels):
            raise UsageError(f"{where}: there is no class {largest}; the model has {len(labels)}, numbered from 0")
        return {label: int(label) for label in used}
    for example in examples:
        for label in example.labels:
            if label in found:
                continue
            numbers = [exact[label]] if label in exact else alike.get(spelling(label), [])
            if len(numbers) != 1:
                raise UsageError(
                    _unknown(label, labels, numbers, where if example.line is None else f"{where}, line {example.line}")
                )
            found[label] = numbers[0]
    return found


def respelt(found: Mapping[str, int], labels: Sequence[str]) -> dict[str, str]:
    """The labels of the list that differ from those of the network, and these."""
    return {label: labels[number] for label, number in found.items() if labels[number] != label}


def _unknown(label: str, labels: Sequence[str], numbers: Sequence[int], where: str) -> str:
    if numbers:
        return f"{where}: the label {shown([label])} could be {shown([labels[number] for number in numbers])} of the model"
    near = get_close_matches(label, labels, 1, cutoff=0)
    return f"{where}: the model has no label {shown([label])}; the nearest is {shown(near)}. Correct the list, or use --labels"
