"""Options of a run over videos: their defaults, their checks, and what they resolve to."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from ig65m.engines.base import Precision, check_batch
from ig65m.engines.choice import Choice, EngineName, choose
from ig65m.errors import check_choice, needs
from ig65m.models.card import Card
from ig65m.models.layer_names import find_layer
from ig65m.models.weights import Weights
from ig65m.types import Limits, Preprocessing, check_image_fps
from ig65m.video.isolation import prepare
from ig65m.video.sampling import Sampling, Tail
from ig65m.zoo.cards import CARDS, check_use
from ig65m.zoo.load import load_weights

if TYPE_CHECKING:
    from ig65m.models.network import Network
    from ig65m.tasks.within_shots import ShotSource

CPU_BATCH: Final = 1  # clips: larger batches are no faster on a CPU, and the last one is padded
GPU_BATCH: Final = 8
LIMITS: Final = Limits()

Resizing = Literal["vmz", "ig65m-pytorch", "ig65m-pytorch-2020", "ig65m-pytorch-2020-torch1.3"]
_WHOLE: Final = {"resize": 128, "crop": None}  # ig65m-pytorch's later `extract`
RESIZINGS: Final[dict[Resizing, dict[str, Any]]] = {
    "vmz": {"resampling": "fast_bilinear"},
    "ig65m-pytorch": {"resampling": "float_bilinear"},
    "ig65m-pytorch-2020": {"resampling": "float_bilinear_by_scale"} | _WHOLE,
    "ig65m-pytorch-2020-torch1.3": {"resampling": "float_bilinear"} | _WHOLE,
}
"""What each changes in the preprocessing of a card."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a run over videos, as a caller gives them. None stands for the default of any of them.

    Raises UsageError if a value is out of range.
    """

    model: "str | os.PathLike[str] | Network"  # a name, a model file, or a network of `load_model`
    frames: int | None = None  # frames in a clip; default: the card's
    frame_step: int | None = None  # frames from one frame of a clip to the next; default: the card's
    stride: int | None = None  # frames from one clip's start to the next; default: the clip's span
    fps: float | None = None  # rate in frames a second at which the video is sampled; default: the card's
    start: float | None = None  # seconds of the stream
    end: float | None = None  # seconds of the stream
    tail: Tail | None = "pad"  # a short last clip: pad it with its last frame, or drop it
    preprocessing: Resizing | None = None  # who resizes; default: as the card says
    batch_size: int | None = None  # clips in a batch; default: 1 on a CPU, 8 on a GPU and for a shared extractor
    device: str | None = "cpu"  # "cpu", "cuda", "cuda:1"
    engine: EngineName | None = None  # default: OpenVINO on a CPU, PyTorch on a GPU
    precision: Precision | None = None  # default: see `Choice`
    threads: int | None = None  # of the engine; default: one for each core
    image_fps: float | None = 25.0  # frame rate of a folder of images
    limits: Limits | None = LIMITS  # what one video may cost
    in_process: bool | None = False  # decode in this process: a video that crashes the decoder ends the program
    within_shots: bool | str | os.PathLike[str] | None = False  # no clip crosses shots: found on the way, or from a folder
    shared: bool | None = False  # several threads use the extractor at once; their clips share batches
    on_engine: Callable[[str], None] | None = None  # called with a line that names engine, precision and device

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) is None:
                object.__setattr__(self, each.name, each.default)
        if self.preprocessing is not None:
            check_choice("preprocessing", self.preprocessing, RESIZINGS)
        check_image_fps(self.image_fps)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "Options":
        """The options among a function's arguments, which have the names of the fields."""
        names = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in arguments.items() if name in names})

    def sampling(self, card: Card | None) -> Sampling:
        """How clips are chosen; without a card the clip's length is a placeholder, for the checks of all other values.

        Raises UsageError if a value is out of range.
        """
        frames = self.frames if self.frames is not None or card is None else card.frames
        frame_step = self.frame_step if self.frame_step is not None or card is None else card.frame_step
        fps = self.fps if self.fps is not None or card is None else card.fps
        return Sampling(
            frames=1 if frames is None else frames,
            frame_step=1 if frame_step is None else frame_step,
            stride=self.stride,
            fps=fps,
            start=self.start,
            end=self.end,
            tail=cast(Tail, self.tail),
        )


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Resolved options of one run: the network, and how its clips are chosen, decoded and computed."""

    weights: Weights
    reload: Callable[[], Weights] | None  # loads them again; None if the caller owns them
    sampling: Sampling
    preprocessing: Preprocessing
    batch_size: int
    choice: Choice
    image_fps: float
    limits: Limits
    in_process: bool
    shared: bool
    on_engine: Callable[[str], None] | None
    shots: "ShotSource | None" = None  # shots that no clip crosses
    clips: int | None = None  # clips spread evenly over each video, instead of the stride
    window: tuple[int, int] | None = None  # height and width of the window that slides over feature maps
    layer: str | None = None  # module whose output becomes features
    logits: bool = True  # whether logits are computed beside the output of a layer


def resolve(
    options: Options, *, logits: bool, maps: bool, layer: str | None = None, labels: tuple[str, ...] | None = None
) -> Resolved:
    """Load the network and resolve all options.

    What the run needs is checked before a download: `logits`, other uses of the feature `maps` than their mean, the `layer`
    whose output becomes features, and `labels` in place of the card's.

    Raises:
        UsageError: An option is out of range, or the network cannot do what is asked.
        ModelError: There is no such model, or it does not take RGB clips.
        CheckpointError: The model file is not a network.
        DownloadError: The weights cannot be downloaded.
    """
    options.sampling(None)
    choice = choose(options.engine, options.precision, cast(str, options.device), options.threads)
    batch_size = options.batch_size
    if batch_size is None:
        batch_size = CPU_BATCH if choice.device == "cpu" and not options.shared else GPU_BATCH
    check_batch(batch_size)
    limits = cast(Limits, options.limits)
    if not options.in_process:
        prepare(limits)
    has_range = options.start is not None or options.end is not None
    within_shots = options.within_shots
    shots = None
    if within_shots is not False and within_shots is not None:
        from ig65m.tasks.within_shots import shot_source

        shots = shot_source(within_shots, choice, limits, has_range=has_range)

    check = partial(check_use, frames=options.frames, logits=logits, maps=maps, labels=labels)
    name = os.fspath(options.model) if isinstance(options.model, str | os.PathLike) else None
    if name in CARDS:
        check(CARDS[name], classes_known=not CARDS[name].classes_unpublished)
        if layer is not None:
            find_layer(CARDS[name].spec, layer)
    weights = _given(options.model) if name is None else load_weights(name)
    check(weights.card, classes_known=True)
    if layer is not None:
        find_layer(weights.spec, layer)
    preprocessing = weights.card.preprocessing
    if options.preprocessing is not None:
        preprocessing = replace(preprocessing, **RESIZINGS[options.preprocessing])
    return Resolved(
        weights=weights,
        reload=None if name is None else partial(load_weights, name),
        sampling=options.sampling(weights.card),
        preprocessing=preprocessing,
        batch_size=batch_size,
        choice=choice,
        image_fps=cast(float, options.image_fps),
        limits=limits,
        in_process=bool(options.in_process),
        shared=bool(options.shared),
        on_engine=options.on_engine,
        shots=shots,
        layer=layer,
        logits=logits or bool(options.shared),
    )


def _given(model: object) -> Weights:
    """Return the weights of a network that the caller loaded."""
    with needs("torch", "a network in place of a model's name"):
        from ig65m.zoo.user_network import checked_weights
    return checked_weights(model)
