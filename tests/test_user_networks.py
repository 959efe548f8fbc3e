"""Networks that the caller hands over: wrapped, changed, or not fit for use; and checkpoints as training writes them."""

import numpy as np
import pytest
import torch
from torch import nn

import ig65m
from ig65m.errors import CheckpointError, ModelError, UsageError
from ig65m.zoo.load import load_model
from ig65m.zoo.user_network import checked_weights

NAME = "r2plus1d_10_camera_motion"


@pytest.fixture
def network():
    return load_model(NAME)


@pytest.fixture(scope="module")
def expected(bigbuckbunny):
    return ig65m.extract(bigbuckbunny, model=NAME, end=2.0, logits=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # PyTorch's compiler uses what PyTorch deprecates
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda net: nn.DataParallel(torch.compile(net))])
def test_wrappers_around_a_network_are_taken_off(wrap, network, expected, bigbuckbunny):
    found = ig65m.extract(bigbuckbunny, model=wrap(network), end=2.0)
    np.testing.assert_allclose(found.array, expected.array, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 3, 12])
def test_the_network_decides_how_many_classes_there_are(classes, network, expected, bigbuckbunny, tmp_path):
    network.fc = nn.Linear(network.spec.feature_width, classes)
    features = ig65m.extract(bigbuckbunny, model=network, end=2.0, logits=True, top_k=1)
    with torch.inference_mode():
        logits = network.fc(torch.from_numpy(expected.array)).numpy()
    np.testing.assert_allclose(features.logits, logits, rtol=1e-3, atol=1e-4)
    assert features.labels[0][0].label == f"class {logits[0].argmax()}"
    prediction = ig65m.classify(bigbuckbunny, model=network, end=2.0)
    assert len(prediction.labels) == min(classes, 5)
    names = tmp_path / "labels.json"
    names.write_text("[" + ", ".join(f'"name {number}"' for number in range(classes)) + "]")
    assert ig65m.classify(bigbuckbunny, model=network, end=2.0, labels=names).labels[0].label.startswith("name ")
    names.write_text('["one", "two"]')
    with pytest.raises(UsageError, match=f"2 labels for the {classes} classes"):
        ig65m.classify(bigbuckbunny, model=network, labels=names)
    assert (network.spec.classes, len(network.card.labels)) == (9, 9)  # the caller's own is as it was
    assert checked_weights(network).spec.classes == classes


def test_a_network_without_its_last_layer_gives_features(network, expected, bigbuckbunny):
    network.fc = nn.Identity()
    np.testing.assert_allclose(ig65m.extract(bigbuckbunny, model=network, end=2.0).array, expected.array, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="has no classes"):
        ig65m.classify(bigbuckbunny, model=network)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda net: setattr(net, "fc", nn.Sequential(nn.Dropout(), nn.Linear(128, 3))),
            r"is Sequential; expected nn\.Linear\(128",
        ),
        (lambda net: setattr(net, "fc", nn.Linear(128, 3, bias=False)), "is a Linear without bias"),
        (lambda net: setattr(net, "fc", nn.Linear(64, 3)), "takes 64 features; the network gives 128"),
        (lambda net: net.half(), r"is float16, expected float32; call the network's float\(\)"),
        (lambda net: net.bfloat16(), "is bfloat16, expected float32"),
        (lambda net: net.to("meta"), "is on the meta device"),
        (lambda net: net.train(), "in training mode"),
        (lambda net: setattr(net, "card", None), "has no card"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused_with_a_reason(change, message, network, bigbuckbunny):
    change(network)
    with pytest.raises(ModelError, match=message):
        ig65m.classify(bigbuckbunny, model=network)
    with pytest.raises(ModelError, match=message):
        checked_weights(network)


@pytest.mark.parametrize("model", [nn.Linear(3, 3), 5, b"name", [NAME]])
def test_what_is_no_model_is_refused(model, bigbuckbunny):
    with pytest.raises(ModelError, match=r"expected a model's name.* got"):
        ig65m.classify(bigbuckbunny, model=model)


@pytest.mark.parametrize(
    "name", ["model.{}", "net.{}", "_orig_mod.{}", "module.{}", "model._orig_mod.{}", "module.model.{}", "lit.net.module.{}"]
)
def test_names_that_training_puts_before_a_networks_own(name, network, tmp_path):
    state = {name.format(key): tensor for key, tensor in network.state_dict().items()}
    path = tmp_path / "training.pth"
    torch.save({"state_dict": state, "epoch": 3, "optimizer_states": [{"lr": 0.1}]}, path)
    loaded = load_model(path)
    assert all((tensor == loaded.state_dict()[key]).all() for key, tensor in network.state_dict().items())


def test_a_compiled_part_of_a_network(network, tmp_path):
    state = {key.replace("layer1.", "layer1._orig_mod."): tensor for key, tensor in network.state_dict().items()}
    torch.save(state, tmp_path / "compiled.pth")
    assert load_model(tmp_path / "compiled.pth").spec.depth == 10


def test_a_checkpoint_of_two_networks_or_of_more_than_one_is_refused(network, tmp_path):
    state = network.state_dict()
    path = tmp_path / "two.pth"
    torch.save({f"{name}.{key}": tensor for name in ("model", "ema") for key, tensor in state.items()}, path)
    with pytest.raises(CheckpointError, match=r"contains several networks, 'ema\.', 'model\.'; save only one of them"):
        load_model(path)
    torch.save({f"model.{key}": tensor for key, tensor in state.items()} | {"loss.weight": torch.ones(9)}, path)
    with pytest.raises(CheckpointError, match=r"contains 'loss\.weight' besides the network 'model\.'"):
        load_model(path)
