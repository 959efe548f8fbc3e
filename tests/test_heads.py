"""What stands behind a network's features: several labels at once, two branches, two channels, C3D's layers, or nothing."""

import json
import pickle

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open

import ig65m
from ig65m.checkpoints.identify import fit, infer_spec
from ig65m.checkpoints.vmz import blob_name, state_dict_keys
from ig65m.cli import main
from ig65m.convert import convert
from ig65m.engines.base import Pooling
from ig65m.errors import CheckpointError, ModelError, UsageError
from ig65m.models.network import empty, network, weights_of
from ig65m.models.spec import C3DSpec, ResNetSpec
from ig65m.tasks.scoring import class_scores
from ig65m.zoo.cards import card_for
from ig65m.zoo.files import save_pth, save_safetensors
from ig65m.zoo.load import load_model
from tests.conftest import GOLDEN
from tests.golden import blobs as golden_blobs

pytestmark = pytest.mark.slow

NAME = "tiny_r2plus1d_10"


@pytest.fixture(scope="module")
def blobs(tiny):
    with tiny.open("rb") as file:
        return pickle.load(file, encoding="latin1")["blobs"]


@pytest.fixture(scope="module")
def answers(golden):
    """The golden clip, and Caffe2's features and logits of it."""
    card, arrays = golden(NAME)
    return golden_blobs.clip(card), arrays["features"].reshape(1, -1), arrays["logits"].reshape(1, -1)


def written(blobs, folder, name="checkpoint"):
    path = folder / f"{name}.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    return path


def relative(got, wanted):
    return np.abs(np.asarray(got) - wanted).max() / np.abs(wanted).max()


def outputs(model, clip):
    with torch.inference_mode():
        maps = model.forward_features(torch.from_numpy(clip))
        return model.forward_head(maps, pre_logits=True).numpy(), model.forward_head(maps).numpy()


def session(file):
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


# Of several labels at once.

RNG = np.random.default_rng(0)
SCALE, SHIFT = (RNG.uniform(0.5, 2, 11).astype(np.float32), RNG.normal(size=11).astype(np.float32))
PREDICTION = {"pred_logit_w": SCALE, "pred_logit_b": SHIFT}


def test_several_labels_at_once_convert(blobs, answers, tmp_path):
    clip, features, logits = answers
    done = convert(written(blobs | PREDICTION, tmp_path), tmp_path / "multi", frames=8)
    assert done.card.spec.multi_label
    for file in done.files[:2]:
        got = outputs(load_model(file), clip)
        assert relative(got[0], features) < 1e-5
        assert relative(got[1], logits * SCALE + SHIFT) < 1e-5
    assert relative(session(done.files[2]).run(["logits"], {"clips": clip})[0], logits * SCALE + SHIFT) < 1e-5
    assert {entry.key: entry.value for entry in onnx.load(done.files[2]).metadata_props}["scores"] == "sigmoid"


def test_several_labels_at_once_have_sigmoid_scores(blobs, answers, tmp_path):
    model = load_model(written(blobs | PREDICTION, tmp_path))
    frames = np.random.default_rng(1).integers(0, 256, (8, 128, 171, 3), np.uint8)
    clip = (frames[:, 8:120, 29:141] - np.array([110.201, 100.64, 95.9966])) / np.array([58.1489, 56.4701, 55.3324])
    plain = load_model(written(blobs, tmp_path, "plain"))
    logits = outputs(plain, clip.transpose(3, 0, 1, 2)[None].astype(np.float32))[1][0] * SCALE + SHIFT
    prediction = ig65m.classify(ig65m.Frames(frames, 25.0), model=model, frames=8, top_k=11)
    got = {label.label: label.score for label in prediction.labels}
    for index, logit in enumerate(logits.astype(np.float64)):
        assert got[f"class {index}"] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-4)


def test_the_class_map_has_them_too(blobs, answers, tmp_path):
    clip, _, logits = answers
    model = load_model(written(blobs | PREDICTION, tmp_path))
    with torch.inference_mode():
        maps = model.forward_features(torch.from_numpy(clip))
        whole = model.class_map(maps, tuple(maps.shape[3:])).numpy()
        parts = model.class_map(maps, (2, 2)).numpy()
    assert relative(whole[..., 0, 0, 0], logits * SCALE + SHIFT) < 1e-5
    assert parts.shape[3] == maps.shape[3] - 1
    scores = class_scores(parts[0].reshape(11, -1), multi_label=True)
    np.testing.assert_allclose(scores, (1 / (1 + np.exp(-parts[0].astype(np.float64)))).reshape(11, -1).mean(1), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pred_logit_b": None}, "missing .*'pred_logit_b'"),
        ({"pred_logit_w": None}, "missing .*'pred_logit_w'"),
        ({"pred_logit_w": SCALE[:10]}, r"'?pred_logit_w'? has the shape \(10,\); expected \(11,\)"),
        ({"pred_logit_w": np.ones((11, 11), np.float32)}, r"pred_logit_w'? has the shape \(11, 11\)"),
        ({"pred_logit_s": SCALE}, "'pred_logit_s' .* is unexpected"),
        ({"last_out_L11_w": None}, "missing: .*last_out_L"),
        ({"last_out_L11_w": None, "last_out_L11_b": None}, "missing: .*last_out_L"),
    ],
)
def test_half_a_prediction_is_refused_by_name(change, message, blobs, tmp_path):
    changed = {name: blob for name, blob in (blobs | PREDICTION | change).items() if blob is not None}
    with pytest.raises(CheckpointError, match=message):
        load_model(written(changed, tmp_path))


# Of sound and pictures: VMZ's audio_visual_model.py names the blobs so.

UNSEEN = {
    "a_conv1_w": (16, 1, 3, 3),
    "a_conv1_b": (16,),
    "a_comp_0_conv_1_w": (32, 16, 3, 3),
    "a_comp_0_spatbn_1_riv": (32,),
    "a_shortcut_projection_0_w": (32, 16, 1, 1),
    "a_shortcut_projection_0_spatbn_s": (32,),
    "a_last_out_L11_w": (11, 64),
    "a_last_out_L11_b": (11,),
    "av_fc1_w": (64, 128),
    "av_fc1_b": (64,),
    "av_fc2_w": (64, 64),
    "av_fc2_b": (64,),
    "last_out_L11_w": (11, 64),
    "last_out_L11_b": (11,),
}


def two_branches(blobs, *, head):
    seen = {f"v_{name}": blob for name, blob in blobs.items() if head or not name.startswith("last_out")}
    return seen | {name: np.full(shape, 0.5, np.float32) for name, shape in UNSEEN.items()}


def test_the_branch_that_sees_is_taken(blobs, answers, tmp_path):
    clip, features, logits = answers
    model = load_model(written(two_branches(blobs, head=True), tmp_path))
    got = outputs(model, clip)
    assert relative(got[0], features) < 1e-5
    assert relative(got[1], logits) < 1e-5
    assert model.card.left_out == tuple(UNSEEN)
    model = load_model(written(two_branches(blobs, head=True) | {f"v_{k}": v for k, v in PREDICTION.items()}, tmp_path))
    assert relative(outputs(model, clip)[1], logits * SCALE + SHIFT) < 1e-5


def test_without_a_last_layer_it_gives_features(blobs, answers, tmp_path, monkeypatch, capsys):
    clip, features, _ = answers
    checkpoint = written(two_branches(blobs, head=False), tmp_path)
    monkeypatch.setattr("sys.argv", ["ig65m", "convert", str(checkpoint), str(tmp_path / "seen"), "--frames", "8"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("with no last layer, clips of 8 frames")
    assert lines[1].endswith(
        "(the branch for sound, and the layers that join it): a_... (8 blobs), av_fc1, av_fc2, last_out_L11"
    )
    weights, state_dict, graph = (tmp_path / f"seen{suffix}" for suffix in (".safetensors", ".pth", ".onnx"))
    with safe_open(weights, "pt") as file:
        assert json.loads(file.metadata()["ig65m"])["left_out"] == list(UNSEEN)
    assert load_model(state_dict).card.left_out == tuple(UNSEEN)
    assert [output.name for output in session(graph).get_outputs()] == ["features"]
    assert relative(session(graph).run(None, {"clips": clip})[0], features) < 1e-5
    assert "scores" not in {entry.key for entry in onnx.load(graph).metadata_props}

    model = load_model(weights)
    with torch.inference_mode():
        maps = model.forward_features(torch.from_numpy(clip))
    assert relative(model.forward_head(maps, pre_logits=True).numpy(), features) < 1e-5
    for logits in (lambda: model.forward_head(maps), lambda: model.class_map(maps, (2, 2))):
        with pytest.raises(ModelError, match="features only"):
            logits()
    frames = np.zeros((8, 128, 171, 3), np.uint8)
    assert ig65m.extract(ig65m.Frames(frames, 25.0), model=model).array.shape == (1, 64)
    with pytest.raises(ModelError, match="has no classes"):
        ig65m.classify(ig65m.Frames(frames, 25.0), model=model)


def test_the_whole_list_is_in_json(blobs, tmp_path, monkeypatch, capsys):
    """What is printed beside it is short, however many layers there are."""
    from ig65m.cli.convert import _grouped

    many = tuple(f"last_out_L{n}_w" for n in range(1, 4000))
    assert _grouped(many).endswith("last_out_L6 and 3993 more")
    monkeypatch.setattr("ig65m.convert.export_onnx", lambda model, path: path.touch())  # the slow part, tested above
    monkeypatch.setattr("ig65m.convert._prove", lambda *_: 0.0)
    checkpoint = written(two_branches(blobs, head=True), tmp_path)
    monkeypatch.setattr("sys.argv", ["ig65m", "convert", str(checkpoint), str(tmp_path / "seen"), "--json"])
    with pytest.raises(SystemExit):
        main()
    assert json.loads(capsys.readouterr().out)["card"]["left_out"] == list(UNSEEN)


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v_comp_1_conv_2_w": None}, r"'v_comp_1_conv_2_w'"),
        ({"v_comp_3_spatbn_1_rm": None}, r"missing .*'v_comp_3_spatbn_1_rm'"),
        ({"v_conv1_w": None}, "'v_conv1_w'"),
        ({"v_last_out_L11_w": None}, "missing: .*'v_last_out_L"),
        ({"v_last_out_L11_b": None}, "missing .*'v_last_out_L11_b'"),
        ({"v_last_out_L11_w": None, "v_last_out_L11_b": None, "v_pred_logit_w": SCALE}, "missing: .*'v_last_out_L"),
        ({"v_conv1_spatbn_relu_s": ONE}, r"v_conv1_spatbn_relu_s'? has the shape \(1,\)"),
        ({"v_comp_0_conv_9_w": ONE}, "'v_comp_0_conv_9_w'"),
        ({"x_conv1_w": ONE}, "'x_conv1_w' is unexpected for an audio-visual network"),
        ({"conv1_w": ONE}, "'conv1_w' is unexpected for an audio-visual network"),
        ({"av_fc3_w": ONE}, "'av_fc3_w' is unexpected for an audio-visual network"),
        ({"last_out_L011_w": ONE}, "'last_out_L011_w' is unexpected"),
        ({"a_\x1b[2J": ONE}, r"'a_\\x1b\[2J' has unexpected characters"),
        ({"a_": ONE}, "'a_' is unexpected"),
        ({"a_" + "x" * 101: ONE}, r"'a_x+\.\.\.' is unexpected"),
        ({"a_conv1_w\n": ONE}, r"'a_conv1_w\\n' has unexpected characters"),
    ],
)
def test_blobs_of_two_branches_are_refused_by_name(change, message, blobs, tmp_path):
    changed = {name: blob for name, blob in (two_branches(blobs, head=True) | change).items() if blob is not None}
    with pytest.raises(CheckpointError, match=message) as refusal:
        load_model(written(changed, tmp_path))
    assert str(refusal.value).isprintable()


def test_more_blobs_for_sound_than_any_network_has_are_refused(blobs, tmp_path):
    flood = {f"a_{n}": ONE for n in range(4_000)}
    with pytest.raises(CheckpointError, match=r"contains \d+ blobs; expected at most 4000"):
        load_model(written(two_branches(blobs, head=True) | flood, tmp_path))


# Of optical flow.


def test_two_channels_convert(blobs, answers, tmp_path):
    clip = answers[0]
    third = blobs["conv1_middle_w"][:, 2:]
    checkpoint = written(blobs | {"conv1_middle_w": blobs["conv1_middle_w"][:, :2]}, tmp_path)
    done = convert(checkpoint, tmp_path / "flow", frames=8)
    flow = clip[:, :2]
    got = session(done.files[2]).run(["features", "logits"], {"clips": flow})
    three = load_model(
        written(blobs | {"conv1_middle_w": np.concatenate([blobs["conv1_middle_w"][:, :2], 0 * third], 1)}, tmp_path)
    )
    for a, b in zip(got, outputs(three, clip), strict=True):  # a third channel of no weight
        assert relative(a, b) < 1e-5
    for file in done.files[:2]:
        model = load_model(file)
        assert relative(outputs(model, flow)[1], got[1]) < 1e-5
        with pytest.raises(ModelError, match="2 channels of optical flow"):
            ig65m.classify(ig65m.Frames(np.zeros((8, 128, 171, 3), np.uint8), 25.0), model=model)
    with pytest.raises(ModelError, match=r"shape \(N, 2, T, H, W\), got \(1, 3, 8, "):
        model(torch.from_numpy(clip))


# Of VMZ's own .pth, which have our keys.


@pytest.mark.parametrize("name", ["tiny_r2plus1d_50", "tiny_ip_csn_50"])
def test_a_bare_pth_of_vmz_gives_what_caffe2_gave(name, golden, tmp_path):
    model = load_model(GOLDEN / f"{name}.pkl")
    torch.save(dict(model.state_dict()), tmp_path / "vmz.pth")
    again = load_model(tmp_path / "vmz.pth")
    assert again.spec == model.spec
    assert again.spec.pool1 == (name != "tiny_r2plus1d_50")
    card, arrays = golden(name)
    assert relative(outputs(again, golden_blobs.clip(card))[1], arrays["logits"].reshape(1, -1)) < 1e-5


def test_the_keys_of_152_layers_are_those_of_vmzs_pth():
    """torchvision's Bottleneck with VMZ's Conv2Plus1D, whose middle width is of its own inputs and outputs."""
    spec = ResNetSpec(depth=152, classes=359)
    shapes = {key: tuple(tensor.shape) for key, tensor in empty(spec).state_dict().items()}
    assert shapes["layer2.0.conv2.0.0.weight"] == (128 * 128 * 27 // (128 * 9 + 128 * 3), 128, 1, 3, 3)
    assert shapes["layer3.35.conv3.0.weight"] == (1024, 256, 1, 1, 1)
    assert shapes["layer4.0.downsample.0.weight"] == (2048, 1024, 1, 1, 1)
    assert infer_spec(shapes) == spec


@pytest.mark.parametrize("depth", [18, 34])
def test_torchvisions_middle_widths_under_vmzs_names_are_refused(depth, tmp_path):
    """Their one width for both convolutions of a block is of no network that VMZ has, nor of a deeper one of torchvision."""
    torch.manual_seed(0)
    model = network(ResNetSpec(depth=depth, classes=3, channel_multiplier=0.125, builder="torchvision"))
    spec = model.spec
    stored = {blob_name(key, spec): tensor.numpy() for key, tensor in model.state_dict().items() if not key.endswith("tracked")}
    with pytest.raises(CheckpointError, match=r"are those of torchvision's R\(2\+1\)D-"):
        load_model(written(stored, tmp_path))
    if depth == 34:
        torch.save(dict(model.state_dict()), tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=r"are those of torchvision's R\(2\+1\)D-34"):
            load_model(tmp_path / "x.pth")


# C3D.


@pytest.fixture(scope="module")
def c3d():
    torch.manual_seed(0)
    model = network(C3DSpec(classes=3, multi_label=True)).eval()
    model.card = card_for(model.spec, name="c3d", origin="a test")
    torch.nn.init.normal_(model.pred_logit.weight)
    torch.nn.init.normal_(model.pred_logit.bias)
    return model


def test_c3d_comes_back_from_our_files(c3d, tmp_path):
    state = c3d.state_dict()
    for save, name in ((save_safetensors, "x.safetensors"), (save_pth, "x.pth")):
        save(weights_of(c3d).arrays, c3d.card, tmp_path / name)
        again = load_model(tmp_path / name)
        assert again.card == c3d.card
        assert all(torch.equal(tensor, state[key]) for key, tensor in again.state_dict().items())
        if name == "x.pth":
            torch.save(dict(state), tmp_path / name)
            assert load_model(tmp_path / name).spec == c3d.spec
            for wrong in ({"pool1": True}, {"origin": "torchvision"}, {"origin": "mmaction2"}):
                with pytest.raises(CheckpointError, match="is VMZ's and has no pool1; leave --pool1 and --origin out"):
                    load_model(tmp_path / name, **wrong)
        (tmp_path / name).unlink()


def test_c3d_with_several_labels_at_once(c3d):
    maps = torch.randn(2, 512, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        hidden = torch.relu(maps.flatten(1) @ c3d.fc6.weight.T + c3d.fc6.bias)
        assert relative(c3d.forward_head(maps, pre_logits=True).numpy(), hidden.numpy()) < 1e-5
        logits = torch.relu(hidden @ c3d.fc7.weight.T + c3d.fc7.bias) @ c3d.fc.weight.T + c3d.fc.bias
        wanted = logits * c3d.pred_logit.weight + c3d.pred_logit.bias
        assert relative(c3d.forward_head(maps).numpy(), wanted.numpy()) < 1e-5


@pytest.mark.parametrize("shape", [(1, 3, 8, 112, 112), (1, 3, 16, 128, 112), (1, 2, 16, 112, 112), (3, 16, 112, 112)])
def test_c3d_takes_clips_of_one_size(shape, c3d):
    with pytest.raises(ModelError, match=r"clips of shape \(N, 3, 16, 112, 112\) only, got"):
        c3d(torch.zeros(shape))


def test_c3d_has_no_feature_maps_to_pool(c3d):
    frames = np.zeros((16, 128, 171, 3), np.uint8)
    assert ig65m.extract(ig65m.Frames(frames, 25.0), model=c3d).array.shape == (1, 4096)
    with pytest.raises(UsageError, match="C3D ends in fully connected layers"):
        ig65m.extract(ig65m.Frames(frames, 25.0), model=c3d, pooling=Pooling("max", "mean"))
    with pytest.raises((ModelError, UsageError), match="16"):
        ig65m.extract(ig65m.Frames(frames, 25.0), model=c3d, frames=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1a_w": None}, "missing: 'conv1a_w'"),
        ({"conv3b_b": None}, "missing .*'conv3b_b'"),
        ({"conv5b_bn_riv": None}, "missing .*'conv5b_bn_riv'"),
        ({"fc6_w": None}, "missing .*'fc6_w'"),
        ({"last_out_L400_w": None}, "missing: .*last_out_L"),
        ({"conv6a_w": (1,)}, "'conv6a_w' .* is unexpected"),
        ({"conv1a_bn_w": (64,)}, "'conv1a_bn_w' .* is unexpected"),
        ({"fc8_w": (1,)}, "'fc8_w' .* is unexpected"),
        ({"conv1_w": (64, 3, 3, 7, 7)}, "'conv1_w' .* is unexpected"),
        ({"fc6_w": (4096, 8192)}, r"fc6_w has the shape \(4096, 8192\); expected \(4096, 4608\)"),
        ({"conv1a_w": (64, 4, 3, 3, 3)}, "conv1a_w takes 4 channels"),
        ({"conv1a_w": (64, 3, 3, 3)}, r"conv1a_w has the shape \(64, 3, 3, 3\)"),
        ({"last_out_L400_w": (400, 1)}, r"last_out_L400_w has the shape \(400, 1\)"),
    ],
)
def test_blobs_of_c3d_are_refused_by_name(change, message):
    """By the shapes alone, as read_vmz does before it reads a number."""
    shapes = json.loads((GOLDEN / "c3d_16.json").read_text())["blobs"] | change
    shapes = {name: tuple(shape) for name, shape in shapes.items() if shape is not None}

    def recognise():
        keys = state_dict_keys(shapes)
        fit({key: shapes[name] for name, key in keys.items()}, {key: name for name, key in keys.items()}, blob_name)

    with pytest.raises(CheckpointError, match=message):
        recognise()
