"""A loaded network whose logits become class scores, of clips that may be spread over a video and cropped several times."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count

from ig65m.engines.base import Pooling
from ig65m.errors import UsageError
from ig65m.memory import release_memory
from ig65m.models.spec import ResNetSpec
from ig65m.pipeline import VideoResult
from ig65m.tasks.extractor import OnClip, Run, Stopping
from ig65m.tasks.options import Options, Resolved, resolve
from ig65m.types import MAX_CLIPS, ClipSpan
from ig65m.video.clips import Source


class Classifier:
    """A loaded network; `run` gives a result for each crop of each clip.

    Attributes:
        card: Card of the network, with the labels that replace its own.
        crops: Crops of each clip.
        weights_sha256: Digest of the weights; computed if it was asked for.
    """

    def __init__(
        self,
        options: Options,
        *,
        clips: int | None = None,
        crops: int | None = 1,
        full: bool | None = False,
        labels: tuple[str, ...] | None = None,
        digest: bool = False,
    ) -> None:
        """Load the network. `clips`, `crops`, `full` and errors are those of `ig65m.classify`."""
        self.crops = 1 if crops is None else crops
        if clips is not None:
            _check_clips(clips, options)
        with release_memory():
            resolved = resolve(options, logits=True, maps=bool(full), labels=labels)
            self.weights_sha256 = resolved.weights.sha256 if digest else None
            resolved = replace(resolved, clips=clips, preprocessing=replace(resolved.preprocessing, crops=self.crops))
            self.run = Run(_full_edge(resolved) if full else resolved, Pooling())
        card = resolved.weights.card
        self.card = card if labels is None else replace(card, labels=labels)

    def videos(
        self, sources: Iterable[Source], on_clip: OnClip | None, stopping: Stopping | None = None
    ) -> Iterator[VideoResult]:
        """Yield the result of each video; `on_clip` is called after the last crop of each clip."""
        if on_clip is not None and self.crops > 1:
            on_clip = _after_each(self.crops, on_clip)
        return self.run.videos(sources, on_clip, stopping)


def _check_clips(clips: int, options: Options) -> None:
    """Raise UsageError if so many clips cannot be spread over a video, or not with these options."""
    if type(clips) is not int or not 1 <= clips <= MAX_CLIPS:
        raise UsageError(f"the number of clips must be from 1 to {MAX_CLIPS}, got {clips!r}")
    if options.stride is not None:
        raise UsageError("clips spread over the video have no stride; leave --clips or --stride out")
    if options.within_shots:
        raise UsageError("clips spread over the video cross shots; leave --clips or --within-shots out")
    if options.tail == "drop":
        raise UsageError("clips spread over the video leave no short last clip to drop; leave --clips or --tail out")


def _full_edge(resolved: Resolved) -> Resolved:
    """The same run on pictures of the full shorter edge; a window of the usual crop's size slides over their feature maps."""
    spec, preprocessing = resolved.weights.spec, resolved.preprocessing
    if not isinstance(spec, ResNetSpec):
        return resolved
    if preprocessing.crop is None:
        raise UsageError("the network already sees whole pictures; leave --full or the preprocessing out")
    edge = preprocessing.resize if isinstance(preprocessing.resize, int) else min(preprocessing.resize)
    return replace(resolved, window=spec.map_size(*preprocessing.crop), preprocessing=replace(preprocessing, crop=(edge, edge)))


def _after_each(crops: int, on_clip: OnClip) -> OnClip:
    """Return a callback that passes on every `crops`-th call."""
    calls = count(1)

    def call(source: Source, span: ClipSpan) -> None:
        if next(calls) % crops == 0:
            on_clip(source, span)

    return call
