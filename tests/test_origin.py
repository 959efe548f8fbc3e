"""Networks of torchvision: the same function as at home, and never taken for VMZ's."""

import pytest
import torch
from torch import nn

from ig65m.errors import CheckpointError, UsageError
from ig65m.models.network import weights_of
from ig65m.zoo.files import save_pth, save_safetensors
from ig65m.zoo.load import load_model
from tests.torchvision_nets import VideoResNet18

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["r3d_18", "mc3_18", "r2plus1d_18"])
def theirs(request, tmp_path_factory):
    torch.manual_seed(3)
    model = VideoResNet18(request.param).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 1e-4, 1e-2)  # so small that eps matters
    path = tmp_path_factory.mktemp("torchvision") / f"{request.param}.pth"
    torch.save(model.state_dict(), path)
    return model, path


@pytest.mark.parametrize("frames", [16, 6])
def test_their_logits(theirs, frames):
    model, path = theirs
    ours = load_model(path, origin="torchvision")
    clip = torch.randn(1, 3, frames, 112, 112, generator=torch.Generator().manual_seed(frames))
    with torch.inference_mode():
        got, wanted = ours(clip), model(clip)
    assert float((got - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_what_could_be_either_is_asked_about(theirs):
    path = theirs[1]
    if path.stem == "r2plus1d_18":  # its widths tell
        assert load_model(path).spec.builder == "torchvision"
        with pytest.raises(CheckpointError, match="it is a network of torchvision, not of VMZ; leave --origin out"):
            load_model(path, origin="vmz")
        return
    with pytest.raises(CheckpointError, match=r"could be VMZ's or torchvision's.*--origin vmz. or .--origin torchvision"):
        load_model(path)
    assert load_model(path, origin="vmz").spec.eps == 1e-3
    with pytest.raises(UsageError, match="origin 'keras' is not one of vmz, torchvision"):
        load_model(path, origin="keras")


def test_a_file_of_ours_knows_who_built_it(theirs, tmp_path):
    model = load_model(theirs[1], origin="torchvision")
    save_safetensors(weights_of(model).arrays, model.card, tmp_path / "x.safetensors")
    save_pth(weights_of(model).arrays, model.card, tmp_path / "x.pth")
    assert load_model(tmp_path / "x.safetensors").spec == load_model(tmp_path / "x.pth").spec == model.spec
