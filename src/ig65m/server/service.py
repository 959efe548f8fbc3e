"""State that the routes share: the index, the extractor, admission of uploads, thumbnails."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m import __version__
from ig65m.errors import DamagedIndexError
from ig65m.motion.folder import MotionFolder
from ig65m.search.index import Index
from ig65m.search.videos import IndexedVideo
from ig65m.server.admission import Admission, Stopping
from ig65m.server.catalogue import Catalogue
from ig65m.server.class_maps import LazyMapper
from ig65m.server.errors import ApiError, public_message, unreadable
from ig65m.server.media import Thumbnails, missing
from ig65m.server.schemas import Batches, Classification, Extraction, FailureDetail, Health, TimedLabels, scored
from ig65m.server.security import AccessPolicy, Throttle
from ig65m.server.uploads import UploadFolder, UploadLimits, private_folder
from ig65m.store.features import Features
from ig65m.tasks.extractor import Extractor
from ig65m.types import Failure, Limits, Prediction
from ig65m.video.isolation import close_idle, keep_idle

PICTURE_THREADS: Final = 2
_MOST_NUMBERS: Final = 2_000_000  # most numbers in a response; as JSON they take 40 MB
_NAME: Final = "the upload"


@dataclass(frozen=True)
class Rules:
    """How much the service accepts."""

    queue: int = 32  # uploads at a time, waiting ones included
    workers: int = 4  # uploads that are processed at the same time
    seconds: float = 300.0  # longest processing time of one upload
    upload: UploadLimits = field(default_factory=lambda: UploadLimits(128 << 20))


@dataclass(frozen=True)
class Service:
    """An index, its extractor, and all state of the routes."""

    index: Index
    catalogue: Catalogue
    extractor: Extractor
    rules: Rules
    access: AccessPolicy
    admission: Admission
    thumbnails: Thumbnails
    logins: Throttle
    folder: UploadFolder
    roots: tuple[Path, ...] = ()  # folders that the files of videos must be in; empty: any
    motion: MotionFolder | None = None  # with the camera motion of videos of the index
    mapper: LazyMapper | None = None  # shows where the network finds a label; None if it cannot

    def health(self) -> Health:
        """Return the state of the service."""
        counts, problems = self.extractor.counts, []
        try:
            listing = self.catalogue.listing()
        except (DamagedIndexError, OSError):
            problems.append("the index cannot be read at the moment")
            listing = self.catalogue.last()
        if listing.damaged:
            problems.append(f"{listing.damaged} clips of the index are damaged and left out")
        try:
            self.folder.path()
        except OSError:
            problems.append("the folder for uploads cannot be created")
        return Health(
            status="closing" if self.admission.closed else "degraded" if problems else "ok",
            problems=problems,
            version=__version__,
            model=self.extractor.card.name,
            precision=self.extractor.settings["precision"],
            kind=listing.kind,
            videos=len(listing.videos),
            clips=listing.clips,
            max_upload=self.rules.upload.size,
            requests=self.admission.requests(),
            batches=Batches(count=counts.batches, clips=counts.clips, mean=counts.mean),
        )

    def file_of(self, video: IndexedVideo) -> Path:
        """Return the file or folder of a video. Raises ApiError 410 if it is outside the folders that are served."""
        path = Path(video.path)
        if self.roots:
            try:
                place = path.resolve()
            except (OSError, ValueError, RuntimeError):
                raise missing() from None
            if not any(place.is_relative_to(root) for root in self.roots):
                raise missing()
        return path

    def classify(self, path: Path, top_k: int, stopping: Stopping) -> Classification | None:
        """Classify a video; None if it was stopped. Raises ApiError if nothing of it can be read."""
        done = next(self.extractor.classify_many([path], top_k=top_k, stopping=stopping), None)
        if done is None:
            return None
        return Classification(
            model=done.model,
            status=done.status,
            error=_failed(done, path),
            labels=scored(done.labels),
            clips=[TimedLabels(start=clip.start, end=clip.end, labels=scored(clip.labels)) for clip in done.clips],
        )

    def extract(self, path: Path, stopping: Stopping) -> Extraction | None:
        """Extract features of a video for a response; otherwise as `classify`."""
        done = self.features(path, stopping)
        if done is None:
            return None
        if done.array.size > _MOST_NUMBERS:
            raise ApiError(
                422, "too_long", f"its {len(done.array):,} clips are too many for one response; send a shorter part of it"
            )
        rows = flat(done)
        return Extraction(
            model=self.extractor.card.name,
            status=done.status,
            error=_failed(done, path),
            shape=rows.shape,
            spans=[(span.start, span.end) for span in done.spans],
            features=rows.tolist(),
        )

    def features(self, path: Path, stopping: Stopping) -> Features | None:
        """Extract features of a video; None if it was stopped. Raises ApiError if nothing of it can be read."""
        done = next(self.extractor.extract_many([path], stopping=stopping), None)
        if done is not None:
            _failed(done, path)
        return done


def flat(features: Features) -> NDArray[np.float32]:
    """Flatten un-pooled features to (clips, C)."""
    return features.array.reshape(len(features.array), int(np.prod(features.array.shape[1:])))


def _failed(done: Prediction | Features, path: Path) -> FailureDetail | None:
    """Return what was wrong with a video, without private facts. Raises ApiError if nothing could be read."""
    error: Failure | None = done.error
    if error is None:
        return None
    message = public_message(error.message, path, _NAME)
    if done.status == "failed":
        raise unreadable(message, error.last_good_time, error.stage)
    return FailureDetail(**{**asdict(error), "message": message})


@contextmanager
def opened(
    index: Index,
    extractor: Extractor,
    access: AccessPolicy,
    rules: Rules,
    limits: Limits,
    roots: Sequence[Path] = (),
    motion: MotionFolder | None = None,
    mapper: LazyMapper | None = None,
) -> Iterator[Service]:
    """Open the service for the block; afterwards no worker and no upload of it is left."""
    keep_idle(rules.workers + PICTURE_THREADS)
    with private_folder() as folder:
        admission = Admission(rules.queue, rules.workers, rules.seconds)
        thumbnails = Thumbnails(limits, PICTURE_THREADS)
        try:
            catalogue, places = Catalogue(index), tuple(root.resolve() for root in roots)
            throttle = access.throttle
            yield Service(
                index, catalogue, extractor, rules, access, admission, thumbnails, throttle, folder, places, motion, mapper
            )
        finally:
            admission.close()
            admission.stop()
            thumbnails.close()
            admission.pool.shutdown(cancel_futures=True)
            keep_idle(1)
            close_idle()
