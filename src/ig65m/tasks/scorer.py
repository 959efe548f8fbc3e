"""A loaded network that turns videos into class scores of their clips, as rows of features."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from ig65m.pipeline import VideoResult
from ig65m.store.features import Features
from ig65m.tasks.classifier import Classifier
from ig65m.tasks.extractor import OnClip, Stopping
from ig65m.tasks.options import Options
from ig65m.tasks.scoring import clip_scores
from ig65m.tasks.sources import check_several, path_of
from ig65m.types import Segment
from ig65m.video.clips import Source, sampling_of

ROWS: Final = "class scores"


class Scorer:
    """Computes class scores as `ig65m.classify` does; used as an `ig65m.Extractor`, it has `extract_many`.

    Attributes:
        card: Card of the network.
        settings: All that the scores depend on besides the video.
        image_fps: Frame rate of folders of images.
    """

    logits: Final = False
    top_k: Final = None

    def __init__(self, *, clips: int | None = None, crops: int | None = 1, full: bool | None = False, **options: Any) -> None:
        """Load the network. `clips`, `crops`, `full` and errors are those of `ig65m.classify`; `options` those of `Options`."""
        self._classifier = Classifier(Options(**options), clips=clips, crops=crops, full=full, digest=True)
        self.card = self._classifier.card
        run = self._classifier.run
        self._sampling = run.resolved.sampling
        self.image_fps = run.resolved.image_fps
        self.settings: dict[str, Any] = {
            "rows": ROWS,
            "name": self.card.name,
            "sha256": self._classifier.weights_sha256,
            "preprocessing": asdict(run.resolved.preprocessing),
            "sampling": asdict(self._sampling),
            "clips": clips,
            "window": run.resolved.window,
            "precision": run.engine.precision,
        }

    def extract_many(
        self, videos: Iterable[Source], *, on_clip: OnClip | None = None, stopping: Stopping | None = None
    ) -> Iterator[Features]:
        """Yield the class scores of each video, in order: `array` (clips, classes).

        The scores of a clip are the mean over its crops. Except in a multi-label network they sum to 1, also of a network that
        slides over the full picture.

        Parameters are those of `Extractor.extract_many`.
        """
        check_several(videos)
        return (self._features(result) for result in self._classifier.videos(videos, on_clip, stopping))

    def _features(self, result: VideoResult) -> Features:
        crops = self._classifier.crops
        scores = clip_scores(result, self.card, crops)
        if not self.card.spec.multi_label:
            scores /= scores.sum(axis=1, keepdims=True)
        sampling = self._sampling
        if isinstance(result.source, Segment):
            sampling = sampling_of(result.source, sampling)
        return Features(
            path=path_of(result.source),
            status=result.status,
            array=scores.astype(np.float32),
            spans=tuple(clip.span for clip in result.clips[::crops]),
            model={**self.settings, "sampling": asdict(sampling)},
            error=result.error,
            sought=result.sought,
        )
