"""Our networks against what the original ones answered in Caffe2."""

import pickle
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from ig65m.convert import convert
from ig65m.errors import CheckpointError, ModelError
from ig65m.tasks.scoring import class_scores
from ig65m.zoo.files import save_safetensors
from ig65m.zoo.load import load_model
from tests.conftest import GOLDEN
from tests.golden import blobs

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
FEATURES = {"c3d_16": "fc6"}  # what Caffe2 calls them
FULL = sorted(path.stem for path in GOLDEN.glob("*.json") if not path.stem.startswith(("tiny", "fcn")))


def relative(got, wanted):
    return np.abs(got - wanted.reshape(got.shape)).max() / np.abs(wanted).max()


def compare(model, golden, name):
    card, answers = golden(name)
    with torch.inference_mode():
        maps = model.forward_features(torch.from_numpy(blobs.clip(card)))
        features, logits = model.forward_head(maps, pre_logits=True), model.forward_head(maps)
    assert relative(features.numpy(), answers[FEATURES.get(name, "features")]) < TOLERANCE
    assert relative(logits.numpy(), answers["logits"]) < TOLERANCE


@pytest.mark.parametrize("name", ["tiny_r2plus1d_10", "tiny_r2plus1d_50", "tiny_r3d_10", "tiny_ir_csn_50", "tiny_ip_csn_50"])
def test_files_of_python_2_give_what_caffe2_gave(golden, name):
    model = load_model(GOLDEN / f"{name}.pkl")
    assert model.spec.depth == golden(name)[0]["depth"]
    assert model.spec.channel_multiplier == golden(name)[0]["channel_multiplier"]
    compare(model, golden, name)


@pytest.mark.parametrize("name", FULL)
def test_full_networks_are_recognised_and_give_what_caffe2_gave(golden, full_checkpoint, name):
    path, card = full_checkpoint(name, protocol=2 if name == "r2plus1d_18_8" else 4), golden(name)[0]
    model = load_model(path)
    spec = model.spec
    assert spec.architecture == card["caffe2_model_name"].replace("-", "_")
    assert spec.architecture == "c3d" or spec.depth == card["depth"]
    assert (spec.classes, spec.pool1) == (card["classes"], bool(card["pool1"]))
    compare(model, golden, name)
    path.unlink()


@pytest.mark.parametrize(("name", "window"), [("fcn_r2plus1d_34_8_128", (7, 7)), ("fcn_ir_csn_50_32_256", (7, 7))])
def test_run_fully_convolutionally_they_give_what_caffe2_gave(golden, full_checkpoint, name, window):
    card, answers = golden(name)
    model = load_model(full_checkpoint(name))
    with torch.inference_mode():
        class_map = model.class_map(model.forward_features(torch.from_numpy(blobs.clip(card))), window).numpy()
    assert class_map.shape == answers["class_map"].shape
    assert relative(class_map, answers["class_map"]) < TOLERANCE
    assert relative(class_scores(class_map[0].reshape(card["classes"], -1)), answers["softmax"][0]) < TOLERANCE


@pytest.mark.parametrize("name", ["tiny_r3d_10", "tiny_ir_csn_50", "tiny_ip_csn_50", "r2d_18_16", "c3d_16"])
def test_each_kind_of_network_converts_to_onnx(golden, full_checkpoint, tmp_path, name):
    card, answers = golden(name)
    checkpoint = GOLDEN / f"{name}.pkl"
    done = convert(checkpoint if checkpoint.exists() else full_checkpoint(name), tmp_path / name, frames=card["frames"])
    session = onnxruntime.InferenceSession(done.files[2], providers=["CPUExecutionProvider"])
    logits, features = session.run(["logits", "features"], {"clips": blobs.clip(card)})
    assert relative(logits, answers["logits"]) < TOLERANCE
    assert relative(features, answers[FEATURES.get(name, "features")]) < TOLERANCE
    compare(load_model(done.files[0]), golden, name)


def test_pool1_is_taken_as_told(golden, tmp_path):
    path = GOLDEN / "tiny_ir_csn_50.pkl"
    assert load_model(path).spec.pool1
    plain = load_model(path, pool1=False)
    assert not plain.spec.pool1
    assert plain.forward_features(torch.zeros(1, 3, 8, 64, 64)).shape[-1] == 4  # 2 with the pooling
    converted = tmp_path / "plain.safetensors"
    save_safetensors(plain.state_dict(), plain.card, converted)
    assert load_model(converted).spec == plain.spec
    with pytest.raises(CheckpointError, match="without pool1; leave --pool1 and --origin out"):
        load_model(converted, pool1=True)


def test_a_stem_that_spans_the_clip_takes_no_other(full_checkpoint):
    model = load_model(full_checkpoint("r2d_18_16"))
    assert model.card.frames == 16
    with pytest.raises(ModelError, match="clips of 16 frames only, got 8"):
        model(torch.zeros(1, 3, 8, 112, 112))


def test_converted_files_give_what_caffe2_gave(golden, full_checkpoint, tmp_path):
    name = "r2plus1d_34_8_ig65m"
    card, answers = golden(name)
    done = convert(full_checkpoint(name, protocol=4), tmp_path / name, frames=8, classes=487)
    weights, state_dict, graph = done.files
    compare(load_model(weights), golden, name)
    compare(load_model(state_dict), golden, name)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    logits, features = session.run(["logits", "features"], {"clips": blobs.clip(card)})
    assert relative(logits, answers["logits"]) < TOLERANCE
    assert relative(features, answers["features"]) < TOLERANCE


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_reads_the_same(protocol, tiny, tmp_path):
    with tiny.open("rb") as file:
        original = pickle.load(file, encoding="latin1")
    path = tmp_path / "again.pkl"
    path.write_bytes(pickle.dumps(original, protocol=protocol))
    again, first = load_model(path).state_dict(), load_model(tiny).state_dict()
    assert all(torch.equal(again[key], first[key]) for key in first)


def test_the_outer_key_may_be_missing(tiny, tmp_path: Path):
    with tiny.open("rb") as file:
        original = pickle.load(file, encoding="latin1")
    path = tmp_path / "bare.pkl"
    path.write_bytes(pickle.dumps(original["blobs"], protocol=2))
    assert load_model(path).spec == load_model(tiny).spec
