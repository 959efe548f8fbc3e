"""Model cards: clip length, preprocessing, classes, accuracy and origin of a network."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from ig65m.errors import CheckpointError, UsageError, plain, shown
from ig65m.models.spec import C3DSpec, ResNetSpec, Spec
from ig65m.types import MAX_FPS, MAX_FRAMES, Preprocessing

if TYPE_CHECKING:
    from ig65m.video.network_input import Preprocess

MEAN: Final = (110.201, 100.64, 95.9966)
STD: Final = (58.1489, 56.4701, 55.3324)

# VMZ's Caffe2 reader, for R(2+1)D: resize to 171x128 whatever the aspect ratio, crop 112x112 from the centre.
VMZ = Preprocessing(resize=(128, 171), crop=(112, 112), mean=MEAN, std=STD)
# VMZ's Caffe2 reader, for CSN, which takes every second frame: resize the shorter edge to 256, crop 224x224 from the centre.
VMZ_CSN = Preprocessing(resize=256, crop=(224, 224), mean=MEAN, std=STD)
# mmaction2, for its own CSN networks; it resizes with OpenCV's bilinear interpolation.
MMACTION2 = Preprocessing(resize=256, crop=(224, 224), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))

MAX_TEXT = 1_000  # characters in a label, a name, an address
MAX_JSON = 1 << 21  # characters in a card

# Characters that a terminal acts on: control characters, lone surrogates, line separators, changes of direction.
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

_MAX_ENTRIES = 100  # settings or metrics of a learned network

LINEAR = "linear"  # `method` in the settings of a network whose features are those of its base

Scalar = str | int | float | bool | None


def name_from(text: str) -> str:
    """Return a file's name as a card may contain it: without control characters, cut to MAX_TEXT."""
    return _CONTROL.sub("?", text)[:MAX_TEXT]


@dataclass(frozen=True, kw_only=True)
class Learned:
    """How a network was learned from labelled videos. Raises UsageError if a value is out of range."""

    base: str  # name of the network that it was made from
    base_sha256: str  # of the weights of that network
    labels_sha256: str  # of the labelled videos
    temperature: float  # the logits are divided by it already, so that scores are calibrated
    settings: Mapping[str, Scalar]
    metrics: Mapping[str, Scalar]  # on held-out videos

    def __post_init__(self) -> None:
        for name in ("base", "base_sha256", "labels_sha256"):
            check_text(name, getattr(self, name))
        if type(self.temperature) not in (int, float) or not 0 < self.temperature < 1e6:
            raise UsageError(f"a temperature must be a positive number, got {plain(repr(self.temperature), 40)}")
        for name, those in (("settings", self.settings), ("metrics", self.metrics)):
            if not isinstance(those, dict) or len(those) > _MAX_ENTRIES:
                raise UsageError(f"the {name} of a learned network must be at most {_MAX_ENTRIES} names and values")
            for key, value in those.items():
                check_text(name, key)
                if type(value) is str:
                    check_text(key, value)
                elif type(value) not in (int, float, bool, NoneType) or (type(value) is float and not isfinite(value)):
                    raise UsageError(f"{shown([key])} of a learned network cannot be {plain(repr(value), 40)}")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Model card: all that is known about one checkpoint.

    Example:
        >>> card = ig65m.cards["r2plus1d_34_32_kinetics"]
        >>> card.frames, card.preprocessing.crop, card.labels[0]
        (32, (112, 112), 'abseiling')
    """

    name: str
    spec: Spec  # architecture, depth, classes
    preprocessing: Preprocessing = VMZ  # size, crop, mean and deviation of the input
    frames: int | None = None  # clip length of the training; None if unknown
    frame_step: int = 1  # frames from one frame of a clip to the next
    fps: float | None = None  # rate in frames a second at which videos are sampled; None: every frame
    labels: tuple[str, ...] | None = None  # names of the classes in order; None if they were not published
    pretraining: str | None = None  # data set
    finetuning: str | None = None  # data set
    top1: float | None = None  # video accuracy on the fine-tuning data set in percent, as VMZ published it
    top5: float | None = None  # likewise
    clip_top1: float | None = None  # likewise, of single clips
    audio_visual: bool = False  # accuracies are of a network with sound; this one is its visual branch
    embedded: bool = False  # weights are part of the package
    url: str | None = None  # where the weights are downloaded from
    sha256: str | None = None  # digest of that file, or its first digits, as far as they were published
    onnx: str | None = None  # URL of the ONNX file of ig65m-pytorch
    caffe2: str | None = None  # URL of VMZ's file
    page: str | None = None  # the page where VMZ published it
    licence: str | None = None
    paper: str | None = None
    origin: str | None = None  # who trained or converted the weights
    learned: Learned | None = None  # from which labelled videos its last layer or all of it was learned
    left_out: tuple[str, ...] = ()  # blobs of the checkpoint that the network does not use, such as those for sound

    def __post_init__(self) -> None:
        check_text("name", self.name)
        for name in _TEXTS:
            if (text := getattr(self, name)) is not None:
                check_text(name, text)
        for name, those in (("labels", self.labels or ()), ("left_out", self.left_out)):
            if type(those) is not tuple:
                raise UsageError(f"{name} must be a tuple, got {type(those).__name__}")
            _check_texts(name, those)
        if self.preprocessing.crop is None:
            raise UsageError(f"the preprocessing of {self.name} has no crop; a model file states the size of its input")
        if self.labels is not None and len(self.labels) != self.spec.classes:
            raise UsageError(f"{len(self.labels)} labels for the {self.spec.classes} classes of {self.name}")
        _check_numbers(self)
        if type(self.learned) not in (Learned, NoneType):
            raise UsageError(f"learned must describe a learned network, got {plain(repr(self.learned), 40)}")
        for name, mark in (("embedded", self.embedded), ("audio_visual", self.audio_visual)):
            if type(mark) is not bool:
                raise UsageError(f"{name} must be true or false")

    @property
    def preprocess(self) -> "Preprocess":
        """Preprocessing of frames (T, H, W, 3) uint8 for the network."""
        from ig65m.video.network_input import Preprocess

        return Preprocess(self.preprocessing)

    @property
    def crop(self) -> tuple[int, int]:
        """Height and width of the frames that the network takes."""
        assert self.preprocessing.crop is not None, "checked when the card was made"
        return self.preprocessing.crop

    def label(self, index: int) -> str:
        """Name of a class; `class N` if the labels were not published."""
        return self.labels[index] if self.labels else f"class {index}"

    @property
    def classes_unpublished(self) -> bool:
        """Whether the number of classes of the file at `url` is unknown, since it was not published."""
        return (self.labels is None or self.audio_visual) and self.sha256 is None and self.url is not None

    def to_json(self) -> str:
        """Return the card as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """Read a card that `to_json` wrote. Raises CheckpointError for anything else."""
        try:
            if len(text) > MAX_JSON:
                raise UsageError(f"it has {len(text)} characters; expected at most {MAX_JSON}")
            values = {key: _frozen(value) for key, value in json.loads(text).items()}
            if unknown := sorted(values.keys() - cls.__dataclass_fields__.keys()):
                raise UsageError(f"a card has no field {shown(unknown)}")
            values["spec"] = _spec(values["spec"])
            values["preprocessing"] = Preprocessing(**values["preprocessing"])
            if values.get("learned") is not None:
                values["learned"] = Learned(**values["learned"])
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise CheckpointError(f"the description of the model cannot be read: {plain(error)}") from None


def _check_numbers(card: Card) -> None:
    for name, count in (("frames", card.frames), ("frame_step", card.frame_step)):
        if count is not None and (type(count) is not int or not 1 <= count <= MAX_FRAMES):
            raise UsageError(f"{name} must be a whole number from 1 to {MAX_FRAMES}, got {plain(repr(count), 40)}")
    if card.fps is not None and (type(card.fps) not in (int, float) or not 0 < card.fps <= MAX_FPS):
        raise UsageError(f"fps must be a positive number of at most {MAX_FPS:g}, got {plain(repr(card.fps), 40)}")
    for name, share in (("top1", card.top1), ("top5", card.top5), ("clip_top1", card.clip_top1)):
        if share is not None and (type(share) not in (int, float) or not 0 <= share <= 100):
            raise UsageError(f"{name} must be a percentage, got {plain(repr(share), 40)}")


def check_text(name: str, value: object) -> None:
    """Raise UsageError unless a card can hold a value as its `name`: text of at most MAX_TEXT printable characters."""
    if type(value) is not str or len(value) > MAX_TEXT:
        raise UsageError(f"the {name} must be text of at most {MAX_TEXT:,} characters, got {plain(repr(value), 40)}")
    if _CONTROL.search(value):
        raise UsageError(f"the {name} {shown([value])} has control characters")


def _check_texts(name: str, those: tuple[str, ...]) -> None:
    """Check several texts: all at once, since dozens of cards have hundreds of labels, and one by one if that fails."""
    if not all(type(text) is str and len(text) <= MAX_TEXT for text in those) or _CONTROL.search("".join(those)):
        for text in those:
            check_text(name, text)


def _spec(values: dict[str, Any]) -> Spec:
    for name, value in values.items():
        if type(value) not in _SPEC_TYPES.get(name, ()) or (isinstance(value, int | float) and not isfinite(value)):
            raise UsageError(f"a network's {shown([name])} cannot be {plain(repr(value), 40)}")
    return C3DSpec(**values) if values.get("architecture") == "c3d" else ResNetSpec(**values)


def _frozen(value: Any) -> Any:
    """Convert JSON's lists to tuples, one level down into objects."""
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value
