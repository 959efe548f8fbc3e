"""metrics.json: all figures of an evaluation."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

from ig65m import metrics
from ig65m.atomic import finished_file
from ig65m.collection.label_list import LabelList
from ig65m.collection.video_lookup import absolute
from ig65m.evaluate.results import Results

Record = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """What was evaluated on what."""

    source: str  # path of the list
    split: str | None
    examples: LabelList
    settings: Mapping[str, Any]  # of the folder of scores
    vmz: bool  # whether the protocol is VMZ's
    published: Mapping[str, Any] | None  # accuracies of this network by this protocol


def summarise(results: Results, context: Context) -> Record:
    """Return the record of an evaluation; all figures are on 0..1."""
    videos, clips = results.videos, results.clips
    figure = "average_precision" if results.multi_label else "accuracy"
    figures = (None if isnan(share) else float(share) for share in videos.class_figures())
    counts = videos.positives.sum(axis=0)
    record = {
        "model": {key: context.settings[key] for key in ("name", "sha256")},
        "list": {
            "path": absolute(context.source),
            "format": context.examples.format,
            "split": context.split,
            "sha256": context.examples.sha256,
            "multi_label": results.multi_label,
        },
        "protocol": "vmz" if context.vmz else None,
        "settings": {key: value for key, value in context.settings.items() if key not in ("format", "name", "sha256")},
        "undone": 0,
        "videos": len(results.scored),
        "partial": sum(result.entry.status == "partial" for result in results.scored),
        "failed": len(results.failed),
        "missing": len(context.examples.missing),
        "failed_videos": [_failure(result.example.video, result.entry.error) for result in results.failed],
        "missing_videos": list(context.examples.missing),
        **asdict(videos.measure()),
        "clips": {"count": len(clips.scores), **asdict(clips.measure())},
        "published": None if context.published is None else dict(context.published),
        "classes": [
            {"label": label, "videos": int(count), figure: share}
            for label, count, share in zip(results.labels, counts, figures, strict=True)
        ],
    }
    if not results.multi_label and len(videos.scores):
        record["confusion"] = metrics.confusion_matrix(videos.scores, videos.targets).tolist()
    return record


def _failure(video: Any, error: Any) -> Record:
    return {"path": video.path, "start": video.start, "end": video.end, "error": None if error is None else error.message}


def write_metrics(path: Path, record: Mapping[str, Any]) -> None:
    """Write the record as JSON, a line for each key."""
    lines = [f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in record.items()]
    with finished_file(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
