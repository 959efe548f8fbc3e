"""A new last layer to be trained, and files of networks that the caller trained."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import ig65m
from ig65m.errors import ModelError, UsageError
from ig65m.models.network import network, network_of, weights_of, with_new_head
from ig65m.models.quantization import Quantization
from ig65m.models.spec import C3DSpec, ResNetSpec
from tests.conftest import PROGRAM

NAME = "r2plus1d_10_camera_motion"


def test_a_new_layer_is_small_and_follows_the_seed():
    torch.manual_seed(3)
    model = ig65m.load_model(NAME, num_classes=50)
    torch.manual_seed(3)
    again = ig65m.load_model(NAME, num_classes=50)
    other = ig65m.load_model(NAME, num_classes=50)
    assert torch.equal(model.fc.weight, again.fc.weight)
    assert not torch.equal(model.fc.weight, other.fc.weight)
    assert model.fc.weight.shape == (50, 128)
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not model.fc.bias.any()
    card = model.card
    assert (card.labels, card.spec.classes, card.embedded, card.frames) == (None, 50, False, 8)
    base = ig65m.load_model(NAME).state_dict()
    for name, value in model.state_dict().items():
        assert name.startswith("fc.") or torch.equal(value, base[name])
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


@pytest.mark.parametrize(
    "spec",
    [
        ResNetSpec(depth=10, classes=0, channel_multiplier=0.1),
        ResNetSpec(depth=10, classes=5, channel_multiplier=0.1, multi_label=True),
        ResNetSpec(depth=10, classes=5, channel_multiplier=0.1, architecture="r3d"),
    ],
    ids=["without classes", "multi-label", "r3d"],
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_base_may_have_any_last_layer(spec, multi_label):
    model = network(spec)
    model.card = replace(ig65m.cards[NAME], spec=spec, labels=None, audio_visual=True, embedded=False)
    changed = network_of(with_new_head(weights_of(model), 3, multi_label=multi_label))
    x = torch.randn(2, 3, 8, 32, 32)
    model.eval()
    features = changed.forward_features(x)
    assert torch.equal(features, model.forward_features(x))
    logits = nn.functional.linear(features.mean((2, 3, 4)), changed.fc.weight, changed.fc.bias)
    torch.testing.assert_close(changed(x), logits)
    assert changed.spec.multi_label is multi_label
    assert changed.card.audio_visual is False


@pytest.mark.slow
def test_c3d_keeps_its_layer_before_the_last():
    model = network(C3DSpec(classes=4))
    model.card = replace(ig65m.cards[NAME], spec=model.spec, labels=None, embedded=False, frames=16)
    changed = with_new_head(weights_of(model), 2)
    assert changed.arrays["fc.weight"].shape == (2, 4096)
    assert np.array_equal(changed.arrays["fc7.weight"], model.fc7.weight.detach())


def test_what_cannot_have_a_new_layer_is_refused():
    weights = weights_of(ig65m.load_model(NAME))
    with pytest.raises(UsageError, match="in int8 and cannot be trained"):
        with_new_head(replace(weights, quantization=Quantization({}, {})), 2)
    for classes in (0, -1, 2.0, True):
        with pytest.raises(UsageError, match="num_classes must be"):
            ig65m.load_model(NAME, num_classes=classes)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel], ids=["plain", "DataParallel"])
def test_a_saved_network_is_the_same_function(suffix, wrap, tmp_path):
    model = ig65m.load_model(NAME, num_classes=3).train()
    x = torch.randn(2, 3, 8, 64, 64)
    model(x)
    ig65m.save_model(wrap(model), tmp_path / f"mine{suffix}", labels=["a", "b", "c"])
    assert model.training
    loaded = ig65m.load_model(tmp_path / f"mine{suffix}")
    assert (loaded.card.name, loaded.card.labels, loaded.card.frame_step) == ("mine", ("a", "b", "c"), 2)
    assert torch.equal(loaded(x), model.eval()(x))


def test_a_replaced_layer_is_saved_too(tmp_path, bigbuckbunny):
    model = ig65m.load_model(NAME)
    model.fc = nn.Linear(128, 2)
    path = tmp_path / "mine.safetensors"
    ig65m.save_model(model, path)
    assert ig65m.load_model(path).card.labels is None
    ig65m.save_model(model, path, labels=("cat", "dog"))
    command = [PROGRAM, "classify", "--json", "--model", path, bigbuckbunny, "--end", "1"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert {label["label"] for label in found["videos"][0]["labels"]} == {"cat", "dog"}


def test_labels_of_the_card_stay_and_its_accuracy_does_not(tmp_path):
    model = ig65m.load_model(NAME)
    model.card = replace(model.card, top1=80.0, sha256="ab", url="https://example.com/x.pth", page="https://example.com")
    ig65m.save_model(model, tmp_path / "mine.pth")
    card = ig65m.load_model(tmp_path / "mine.pth").card
    assert card.labels == ig65m.cards[NAME].labels
    assert (card.top1, card.sha256, card.url, card.page, card.embedded) == (None, None, None, None, False)


def test_what_cannot_be_saved_is_refused(tmp_path):
    model = ig65m.load_model(NAME, num_classes=2)
    with pytest.raises(UsageError, match=r"must end in \.safetensors or \.pth"):
        ig65m.save_model(model, tmp_path / "mine.onnx")
    with pytest.raises(UsageError, match="3 labels for 2 classes"):
        ig65m.save_model(model, tmp_path / "mine.pth", labels=["a", "b", "c"])
    with pytest.raises(ModelError, match="got Linear"):
        ig65m.save_model(nn.Linear(2, 2), tmp_path / "mine.pth")
    with torch.no_grad():
        model.stem[0].weight[0] = float("nan")
    with pytest.raises(ModelError, match=r"stem\.0\.weight.*diverged"):
        ig65m.save_model(model, tmp_path / "mine.pth")
    with pytest.raises(ModelError, match="expected float32"):
        ig65m.save_model(ig65m.load_model(NAME).half(), tmp_path / "mine.pth")
    assert not list(tmp_path.iterdir())
