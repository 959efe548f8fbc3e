"""One record per checkpoint: what network it is, what it wants to see, what it says, where it comes from."""

import json
import re
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from math import isfinite
from types import NoneType
from typing import Any, Final

from ig65m.errors import CheckpointError, ModelError, UsageError, plain, shown
from ig65m.models.spec import POOLED, C3DSpec, ResNetSpec, Spec
from ig65m.types import MAX_FRAMES, Preprocessing
from ig65m.zoo.labels import built_in

MEAN: Final = (110.201, 100.64, 95.9966)
STD: Final = (58.1489, 56.4701, 55.3324)

# As VMZ's Caffe2 reader fed the R(2+1)D networks: 171x128 whatever the aspect ratio, the middle 112x112.
VMZ = Preprocessing(resize=(128, 171), crop=(112, 112), mean=MEAN, std=STD)
# As it fed the CSN networks, which see every second frame: the shorter edge 256, the middle 224x224.
VMZ_CSN = Preprocessing(resize=256, crop=(224, 224), mean=MEAN, std=STD)
# What mmaction2 trains CSN networks with; it resizes by OpenCV's bilinear interpolation.
MMACTION2 = Preprocessing(resize=256, crop=(224, 224), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


MAX_TEXT = 1_000  # characters in a label, a name, an address
MAX_JSON = 1 << 21  # characters in a card

# What a terminal obeys instead of showing: control characters, lone surrogates, ends of lines, changes of direction.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")
_TEXTS = ("pretraining", "finetuning", "url", "sha256", "onnx", "caffe2", "licence", "paper", "origin")
_SPEC_TYPES: dict[str, tuple[type, ...]] = {
    "depth": (int,),
    "classes": (int,),
    "in_channels": (int,),
    "channel_multiplier": (int, float),
    "architecture": (str,),
    "bottleneck_multiplier": (int, float),
    "pool1": (bool,),
    "clip_frames": (int, NoneType),
    "builder": (str,),
    "multi_label": (bool,),
}


def name_from(text: str) -> str:
    """A file's name as a card may carry it."""
    return _CONTROL.sub("?", text)[:MAX_TEXT]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of one checkpoint.

    `frames` is the clip length it was trained on, None if unknown. `labels` are the classes in order, None where no list
    was published. `top1` and `top5` are video accuracies on the fine-tuning data set in percent, as published by VMZ.
    `embedded` weights lie in the package. `sha256` is of the file at `url`, or its first digits, or None, as far as it
    was published. `onnx` is the same network as ig65m-pytorch published it in ONNX, `caffe2` is VMZ's own file. `left_out` are
    the blobs of the checkpoint that the network does not have, such as those for sound.
    """

    name: str
    spec: Spec
    preprocessing: Preprocessing = VMZ
    frames: int | None = None
    frame_step: int = 1
    labels: tuple[str, ...] | None = None
    pretraining: str | None = None
    finetuning: str | None = None
    top1: float | None = None
    top5: float | None = None
    embedded: bool = False
    url: str | None = None
    sha256: str | None = None
    onnx: str | None = None
    caffe2: str | None = None
    licence: str | None = None
    paper: str | None = None
    origin: str | None = None
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        for name in _TEXTS:
            if (text := getattr(self, name)) is not None:
                _check_text(name, text)
        for name, those in (("labels", self.labels or ()), ("left_out", self.left_out)):
            if type(those) is not tuple:
                raise UsageError(f"{name} must be a tuple, got {type(those).__name__}")
            for text in those:
                _check_text(name, text)
        if self.labels is not None and len(self.labels) != self.spec.classes:
            raise UsageError(f"{len(self.labels)} labels for the {self.spec.classes} classes of {self.name}")
        for name, count in (("frames", self.frames), ("frame_step", self.frame_step)):
            if count is not None and (type(count) is not int or not 1 <= count <= MAX_FRAMES):
                raise UsageError(f"{name} must be a whole number from 1 to {MAX_FRAMES}, got {plain(repr(count), 40)}")
        for name, share in (("top1", self.top1), ("top5", self.top5)):
            if share is not None and (type(share) not in (int, float) or not 0 <= share <= 100):
                raise UsageError(f"{name} must be a percentage, got {plain(repr(share), 40)}")
        if type(self.embedded) is not bool:
            raise UsageError("embedded must be true or false")

    def label(self, index: int) -> str:
        """The name of a class; `class N` where no list was published."""
        return self.labels[index] if self.labels else f"class {index}"

    @property
    def classes_unpublished(self) -> bool:
        """Whether nobody published what tells the classes apart: how many there are, the file says."""
        return self.labels is None and self.sha256 is None and self.url is not None

    def to_json(self) -> str:
        """The card as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """The card that `to_json` wrote. Raises CheckpointError if it is not one."""
        try:
            if len(text) > MAX_JSON:
                raise UsageError(f"it has {len(text)} characters; expected at most {MAX_JSON}")
            values = {key: _frozen(value) for key, value in json.loads(text).items()}
            if unknown := sorted(values.keys() - cls.__dataclass_fields__.keys()):
                raise UsageError(f"there is no {shown(unknown)} in a card")
            values["spec"] = _spec(values["spec"])
            values["preprocessing"] = Preprocessing(**values["preprocessing"])
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise CheckpointError(f"the description of the model cannot be read: {plain(error)}") from None


def _check_text(name: str, value: object) -> None:
    if type(value) is not str or len(value) > MAX_TEXT:
        raise UsageError(f"a card's {name} must be text of at most {MAX_TEXT} characters, got {plain(repr(value), 40)}")
    if _CONTROL.search(value):
        raise UsageError(f"the {name} {shown([value])} has control characters")


def _spec(values: dict[str, Any]) -> Spec:
    for name, value in values.items():
        if type(value) not in _SPEC_TYPES.get(name, ()) or (isinstance(value, int | float) and not isfinite(value)):
            raise UsageError(f"a network's {shown([name])} cannot be {plain(repr(value), 40)}")
    return C3DSpec(**values) if values.get("architecture") == "c3d" else ResNetSpec(**values)


def _frozen(value: Any) -> Any:
    """JSON's lists as tuples, one level down into objects."""
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


_RELEASE = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"
_DROPBOX = "https://www.dropbox.com/s/"


def _ig65m_34(name: str, frames: int, classes: int, file: str, onnx: str, caffe2: str, **facts: Any) -> Card:
    return Card(
        name=name,
        spec=ResNetSpec(depth=34, classes=classes),
        frames=frames,
        pretraining="IG-65M",
        url=_RELEASE + file,
        sha256=file.removesuffix(".pth").rpartition("-")[2],
        onnx=f"{_RELEASE}{file.rpartition('-')[0]}-{onnx}.pb",
        caffe2=_DROPBOX + caffe2,
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/1905.00561",
        origin="VMZ, by way of ig65m-pytorch",
        **facts,
    )


def _cards() -> dict[str, Card]:
    kinetics = built_in("kinetics400")
    cards = [
        _ig65m_34(
            "r2plus1d_34_8_ig65m",
            8,
            487,
            "r2plus1d_34_clip8_ig65m_from_scratch-9bae36ae.pth",
            "748ab053",
            "6xwyu1az6oy4ts7/r2plus1d_34_clip8_ig65m_from_scratch_f79708462.pkl?dl=1",
        ),
        _ig65m_34(
            "r2plus1d_34_32_ig65m",
            32,
            359,
            "r2plus1d_34_clip32_ig65m_from_scratch-449a7af9.pth",
            "e304d648",
            "eimo232tqw8mwi9/r2plus1d_34_clip32_ig65m_from_scratch_f102649996.pkl?dl=1",
        ),
        _ig65m_34(
            "r2plus1d_34_8_kinetics",
            8,
            400,
            "r2plus1d_34_clip8_ft_kinetics_from_ig65m-0aa0550b.pth",
            "625d61b3",
            "p81twy88kwrrcop/r2plus1d_34_clip8_ft_kinetics_from_ig65m_%20f128022400.pkl?dl=1",
            finetuning="Kinetics-400",
            labels=kinetics,
            top1=74.9,
            top5=91.8,
        ),
        _ig65m_34(
            "r2plus1d_34_32_kinetics",
            32,
            400,
            "r2plus1d_34_clip32_ft_kinetics_from_ig65m-ade133f1.pth",
            "10f4c3bf",
            "z41ff7vs0bzf6b8/r2plus1d_34_clip32_ft_kinetics_from_ig65m_%20f106169681.pkl?dl=1",
            finetuning="Kinetics-400",
            labels=kinetics,
            top1=80.0,
            top5=94.2,
        ),
        Card(
            name="r2plus1d_10_camera_motion",
            spec=ResNetSpec(depth=10, classes=9, channel_multiplier=0.25),
            preprocessing=Preprocessing(resize=(64, 64), crop=(64, 64), mean=MEAN, std=STD, resampling="area"),
            frames=8,
            frame_step=2,
            labels=built_in("camera_motion"),
            pretraining="synthetic camera moves",
            embedded=True,
            licence="MIT",
            paper="https://arxiv.org/abs/1711.11248",
            origin="trained by ig65m.train",
        ),
    ]
    return {card.name: card for card in cards}


CARDS: Final = _cards()
EMBEDDED: Final = "r2plus1d_10_camera_motion"


def card_for(spec: Spec, *, name: str, origin: str, preprocessing: Preprocessing | None = None) -> Card:
    """A card for a network of which nothing else is known: it is fed as VMZ fed networks of its architecture."""
    is_csn = spec.architecture in POOLED
    return Card(
        name=name,
        spec=spec,
        preprocessing=preprocessing or (VMZ_CSN if is_csn else VMZ),
        frames=spec.clip_frames,
        frame_step=2 if is_csn else 1,
        origin=origin,
    )


def find_card(name: str) -> Card:
    """The card of that name. Raises ModelError, naming the nearest, if there is none."""
    if name not in CARDS:
        near = get_close_matches(name, CARDS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(CARDS)}"
        raise ModelError(f"no model or file named {name!r}; {hint}")
    return CARDS[name]


def list_models() -> list[str]:
    """The names that `load_model` knows."""
    return list(CARDS)
