"""A GPU's precisions are tried before they are used. The CPU stands in for one here: any device that is wrong will do."""

from itertools import accumulate
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ig65m.engines import choice, parity
from ig65m.engines.base import Work
from ig65m.engines.parity import precision_on
from ig65m.engines.pytorch import PyTorchEngine
from ig65m.errors import UsageError
from ig65m.types import Preprocessing
from ig65m.zoo.load import load_weights
from tests.conftest import GOLDEN

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SMALL = Preprocessing(resize=(32, 40), crop=(32, 40), mean=(110.2, 100.6, 96.0), std=(58.1, 56.5, 55.3))
WORK = Work(preprocessing=SMALL, frames=3, batch_size=3)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def network():
    return load_weights(GOLDEN / "tiny_r2plus1d_10.pkl")


class Wrong(PyTorchEngine):
    """Its bfloat16 is off by an angle: by how much is for the test to say; so slow is float16 that nobody wants it."""

    angle = 0.0

    def __call__(self, clips):
        features, logits = super().__call__(clips)
        if self.precision == "bf16":
            other = np.roll(features, 1, axis=1)
            other -= features * (other * features).sum(1, keepdims=True) / (features**2).sum(1, keepdims=True)
            other *= np.linalg.norm(features, axis=1, keepdims=True) / np.linalg.norm(other, axis=1, keepdims=True)
            features = np.cos(self.angle) * features + np.sin(self.angle) * other
        return features, logits


@pytest.mark.parametrize(
    ("cosine", "unasked", "asked"), [(0.99998, True, True), (0.9995, False, True), (0.99, False, False), (-1.0, False, False)]
)
def test_a_wrong_precision_is_not_taken(network, monkeypatch, cosine, unasked, asked):
    monkeypatch.setattr(Wrong, "angle", np.arccos(cosine))
    monkeypatch.setattr(parity, "PyTorchEngine", Wrong)
    monkeypatch.setattr(parity, "time", clock())
    assert precision_on(CPU, network, WORK, None) == ("bf16" if unasked else "fp32")
    if asked:
        assert precision_on(CPU, network, WORK, "bf16") == "bf16"
    else:
        with pytest.raises(UsageError, match=r"bf16 does not agree with float32 on cpu with torch .*, cuDNN .*fp32 1\.0000"):
            precision_on(CPU, network, WORK, "bf16")


def clock():
    """One by which float32 takes 2 s, bfloat16 1 s and float16 3 s."""
    steps = [step for seconds in (2.0, 1.0, 3.0) for _ in range(5) for step in (0.0, seconds)]
    return SimpleNamespace(perf_counter=accumulate(steps).__next__)


def test_what_was_found_is_kept_and_a_record_of_other_making_is_not_believed(network, monkeypatch, cache):
    made = []
    trials = parity._trials
    monkeypatch.setattr(parity, "_trials", lambda *args: made.append(1) or trials(*args))
    assert precision_on(CPU, network, WORK, "fp16") == precision_on(CPU, network, WORK, "fp16") == "fp16"
    assert len(made) == 1
    (record,) = (cache / "parity").iterdir()
    good = record.read_text()
    for bad in (
        "",
        "null",
        "[1]",
        good[:-9],
        good.replace('"cudnn": ', '"cudnn": 9'),
        "[" * 10_000,
        good.replace("1", "NaN", 1),
    ):
        record.write_text(bad)
        precision_on(CPU, network, WORK, "fp16")
        assert set(record.read_text().split('"seconds"')[0]) == set(good.split('"seconds"')[0])
    assert len(made) == 8
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 90800)
    precision_on(CPU, network, WORK, "fp16")
    assert len(made) == 9


def test_numbers_that_are_not_finite_are_wrong(network, monkeypatch):
    class Infinite(PyTorchEngine):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            if self.precision == "fp16":
                next(self.model.parameters()).data.fill_(60_000)

    monkeypatch.setattr(parity, "PyTorchEngine", Infinite)
    with pytest.raises(UsageError, match="fp16 does not agree with float32"):
        precision_on(CPU, network, WORK, "fp16")


def test_no_precision_at_all(network, monkeypatch):
    class Noise(PyTorchEngine):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.random = np.random.default_rng("device" in options)

        def __call__(self, clips):
            features, logits = super().__call__(clips)
            return self.random.standard_normal(features.shape), logits

    monkeypatch.setattr(parity, "PyTorchEngine", Noise)
    with pytest.raises(UsageError, match=r"no precision agrees with float32 on cpu .* use another cuDNN, or the CPU"):
        precision_on(CPU, network, WORK, None)


def test_a_gpus_engine_takes_what_was_found(network, monkeypatch):
    monkeypatch.setattr(choice, "_is_gpu", lambda _: True)
    monkeypatch.setattr(parity, "time", clock())
    engine = choice.choose("pytorch").load(network, WORK)
    assert engine.precision == "bf16"
    assert choice.choose("pytorch", "fp32").load(network, WORK).precision == "fp32"
