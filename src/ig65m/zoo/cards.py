"""Cards of all models: VMZ's published checkpoints and the embedded one."""

import re
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final

from ig65m.errors import ModelError, UsageError, shown
from ig65m.models.card import MEAN, STD, VMZ, VMZ_CSN, Card
from ig65m.models.spec import POOLED, C3DSpec, ResNetSpec, Spec
from ig65m.types import Preprocessing
from ig65m.zoo.labels import built_in
from ig65m.zoo.published import DATA_SETS, DROPBOX, MODEL_ZOO, MODEL_ZOO_MD, MODELS, MODELS_MD, RELEASE, RELEASED, Row

_NAME = re.compile(rf"([a-z0-9_]+?)(?:_(\d+))?_(\d+)_((?:(?:{'|'.join(DATA_SETS)})_?)+)(av|flow|2018)?")


def _published(row: Row, page: str) -> Card:
    """Return the card for a row of VMZ's page."""
    match = _NAME.fullmatch(row.name)
    if not match:
        raise UsageError(f"cannot parse the name {row.name}")
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
        classes = 0  # its number of classes was not published
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
        origin="trained by ig65m.camera_motion",
    )
    pages = ((MODEL_ZOO, MODEL_ZOO_MD), (MODELS, MODELS_MD))
    cards = [camera_motion, *(_published(row, page) for rows, page in pages for row in rows)]
    return {card.name: card for card in cards}


CARDS: Final = _cards()
EMBEDDED: Final = "r2plus1d_10_camera_motion"


def card_for(spec: Spec, *, name: str, origin: str, preprocessing: Preprocessing | None = None) -> Card:
    """Return a card for a network without one: preprocessing and frame step are VMZ's for its architecture."""
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
    """Return the card of that name. Raises ModelError, suggesting the nearest name, if there is none."""
    if name not in CARDS:
        near = get_close_matches(name, CARDS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else "`ig65m models` lists all models"
        raise ModelError(f"no model or file named {name!r}; {hint}")
    return CARDS[name]


def check_use(
    card: Card, *, frames: int | None, logits: bool, maps: bool, labels: tuple[str, ...] | None, classes_known: bool
) -> None:
    """Raise ModelError or UsageError if the network cannot be used as requested.

    `frames` is the requested clip length, None for the card's. `maps`: feature maps are pooled otherwise than by their mean,
    or slid over. `labels` are names that replace the card's. `classes_known` is False for a network whose classes are known
    only after the download.
    """
    spec, name = card.spec, card.name
    if spec.in_channels != 3:
        raise ModelError(f"{name} takes {spec.in_channels} channels of optical flow; expected a network for RGB")
    if frames is None and card.frames is None:
        raise ModelError(f"the clip length of {name} is not known; give it with --frames (in Python: frames=)")
    if spec.clip_frames not in (None, frames or card.frames):
        raise UsageError(f"{name} takes clips of {spec.clip_frames} frames only, not of {frames or card.frames}")
    if maps and isinstance(spec, C3DSpec):
        raise UsageError(f"{name} has no feature maps to slide over (--full) or to pool: C3D ends in fully connected layers")
    if logits and classes_known and not spec.classes:
        raise ModelError(f"{name} has no classes; use it for features (ig65m extract)")
    if labels is not None and classes_known and len(labels) != spec.classes:
        raise UsageError(f"{len(labels)} labels for the {spec.classes} classes of {name}; give one for each class, in order")


def find_cards(pattern: str) -> list[Card]:
    """Return the cards with `pattern` in their names, where * matches anything. Raises ModelError if there is none."""
    if found := [card for card in CARDS.values() if fnmatchcase(card.name, f"*{pattern.lower()}*")]:
        return found
    raise ModelError(f"no model has {shown([pattern])} in its name; `ig65m models` lists all models")


def list_models() -> list[str]:
    """Return the names of all models that `load_model` knows.

    Example:
        >>> "r2plus1d_34_32_kinetics" in ig65m.list_models()
        True
    """
    return list(CARDS)
