"""Features of any layer: every engine against forward hooks on the network in PyTorch."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import ig65m
from ig65m.engines.base import Pooling, Work
from ig65m.engines.choice import choose
from ig65m.engines.pytorch import pool
from ig65m.errors import UsageError
from ig65m.models.layer_names import find_layer, layer_widths
from ig65m.models.network import network, network_of, weights_of
from ig65m.models.spec import C3DSpec
from ig65m.types import Preprocessing
from ig65m.zoo.load import load_model, load_weights
from tests.conftest import GOLDEN
from tests.test_inference import CARD_OF, SPECS, random_network
from tests.videoresnet import random_model

ENGINES = ["openvino", "onnxruntime", "pytorch"]
SMALL = Preprocessing(resize=(40, 56), crop=(40, 56), mean=(110.0, 100.0, 95.0), std=(58.0, 56.0, 55.0))


def hooked(model, x, name):
    """What a forward hook on the module sees; a copy, since a ReLU after it may work in place."""
    seen = []
    hook = model.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
    with torch.inference_mode():
        getattr(model, "forward_features", model)(x)
    hook.remove()
    [output] = seen
    return output


def modules_of(model):
    """The names of all modules up to the feature maps."""
    head = {"fc", "fc6", "fc7", "pred_logit"}
    return [name for name, module in model.named_modules() if name and name not in head and not isinstance(module, nn.Identity)]


def clips(frames, preprocessing=SMALL, count=1):
    shape = (count, frames, *preprocessing.crop, 3)
    return np.random.default_rng(7).integers(0, 256, shape).astype(np.uint8)


def normalised(pixels, preprocessing=SMALL):
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return (torch.from_numpy(pixels).permute(0, 4, 1, 2, 3).float() - mean) / std


def relative(got, wanted):
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.in_channels == 3], ids=lambda spec: CARD_OF[spec].name)
def test_every_module_has_a_name_and_its_channels(spec):
    """By the network's own modules: a name stands for the module of that path, or for the last one in it."""
    with torch.device("meta"):
        model = network(spec)
    widths = layer_widths(spec)
    leaves = [name for name in modules_of(model) if not list(model.get_submodule(name).children())]
    assert set(leaves) <= set(widths) <= set(modules_of(model))
    for name in leaves:
        module = model.get_submodule(name)
        channels = getattr(module, "out_channels", getattr(module, "num_features", None))
        assert channels in (None, widths[name])
    for name in modules_of(model):
        path = find_layer(spec, name)
        assert path == name or path.startswith(f"{name}.")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("file", ["tiny_r2plus1d_10.pkl", "tiny_ip_csn_50.pkl", "tiny_ir_csn_50.pkl", "tiny_r3d_10.pkl"])
def test_modules_of_small_networks(engine, file):
    """Every module of R(2+1)D, every fifth of the longer ones; short clips, which drop strides along time, too."""
    weights = load_weights(GOLDEN / file)
    model = network_of(weights)
    names = modules_of(model)[:: 1 if "2plus1d" in file else 5]
    for number, name in enumerate(names):
        frames = 8 if number % 4 else 3
        pixels = clips(frames)
        x = normalised(pixels)
        work = Work(preprocessing=SMALL, frames=frames, layer=name, logits=False, pooling=Pooling("none", "none"))
        features, logits = choose(engine).load(weights, work)(pixels)
        wanted = hooked(model, x, name).numpy()
        assert features.shape == wanted.shape, name
        assert logits.shape == (1, 0)
        assert relative(features, wanted) < 1e-5, name


@pytest.mark.slow
@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.in_channels == 3], ids=lambda spec: CARD_OF[spec].name)
def test_stages_of_every_network_of_the_zoo(spec):
    """Pooled and with logits, which need the whole network."""
    card = CARD_OF[spec]
    model = random_network(card)
    weights = weights_of(model)
    edge = spec.clip_size if isinstance(spec, C3DSpec) else (64, 64)
    preprocessing = replace(SMALL, resize=edge, crop=edge)
    frames = spec.clip_frames or 8
    pixels = clips(frames, preprocessing)
    x = normalised(pixels, preprocessing)
    layer = "conv3b_relu" if isinstance(spec, C3DSpec) else ["stem", "layer2", "layer3.0.conv1"][SPECS.index(spec) % 3]
    work = Work(preprocessing=preprocessing, frames=frames, layer=layer, pooling=Pooling("max", "mean"))
    features, logits = choose(ENGINES[SPECS.index(spec) % 2]).load(weights, work)(pixels)
    assert relative(features, pool(hooked(model, x, layer), work.pooling).numpy()) < 1e-5
    if spec.classes:
        with torch.inference_mode():
            assert relative(logits, model(x).numpy()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["stem", "layer1.2", "layer3", "layer4.0.conv2.0"])
def test_hooks_on_a_network_that_is_not_ours(layer, tmp_path):
    """torchvision's layout, built in the tests."""
    reference = random_model(classes=400, seed=3)
    path = tmp_path / "original.pth"
    torch.save(reference.state_dict(), path)
    pixels = clips(8)
    wanted = hooked(reference, normalised(pixels), layer).mean((2, 3, 4)).numpy()
    for engine in ENGINES:
        work = Work(preprocessing=SMALL, frames=8, layer=layer, logits=False)
        assert relative(choose(engine).load(load_weights(path), work)(pixels)[0], wanted) < 1e-5


def test_extract_gives_a_layer_and_says_so(bikes, tmp_path):
    model = load_model("r2plus1d_10_camera_motion")
    sampling = ig65m.Sampling(frames=8, frame_step=2)
    features = ig65m.extract(bikes, model=model, layer="layer3", end=1.0, top_k=2)
    clip = next(ig65m.read_clips(bikes, sampling, model.card.preprocessing))
    wanted = hooked(model, normalised(clip.pixels[None], model.card.preprocessing), "layer3").mean((2, 3, 4)).numpy()
    assert relative(features.array[:1], wanted) < 1e-5
    assert features.model["layer"] == "layer3.0"
    assert len(features.labels[0]) == 2
    maps = ig65m.extract(bikes, model=model, layer="stem", end=1.0, pooling=Pooling("none", "none"))
    assert maps.array.shape[1:] == (64, 8, 32, 32)


def test_forward_layer_is_a_hook_and_stops_there():
    model = load_model("r2plus1d_10_camera_motion")
    x = torch.randn(2, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0))
    ran = []
    model.layer4.register_forward_hook(lambda *_: ran.append(True))
    for layer in ("stem.1", "layer1.0.conv1.0", "layer2", "layer3.0.downsample"):
        wanted = hooked(model, x, layer)
        ran.clear()
        with torch.inference_mode():
            torch.testing.assert_close(model.forward_layer(x, layer), wanted, rtol=0, atol=0)
        assert not ran


def test_the_command_and_what_it_refuses(run, bikes, tmp_path):
    out = tmp_path / "features.npz"
    options = ["--model", "r2plus1d_10_camera_motion"]
    assert run("extract", bikes, *options, "--layer", "layer2", "--output", out)[0] == 0
    assert np.load(out)["features"].shape[1] == 32
    code, _, err = run("extract", bikes, *options, "--layer", "layer5", "--output", out, "--overwrite")
    assert code == 2
    assert "has no layer 'layer5'; it has stem, layer1, layer2, layer3, layer4 and the modules in these; did you mean" in err
    with pytest.raises(UsageError, match="stops at a layer"):
        next(ig65m.Extractor(options[1], layer="layer1").classify_many([bikes]))


def test_folders_of_another_layer_do_not_mix(run, bikes, tmp_path):
    options = ["--model", "r2plus1d_10_camera_motion", "--output", tmp_path / "features"]
    assert run("extract", bikes, *options, "--layer", "layer3")[0] == 0
    assert json.loads((tmp_path / "features" / "settings.json").read_text())["layer"] == "layer3.0"
    code, _, err = run("extract", bikes, *options)
    assert code == 2
    assert "layer" in err
    assert run("index", "build", tmp_path / "features", tmp_path / "index")[0] == 0
