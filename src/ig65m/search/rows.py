"""What an index knows of its clips besides their vectors, in memory: a row a clip, in the order of the table."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ig65m.search.hits import TOUCHING, Moment, Where
from ig65m.types import ClipSpan, Label

COLUMNS: Final = ("video", "path", "result", "status", "clip", "start", "end", "first_frame", "last_frame", "labels")


@dataclass(frozen=True)
class Source:
    """A video of the index. name: unique in it. path: of the file. result: sha256 of its features' file."""

    name: str
    path: str
    result: str
    status: str


@dataclass(frozen=True)
class Rows:
    """Of n clips: the number of each one's video in `sources` (in order of first appearance), its number in the video, times
    and frames; labels of row i are those from `label_starts[i]` to `label_starts[i + 1]`, numbers in `label_names` and scores.
    """

    sources: tuple[Source, ...]
    source: NDArray[np.int32]
    clip: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    first_frame: NDArray[np.int64]
    last_frame: NDArray[np.int64]
    label_names: tuple[str, ...]
    label_starts: NDArray[np.int64]
    label: NDArray[np.int32]
    label_score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Of each video by name."""
        return {source.name: number for number, source in enumerate(self.sources)}

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """The place of each video when they are sorted by name."""
        names = np.array([source.name for source in self.sources], object)
        rank = np.empty(len(names), np.int64)
        rank[np.argsort(names, kind="stable")] = np.arange(len(names))
        return rank

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Video and clip as one number, sorted, and the row of each; None if the rows stand in that order anyway."""
        keys = (self.source.astype(np.int64) << 32) + self.clip
        if (keys[1:] > keys[:-1]).all():
            return keys, None
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def of(self, video: str) -> NDArray[np.int64]:
        """Row numbers of a video's clips, in order of its clips; none if there is no such video."""
        keys, order = self._places
        number = self.numbers.get(video, len(self.sources))
        first, last = np.searchsorted(keys, [number << 32, (number + 1) << 32])
        return np.arange(first, last) if order is None else order[first:last]

    def find(self, results: Sequence[str], clips: Sequence[int]) -> NDArray[np.int64]:
        """Row numbers of clips by their videos' results; -1 for one that is not there."""
        known = [(self._results.get(result, -1) << 32) + clip for result, clip in zip(results, clips, strict=True)]
        keys, order = self._places
        places = np.minimum(np.searchsorted(keys, known), len(keys) - 1)
        return np.where(keys[places] == known, places if order is None else order[places], -1)

    @cached_property
    def _results(self) -> dict[str, int]:
        return {source.result: number for number, source in enumerate(self.sources)}

    def within(self, moment: Moment) -> NDArray[np.int64]:
        """Row numbers of the clips that share time with a moment, or are all of it."""
        rows = self.of(moment.video)
        shared = np.minimum(self.end[rows], moment.end) - np.maximum(self.start[rows], moment.start)
        same = (np.abs(self.start[rows] - moment.start) <= TOUCHING) & (np.abs(self.end[rows] - moment.end) <= TOUCHING)
        return rows[(shared > TOUCHING) | same]

    def allowed(self, where: Where) -> NDArray[np.bool_] | None:
        """Whether each row may be a hit; None if all may."""
        if where == Where():
            return None
        allowed = np.ones(len(self), bool)
        if where.videos is not None:
            allowed &= np.isin(self.source, self._numbers(where.videos))
        if where.not_videos:
            allowed &= ~np.isin(self.source, self._numbers(where.not_videos))
        if where.start is not None:
            allowed &= self.start >= where.start - TOUCHING
        if where.end is not None:
            allowed &= self.end <= where.end + TOUCHING
        if where.label is not None:
            allowed &= self.scores_of(where.label) >= 0
        return allowed

    def scores_of(self, label: str) -> NDArray[np.float64]:
        """The stored score (n,) of a label; -1 where it is not among a clip's labels."""
        scores = np.full(len(self), -1.0)
        if label in self.label_names:
            places = np.flatnonzero(self.label == self.label_names.index(label))
            rows = np.searchsorted(self.label_starts, places, side="right") - 1
            np.maximum.at(scores, rows, self.label_score[places])
        return scores

    def labels(self, row: int) -> tuple[Label, ...]:
        """Those stored with a clip, best first."""
        places = range(self.label_starts[row], self.label_starts[row + 1])
        return tuple(Label(self.label_names[self.label[place]], float(self.label_score[place])) for place in places)

    def span(self, row: int) -> ClipSpan:
        """Of a clip."""
        frames = int(self.first_frame[row]), int(self.last_frame[row])
        return ClipSpan(float(self.start[row]), float(self.end[row]), *frames)

    def digest(self, count: int) -> str:
        """Of which clips the first `count` rows are, in their order: what decides the vectors that belong to them."""
        source = self.source[:count]
        results = [each.result for each in self.sources[: int(source.max()) + 1 if count else 0]]
        digest = hashlib.sha256("".join(results).encode())
        digest.update(source.tobytes())
        digest.update(self.clip[:count].tobytes())
        return digest.hexdigest()

    def _numbers(self, videos: Sequence[str]) -> list[int]:
        return [self.numbers[video] for video in videos if video in self.numbers]


def read_rows(batches: Iterable[Any]) -> Rows:
    """The rows of Arrow record batches that have the columns COLUMNS."""
    sources: dict[str, int] = {}
    kept: list[Source] = []
    names: dict[str, int] = {}
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in (*COLUMNS[4:9], "source", "length", "label", "score")}
    for batch in batches:
        results = batch["result"].dictionary_encode()
        firsts = _firsts(results.indices.to_numpy(), len(results.dictionary))
        codes = np.empty(len(results.dictionary), np.int32)
        for place, result in enumerate(results.dictionary.to_pylist()):
            if result not in sources:
                sources[result] = len(sources)
                row = int(firsts[place])
                facts = (batch[name][row].as_py() for name in ("video", "path", "result", "status"))
                name, path, *rest = facts
                kept.append(Source(name, from_text(path), *rest))
            codes[place] = sources[result]
        columns["source"].append(codes[results.indices.to_numpy()])
        for name in COLUMNS[4:9]:
            columns[name].append(batch[name].to_numpy())
        labels = batch["labels"]
        flat = labels.flatten()
        lengths = labels.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        words = flat.field("label").dictionary_encode()
        numbers = np.array([names.setdefault(word, len(names)) for word in words.dictionary.to_pylist()], np.int32)
        columns["length"].append(lengths)
        columns["label"].append(numbers[words.indices.to_numpy()] if len(flat) else np.zeros(0, np.int32))
        columns["score"].append(flat.field("score").to_numpy(zero_copy_only=False))

    def whole(name: str, dtype: Any) -> Any:
        return np.concatenate([*columns[name], np.zeros(0, dtype)]).astype(dtype, copy=False)

    lengths = whole("length", np.int64)
    return Rows(
        sources=tuple(kept),
        source=whole("source", np.int32),
        clip=whole("clip", np.int64),
        start=whole("start", np.float64),
        end=whole("end", np.float64),
        first_frame=whole("first_frame", np.int64),
        last_frame=whole("last_frame", np.int64),
        label_names=tuple(names),
        label_starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        label=whole("label", np.int32),
        label_score=whole("score", np.float64),
    )


def _firsts(codes: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The place where each code first stands."""
    firsts = np.zeros(count, np.int64)
    firsts[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return firsts


def to_text(path: str) -> str:
    """A path as a column of text can hold it: one that is no Unicode is in hexadecimal behind a zero, which no path has."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "\0" + path.encode("utf-8", "surrogatepass").hex()
    return path


def from_text(text: str) -> str:
    """The path that `to_text` made the text of."""
    return bytes.fromhex(text[1:]).decode("utf-8", "surrogatepass") if text.startswith("\0") else text


def schema(width: int) -> Any:
    """Arrow's schema of the table, vectors of `width`."""
    label = pa.struct([("label", pa.string()), ("score", pa.float64())])
    whole = dict.fromkeys(("clip", "first_frame", "last_frame"), pa.int64())
    times = dict.fromkeys(("start", "end"), pa.float64())
    kinds = {**whole, **times, "labels": pa.list_(label)}
    fields = [(name, kinds.get(name, pa.string())) for name in COLUMNS]
    return pa.schema([*fields, ("vector", pa.list_(pa.float32(), width))])
