"""CSN networks in mmaction2's layout: the same function as there, and never without saying whose they are."""

import json
import pickle

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ig65m.convert import convert
from ig65m.errors import CheckpointError
from ig65m.zoo.load import load_model
from tests.conftest import GOLDEN
from tests.mmaction_nets import random_csn

pytestmark = pytest.mark.slow

# As their configurations have it for what mmaction2 trained itself, and VMZ's.
MMACTION2 = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
VMZ = ((110.201, 100.64, 95.9966), (58.1489, 56.4701, 55.3324))


def clip(frames, size=64, seed=0):
    return torch.randn(1, 3, frames, size, size, generator=torch.Generator().manual_seed(seed))


def relative(got, wanted):
    got, wanted = (np.asarray(value, np.float64) for value in (got, wanted))
    return np.abs(got - wanted).max() / np.abs(wanted).max()


def both(ours, theirs, x):
    with torch.inference_mode():
        return relative(ours(x), theirs(x))


@pytest.fixture(scope="module", params=["ir", "ip"])
def theirs(request, tmp_path_factory):
    model = random_csn(request.param)
    path = tmp_path_factory.mktemp("mmaction2") / f"{request.param}csn.pth"
    torch.save({"meta": {"epoch": 58, "CLASSES": None}, "state_dict": model.state_dict()}, path)
    return model, path


@pytest.mark.parametrize("frames", [32, 6, 3])
def test_their_logits(theirs, frames):
    model, path = theirs
    ours = load_model(path, origin="mmaction2")
    assert (ours.spec.builder, ours.spec.pool1, ours.spec.architecture) == ("mmaction2", True, f"{path.stem[:2]}_csn")
    assert both(ours, model, clip(frames)) < 1e-5


def test_short_clips_are_where_they_differ_from_vmz(theirs):
    model, path = theirs
    ours = load_model(path, origin="vmz")
    assert both(ours, model, clip(6)) < 1e-5  # a port of VMZ's is run by mmaction2's network all the same
    ours.spec = load_model(GOLDEN / f"tiny_{path.stem[:2]}_csn_50.pkl").spec
    assert both(ours, model, clip(6)) > 1e-4
    assert both(ours, model, clip(8)) < 1e-5


@pytest.mark.parametrize(("mode", "depth"), [("ir", 152), ("ip", 50)])
def test_of_full_width(mode, depth, tmp_path):
    model = random_csn(mode, depth, width=64, classes=400)
    torch.save(model.state_dict(), tmp_path / "csn.pth")  # without a wrapping
    ours = load_model(tmp_path / "csn.pth", origin="vmz")
    assert (ours.spec.depth, ours.spec.classes, ours.spec.channel_multiplier) == (depth, 400, 1)
    assert both(ours, model, clip(8)) < 1e-5


@pytest.mark.parametrize("name", ["tiny_ir_csn_50", "tiny_ip_csn_50"])
def test_a_port_of_vmzs_gives_what_caffe2_gave(name, golden, tmp_path):
    """Blobs under mmaction2's names, by way of their order: both go stem, blocks, and in each conv1, 2, 3, shortcut."""
    with (GOLDEN / f"{name}.pkl").open("rb") as file:
        blobs = pickle.load(file, encoding="latin1")["blobs"]
    model = random_csn(name[5:7], classes=11)
    state, numbers = model.state_dict(), {"ir": ("1", "3", "4"), "ip": ("1", "2", "3")}[name[5:7]]
    component = -1
    leaves = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    for key in state:
        place, _, leaf = key.removeprefix("backbone.").rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        part = place.split(".")
        if place.startswith("layer"):
            component += key.endswith("conv1.conv.weight")
            if part[2] == "downsample":
                blob = f"shortcut_projection_{component}" + ("_spatbn" if part[-1] == "bn" else "")
            else:
                middle = "_middle" if name[5:7] == "ip" and part[2:4] == ["conv2", "0"] else ""
                kind = {"conv": "conv", "bn": "spatbn"}[part[-1]]
                blob = f"comp_{component}_{kind}_{numbers[int(part[2][-1]) - 1]}{middle}"
        else:
            blob = {"conv1.conv": "conv1", "conv1.bn": "conv1_spatbn_relu", "cls_head.fc_cls": "last_out_L11"}[place]
        suffix = leaves[leaf] if part[-1] == "bn" else leaf[0]
        state[key] = torch.from_numpy(blobs[f"{blob}_{suffix}"])
    torch.save(state, tmp_path / "port.pth")
    card, answers = golden(name)
    x = np.random.RandomState(card["seed"]).randn(1, 3, card["frames"], card["crop"], card["crop"]).astype(np.float32)
    with torch.inference_mode():
        logits = load_model(tmp_path / "port.pth", origin="vmz")(torch.from_numpy(x))
    assert relative(logits, answers["logits"].reshape(logits.shape)) < 1e-5


def test_whose_weights_they_are_must_be_said(theirs):
    path = theirs[1]
    with pytest.raises(CheckpointError, match=r"by VMZ, or by mmaction2.*--origin vmz.*--origin mmaction2"):
        load_model(path)
    with pytest.raises(CheckpointError, match=r"torchvision does not use these names; say .*--origin vmz.*--origin mmaction2"):
        load_model(path, origin="torchvision")
    for origin, (mean, std) in (("vmz", VMZ), ("mmaction2", MMACTION2)):
        card = load_model(path, origin=origin).card
        preprocessing = card.preprocessing
        assert (preprocessing.mean, preprocessing.std) == (mean, std)
        assert (preprocessing.resize, preprocessing.crop, card.frame_step, card.frames) == (256, (224, 224), 2, None)
    with pytest.raises(CheckpointError, match="it is a network of VMZ, not of mmaction2; leave --origin out"):
        load_model(GOLDEN / "tiny_ir_csn_50.pkl", origin="mmaction2")


def test_converted_they_are_the_same_function_and_ask_nothing(tmp_path):
    model = random_csn("ir")
    torch.save(model.state_dict(), tmp_path / "theirs.pth")
    done = convert(tmp_path / "theirs.pth", tmp_path / "ours", frames=6, origin="mmaction2")
    x = clip(6)
    for file in done.files[:2]:
        ours = load_model(file)
        assert (ours.card.preprocessing.mean, ours.spec.builder, ours.card.frame_step) == (MMACTION2[0], "mmaction2", 2)
        assert both(ours, model, x) < 1e-5
    with pytest.raises(CheckpointError, match="leave --pool1 and --origin out"):
        load_model(done.files[0], origin="vmz")
    session = onnxruntime.InferenceSession(done.files[2], providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        assert relative(session.run(["logits"], {"clips": x.numpy()})[0], model(x)) < 1e-5
    facts = {entry.key: entry.value for entry in onnx.load(done.files[2]).metadata_props}
    assert (json.loads(facts["mean"]), json.loads(facts["std"])) == tuple(list(values) for values in MMACTION2)


REDUCTION, DEPTHWISE = "backbone.layer1.0.conv2.0.conv.weight", "backbone.layer1.0.conv2.1.conv.weight"


@pytest.mark.parametrize("mode", ["ir", "ip"])
@pytest.mark.parametrize(
    "name",
    ["backbone.conv1.conv.weight", "backbone.conv1.bn.running_var", REDUCTION, DEPTHWISE, "backbone.layer1.0.conv3.conv.weight",
     "backbone.layer2.1.conv2.0.bn.bias", "backbone.layer4.2.conv2.1.bn.bias", "backbone.layer3.0.downsample.conv.weight",
     "backbone.layer4.0.conv2.0.conv.weight", "cls_head.fc_cls.weight", "cls_head.fc_cls.bias"],
)  # fmt: skip
def test_what_is_missing_or_misshaped_goes_by_their_name(mode, name, tmp_path):
    state = random_csn(mode).state_dict()
    if name not in state:
        assert (mode, name.split(".")[-3]) == ("ir", "1")  # conv2.1 is ip-CSN's
        return
    path = tmp_path / "damaged.pth"
    torch.save({key: tensor for key, tensor in state.items() if key != name}, path)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")) as refusal:
        load_model(path, origin="vmz")
    assert str(path) in str(refusal.value)
    torch.save(state | {name: state[name][..., None]}, path)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_model(path, origin="vmz")
    torch.save(state | {name: torch.full_like(state[name], torch.nan)}, path)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.") + ".*not finite"):
        load_model(path, origin="vmz")


@pytest.mark.parametrize(
    "name",
    ["backbone.layer5.0.conv1.conv.weight", "backbone.layer1.9.conv1.conv.weight", "backbone.layer1.00.conv1.conv.weight",
     "backbone.layer1.0.conv1.conv.bias", "backbone.layer1.0.conv2.1.bn.junk", "backbone.layer1.0.conv2.conv.weight",
     "backbone.conv1.conv.bias", "cls_head.fc_cls.scale", "cls_head.fc_loc.weight", "stem.0.weight", "fc.weight",
     "layer1.0.conv1.0.weight", "backbone.\x1b[2J", "", "backbone."],
)  # fmt: skip
def test_what_is_too_much_is_named(name, tmp_path):
    """Among them our own names: no tensor may be there twice."""
    state = random_csn("ip").state_dict()
    torch.save(state | {name: state["cls_head.fc_cls.weight"]}, tmp_path / "more.pth")
    with pytest.raises(CheckpointError) as refusal:
        load_model(tmp_path / "more.pth", origin="vmz")
    assert ascii(name)[1:-1] in str(refusal.value)
    assert str(refusal.value).isprintable()


def test_their_other_networks_are_refused(tmp_path):
    state = random_csn("ir").state_dict()
    plain = {key.replace("conv2.0.", "conv2."): tensor for key, tensor in state.items()}  # as in SlowOnly and I3D
    torch.save(plain, tmp_path / "i3d.pth")
    with pytest.raises(CheckpointError, match=r"missing for a CSN network of mmaction2: .*layer1\.0\.conv2\.0"):
        load_model(tmp_path / "i3d.pth", origin="mmaction2")
    for key in [key for key in state if key.endswith("conv2.0.conv.weight")]:
        state[key] = state[key].repeat(1, len(state[key]), 1, 1, 1)  # dense
    torch.save(state, tmp_path / "dense.pth")
    with pytest.raises(CheckpointError, match="mmaction2's names for CSN, but are those of R3D-50"):
        load_model(tmp_path / "dense.pth", origin="mmaction2")


def test_without_their_head_there_are_features_only(tmp_path):
    model = random_csn("ir")
    torch.save({key: value for key, value in model.state_dict().items() if "cls_head" not in key}, tmp_path / "backbone.pth")
    ours = load_model(tmp_path / "backbone.pth", origin="mmaction2")
    assert ours.spec.classes == 0
    with torch.inference_mode():
        features = ours.forward_head(ours.forward_features(clip(16)), pre_logits=True)
        assert relative(features, model.backbone(clip(16)).mean((2, 3, 4))) < 1e-5


def test_only_the_wrapped_state_dict_is_read(theirs, tmp_path):
    state = theirs[0].state_dict()
    torch.save({"state_dict": state, "optimizer": {"state": {0: torch.zeros(3)}}, "meta": {"x": 1}}, tmp_path / "x.pth")
    assert load_model(tmp_path / "x.pth", origin="vmz").spec.classes == 7
    for inner in ({}, {"state_dict": state}, {5: state["backbone.conv1.conv.weight"]}, {"x": "y"}):
        torch.save({"state_dict": inner}, tmp_path / "x.pth")
        with pytest.raises(CheckpointError):
            load_model(tmp_path / "x.pth", origin="vmz")
