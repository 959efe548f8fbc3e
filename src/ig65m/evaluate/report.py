"""report.html: an evaluation as one page without scripts, which loads nothing."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np

from ig65m.atomic import finished_file
from ig65m.display.html import text
from ig65m.evaluate.charts import WITH_NAMES, confusion_chart, reliability_diagram
from ig65m.evaluate.mistakes import Mistake
from ig65m.evaluate.results import Results
from ig65m.metrics import confused_pairs

NAMES: Final = {
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "mean_class_accuracy": "Mean class accuracy",
    "map": "Mean average precision",
    "ece": "Expected calibration error",
}
MOST_NAMED: Final = 20  # failed or missing videos
MOST_CONFUSED: Final = 20  # pairs of classes
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(path: Path, results: Results, record: Mapping[str, Any], mistakes: Sequence[Mistake]) -> None:
    """Write the page; `record` is that of metrics.json."""
    css = resources.files("ig65m.evaluate").joinpath("report.css").read_text("utf-8")
    model, source = text(record["model"]["name"]), text(Path(record["list"]["path"]).name)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{model} on {source}</title>',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}</style></head><body><main>',
        f"<h1>{model} on {source}</h1>",
        f'<p class="soft">{counts(record)}</p>',
        _figures(record),
        _columns(results, record),
        _confusion(results, record),
        _mistakes(results, mistakes),
        _not_evaluated(record),
        _details(record),
        "</main></body></html>",
    ]
    with finished_file(path) as temporary:
        temporary.write_text("\n".join(part for part in parts if part) + "\n", "utf-8")


def counts(record: Mapping[str, Any]) -> str:
    """How many videos and clips there are, and what is wrong with others."""
    words = [f"{record['videos']:,} videos, {record['clips']['count']:,} clips"]
    words += [f"{record[kind]:,} {kind}" for kind in ("partial", "failed", "missing") if record[kind]]
    return ", ".join(words)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage; a dash if there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"  # noqa: RUF001


def _figures(record: Mapping[str, Any]) -> str:
    cards = []
    published = record["published"] or {}
    for key, name in NAMES.items():
        if record[key] is None:
            continue
        beside = f"<span>clips {percent(record['clips'][key])}</span>"
        if published.get(key) is not None:
            sound = ", with sound" if published["with_sound"] else ""
            beside += f"<span>published {percent(published[key])} on {text(published['data_set'])}{sound}</span>"
        if published.get(f"clip_{key}") is not None:
            beside += f"<span>published for clips {percent(published[f'clip_{key}'])}</span>"
        cards.append(f'<div class="figure"><span class="name">{name}</span><b>{percent(record[key])}</b>{beside}</div>')
    return f'<div class="figures">{"".join(cards)}</div>'


def _columns(results: Results, record: Mapping[str, Any]) -> str:
    if not results.scored:
        return ""
    key = "average_precision" if results.multi_label else "accuracy"
    there = sorted((row for row in record["classes"] if row["videos"]), key=lambda row: row[key])
    rows = [
        f'<tr><td>{text(row["label"])}</td><td class="number">{row["videos"]:,}</td><td class="number">{percent(row[key])}</td>'
        f'<td class="share"><i style="width:{100 * row[key]:.1f}%"></i></td></tr>'
        for row in there
    ]
    head = f'<tr><th>class</th><th class="number">videos</th><th class="number">{key.replace("_", " ")}</th><th></th></tr>'
    count, note = len(record["classes"]), ""
    if absent := count - len(there):
        note = f'<p class="soft">{absent:,} of the {count:,} classes of the model have no video in the list.</p>'
    which = "Each score of each class" if results.multi_label else "The highest score of each video"
    reliability = (
        f'<section><h2>Calibration</h2><p class="soft">{which}, in bins: how many of them are correct. The orange part is the '
        f"error.</p>{reliability_diagram(results.videos.bins())}</section>"
    )
    scroll = f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'
    table = f"<section><h2>Classes, the worst first</h2>{scroll}{note}</section>"
    return f'<div class="columns">{reliability}{table}</div>'


def _confusion(results: Results, record: Mapping[str, Any]) -> str:
    if "confusion" not in record:
        return ""
    matrix, labels = record["confusion"], results.labels
    pairs = [
        f'<tr><td>{text(labels[true])}</td><td>{text(labels[guess])}</td><td class="number">{count:,}</td>'
        f'<td class="number">{percent(count / sum(matrix[true]), 0)}</td></tr>'
        for true, guess, count in confused_pairs(np.array(matrix), MOST_CONFUSED)
    ]
    head = '<tr><th>true</th><th>predicted</th><th class="number">videos</th><th class="number">of the class</th></tr>'
    table = f'<div class="scroll"><table>{head}{"".join(pairs)}</table></div>' if pairs else "<p>No video is confused.</p>"
    order = "" if len(labels) <= WITH_NAMES else " Classes are in the order of the model."
    return (
        f'<section><h2>Confusion matrix</h2><p class="soft">A row for each true class, a column for each predicted one; the '
        f"stronger, the larger the share of the row. Blue is correct.{order}</p>{confusion_chart(matrix, labels)}</section>"
        f"<section><h2>Most confused</h2>{table}</section>"
    )


def _mistakes(results: Results, mistakes: Sequence[Mistake]) -> str:
    if not mistakes:
        return ""
    figures = []
    for mistake in mistakes:
        result, labels = mistake.result, results.labels
        video, span = result.example.video, mistake.span
        name = text(Path(video.path).name)
        score = percent(float(result.scores[result.predicted])).replace(" ", "&nbsp;")
        picture = (
            '<div class="absent">no picture can be read</div>'
            if mistake.picture is None
            else f'<img src="{mistake.picture}" alt="{name}">'
        )
        true = ", ".join(text(labels[number]) for number in result.targets) or "no label"
        figures.append(
            f'<figure>{picture}<figcaption><b class="wrong">{text(labels[result.predicted])}</b> '
            f"{score}<br>true: <b>{true}</b><br>"
            f"{name}, {span.start:.2f} to {span.end:.2f} s</figcaption></figure>"
        )
    return f'<section><h2>Surest mistakes</h2><div class="mistakes">{"".join(figures)}</div></section>'


def _not_evaluated(record: Mapping[str, Any]) -> str:
    parts = []
    failed = [row["error"] or row["path"] for row in record["failed_videos"]]
    for kind, lines in (("failed", failed), ("missing", record["missing_videos"])):
        if lines:
            rows = "".join(f"<tr><td>{text(line, 400)}</td></tr>" for line in lines[:MOST_NAMED])
            parts.append(f"<h2>{len(lines):,} {kind}</h2><table>{rows}</table>")
        if len(lines) > MOST_NAMED:
            parts.append(f'<p class="soft">and {len(lines) - MOST_NAMED:,} more, see metrics.json</p>')
    return f"<section>{''.join(parts)}</section>" if parts else ""


def _details(record: Mapping[str, Any]) -> str:
    settings, sampling, source = record["settings"], record["settings"]["sampling"], record["list"]
    preprocessing = settings["preprocessing"]
    clips = "all, one after the other" if settings["clips"] is None else f"{settings['clips']}, spread evenly"
    height, width = preprocessing["crop"]
    rows = {
        "model": f"{record['model']['name']}, sha256 {record['model']['sha256']}",
        "list": f"{source['path']} ({source['format']}), sha256 {source['sha256']}",
        "split": source["split"] or "all",
        "protocol": "VMZ's, of the published accuracies" if record["protocol"] == "vmz" else "as the options say",
        "clips": f"{clips}; {sampling['frames']} frames, {sampling['frame_step']} apart",
        "crops": f"{preprocessing['crops']} of {width}x{height}, {preprocessing['resampling']}",
        "fully convolutional": "no" if settings["window"] is None else "yes",
        "precision": settings["precision"],
    }
    items = "".join(f"<dt>{key}</dt><dd>{text(value, 400)}</dd>" for key, value in rows.items())
    return f"<section><h2>How it was evaluated</h2><dl>{items}</dl></section>"
