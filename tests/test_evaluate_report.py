"""Protocols, labels and the report of an evaluation, without any video."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from ig65m.cli.evaluate import _print_table
from ig65m.collection.label_list import Example, LabelList
from ig65m.errors import UsageError
from ig65m.evaluate.charts import reliability_diagram
from ig65m.evaluate.folder import check_folder, scores_in, write_results
from ig65m.evaluate.matching import labels_of, match_labels, respelt
from ig65m.evaluate.protocol import Protocol, check_starts, published, vmz_protocol
from ig65m.evaluate.results import Result, Results
from ig65m.evaluate.summary import Context
from ig65m.metrics import calibration_bins, confused_pairs
from ig65m.store.journal import Entry
from ig65m.types import ClipSpan, Failure, Limits, Segment
from ig65m.zoo.cards import CARDS

HOSTILE = "<script>alert(1)</script>"
LABELS = (HOSTILE, 'a"b', "R&D", "d", "e", "f")


def example(label, path="a.mp4", line=None):
    return Example(Segment(path), (label,), "g", None, line)


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("r2plus1d_34_32_kinetics", Protocol(10, 1, full=True)),
        ("r2plus1d_152_32_ig65m_kinetics", Protocol(10, 1, full=True)),
        ("ir_csn_152_32_ig65m_kinetics", Protocol(10, 3, full=True)),
        ("ip_csn_152_32_kinetics", Protocol(10, 3, full=True)),
        ("c3d_16_sports1m_kinetics", Protocol(10, 1, full=False)),
        ("r2plus1d_18_8_kinetics", Protocol(10, 1, full=False)),
        ("c3d_16_kinetics_2018", Protocol(10, 1, full=False)),
        ("r2plus1d_34_32_sports1m_kinetics", Protocol(None, 1, full=False)),
        ("r2plus1d_10_camera_motion", Protocol(10, 1, full=True)),
    ],
)
def test_vmzs_protocol_is_that_of_the_published_accuracy(name, protocol):
    assert vmz_protocol(CARDS[name]) == protocol


def test_published_accuracies_are_those_of_the_card():
    found = published(CARDS["r2plus1d_34_32_kinetics"])
    assert (found["top1"], found["top5"], found["clip_top1"], found["data_set"]) == (0.8, 0.942, None, "Kinetics-400")
    assert published(CARDS["r2plus1d_18_8_kinetics"])["clip_top1"] == 0.532
    assert published(CARDS["ip_csn_152_32_kinetics_av"])["with_sound"] is True
    assert published(CARDS["r2plus1d_10_camera_motion"]) is None


def test_a_list_of_clip_starts_cannot_be_spread():
    listed = [Example(Segment("a.mp4", starts=(3,)), ("d",), "g")]
    check_starts(listed, Protocol(), where="list.csv")
    with pytest.raises(UsageError, match=r"list\.csv says at which frames clips start"):
        check_starts(listed, Protocol(clips=10), where="list.csv")


def test_labels_match_exactly_or_but_for_their_spelling():
    names = ("Pan Left", "pan-left ", "tilt_up", "zoom in")
    found = match_labels([example("pan-left "), example("Tilt Up"), example("zoom in")], names, where="l")
    assert found == {"pan-left ": 1, "Tilt Up": 2, "zoom in": 3}
    assert respelt(found, names) == {"Tilt Up": "tilt_up"}


def test_labels_that_differ_in_signs_and_marks_match_their_own_class():
    names = ("C", "C++", "पानी", "पीना", "-1", "1", "cafe\u0301")
    found = match_labels([example("c++"), example("पीना"), example("-1"), example("caf\xe9")], names, where="l")
    assert found == {"c++": 1, "पीना": 3, "-1": 4, "caf\xe9": 6}
    with pytest.raises(UsageError, match="has no label '1-1'"):
        match_labels([example("1-1"), example("c")], names, where="l")


def test_numbers_are_the_numbers_of_classes():
    names = ("pan", "tilt", "zoom")
    found = match_labels([example("2"), example("0")], names, where="l")
    assert found == {"2": 2, "0": 0}
    assert respelt(found, names) == {"2": "zoom", "0": "pan"}
    assert match_labels([example("1"), example("0")], ("1", "0"), where="l") == {"1": 0, "0": 1}
    with pytest.raises(UsageError, match="there is no class 3; the model has 3, numbered from 0"):
        match_labels([example("3"), example("0")], names, where="l.csv")


@pytest.mark.parametrize(
    ("label", "line", "message"),
    [
        ("pan_left", 7, "l.csv, line 7: the label 'pan_left' could be 'Pan Left', 'pan left' of the model"),
        ("tilt", None, "l.csv: the model has no label 'tilt'; the nearest is 'tilt_up'"),
        ("", 2, "l.csv, line 2: the model has no label ''"),
    ],
)
def test_labels_without_a_class_are_named(label, line, message):
    with pytest.raises(UsageError) as error:
        match_labels([example(label, line=line)], ("Pan Left", "pan left", "tilt_up"), where="l.csv")
    assert message in str(error.value)


def test_a_network_without_labels_says_what_to_give():
    with pytest.raises(UsageError, match="--labels"):
        labels_of(CARDS["r2plus1d_34_32_ig65m"], None)


def results(*, multi_label=False, count=40, labels=LABELS, path=None):
    """Random results; the second one failed, and its message is markup too."""
    rng, classes = np.random.default_rng(0), len(labels)
    found = []
    for number in range(count):
        name = path or f"/none/{HOSTILE.replace('/', '')}{number}\udcff.mp4"
        video = Segment(name, start=1.0)
        failed = number == 1
        target = int(rng.integers(classes))
        scores = rng.dirichlet(np.ones(classes), 0 if failed else 2).astype(np.float32)
        error = Failure("decode", f"{HOSTILE}: broken") if failed else None
        status = "failed" if failed else "ok"
        entry = Entry(str(number), video, None, status, len(scores), *((None, None) if failed else (1, "0" * 64)), error)
        spans = tuple(ClipSpan(each, each + 1) for each in range(len(scores)))
        case = Example(video, (labels[target],), str(number), None, number)
        found.append(Result(case, (target, (target + 1) % classes) if multi_label else (target,), entry, spans, scores))
    return Results(labels, multi_label, tuple(found))


def written(folder, found, figures=None):
    settings = {
        "name": f"model {HOSTILE}",
        "sha256": "0" * 64,
        "preprocessing": {"crop": [112, 112], "resampling": "fast_bilinear", "crops": 1},
        "sampling": {"frames": 8, "frame_step": 1},
        "clips": None,
        "window": None,
        "precision": "fp32",
        "format": 1,
    }
    examples = LabelList("table", found.labels, tuple(each.example for each in found.all), (f"{HOSTILE}.mp4",))
    context = Context(f"/lists/{HOSTILE.replace('/', '')}.csv", None, examples, settings, vmz=True, published=figures)
    return write_results(folder, found, context, image_fps=25.0, limits=Limits(), in_process=True)


class Loads(HTMLParser):
    """Notes elements, what they would load, and their text."""

    def __init__(self):
        super().__init__()
        self.elements, self.loads, self.words = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action", "xlink:href")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("classes", [len(LABELS), 60])
def test_the_report_loads_nothing_and_obeys_no_label(tmp_path, multi_label, classes):
    labels = (*LABELS, *(f"label {number}" for number in range(len(LABELS), classes)))
    written(tmp_path, results(multi_label=multi_label, labels=labels, count=80))
    text = (tmp_path / "report.html").read_text("utf-8")
    page = Loads()
    page.feed(text)
    page.close()
    assert not page.elements & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert not page.loads  # no picture can be read here, and nothing else may be loaded
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert HOSTILE in "".join(page.words)
    assert "no picture can be read" in text
    assert f"{HOSTILE}: broken" in "".join(page.words)


def test_metrics_json_has_strict_json_and_parquet_takes_any_name(tmp_path):
    import pyarrow.parquet as pq

    record = written(tmp_path, results())
    text = (tmp_path / "metrics.json").read_text("utf-8")
    assert "NaN" not in text
    assert json.loads(text) == json.loads(json.dumps(record))
    table = pq.read_table(tmp_path / "predictions.parquet")
    assert table["path"][0].as_py().endswith("0\\udcff.mp4")
    assert table["start"].to_pylist() == [1.0] * 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "predictions.parquet", "report.html"]


@pytest.mark.parametrize(
    ("name", "printed", "shown"),
    [
        ("r2plus1d_34_32_kinetics", ["published", "80.0 %", "94.2 %"], ["published 80.0 % on Kinetics-400"]),
        (
            "r2plus1d_18_8_kinetics",
            ["published, clips", "65.3 %", "53.2 %"],
            ["published 65.3 % on Kinetics-400", "published for clips 53.2 %"],
        ),
        (
            "ip_csn_152_32_kinetics_av",
            ["79.1 %", "they include sound, and this is the visual branch alone"],
            ["published 79.1 % on Kinetics-400, with sound"],
        ),
    ],
)
def test_published_accuracies_are_beside_the_measured_ones(tmp_path, capsys, name, printed, shown):
    record = written(tmp_path, results(), published(CARDS[name]))
    _print_table(record, tmp_path)
    out = capsys.readouterr().out
    assert [words for words in printed if words not in out] == []
    text = (tmp_path / "report.html").read_text("utf-8")
    assert [words for words in shown if words not in text] == []


def test_mistakes_are_sorted_by_score_and_pairs_by_count(tmp_path):
    from ig65m.evaluate.mistakes import surest_mistakes

    found = surest_mistakes(results(), image_fps=25.0, limits=Limits(), in_process=True, most=5)
    scores = [float(each.result.scores.max()) for each in found]
    assert scores == sorted(scores, reverse=True)
    wrong = [r for r in results().scored if r.scores.argmax() not in r.targets]
    assert scores[0] == max(float(r.scores.max()) for r in wrong)
    assert confused_pairs(np.array([[5, 2, 0], [3, 1, 0], [0, 1, 9]]), 9) == [(1, 0, 3), (0, 1, 2), (2, 1, 1)]


def test_certain_scores_are_in_the_last_bar_of_the_diagram():
    bins = calibration_bins(np.array([[1.0, 0.0], [0.95, 0.05], [0.0, 1.0]]), np.array([0, 0, 0]), bins=10)
    drawn = reliability_diagram(bins)
    assert drawn.count("<rect") == 3
    assert "scores 0.90 to 1.00: 3 of them, mean 0.983, correct 0.667" in drawn


def test_folders_of_something_else_are_refused(tmp_path):
    folder = tmp_path / "new"
    check_folder(folder, source="/l.csv", split="val")
    assert not folder.exists()
    with scores_in(folder, source="/l.csv", split="val") as scores:
        assert scores == folder / "scores"
    assert not folder.exists()
    with scores_in(folder, source="/l.csv", split="val") as scores:
        scores.mkdir()
    check_folder(folder, source="/l.csv", split="val")
    for other, split in (("/l.csv", None), ("/m.csv", "val")):
        with pytest.raises(UsageError, match=r"holds an evaluation of /l\.csv \(split: val\), not of"):
            check_folder(folder, source=other, split=split)
    for text in ("{", "[]", "{}", '{"path": "/l.csv"}'):
        (folder / "evaluation.json").write_text(text)
        with pytest.raises(UsageError, match="is damaged, or not of an evaluation"):
            check_folder(folder, source="/l.csv", split="val")
    (folder / "evaluation.json").unlink()
    with pytest.raises(UsageError, match="not the folder of an evaluation"):
        check_folder(folder, source="/l.csv", split="val")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="not the folder of an evaluation"):
        check_folder(tmp_path / "full", source="l.csv", split=None)
