"""ig65m learn, from features and from videos; its model file in every command and engine, with the same numbers."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.special
import torch

import ig65m
from ig65m.zoo.cards import EMBEDDED
from ig65m.zoo.load import load_weights
from tests.conftest import PROGRAM
from tests.serving import serving

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))
from synthetic_motion import draw_moves, make

pytestmark = pytest.mark.slow

NAMES = {"pan_left": "links", "tilt_up": "hoch", "zoom_in": "näher ran"}


@pytest.fixture(scope="module")
def moves(tmp_path_factory):
    """A folder for each of three classes of moves, with eight videos each."""
    folder = tmp_path_factory.mktemp("moves")
    for number, move in enumerate(draw_moves(seed=11, each=8, sizes=((160, 120), (128, 160)))):
        if move.label in NAMES:
            (folder / NAMES[move.label]).mkdir(exist_ok=True)
            make(move, folder / NAMES[move.label] / f"{number:03}.mp4", frames=31)
    return folder


@pytest.fixture(scope="module")
def features(moves, tmp_path_factory):
    folder = tmp_path_factory.mktemp("extracted") / "features"
    subprocess.run([PROGRAM, "extract", moves, "-o", folder, "--model", EMBEDDED], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def listed(moves, tmp_path_factory):
    """Their list, which names two videos that do not exist."""
    path = tmp_path_factory.mktemp("list") / "labels.csv"
    videos = sorted(moves.rglob("*.mp4"))
    rows = [(f"{video.parent.name}/{video.name}", video.parent.name) for video in videos]
    table = pd.DataFrame([*rows, ("gone/1.mp4", "hoch"), ("gone/2.mp4", "links")], columns=["path", "label"])
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def learned(features, listed, tmp_path_factory):
    """The model, and what was printed."""
    model = tmp_path_factory.mktemp("learned") / "mine.safetensors"
    command = [PROGRAM, "learn", features, "--labels", listed, "--output", model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr  # two videos are missing
    return model, done


@pytest.fixture(scope="module")
def video(moves):
    return sorted((moves / "hoch").iterdir())[0]


def test_it_says_what_a_person_needs(learned):
    _, done = learned
    assert "2 videos of the list were not found: gone/1.mp4, gone/2.mp4" in done.stderr
    for name in NAMES.values():
        assert name in done.stdout
    assert "held-out videos: top-1 100.0% (95 % confidence: 100.0% to 100.0%)" in done.stdout
    assert done.stdout.rindex("wrote") > done.stdout.index("held-out")


def test_videos_and_their_features_give_the_same_model(moves, learned, tmp_path, run):
    out = tmp_path / "other.safetensors"
    code, text, _ = run("learn", moves, "--output", out, "--model", EMBEDDED, "--json")
    assert code == 0
    report = json.loads(text)
    assert report["held_out"]["top1"] == 1
    assert [each["videos"] for each in report["classes"]] == [8, 8, 8]
    mine, other = (load_weights(path) for path in (learned[0], out))
    for key in ("fc.weight", "fc.bias"):
        np.testing.assert_allclose(mine.arrays[key], other.arrays[key], rtol=1e-3, atol=1e-4)
    assert mine.card.learned.labels_sha256 == other.card.learned.labels_sha256
    assert (tmp_path / "other.features" / "journal.jsonl").read_text().count("\n") == 24


def test_scores_are_those_of_the_features(learned, features, moves, video, run):
    """softmax(features @ W + b) by hand equals classify in all engines, PyTorch and extract's logits."""
    model, _ = learned
    weights = load_weights(model)
    stored = next(path for path in (features / "features").iterdir() if path.name.startswith(video.stem))
    rows = np.stack(pq.read_table(stored)["features"].to_numpy())
    logits = rows @ weights.arrays["fc.weight"].T + weights.arrays["fc.bias"]
    scores = scipy.special.softmax(logits, axis=1)
    for engine in ("openvino", "onnxruntime", "pytorch"):
        prediction = ig65m.classify(video, model=model, engine=engine)
        assert prediction.labels[0].label == "hoch"
        assert len(prediction.clips) == 3
        for clip, row in zip(prediction.clips, scores, strict=True):
            found = {each.label: each.score for each in clip.labels}
            assert [found[label] for label in weights.card.labels] == pytest.approx(row, abs=1e-5)
    out = ig65m.extract(video, model=model, logits=True)
    np.testing.assert_allclose(out.logits, logits, atol=1e-4)
    network = ig65m.load_model(model)
    clips = list(ig65m.read_clips(video, ig65m.Sampling(frames=8, frame_step=2), weights.card.preprocessing))
    x = torch.cat([network.preprocess(np.asarray(clip.pixels)) for clip in clips])
    with torch.inference_mode():
        np.testing.assert_allclose(network(x).numpy(), logits, atol=1e-4)
        np.testing.assert_allclose(network(x).softmax(1).numpy(), scores, atol=1e-5)


def test_labels_below_the_threshold_are_left_out(learned, video, run):
    code, text, _ = run("classify", video, "--model", learned[0], "--threshold", 0.5, "--json")
    assert code == 0
    (found,) = json.loads(text)["videos"]
    assert [label["label"] for label in found["labels"]] == ["hoch"]
    _, text, _ = run("classify", video, "--model", learned[0], "--threshold", 1)
    assert text.count("no label reaches the threshold") == 4
    code, _, error = run("classify", video, "--model", learned[0], "--threshold", 50)
    assert code == 2
    assert "the threshold must be a score from 0 to 1, got 50" in error


def test_it_is_converted_quantised_and_measured(learned, video, moves, tmp_path, run):
    model, _ = learned
    assert run("convert", model, tmp_path / "out")[0] == 0
    assert run("bench", "--model", model, "--engine", "openvino", "--precision", "fp32", "--json")[0] == 0
    session = onnxruntime.InferenceSession(tmp_path / "out.onnx")
    ours = ig65m.extract(video, model=model, logits=True)
    clip = next(iter(ig65m.read_clips(video, ig65m.Sampling(frames=8, frame_step=2), load_weights(model).card.preprocessing)))
    mean, std = (np.array(values, np.float32) for values in ((110.201, 100.64, 95.9966), (58.1489, 56.4701, 55.3324)))
    x = ((clip.pixels.astype(np.float32) - mean) / std).transpose(3, 0, 1, 2)[None]
    outputs = session.run(None, {session.get_inputs()[0].name: x})
    assert min(np.abs(output - ours.logits[0]).max() for output in outputs if output.shape == (1, 3)) < 1e-4
    for suffix in ("pth", "safetensors"):
        assert ig65m.classify(video, model=tmp_path / f"out.{suffix}").labels[0].label == "hoch"
    assert run("quantize", model, moves, "--output", tmp_path / "int8.safetensors", "--clips", 24, "--force")[0] == 0
    quantised = ig65m.classify(video, model=tmp_path / "int8.safetensors")
    assert quantised.labels[0].label == "hoch"
    assert load_weights(tmp_path / "int8.safetensors").card.learned.base == EMBEDDED


def test_a_last_layer_is_learned_on_int8_features(learned, moves, features, listed, tmp_path, run):
    assert run("quantize", EMBEDDED, moves, "--output", tmp_path / "int8.safetensors", "--clips", 24, "--force")[0] == 0
    out = tmp_path / "mine.safetensors"
    assert run("learn", moves, "--model", tmp_path / "int8.safetensors", "--output", out)[0] == 0
    found = ig65m.classify_many(sorted(moves.rglob("*.mp4")), model=out)
    assert all(each.labels[0].label == Path(each.path).parent.name for each in found)


def test_the_service_shows_the_new_labels(learned, features, video, tmp_path, run):
    """Beside an index of the base network's features, which are its own."""
    assert run("index", "build", features, tmp_path / "index")[0] == 0
    with serving(tmp_path / "index", tmp_path / "served", "--model", learned[0]) as served, served.client() as client:
        answer = client.post("/api/classify", files={"file": (video.name, video.read_bytes())})
        assert answer.status_code == 200, answer.text
        assert answer.json()["labels"][0]["label"] == "hoch"


def test_a_network_of_several_labels(moves, features, tmp_path, run):
    videos = sorted(moves.rglob("*.mp4"))
    names = [f"{video.parent.name};{'gerade' if int(video.stem) % 2 == 0 else 'ungerade'}" for video in videos]
    pd.DataFrame({"path": map(str, videos), "label": names}).to_csv(tmp_path / "l.csv", index=False)
    out = tmp_path / "many.safetensors"
    code, text, _ = run("learn", features, "--labels", tmp_path / "l.csv", "--output", out, "--json")
    assert code == 0
    report = json.loads(text)
    assert report["held_out"]["map"] > 0.6
    assert report["held_out"]["confusion"] is None
    weights = load_weights(out)
    assert weights.card.spec.multi_label
    found = ig65m.extract(videos[0], model=out, logits=True)
    scores = scipy.special.expit(found.array @ weights.arrays["fc.weight"].T + weights.arrays["fc.bias"])
    for engine in ("openvino", "onnxruntime", "pytorch"):
        for clip, row in zip(ig65m.classify(videos[0], model=out, engine=engine).clips, scores, strict=True):
            assert {each.label: each.score for each in clip.labels} == pytest.approx(
                dict(zip(weights.card.labels, row.tolist(), strict=True)), abs=1e-5
            )


def test_an_interrupted_extraction_is_resumed(moves, tmp_path):
    out = tmp_path / "mine.safetensors"
    command = [PROGRAM, "learn", moves, "--output", out, "--model", EMBEDDED]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    journal = tmp_path / "mine.features" / "journal.jsonl"
    until = time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count("\n") >= 3):
        assert time.monotonic() < until
        assert started.poll() is None
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.communicate()
    assert not out.exists()
    before = journal.read_text()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert journal.read_text().startswith(before)
    assert out.exists()


def test_a_broken_video_is_named_and_the_others_are_learned_from(moves, tmp_path, run):
    shutil.copytree(moves, tmp_path / "videos")
    (tmp_path / "videos" / "hoch" / "broken.mp4").write_bytes(b"no video at all")
    out = tmp_path / "mine.safetensors"
    code, _, error = run("learn", tmp_path / "videos", "--output", out, "--model", EMBEDDED)
    assert code == 3
    assert "1 labelled videos were not used" in error
    assert "broken.mp4" in error
    assert out.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.assign(label=["", *table["label"][1:]]), "line 2: .* has no label"),
        (lambda table: table.assign(label="hoch"), "all|only; expected at least two"),
        (lambda table: pd.concat([table, table[:1].assign(label="links")]), "in line 2 and .* in line 28"),
        (
            lambda table: table.assign(label=["HOCH" if v == "hoch" else v for v in table["label"][:-3]] + ["hoch"] * 3),
            "spelling",
        ),
        (lambda table: table.assign(path="elsewhere/" + table["path"] + "x"), "none of its 26 videos was found"),
    ],
)
def test_bad_lists_write_nothing(change, said, features, listed, tmp_path, run):
    change(pd.read_csv(listed)).to_csv(tmp_path / "l.csv", index=False)
    code, _, error = run("learn", features, "--labels", tmp_path / "l.csv", "--output", tmp_path / "m.safetensors")
    assert code == 2
    assert pd.Series([error]).str.contains(said).all(), error
    assert [path.name for path in tmp_path.iterdir()] == ["l.csv"]


def test_features_of_a_model_file_need_that_file(moves, tiny_model, tmp_path, run):
    assert run("extract", moves, "--output", tmp_path / "f", "--model", tiny_model)[0] == 0
    out = tmp_path / "mine.safetensors"
    code, _, error = run("learn", tmp_path / "f", "--labels", moves, "--output", out)
    assert code == 2
    assert "are those of 'tiny', a model file; give it with --model" in error
    assert run("learn", tmp_path / "f", "--labels", moves, "--output", out, "--model", tiny_model)[0] == 0


def test_a_rate_is_kept(moves, tmp_path, run):
    """Features at a rate are learned from; the model samples at that rate by itself."""
    out = tmp_path / "mine.safetensors"
    assert run("learn", moves, "--model", EMBEDDED, "--output", out, "--fps", 12.5)[0] == 0
    video = sorted((moves / "hoch").iterdir())[0]
    ours = ig65m.extract(video, model=out)
    np.testing.assert_array_equal(ours.array, ig65m.extract(video, model=EMBEDDED, fps=12.5).array)
    assert ours.spans == ig65m.extract(video, model=out, fps=12.5).spans


def test_features_of_another_model_are_refused(features, listed, tiny_model, tmp_path, run):
    out = tmp_path / "m.safetensors"
    code, _, error = run("learn", features, "--labels", listed, "--model", tiny_model, "--output", out)
    assert code == 2
    assert "whose weights are not those of" in error
    code, _, error = run("learn", features, "--labels", listed, "--output", out, "--stride", 4)
    assert code == 2
    assert "--stride is for videos" in error
    for option in (("--from", "layer4"), ("--balance",), ("--epochs", 3), ("--in-process",)):
        code, _, error = run("learn", features, "--labels", listed, "--output", out, *option)
        assert code == 2
        assert f"{option[0]} is for" in error
    (tmp_path / "there.safetensors").touch()
    code, _, error = run("learn", features, "--labels", listed, "--output", tmp_path / "there.safetensors")
    assert (code, "is already there" in error) == (2, True)
    assert not out.exists()
