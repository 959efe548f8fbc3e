"""One record per checkpoint: what network it is, what it wants to see, what it says, where it comes from."""

import json
import re
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import isfinite
from types import NoneType
from typing import Any, Final

from ig65m.errors import CheckpointError, ModelError, UsageError, plain, shown
from ig65m.models.spec import POOLED, C3DSpec, ResNetSpec, Spec
from ig65m.types import MAX_FRAMES, Preprocessing
from ig65m.zoo.labels import built_in
from ig65m.zoo.published import DATA_SETS, DROPBOX, MODEL_ZOO, MODEL_ZOO_MD, MODELS, MODELS_MD, RELEASE, RELEASED, Row

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
_TEXTS = ("pretraining", "finetuning", "url", "sha256", "onnx", "caffe2", "page", "licence", "paper", "origin")
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
    was published. `top1` and `top5` are video accuracies on the fine-tuning data set in percent, as published by VMZ, and
    `clip_top1` that of single clips; `audio_visual`: all of these are of a network that also hears, the branch that sees is
    here. `embedded` weights lie in the package. `sha256` is of the file at `url`, or its first digits, or None, as far as it
    was published. `onnx` is the same network as ig65m-pytorch published it in ONNX, `caffe2` is VMZ's own file, and `page`
    says where VMZ published that. `left_out` are the blobs of the checkpoint that the network does not have, such as those
    for sound.
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
    clip_top1: float | None = None
    audio_visual: bool = False
    embedded: bool = False
    url: str | None = None
    sha256: str | None = None
    onnx: str | None = None
    caffe2: str | None = None
    page: str | None = None
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
        for name, share in (("top1", self.top1), ("top5", self.top5), ("clip_top1", self.clip_top1)):
            if share is not None and (type(share) not in (int, float) or not 0 <= share <= 100):
                raise UsageError(f"{name} must be a percentage, got {plain(repr(share), 40)}")
        for name, mark in (("embedded", self.embedded), ("audio_visual", self.audio_visual)):
            if type(mark) is not bool:
                raise UsageError(f"{name} must be true or false")

    def label(self, index: int) -> str:
        """The name of a class; `class N` where no list was published."""
        return self.labels[index] if self.labels else f"class {index}"

    @property
    def classes_unpublished(self) -> bool:
        """Whether nobody published how many classes the file at `url` has, if its network has a last layer at all."""
        return (self.labels is None or self.audio_visual) and self.sha256 is None and self.url is not None

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


_NAME = re.compile(rf"([a-z0-9_]+?)(?:_(\d+))?_(\d+)_((?:(?:{'|'.join(DATA_SETS)})_?)+)(av|flow|2018)?")


def _published(row: Row, page: str) -> Card:
    """The card of a row of VMZ's page."""
    match = _NAME.fullmatch(row.name)
    if not match:
        raise UsageError(f"the name {row.name} does not say what it is")
    architecture, depth, frames, sets, mark = match[1], int(match[2] or 0), int(match[3]), match[4].strip("_"), match[5]
    pretraining = sets.split("_")
    tuned = len(pretraining) > 1 and pretraining[-1] == "kinetics"
    finetuning = DATA_SETS[pretraining.pop()] if tuned else None
    on_kinetics = sets.endswith("kinetics")
    multi_label = sets == "audioset"
    if on_kinetics:
        classes = 400
    elif multi_label:
        classes = 527
    elif mark == "av":
        classes = 0  # what it tells apart was not published
    else:
        classes = 359 if sets == "ig65m" and frames == 32 else 487
    in_channels = 2 if mark == "flow" else 3
    is_csn = architecture in POOLED
    spec: Spec
    if architecture == "c3d":
        spec = C3DSpec(classes=classes, in_channels=in_channels)
    else:
        spec = ResNetSpec(
            depth=depth,
            classes=classes,
            in_channels=in_channels,
            architecture=architecture,
            pool1=is_csn,
            clip_frames=frames if architecture == "r2d" else None,
            multi_label=multi_label,
        )
    file = row.file and DROPBOX.format(row.file)
    card = Card(
        name=row.name,
        spec=spec,
        preprocessing=VMZ_CSN if is_csn or mark == "av" else VMZ,
        frames=frames,
        frame_step=2 if is_csn else 1,
        labels=built_in("kinetics400") if on_kinetics else None,
        pretraining=" + ".join(DATA_SETS[name] for name in pretraining),
        finetuning=finetuning,
        top1=row.top1,
        top5=row.top5,
        clip_top1=row.clip_top1,
        audio_visual=mark == "av",
        url=file,
        caffe2=file,
        page=page,
        licence="Apache-2.0",
        paper=_paper(architecture, pretraining, mark),
        origin="VMZ",
    )
    if row.name not in RELEASED:
        return card
    name, pth, onnx = RELEASED[row.name]
    return replace(
        card,
        name=name,
        url=RELEASE + pth,
        sha256=pth.removesuffix(".pth").rpartition("-")[2],
        onnx=f"{RELEASE}{pth.rpartition('-')[0]}-{onnx}.pb",
        origin="VMZ, by way of ig65m-pytorch",
    )


def _paper(architecture: str, pretraining: list[str], mark: str | None) -> str:
    if mark == "av":
        number = "1905.12681"
    elif "ig65m" in pretraining:
        number = "1905.00561"
    else:
        number = "1904.02811" if architecture in POOLED else "1711.11248"
    return f"https://arxiv.org/abs/{number}"


def _cards() -> dict[str, Card]:
    camera_motion = Card(
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
    )
    pages = ((MODEL_ZOO, MODEL_ZOO_MD), (MODELS, MODELS_MD))
    cards = [camera_motion, *(_published(row, page) for rows, page in pages for row in rows)]
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
        hint = f"did you mean {near[0]}?" if near else "`ig65m models` lists those that there are"
        raise ModelError(f"no model or file named {name!r}; {hint}")
    return CARDS[name]


def check_use(
    card: Card, *, frames: int | None, logits: bool, maps: bool, labels: tuple[str, ...] | None, classes_known: bool
) -> None:
    """Raise ModelError or UsageError if the card's network cannot see videos, or not as it is asked to.

    `frames` is the clip length asked for, None for the card's own. `maps`: its feature maps are to be pooled otherwise than by
    their mean, or slid over. `labels` are names in place of the card's. Of a network that is not loaded yet the classes may
    not be known.
    """
    spec, name = card.spec, card.name
    if spec.in_channels != 3:
        raise ModelError(f"{name} takes {spec.in_channels} channels of optical flow; only RGB networks see videos here")
    if frames is None and card.frames is None:
        raise ModelError(f"the clip length of {name} is not known; say with --frames (in Python: frames=) what it was")
    if spec.clip_frames not in (None, frames or card.frames):
        raise UsageError(f"{name} takes clips of {spec.clip_frames} frames only, not of {frames or card.frames}")
    if maps and isinstance(spec, C3DSpec):
        raise UsageError(f"{name} has no feature maps to slide over (--full) or to pool: C3D ends in fully connected layers")
    if logits and classes_known and not spec.classes:
        raise ModelError(f"{name} has no last layer, so it tells no classes apart; it gives features (ig65m extract) only")
    if labels is not None and classes_known and len(labels) != spec.classes:
        raise UsageError(f"{len(labels)} labels for the {spec.classes} classes of {name}; give one a class, in their order")


def find_cards(pattern: str) -> list[Card]:
    """The cards with `pattern` in their names, in which * stands for anything. Raises ModelError if there is none."""
    if found := [card for card in CARDS.values() if fnmatchcase(card.name, f"*{pattern.lower()}*")]:
        return found
    raise ModelError(f"no model has {shown([pattern])} in its name; `ig65m models` lists all")


def list_models() -> list[str]:
    """The names that `load_model` knows."""
    return list(CARDS)
