"""A folder of an evaluation.

evaluation.json      which list is evaluated; written first
scores/              class scores of the clips of each video, a folder as of `ig65m extract`
predictions.parquet  a row for each example
report.html          a page to look at
metrics.json         all figures; written last
"""

import json
import os
from pathlib import Path
from typing import Any, Final

from ig65m.atomic import check_place, finished_file
from ig65m.errors import UsageError, plain
from ig65m.evaluate.mistakes import surest_mistakes
from ig65m.evaluate.predictions import write_predictions
from ig65m.evaluate.report import write_report
from ig65m.evaluate.results import Results
from ig65m.evaluate.summary import Context, Record, summarise, write_metrics
from ig65m.types import Limits

SCORES: Final = "scores"
_MARK: Final = "evaluation.json"


def open_folder(folder: Path, *, source: str, split: str | None) -> Path:
    """Create or continue the folder of an evaluation, and return its folder of scores.

    Raises UsageError if it is the folder of another list or of something else.
    """
    check_place(folder / _MARK)
    mark = folder / _MARK
    wanted = {"format": 1, "list": os.path.abspath(source), "split": split}  # noqa: PTH100 - keeps links
    if not mark.exists():
        if folder.exists() and any(not name.name.startswith(".") for name in folder.iterdir()):
            raise UsageError(f"{folder} is not empty, and not the folder of an evaluation; choose another place")
        with finished_file(mark) as temporary:
            temporary.write_text(json.dumps(wanted) + "\n", "utf-8")
        return folder / SCORES
    try:
        there: Any = json.loads(mark.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{mark} is damaged ({plain(error)}); choose another folder") from None
    if there != wanted:
        other = there if isinstance(there, dict) else {}
        raise UsageError(
            f"{folder} holds an evaluation of {plain(other.get('list'))} (split: {plain(other.get('split') or 'all')}), not of "
            f"{source} (split: {split or 'all'}); choose another folder"
        )
    return folder / SCORES


def write_results(
    folder: Path, results: Results, context: Context, *, image_fps: float, limits: Limits, in_process: bool
) -> Record:
    """Write predictions, report and metrics, each complete or not at all; return the record of metrics.json."""
    record = summarise(results, context)
    mistakes = surest_mistakes(results, image_fps=image_fps, limits=limits, in_process=in_process)
    write_predictions(folder / "predictions.parquet", results)
    write_report(folder / "report.html", results, record, mistakes)
    write_metrics(folder / "metrics.json", record)
    return record
