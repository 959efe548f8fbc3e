"""Which clips and crops of a video are scored."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from ig65m.collection.label_list import Example
from ig65m.errors import UsageError
from ig65m.models.card import Card
from ig65m.models.spec import POOLED, C3DSpec
from ig65m.zoo.published import MODELS_MD

VMZ_CLIPS: Final = 10


@dataclass(frozen=True)
class Protocol:
    """Clips and crops of a video; the scores of a video are the mean over them."""

    clips: int | None = None  # spread evenly; None: all, one after the other
    crops: int = 1  # along the longer edge
    full: bool = False  # the full shorter edge, fully convolutionally


def vmz_protocol(card: Card) -> Protocol:
    """The protocol with which VMZ measured the published accuracies of a network; for others that of its model zoo.

    - Model zoo: 10 clips, fully convolutional, 3 crops for CSN. C3D cannot be fully convolutional: the centre crop.
    - Models of 2018: 10 clips, centre crop; those of 34 layers: all clips, centre crop.
    """
    if card.page == MODELS_MD:
        is_dense = not isinstance(card.spec, C3DSpec) and card.spec.depth == 34
        return Protocol(clips=None if is_dense else VMZ_CLIPS)
    if isinstance(card.spec, C3DSpec):
        return Protocol(clips=VMZ_CLIPS)
    return Protocol(clips=VMZ_CLIPS, crops=3 if card.spec.architecture in POOLED else 1, full=True)


def check_starts(examples: Iterable[Example], protocol: Protocol, *, where: str) -> None:
    """Raise UsageError if clips are to be spread evenly, but the list says at which frames they start."""
    if protocol.clips is not None and any(example.video.starts is not None for example in examples):
        raise UsageError(f"{where} says at which frames clips start; leave --clips and --vmz out, or use a list of videos")


def published(card: Card) -> dict[str, Any] | None:
    """The published accuracies of a network on 0..1, and of what; None if there are none."""
    if card.top1 is None:
        return None
    shares = {"top1": card.top1, "top5": card.top5, "clip_top1": card.clip_top1}
    return {
        "data_set": card.finetuning or card.pretraining,
        **{name: None if share is None else round(share / 100, 6) for name, share in shares.items()},
        "with_sound": card.audio_visual,
        "page": card.page,
    }
