"""Class scores of the examples of a list, read from their folder, as arrays for the metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ig65m import metrics
from ig65m.collection.label_list import Example, LabelList
from ig65m.store.folder import read_journal, result_name
from ig65m.store.journal import Entry
from ig65m.store.verify import read_result
from ig65m.types import ClipSpan


@dataclass(frozen=True)
class Result:
    """Class scores of the clips of one example."""

    example: Example
    targets: tuple[int, ...]  # classes of its labels
    entry: Entry
    spans: tuple[ClipSpan, ...]  # of its clips; none if it failed
    clips: NDArray[np.float32]  # (clips, classes)

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """Mean over the clips, (classes,)."""
        return np.asarray(np.mean(self.clips, axis=0, dtype=np.float64), np.float32)

    @property
    def predicted(self) -> int:
        """Class with the highest score."""
        return int(self.scores.argmax())


@dataclass(frozen=True)
class Table:
    """Scores of many videos or clips, and their true classes."""

    scores: NDArray[np.float32]  # (n, classes)
    targets: NDArray[np.int64]  # (n,); of multi-label examples the first one, without meaning
    positives: NDArray[np.bool_]  # (n, classes)
    multi_label: bool

    def measure(self) -> metrics.Metrics:
        """All metrics that have a meaning."""
        if self.multi_label:
            return metrics.measure_multi_label(self.scores, self.positives)
        return metrics.measure(self.scores, self.targets)

    def class_figures(self) -> NDArray[np.float64]:
        """Accuracy of each class, or its average precision; NaN for a class without examples."""
        if not len(self.scores):
            return np.full(self.scores.shape[1], np.nan)
        if self.multi_label:
            return metrics.average_precisions(self.scores, self.positives)
        return metrics.class_accuracies(self.scores, self.targets)

    def bins(self) -> metrics.CalibrationBins:
        """Bins of the calibration error. Raises UsageError if there are no examples."""
        if self.multi_label:
            return metrics.multi_label_calibration_bins(self.scores, self.positives)
        return metrics.calibration_bins(self.scores, self.targets)


@dataclass(frozen=True)
class Results:
    """The examples of a list with their scores."""

    labels: tuple[str, ...]  # of the network's classes
    multi_label: bool
    all: tuple[Result, ...]  # in the order of the list

    @cached_property
    def scored(self) -> tuple[Result, ...]:
        """Those with scores: all that did not fail."""
        return tuple(result for result in self.all if len(result.clips))

    @cached_property
    def failed(self) -> tuple[Result, ...]:
        """Those without scores."""
        return tuple(result for result in self.all if not len(result.clips))

    @cached_property
    def videos(self) -> Table:
        """A row for each example with scores."""
        return self._table([result.scores[None] for result in self.scored])

    @cached_property
    def clips(self) -> Table:
        """A row for each clip."""
        return self._table([result.clips for result in self.scored])

    def _table(self, rows: Sequence[NDArray[np.float32]]) -> Table:
        classes = len(self.labels)
        positives = np.zeros((len(self.scored), classes), np.bool_)
        for number, result in enumerate(self.scored):
            positives[number, list(result.targets)] = True
        counts = [len(each) for each in rows]
        targets = positives.argmax(axis=1).astype(np.int64)
        scores = np.concatenate([np.zeros((0, classes), np.float32), *rows])
        return Table(scores, np.repeat(targets, counts), np.repeat(positives, counts, axis=0), self.multi_label)


def read_results(folder: Path, examples: LabelList, classes: Mapping[str, int], labels: tuple[str, ...]) -> tuple[Results, int]:
    """Read the scores of the examples from a folder of scores; return also how many examples are not in it yet.

    `classes` are those of the list's labels, `labels` those of the network. Raises UsageError if a file was changed.
    """
    entries = {entry.name: entry for entry in read_journal(folder)}
    found: list[Result] = []
    undone = 0
    for example in examples.examples:
        name = result_name(example.video)
        entry, file = entries.get(name), folder / "features" / f"{name}.parquet"
        if entry is None or (entry.size is not None and (not file.exists() or file.stat().st_size != entry.size)):
            undone += 1
            continue
        targets = tuple(sorted({classes[label] for label in example.labels}))
        spans: tuple[ClipSpan, ...] = ()
        clips = np.zeros((0, len(labels)), np.float32)
        if entry.size is not None:
            features = read_result(folder, entry)
            spans, clips = features.spans, features.array
        found.append(Result(example, targets, entry, spans, clips))
    return Results(labels, examples.multi_label, tuple(found)), undone
