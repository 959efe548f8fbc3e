"""The form in which PyTorch runs networks - folded, padded, fused, in 2-D - against the networks themselves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ig65m.engines.inference import Form, inference_form
from ig65m.engines.operators import ConvCall, by_onednn, unfused
from ig65m.models.fused import FusedConv, fuse
from ig65m.models.network import network, weights_of
from ig65m.models.plan import MaxPool, plan_of
from ig65m.models.spec import C3DSpec
from ig65m.zoo.cards import CARDS
from ig65m.zoo.load import load_weights
from tests.conftest import GOLDEN

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
CARD_OF = {card.spec: card for card in CARDS.values()}
SPECS = list({plan_of(spec): spec for spec in CARD_OF}.values())  # one of those that differ in their classes only
FORMS = {"plain": Form(flat=False), "for CPUs": Form(fused=True), "for GPUs": Form(8, 16)}


def random_network(card):
    """The network of a card, with random weights and batch norms. As in trained networks, blocks add little to their input."""
    torch.manual_seed(0)
    model = network(card.spec).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for stage in fuse(plan_of(card.spec)).stages:
        for block in stage:
            model.get_submodule(block.layers[-1].conv.norm).weight.mul_(0.25)
    model.card = card
    return model


def relative(got, wanted):
    return float((got - wanted).abs().max() / wanted.abs().max())


def clips_for(spec, count=1):
    size = spec.clip_size if isinstance(spec, C3DSpec) else (64, 64)
    return torch.randn(count, spec.in_channels, spec.clip_frames or 8, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: CARD_OF[spec].name)
def test_every_network_of_the_zoo_stays_the_same_function(spec):
    """Features and logits agree within 1e-6. So do feature maps in float64: in float32 the order of sums changes more."""
    model = random_network(CARD_OF[spec])
    weights, x = weights_of(model), clips_for(spec)
    with torch.inference_mode():
        maps = model.forward_features(x)
        made = inference_form(weights, CPU, torch.float32, Form(8, 16, fused=True))
        found = made.forward_features(x)
        assert relative(made.forward_head(found, pre_logits=True), model.forward_head(maps, pre_logits=True)) <= 1e-6
        if spec.classes:
            assert relative(made.forward_head(found), model.forward_head(maps)) <= 1e-6
        double = inference_form(weights, CPU, torch.float64, Form(8, 16)).forward_features(x.double())
        assert relative(double, model.double().forward_features(x.double())) <= 1e-6


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("frames", [1, 3, 4, 8, 9])
def test_clips_of_any_length_and_shape(form, frames):
    """Short clips drop strides along time; sizes are odd."""
    model = random_network(CARDS["r2plus1d_10_camera_motion"])
    x = torch.randn(2, 3, frames, 37, 50, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = inference_form(weights_of(model), CPU, torch.float32, form)(x)
        assert relative(found, model(x)) <= 2e-6


def test_channels_are_padded_to_the_multiple_but_those_of_the_feature_maps():
    spec = CARDS["r2plus1d_34_32_ig65m"].spec
    fused = fuse(plan_of(spec), multiple=16, input_multiple=8)
    layers = [layer for layer in fused.stem if isinstance(layer, FusedConv)]
    layers += [layer for stage in fused.stages for block in stage for layer in (*block.layers, *filter(None, [block.shortcut]))]
    assert layers[0].inputs == 8
    assert {layer.outputs for layer in layers} == {48, 64, 128, 144, 240, 256, 288, 464, 512, 576, 928, 1152}
    assert all(layer.inputs % 16 == 0 for layer in layers[1:])
    assert {layer.conv.outputs for layer in layers} >= {45, 230, 460, 921}
    narrow = load_weights(GOLDEN / "tiny_r2plus1d_10.pkl").spec
    assert narrow.feature_width % 128
    assert fuse(plan_of(narrow), multiple=128).stages[-1][-1].layers[-1].outputs == narrow.feature_width


def test_padded_channels_are_zero_and_unseen():
    model = random_network(CARDS["r2plus1d_34_8_kinetics"])
    weights, plan = weights_of(model), plan_of(model.spec)
    first, second = (layer for layer in fuse(plan, 16, 8).stem if not isinstance(layer, MaxPool))
    for layer, (outputs, inputs) in ((first, (45, 3)), (second, (64, 45))):
        weight, bias = layer.arrays(weights, plan.eps)
        assert not weight[outputs:].any()
        assert not weight[:, inputs:].any()
        assert not bias[outputs:].any()
        assert weight[:outputs, :inputs].all()


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("groups", [1, 16])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_fused_operators_do_what_their_parts_do(axes, groups, relu, added):
    rng = np.random.default_rng(axes)

    def values(*shape):
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    x, weight, bias = values(2, 16, *[9] * axes), values(32, 16 // groups, *[3] * axes), values(32)
    last = {2: torch.channels_last, 3: torch.channels_last_3d}[axes]
    x, weight = x.contiguous(memory_format=last), weight.contiguous(memory_format=last)
    shortcut = values(2, 32, *[5] * axes).contiguous(memory_format=last) if added else None
    convolve = torch.nn.functional.conv2d if axes == 2 else torch.nn.functional.conv3d
    wanted = convolve(x.double(), weight.double(), bias.double(), 2, 1, groups=groups)
    wanted = wanted if shortcut is None else wanted + shortcut
    wanted = wanted.clamp(min=0) if relu else wanted
    given = ConvCall(x, weight, bias, (2,) * axes, (1,) * axes, groups, shortcut, relu)
    for operator in (unfused, by_onednn):
        assert relative(operator(given).double(), wanted) < 1e-6


RUN = """
import runpy, sys

sys.argv = ["bench/gpu.py", "--device", "cpu", "--small"]
runpy.run_path("bench/gpu.py", run_name="__main__")
print("loaded", *{name.partition(".")[0] for name in sys.modules})
"""
OTHERS = {"av", "h5py", "lancedb", "onnx", "onnxruntime", "openvino", "pyarrow", "rich", "safetensors", "typer"}


@pytest.mark.slow
def test_the_bench_for_gpus_needs_torch_and_numpy_only():
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", RUN], check=False, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert not OTHERS & set(done.stdout.splitlines()[-1].split())
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    measured = [row for row in rows if "cosine" in row]
    assert {row["name"] for row in measured} == {"r2plus1d_10_camera_motion", "ir_csn_50_32_kinetics"}
    assert {row["step"] for row in measured} >= {"plain", "folded", "2-D, padded", "2-D, padded, fused"}
    for row in measured:
        assert row["cosine"] > 0.999999
        assert row["difference"] < 3e-6
        assert row["clips_a_second"] > 0
    errors = {row["error"] for row in rows if "error" in row}
    assert errors == {f"NotImplementedError: CUDA {what} need a GPU" for what in ("graphs", "streams")}
    assert any("kernel" in row for row in rows)
