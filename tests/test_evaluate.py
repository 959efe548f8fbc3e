"""`ig65m evaluate` writes true figures, loses nothing when it is killed or shared, and says what is wrong with its inputs."""

import csv
import json
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics
import torch

from ig65m.convert import convert
from ig65m.store.features import read_parquet
from ig65m.store.folder import read_journal
from tests.conftest import PROGRAM
from tests.test_collection import same
from tests.videos import encode, numbered
from tests.waiting import wait_for

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torchmetrics.functional.classification as reference

pytestmark = pytest.mark.slow

NAMES = [f"class {number}" for number in range(11)]
RESULTS = ("metrics.json", "predictions.parquet", "report.html")


def write_list(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return path


def evaluate(*args, code=0):
    done = subprocess.run([PROGRAM, "evaluate", *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    """A network of 11 classes with names."""
    folder = tmp_path_factory.mktemp("named")
    return convert(tiny, folder / "named", frames=8, labels=tuple(NAMES), formats=("safetensors",)).files[0]


@pytest.fixture(scope="module")
def labelled(videos, tmp_path_factory):
    """A list of 30 videos, a broken one and one that is missing."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "broken.mp4").write_text("no video")
    rows = [(str(path), NAMES[number * 7 % 9]) for number, path in enumerate(sorted(videos.rglob("*.mp4")))]
    return write_list(folder / "list.csv", [*rows, ("broken.mp4", NAMES[0]), ("absent.mp4", NAMES[1])])


@pytest.fixture(scope="module")
def evaluated(model, labelled, tmp_path_factory):
    """What one undisturbed evaluation writes."""
    folder = tmp_path_factory.mktemp("evaluated") / "evaluation"
    done = evaluate(model, labelled, "--output", folder, code=3)
    assert "1 of 32 videos of the list were not found: 'absent.mp4'" in done.stderr
    assert "failed: " in done.stderr
    assert "30 videos, " in done.stdout
    assert "1 failed, 1 missing" in done.stdout
    return folder


def equal(folder, wanted):
    """The same results to the byte, and the same scores."""
    for name in RESULTS:
        assert (folder / name).read_bytes() == (wanted / name).read_bytes(), name
    same(folder / "scores", wanted / "scores")


def check_figures(record, scores, targets):
    """Compare a record of figures with those of scikit-learn and torchmetrics."""
    classes = scores.shape[1]
    every = torch.tensor(scores), torch.tensor(targets), classes
    for k in (1, 5):
        wanted = reference.multiclass_accuracy(*every, top_k=k, average="micro").item()
        assert record[f"top{k}"] == pytest.approx(wanted, abs=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that are predicted but never occur
        balanced = sklearn.metrics.balanced_accuracy_score(targets, scores.argmax(axis=1))
    assert record["mean_class_accuracy"] == pytest.approx(balanced, abs=1e-9)
    assert record["ece"] == pytest.approx(reference.multiclass_calibration_error(*every, n_bins=15).item(), abs=1e-6)
    assert record["map"] is None


def test_the_figures_are_those_of_scikit_learn_and_torchmetrics(evaluated):
    record = json.loads((evaluated / "metrics.json").read_text())
    table = pq.read_table(evaluated / "predictions.parquet")
    names = json.loads(table.schema.metadata[b"ig65m"])["labels"]
    assert names == NAMES
    rows = [row for row in table.to_pylist() if row["status"] != "failed"]
    scores = np.array([row["scores"] for row in rows], np.float32)
    targets = np.array([names.index(row["labels"][0]) for row in rows])
    assert [row["classes"] for row in rows] == [[target] for target in targets]
    check_figures(record, scores, targets)
    matrix = sklearn.metrics.confusion_matrix(targets, scores.argmax(axis=1), labels=range(11))
    assert record["confusion"] == matrix.tolist()
    for number, each in enumerate(record["classes"]):
        assert (each["label"], each["videos"]) == (NAMES[number], matrix[number].sum())
        share = matrix[number, number] / matrix[number].sum() if matrix[number].sum() else None
        assert each["accuracy"] == share

    entries = [entry for entry in read_journal(evaluated / "scores") if entry.size is not None]
    files = {entry.video.path: evaluated / "scores" / "features" / f"{entry.name}.parquet" for entry in entries}
    clips = [read_parquet(files[row["path"]])[0].array for row in rows]
    assert [row["clips"] for row in rows] == [len(each) for each in clips]
    np.testing.assert_allclose(scores, [each.mean(axis=0) for each in clips], atol=1e-6)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    every = np.concatenate(clips)
    assert record["clips"]["count"] == len(every)
    check_figures(record["clips"], every, np.repeat(targets, [len(each) for each in clips]))


def test_a_row_for_each_example(evaluated):
    table = pq.read_table(evaluated / "predictions.parquet").to_pylist()
    assert len(table) == 31
    (failed,) = (row for row in table if row["status"] == "failed")
    assert "not a video" in failed["error"]
    assert [failed[name] for name in ("predicted", "score", "correct", "top5", "scores")] == [None] * 5
    for row in table:
        if row is not failed:
            order = np.argsort(-np.array(row["scores"]), kind="stable")
            assert [each["label"] for each in row["top5"]] == [NAMES[number] for number in order[:5]]
            assert row["predicted"] == NAMES[order[0]]
            assert row["score"] == row["scores"][order[0]]
            assert row["correct"] == (row["predicted"] in row["labels"])


def test_failed_and_missing_videos_are_counted_apart(evaluated):
    record = json.loads((evaluated / "metrics.json").read_text())
    assert [record[kind] for kind in ("videos", "partial", "failed", "missing", "undone")] == [30, 0, 1, 1, 0]
    assert [Path(each["path"]).name for each in record["failed_videos"]] == ["broken.mp4"]
    assert record["missing_videos"] == ["absent.mp4"]
    assert record["published"] is record["protocol"] is None


@pytest.mark.parametrize("options", [[], ["--clips", "10", "--full"], ["--clips", "3", "--crops", "2", "--full"]])
def test_scores_are_those_of_classify(model, videos, tmp_path, options):
    """The scores of a clip on the full picture sum to 1 here, and to 1/places there."""
    paths = [videos / f"v{number:02}.mp4" for number in (3, 7, 11)]
    examples = write_list(tmp_path / "list.csv", [(path, NAMES[1]) for path in paths])
    evaluate(model, examples, "--output", tmp_path / "out", *options)
    command = [PROGRAM, "classify", *paths, "--model", model, "--top-k", "11", "--json", *options]
    there = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["videos"]
    for row, video in zip(pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist(), there, strict=True):
        wanted = {each["label"]: each["score"] for each in video["labels"]}
        total = sum(wanted.values())
        assert total == pytest.approx(0.25 if "--full" in options else 1)
        assert row["clips"] == len(video["clips"])
        np.testing.assert_allclose(row["scores"], [wanted[name] / total for name in NAMES], atol=1e-6)


def test_killed_and_resumed_it_is_as_if_it_had_not_been(evaluated, model, labelled, tmp_path):
    folder = tmp_path / "evaluation"
    process = subprocess.Popen(
        [PROGRAM, "evaluate", model, labelled, "--output", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    journal = folder / "scores" / "journal.jsonl"
    wait_for(lambda: journal.exists() and len(journal.read_bytes().splitlines()) >= 8)
    process.kill()
    process.wait()
    assert len(read_journal(folder / "scores")) < 31
    assert not (folder / "metrics.json").exists()
    evaluate(model, labelled, "--output", folder, code=3)
    equal(folder, evaluated)
    before = journal.read_bytes()
    (folder / "metrics.json").unlink()  # as if it had been killed before that
    evaluate(model, labelled, "--output", folder, code=3)
    assert journal.read_bytes() == before
    equal(folder, evaluated)


def test_shards_give_what_one_run_gives(evaluated, model, labelled, tmp_path):
    folder = tmp_path / "evaluation"
    done = evaluate(model, labelled, "--output", folder, "--shard", "1/3", code=3)
    assert "of 31 videos are not done yet; run the other shards, then this command without --shard" in done.stderr
    assert done.stdout == ""
    done = evaluate(model, labelled, "--output", folder, "--shard", "2/3", "--json", code=3)
    assert json.loads(done.stdout)["undone"] > 0
    assert not (folder / "metrics.json").exists()
    evaluate(model, labelled, "--output", folder, "--shard", "3/3", code=3)
    equal(folder, evaluated)


def test_json_is_that_of_metrics_json_without_the_confusion_matrix(evaluated, model, labelled):
    printed = json.loads(evaluate(model, labelled, "--output", evaluated, "--json", code=3).stdout)
    wanted = json.loads((evaluated / "metrics.json").read_text())
    del wanted["confusion"]
    assert printed == wanted


def test_vmzs_protocol_is_named_and_not_contradicted(model, labelled, videos, tmp_path):
    one = write_list(tmp_path / "one.csv", [(videos / "v03.mp4", NAMES[0])])
    done = evaluate(model, one, "--output", tmp_path / "out", "--vmz", "--json")
    record = json.loads(done.stdout)
    assert (record["protocol"], record["published"]) == ("vmz", None)
    assert (record["settings"]["clips"], record["settings"]["window"]) == (10, [7, 7])
    assert "no accuracy of named was published" in done.stderr
    for options in (["--clips", "5"], ["--full"], ["--crops", "3"], ["--stride", "4"], ["--tail", "drop"]):
        done = evaluate(model, one, "--output", tmp_path / "other", "--vmz", *options, code=2)
        assert f"--vmz chooses clips, crops and preprocessing itself; leave {options[0]} out" in done.stderr
    done = evaluate(model, one, "--output", tmp_path / "other", "--vmz", "--frames", "16", code=2)
    assert "VMZ tested named with clips of 8 frames; leave --frames or --vmz out" in done.stderr
    assert not (tmp_path / "other").exists()


def test_multi_label_figures_are_those_of_scikit_learn_and_torchmetrics(model, videos, tmp_path):
    paths = sorted(videos.glob("v*.mp4"))[:12]
    labels = [f"{NAMES[number % 4]};{NAMES[4 + number % 5]}" for number in range(12)]
    examples = write_list(tmp_path / "list.csv", zip(paths, labels, strict=True))
    record = json.loads(evaluate(model, examples, "--output", tmp_path / "out", "--json").stdout)
    table = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    scores = np.array([row["scores"] for row in table], np.float32)
    positives = np.array([[name in row["labels"] for name in NAMES] for row in table])
    there = positives.any(axis=0)
    wanted = sklearn.metrics.average_precision_score(positives[:, there], scores[:, there], average="macro")
    assert record["map"] == pytest.approx(wanted, abs=1e-9)
    flat = torch.tensor(scores).flatten(), torch.tensor(positives).flatten().long()
    error = reference.binary_calibration_error(*flat, n_bins=15)
    assert record["ece"] == pytest.approx(error.item(), abs=1e-6)
    assert record["top1"] is record["top5"] is record["mean_class_accuracy"] is None
    assert "confusion" not in json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_labels_of_another_spelling_are_said_and_unknown_ones_refused(model, videos, tmp_path):
    video = videos / "v03.mp4"
    examples = write_list(tmp_path / "list.csv", [(video, "Class_4")])
    done = evaluate(model, examples, "--output", tmp_path / "out")
    assert "labels of the list, and classes of the model: 'Class_4' is 'class 4'" in done.stderr
    assert pq.read_table(tmp_path / "out" / "predictions.parquet")["classes"].to_pylist() == [[4]]
    wrong = write_list(tmp_path / "wrong.csv", [(video, "class 3"), (videos / "v04.mp4", "clas 33")])
    done = evaluate(model, wrong, "--output", tmp_path / "no", code=2)
    assert f"{wrong}, line 3: the model has no label 'clas 33'; the nearest is 'class 3'" in done.stderr
    assert not (tmp_path / "no").exists()


def test_a_model_without_labels_needs_them(tiny_model, videos, tmp_path):
    examples = write_list(tmp_path / "list.csv", [(videos / "v03.mp4", "class 2")])
    done = evaluate(tiny_model, examples, "--output", tmp_path / "out", code=2)
    assert "has no labels; give a JSON array of its classes' names with --labels" in done.stderr
    (tmp_path / "few.json").write_text('["class 2"]')
    done = evaluate(tiny_model, examples, "--output", tmp_path / "out", "--labels", tmp_path / "few.json", code=2)
    assert "1 labels for the 11 classes" in done.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "all.json").write_text(json.dumps(NAMES))
    evaluate(tiny_model, examples, "--output", tmp_path / "out", "--labels", tmp_path / "all.json")


def test_the_folder_of_another_evaluation_is_refused(evaluated, model, labelled, videos, tmp_path):
    before = {path: path.read_bytes() for path in evaluated.rglob("*") if path.is_file()}
    done = evaluate(model, labelled, "--output", evaluated, "--clips", "2", code=2)
    assert "clips is None there, 2 here" in done.stderr
    other = write_list(tmp_path / "other.csv", [(videos / "v03.mp4", NAMES[0])])
    done = evaluate(model, other, "--output", evaluated, code=2)
    assert f"holds an evaluation of {labelled} (split: all), not of {other}" in done.stderr
    assert {path: path.read_bytes() for path in evaluated.rglob("*") if path.is_file()} == before
    done = evaluate(model, other, "--output", videos, code=2)
    assert "is not empty, and not the folder of an evaluation" in done.stderr


def test_scores_that_were_changed_are_refused(evaluated, model, labelled, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(evaluated, folder)
    changed = next(iter(sorted((folder / "scores" / "features").iterdir())))
    changed.write_bytes(changed.read_bytes()[:-1] + b"?")  # of the same size
    done = evaluate(model, labelled, "--output", folder, code=2)
    assert f"{changed.name} was changed" in done.stderr


def test_numbers_too_large_for_a_class_are_labels(model, videos, tmp_path):
    examples = write_list(tmp_path / "list.csv", [(videos / "v03.mp4", "9" * 500)])
    assert "the model has no label '999" in evaluate(model, examples, "--output", tmp_path / "out", code=2).stderr


def test_a_partial_video_counts_and_is_named(model, tmp_path):
    whole = encode(tmp_path / "whole.mp4", [numbered(i) for i in range(60)], [40 * i for i in range(60)], options={"g": "10"})
    data = encode(tmp_path / "part.mkv", [numbered(i) for i in range(60)], [40 * i for i in range(60)]).read_bytes()
    (tmp_path / "part.mkv").write_bytes(data[: len(data) * 2 // 3])
    examples = write_list(tmp_path / "list.csv", [(whole.name, NAMES[0]), ("part.mkv", NAMES[1])])
    record = json.loads(evaluate(model, examples, "--output", tmp_path / "out", "--json", code=3).stdout)
    assert [record[kind] for kind in ("videos", "partial", "failed", "missing")] == [2, 1, 0, 0]


def test_when_every_video_fails_there_are_no_figures(model, tmp_path):
    (tmp_path / "broken.mp4").write_text("no video")
    examples = write_list(tmp_path / "list.csv", [("broken.mp4", NAMES[0])])
    record = json.loads(evaluate(model, examples, "--output", tmp_path / "out", "--json", code=3).stdout)
    assert (record["videos"], record["failed"], record["top1"], record["ece"]) == (0, 1, None, None)
    assert "1 failed" in (tmp_path / "out" / "report.html").read_text()
    (tmp_path / "broken.mp4").write_bytes(encode(tmp_path / "good.mp4", [numbered(1)] * 9, range(0, 360, 40)).read_bytes())
    record = json.loads(evaluate(model, examples, "--output", tmp_path / "out", "--json", "--retry-failed").stdout)
    assert (record["videos"], record["failed"]) == (1, 0)
