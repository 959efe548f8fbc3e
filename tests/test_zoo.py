"""The cards say what VMZ's two pages say (tests/vmz_zoo.json), and costs are those of the networks and of VMZ's tables."""

import json
import pickle
import shutil
from dataclasses import replace
from math import prod
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from torch import nn

from ig65m.errors import ModelError, UsageError
from ig65m.models.card import MEAN, STD, VMZ, VMZ_CSN, Card
from ig65m.models.network import empty
from ig65m.models.spec import ARCHITECTURES, POOLED, C3DSpec, ResNetSpec
from ig65m.types import Preprocessing
from ig65m.zoo.cards import CARDS, find_card, find_cards
from ig65m.zoo.cost import cost
from ig65m.zoo.hub import weights_file
from ig65m.zoo.load import load_model
from ig65m.zoo.tables import markdown
from tests.conftest import GOLDEN

ROWS = json.loads((Path(__file__).parent / "vmz_zoo.json").read_text("utf-8"))
BY_FILE = {card.caffe2: card for card in CARDS.values() if card.caffe2}
TRAINED = ("Pre-trained model", "Finetuned model", "Download")
TITLES = {"R2.5D": "r2plus1d", "R(2+1)D": "r2plus1d", "fR2D": "r2df"}
SETS = {"Sports1M": "Sports-1M", "Kinetics": "Kinetics-400"}


def link(text):
    """As the page has it, but that Dropbox gives a file only with dl=1."""
    return text if text.endswith("?dl=1") else f"{text}?dl=1"


def checkpoints(row):
    """(column, card) of each link in a row."""
    return [(column, BY_FILE[link(row[column])]) for column in TRAINED if row.get(column, "").startswith("https:")]


def number(row, *columns):
    return next((row[column] for column in columns if row.get(column, "TBD") != "TBD"), None)


def test_each_link_is_a_card_and_each_card_a_link():
    links = [link(row[column]) for row in ROWS for column in TRAINED if row.get(column, "").startswith("https:")]
    assert len(links) == len(set(links)) == 59
    assert set(links) == BY_FILE.keys()
    files = [urlsplit(card.url).path.rpartition("/")[2] for card in CARDS.values() if card.url]
    assert len(files) == len(set(files))  # they lie beside each other in the cache
    others = CARDS.keys() - {card.name for card in BY_FILE.values()}
    assert others == {"r2plus1d_10_camera_motion", "ir_csn_50_32_kinetics"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['page']}-{row.get('Model') or row['section']}"[:40])
def test_a_row(row):
    title = row.get("Model") or row["section"]
    cards = checkpoints(row)
    if row.get("Finetuned model") == "link":
        cards.append(("Finetuned model", CARDS["ir_csn_50_32_kinetics"]))
    assert cards
    heard = "udio" in row["section"]
    for column, card in cards:
        assert card.audio_visual == heard == card.name.endswith("_av")
        assert card.page.endswith("/" + row["page"])
        if row["section"] != "Audio-visual extras":
            assert architecture(card.spec) == network(title.rpartition(": ")[2])
            frames, height, width = map(int, row["Input size"].replace("x122", "x112").split("x"))
            assert (card.frames, *card.preprocessing.crop) == (frames, height, width)
            seen = number(row, "Pre-trained dataset", "Pre-trained")
            sets = [] if seen == "None" else [SETS.get(name, name) for name in seen.split("+")]
            if column == "Finetuned model":
                sets.append("Kinetics-400")
            assert trained_on(card) == sets
        assert card.spec.in_channels == (2 if row.get("Modality") == "Optical Flow" else 3)
        published = {"top1": number(row, "Video@1"), "top5": number(row, "Video@5"), "clip_top1": number(row, "Clip@1")}
        for name, text in published.items():
            wanted = None if text is None or column == "Pre-trained model" else float(text)
            assert getattr(card, name) == wanted
        if not heard:
            price = cost(card)
            weights, work = number(row, "params(M)", "Params (M)"), number(row, "GFLOPs", "GLOPs")
            assert weights is None or f"{price.vmz_parameters / 1e6:.1f}" == f"{float(weights):.1f}"
            if work == "49.8":  # a quarter of what is printed for 32 frames, 199.0, rounded once more
                assert price.vmz_multiply_adds / 1e9 == pytest.approx(49.7496, abs=5e-5)
            else:
                assert work is None or f"{price.vmz_multiply_adds / 1e9:.1f}" == f"{float(work):.1f}"


def network(title):
    if title.startswith("C3D"):
        return "c3d", None
    name, _, depth = title.rpartition("-")
    return TITLES.get(name, name.lower().replace("-", "_")), int(depth)


def architecture(spec):
    return spec.architecture, None if isinstance(spec, C3DSpec) else spec.depth


def trained_on(card):
    return [*card.pretraining.split(" + "), *([card.finetuning] if card.finetuning else [])]


def test_the_audio_visual_extras():
    audioset, imagenet = (CARDS[name] for name in ("r2plus1d_101_16_audioset_av", "ip_csn_152_32_ig65m_imagenet_av"))
    rows = {row["Model"]: row for row in ROWS if row["section"] == "Audio-visual extras"}
    files = [link(row["Pre-trained model"]) for row in rows.values()]
    assert [audioset.caffe2, imagenet.caffe2] == files
    assert architecture(audioset.spec) == ("r2plus1d", 101)
    assert (audioset.frames, audioset.preprocessing.crop, audioset.pretraining) == (16, (224, 224), "AudioSet")
    assert (audioset.spec.classes, audioset.spec.multi_label) == (527, True)
    assert architecture(imagenet.spec) == ("ip_csn", 152)
    assert imagenet.pretraining == "IG-65M + ImageNet"


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_a_card_is_of_its_name(card):
    """And of what is known of all: classes, pictures, steps, where nothing else is told."""
    assert Card.from_json(card.to_json()) == card
    if card.embedded:
        return
    assert card.name.startswith(f"{'_'.join(str(part) for part in architecture(card.spec) if part)}_{card.frames}_")
    is_csn = card.spec.architecture in POOLED
    assert card.spec.pool1 == is_csn
    assert card.frame_step == (2 if is_csn else 1)
    assert card.preprocessing == (VMZ_CSN if card.preprocessing.crop == (224, 224) else VMZ)
    assert card.licence == "Apache-2.0"
    if "Kinetics-400" in trained_on(card):
        assert card.spec.classes == len(card.labels) == 400
        assert card.labels[5] == "archery"
    elif card.audio_visual:
        assert card.spec.classes == (527 if card.pretraining == "AudioSet" else 0)
        assert card.classes_unpublished
    else:
        assert card.spec.classes == (487 if card.pretraining == "Sports-1M" or card.frames == 8 else 359)
        assert card.labels is None


def test_those_of_ig65m_pytorch_keep_their_names_and_files():
    released = {card.name: card for card in CARDS.values() if card.onnx}
    assert {name: (card.sha256, card.spec.classes, card.onnx[-11:]) for name, card in released.items()} == {
        "r2plus1d_34_8_ig65m": ("9bae36ae", 487, "748ab053.pb"),
        "r2plus1d_34_8_kinetics": ("0aa0550b", 400, "625d61b3.pb"),
        "r2plus1d_34_32_ig65m": ("449a7af9", 359, "e304d648.pb"),
        "r2plus1d_34_32_kinetics": ("ade133f1", 400, "10f4c3bf.pb"),
    }
    for card in released.values():
        assert card.url.endswith(f"-{card.sha256}.pth")
        assert card.pretraining == "IG-65M"
    assert all(card.sha256 is None and card.url == card.caffe2 for card in CARDS.values() if card.name not in released)


def test_the_papers():
    papers = {
        "c3d_16_sports1m_kinetics": "1711.11248",
        "r2plus1d_34_32_kinetics_2018": "1711.11248",
        "ir_csn_152_32_sports1m": "1904.02811",
        "ip_csn_152_32_ig65m_kinetics": "1905.00561",
        "r2plus1d_34_8_kinetics": "1905.00561",
        "ip_csn_152_32_ig65m_imagenet_av": "1905.12681",
    }
    assert {name: CARDS[name].paper.rpartition("/")[2] for name in papers} == papers


def test_a_card_without_a_file_says_so():
    with pytest.raises(ModelError, match="ir_csn_50_32_kinetics has no published file"):
        weights_file(CARDS["ir_csn_50_32_kinetics"])


def test_names_are_found():
    assert [card.name for card in find_cards("FLOW")] == ["r2plus1d_34_32_sports1m_kinetics_flow"]
    assert len(find_cards("csn*kinetics")) == 11
    assert len(find_cards("")) == len(CARDS)
    with pytest.raises(ModelError, match="no model has 'x3d'"):
        find_cards("x3d")
    with pytest.raises(ModelError, match="did you mean ir_csn_152_32_kinetics"):
        find_card("ir-csn-152-32-kinetics")


@pytest.mark.parametrize(("field", "value"), [("audio_visual", 1), ("clip_top1", 101), ("page", "a\nb")])
def test_a_card_checks_what_it_is_reported(field, value):
    with pytest.raises(UsageError, match=field):
        replace(CARDS["c3d_16_kinetics"], **{field: value})


def counted(spec, size):
    """Trainable numbers, and multiply-adds for a clip of `size`, as the network itself has and does them."""
    model, total = empty(spec).eval(), 0

    def count(module, _, output):
        nonlocal total
        if isinstance(module, nn.Conv3d):  # one multiply-add for each weight at each place of the output
            total += module.weight.numel() * prod(output.shape[2:])

    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d | nn.ReLU):
            module.forward = lambda x: x  # they do not change shapes, and take most of the time
        module.register_forward_hook(count)
    model.forward_features(torch.empty(1, spec.in_channels, *size, device="meta"))
    total += sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    return sum(weight.numel() for weight in model.parameters()), total


def card_of(spec, size):
    crop = size[1:]
    return Card(name="x", spec=spec, frames=size[0], preprocessing=Preprocessing(resize=crop, crop=crop, mean=MEAN, std=STD))


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 3, 5, 8, 17])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_costs_are_the_networks(name, frames):
    deep = ResNetSpec(
        depth=26,
        classes=7,
        architecture=name,
        channel_multiplier=0.5,
        bottleneck_multiplier=0.5,
        in_channels=2,
        multi_label=True,
        pool1=name in POOLED,
        clip_frames=frames if name == "r2d" else None,
    )
    shallow = replace(deep, depth=10, in_channels=3, multi_label=False)
    for spec in [deep] if name == "ir_csn" else [deep, shallow]:
        price = cost(card_of(spec, (frames, 56, 45)))
        assert (price.parameters, price.multiply_adds) == counted(spec, (frames, 56, 45))


@pytest.mark.parametrize("builder", ["torchvision", "mmaction2"])
def test_costs_of_other_builders(builder):
    spec = ResNetSpec(depth=18, classes=0, builder=builder)
    model = empty(spec)
    price = cost(card_of(spec, (4, 32, 32)))
    assert price.parameters == sum(weight.numel() for weight in model.parameters())
    assert (price.parameters, price.multiply_adds) == counted(spec, (4, 32, 32))


def test_the_cost_is_what_vmz_logged_to_the_last_digit():
    """The output of its test of ir-CSN-152, in its tutorial on large models."""
    price = cost(CARDS["ir_csn_152_32_ig65m_kinetics"])
    assert (price.vmz_multiply_adds, price.vmz_parameters) == (96_715_669_504, 29_551_744)


def test_costs_of_c3d():
    spec = C3DSpec(classes=11, in_channels=2, multi_label=True)
    price = cost(card_of(spec, (16, 112, 112)))
    assert (price.parameters, price.multiply_adds) == counted(spec, (16, 112, 112))


def test_each_cards_network_is_as_large_as_it_says():
    costs = {card.spec: cost(card).parameters for card in CARDS.values()}
    for spec, parameters in costs.items():
        assert parameters == sum(weight.numel() for weight in empty(spec).parameters()), spec


def test_costs_at_the_crop():
    for name, giga in {
        "r2plus1d_34_8_kinetics": 38.09,
        "r2plus1d_34_32_kinetics": 152.36,
        "r2plus1d_152_32_kinetics": 252.00,
        "ir_csn_152_32_kinetics": 74.05,
        "ip_csn_152_32_kinetics": 83.29,
    }.items():
        assert cost(CARDS[name]).multiply_adds / 1e9 == pytest.approx(giga, abs=0.005)


@pytest.mark.slow
def test_a_file_of_vmz_loads_by_its_name(full_checkpoint, tmp_path, monkeypatch, capsys):
    card = CARDS["r2df_18_16_kinetics"]
    shutil.copy(full_checkpoint("r2df_18_16"), tmp_path / "r2df_d18_l16.pkl")
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path))
    monkeypatch.setenv("IG65M_OFFLINE", "1")
    assert load_model(card.name).card == card
    assert "not published; it is now pinned" in capsys.readouterr().err


def test_of_an_audio_visual_file_the_classes_are_its_own(tmp_path, monkeypatch):
    """A narrow network under the name of one that is said to know Kinetics, whose file has no last layer to see with."""
    name = "ip_csn_152_32_kinetics_av"
    narrow = replace(CARDS[name], spec=replace(CARDS[name].spec, depth=50, channel_multiplier=0.125))
    monkeypatch.setitem(CARDS, name, narrow)
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path))
    monkeypatch.setenv("IG65M_OFFLINE", "1")
    with (GOLDEN / "tiny_ip_csn_50.pkl").open("rb") as file:
        blobs = pickle.load(file, encoding="latin1")["blobs"]
    seen = {f"v_{key}": blob for key, blob in blobs.items() if not key.startswith("last_out")}
    (tmp_path / Path(urlsplit(narrow.url).path).name).write_bytes(pickle.dumps({"blobs": seen}, protocol=2))
    model = load_model(name)
    assert model.card.spec.classes == 0
    assert model.card.labels is None


def test_the_page_is_what_the_cards_say():
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text("utf-8")
    assert page.endswith(f"\n\n{markdown(CARDS.values())}\n"), "write it anew with `ig65m models --markdown`"
