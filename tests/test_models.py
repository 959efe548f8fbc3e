"""The networks: batch norm, clip lengths, and what their specs refuse."""

import numpy as np
import pytest
import torch
from torch import nn

from ig65m.errors import ModelError, UsageError
from ig65m.models.card import Card
from ig65m.models.network import empty, network, weights_of
from ig65m.models.plan import MaxPool, plan_of, shapes_of
from ig65m.models.reference import outputs_of
from ig65m.models.resnet import ResNet
from ig65m.models.spec import ARCHITECTURES, BLOCKS, C3DSpec, ResNetSpec
from ig65m.models.weights import fold
from tests.videoresnet import randomise_norms

TINY = ResNetSpec(depth=10, classes=4, channel_multiplier=0.125)


def test_batch_norm_is_that_of_caffe2():
    norms = [module for module in ResNet(TINY).modules() if isinstance(module, nn.BatchNorm3d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.1)}
    # Caffe2's momentum 0.9 keeps 90 % of the running value: 0.9 * 0 + 0.1 * mean
    norm = norms[0].train()
    norm(torch.full((2, norm.num_features, 1, 2, 2), 5.0))
    torch.testing.assert_close(norm.running_mean, torch.full_like(norm.running_mean, 0.5))


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(1, 1), (2, 1), (3, 2), (4, 1), (5, 2), (6, 2), (7, 2), (8, 1), (9, 2), (16, 2), (17, 3), (32, 4)],
)
def test_short_clips_keep_their_frames(frames, expected):
    """Strides of 2 at the third, fourth and fifth stage: the fifth from 8 frames up, the fourth from 4 up."""
    maps = ResNet(TINY).eval().forward_features(torch.randn(1, 3, frames, 32, 48))
    assert maps.shape == (1, 64, expected, 2, 3)


@pytest.mark.parametrize("shape", [(3, 8, 32, 32), (1, 2, 8, 32, 32), (1, 8, 3, 32, 32)])
def test_a_wrong_shape_is_named(shape):
    with pytest.raises(ModelError, match=r"\(N, 3, T, H, W\)"):
        ResNet(TINY)(torch.zeros(shape))


def test_specs_and_cards_check_themselves():
    with pytest.raises(ModelError, match="depth 20"):
        ResNetSpec(depth=20, classes=4)
    with pytest.raises(ModelError, match="must not be negative"):
        ResNetSpec(depth=18, classes=-1)
    with pytest.raises(UsageError, match="3 labels for the 4 classes"):
        Card(name="x", spec=TINY, labels=("a", "b", "c"))


def test_the_original_batch_norm_momentum_has_no_say_in_eval():
    model, clip = ResNet(TINY).eval(), torch.randn(1, 3, 8, 16, 16)
    before = model(clip)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = 0.9  # as ig65m-pytorch set it
    assert torch.equal(model(clip), before)


VARIANTS = ({"classes": 0}, {"multi_label": True, "pool1": True}, {"channel_multiplier": 0.3}, {"builder": "torchvision"})


def specs():
    for architecture in ARCHITECTURES:
        clip_frames = 8 if architecture == "r2d" else None
        for depth in BLOCKS:
            yield ResNetSpec(depth=depth, classes=5, architecture=architecture, clip_frames=clip_frames)
        for how in (
            {"classes": 0},
            {"multi_label": True, "pool1": True},
            {"channel_multiplier": 0.3},
            {"builder": "torchvision"},
        ):
            more = {"classes": 5, "architecture": architecture, "clip_frames": clip_frames, "depth": 50, **how}
            yield ResNetSpec(**more)
    for multi_label in (False, True):
        yield C3DSpec(classes=7, multi_label=multi_label)


@pytest.mark.parametrize("spec", list(specs()), ids=str)
def test_the_plan_is_that_of_the_modules(spec):
    model, plan = empty(spec), plan_of(spec)
    assert list(shapes_of(spec).items()) == [(key, tuple(tensor.shape)) for key, tensor in model.state_dict().items()]
    convolutions = {path: part for path, part in model.named_modules() if isinstance(part, nn.Conv3d)}
    assert plan.convolutions.keys() == convolutions.keys()
    for path, conv in plan.convolutions.items():
        part = convolutions[path]
        assert (conv.kernel, conv.stride) == (part.kernel_size, part.stride)
        assert (conv.padding, conv.groups, conv.bias) == (part.padding, part.groups, part.bias is not None)
        norm = model.get_submodule(conv.norm)
        assert (norm.eps, norm.num_features) == (plan.eps, conv.outputs)
    pools = [layer.path for layer in plan.layers if isinstance(layer, MaxPool)]
    assert pools == [path for path, part in model.named_modules() if isinstance(part, nn.MaxPool3d)]
    assert all(isinstance(model.get_submodule(block.path), nn.Module) for stage in plan.stages for block in stage)


def trained(spec):
    """A network with random weights, in which no batch norm is an identity."""
    torch.manual_seed(1)
    model = randomise_norms(network(spec)).eval()
    model.card = Card(name="x", spec=spec)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (ResNetSpec(depth=10, classes=5, channel_multiplier=0.25), (9, 33, 40)),
        (ResNetSpec(depth=18, classes=5, channel_multiplier=0.25, builder="torchvision"), (3, 32, 32)),
        (ResNetSpec(depth=18, classes=5, channel_multiplier=0.25, architecture="mc3", multi_label=True), (6, 32, 20)),
        (ResNetSpec(depth=26, classes=0, channel_multiplier=0.25, architecture="ip_csn", pool1=True), (8, 64, 57)),
        (ResNetSpec(depth=50, classes=5, channel_multiplier=0.25, architecture="ir_csn", pool1=True), (16, 48, 48)),
        (ResNetSpec(depth=10, classes=5, channel_multiplier=0.25, architecture="r2d", clip_frames=4), (4, 32, 32)),
        (C3DSpec(classes=5, multi_label=True), (16, 112, 112)),
    ],
    ids=str,
)
def test_the_reference_in_numpy_is_the_same_function(spec, shape):
    model = trained(spec)
    clips = torch.randn(2, 3, *shape)
    with torch.inference_mode():
        maps = model.forward_features(clips)
        wanted = [model.forward_head(maps, pre_logits=each) for each in (True, False)[: 2 if spec.classes else 1]]
    for got, each in zip(outputs_of(weights_of(model), clips.numpy()), wanted, strict=False):
        assert np.abs(got - each.numpy()).max() < 1e-5 * each.abs().max()


def test_folding_is_in_float64():
    model = trained(TINY)
    arrays = fold(weights_of(model))
    conv, norm = model.stem[0].double(), model.stem[1].double()
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    assert np.array_equal(arrays["stem.0.weight"], (conv.weight * scale[:, None, None, None, None]).float().detach().numpy())
    assert np.array_equal(arrays["stem.0.bias"], (norm.bias - norm.running_mean * scale).float().detach().numpy())
