"""Our networks against what the original ones answered in Caffe2."""

import pickle
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from ig65m.convert import convert
from ig65m.zoo.load import load_model
from tests.conftest import GOLDEN
from tests.golden import blobs

TOLERANCE = 1e-5


def relative(got, wanted):
    return np.abs(got - wanted.reshape(got.shape)).max() / np.abs(wanted).max()


def compare(model, golden, name):
    card, answers = golden(name)
    with torch.inference_mode():
        maps = model.forward_features(torch.from_numpy(blobs.clip(card)))
        features, logits = model.forward_head(maps, pre_logits=True), model.forward_head(maps)
    assert relative(features.numpy(), answers["features"]) < TOLERANCE
    assert relative(logits.numpy(), answers["logits"]) < TOLERANCE


@pytest.mark.parametrize("name", ["tiny_r2plus1d_10", "tiny_r2plus1d_50"])
def test_files_of_python_2_give_what_caffe2_gave(golden, name):
    model = load_model(GOLDEN / f"{name}.pkl")
    assert model.spec.depth == golden(name)[0]["depth"]
    assert model.spec.channel_multiplier == golden(name)[0]["channel_multiplier"]
    compare(model, golden, name)


@pytest.mark.parametrize(
    "name",
    ["r2plus1d_18_8", "r2plus1d_18_16", "r2plus1d_34_32_ig65m", "r2plus1d_34_32_kinetics", "r2plus1d_152_32"],
)
def test_full_networks_give_what_caffe2_gave(golden, full_checkpoint, name):
    path = full_checkpoint(name)
    compare(load_model(path), golden, name)
    path.unlink()


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
