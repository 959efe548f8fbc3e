"""The command line: what it prints, where, and with which exit code."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer

import ig65m.cli
from ig65m.cli.convert import _summary
from ig65m.models.card import MMACTION2
from ig65m.models.spec import ResNetSpec
from ig65m.zoo.cards import CARDS, card_for
from ig65m.zoo.labels import read_labels

PROGRAM = Path(sys.executable).parent / "ig65m"


def test_every_command_has_help_with_an_example(run):
    code, out, _ = run("--help")
    assert code == 0
    commands = ["models", "convert", "classify", "extract", "shots", "motion", "evaluate", "search", "quantize", "bench"]
    commands += ["serve"]
    commands += [f"features {each}" for each in ("info", "verify", "export")]
    commands += [f"index {each}" for each in ("build", "add", "remove", "info", "recall")]
    for command in (*commands, "explain semcode"):
        assert command.split()[0] in out
        text = " ".join(run(*command.split(), "--help")[1].split())
        assert f"Example: ig65m {command}" in text
    assert run("--version")[1].strip() == ig65m.__version__


@pytest.mark.parametrize("command", ["classify", "extract", "evaluate", "serve", "bench", "search"])
def test_help_shows_choices_in_groups(run, command):
    out = run(command, "--help")[1]
    assert "fp32|bf16|fp16|int8" in out
    assert "Model and engine" in out


def test_an_option_is_the_same_in_every_command():
    """Help and group of an option that several commands have; defaults may differ."""
    from ig65m.cli.commands import app

    found = {}
    for command in ("classify", "extract", "evaluate", "serve", "search", "quantize", "convert"):
        for parameter in typer.main.get_command(app).commands[command].params:
            if parameter.name not in ("model", "labels", "frames", "batch_size", "top_k", "output", "count", "clips"):
                facts = (parameter.help, parameter.rich_help_panel)
                assert found.setdefault(tuple(parameter.opts), facts) == facts, f"{command} {parameter.name}"
    assert len(found) > 40


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
    assert re.fullmatch(r"ig65m: openvino [0-9.]+, fp32, cpu\n", err)  # no progress bar where stderr is no terminal


def test_inputs_that_fail_are_named_and_exit_with_3(run, tiny_model, bigbuckbunny, tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    args = (bigbuckbunny, empty, "--model", tiny_model, "--end", 0.32)
    code, out, err = run("classify", *args, "--json")
    assert code == 3
    assert f"failed: {empty}: an empty file" in err
    good, bad = json.loads(out)["videos"]
    assert (good["status"], bad["status"]) == ("ok", "failed")
    assert bad["error"]["stage"] == "decode"
    assert list(bad["error"]) == ["stage", "message", "last_good_time"]
    code, out, err = run("classify", *args)
    assert code == 3
    assert "empty.mp4" in err
    assert out.splitlines()[0] == str(bigbuckbunny)
    assert out.splitlines()[-1] == f"{empty}: failed"
    code, out, err = run("extract", *args, "--output", tmp_path / "features")
    assert code == 3
    assert "1 ok, 1 failed" in out
    assert f"failed: {empty}: an empty file" in err
    for suffix in ("npy", "npz", "parquet"):
        code, out, err = run("extract", empty, *args[2:], "--output", tmp_path / f"x.{suffix}")
        assert (code, out) == (3, "")
        assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize("command", [["classify"], ["classify", "--json"], ["extract", "-o", "x.npy"]])
def test_where_no_input_is_there_nothing_is_loaded(run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("a.mp4").symlink_to("nowhere")
    inputs = ["a.mp4", "b.mp4", "c.mp4", "x" * 300, "e.mp4"] if command[0] == "classify" else ["a.mp4"]
    code, out, err = run(*command, *inputs, "--model", "none.pth")
    assert (code, out) == (2, "")
    assert "a.mp4: No such file or directory" in err
    assert "expected local video files or folders of images" in err
    assert err.count("\n") == 1


def test_where_one_input_is_not_there_the_others_are_done(run, tiny_model, bigbuckbunny):
    code, out, err = run("classify", "none.mp4", bigbuckbunny, "--model", tiny_model, "--end", 0.32, "--json")
    assert code == 3
    assert [video["status"] for video in json.loads(out)["videos"]] == ["failed", "ok"]
    assert "failed: none.mp4: no such file" in err


@pytest.mark.parametrize("name", ["f.npy", "f.npz", "f.parquet"])
def test_extract_writes_one_file(run, tiny_model, bigbuckbunny, tmp_path, name):
    code, out, _ = run("extract", bigbuckbunny, "--model", tiny_model, "--output", tmp_path / name, "--end", 1)
    assert code == 0
    assert "4 clips x 64" in out
    assert (tmp_path / name).exists()
    code, out, err = run("extract", bigbuckbunny, "--model", tiny_model, "--output", tmp_path / name, "--end", 1)
    assert code == 2
    assert "already exists" in err


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
    "tail": (["--tail", "dro"], "'dro' is not one of 'pad', 'drop'; did you mean 'drop'?"),
    "labels": (["--labels", "none.json"], "none.json"),
    "no label file": (["--labels", ""], "label file '' cannot be read"),
    "a folder of labels": (["--labels", "/"], "Is a directory"),
    "a number": (["--top-k=many"], "'--top-k': Input should be a valid integer"),
    "what came": (["--top-k", "many"], "got 'many' (see `ig65m classify --help`)"),
    "option": (["--modle", "x"], "No such option: --modle (Possible options: --live, --model)"),
    "standard input": (["-"], "standard input is one video; give it alone"),
    "no name": ([""], "an input has no name"),
    "an address": (["https://example.org/a.mp4"], "download it first"),
    "device": (["--device", "cuda:7"], "it has cpu"),
    "preprocessing": (["--preprocessing", "bicubic"], "'vmz', 'ig65m-pytorch'"),
}


@pytest.mark.parametrize("args", WRONG)
def test_wrong_use_exits_with_2_and_says_what_to_do(run, tiny_model, bigbuckbunny, args):
    options, message = WRONG[args]
    model = [] if "--model" in options else ["--model", tiny_model]
    code, out, err = run("classify", bigbuckbunny, *model, *options)
    assert code == 2
    assert message in err
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["clasify", "a.mp4"], "Did you mean 'classify'?"),
        (["classify"], "Missing argument 'INPUT' (see `ig65m classify --help`)"),
        (["extract", "a.mp4"], "Missing option '--output'"),
        (["extract", "a.mp4", "-o"], "requires an argument (see `ig65m extract --help`)"),
        (["extract", "-", "-o", "x.npy"], "standard input"),
        (["convert", "https://example.org/a.pkl", "x"], "download it first"),
        (["convert", "a.pkl", "folder/"], "such as folder/model"),
    ],
)
def test_wrong_commands_take_one_line(run, args, message):
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'["one"]', "1 labels for the 11 classes"),
        (b"[", "is not JSON"),
        (b'{"a": 1}', "no array of texts"),
        (b"[1]", "no array of texts"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b" " * (1 << 24) + b"[]", "has more than 16777216 bytes"),
        (json.dumps(["\x1b[31mred"] * 11).encode(), "control characters"),
    ],
)
def test_wrong_label_files(run, tiny_model, bigbuckbunny, tmp_path, text, message):
    (tmp_path / "labels.json").write_bytes(text)
    code, out, err = run("classify", bigbuckbunny, "--model", tiny_model, "--labels", tmp_path / "labels.json")
    assert (code, out) == (2, "")
    assert message in err
    assert "\x1b" not in err


def test_label_files_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "labels.json").write_text('["ä"]', "utf-8-sig")
    assert read_labels(tmp_path / "labels.json") == ("ä",)


def test_no_terminal_obeys_the_name_of_a_file(run, tiny_model, bigbuckbunny, tmp_path):
    good, bad = tmp_path / "\x1b]0;good\x07[red].mp4", tmp_path / "\x1b[31mbad\n\u202e\udcff.mp4"
    shutil.copy(bigbuckbunny, good)
    bad.touch()
    for args in (["classify"], ["extract", "-o", tmp_path / "out"], ["extract", "-o", tmp_path / "new", "--json"]):
        code, out, err = run(*args, good, bad, "--model", tiny_model, "--end", 0.3)
        assert code == 3
        assert not set("\x1b\x07\u202e\udcff") & set(out + err)
        assert "\\x1b[31mbad\\n\\u202e\\udcff.mp4: an empty file" in err
    assert [Path(video["path"]) for video in json.loads(out)["videos"]] == [good, bad]


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
    assert "already exists" in err
    broken = tmp_path / "broken.pkl"
    broken.write_bytes(b"junk")
    code, _, err = run("convert", broken, tmp_path / "other")
    assert code == 2
    assert "broken.pkl" in err
    assert not list(tmp_path.glob("other*"))


def test_convert_says_what_a_checkpoint_does_not_tell():
    """And what is not as in most networks: pool1, channels, whose weights they are."""
    plain, csn = ResNetSpec(depth=18, classes=5, architecture="r3d"), ResNetSpec(depth=50, classes=5, architecture="ir_csn")
    unknown = "clip length unknown (record it with --frames)"

    def said(spec, **known):
        return _summary(card_for(spec, name="x", origin="a test", **known)).removeprefix(f"{spec}, ")

    assert said(plain) == unknown
    assert said(replace(plain, in_channels=2)) == f"{unknown}, 2 channels of optical flow"
    assert said(replace(plain, pool1=True)) == f"{unknown}, with pool1"
    assert said(csn) == f"{unknown}, without pool1"
    assert said(replace(csn, pool1=True)) == f"{unknown}, with pool1, as CSN networks have it"
    assert said(replace(plain, builder="torchvision")) == f"{unknown}, weights of torchvision"
    ported = replace(csn, pool1=True, builder="mmaction2")
    assert said(ported).endswith(", weights of VMZ")
    assert said(ported, preprocessing=MMACTION2).endswith(", weights of mmaction2")


@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_debug_shows_where_and_keeps_the_exit_code(run, bigbuckbunny, place):
    args = ["classify", bigbuckbunny, "--model", "none.pth"]
    code, _, err = run(*args[:place], "--debug", *args[place:])
    assert code == 2
    assert "Traceback" in err
    assert err.endswith("ig65m: none.pth: no such model file\n")


def test_what_follows_two_dashes_is_an_input(run, tiny_model):
    code, _, err = run("classify", "--model", tiny_model, "--", "--debug")
    assert code == 2
    assert err == "ig65m: --debug: No such file or directory; expected local video files or folders of images\n"
