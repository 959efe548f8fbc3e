"""An index of clips: built from folders of features, extended, searched."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ig65m.atomic import check_place
from ig65m.errors import UnknownLabelError, UnknownShotError, UnknownVideoError, UsageError, check_choice, shown
from ig65m.search.exact import best, cosines
from ig65m.search.hits import Hit, Merge, Moment, Where
from ig65m.search.ingest import Ingest, IngestResult, unit_length
from ig65m.search.lance import Table
from ig65m.search.metadata import FILE, FORMAT, different, locked, pooled, read_record, write_record
from ig65m.search.results import found_hits, hits_of
from ig65m.search.rows import Rows
from ig65m.search.vectors import Vectors, load_matrix
from ig65m.search.videos import IndexedVideo, list_videos
from ig65m.store.folder import read_journal, read_settings
from ig65m.types import ClipSpan, Label

EXACT_UP_TO: Final = 100_000  # clips
LEAST: Final = 1000  # clips below which search is always exact: an approximate index learns 256 centres
FEW: Final = 16  # queries; more at once are faster to compare with all vectors
MANY: Final = 50  # hits; likewise
GROWN: Final = 4  # growth since the approximate index was built, at which it is rebuilt
BESIDE: Final = 20_000  # clips outside the approximate index, up to which they cost a search little
EXTRACT_SHOTS: Final = "extract the features with --within-shots, and add them with `ig65m index add`"
PIECES: Final = 64  # number of files of rows from which on they are merged

Kind = Literal["exact", "approximate"]


@dataclass(frozen=True)
class ClipRows:
    """The clips of a video in order: vectors (n, C) float32 of length 1, and span and labels of each."""

    vectors: NDArray[np.float32]
    spans: tuple[ClipSpan, ...]
    labels: tuple[tuple[Label, ...], ...]


@dataclass(frozen=True)
class _State:
    """Contents of an index at one version of its table."""

    version: int
    rows: Rows
    matrix: Vectors
    unlearned: int | None  # number of clips outside the approximate index; None without one


class Index:
    """An open index in a folder. Several processes and threads may search it, also while one adds to it."""

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Create with `open` or `build`."""
        self.folder = folder
        self.settings: dict[str, Any] = record["settings"]
        self.exact_up_to: int = record["exact_up_to"]
        self._table = Table(folder)
        self._loading = threading.RLock()
        self._state = self._read()

    @staticmethod
    def build(
        features: Path,
        folder: Path,
        *,
        exact_up_to: int = EXACT_UP_TO,
        on_video: Callable[[str], None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> tuple["Index", IngestResult]:
        """Build an index of a folder of features in a new or empty folder. `exact_up_to`: clips up to which search is exact.

        Raises UsageError for invalid folders, and as `add`.
        """
        if type(exact_up_to) is not int or exact_up_to < 0:
            raise UsageError(f"exact_up_to must be a whole number of at least 0, got {exact_up_to!r}")
        settings = pooled(read_settings(features), features)
        read_journal(features)
        check_place(folder / FILE)
        Table(folder)  # raises UsageError without LanceDB
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, "changing", say):
            if (folder / FILE).exists():
                raise UsageError(f"{folder} is already an index; use `ig65m index add` to add to it")
            if strange := [path.name for path in folder.iterdir() if not path.name.startswith(".")]:
                raise UsageError(f"{folder} is not empty (it has {strange[0]!a}); choose a new folder")
            write_record(folder, {"format": FORMAT, "exact_up_to": exact_up_to, "settings": settings})
        index = Index.open(folder)
        return index, index.add(features, on_video=on_video, say=say)

    @staticmethod
    def open(folder: Path) -> "Index":
        """Open the index in a folder. Raises UsageError if there is none, or of an unknown version."""
        return Index(folder, read_record(folder))

    def __len__(self) -> int:
        return len(self._latest().rows)

    @property
    def width(self) -> int:
        """Length of a vector; 0 while the index is empty."""
        return self._table.width

    @property
    def model_name(self) -> str:
        """Name of the network that computed the features."""
        return str(self.settings.get("name"))

    @property
    def clip_seconds(self) -> float:
        """Median duration of a clip in seconds."""
        rows = self._latest().rows
        lengths = (rows.end - rows.start)[~rows.damaged]
        return float(np.median(lengths)) if len(lengths) else 0.0

    @property
    def damaged(self) -> int:
        """Number of clips left out because their rows in the table are invalid."""
        return int(self._latest().rows.damaged.sum())

    @property
    def shots(self) -> int:
        """Number of shots; 0 if the features were extracted without them."""
        rows = self._latest().rows
        known = rows.shot >= 0
        return len(set(zip(rows.source[known].tolist(), rows.shot[known].tolist(), strict=True)))

    @property
    def kind(self) -> Kind:
        """ "exact" or "approximate"."""
        return self._kind(self._latest().rows)

    def _kind(self, rows: Rows) -> Kind:
        return "exact" if len(rows) <= max(self.exact_up_to, LEAST) else "approximate"

    @property
    def version(self) -> int:
        """Version of the index; changes whenever something is added or removed."""
        return self._latest().version

    def described(self) -> str:
        """Describe in a line how the index searches."""
        state = self._latest()
        over = f"over {len(state.rows):,} clips of {len(state.rows.sources):,} videos"
        if self._kind(state.rows) == "exact":
            return f"exact search {over}"
        if state.unlearned is None:
            return f"exact search {over}; the next `ig65m index add` builds the approximate index"
        return f"approximate search (IVF-PQ, refined) {over}, {state.unlearned:,} of them outside the approximate index"

    def add(
        self,
        features: Path,
        *,
        on_video: Callable[[str], None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> IngestResult:
        """Add what a folder of features has and the index lacks, and replace what has changed.

        Raises UsageError, naming the differences, if other settings computed the features; OSError if the disk is full or
        faulty. What was added before stays, and the next call continues.
        """
        self.check(pooled(read_settings(features), features), str(features))
        entries = sorted(read_journal(features), key=lambda entry: (entry.video.path, entry.name))
        with locked(self.folder, "changing", say):
            table = Table(self.folder)  # not the table that is searched meanwhile, whose version its rows belong to
            ingest = Ingest(table, {source.name: source.result for source in self._latest().rows.sources})
            for entry in entries:
                ingest.take(features, entry)
                if on_video is not None:
                    on_video(entry.video.path)
            ingest.write()
            self._settle(table, say or (lambda _: None))
        return ingest.done()

    def _settle(self, table: Table, say: Callable[[str], None]) -> None:
        """Update what search uses after rows were added, at a cost that is small compared with adding them."""
        state = self._latest()
        count, missing, record = len(state.rows), state.unlearned, read_record(self.folder)
        learned = record.get("learned") or count - (
            missing or 0
        )  # the index was built by a process that was killed before it recorded it
        if self._kind(state.rows) == "approximate":
            if missing is None or count > GROWN * learned:
                why = f"more than {self.exact_up_to:,}" if missing is None else f"grown from {learned:,}"
                say(f"{count:,} clips, {why}: building the approximate index, which takes some minutes for a million")
                table.learn(count)
                write_record(self.folder, record | {"learned": count})
            elif missing > BESIDE:
                say(f"adding {missing:,} clips to the approximate index")
                table.tidy()
        elif table.pieces() > PIECES:
            table.tidy()
        self._latest()

    def remove(self, videos: Sequence[str]) -> int:
        """Remove videos by their names in the index, and return the number of clips. Raises UsageError for unknown names."""
        with locked(self.folder, "changing"):
            rows = self._latest().rows
            self._known(rows, videos)
            Table(self.folder).delete(rows.sources[rows.numbers[video]].result for video in videos)
            return len(rows) - len(self._latest().rows)

    def check(self, settings: Mapping[str, Any], whose: str) -> None:
        """Raise UsageError, naming the differences, unless features of these settings are comparable with those in the
        index.
        """
        if differ := different(self.settings, settings):
            raise UsageError(f"{whose} cannot be compared with {self.folder}, whose features differ: {'; '.join(differ)}")

    def search(
        self,
        vectors: NDArray[np.float32],
        count: int,
        *,
        where: Where | None = None,
        leave_out: Moment | Sequence[Moment] | None = None,
        merge: Merge = False,
        exact: bool = False,
    ) -> list[Hit]:
        """Return the `count` clips most similar to any of the vectors (Q, C), best first; fewer only if there are no more.

        Similarity is the cosine; equal clips are ordered by video and time. leave_out: a moment whose clips are no hits, or
        one for each vector, whose clips are no hits of that vector. With `merge`, hits that touch are merged, and `count`
        counts merged hits. With merge="shot", hits of one shot become one that spans the shot, and the shots of the moments
        that are left out are left out as a whole. With `exact`, all vectors are compared, whatever the kind of the index.

        Raises UsageError for vectors of another width, zero vectors, and unknown names in `where`; UnknownShotError for
        merge="shot" if the index has no shots.
        """
        state = self._latest()
        _check_count(count)
        self._check_merge(state.rows, merge)
        queries, numbers = self._queries(vectors)
        moments = [leave_out] * len(vectors) if leave_out is None or isinstance(leave_out, Moment) else list(leave_out)
        if len(moments) != len(vectors):
            raise UsageError(f"{len(vectors)} vectors but {len(moments)} moments to leave out")
        rows = state.rows
        if len(rows) == 0:
            return []
        allowed = self._allowed(rows, where or Where())
        chosen = [moments[number] for number in numbers]
        own = [np.zeros(0, np.int64) if moment is None else rows.within(moment) for moment in chosen]
        if merge == "shot":
            own = [rows.with_shots(each) for each in own]

        def find(most: int) -> list[Hit]:
            found = None
            if not exact and allowed is None and len(queries) <= FEW and most <= MANY:
                found = self._near(state, queries, most, own)
            rows_found, scores, asked = found or best(state.matrix, queries, most, allowed=allowed, own=own)
            return hits_of(rows, rows_found, scores, numbers[asked], most)

        return found_hits(find, count, rows, merge)

    def _near(
        self, state: _State, queries: Vectors, count: int, own: Sequence[NDArray[np.int64]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]] | None:
        """Search as `best` with the approximate index; None without one, or if it finds too few."""
        rows = state.rows
        if state.unlearned is None or self._kind(rows) == "exact":
            return None
        best_of: dict[int, tuple[float, int]] = {}
        for number, (query, theirs) in enumerate(zip(queries, own, strict=True)):
            results, clips, vectors = self._table.near(query, count + len(theirs))
            scores = cosines(vectors, query)
            for row, score in zip(rows.find(results, clips).tolist(), scores.tolist(), strict=True):
                if row >= 0 and row not in theirs and score > best_of.get(row, (-2.0, 0))[0]:
                    best_of[row] = score, number
        if len(best_of) < min(count, len(rows) - max(map(len, own))):
            return None
        facts = np.array([*best_of.values()])
        return np.array([*best_of]), facts[:, 0], facts[:, 1].astype(np.int64)

    def search_label(self, label: str, count: int, *, where: Where | None = None, merge: Merge = False) -> list[Hit]:
        """Return the `count` clips with the highest stored score of a label, as `search`. Raises UsageError for an unknown
        label.
        """
        rows = self._latest().rows
        _check_count(count)
        self._check_merge(rows, merge)
        _check_label(rows, label)
        scores, allowed = rows.scores_of(label), self._allowed(rows, where or Where())
        chosen = np.flatnonzero((scores >= 0) if allowed is None else (scores >= 0) & allowed)

        def find(most: int) -> list[Hit]:
            return hits_of(rows, chosen, scores[chosen], np.zeros(len(chosen), np.int64), most)

        return found_hits(find, count, rows, merge)

    def sources(self) -> dict[str, str]:
        """Path of each video by its name in the index."""
        return {source.name: source.path for source in self._latest().rows.sources if source.name}

    def labels(self) -> dict[str, int]:
        """Number of clips with each stored label, most frequent first."""
        rows = self._latest().rows
        clips = np.bincount(rows.label, minlength=len(rows.label_names)).tolist()
        return dict(sorted(zip(rows.label_names, clips, strict=True), key=lambda pair: (-pair[1], pair[0])))

    def videos(self) -> list[IndexedVideo]:
        """All videos, by path."""
        return list_videos(self._latest().rows)

    def clips(self, video: str) -> ClipRows:
        """Return the clips of a video by its name in the index. Raises UsageError if there is none."""
        state = self._latest()
        self._known(state.rows, [video])
        rows = state.rows.of(video)
        spans = tuple(state.rows.span(row) for row in rows)
        return ClipRows(state.matrix[rows], spans, tuple(state.rows.labels(row) for row in rows))

    def sample(self, count: int, seed: int = 0) -> Vectors:
        """Return vectors (count, C) of random clips, or of all if there are fewer; without zero vectors."""
        vectors = self._latest().matrix
        rows = np.random.default_rng(seed).permutation(len(vectors))[:count]
        drawn = vectors[np.sort(rows)]
        return drawn[drawn.any(1)]

    def _queries(self, vectors: NDArray[np.float32]) -> tuple[Vectors, NDArray[np.int64]]:
        """Return the non-zero vectors, scaled to length 1, and their numbers."""
        vectors = np.asarray(vectors)
        if vectors.ndim != 2 or len(vectors) == 0 or (self.width and vectors.shape[1] != self.width):
            raise UsageError(f"expected vectors (Q, {self.width or 'C'}), got shape {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise UsageError("the vectors contain numbers that are not finite")
        unit = unit_length(vectors)
        numbers = np.flatnonzero(unit.any(1))
        if len(numbers) == 0:
            raise UsageError("a zero vector has no direction, so it has no neighbours; search with another clip")
        return unit[numbers], numbers

    def _allowed(self, rows: Rows, where: Where) -> NDArray[np.bool_] | None:
        self._known(rows, [*(where.videos or ()), *where.not_videos])
        if where.label is not None:
            _check_label(rows, where.label)
        return rows.allowed(where)

    def _known(self, rows: Rows, videos: Sequence[str]) -> None:
        if unknown := [video for video in videos if not video or video not in rows.numbers]:
            raise UnknownVideoError(f"{self.folder} has no video {unknown[0]!a}")

    def _check_merge(self, rows: Rows, merge: Merge) -> None:
        if isinstance(merge, str):
            check_choice("merge", merge, ["shot"])
        if merge == "shot" and not rows.has_shots:
            raise UnknownShotError(f"{self.folder} has no shots to merge by; {EXTRACT_SHOTS}")

    def _latest(self) -> _State:
        """Return the current state, read again if the table has changed."""
        with self._loading:
            self._table.latest()
            if self._table.version != self._state.version:
                self._state = self._read()
            return self._state

    def _read(self) -> _State:
        table = self._table
        rows = table.rows()
        return _State(table.version, rows, load_matrix(self.folder, rows, table.width, table.vectors), table.unlearned())


def _check_count(count: int) -> None:
    if type(count) is not int or count < 1:
        raise UsageError(f"the count must be a whole number of at least 1, got {count!r}")


def _check_label(rows: Rows, label: str) -> None:
    if not rows.label_names:
        raise UnknownLabelError("the index has no labels; extract with --top-k 5 to store them")
    if label not in rows.label_names:
        near = get_close_matches(label, rows.label_names, 4) or sorted(rows.label_names)
        raise UnknownLabelError(f"no clip has the label {label!a}; the index has {shown(near)}")
