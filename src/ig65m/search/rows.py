"""Columns of an index in memory, except the vectors: a row for each clip, in the order of the table."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ig65m.search.hits import TOUCHING, Moment, Where, touching
from ig65m.types import ClipSpan, Label, Status

MOST_CLIPS: Final = 1 << 31
"""Most clips of a video; MOST_FRAMES, MOST_SECONDS and MOST_TEXT (characters) bound the other values of a row."""

MOST_FRAMES: Final = 1 << 53
MOST_SECONDS: Final = 1e9
MOST_TEXT: Final = 10_000
TEXTS: Final = ("video", "path", "result", "status")
NUMBERS: Final = ("clip", "start", "end", "first_frame", "last_frame")
COLUMNS: Final = (*TEXTS, *NUMBERS, "labels", "shot")
"""All but the vector. A table of an earlier version has no `shot`."""


@dataclass(frozen=True)
class Source:
    """A video of the index."""

    name: str  # unique in the index
    path: str  # of the video file
    result: str  # sha256 of the file of its features
    status: str


@dataclass(frozen=True)
class Rows:
    """Columns of n clips."""

    sources: tuple[Source, ...]  # in order of first appearance
    source: NDArray[np.int32]  # (n,) number of the clip's video in `sources`
    clip: NDArray[np.int64]  # (n,) number of the clip in its video
    start: NDArray[np.float64]  # (n,) in seconds
    end: NDArray[np.float64]  # (n,) in seconds
    first_frame: NDArray[np.int64]  # (n,)
    last_frame: NDArray[np.int64]  # (n,)
    shot: NDArray[np.int64]  # (n,) number of the clip's shot in its video; -1 if it is unknown
    label_names: tuple[str, ...]
    label_starts: NDArray[np.int64]  # (n + 1,) labels of row i are those from label_starts[i] to label_starts[i + 1]
    label: NDArray[np.int32]  # of all rows in sequence: number in `label_names`
    label_score: NDArray[np.float64]  # likewise
    damaged: NDArray[np.bool_]  # (n,) invalid rows; they belong to the source without a name, and are never found

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each video by name."""
        return {source.name: number for number, source in enumerate(self.sources)}

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """Rank of each video by name."""
        names = np.array([source.name for source in self.sources], object)
        rank = np.empty(len(names), np.int64)
        rank[np.argsort(names, kind="stable")] = np.arange(len(names))
        return rank

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Video and clip as one number, sorted, and the row of each; None if the rows are already in that order."""
        keys = (self.source.astype(np.int64) << 32) + self.clip
        if (keys[1:] > keys[:-1]).all():
            return keys, None
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def of(self, video: str) -> NDArray[np.int64]:
        """Return the rows of a video, in order of its clips; none if there is no such video."""
        keys, order = self._places
        number = self.numbers.get(video, len(self.sources))
        first, last = np.searchsorted(keys, [number << 32, (number + 1) << 32])
        return np.arange(first, last) if order is None else order[first:last]

    def find(self, results: Sequence[str], clips: Sequence[int]) -> NDArray[np.int64]:
        """Return the rows of clips by their videos' results; -1 for unknown ones."""
        known = [(self._results.get(result, -1) << 32) + clip for result, clip in zip(results, clips, strict=True)]
        keys, order = self._places
        places = np.minimum(np.searchsorted(keys, known), len(keys) - 1)
        return np.where(keys[places] == known, places if order is None else order[places], -1)

    @cached_property
    def _results(self) -> dict[str, int]:
        return {source.result: number for number, source in enumerate(self.sources)}

    def within(self, moment: Moment) -> NDArray[np.int64]:
        """Return the rows of clips that overlap a moment, or are all of it."""
        rows = self.of(moment.video)
        shared = np.minimum(self.end[rows], moment.end) - np.maximum(self.start[rows], moment.start)
        near = touching(moment.end - moment.start)
        same = (np.abs(self.start[rows] - moment.start) <= near) & (np.abs(self.end[rows] - moment.end) <= near)
        return rows[(shared > near) | same]

    @cached_property
    def has_shots(self) -> bool:
        """Whether the shot of any clip is known."""
        return bool((self.shot >= 0).any())

    def of_shot(self, video: str, shot: int) -> NDArray[np.int64]:
        """Return the rows of a shot of a video, in order of its clips; none if there is no such shot."""
        rows = self.of(video)
        clips: NDArray[np.int64] = rows[self.shot[rows] == shot]
        return clips

    def with_shots(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return these rows of one video, and all others of the shots that they are in."""
        shots = np.unique(self.shot[rows])
        if len(shots) == 0 or shots[-1] < 0:
            return rows
        every = self.of(self.sources[self.source[rows[0]]].name)
        whole: NDArray[np.int64] = np.union1d(rows, every[np.isin(self.shot[every], shots[shots >= 0])])
        return whole

    def allowed(self, where: Where) -> NDArray[np.bool_] | None:
        """Return whether each row may be a hit; None if all may."""
        if where == Where() and not self.damaged.any():
            return None
        allowed = ~self.damaged
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
        """Return the stored score (n,) of a label; -1 if a clip does not have it."""
        scores = np.full(len(self), -1.0)
        if label in self.label_names:
            places = np.flatnonzero(self.label == self.label_names.index(label))
            rows = np.searchsorted(self.label_starts, places, side="right") - 1
            np.maximum.at(scores, rows, self.label_score[places])
        return scores

    def labels(self, row: int) -> tuple[Label, ...]:
        """Return the labels of a clip, best first."""
        places = range(self.label_starts[row], self.label_starts[row + 1])
        return tuple(Label(self.label_names[self.label[place]], float(self.label_score[place])) for place in places)

    def span(self, row: int) -> ClipSpan:
        """Span of a clip."""
        frames = int(self.first_frame[row]), int(self.last_frame[row])
        shot = int(self.shot[row])
        return ClipSpan(float(self.start[row]), float(self.end[row]), *frames, None if shot < 0 else shot)

    def digest(self, count: int) -> str:
        """Return a digest of the first `count` rows' clips in order, which identifies their vectors."""
        source = self.source[:count]
        results = [each.result for each in self.sources[: int(source.max()) + 1 if count else 0]]
        digest = hashlib.sha256("".join(results).encode())
        digest.update(source.tobytes())
        digest.update(self.clip[:count].tobytes())
        return digest.hexdigest()

    def _numbers(self, videos: Sequence[str]) -> list[int]:
        return [self.numbers[video] for video in videos if video in self.numbers]


def read_rows(batches: Iterable[Any]) -> Rows:
    """Read the rows of Arrow record batches with the columns COLUMNS; `shot` may be missing.

    A row with an invalid value, such as a missing path or a start that is not a number, is marked as damaged; other rows are
    unaffected.
    """
    sources: dict[str, int] = {}
    kept: list[Source] = []
    names: dict[str, int] = {}
    columns: dict[str, list[NDArray[Any]]] = {
        name: [] for name in (*NUMBERS, "shot", "source", "length", "label", "score", "damaged")
    }
    for batch in batches:
        sound = _sound_rows(batch)
        results = pc.if_else(pa.array(sound), batch["result"], pa.scalar("")).dictionary_encode()
        firsts = _firsts(results.indices.to_numpy(), len(results.dictionary))
        codes = np.empty(len(results.dictionary), np.int32)
        for place, result in enumerate(results.dictionary.to_pylist()):
            if result not in sources:
                sources[result] = len(sources)
                kept.append(_source(batch, int(firsts[place])) if result else Source("", "", "", "failed"))
            codes[place] = sources[result]
        columns["source"].append(codes[results.indices.to_numpy()])
        for name in NUMBERS:
            columns[name].append(np.where(sound, _numbers_of(batch[name]), 0))
        has_shots = "shot" in batch.schema.names
        columns["shot"].append(np.where(sound, _numbers_of(batch["shot"]), -1) if has_shots else np.full(len(batch), -1))
        words, scores, owners = _labels_of(batch["labels"])
        wanted = sound[owners]
        numbers = np.array([names.setdefault(word, len(names)) for word in words.dictionary.to_pylist()] or [0], np.int32)
        columns["length"].append(np.bincount(owners[wanted], minlength=len(batch)))
        columns["label"].append(numbers[words.indices.fill_null(0).to_numpy()[wanted]])
        columns["score"].append(scores[wanted])
        columns["damaged"].append(~sound)

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
        shot=whole("shot", np.int64),
        label_names=tuple(names),
        label_starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        label=whole("label", np.int32),
        label_score=whole("score", np.float64),
        damaged=whole("damaged", np.bool_),
    )


def _source(batch: Any, row: int) -> Source:
    name, path, *rest = (batch[column][row].as_py() for column in TEXTS)
    return Source(name, from_text(path), *rest)


def _sound_rows(batch: Any) -> NDArray[np.bool_]:
    """Return whether each row of a batch has valid values."""
    sound = np.ones(len(batch), bool)
    for name, can_be in _TEXTS.items():
        encoded = batch[name].dictionary_encode()
        fits = np.array([*(value is not None and can_be(value) for value in encoded.dictionary.to_pylist()), False])
        sound &= fits[encoded.indices.fill_null(len(fits) - 1).to_numpy()]
    values = {name: _numbers_of(batch[name]) for name in NUMBERS}
    if "shot" in batch.schema.names:
        values["shot"] = batch["shot"].fill_null(0).to_numpy(zero_copy_only=False)
    for name, most in (("clip", MOST_CLIPS), *dict.fromkeys(("first_frame", "last_frame", "shot"), MOST_FRAMES).items()):
        if name in values:
            sound &= (values[name] >= 0) & (values[name] <= most)
    start, end = values["start"], values["end"]
    sound &= (start <= end) & (np.abs(start) <= MOST_SECONDS) & (np.abs(end) <= MOST_SECONDS)  # False for NaN
    words, scores, owners = _labels_of(batch["labels"])
    fits = np.array([*(word is not None and len(word) <= MOST_TEXT for word in words.dictionary.to_pylist()), False])
    wrong = ~fits[words.indices.fill_null(len(fits) - 1).to_numpy()] | ~((scores >= 0) & (scores <= 1 + 1e-6))
    sound[owners[wrong]] = False
    return sound


def _numbers_of(column: Any) -> NDArray[Any]:
    """Return a numeric column; a missing value is -1 or NaN."""
    missing = -1 if pa.types.is_integer(column.type) else float("nan")
    values: NDArray[Any] = column.fill_null(missing).to_numpy(zero_copy_only=False)
    return values


def _labels_of(column: Any) -> tuple[Any, NDArray[np.float64], NDArray[np.int64]]:
    """Return the labels of all rows in sequence: names, dictionary-encoded, scores, and the row of each."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    flat = column.flatten()
    scores: NDArray[np.float64] = flat.field("score").to_numpy(zero_copy_only=False)
    words = flat.field("label").dictionary_encode()
    return words, scores, np.repeat(np.arange(len(column)), lengths)


def _firsts(codes: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return where each code first occurs."""
    firsts = np.zeros(count, np.int64)
    firsts[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return firsts


def to_text(path: str) -> str:
    """Encode a path for a text column: one that is not Unicode becomes hexadecimal after a NUL, which no path contains."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "\0" + path.encode("utf-8", "surrogatepass").hex()
    return path


def from_text(text: str) -> str:
    """Decode a path of `to_text`."""
    return bytes.fromhex(text[1:]).decode("utf-8", "surrogatepass") if text.startswith("\0") else text


def schema(width: int) -> Any:
    """Return the table's Arrow schema for vectors of `width`.

    `shot` is the last column, as in a table to which it was added later.
    """
    label = pa.struct([("label", pa.string()), ("score", pa.float64())])
    whole = dict.fromkeys(("clip", "first_frame", "last_frame", "shot"), pa.int64())
    times = dict.fromkeys(("start", "end"), pa.float64())
    kinds = {**whole, **times, "labels": pa.list_(label)}
    *fields, shot = [(name, kinds.get(name, pa.string())) for name in COLUMNS]
    return pa.schema([*fields, ("vector", pa.list_(pa.float32(), width)), shot])


def wrong_columns(found: Any) -> list[str]:
    """Return columns, with types, that an Arrow schema lacks; it may lack `shot`, but not have it with another type."""
    vector = found.field("vector").type if "vector" in found.names else None
    width = vector.list_size if vector is not None and pa.types.is_fixed_size_list(vector) else 1
    there = {"shot": pa.int64()} | {each.name: each.type for each in found}
    return [f"{each.name}: {each.type}" for each in schema(width) if there.get(each.name) != each.type]


def _is_name(text: str) -> bool:
    """Return whether a video may have that name: it becomes part of URLs."""
    return 0 < len(text) <= MOST_TEXT and text not in (".", "..") and not set(text) & {"/", "\0"}


def _is_path(text: str) -> bool:
    try:
        path = from_text(text)
    except (ValueError, UnicodeError):
        return False
    return 0 < len(path) <= MOST_TEXT and "\0" not in path


_TEXTS: Final[dict[str, Callable[[str], bool]]] = {
    "video": _is_name,
    "path": _is_path,
    "result": lambda text: re.fullmatch("[0-9a-f]{64}", text) is not None,
    "status": lambda text: text in get_args(Status),
}
