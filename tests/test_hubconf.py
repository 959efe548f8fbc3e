"""torch.hub on a checkout that is not installed: entry points of ig65m-pytorch, and of VMZ."""

import hashlib
import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ig65m.errors import DownloadError, ModelError, UsageError
from ig65m.zoo.cards import CARDS
from tests.golden import blobs
from tests.videoresnet import VideoResNet34, random_model, randomise_norms
from tests.vmz_nets import VideoResNet152
from tests.webserver import serving

ROOT = Path(__file__).parent.parent
NAMES = ["r2plus1d_34_32_ig65m", "r2plus1d_34_32_kinetics", "r2plus1d_34_8_ig65m", "r2plus1d_34_8_kinetics"]

# VMZ's words, and a part of the name that its pt/vmz/models/utils.py gives the file; where it has none, of the one in its zoo.
VMZ = {
    ("r2plus1d_34", "kinetics_8frms"): "clip8_ft_kinetics_from_ig65m-0aa0550b",
    ("r2plus1d_34", "kinetics_32frms"): "clip32_ft_kinetics_from_ig65m-ade133f1",
    ("r2plus1d_34", "ig65m_8frms"): "clip8_ig65m_from_scratch-9bae36ae",
    ("r2plus1d_34", "ig65m_32frms"): "clip32_ig65m_from_scratch-449a7af9",
    ("r2plus1d_152", "ig65m_32frms"): "152_ig65m_from_scratch_f106380637",
    ("r2plus1d_152", "ig_ft_kinetics_32frms"): "152_ft_kinetics_from_ig65m_f107107466",
    ("r2plus1d_152", "sports1m_32frms"): "152_sports1m_from_scratch_f127111290",
    ("r2plus1d_152", "sports1m_ft_kinetics_32frms"): "152_ft_kinetics_from_sports1m_f128957437",
    ("ir_csn_152", "ig65m_32frms"): "irCSN_152_ig65m_from_scratch_f125286141",
    ("ir_csn_152", "ig_ft_kinetics_32frms"): "irCSN_152_ft_kinetics_from_ig65m_f126851907",
    ("ir_csn_152", "sports1m_32frms"): "f99918785",
    ("ir_csn_152", "sports1m_ft_kinetics_32frms"): "f101599884",
    ("ip_csn_152", "ig65m_32frms"): "ipCSN_152_ig65m_from_scratch_f130601052",
    ("ip_csn_152", "ig_ft_kinetics_32frms"): "ipCSN_152_ft_kinetics_from_ig65m_f133090949",
    ("ip_csn_152", "sports1m_32frms"): "f111018543",
    ("ip_csn_152", "sports1m_ft_kinetics_32frms"): "f111279053",
}
CLASSES = {"ig65m_8frms": 487, "ig65m_32frms": 359, "sports1m_32frms": 487}  # 400 otherwise


def load(name, *args, **options):
    return torch.hub.load(str(ROOT), name, *args, source="local", **options)


@pytest.mark.slow
def test_they_work_without_the_package_installed(tmp_path):
    code = f"""
import importlib.abc, sys
class Uninstalled(importlib.abc.MetaPathFinder):  # as if the editable install were not there
    def find_spec(self, name, path=None, target=None):
        if name == "ig65m" and not any("src" in entry for entry in sys.path):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Uninstalled())
sys.path[:] = [entry for entry in sys.path if not entry.endswith("src")]
import torch
model = torch.hub.load({str(ROOT)!r}, "r2plus1d_34_8_ig65m", num_classes=7, source="local")
print(type(model).__name__, tuple(model.fc.weight.shape))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ResNet", "(7,", "512)"]


def test_the_listed_names_are_those_of_both():
    sys.path.insert(0, str(ROOT))
    try:
        import hubconf
    finally:
        sys.path.remove(str(ROOT))
    assert [name for name in dir(hubconf) if callable(getattr(hubconf, name)) and not name.startswith("_")] == sorted(
        [*NAMES, "ip_csn_152", "ir_csn_152", "r2plus1d_152", "r2plus1d_34"]
    )


def test_another_class_count_than_the_checkpoints_is_refused():
    with pytest.raises(ValueError, match="trained on 359 classes, not 487"):
        torch.hub.load(str(ROOT), "r2plus1d_34_32_ig65m", num_classes=487, pretrained=True, source="local")


@pytest.mark.slow
def test_pretrained_loads_the_published_file(tmp_path, monkeypatch):
    card = CARDS["r2plus1d_34_8_kinetics"]
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path))
    reference = random_model(classes=400)
    path = tmp_path / card.url.rpartition("/")[2]
    torch.save(reference.state_dict(), path)
    monkeypatch.setitem(CARDS, card.name, replace(card, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    model = torch.hub.load(str(ROOT), "r2plus1d_34_8_kinetics", num_classes=400, pretrained=True, source="local")
    assert torch.equal(model.fc.weight, reference.fc.weight)
    assert not model.training


def test_vmz_arguments_may_be_given_by_position():
    """Only the names are checked here: the positions of VMZ's arguments."""
    sys.path.insert(0, str(ROOT))
    try:
        import hubconf
    finally:
        sys.path.remove(str(ROOT))
    for name in {name for name, _ in VMZ}:
        positional = [
            (parameter.name, parameter.default)
            for parameter in inspect.signature(getattr(hubconf, name)).parameters.values()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        assert positional == [("pretraining", ""), ("use_pool1", None), ("progress", False)]


@pytest.mark.slow
@pytest.mark.parametrize("pool1", [False, True])
@pytest.mark.parametrize("name", ["r2plus1d_34", "r2plus1d_152", "ir_csn_152", "ip_csn_152"])
def test_random_weights_are_of_vmz_network(name, pool1):
    model = load(name, use_pool1=pool1, num_classes=11)
    assert model.training
    if name == "r2plus1d_34":
        reference = VideoResNet34(11)
        reference.stem = torch.nn.Sequential(
            *reference.stem, *([torch.nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))] if pool1 else [])
        )
    else:
        reference = VideoResNet152(name.removesuffix("_152"), 11, pool1)
    reference.load_state_dict(model.state_dict())  # strict
    randomise_norms(reference).eval()
    model.load_state_dict(reference.state_dict())
    clip = torch.randn(1, 3, 8, 64, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, got = reference(clip), model.eval()(clip)
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(got / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "pool1"), [("ir_csn_152", True), ("r2plus1d_34", False)])
def test_random_weights_have_the_defaults_of_vmz(name, pool1):
    model = load(name)
    assert model.fc.out_features == 400
    assert isinstance(model.stem[-1], torch.nn.MaxPool3d) is pool1


@pytest.mark.parametrize(("name", "word"), VMZ)
def test_each_word_is_a_file_of_vmz(name, word, tmp_path, monkeypatch):
    """Nothing is in the cache, so the error names the file."""
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path))
    monkeypatch.setenv("IG65M_OFFLINE", "1")
    monkeypatch.delenv("IG65M_MIRROR", raising=False)
    use_pool1 = "csn" in name  # Caffe2's R(2+1)D-152 has no pool1
    with pytest.raises(DownloadError, match=VMZ[name, word]):
        load(name, word)
    with pytest.raises(DownloadError, match=VMZ[name, word]):
        load(name, word, use_pool1, num_classes=CLASSES.get(word, 400))
    with pytest.raises(ModelError, match=f"pool1.*use_pool1={use_pool1}"):
        load(name, word, not use_pool1)
    with pytest.raises(ModelError, match=f"trained on {CLASSES.get(word, 400)} classes, not 7"):
        load(name, word, use_pool1, num_classes=7)


@pytest.mark.parametrize("name", ["r2plus1d_34", "r2plus1d_152", "ir_csn_152", "ip_csn_152"])
def test_an_unknown_word_is_named_with_the_known_ones(name):
    words = ", ".join(word for other, word in VMZ if other == name)
    with pytest.raises(UsageError, match=f"pretraining 'imagenet' is not one of {words}"):
        load(name, pretraining="imagenet")


@pytest.mark.slow
def test_vmz_weights_are_downloaded(full_checkpoint, golden, tmp_path, monkeypatch):
    """A whole checkpoint of Caffe2's, under the name of VMZ's, and what Caffe2 answers with it."""
    card, answers = golden("ir_csn_152_32")
    path = full_checkpoint("ir_csn_152_32")
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    content = path.read_bytes()
    with serving(lambda h: (paths.append(h.path), h.rest(content))) as server:
        paths = []
        monkeypatch.setenv("IG65M_MIRROR", server.url)
        model = load("ir_csn_152", pretraining="ig_ft_kinetics_32frms")
    assert paths == ["/irCSN_152_ft_kinetics_from_ig65m_f126851907.pkl"]
    assert not model.training
    with torch.inference_mode():
        logits = model(torch.from_numpy(blobs.clip(card)))
    assert abs(logits.numpy() - answers["logits"]).max() < 1e-5 * abs(answers["logits"]).max()
