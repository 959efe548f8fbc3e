"""Model files: what goes in comes out, strictly, with the card; what does not fit is refused by name."""

import argparse
import json
import os
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ig65m
from ig65m.checkpoints.identify import identify, infer_spec
from ig65m.errors import CheckpointError, ModelError
from ig65m.models.card import Card
from ig65m.models.network import empty, weights_of
from ig65m.models.plan import shapes_of
from ig65m.models.resnet import ResNet
from ig65m.models.spec import BLOCKS, ResNetSpec
from ig65m.zoo.cards import CARDS
from ig65m.zoo.files import save_pth, save_safetensors
from ig65m.zoo.load import load_model, load_weights
from tests import hostile
from tests.videoresnet import random_model


@pytest.fixture(scope="module")
def reference():
    return random_model(classes=400)


@pytest.mark.slow
@pytest.mark.parametrize("zip_format", [False, True], ids=["as of 2019", "zip"])
def test_a_published_pth_loads_strictly_and_is_the_same_function(reference, tmp_path, zip_format):
    path = tmp_path / "r2plus1d_34.pth"
    torch.save(reference.state_dict(), path, _use_new_zipfile_serialization=zip_format)
    model = load_model(path)
    assert model.spec == ResNetSpec(depth=34, classes=400)
    assert model.card.frames is None
    assert list(model.state_dict()) == list(reference.state_dict())
    assert not model.training
    clip = torch.randn(1, 3, 8, 56, 48)
    with torch.inference_mode():
        torch.testing.assert_close(model(clip), reference(clip), rtol=1e-5, atol=1e-6)


def test_our_pth_loads_strictly_in_the_original_and_keeps_its_card(reference, tmp_path):
    card = replace(CARDS["r2plus1d_34_8_kinetics"], name="mine")
    path = tmp_path / "mine.pth"
    save_pth({key: tensor.numpy() for key, tensor in reference.state_dict().items()}, card, path)
    reference.load_state_dict(torch.load(path, weights_only=True), strict=True)
    assert load_model(path).card == card


def test_safetensors_describe_themselves(tiny, tmp_path):
    model = load_model(tiny)
    card = replace(model.card, frames=16, frame_step=2, labels=tuple(f"label {n}" for n in range(11)))
    path = tmp_path / "tiny.safetensors"
    save_safetensors(weights_of(model).arrays, card, path)
    again = load_model(path)
    assert again.card == card
    assert weights_of(again).sha256 == weights_of(model).sha256
    assert load_file(path).keys() == model.state_dict().keys()  # any reader of safetensors finds plain tensors


def test_batch_norm_counters_may_be_missing(tiny):
    arrays = load_weights(tiny).arrays
    bare = {key: array for key, array in arrays.items() if not key.endswith("num_batches_tracked")}
    _, again = identify(bare)
    assert list(again) == list(arrays)
    assert all(np.array_equal(again[key], arrays[key]) for key in arrays)


@pytest.mark.parametrize("depth", BLOCKS)
@pytest.mark.parametrize("multiplier", [0.125, 0.3, 1.0])
def test_every_depth_and_multiplier_is_inferred_from_the_tensors(depth, multiplier):
    spec = ResNetSpec(depth=depth, classes=5, channel_multiplier=multiplier)
    shapes = {key: tuple(tensor.shape) for key, tensor in empty(spec).state_dict().items()}
    assert shapes_of(spec) == shapes
    assert infer_spec(shapes) == spec


def damaged(state, change):
    state = dict(state)
    change(state)
    return state


DAMAGE = {
    "missing": (lambda state: state.pop("layer1.0.conv1.1.weight"), r"missing .*layer1\.0\.conv1\.1\.weight"),
    "extra": (lambda state: state.update({"layer9.w": torch.zeros(1)}), r"unexpected for .*layer9\.w"),
    "mis-shaped": (lambda state: state.update({"stem.1.bias": torch.zeros(44)}), r"stem\.1\.bias has the shape \(44,\)"),
    "not finite": (lambda state: state["stem.0.weight"].view(-1)[3:4].fill_(torch.nan), "not finite"),
    "variance": (lambda state: state["stem.1.running_var"][5:6].fill_(-1), "negative variance"),
    "whole numbers": (lambda state: state.update({"fc.bias": torch.zeros(11, dtype=torch.int32)}), "floating-point"),
    "counter": (lambda state: state.update({"stem.1.num_batches_tracked": torch.zeros(7)}), r"tracked has the shape \(7,\)"),
    "fractional counter": (lambda state: state.update({"stem.1.num_batches_tracked": torch.zeros(())}), "expected one int64"),
    "one number stretched": (lambda state: state.update({"fc.weight": torch.ones(1, 1).expand(11, 64)}), "fewer elements"),
    "sparse": (lambda state: state.update({"fc.weight": state["fc.weight"].to_sparse()}), "dense"),
    "escapes": (lambda state: state.update({"\x1b[2Jx" * 50: torch.zeros(1)}), r"'\\x1b\[2Jx"),
    "a huge number": (lambda state: state.update({f"layer1.{'9' * 5000}.x": torch.zeros(1)}), "unexpected"),
    "no stem": (lambda state: state.pop("stem.0.weight"), r"stem\.0\.weight"),
    "no head": (lambda state: state.pop("fc.weight"), r"fc\.weight"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_weights_that_do_not_fit_are_refused_by_name(name, tiny, tmp_path):
    change, message = DAMAGE[name]
    state = damaged({key: tensor.clone() for key, tensor in load_model(tiny).state_dict().items()}, change)
    path = tmp_path / "damaged.pth"
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


@pytest.mark.parametrize("extra", ["last_out_L999", "comp_00_conv_1_middle", "last_out_L12"])
def test_no_parameter_has_two_blobs(extra, tiny, tmp_path):
    with tiny.open("rb") as file:
        blobs = pickle.load(file, encoding="latin1")["blobs"]
    blobs[f"{extra}_w"] = blobs["last_out_L11_w" if extra.startswith("last") else "comp_0_conv_1_middle_w"]
    path = tmp_path / "twice.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    with pytest.raises(CheckpointError, match=extra):
        load_model(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pkl"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no zip", b"text\n", bytes(100)])
def test_what_is_no_model_file_is_refused(suffix, data, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="model"):
        load_model(path)


@pytest.mark.parametrize("zip_format", [False, True], ids=["as of 2019", "zip"])
@pytest.mark.parametrize("share", [0, 0.005, 0.5, 0.999])
def test_a_pth_that_is_cut_off_is_reported_so(zip_format, share, reference, tmp_path):
    path = tmp_path / "cut.pth"
    torch.save(reference.fc.state_dict(), path, _use_new_zipfile_serialization=zip_format)
    size = int(path.stat().st_size * share)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        CheckpointError, match=rf"cut\.pth is truncated or damaged: it ends after {size} bytes; copy or download it again"
    ):
        load_model(path)


class Executes:
    def __reduce__(self):
        return exec, ("open('executed', 'w')",)


@pytest.mark.parametrize("content", [{5: torch.zeros(1)}, {"a": 1}, [torch.zeros(1)], torch.zeros(1)])
def test_what_is_no_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="state dict"):
        load_model(tmp_path / "model.pth")


@pytest.mark.parametrize("wrapping", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_training_wraps_is_unwrapped(wrapping, prefix, tiny, tmp_path):
    model = load_model(tiny)
    state = {prefix + key: tensor for key, tensor in model.state_dict().items()}
    torch.save({wrapping: state, "epoch": 5, "optimizer": {"state": {}}}, tmp_path / "wrapped.pth")
    assert load_weights(tmp_path / "wrapped.pth").sha256 == weights_of(model).sha256


def test_what_is_wrapped_in_two_ways_is_refused(tiny, tmp_path):
    state = dict(load_model(tiny).state_dict())
    torch.save({"state_dict": state, "model": state}, tmp_path / "two.pth")
    with pytest.raises(CheckpointError, match="contains several dictionaries, 'state_dict', 'model'; save only one"):
        load_model(tmp_path / "two.pth")
    torch.save({f"module.{key}": tensor for key, tensor in state.items()} | {"x": torch.zeros(1)}, tmp_path / "half.pth")
    with pytest.raises(CheckpointError, match=r"contains 'x' besides the network 'module\.'"):
        load_model(tmp_path / "half.pth")


@pytest.mark.parametrize("metadata", [[1], {"ig65m": "x"}, {"ig65m": {"card": 5}}, "x"])
def test_foreign_metadata_of_a_pth_are_no_card(metadata, tiny, tmp_path):
    state = load_model(tiny).state_dict()
    state._metadata = metadata
    torch.save(state, tmp_path / "model.pth")
    assert load_model(tmp_path / "model.pth").card.frames is None


@pytest.mark.parametrize("multiplier", [0.0625, 1 / 3, 0.101, 0.0157])
def test_any_multiplier_survives_our_files(multiplier, tmp_path):
    spec = ResNetSpec(depth=10, classes=3, channel_multiplier=multiplier)
    save_safetensors(
        {key: tensor.numpy() for key, tensor in ResNet(spec).state_dict().items()},
        Card(name="x", spec=spec),
        tmp_path / "x.safetensors",
    )
    assert load_model(tmp_path / "x.safetensors").spec == spec


def test_tensors_that_share_memory_are_saved(tiny, tmp_path):
    model = load_model(tiny)
    arrays = weights_of(model).arrays
    arrays["stem.1.bias"] = arrays["stem.1.weight"]
    save_safetensors(arrays, model.card, tmp_path / "tied.safetensors")
    assert torch.equal(load_model(tmp_path / "tied.safetensors").stem[1].bias, model.stem[1].weight)


def test_a_pth_executes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": Executes()}, "bad.pth")
    with pytest.raises(CheckpointError, match="without executing"):
        load_model("bad.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("zip_format", [False, True], ids=["as of 2019", "zip"])
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Executes(), "'__builtin__.exec'"),
        (argparse.Namespace(lr=0.1), "'argparse.Namespace'"),
        (hostile.Call(os.system, "true"), "'posix.system'"),
    ],
)
def test_what_a_pth_asks_for_is_named_and_pytorchs_advice_is_not_passed_on(value, name, zip_format, tmp_path):
    path = tmp_path / "trained.pth"
    torch.save({"state_dict": {}, "args": value}, path, _use_new_zipfile_serialization=zip_format)
    with pytest.raises(CheckpointError, match=f"executing code: it requests {name}, which is refused") as refusal:
        load_model(path)
    assert not re.search("safe_globals|weights_only|trust|PyTorch 2", str(refusal.value))


def test_a_header_that_is_no_card_is_refused(tiny, tmp_path):
    model = load_model(tiny)
    card = json.loads(model.card.to_json())
    wishes = {"frames": 8.5}, {"frames": 10**12}, {"labels": "abcdefghijk"}, {"labels": list(range(11))}, {"name": 5}
    spec = card["spec"]
    wishes += tuple({"spec": spec | {"channel_multiplier": value}} for value in (float("inf"), "1", [1], 10**400, -1, True))
    wishes += (
        {"spec": spec | {"depth": 10.0}},
        {"spec": spec | {"classes": "11"}},
        {"spec": None},
        {"origin": {}},
        {"top1": "x"},
    )
    wishes += {"labels": ["\x1b[2J"] * 11}, {"labels": ["\ud800"] * 11}, {"labels": ["\u202e"] * 11}, {"name": "\x1b]0;x\x07"}
    wishes += {"labels": ["x" * 2000] * 11}, {"labels": ["x"] * 100_000}, {"\x1b[2J": 1}, {"frames": "8\x1b[2J"}
    strange = [json.dumps(card | wish) for wish in wishes]
    strange += [json.dumps(card | {"preprocessing": card["preprocessing"] | {"mean": [10**400] * 3}})]
    strange += [json.dumps(card | {"preprocessing": card["preprocessing"] | {"mean": [float("nan")] * 3}})]
    strange += [json.dumps(card | {"preprocessing": card["preprocessing"] | {"resize": [128.5, 171]}})]
    for lie in ("{", "[]", json.dumps(card | {"frames": "8"}), json.dumps(card | {"nonsense": 1}), "[" * 100_000, *strange):
        path = tmp_path / "lie.safetensors"
        save_file(model.state_dict(), path, metadata={"ig65m": lie})
        with pytest.raises(CheckpointError, match="description") as refusal:
            load_model(path)
        assert str(refusal.value).isprintable()
        assert len(str(refusal.value)) < 600


def test_a_card_of_another_network_is_refused(tiny, tmp_path):
    model = load_model(tiny)
    path = tmp_path / "other.safetensors"
    save_safetensors(weights_of(model).arrays, Card(name="other", spec=replace(model.spec, classes=12)), path)
    with pytest.raises(CheckpointError, match="12 classes"):
        load_model(path)


def test_unknown_names_are_answered_with_the_nearest(tmp_path):
    with pytest.raises(ModelError, match="did you mean r2plus1d_34_32_kinetics"):
        load_model("r2plus1d_34_32_kinetic")
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none.pth")
    other = tmp_path / "weights.caffemodel"
    other.touch()
    with pytest.raises(ModelError, match=r"\.safetensors"):
        load_model(other)


@pytest.mark.parametrize("architecture", ["r2plus1d", "ir_csn", "ip_csn"])
@pytest.mark.parametrize(("channels", "bottleneck"), [(0.25, 0.5), (1.0, 0.3), (0.1, 2.0)])
def test_multipliers_are_reported_from_the_widths(architecture, channels, bottleneck):
    spec = ResNetSpec(
        depth=50,
        classes=5,
        channel_multiplier=channels,
        bottleneck_multiplier=bottleneck,
        architecture=architecture,
        pool1=architecture != "r2plus1d",
    )
    model = empty(spec)
    found = infer_spec({key: tuple(tensor.shape) for key, tensor in model.state_dict().items()})
    assert found.same_network(spec)


def test_widths_are_rounded_after_each_multiplier():
    """As VMZ's builder computes them: int(int(64 * 0.3) * 2) and so on, not int(64 * 0.3 * 2)."""
    spec = ResNetSpec(depth=26, classes=5, channel_multiplier=0.3, bottleneck_multiplier=2.0)
    assert spec.widths == (19, 38, 76, 153)
    assert spec.inner_widths == (38, 76, 152, 306)
    assert infer_spec({key: tuple(tensor.shape) for key, tensor in empty(spec).state_dict().items()}) == spec


def test_optical_flow_loads_and_sees_no_video(tmp_path):
    spec = ResNetSpec(depth=10, classes=3, channel_multiplier=0.1, in_channels=2)
    model = ResNet(spec)
    torch.save(model.state_dict(), tmp_path / "flow.pth")
    flow = load_model(tmp_path / "flow.pth")
    assert flow.spec.in_channels == 2
    with pytest.raises(ModelError, match="2 channels of optical flow"):
        ig65m.classify("video.mp4", model=flow, frames=8)
