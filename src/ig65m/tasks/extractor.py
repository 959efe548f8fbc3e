"""A loaded network that turns videos into features or labels, for as many videos and threads as there are."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ig65m.engines.base import Engine, Pooling, Precision, Work
from ig65m.engines.choice import EngineName, described
from ig65m.engines.shared import Counts, SharedEngine
from ig65m.errors import UsageError
from ig65m.memory import release_memory
from ig65m.models.layer_names import find_layer, layer_widths
from ig65m.pipeline import ClipResult, ReadClips, VideoEnd, VideoResult, run, run_clips
from ig65m.store.features import Features
from ig65m.tasks.failures import raise_if_failed
from ig65m.tasks.follow import Followed, follow
from ig65m.tasks.options import Options, Resizing, Resolved, resolve
from ig65m.tasks.scoring import check_top_k, clip_labels, predict
from ig65m.tasks.sources import as_source, check_several, path_of
from ig65m.types import ClipSpan, Limits, Prediction, Segment
from ig65m.video.clips import Source, read_clips, sampling_of
from ig65m.video.isolation import Decoder
from ig65m.video.sampling import Tail
from ig65m.video.stream import Stream

if TYPE_CHECKING:
    from ig65m.models.network import Network

DEFAULT_EXTRACTOR: Final = "r2plus1d_34_32_ig65m"

OnClip = Callable[[Source, ClipSpan], None]
Stopping = Callable[[], bool]


class Extractor:
    """A network, an engine and a way to choose clips: loaded once, used for any number of videos.

    With `shared`, several threads may use it at the same time; their clips go through the network together.

    Attributes:
        card: Card of the network.
        settings: All that the features depend on besides the video: model, preprocessing, sampling, pooling, precision.
        image_fps: Frame rate of folders of images.
        logits: Whether the features carry logits.
        top_k: Number of best labels that the features carry for each clip; None if none.

    Example:
        >>> extractor = ig65m.Extractor("r2plus1d_10_camera_motion")
        >>> extractor.extract("video.mp4").array.shape
        (5, 128)
        >>> [features.status for features in extractor.extract_many(["video.mp4", "missing.mp4"])]
        ['ok', 'failed']
    """

    def __init__(
        self,
        model: "str | os.PathLike[str] | Network | None" = None,
        *,
        pooling: Pooling | None = None,
        layer: str | None = None,
        logits: bool | None = False,
        top_k: int | None = None,
        frames: int | None = None,
        frame_step: int | None = None,
        stride: int | None = None,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        tail: Tail | None = "pad",
        within_shots: bool | str | os.PathLike[str] | None = False,
        preprocessing: Resizing | None = None,
        batch_size: int | None = None,
        device: str | None = "cpu",
        engine: EngineName | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
        image_fps: float | None = 25.0,
        limits: Limits | None = None,
        in_process: bool | None = False,
        shared: bool | None = False,
        on_engine: Callable[[str], None] | None = None,
    ) -> None:
        """Load the network. Parameters and errors are those of `ig65m.extract`, and one more.

        Args:
            shared: Whether several threads use the extractor at the same time. Their clips share batches of up to
                `batch_size` clips, 8 by default.
        """
        if top_k is not None:
            check_top_k(top_k)
        pooling = pooling or Pooling()
        options = Options.of({**locals(), "model": DEFAULT_EXTRACTOR if model is None else model})
        with release_memory():
            has_logits, has_maps = bool(logits) or top_k is not None, layer is None and pooling != Pooling()
            run = resolve(options, logits=has_logits, maps=has_maps, layer=layer)
            weights = run.weights.sha256
            self._run = Run(run, pooling)
        self.card = run.weights.card
        self.image_fps = run.image_fps
        self.logits = bool(logits)
        self.top_k = top_k
        self.settings: dict[str, Any] = {
            "name": self.card.name,
            "sha256": weights,
            "preprocessing": asdict(run.preprocessing),
            "sampling": asdict(run.sampling),
            "pooling": asdict(pooling),
            "precision": self._run.engine.precision,
        }
        self._width = self.card.spec.feature_width
        if layer is not None:
            path = find_layer(self.card.spec, layer)
            self.settings["layer"] = path  # a layer may have several names
            self._width = layer_widths(self.card.spec)[path]
        if run.shots is not None:
            self.settings["shots"] = run.shots.settings

    def extract(self, video: Source | NDArray[np.uint8]) -> Features:
        """Extract the features of one video.

        Raises:
            VideoError: Nothing of the video can be read. If it breaks off, the features have status "partial".
        """
        source, _ = as_source(video, None)
        return raise_if_failed(next(self.extract_many([source])))

    def extract_many(
        self, videos: Iterable[Source], *, on_clip: OnClip | None = None, stopping: Stopping | None = None
    ) -> Iterator[Features]:
        """Yield the features of each video, in order; one that cannot be read has no rows and status "failed".

        Args:
            videos: Files, folders of images, `Frames` or `Segment`s.
            on_clip: Called with source and span of each clip that is done.
            stopping: Once it returns True, no more clips are taken, and the videos that are complete then are the last.
        """
        check_several(videos)
        return (self._features(result) for result in self._run.videos(videos, on_clip, stopping))

    def classify_many(
        self, videos: Iterable[Source], *, top_k: int = 5, stopping: Stopping | None = None
    ) -> Iterator[Prediction]:
        """Yield the prediction for each video, in order, from the same clips as the features.

        Args:
            videos: Files, folders of images, `Frames` or `Segment`s.
            top_k: Number of labels for the video and for each clip, best first.
            stopping: As in `extract_many`.

        Raises:
            UsageError: The network has no classes, or `top_k` is less than 1.
        """
        check_several(videos)
        check_top_k(top_k)
        if not self.card.spec.classes:
            raise UsageError(f"{self.card.name} has no classes; it gives features only")
        if not self._run.has_logits:
            raise UsageError("this extractor stops at a layer, before the classes; make it with logits=True")
        return (predict(result, self.card, top_k, 1) for result in self._run.videos(videos, None, stopping))

    @property
    def counts(self) -> Counts:
        """Clips and batches that went through the network, if it is shared; zeros otherwise."""
        engine = self._run.engine
        return engine.counts if isinstance(engine, SharedEngine) else Counts(0, 0)

    def _features(self, result: VideoResult) -> Features:
        array, logits = (
            np.stack(rows) if rows else np.zeros((0, width), np.float32)
            for rows, width in (
                ([clip.features for clip in result.clips], self._width),
                ([clip.logits for clip in result.clips], self.card.spec.classes),
            )
        )
        sampling = self._run.resolved.sampling
        if isinstance(result.source, Segment):
            sampling = sampling_of(result.source, sampling)
        return Features(
            path=path_of(result.source),
            status=result.status,
            array=array,
            spans=tuple(clip.span for clip in result.clips),
            model={**self.settings, "sampling": asdict(sampling)},
            logits=logits if self.logits else None,
            labels=None if self.top_k is None else tuple(clip_labels(row, self.card, self.top_k) for row in logits),
            error=result.error,
            sought=result.sought,
        )


def follow_features(
    extractor: Extractor,
    stream: Stream,
    followed: Followed,
    *,
    stopping: Stopping,
    on_news: Callable[[str], None] | None = None,
) -> Generator[ClipResult, None, None]:
    """Yield features and logits of each clip of a stream, as `follow` computes them."""
    with closing(
        follow(extractor._run.resolved, extractor._run.engine, stream, followed, stopping=stopping, on_news=on_news)
    ) as results:
        for (clip,) in results:
            yield clip


class Run:
    """Resolved options and a loaded engine: sources in, results out."""

    def __init__(self, resolved: Resolved, pooling: Pooling) -> None:
        """Load the engine, and call `on_engine`."""
        self.resolved = resolved
        work = Work(
            preprocessing=resolved.preprocessing,
            frames=resolved.sampling.frames,
            batch_size=resolved.batch_size,
            pooling=pooling,
            window=resolved.window,
            layer=resolved.layer,
            logits=resolved.layer is None or resolved.logits,
        )
        self.has_logits = work.logits
        self.engine = _shared_engine(resolved, work) if resolved.shared else _engine(resolved, work)
        if resolved.on_engine is not None:
            resolved.on_engine(described(self.engine, resolved.choice.threads))

    def videos(self, sources: Iterable[Source], on_clip: OnClip | None, stopping: Stopping | None) -> Iterator[VideoResult]:
        """Yield the result of each video, as `pipeline.run`."""
        with self._reading() as (read, interrupt), self._expected():
            yield from run(
                sources,
                read,
                self.engine,
                batch_size=self.resolved.batch_size,
                on_clip=on_clip,
                interrupt=interrupt,
                stopping=stopping,
            )

    def clips(self, source: Source, stopping: Stopping | None = None) -> Generator[ClipResult | VideoEnd, None, None]:
        """Yield the result of each clip of one source, as `pipeline.run_clips`."""
        size = self.resolved.batch_size
        with self._reading() as (read, interrupt), self._expected():
            yield from run_clips([source], read, self.engine, batch_size=size, interrupt=interrupt, stopping=stopping)

    @contextmanager
    def _reading(self) -> Iterator[tuple[ReadClips, Callable[[], None] | None]]:
        """How to read the clips of a source, and how to break that off."""
        resolved = self.resolved
        with nullcontext() if resolved.in_process else Decoder(resolved.limits) as decoder:
            read = partial(
                read_clips,
                sampling=resolved.sampling,
                preprocessing=resolved.preprocessing,
                clips=resolved.clips,
                within=None if resolved.shots is None else resolved.shots.within,
                image_fps=resolved.image_fps,
                limits=resolved.limits,
                in_process=resolved.in_process,
                decoder=decoder,
            )
            yield read, None if decoder is None else decoder.interrupt

    def _expected(self) -> AbstractContextManager[None]:
        return self.engine.expected() if isinstance(self.engine, SharedEngine) else nullcontext()


def _engine(resolved: Resolved, work: Work) -> Engine:
    return resolved.choice.load(resolved.weights, work, reload=resolved.reload)


def _shared_engine(resolved: Resolved, work: Work) -> SharedEngine:
    sizes = sorted({1, work.batch_size}, reverse=True)  # the last one loaded may free the weights
    engines = {
        size: resolved.choice.load(
            resolved.weights, replace(work, batch_size=size), reload=resolved.reload if size == 1 else None
        )
        for size in sizes
    }
    return SharedEngine(engines)
