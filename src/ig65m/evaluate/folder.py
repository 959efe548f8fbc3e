"""A folder of an evaluation.

evaluation.json      which list is evaluated; written first
scores/              class scores of the clips of each video, a folder as of `ig65m extract`
predictions.parquet  a row for each example
report.html          a page to look at
metrics.json         all figures; written last
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ig65m.atomic import check_place, finished_file
from ig65m.collection.video_lookup import absolute
from ig65m.errors import UsageError, plain
from ig65m.evaluate.mistakes import surest_mistakes
from ig65m.evaluate.predictions import write_predictions
from ig65m.evaluate.report import write_report
from ig65m.evaluate.results import Results
from ig65m.evaluate.summary import Context, Record, summarise, write_metrics
from ig65m.types import Limits

EVALUATION: Final = "evaluation.json"
SCORES: Final = "scores"
METRICS: Final = "metrics.json"


def check_folder(folder: Path, *, source: str, split: str | None) -> None:
    """Raise UsageError unless the folder is new, or that of an evaluation of this list; nothing is created."""
    file = folder / EVALUATION
    check_place(file)
    if not file.exists():
        if folder.exists() and any(not each.name.startswith(".") for each in folder.iterdir()):
            raise UsageError(f"{folder} is not empty, and not the folder of an evaluation; choose another place")
        return
    try:
        there: Any = json.loads(file.read_text("utf-8"))
        path, its_split = there["path"], there["split"]
    except (ValueError, LookupError, TypeError):
        raise UsageError(f"{file} is damaged, or not of an evaluation; choose another folder") from None
    if (path, its_split) != (absolute(source), split):
        raise UsageError(
            f"{folder} holds an evaluation of {plain(path)} (split: {plain(its_split or 'all')}), not of {source} "
            f"(split: {split or 'all'}); choose another folder"
        )


@contextmanager
def scores_in(folder: Path, *, source: str, split: str | None) -> Iterator[Path]:
    """Create the folder, unless it is there, and yield its folder of scores; if the block creates none, all is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / EVALUATION
    if not file.exists():
        with finished_file(file) as temporary:
            temporary.write_text(json.dumps({"path": absolute(source), "split": split}) + "\n", "utf-8")
    try:
        yield folder / SCORES
    finally:
        if not (folder / SCORES).exists():
            file.unlink()
            with suppress(OSError):  # it was there, with hidden files
                folder.rmdir()


def write_results(
    folder: Path, results: Results, context: Context, *, image_fps: float, limits: Limits, in_process: bool
) -> Record:
    """Write predictions, report and metrics, each complete or not at all; return the record of metrics.json."""
    record = summarise(results, context)
    mistakes = surest_mistakes(results, image_fps=image_fps, limits=limits, in_process=in_process)
    write_predictions(folder / "predictions.parquet", results)
    write_report(folder / "report.html", results, record, mistakes)
    write_metrics(folder / METRICS, record)
    return record
