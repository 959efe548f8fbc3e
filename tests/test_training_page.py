"""The programs of docs/training.md run on small videos, and what they save is taken by the commands."""

import json
import subprocess

import numpy as np
import pytest
import torch

import ig65m
from tests.conftest import PROGRAM
from tests.labelled import CLASSES, write_videos
from tests.test_docs import blocks
from tests.videos import constant, encode

pytestmark = pytest.mark.slow


@pytest.fixture
def videos(tmp_path, monkeypatch):
    """The folder `videos` with two classes: the content moves to the left or to the right."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for label, step in (("left", 3), ("right", -3)):
        (tmp_path / "videos" / label).mkdir(parents=True)
        for number in range(6):
            ground = np.kron(rng.integers(0, 256, (12, 40, 3)), np.ones((8, 8, 1))).astype(np.uint8)  # (96, 320, 3)
            pictures = [ground[:, 90 + step * i : 90 + step * i + 128] for i in range(20)]
            encode(tmp_path / "videos" / label / f"{number}.mp4", pictures, constant(20))
    return tmp_path / "videos"


def test_the_loop_trains_a_model_for_every_command(videos):
    torch.manual_seed(0)
    loop, _ = blocks("docs/training.md", "python")
    exec(loop, {})
    command = [PROGRAM, "classify", "--json", "--model", "mine.safetensors", *sorted(videos.glob("*/*.mp4"))]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    names = [video["labels"][0]["label"] for video in found["videos"]]
    assert set(names) <= {"left", "right"}
    assert sum(name in video["path"] for name, video in zip(names, found["videos"], strict=True)) >= 11


def test_the_fine_tuning_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_videos(tmp_path / "all", 3, frames=20)
    rows = [f"all/{label}/{n}.mp4,{label},{'val' if n == 2 else 'train'}" for label in CLASSES for n in range(3)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    _, tuning = blocks("docs/training.md", "python")
    exec(tuning, {})
    assert ig65m.load_model("tuned.safetensors").card.labels == CLASSES
    assert (tmp_path / "run.checkpoint").exists()
