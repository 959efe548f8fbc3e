"""classify and extract: labels and features of one video or of many."""

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count
from typing import Any, Final, TypedDict, TypeVar, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from ig65m.engines.base import Engine, Pooling, Work, check_batch
from ig65m.engines.choice import Choice, choose, described
from ig65m.engines.shared import Counts, SharedEngine
from ig65m.errors import UsageError, VideoError, check_choice
from ig65m.memory import release_memory
from ig65m.models.network import Network
from ig65m.models.spec import ResNetSpec
from ig65m.pipeline import VideoResult, run
from ig65m.types import (
    MAX_CLIPS,
    Clip,
    ClipPrediction,
    ClipSpan,
    Features,
    Frames,
    Label,
    Limits,
    Prediction,
    Preprocessing,
    Resampling,
    Segment,
)
from ig65m.video.clips import Source, check_source, check_spread, clips_from, read_ticks, sampling_of
from ig65m.video.isolation import Decoder, prepare
from ig65m.video.sampling import Sampling, Tail
from ig65m.zoo.cards import CARDS, Card, check_use
from ig65m.zoo.custom import as_network
from ig65m.zoo.labels import read_labels
from ig65m.zoo.load import load_model, weights_sha256

DEFAULT_CLASSIFIER: Final = "r2plus1d_34_32_kinetics"
DEFAULT_EXTRACTOR: Final = "r2plus1d_34_32_ig65m"
CPU_BATCH: Final = 1  # clips: more are no faster there, and the last batch is filled up
GPU_BATCH: Final = 8

# What --preprocessing may name beside the card's own: who resizes.
PREPROCESSINGS: Final[dict[str, Resampling]] = {"vmz": "fast_bilinear", "ig65m-pytorch": "float_bilinear"}


R = TypeVar("R", Prediction, Features)


class Options(TypedDict, total=False):
    """What classify and extract have in common.

    model: a name, a model file, or a network of load_model. frames, frame_step: of a clip; default: the card's.
    stride: frames from one clip's start to the next, default: the clip's span. fps: frames a second to choose by time,
    default: every frame. start, end: in seconds of the stream. tail: "pad" or "drop". preprocessing: "vmz" or
    "ig65m-pytorch", default: the card's. batch_size: clips that go through the network together. device: "cpu", "cuda",
    "cuda:1". engine: "openvino" (default on the CPU), "onnxruntime" or "pytorch" (default on a GPU). precision: "fp32",
    "bf16", "fp16" or "int8", default: "int8" of a quantised model, else "fp32". threads: of the engine, default: one a core.
    on_engine: told what was chosen, in a line.
    image_fps: frames a second of a folder of images. limits: what one video may cost. in_process: decode in this process,
    not in one of its own: a video that crashes the decoder then ends the program. shared: an extractor's, which several
    threads run at the same time: their clips go through the network together, `batch_size` (default 8) of them.
    """

    model: str | os.PathLike[str] | Network
    frames: int | None
    frame_step: int | None
    stride: int | None
    fps: float | None
    start: float | None
    end: float | None
    tail: Tail
    preprocessing: str | None
    batch_size: int | None
    device: str
    engine: str | None
    precision: str | None
    threads: int | None
    on_engine: Callable[[str], None] | None
    image_fps: float
    limits: Limits
    in_process: bool
    shared: bool


@dataclass(frozen=True)
class _Job:
    """Resolved options of one run."""

    model: Network
    reload: Callable[[], Network] | None  # loads it again, where it is nobody else's
    sampling: Sampling
    preprocessing: Preprocessing
    batch_size: int
    choice: Choice
    on_engine: Callable[[str], None] | None
    image_fps: float
    limits: Limits
    in_process: bool
    shared: bool
    clips: int | None = None  # spread over each video, in place of the stride
    window: tuple[int, int] | None = None  # of the feature maps, slid over them

    @property
    def card(self) -> Card:
        card: Card = self.model.card
        return card

    def engine(self, pooling: Pooling) -> Engine:
        work = Work(
            preprocessing=self.preprocessing,
            frames=self.sampling.frames,
            batch_size=self.batch_size,
            pooling=pooling,
            window=self.window,
        )
        engine: Engine
        if self.shared:
            sizes = sorted({1, self.batch_size}, reverse=True)  # the last one may take the weights
            engine = SharedEngine(
                {
                    size: self.choice.load(
                        self.model, replace(work, batch_size=size), reload=self.reload if size == 1 else None
                    )
                    for size in sizes
                }
            )
        else:
            engine = self.choice.load(self.model, work, reload=self.reload)
        if self.on_engine is not None:
            self.on_engine(described(engine, self.choice.threads))
        return engine

    def run(
        self,
        sources: Iterable[Source],
        engine: Engine,
        on_clip: Callable[[Source, ClipSpan], None] | None,
        stopping: Callable[[], bool] | None = None,
    ) -> Iterator[VideoResult]:
        facts: dict[str, Any] = {"batch_size": self.batch_size, "on_clip": on_clip, "stopping": stopping}
        here = partial(read_ticks, limits=self.limits)
        how: dict[str, Any] = {"clips": self.clips, "image_fps": self.image_fps}
        with nullcontext() if self.in_process else Decoder(self.limits) as decoder:

            def read(source: Source) -> Generator[Clip, None, None]:
                ticks = here if decoder is None or isinstance(source, Frames) else decoder.read_ticks
                return clips_from(ticks, source, self.sampling, self.preprocessing, **how)

            yield from run(sources, read, engine, **facts, interrupt=None if decoder is None else decoder.interrupt)


def _job(default_model: str, options: Options, *, logits: bool, maps: bool, labels: tuple[str, ...] | None = None) -> _Job:
    """The options made good; what is asked of the network is told to its card, before a download where that is known."""
    options = cast(Options, {name: value for name, value in options.items() if value is not None})
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"no option {', '.join(sorted(unknown))}; there are {', '.join(Options.__annotations__)}")
    frames, frame_step = options.get("frames"), options.get("frame_step")
    sampling = Sampling(
        frames=1 if frames is None else frames,
        frame_step=1 if frame_step is None else frame_step,
        stride=options.get("stride"),
        fps=options.get("fps"),
        start=options.get("start"),
        end=options.get("end"),
        tail=options.get("tail", "pad"),
    )
    named = options.get("preprocessing")
    if named is not None:
        check_choice("preprocessing", named, PREPROCESSINGS)
    device = options.get("device", "cpu")
    choice = choose(options.get("engine"), options.get("precision"), device, options.get("threads"))
    batch_size = options.get("batch_size")
    shared = options.get("shared", False)
    if batch_size is None:
        batch_size = CPU_BATCH if choice.device == "cpu" and not shared else GPU_BATCH
    check_batch(batch_size)
    image_fps = options.get("image_fps", 25.0)
    if not 0 < image_fps < math.inf:
        raise UsageError(f"a folder of images needs a positive number of frames a second, got {image_fps}")
    limits, in_process = options.get("limits", Limits()), options.get("in_process", False)
    if not in_process:
        prepare(limits)

    check = partial(check_use, frames=frames, logits=logits, maps=maps, labels=labels)
    chosen = options.get("model", default_model)
    name = os.fspath(chosen) if isinstance(chosen, str | os.PathLike) else None
    if name in CARDS:
        check(CARDS[name], classes_known=not CARDS[name].classes_unpublished)
    model = as_network(chosen) if name is None else load_model(name)
    card: Card = model.card
    check(card, classes_known=True)
    sampling = replace(
        sampling,
        frames=cast(int, card.frames if frames is None else frames),
        frame_step=card.frame_step if frame_step is None else frame_step,
    )
    return _Job(
        model=model,
        reload=None if name is None else partial(load_model, name),
        sampling=sampling,
        preprocessing=replace(card.preprocessing, resampling=PREPROCESSINGS[named]) if named else card.preprocessing,
        batch_size=batch_size,
        choice=choice,
        on_engine=options.get("on_engine"),
        image_fps=image_fps,
        limits=limits,
        in_process=in_process,
        shared=shared,
    )


def _check_clips(clips: int, options: Options) -> None:
    """Raise UsageError if there cannot be so many clips spread over a video, or not with these options."""
    if not 1 <= clips <= MAX_CLIPS:
        raise UsageError(f"the number of clips must be from 1 to {MAX_CLIPS}, got {clips}")
    if options.get("stride") is not None:
        raise UsageError("clips spread over the video have no stride; leave --clips or --stride out")
    if options.get("tail") == "drop":
        raise UsageError("clips spread over the video leave no short last clip to drop; leave --clips or --tail out")


def _scoring(job: _Job, clips: int | None, crops: int, *, full: bool) -> _Job:
    """The job with other clips and crops than one after the other and the middle; what VMZ published was measured so."""
    preprocessing, window = replace(job.preprocessing, crops=crops), None
    if full and isinstance(job.card.spec, ResNetSpec):
        resize = preprocessing.resize
        edge = resize if isinstance(resize, int) else min(resize)
        window = job.card.spec.map_size(*preprocessing.crop)
        preprocessing = replace(preprocessing, crop=(edge, edge))
    return replace(job, clips=clips, preprocessing=preprocessing, window=window)


def classify(
    video: Source | NDArray[np.uint8],
    *,
    top_k: int | None = 5,
    labels: str | os.PathLike[str] | None = None,
    clips: int | None = None,
    crops: int | None = 1,
    full: bool | None = False,
    **options: Unpack[Options],
) -> Prediction:
    """What one video shows, per clip and as the mean over its clips.

    `video` is a file, a folder of images, `Frames`, or an array (T, H, W, 3) uint8 whose rate is `fps`. `labels` is a JSON
    file that replaces the card's labels, or a built-in list's name. VMZ tested with `clips=10`, spread evenly over the
    video, in place of one after the other; CSN networks with `crops=3`, from one end of the picture to the other, of which a
    clip's scores are the mean; and with `full`: pictures of the full short edge, on which the network is run fully
    convolutionally. In that mode a clip's scores sum to 1/places, as VMZ's do.

    Raises VideoError if nothing of the video can be read; one that breaks off gives status "partial". ModelError,
    UsageError, CheckpointError, DownloadError as their docstrings say.
    """
    source = _source(video, options)
    if clips is not None:
        check_spread(source, clips)
    return _read_at_all(
        next(classify_many([source], top_k=top_k, labels=labels, clips=clips, crops=crops, full=full, **options))
    )


def classify_many(
    videos: Iterable[Source],
    *,
    top_k: int | None = 5,
    labels: str | os.PathLike[str] | None = None,
    clips: int | None = None,
    crops: int | None = 1,
    full: bool | None = False,
    on_clip: Callable[[Source, ClipSpan], None] | None = None,
    **options: Unpack[Options],
) -> Iterator[Prediction]:
    """A prediction for each video, in their order; one that cannot be read has status "failed" and says why."""
    check_several(videos)
    top_k, crops = 5 if top_k is None else top_k, 1 if crops is None else crops
    _check_top_k(top_k)
    if clips is not None:
        _check_clips(clips, options)
    names = None if labels is None else read_labels(os.fspath(labels))
    with release_memory():
        job = _job(DEFAULT_CLASSIFIER, options, logits=True, maps=bool(full), labels=names)
        job = _scoring(job, clips, crops, full=bool(full))
        engine = job.engine(Pooling())
    if on_clip is not None and crops > 1:
        on_clip = _every(crops, on_clip)
    card = job.card if names is None else replace(job.card, labels=names)
    return (_prediction(result, card, top_k, crops) for result in job.run(videos, engine, on_clip))


def extract(
    video: Source | NDArray[np.uint8],
    *,
    pooling: Pooling | None = None,
    logits: bool = False,
    top_k: int | None = None,
    **options: Unpack[Options],
) -> Features:
    """Features of one video: a row a clip, from before the last layer.

    `logits` adds what the last layer makes of them, `top_k` the best labels of each clip. `video` and errors are as in
    `classify`. `pooling` says how the feature maps become a row (default: the mean).
    """
    source = _source(video, options)
    return _read_at_all(next(extract_many([source], pooling=pooling, logits=logits, top_k=top_k, **options)))


def extract_many(
    videos: Iterable[Source],
    *,
    pooling: Pooling | None = None,
    logits: bool = False,
    top_k: int | None = None,
    on_clip: Callable[[Source, ClipSpan], None] | None = None,
    **options: Unpack[Options],
) -> Iterator[Features]:
    """Features of each video, in their order; one that cannot be read has no rows, status "failed", and says why."""
    check_several(videos)
    return load_extractor(pooling=pooling, logits=logits, top_k=top_k, **options).run(videos, on_clip=on_clip)


def load_extractor(
    *, pooling: Pooling | None = None, logits: bool = False, top_k: int | None = None, **options: Unpack[Options]
) -> "Extractor":
    """What `extract_many` runs, loaded once for as many videos as come. Errors are as in `classify`."""
    if top_k is not None:
        _check_top_k(top_k)
    pooling = pooling or Pooling()
    with release_memory():
        job = _job(DEFAULT_EXTRACTOR, options, logits=logits or top_k is not None, maps=pooling != Pooling())
        weights = weights_sha256(job.model)  # while they are there: the engine may take them
        engine = job.engine(pooling)
    settings = {
        "name": job.card.name,
        "sha256": weights,
        "preprocessing": asdict(job.preprocessing),
        "sampling": asdict(job.sampling),
        "pooling": asdict(pooling),
        "precision": engine.precision,
    }
    return Extractor(settings, job, engine, logits, top_k)


@dataclass(frozen=True)
class Extractor:
    """Features of videos, by an engine that is loaded.

    settings: all that they depend on besides the video: model, preprocessing, sampling, pooling, precision.
    """

    settings: dict[str, Any]
    _job: _Job
    _engine: Engine
    logits: bool
    top_k: int | None

    @property
    def image_fps(self) -> float:
        """At which folders of images are read: their clips' times depend on it."""
        return self._job.image_fps

    def run(
        self,
        videos: Iterable[Source],
        *,
        on_clip: Callable[[Source, ClipSpan], None] | None = None,
        stopping: Callable[[], bool] | None = None,
    ) -> Iterator[Features]:
        """As `extract_many`. Once `stopping` says so, the clips at hand are finished, and what is whole then is the last."""
        check_several(videos)
        for result in self._results(videos, on_clip, stopping):
            yield self._features(result)

    def classify(
        self, videos: Iterable[Source], *, top_k: int = 5, stopping: Callable[[], bool] | None = None
    ) -> Iterator[Prediction]:
        """As `classify_many`, with this extractor's model, engine and way to choose clips; `stopping` is as in `run`.

        Raises UsageError if the network has no classes.
        """
        check_several(videos)
        _check_top_k(top_k)
        if not self.card.spec.classes:
            raise UsageError(f"{self.card.name} has no classes, only features")
        for result in self._results(videos, None, stopping):
            yield _prediction(result, self.card, top_k, 1)

    @property
    def card(self) -> Card:
        """The model's card."""
        return self._job.card

    @property
    def counts(self) -> Counts:
        """The clips that went through the network so far, where it is `shared`, and in how many runs of it."""
        return self._engine.counts if isinstance(self._engine, SharedEngine) else Counts(0, 0)

    def _results(
        self,
        videos: Iterable[Source],
        on_clip: Callable[[Source, ClipSpan], None] | None,
        stopping: Callable[[], bool] | None,
    ) -> Iterator[VideoResult]:
        with self._engine.expected() if isinstance(self._engine, SharedEngine) else nullcontext():
            yield from self._job.run(videos, self._engine, on_clip, stopping)

    def _features(self, result: VideoResult) -> Features:
        card = self._job.card
        array = np.stack(result.features) if result.features else np.zeros((0, card.spec.feature_width), np.float32)
        logits = np.stack(result.logits) if result.logits else np.zeros((0, card.spec.classes), np.float32)
        sampling = self._job.sampling
        if isinstance(result.source, Segment):
            sampling = sampling_of(result.source, sampling)
        return Features(
            path=_path(result.source),
            status=result.status,
            array=array,
            spans=tuple(result.spans),
            model={**self.settings, "sampling": asdict(sampling)},
            logits=logits if self.logits else None,
            labels=None if self.top_k is None else tuple(_labels(row, card, self.top_k) for row in logits),
            error=result.error,
        )


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise UsageError(f"top-k must be at least 1, got {top_k}")


def check_several(videos: Iterable[Source]) -> None:
    """Raise UsageError for one video where several are expected."""
    if isinstance(videos, str | bytes | os.PathLike | Frames | Segment | np.ndarray) or not isinstance(videos, Iterable):
        raise UsageError(f"expected several videos, got {type(videos).__name__}; give a list, such as [video]")


def _every(crops: int, on_clip: Callable[[Source, ClipSpan], None]) -> Callable[[Source, ClipSpan], None]:
    """`on_clip`, told of a clip when all its crops are done."""
    done = count(1)

    def note(source: Source, span: ClipSpan) -> None:
        if next(done) % crops == 0:
            on_clip(source, span)

    return note


def _source(video: Source | NDArray[np.uint8], options: Options) -> Source:
    """An array with the option fps is frames in memory of that rate; everything else stands for itself.

    Raises UsageError for what is no video.
    """
    if not isinstance(video, np.ndarray):
        check_source(video)
        return video
    fps = options.pop("fps", None)
    if fps is None:
        raise UsageError("an array of frames has no times of its own; give its rate with fps=")
    return Frames(video, fps)


def _read_at_all(result: R) -> R:
    if result.status == "failed" and result.error is not None:
        raise VideoError(result.error.message, last_good_time=result.error.last_good_time, gaps=result.error.gaps)
    return result


def _path(source: Source) -> str:
    if isinstance(source, Segment):
        return source.path
    return "" if isinstance(source, Frames) else str(source)


def _prediction(result: VideoResult, card: Card, top_k: int, crops: int) -> Prediction:
    each = [class_scores(row, multi_label=card.spec.multi_label) for row in result.logits]
    scores = [np.mean(each[first : first + crops], axis=0) for first in range(0, len(each), crops)]
    spans = result.spans[::crops]
    clips = tuple(
        ClipPrediction(span.start, span.end, _best(row, card, top_k)) for span, row in zip(spans, scores, strict=True)
    )
    labels = _best(np.mean(scores, axis=0), card, top_k) if scores else ()
    return Prediction(card.name, _path(result.source), result.status, labels, clips, result.error)


def _labels(logits: NDArray[np.float32], card: Card, top_k: int) -> tuple[Label, ...]:
    return _best(class_scores(logits, multi_label=card.spec.multi_label), card, top_k)


def _best(scores: NDArray[Any], card: Card, top_k: int) -> tuple[Label, ...]:
    order = np.argsort(-scores, kind="stable")[:top_k]
    return tuple(Label(card.label(int(index)), float(scores[index])) for index in order)


def class_scores(logits: NDArray[np.float32], *, multi_label: bool = False) -> NDArray[np.float64]:
    """Scores (classes,) in float64 of one clip's logits: their softmax, or their sigmoid in a multi-label network.

    Of a class map (classes, places) they are the mean over the places. VMZ's softmax is over classes and places together
    (Caffe2's Softmax takes all axes but the first), so the scores then sum to 1/places.
    """
    exact = logits.astype(np.float64)
    if multi_label:
        scores = np.exp(-np.logaddexp(0, -exact))
    else:
        scores = np.exp(exact - exact.max())
        scores /= scores.sum()
    return cast("NDArray[np.float64]", scores if scores.ndim == 1 else scores.mean(axis=1))
