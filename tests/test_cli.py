"""The command line: what it prints, where, and with which exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ig65m.cli
from ig65m.zoo.cards import CARDS


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `ig65m ARGS` in this process: exit code, stdout, stderr."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["ig65m", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            ig65m.cli.main()
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return call


def test_every_command_has_help_with_an_example(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("models", "convert", "classify", "extract"):
        assert f"\n  {command} " in out
        assert f"Example: ig65m {command}" in " ".join(run(command, "--help")[1].split())
    assert run("--version")[1].strip() == ig65m.__version__


def test_models(run):
    code, out, _ = run("models")
    assert code == 0
    assert all(name in out for name in CARDS)
    assert "152.36" in out
    records = {record["name"]: record for record in json.loads(run("models", "--json")[1])}
    assert records["r2plus1d_34_32_kinetics"]["labels"][5] == "archery"
    assert records["r2plus1d_34_8_ig65m"]["spec"]["classes"] == 487
    assert records["r2plus1d_34_8_ig65m"]["sha256"] == "9bae36ae"


def test_classify_prints_the_contracts_json(run, tiny_model, bigbuckbunny, tmp_path):
    code, out, _ = run("classify", bigbuckbunny, "--model", tiny_model, "--json", "--top-k", 2, "--end", 0.64)
    assert code == 0
    (video,) = json.loads(out)["videos"]
    assert json.loads(out)["model"] == "tiny"
    assert (
        json.loads(
            run("classify", "--json", "--model", tiny_model, "--end", 0.3, f"{bigbuckbunny.parent}/./{bigbuckbunny.name}")[1]
        )["videos"][0]["path"]
        == f"{bigbuckbunny.parent}/./{bigbuckbunny.name}"
    )
    assert list(video) == ["path", "status", "error", "labels", "clips"]
    assert (video["path"], video["status"], video["error"]) == (str(bigbuckbunny), "ok", None)
    assert [(clip["start"], clip["end"]) for clip in video["clips"]] == [(0.0, 0.32), (0.32, 0.64)]
    assert [list(label) for clip in video["clips"] for label in clip["labels"]] == [["label", "score"]] * 4
    assert len(video["labels"]) == 2


def test_classify_prints_a_table(run, tiny_model, bigbuckbunny):
    code, out, err = run("classify", bigbuckbunny, "--model", tiny_model, "--end", 0.64)
    assert code == 0
    assert "whole video: class" in out
    assert ["0.32", "0.64"] in [line.split()[:2] for line in out.splitlines()]
    assert err == ""  # no progress bar where stderr is no terminal


def test_inputs_that_fail_are_named_and_exit_with_3(run, tiny_model, bigbuckbunny, tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    args = (bigbuckbunny, empty, "--model", tiny_model, "--end", 0.32)
    code, out, _ = run("classify", *args, "--json")
    assert code == 3
    good, bad = json.loads(out)["videos"]
    assert (good["status"], bad["status"]) == ("ok", "failed")
    assert bad["error"]["stage"] == "decode"
    assert list(bad["error"]) == ["stage", "message", "last_good_time"]
    code, out, err = run("classify", *args)
    assert code == 3
    assert "empty.mp4" in err
    code, out, err = run("extract", *args, "--output", tmp_path / "features")
    assert code == 3
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["bigbuckbunny.json", "bigbuckbunny.npy"]
    assert "empty.mp4" in err


@pytest.mark.parametrize("name", ["f.npy", "f.npz", "f.parquet"])
def test_extract_writes_one_file(run, tiny_model, bigbuckbunny, tmp_path, name):
    code, out, _ = run("extract", bigbuckbunny, "--model", tiny_model, "--output", tmp_path / name, "--end", 1)
    assert code == 0
    assert "4 clips x 64" in out
    assert (tmp_path / name).exists()
    code, out, err = run("extract", bigbuckbunny, "--model", tiny_model, "--output", tmp_path / name, "--end", 1)
    assert code == 2
    assert "already there" in err


def test_a_folder_of_images_is_a_video(run, tiny_model, tmp_path):
    import cv2

    rng = np.random.default_rng(0)
    for number in range(1, 13):
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), rng.integers(0, 256, (60, 80, 3), np.uint8))
    code, out, _ = run("classify", tmp_path, "--model", tiny_model, "--image-fps", 10, "--json")
    assert code == 0
    (video,) = json.loads(out)["videos"]
    assert [(clip["start"], clip["end"]) for clip in video["clips"]] == [(0.0, 0.8), (0.8, 1.2)]


WRONG = {
    "unknown model": (["--model", "r2plus1d_34_8_kinetic"], "did you mean r2plus1d_34_8_kinetics"),
    "missing model file": (["--model", "none.pth"], "none.pth"),
    "unknown flag": (["--nonsense"], "--nonsense"),
    "frames": (["--frames", "0"], "frames"),
    "stride": (["--stride", "-1"], "stride"),
    "range": (["--start", "2", "--end", "1"], "before end"),
    "tail": (["--tail", "cut"], "pad, drop"),
    "labels": (["--labels", "none.json"], "none.json"),
    "device": (["--device", "cuda:7"], "it has cpu"),
    "preprocessing": (["--preprocessing", "bicubic"], "vmz, ig65m-pytorch"),
}


@pytest.mark.parametrize("args", WRONG)
def test_wrong_use_exits_with_2_and_says_what_to_do(run, tiny_model, bigbuckbunny, args):
    options, message = WRONG[args]
    model = [] if "--model" in options else ["--model", tiny_model]
    code, out, err = run("classify", bigbuckbunny, *model, *options)
    assert code == 2
    assert message in err
    assert out == ""
    assert "Traceback" not in err


def test_without_weights_and_network_the_embedded_model_is_named(run, bigbuckbunny, tmp_path, monkeypatch):
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path))
    monkeypatch.setenv("IG65M_OFFLINE", "1")
    code, _, err = run("classify", bigbuckbunny)
    assert code == 2
    assert "r2plus1d_10_camera_motion" in err


def test_convert(run, tiny, tmp_path):
    code, out, _ = run("convert", tiny, tmp_path / "tiny", "--frames", 8, "--classes", 11)
    assert code == 0
    assert "R(2+1)D-10" in out
    assert "largest difference" in out
    code, _, err = run("convert", tiny, tmp_path / "tiny")
    assert code == 2
    assert "already there" in err
    broken = tmp_path / "broken.pkl"
    broken.write_bytes(b"junk")
    code, _, err = run("convert", broken, tmp_path / "other")
    assert code == 2
    assert "broken.pkl" in err
    assert not list(tmp_path.glob("other*"))


def test_debug_shows_where_and_keeps_the_exit_code(run, bigbuckbunny):
    code, _, err = run("--debug", "classify", bigbuckbunny, "--model", "none.pth")
    assert code == 2
    assert "Traceback" in err


def test_a_fault_of_the_program_exits_with_1(run, tiny_model, bigbuckbunny, monkeypatch):
    def faulty(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("ig65m.tasks.classify_many", faulty)
    code, _, err = run("classify", bigbuckbunny, "--model", tiny_model)
    assert code == 1
    assert "a bug" in err
    assert "Traceback" not in err


def test_the_installed_program_runs():
    program = Path(sys.executable).parent / "ig65m"
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"}
    )
    assert done.stdout.strip() == ig65m.__version__
