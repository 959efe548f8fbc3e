"""Every engine gives what the network gives in PyTorch, whatever its neighbours in the batch."""

import os
import subprocess
import sys

import numpy as np
import openvino
import pytest
import torch

import ig65m
from ig65m.engines import openvino as openvino_engine
from ig65m.engines.base import Pooling, Work
from ig65m.engines.choice import PRECISIONS, choose
from ig65m.engines.graph import graph_of
from ig65m.errors import ModelError, UsageError
from ig65m.models.network import weights_of
from ig65m.types import Preprocessing
from ig65m.zoo.load import load_model
from tests.conftest import GOLDEN
from tests.golden import blobs

pytestmark = pytest.mark.slow

MEAN, STD = (110.201, 100.64, 95.9966), (58.1489, 56.4701, 55.3324)
SMALL = Preprocessing(resize=(64, 72), crop=(64, 72), mean=MEAN, std=STD)
HERE = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")  # another processor's precisions cannot be run
PAIRS = [  # int8 is of other networks: test_quantize.py
    (engine, precision)
    for engine, those in PRECISIONS.items()
    for precision in those
    if precision != "int8" and (engine != "openvino" or precision.upper() in HERE)
]
BOUNDS = {"fp32": 1e-5, "bf16": 3e-2, "fp16": 3e-3}  # of the largest logit; a narrow network averages little out


@pytest.fixture(scope="module", params=["tiny_r2plus1d_10", "tiny_ip_csn_50"])
def network(request):
    return load_model(GOLDEN / f"{request.param}.pkl")


def pixels(frames, count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, frames, 64, 72, 3), dtype=np.uint8)


def normalised(clips):
    x = torch.from_numpy(clips.astype(np.float64)).permute(0, 4, 1, 2, 3)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1, 1) for values in (MEAN, STD))
    return ((x - mean) / std).float()


def relative(got, wanted):
    return np.abs(got - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize(("engine", "precision"), PAIRS)
@pytest.mark.parametrize("frames", [8, 3])
def test_features_and_logits(network, engine, precision, frames):
    clips = pixels(frames)
    with torch.inference_mode():
        maps = network.forward_features(normalised(clips))
        features, logits = network.forward_head(maps, pre_logits=True).numpy(), network.forward_head(maps).numpy()
    run = choose(engine, precision).load(weights_of(network), Work(preprocessing=SMALL, frames=frames, batch_size=3))
    assert (run.precision, run.device) == (precision, "cpu")
    got_features, got_logits = run(clips)
    assert got_features.dtype == got_logits.dtype == np.float32
    assert relative(got_features, features) < BOUNDS[precision]
    assert relative(got_logits, logits) < BOUNDS[precision]
    cosine = (got_features * features).sum(1) / np.linalg.norm(got_features, axis=1) / np.linalg.norm(features, axis=1)
    assert cosine.min() > 0.9999


@pytest.mark.parametrize("engine", PRECISIONS)
def test_the_original_answers(golden, engine):
    """Caffe2's own, on a clip that is in its units already: pictures of floats, and a mean of 0."""
    card, answers = golden("tiny_r2plus1d_10")
    network = load_model(GOLDEN / "tiny_r2plus1d_10.pkl")
    plain = Preprocessing(resize=(112, 112), crop=(112, 112), mean=(0, 0, 0), std=(1, 1, 1), resampling="float_bilinear")
    clip = np.ascontiguousarray(blobs.clip(card).transpose(0, 2, 3, 4, 1))
    features, logits = choose(engine).load(weights_of(network), Work(preprocessing=plain, frames=8))(clip)
    assert relative(features, answers["features"].reshape(features.shape)) < 1e-5
    assert relative(logits, answers["logits"]) < 1e-5


@pytest.mark.parametrize(("engine", "precision"), PAIRS)
def test_neighbours_and_the_filling_of_a_batch_do_not_matter(network, engine, precision):
    run = choose(engine, precision).load(weights_of(network), Work(preprocessing=SMALL, frames=8, batch_size=4))
    clips = pixels(8, count=4, seed=1)
    whole, few = run(clips)[0], run(clips[:2])[0]
    assert len(few) == 2
    np.testing.assert_array_equal(few, whole[:2])
    mixed = run(np.concatenate([clips[:1], pixels(8, count=3, seed=9)]))[0]
    np.testing.assert_array_equal(mixed[0], whole[0])


@pytest.mark.parametrize("engine", PRECISIONS)
@pytest.mark.parametrize(
    ("pooling", "reference"),
    [
        (Pooling("max", "mean"), lambda maps: maps.amax((3, 4)).mean(2)),
        (Pooling("none", "max"), lambda maps: maps.amax(2)),
        (Pooling("none", "none"), lambda maps: maps),
    ],
)
def test_pooling(engine, pooling, reference):
    network = load_model(GOLDEN / "tiny_r3d_10.pkl")
    clips = pixels(11)
    with torch.inference_mode():
        wanted = reference(network.forward_features(normalised(clips))).numpy()
    work = Work(preprocessing=SMALL, frames=11, batch_size=3, pooling=pooling)
    got, _ = choose(engine).load(weights_of(network), work)(clips)
    assert got.shape == wanted.shape
    assert relative(got, wanted) < 1e-5


@pytest.mark.parametrize("engine", PRECISIONS)
def test_class_maps(engine):
    network = load_model(GOLDEN / "tiny_r2plus1d_10.pkl")
    clips = pixels(8)
    with torch.inference_mode():
        maps = network.forward_features(normalised(clips))
        places = [maps[..., y : y + 3, x : x + 4].mean((2, 3, 4)) for y in (0, 1) for x in (0, 1)]
        wanted = torch.stack([network.fc(place) for place in places], 2).numpy()
    work = Work(preprocessing=SMALL, frames=8, batch_size=3, window=(3, 4))
    _, logits = choose(engine).load(weights_of(network), work)(clips)
    assert logits.shape == (3, 11, 4)
    assert relative(logits, wanted) < 1e-5


def test_the_graph_has_no_dead_nodes_and_no_batch_norms(network):
    graph = graph_of(weights_of(network), Work(preprocessing=SMALL, frames=8)).graph
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    assert {name for node in graph.node for name in node.output} <= used
    assert {weight.name for weight in graph.initializer} <= used
    assert {node.op_type for node in graph.node}.isdisjoint({"BatchNormalization", "Identity", "Constant"})
    convolutions = sum(isinstance(module, torch.nn.Conv3d) for module in network.modules())
    assert sum(node.op_type == "Conv" for node in graph.node) == convolutions


@pytest.mark.parametrize("engine", PRECISIONS)
def test_numbers_that_are_not_finite_are_an_error(engine):
    network = load_model(GOLDEN / "tiny_r2plus1d_10.pkl")
    with torch.no_grad():
        network.fc.weight.fill_(3e38)
    with pytest.raises(ModelError, match="not finite"):
        choose(engine).load(weights_of(network), Work(preprocessing=SMALL, frames=8))(pixels(8, count=1))


def test_what_there_is_not_is_named():
    for arguments, message in (
        (("tensorrt",), "not one of openvino, onnxruntime, pytorch"),
        (("onnxruntime", "bf16"), "has no precision 'bf16'; it has fp32, int8; use openvino, pytorch for bf16"),
        (("openvino", "int4"), "it has fp32, bf16, fp16, int8"),
        ((None, None, "cuda:7"), "this machine has no cuda:7; it has cpu"),
        ((None, None, "cpu", 0), "from 1 to 1024, got 0"),
    ):
        with pytest.raises(UsageError, match=message):
            choose(*arguments)


def test_a_precision_that_the_processor_lacks_is_named(monkeypatch):
    class Core:
        def get_property(self, device, name):
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino_engine.openvino, "Core", Core)
    with pytest.raises(UsageError, match="no bf16 on this CPU, it has fp32"):
        openvino_engine.compiled(b"", "bf16", None)


def test_a_machine_that_traps_amx_is_found_out(monkeypatch):
    """Another process that dies of an illegal instruction stands for the machine."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(openvino_engine, "announces_amx", lambda: True)
    monkeypatch.setattr(openvino_engine, "_PROBE", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    monkeypatch.setattr(openvino_engine, "_started", True)
    with pytest.raises(UsageError, match="restart with ONEDNN_MAX_CPU_ISA=AVX512_CORE_FP16"):
        openvino_engine.avoid_amx()
    monkeypatch.setattr(openvino_engine, "_started", False)
    openvino_engine.avoid_amx()
    assert openvino_engine.os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE_FP16"
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(openvino_engine, "_PROBE", "pass")
    openvino_engine.avoid_amx()
    assert "ONEDNN_MAX_CPU_ISA" not in openvino_engine.os.environ


def test_what_was_chosen_is_reported(bigbuckbunny, tiny_model):
    said = []
    features = {}
    for engine in PRECISIONS:
        result = ig65m.extract(bigbuckbunny, model=tiny_model, end=1.0, engine=engine, threads=1, on_engine=said.append)
        features[engine] = result.array
        assert result.model["precision"] == "fp32"
    assert [line.split()[0] for line in said] == list(PRECISIONS)
    assert all(line.endswith("fp32, cpu, 1 thread") for line in said)
    assert relative(features["openvino"], features["pytorch"]) < 1e-5
    assert relative(features["onnxruntime"], features["pytorch"]) < 1e-5


def test_openvino_reports_to_nobody(tmp_path):
    """Left alone, importing it forks a process that sends an event, and leaves an identifier in the home folder."""
    code = """
import os, sys
sys.addaudithook(lambda event, args: print(event) if event in ("os.fork", "socket.connect") else None)
import ig65m.engines.openvino, ig65m.quantize, nncf
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("CI", None)  # where it keeps quiet
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


SIGNALS = """
import os, signal, threading
import numpy as np
import ig65m

signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
video = ig65m.Frames(np.zeros((20, 64, 64, 3), np.uint8), 25)
extractors = [ig65m.Extractor("r2plus1d_10_camera_motion", in_process=True) for _ in range(3)]
for extractor in extractors:
    extractor.extract(video)
del extractor, extractors[0], extractors[0]
thread = threading.Thread(target=extractors.clear)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_signals_are_handled_after_engines_have_ended():
    """An instance of OpenVINO leaves a stack for signal handlers behind, which must not be freed."""
    done = subprocess.run([sys.executable, "-c", SIGNALS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
