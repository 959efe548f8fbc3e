"""ig65m learn --finetune: its model, its resumption, several processes; how videos are held out."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ig65m
from ig65m.collection.label_list import Example, LabelList
from ig65m.errors import UsageError
from ig65m.learn.tuning import split_list
from ig65m.types import Segment
from ig65m.zoo.cards import EMBEDDED
from ig65m.zoo.load import load_weights
from tests.conftest import PROGRAM

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))
from synthetic_motion import draw_moves, make


@pytest.fixture(scope="module")
def moves(tmp_path_factory):
    """Two classes of moves, with six videos each."""
    folder = tmp_path_factory.mktemp("moves")
    for number, move in enumerate(draw_moves(seed=5, each=6, sizes=((128, 96),))):
        if move.label in ("pan_left", "zoom_in"):
            (folder / move.label).mkdir(exist_ok=True)
            make(move, folder / move.label / f"{number:03}.mp4", frames=20)
    return folder


def arguments(moves, out, *more):
    fixed = ("--model", EMBEDDED, "--finetune", "--epochs", "2", "--from", "layer4", "--batch-size", "4", "--workers", "0")
    return ["learn", str(moves), "--output", str(out), *fixed, "--threads", "1", *more]


@pytest.fixture(scope="module")
def tuned(moves, tmp_path_factory):
    """The model, and the report."""
    out = tmp_path_factory.mktemp("tuned") / "mine.safetensors"
    done = subprocess.run([PROGRAM, *arguments(moves, out, "--json")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_layers_from_the_given_one_on_are_trained(tuned, moves):
    out, report, said = tuned
    base, mine = load_weights(EMBEDDED), load_weights(out)
    for key, array in base.arrays.items():
        same = key in mine.arrays and np.array_equal(array, mine.arrays[key])
        assert same == (not key.startswith(("layer4.", "fc."))), key
    assert "epoch 2: loss" in said
    assert mine.card.labels == ("pan_left", "zoom_in")
    assert mine.card.learned.settings["method"] == "finetune"
    assert mine.card.learned.settings["first"] == "layer4"
    assert report["held_out"]["how"] == "drawing one video in 5, which also chose the epoch and the temperature"
    assert sum(each["videos"] for each in report["classes"]) + report["held_out"]["examples"] == 12
    found = ig65m.classify_many(sorted(moves.rglob("*.mp4")), model=out)
    assert sum(each.labels[0].label == Path(each.path).parent.name for each in found) >= 10


@pytest.mark.slow
def test_the_same_command_gives_the_same_model(tuned, moves, run):
    """From the checkpoint of the complete run, and from the beginning."""
    out, report, _ = tuned
    before = load_weights(out)
    code, text, _ = run(*arguments(moves, out, "--json", "--overwrite"))
    assert code == 0
    assert json.loads(text) == report
    again = load_weights(out)
    assert again.card == before.card
    for key, array in before.arrays.items():
        np.testing.assert_array_equal(again.arrays[key], array)


@pytest.mark.slow
def test_two_processes_give_the_model_of_one(tuned, moves, tmp_path):
    out = tmp_path / "two.safetensors"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--no-python"]
    done = subprocess.run(
        [*torchrun, str(PROGRAM), *arguments(moves, out, "--json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"held_out"') == 1
    one, two = load_weights(tuned[0]), load_weights(out)
    for key, array in one.arrays.items():
        np.testing.assert_allclose(two.arrays[key], array, rtol=1e-3, atol=2e-4, err_msg=key)


@pytest.mark.slow
def test_a_broken_video_is_named_and_left_out(tuned, moves, tmp_path, run):
    shutil.copytree(moves, tmp_path / "videos")
    (tmp_path / "videos" / "zoom_in" / "broken.mp4").write_bytes(b"no video")
    code, text, error = run(*arguments(tmp_path / "videos", tmp_path / "mine.safetensors", "--json"))
    assert code == 3
    assert "1 labelled videos were not used" in error
    report = json.loads(text)
    assert len(report["failed"]) == 1
    assert "broken.mp4" in report["failed"][0]
    assert sum(each["videos"] for each in report["classes"]) + report["held_out"]["examples"] == 12


@pytest.mark.slow
def test_features_and_options_of_extraction_are_refused(moves, tmp_path, run):
    out = tmp_path / "mine.safetensors"
    code, _, error = run(*arguments(moves, out, "--stride", 4))
    assert code == 2
    assert "--stride is not for --finetune" in error
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "settings.json").write_text("{}")
    code, _, error = run(*arguments(tmp_path / "f", out))
    assert code == 2
    assert "--finetune needs videos" in error
    code, _, error = run(*arguments(moves, out, "--rate", 0))
    assert code == 2
    assert "rate must be a positive number" in error
    assert not out.exists()
    assert not out.with_suffix(".checkpoint").exists()


def listed(*rows):
    """A list of (label, group, split)."""
    examples = tuple(
        Example(Segment(f"/v/{number}.mp4"), (label,), group, split) for number, (label, group, split) in enumerate(rows)
    )
    return LabelList("table", tuple(sorted({row[0] for row in rows})), examples)


def test_splits_of_the_list_are_used():
    whole = listed(("a", "1", "train"), ("b", "2", None), ("a", "3", "val"), ("b", "4", "test"), ("a", "5", "test"))
    train, choosing, measuring, how = split_list(whole)
    assert [len(each.examples) for each in (train, choosing, measuring)] == [2, 1, 2]
    assert how == "the split test"
    only_test = replace(whole, examples=tuple(each for each in whole.examples if each.split != "val"))
    _, choosing, measuring, how = split_list(only_test)
    assert choosing is measuring
    assert how == "the split test, which also chose the epoch and the temperature"


def test_a_fifth_of_the_groups_of_each_class_is_held_out():
    whole = listed(*((label, f"{label}{number // 2}", None) for label in "abc" for number in range(20)), ("d", "d", None))
    train, held_out, measuring, _ = split_list(whole)
    assert held_out is measuring
    assert not {each.group for each in train.examples} & {each.group for each in held_out.examples}
    assert sorted(each.labels[0] for each in held_out.examples) == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    assert "d" in {each.labels[0] for each in train.examples}
    with pytest.raises(UsageError, match="there are 2 and 0"):
        split_list(listed(("a", "1", None), ("b", "2", None)))
