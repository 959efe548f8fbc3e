"""Class activation maps: where in space and time a network finds a class.

The last layer of the residual networks is linear and follows the mean of the feature maps. So a logit is exactly the mean of a
class map: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016. For other layers see `grad_cam.py`.
"""

import json
from contextlib import closing
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from ig65m.atomic import finished_file
from ig65m.engines.base import Pooling
from ig65m.errors import UsageError, shown
from ig65m.models.card import Card
from ig65m.models.receptive_field import Centres, centres
from ig65m.models.spec import ResNetSpec
from ig65m.models.weights import Weights
from ig65m.pipeline import ClipResult
from ig65m.tasks.extractor import OnClip, Run, Stopping
from ig65m.tasks.options import Options, resolve
from ig65m.tasks.scoring import class_scores
from ig65m.types import ClipSpan, Failure, Preprocessing
from ig65m.video.clips import Source
from ig65m.video.geometry import crop_corners, resized_size
from ig65m.video.sampling import Sampling

MAPS: Final = "layer4"
"""The layer that gives the feature maps, whose class maps are exact."""


@dataclass(frozen=True)
class ClipMap:
    """Where something speaks for a label in one clip."""

    span: ClipSpan
    label: str
    score: float  # of the label in the clip, from 0 to 1
    values: NDArray[np.float32]  # (T', H', W'); positive for the label, negative against it
    shape: tuple[int, int]  # height and width of the video's upright frames


@dataclass(frozen=True)
class Places:
    """What a network sees of a picture, and where the values of a map are centred in it; as shares of its height and width."""

    top: float
    left: float
    height: float
    width: float
    rows: tuple[float, ...]
    columns: tuple[float, ...]


@dataclass(frozen=True)
class VideoMaps:
    """The maps of the clips of a video that could be read, in order."""

    maps: tuple[ClipMap, ...]
    error: Failure | None  # why the video breaks off
    card: Card
    preprocessing: Preprocessing
    sampling: Sampling
    layer: str

    @cached_property
    def centres(self) -> Centres:
        """Where the values are centred in a clip as the network gets it."""
        return centres(self.card.spec, self.layer, self.sampling.frames)

    def places(self, clip: ClipMap) -> Places:
        """Return where the values of a clip's map are in the picture."""
        resized = resized_size(self.preprocessing, *clip.shape)
        [corner] = crop_corners(self.preprocessing, *resized)
        crop = self.preprocessing.crop or resized
        top, left, height, width = (value / resized[n % 2] for n, value in enumerate((*corner, *crop)))
        rows, columns = (
            tuple((corner[n] + offset + stride * number + 0.5) / resized[n] for number in range(count))
            for n, (offset, stride, count) in enumerate(
                zip(self.centres.offset[1:], self.centres.stride[1:], clip.values.shape[1:], strict=True)
            )
        )
        return Places(top, left, height, width, rows, columns)

    def times(self, clip: ClipMap) -> tuple[float, ...]:
        """Return when the values of a clip's map are centred, in seconds; those of frames that pad the clip are at its end."""
        span = clip.span
        frames = span.last_frame - span.first_frame + 1
        numbers = (self.centres.offset[0] + self.centres.stride[0] * number for number in range(len(clip.values)))
        shares = (min(1.0, number * self.sampling.frame_step / frames) for number in numbers)
        return tuple(span.start + share * (span.end - span.start) for share in shares)


@dataclass(frozen=True)
class Head:
    """The last layer: logits are `weight` (classes, C) times the mean features, plus `bias` (classes,)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @staticmethod
    def of(weights: Weights) -> "Head":
        """Return the last layer of a network, with the layer after it if it is multi-label.

        Raises UsageError for C3D, whose last layers are no linear function of a mean.
        """
        spec, arrays = weights.spec, weights.arrays
        if not isinstance(spec, ResNetSpec):
            raise UsageError(f"{weights.card.name} ends in fully connected layers; choose a layer before, with --layer pool5")
        weight, bias = np.array(arrays["fc.weight"]), np.array(arrays["fc.bias"])
        if spec.multi_label:
            scale = arrays["pred_logit.weight"]
            weight, bias = scale[:, None] * weight, scale * bias + arrays["pred_logit.bias"]
        return Head(weight, bias)

    def map_of(self, maps: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        """Return the map (T', H', W') of a class from feature maps (C, T', H', W'); the mean of the map is the logit."""
        return cast("NDArray[np.float32]", np.tensordot(self.weight[number], maps, axes=1) + self.bias[number])


def class_number(card: Card, label: str) -> int:
    """Return the number of the class with that label, or of "class N". Raises UsageError, naming similar labels."""
    labels = [card.label(number) for number in range(card.spec.classes)]
    if label in labels:
        return labels.index(label)
    near = get_close_matches(label, labels, 3) or labels[:3]
    raise UsageError(f"{card.name} has no label {shown([label])}; did you mean one of {shown(near)}?")


def has_class_maps(card: Card) -> bool:
    """Whether the feature maps of a network give class maps."""
    return isinstance(card.spec, ResNetSpec) and card.spec.classes > 0


class ClassMapper:
    """A loaded network that gives class maps of its feature maps, in any engine; for one thread at a time."""

    def __init__(self, options: Options) -> None:
        """Load the network. Raises UsageError if it has no such maps, and as `resolve`."""
        self._resolved = resolve(options, logits=True, maps=False)
        self._head = Head.of(self._resolved.weights)  # copied, since the engine may free the weights
        self.card = self._resolved.weights.card
        self._run = Run(self._resolved, Pooling("none", "none"))

    def maps(
        self, source: Source, *, label: str | None = None, on_clip: OnClip | None = None, stopping: Stopping | None = None
    ) -> VideoMaps:
        """Return the maps of a video for a label; None is the best label of each clip. `stopping` is that of `extract_many`.

        Raises UsageError if the network has no such label.
        """
        number = None if label is None else class_number(self.card, label)
        maps: list[ClipMap] = []
        error: Failure | None = None
        with closing(self._run.clips(source, stopping)) as results:
            for result in results:
                if isinstance(result, ClipResult):
                    maps.append(_clip_map(result, self.card, self._head, number))
                    if on_clip is not None:
                        on_clip(source, result.span)
                else:
                    error = result.error
        return VideoMaps(tuple(maps), error, self.card, self._resolved.preprocessing, self._resolved.sampling, MAPS)


def _clip_map(clip: ClipResult, card: Card, head: Head, number: int | None) -> ClipMap:
    assert clip.shape is not None, "clips of videos have the shape of their frames"
    scores = class_scores(clip.logits, multi_label=card.spec.multi_label)
    number = int(scores.argmax()) if number is None else number
    return ClipMap(clip.span, card.label(number), float(scores[number]), head.map_of(clip.features, number), clip.shape)


def save_maps(found: VideoMaps, path: Path) -> None:
    """Write the maps as .npz.

    `values` (clips, T', H', W') float32, `spans` (clips, 2) float64 in seconds, `labels` (clips,), `scores` (clips,) float64,
    and `info`, JSON with the model, the layer, the preprocessing, and `centres`: value i is centred at frame or pixel
    offset + stride * i of the clip as the network gets it. Raises OSError if the disk is full or faulty.
    """
    info = {
        "model": found.card.name,
        "layer": found.layer,
        "preprocessing": asdict(found.preprocessing),
        "centres": asdict(found.centres),
        "error": None if found.error is None else found.error.to_record(),
    }
    with finished_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            values=np.stack([each.values for each in found.maps]),
            spans=np.array([(each.span.start, each.span.end) for each in found.maps]),
            labels=np.array([each.label for each in found.maps]),
            scores=np.array([each.score for each in found.maps]),
            info=np.array(json.dumps(info)),
        )
