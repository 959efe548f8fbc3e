"""Folders of features made of numbers, to build indexes of, and what an index of them must hold."""

from dataclasses import replace
from pathlib import Path

import lancedb
import numpy as np
import pytest

from ig65m.store.features import Features
from ig65m.store.folder import Store, read_journal, read_settings, result_name
from ig65m.store.verify import read_result
from ig65m.types import ClipSpan, Failure, Label, Segment

SETTINGS = {
    "name": "numbers",
    "sha256": "5" * 64,
    "preprocessing": {"resize": [8, 8], "resampling": "area"},
    "sampling": {"frames": 8, "frame_step": 1, "stride": None, "fps": None, "start": None, "end": None, "tail": "pad"},
    "pooling": {"spatial": "mean", "temporal": "mean"},
    "precision": "fp32",
    "features": "float32",
}
SECONDS = 0.5  # of a clip
COLUMNS = ["video", "path", "result", "status", "clip", "start", "end", "first_frame", "last_frame", "labels", "vector", "shot"]


def spans(count, stride=SECONDS, shots=None):
    """`shots`: the number of each clip's shot."""
    numbers = [None] * count if shots is None else shots
    return tuple(ClipSpan(n * stride, n * stride + SECONDS, 8 * n, 8 * n + 7, numbers[n]) for n in range(count))


def write(folder, videos, settings=SETTINGS, stride=SECONDS, shots=None):
    """`videos`: by path an array (clips, C), or it and the clips' labels, [(name, score), ...] each, or None: it failed.

    `shots`: by path, for some of them, the number of each clip's shot.
    """
    with Store(folder, settings) as store:
        for path, content in videos.items():
            array, labels = content if isinstance(content, tuple) else (content, None)
            if array is None:
                features = Features(
                    path, "failed", np.zeros((0, 8), np.float32), (), settings, error=Failure("open", "is broken")
                )
            else:
                given = None if labels is None else tuple(tuple(Label(*each) for each in row) for row in labels)
                array = np.asarray(array, np.float32)
                theirs = spans(len(array), stride, (shots or {}).get(path))
                features = Features(path, "ok", array, theirs, settings, labels=given)
            video = Segment(path)
            assert store.claim(result_name(video))
            store.commit(video, "content", features)
    return folder


def without_shots(folder):
    """Make the table of an index as an earlier version of ig65m wrote it."""
    lancedb.connect(folder).open_table("clips").drop_columns(["shot"])


def cut_into_shots(features, folder, cuts):
    """Copy a folder of features, without the clips across a cut, the others with the number of their shot.

    `cuts`: seconds of each cut by a video's stem; other videos are copied as they are.
    """
    with Store(folder, read_settings(features)) as store:
        for entry in read_journal(features):
            every = read_result(features, entry)
            if (times := cuts.get(Path(entry.video.path).stem)) is not None:
                first, last = (np.searchsorted(times, [getattr(span, side) + at for span in every.spans]) for side, at in SIDES)
                kept = np.flatnonzero(first == last)
                within = tuple(replace(every.spans[clip], shot=int(first[clip])) for clip in kept)
                labels = tuple(every.labels[clip] for clip in kept)
                every = replace(every, array=every.array[kept], spans=within, labels=labels)
            assert store.claim(entry.name)
            store.commit(entry.video, entry.content, every)
    return folder


SIDES = (("start", 1e-3), ("end", -1e-3))


def drawn(videos, clips, width=16, seed=0):
    """So many videos of so many clips each, by chance."""
    random = np.random.default_rng(seed)
    return {f"/videos/{n:03}.mp4": random.standard_normal((clips, width)).astype(np.float32) for n in range(videos)}


def name(path):
    """What a video is called in an index."""
    return result_name(Segment(path))


def unit(array):
    exact = array.astype(np.float64)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)


def holds(index, content):
    """Every clip of these videos once, and nothing else: in the table as LanceDB and pandas read it, and in searches."""
    table = lancedb.connect(index.folder).open_table("clips").to_pandas()
    assert list(table.columns) == COLUMNS
    assert len(table) == len(index) == sum(map(len, content.values()))
    assert sorted(index.sources()) == sorted(map(name, content))
    for path, array in content.items():
        rows = table[table["video"] == name(path)].sort_values("clip")
        assert list(rows["clip"]) == list(range(len(array)))
        assert {*rows["path"]} == {path}
        np.testing.assert_allclose(np.stack(rows["vector"]), unit(array), atol=1e-6)
        clips = index.clips(name(path))
        np.testing.assert_array_equal(clips.vectors, np.stack(rows["vector"]))
        assert clips.spans == spans(len(array))
        hit = index.search(array[-1:], 1)[0]
        assert (hit.path, hit.start, hit.score) == (path, 0.5 * (len(array) - 1), pytest.approx(1))
