"""The report of `ig65m learn` on a terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ig65m.cli.terminal import printable, say
from ig65m.errors import shown

if TYPE_CHECKING:
    from ig65m.learn.report import HeldOut, Report

MOST_CLASSES = 12  # in a confusion table that is printed; of more classes, the most frequent mistakes are
MOST_NAMES = 10  # videos that are listed
METRICS = {
    "top1": "top-1",
    "map": "mAP",
    "top5": "top-5",
    "mean_class_accuracy": "mean class accuracy",
    "ece": "calibration error",
}


def say_unused(names: tuple[str, ...], what: str) -> None:
    """Print names of videos that were not used, and why, on stderr."""
    if names:
        more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
        say(f"ig65m: {len(names):,} {what}: {', '.join(map(printable, names[:MOST_NAMES]))}{more}")


def print_report(report: "Report") -> None:
    """Print what was learned from, and how good the result is on held-out videos."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    held_out = report.held_out
    matrix = None if held_out is None else held_out.confusion
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class")
    for name in ("videos", "clips") if matrix is None else ("videos", "clips", "held out", "correct"):
        table.add_column(name, justify="right")
    for place, each in enumerate(report.counts):
        row = [f"{each.videos:,}", f"{each.clips:,}"]
        if matrix is not None:
            count, correct = int(matrix[place].sum()), int(matrix[place, place])
            row += [f"{count:,}", f"{correct / count:.0%}" if count else ""]
        table.add_row(Text(printable(each.label)), *row)
    console.print(table)
    if held_out is None:
        return
    for line in _figures(held_out):
        console.print(line, markup=False)
    if matrix is not None and len(report.counts) <= MOST_CLASSES:
        console.print(_confusion([each.label for each in report.counts], matrix))
    elif matrix is not None:
        from ig65m.metrics import confused_pairs

        for true, predicted, count in confused_pairs(matrix, MOST_CLASSES):
            labels = [report.counts[true].label, report.counts[predicted].label]
            console.print(f"{count:,} of {shown(labels[:1])} were taken for {shown(labels[1:])}", markup=False)


def _figures(held_out: "HeldOut") -> Iterator[str]:
    for what, metrics in (("videos", held_out.videos), ("clips", held_out.clips)):
        figures = [f"{name} {value:.1%}" for key, name in METRICS.items() if (value := getattr(metrics, key)) is not None]
        if what == "videos" and held_out.interval is not None:
            low, high = held_out.interval
            figures[0] += f" (95 % confidence: {low:.1%} to {high:.1%})"
        yield f"held-out {what}: {', '.join(figures)}"
    yield f"{held_out.examples:,} videos or parts of videos, held out by {held_out.how}"


def _confusion(labels: list[str], matrix: Any) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title="true class in rows, predicted class in columns", title_justify="left"
    )
    table.add_column("")
    for place, _ in enumerate(labels, 1):
        table.add_column(str(place), justify="right")
    for place, (label, row) in enumerate(zip(labels, matrix, strict=True)):
        cells = [Text(f"{count:,}" if count else ".", "bold" if own == place else "") for own, count in enumerate(row)]
        table.add_row(Text(f"{place + 1} {printable(label)}"), *cells)
    return table
