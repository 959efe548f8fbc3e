"""int8 is what NNCF made of the network, near float32, and survives its file."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import nncf
import numpy as np
import openvino
import pytest
import torch

import ig65m
import ig65m.cli
from ig65m.engines.base import Work
from ig65m.engines.choice import choose
from ig65m.errors import CheckpointError, ModelError, UsageError
from ig65m.models.network import network as build_network
from ig65m.models.network import network_of, weights_of
from ig65m.models.spec import C3DSpec
from ig65m.models.weights import stored_arrays
from ig65m.quantize import MIN_COSINE, MIN_SAME, Agreement, agreement, quantize, split, spread
from ig65m.types import Preprocessing
from ig65m.video.clips import clips_of
from ig65m.video.sample_reader import read_samples
from ig65m.video.sampling import Sampling
from ig65m.zoo.cards import card_for
from ig65m.zoo.files import read_safetensors, save_safetensors
from ig65m.zoo.load import load_model, load_weights
from tests.conftest import GOLDEN

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))
from synthetic_motion import draw_moves, make

pytestmark = pytest.mark.slow

MOVES = "r2plus1d_10_camera_motion"
SMALL = Preprocessing(resize=(48, 56), crop=(48, 56), mean=(110.201, 100.64, 95.9966), std=(58.1489, 56.4701, 55.3324))
TINY = ["tiny_r2plus1d_10", "tiny_r2plus1d_50", "tiny_r3d_10", "tiny_ip_csn_50", "tiny_ir_csn_50"]


def pixels(count, frames=8, size=(48, 56)):
    """Clips of smooth moving colours, (T, H, W, 3) uint8."""
    random = np.random.default_rng(7)
    coarse = torch.from_numpy(random.uniform(0, 255, (count, 3, frames, 4, 4)).astype(np.float32))
    fine = torch.nn.functional.interpolate(coarse, (frames, *size), mode="trilinear")
    return list(fine.round().to(torch.uint8).permute(0, 2, 3, 4, 1).numpy())


def in_pytorch(network, clips, preprocessing):
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    with torch.inference_mode():
        x = (torch.from_numpy(np.stack(clips)).float().permute(0, 4, 1, 2, 3) - mean) / std
        maps = network.forward_features(x)
        return network.forward_head(maps, pre_logits=True).numpy(), network.forward_head(maps).numpy()


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def camera_motion():
    return load_weights(MOVES)


def move_clips(network, folder, seed, each):
    card = network.card
    sampling = Sampling(frames=card.frames, frame_step=card.frame_step)
    for index, move in enumerate(draw_moves(seed=seed, each=each, sizes=((352, 288), (360, 480)))):
        video = folder / f"{seed}-{index}.mp4"
        make(move, video)
        for clip in clips_of(read_samples(video, sampling, card.preprocessing), sampling):
            yield clip.pixels


@pytest.fixture(scope="module")
def small(camera_motion):
    """The camera-motion network in int8, calibrated on the bundled clip."""
    card = camera_motion.card
    sampling = Sampling(frames=card.frames, frame_step=card.frame_step)
    video = Path(ig65m.__file__).parent / "demo" / "clip.mp4"
    clips = [clip.pixels for clip in clips_of(read_samples(video, sampling, card.preprocessing), sampling)]
    return quantize(camera_motion, clips, Work(preprocessing=card.preprocessing, frames=card.frames))


def test_a_trained_network_stays_itself(camera_motion, tmp_path):
    """Real weights; calibrated on some camera moves, measured on others."""
    work = Work(preprocessing=camera_motion.card.preprocessing, frames=camera_motion.card.frames)
    quantized = quantize(camera_motion, list(move_clips(camera_motion, tmp_path, 11, 2)), work)
    found = agreement(camera_motion, quantized, list(move_clips(camera_motion, tmp_path, 12, 6)), work)
    assert found.clips >= 100
    assert found.cosine >= 0.99
    assert found.least_cosine >= 0.98
    assert found.same is not None
    assert found.same >= 0.97


@pytest.fixture(params=[*TINY, "c3d"])
def network(request, tmp_path):
    """Networks of every kind of convolution; C3D with random weights."""
    if request.param != "c3d":
        return load_weights(GOLDEN / f"{request.param}.pkl"), SMALL, 8
    torch.manual_seed(0)
    model = build_network(C3DSpec(classes=5)).eval()
    model.card = card_for(model.spec, name="c3d", origin="random")
    return weights_of(model), replace(SMALL, resize=(112, 112), crop=(112, 112)), 16


def test_it_is_what_nncf_made(network, monkeypatch):
    """NNCF's own graph in OpenVINO, against our int8 graph there, in ONNX Runtime, and the network in PyTorch."""
    made = []
    original = nncf.quantize
    monkeypatch.setattr(nncf, "quantize", lambda *args, **options: made.append(original(*args, **options)) or made[0])
    weights, preprocessing, frames = network
    clips = pixels(3, frames, preprocessing.crop)
    work = Work(preprocessing=preprocessing, frames=frames)
    before = weights.sha256
    quantized = quantize(weights, clips, work)
    assert replace(weights).sha256 == before  # computed again
    assert quantized.quantization.steps.keys() == {
        path
        for path, module in network_of(weights).named_modules()
        if isinstance(module, torch.nn.Conv3d) and module.groups == 1
    }
    theirs = openvino.compile_model(made[0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    wanted = [theirs({"pixels": clip[None]}) for clip in clips]
    features = np.concatenate([each["features"] for each in wanted])
    logits = np.concatenate([each["logits"] for each in wanted])
    whole = replace(work, batch_size=len(clips))
    for engine in ("openvino", "onnxruntime"):
        run = choose(engine).load(quantized, whole)
        assert run.precision == "int8"
        got = run(np.stack(clips))
        assert cosine(got[0], features).min() > 0.998
        assert np.abs(got[1] - logits).max() < 0.1 * np.abs(logits).max()
    assert cosine(in_pytorch(network_of(quantized), clips, preprocessing)[0], features).min() > 0.998


def test_its_file_is_small_and_the_same_network(small, tmp_path):
    file = tmp_path / "small.safetensors"
    save_safetensors(stored_arrays(small), small.card, file)
    again = load_model(file)
    assert weights_of(again).sha256 == small.sha256 != load_weights(MOVES).sha256
    assert again.card == small.card
    assert not again.training
    clips = pixels(3, small.card.frames, small.card.preprocessing.crop)
    for got, wanted in zip(
        *(in_pytorch(each, clips, small.card.preprocessing) for each in (again, network_of(small))), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)
    embedded = Path(ig65m.__file__).parent / "zoo" / "weights" / f"{MOVES}.safetensors"
    assert file.stat().st_size < 0.6 * embedded.stat().st_size  # which is of float16


def test_other_frames_pooling_and_batches_are_free(small):
    clips = pixels(5, 12, small.card.preprocessing.crop)
    work = Work(preprocessing=small.card.preprocessing, frames=12, batch_size=4)
    run = choose().load(small, work)
    features = run(np.stack(clips[:4]))[0]
    np.testing.assert_array_equal(run(np.stack(clips[:2]))[0], features[:2])
    assert cosine(in_pytorch(network_of(small), clips[:4], small.card.preprocessing)[0], features).min() > 0.998


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("stem.0.steps"), "stem.0.weight is int8"),
        (lambda tensors: tensors.pop("stem.0.bias"), "'stem.0.bias' are missing"),
        (lambda tensors: tensors.update(x=np.zeros(1, np.float32)), "'x' are missing or unexpected"),
        (lambda tensors: tensors["stem.0.steps"].fill(3e38), "stem.0.weight contains numbers that are not finite"),
        (lambda tensors: tensors.update({"stem.0.range.steps": tensors["stem.0.steps"]}), "'stem.0.range.steps'"),
        (lambda tensors: tensors["stem.0.weight"].fill(-128), "the number -128; expected -127 to 127"),
        (lambda tensors: tensors.pop("input.range"), "input.range is missing"),
        (lambda tensors: tensors.update({"nowhere.range": np.zeros(2, np.float32)}), "'nowhere.range'"),
        (lambda tensors: tensors["stem.0.steps"].fill(0), "expected 45 positive float32 numbers|positive float32"),
        (lambda tensors: tensors["stem.0.steps"].fill(float("nan")), "positive float32"),
        (lambda tensors: tensors["stem.0.bias"].fill(float("inf")), "stem.0.bias contains numbers that are not finite"),
        (lambda tensors: tensors.update({"stem.2.range": np.array([1, 2], np.float32)}), "is 1.0 to 2.0"),
        (lambda tensors: tensors.update({"stem.2.range": np.array([0, np.inf], np.float32)}), "expected a finite range"),
        (lambda tensors: tensors.update({"stem.2.range": np.zeros(3, np.float32)}), "expected two float32 numbers"),
        (lambda tensors: tensors.update({"fc.weight": np.zeros((2, 2), np.float32)}), "fc.weight is float32"),
        (lambda tensors: tensors.update({"stem.0.weight": np.zeros(1, np.int8)}), "stem.0.weight is int8"),
    ],
)
def test_broken_files_are_reported(small, tmp_path, change, message):
    tensors = {key: np.copy(array) for key, array in stored_arrays(small).items()}
    change(tensors)
    file = tmp_path / "broken.safetensors"
    save_safetensors(tensors, small.card, file)
    with pytest.raises(CheckpointError, match=message):
        load_model(file)


def test_a_file_without_a_card_is_reported(small, tmp_path):
    import safetensors.numpy

    file = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file(dict(stored_arrays(small)), file)
    with pytest.raises(CheckpointError, match="is in int8 without a card"):
        load_model(file)
    assert read_safetensors(file)[1] is None


def test_a_precision_that_the_network_does_not_have(small, camera_motion):
    work = Work(preprocessing=SMALL, frames=8)
    for network, arguments, message in (
        (small, ("openvino", "bf16"), "this network is in int8; for bf16 use the one that it was quantised from"),
        (small, ("pytorch",), "pytorch cannot run this int8 network; use openvino, onnxruntime"),
        (camera_motion, ("openvino", "int8"), "make an int8 model with `ig65m quantize`"),
    ):
        with pytest.raises(UsageError, match=message):
            choose(*arguments).load(network, work)
    with pytest.raises(ModelError, match="already in int8"):
        quantize(small, pixels(4), work)


def test_clips_are_spread_and_held_out():
    assert spread(range(7), 4) == list(range(7))
    assert spread(range(8), 4) == [0, 2, 4, 6]
    assert spread(range(1000), 10) == list(range(0, 1000, 64))
    assert split(list(range(9))) == ([0, 1, 2, 4, 5, 6, 8], [3, 7])
    with pytest.raises(UsageError, match="the videos have 3 clips"):
        split([0, 1, 2])


def test_the_bounds():
    assert Agreement(9, MIN_COSINE, 0.5, MIN_SAME).enough
    assert Agreement(9, MIN_COSINE, 0.5, None).enough
    assert not Agreement(9, MIN_COSINE - 1e-6, 0.5, 1.0).enough
    assert not Agreement(9, 1.0, 1.0, MIN_SAME - 1e-6).enough


def test_the_command(run, tmp_path, bigbuckbunny, bikes):
    file = tmp_path / "small.safetensors"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(bikes.read_bytes()[:1000])
    code, out, err = run("quantize", MOVES, bikes, broken, bigbuckbunny, "--output", file, "--json", "--clips", 20)
    assert code == 3
    assert "broken.mp4" in err
    assert "held-out clips are few" in err
    record = json.loads(out)
    assert record["agreement"]["cosine"] > 0.99
    assert len(record["failures"]) == 1
    code, out, err = run("classify", bigbuckbunny, "--model", file)
    assert code == 0
    assert "int8, cpu" in err
    assert "static" in out
    features = ig65m.extract(bigbuckbunny, model=file, logits=True)
    assert features.model["precision"] == "int8"
    assert features.model["name"] == "small"
    assert cosine(features.array, ig65m.extract(bigbuckbunny, model=MOVES).array).min() > 0.99
    code, _, err = run("quantize", MOVES, bikes, "--output", file)
    assert (code, "already there" in err) == (2, True)
    code, _, err = run("quantize", file, bikes, "--output", file, "--overwrite")
    assert (code, "the model itself" in err) == (2, True)
    code, _, err = run("convert", file, tmp_path / "out")
    assert (code, "is in int8; convert the model that it was quantised from" in err) == (2, True)


def test_int8_that_is_too_far_is_refused(run, monkeypatch, tmp_path, bikes):
    monkeypatch.setattr("ig65m.quantize.MIN_COSINE", 1.0)
    file = tmp_path / "small.safetensors"
    code, _, err = run("quantize", MOVES, bikes, "--output", file)
    assert code == 1
    assert "too far from float32, nothing was written: cosine of features 0.99" in err
    assert not list(tmp_path.iterdir())
    code, out, _ = run("quantize", MOVES, bikes, "--output", file, "--force")
    assert code == 0
    assert "cosine of features 0.99" in out
    assert file.exists()


def test_wrong_use_is_reported(run, tmp_path, bikes):
    for arguments, message in (
        ((MOVES, bikes, "--output", tmp_path / "x.onnx"), "must end in .safetensors"),
        ((MOVES, bikes, "--output", tmp_path / "x.safetensors", "--clips", 3), "at least 4 clips, got --clips 3"),
        ((MOVES, tmp_path / "none.mp4", "--output", tmp_path / "x.safetensors"), "none.mp4"),
        (("none", bikes, "--output", tmp_path / "x.safetensors"), "no model or file named"),
    ):
        code, out, err = run("quantize", *arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert not list(tmp_path.iterdir())


def test_without_nncf_it_says_what_to_install(monkeypatch, camera_motion):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UsageError, match="pip install 'ig65m\\[quantize\\]'"):
        quantize(camera_motion, pixels(4), Work(preprocessing=SMALL, frames=8))
