"""Small labelled videos that a narrow network learns in seconds: the class is the side on which they are brighter."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ig65m.models.card import MEAN, STD, Card
from ig65m.models.network import network, weights_of
from ig65m.models.spec import ResNetSpec
from ig65m.models.weights import Weights
from ig65m.types import Preprocessing
from tests.videos import constant, encode

CLASSES = ("down", "left", "right", "up")
SPEC = ResNetSpec(depth=10, classes=3, channel_multiplier=0.15)
CARD = Card(name="narrow", spec=SPEC, frames=4, preprocessing=Preprocessing(resize=(36, 40), crop=(32, 32), mean=MEAN, std=STD))


def picture(label: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture (48, 64, 3), brighter towards the side that its label names."""
    y, x = np.mgrid[0:1:48j, 0:1:64j]
    ramp = {"down": y, "up": 1 - y, "right": x, "left": 1 - x}[label]
    ground = rng.uniform(60, 120, 3) + 80 * (ramp[..., None] - 0.5) + rng.normal(0, 12, (48, 64, 3))
    return np.clip(ground, 0, 255).astype(np.uint8)


def write_videos(folder: Path, each: int, *, seed: int = 0, frames: int = 12) -> Path:
    """Write `each` videos for each class, in a folder for each class."""
    rng = np.random.default_rng(seed)
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for number in range(each):
            pictures = [picture(label, rng) for _ in range(frames)]
            encode(folder / label / f"{number}.mp4", pictures, constant(frames), options={"preset": "ultrafast"})
    return folder


def narrow(seed: int = 0) -> Weights:
    """A narrow network with random weights, for 4 frames of 32x32."""
    import torch

    torch.manual_seed(seed)
    model = network(SPEC)
    model.card = CARD
    return weights_of(model)
