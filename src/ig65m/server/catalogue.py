"""Cached list of the videos and labels in the index."""

import threading
import time
from dataclasses import dataclass, field
from typing import Final

from ig65m.search.index import Index, Kind
from ig65m.search.videos import IndexedVideo
from ig65m.server.errors import no_label, no_video

_FRESH: Final = 0.5  # seconds after which the index is checked for changes


@dataclass(frozen=True)
class Listing:
    """Videos by their ids, in order of titles; stored labels with their numbers of clips."""

    videos: dict[str, IndexedVideo]
    labels: dict[str, int]
    clips: int
    version: int
    kind: Kind
    damaged: int  # clips that are left out

    def video(self, name: str) -> IndexedVideo:
        """Return the video of that id. Raises ApiError 404."""
        if name not in self.videos:
            raise no_video()
        return self.videos[name]

    def check_label(self, label: str | None) -> None:
        """Raise ApiError 404 for an unknown label."""
        if label is not None and label not in self.labels:
            raise no_label()


@dataclass
class Catalogue:
    """The cached listing; may be used by several threads."""

    index: Index
    _listing: Listing | None = None
    _asked: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def listing(self) -> Listing:
        """Return the current listing."""
        with self._lock:
            if self._listing is None or time.monotonic() > self._asked + _FRESH:
                version = self.index.version
                if self._listing is None or self._listing.version != version:
                    self._listing = self._listed(version)
                self._asked = time.monotonic()
            return self._listing

    def _listed(self, version: int) -> Listing:
        every = sorted(self.index.videos(), key=lambda video: (shown(video.title).casefold(), video.video))
        damaged = self.index.damaged
        clips = len(self.index) - damaged
        return Listing({each.video: each for each in every}, self.index.labels(), clips, version, self.index.kind, damaged)

    def last(self) -> Listing:
        """Return the listing when the index could last be read."""
        return self._listing or Listing({}, {}, 0, 0, "exact", 0)


def shown(title: str) -> str:
    """Encode a file name for JSON: bytes that are not text become question marks."""
    return title.encode(errors="replace").decode()
