"""torch.hub on a checkout that is not installed: the original's four entry points."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ig65m.zoo.cards import CARDS
from tests.videoresnet import random_model

ROOT = Path(__file__).parent.parent
NAMES = ["r2plus1d_34_32_ig65m", "r2plus1d_34_32_kinetics", "r2plus1d_34_8_ig65m", "r2plus1d_34_8_kinetics"]


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


def test_the_listed_names_are_the_originals():
    sys.path.insert(0, str(ROOT))
    try:
        import hubconf
    finally:
        sys.path.remove(str(ROOT))
    assert [name for name in dir(hubconf) if callable(getattr(hubconf, name)) and not name.startswith("_")] == NAMES


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
