"""ig65m bench: what it counts; how fast things are is no test's business."""

import json
from functools import partial

import pytest

import ig65m.bench
import ig65m.cli
from ig65m.bench import machine, random_clips, weights_for
from ig65m.engines.base import Work
from ig65m.models.weights import stored_arrays
from ig65m.quantize import quantize
from ig65m.zoo.cards import CARDS
from ig65m.zoo.cost import cost
from ig65m.zoo.files import save_safetensors

pytestmark = pytest.mark.slow


@pytest.fixture
def run(run, monkeypatch):
    """Runs `ig65m bench ARGS` on small measurements: exit code, stdout, stderr."""
    monkeypatch.setattr(ig65m.bench, "SIDE", 64)
    monkeypatch.setattr(ig65m.bench, "SECONDS", 0.001)
    return partial(run, "bench")


def test_every_engine_is_measured(run, bigbuckbunny, tiny_model, has_bf16):
    code, out, err = run(bigbuckbunny, "--model", tiny_model, "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    measured = {(row["engine"].split()[0], row["precision"]) for row in rows}
    every = {("openvino", "fp32"), ("onnxruntime", "fp32"), ("pytorch", "bf16"), ("pytorch", "fp32")}
    assert measured == every | ({("openvino", "bf16")} if has_bf16 else set())
    assert ("OpenVINO has no bf16 on this CPU" in err) != has_bf16
    for row in rows:
        assert min(row[key] for key in ("network", "decode", "both", "limit", "gflops")) > 0
        assert row["machine"] == machine()


def test_int8_is_measured_with_and_without_a_file(run, tmp_path, bigbuckbunny):
    name, file = "r2plus1d_10_camera_motion", tmp_path / "small.safetensors"
    code, out, err = run("--model", name, "--precision", "int8", "--precision", "fp32", "--engine", "openvino", "--json")
    assert code == 0, err
    assert [json.loads(line)["precision"] for line in out.splitlines()] == ["fp32", "int8"]
    assert "quantising on random clips" in err
    card = CARDS[name]
    network = quantize(
        weights_for(name),
        list(random_clips(Work(preprocessing=card.preprocessing, frames=8), 4)),
        Work(preprocessing=card.preprocessing, frames=8),
    )
    save_safetensors(stored_arrays(network), network.card, file)
    code, out, err = run("--model", file, "--json")
    assert code == 0, err
    engines = {json.loads(line)["engine"].split()[0] for line in out.splitlines()}
    assert engines == {"openvino", "onnxruntime"}
    assert "quantising" not in err


def test_the_limit_is_the_arithmetics(run):
    name = "r2plus1d_10_camera_motion"
    code, out, _ = run("--model", name, "--engine", "openvino", "--precision", "fp32", "--threads", "1", "--json")
    assert code == 0
    row = json.loads(out)
    assert row["limit"] == pytest.approx(row["gflops"] * 1e9 / (2 * cost(CARDS[name]).multiply_adds))
    assert (row["threads"], row["decode"], row["both"]) == (1, None, None)


def test_weights_are_not_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path))
    monkeypatch.setenv("IG65M_OFFLINE", "1")
    assert weights_for("r2plus1d_18_8_kinetics").card is CARDS["r2plus1d_18_8_kinetics"]


def test_wrong_use_is_named(run):
    for arguments, message in (
        (("--engine", "x"), "not one of openvino"),
        (("--engine", "onnxruntime", "--precision", "bf16"), "it has fp32"),
        (("--model", "x"), "no model or file named"),
        (("--model", "r2plus1d_34_32_sports1m_kinetics_flow", "--engine", "openvino"), "2 channels of optical flow"),
        (("--model", "r2plus1d_10_camera_motion", "--batch-size", "0"), "from 1 to 1024, got 0"),
        (("none.mp4", "--engine", "openvino", "--model", "r2plus1d_10_camera_motion"), "none.mp4"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert message in err


def test_the_table(run, has_bf16):
    code, out, _ = run("--model", "r2plus1d_10_camera_motion", "--engine", "openvino")
    assert code == 0
    assert out.count("openvino") == 1 + has_bf16
    assert "GFLOP/s" in out
