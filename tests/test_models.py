"""The networks: batch norm, clip lengths, and what their specs refuse."""

import pytest
import torch
from torch import nn

from ig65m.errors import ModelError, UsageError
from ig65m.models.card import Card
from ig65m.models.resnet import ResNet
from ig65m.models.spec import ResNetSpec

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
