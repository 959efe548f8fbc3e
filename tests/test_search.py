"""Search gives what brute force in float64 gives, filtered, merged and tied; what is asked for is found by name or computed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from ig65m.errors import UsageError
from ig65m.search.exact import best
from ig65m.search.hits import Moment, Where, merged
from ig65m.search.index import Index
from ig65m.search.query import stored_query
from ig65m.search.recall import measure_recall
from tests.indexes import drawn, name, spans, write

pytestmark = pytest.mark.slow

LABELS = ("archery", 'it\'s "so"\n雪', "swim")


@pytest.fixture(scope="module")
def content():
    """60 videos of 25 clips of 16 numbers, with two labels each."""
    random = np.random.default_rng(7)
    videos = {}
    for path, array in drawn(60, 25).items():
        labels = [[(LABELS[k], s) for k, s in zip(random.permutation(3)[:2], (0.7, 0.2), strict=True)] for _ in array]
        videos[path] = array, labels
    return videos


@pytest.fixture(scope="module")
def index(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exact")
    return Index.build(write(folder / "features", content), folder / "index")[0]


@pytest.fixture(scope="module")
def approximate(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("approximate")
    index, _ = Index.build(write(folder / "features", content), folder / "index", exact_up_to=100)
    assert index.kind == "approximate"
    return index


def brute(content, queries, keep=lambda path, span, labels: True, own=lambda query, path, span: False):
    """Path, start and score of all clips, the best first: cosines in float64, the best over the queries."""
    found = []
    for path, (array, labels) in content.items():
        exact = array.astype(np.float64)
        for row, span, names in zip(exact, spans(len(array)), labels, strict=True):
            scores = [
                row @ query / math.sqrt(row @ row) / math.sqrt(query @ query)
                for number, query in enumerate(queries.astype(np.float64))
                if not own(number, path, span)
            ]
            if scores and keep(path, span, dict(names)):
                found.append((path, span.start, max(scores)))
    return sorted(found, key=lambda each: -each[2])


def agree(hits, wanted, count):
    assert [(hit.path, hit.start) for hit in hits] == [each[:2] for each in wanted[:count]]
    assert [hit.score for hit in hits] == pytest.approx([each[2] for each in wanted[:count]], abs=1e-6)


@pytest.mark.parametrize("queries", [1, 3, 40])
def test_the_nearest_of_one_and_of_several(index, content, queries):
    vectors = np.random.default_rng(queries).standard_normal((queries, 16)).astype(np.float32) * 100
    hits = index.search(vectors, 50)
    agree(hits, brute(content, vectors), 50)
    for hit in hits:
        row = content[hit.path][0][round(hit.start / 0.5)].astype(np.float64)
        scores = vectors.astype(np.float64) @ row / np.linalg.norm(vectors.astype(np.float64), axis=1)
        assert hit.query == scores.argmax()


def test_scikit_learn_finds_the_same(index, content):
    every = np.concatenate([array for array, _ in content.values()])
    near = NearestNeighbors(n_neighbors=20, metric="cosine", algorithm="brute").fit(every)
    query = np.random.default_rng(3).standard_normal((1, 16)).astype(np.float32)
    distances, rows = near.kneighbors(query)
    hits = index.search(query, 20)
    assert [(hit.path, hit.start) for hit in hits] == [(f"/videos/{row // 25:03}.mp4", row % 25 * 0.5) for row in rows[0]]
    assert [hit.score for hit in hits] == pytest.approx(1 - distances[0], abs=1e-6)


@pytest.mark.parametrize("kind", ["index", "approximate"])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_filters(kind, request, data, content):
    index = request.getfixturevalue(kind)
    some = st.lists(st.sampled_from(sorted(content)), min_size=1, max_size=5)
    videos, without = data.draw(st.none() | some), data.draw(st.just([]) | some)
    label = data.draw(st.none() | st.sampled_from(LABELS))
    start, end = (
        data.draw(st.none() | st.sampled_from([0.0, 0.5, 3.2])),
        data.draw(st.none() | st.sampled_from([4.0, 9.9, 99.0])),
    )
    count = data.draw(st.sampled_from([1, 7, 2000]))
    query = np.random.default_rng(data.draw(st.integers(0, 9))).standard_normal((1, 16)).astype(np.float32)

    def keep(path, span, labels):
        return (
            (videos is None or path in videos)
            and path not in without
            and (label is None or label in labels)
            and (start is None or span.start >= start)
            and (end is None or span.end <= end)
        )

    where = Where(tuple(map(name, videos)) if videos else None, tuple(map(name, without)), label, start, end)
    wanted = brute(content, query, keep)
    hits = index.search(query, count, where=where)
    if kind == "index" or where != Where() or count == 2000:
        agree(hits, wanted, count)
    else:
        assert len(hits) == count
    if label is not None:
        assert {label} <= set.intersection(*({each.label for each in hit.labels} for hit in hits), {label})


def test_the_approximate_index_finds_as_good_as_all_and_scores_the_same(approximate, index, content):
    found = measure_recall(approximate, queries=50)
    assert (found.kind, found.clips, found.queries) == ("approximate", 1500, 50)
    assert found.recall > 0.95
    exact = {(hit.path, hit.start): hit.score for hit in index.search(content["/videos/005.mp4"][0][:1], 1500)}
    for hit in approximate.search(content["/videos/005.mp4"][0][:1], 10):
        assert hit.score == exact[hit.path, hit.start]
    assert measure_recall(index, queries=5).recall == 1


def test_its_own_moment_is_no_hit(index, approximate, content):
    path = "/videos/004.mp4"
    array = content[path][0]
    moments = [Moment(name(path), span.start, span.end) for span in spans(25)]
    one = index.search(array[3:4], 30, leave_out=moments[3])
    agree(one, brute(content, array[3:4], own=lambda _, where, span: where == path and span.start == 1.5), 30)
    every = index.search(array, 30, leave_out=moments)
    agree(every, brute(content, array, own=lambda query, where, span: where == path and span.start == query * 0.5), 30)
    assert (path, 1.5) not in {(hit.path, hit.start) for hit in approximate.search(array[3:4], 10, leave_out=moments[3])}


def test_overlapping_clips_are_of_ones_own_moment(tmp_path):
    index, _ = Index.build(write(tmp_path / "f", {"/a.mp4": np.eye(8)[:6] + 1}, stride=0.125), tmp_path / "i")
    query = stored_query(index, name("/a.mp4"), 0.4)
    assert [span.start for span in query.spans] == [0.125]
    hits = index.search(query.vectors, 9, leave_out=query.own)
    assert [hit.start for hit in hits] == [0.625]  # the only one of six that begins when it has ended


def test_equal_scores_come_by_name_and_time(tmp_path):
    same = np.tile(np.arange(1, 9, dtype=np.float32), (700, 1))
    index, _ = Index.build(write(tmp_path / "f", {"/b.mp4": same, "/a.mp4": same * 3, "/c.mp4": -same}), tmp_path / "i")
    hits = index.search(same[:1], 1000)
    order = sorted([name("/a.mp4"), name("/b.mp4")])
    assert [(hit.video, hit.start) for hit in hits] == [(order[n // 700], n % 700 * 0.5) for n in range(1000)]
    assert {hit.score for hit in hits} == {hits[0].score}
    assert hits[0].score == pytest.approx(1)
    assert index.search(same[:1], 2100)[-1].score == pytest.approx(-1)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 300),
    queries=st.integers(1, 5),
    count=st.integers(1, 350),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
)
def test_best_is_what_sorting_gives(rows, queries, count, seed, share):
    """Vectors of few values, so that many scores are equal."""
    random = np.random.default_rng(seed)
    matrix = random.integers(-1, 2, (rows, 3)).astype(np.float32)
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
    asked = matrix[random.integers(0, rows, queries)]
    allowed = random.random(rows) < share
    own = [random.permutation(rows)[:2] for _ in range(queries)]
    scores = matrix.astype(np.float64) @ asked.T.astype(np.float64)
    for number, theirs in enumerate(own):
        scores[theirs, number] = -np.inf
    scores[~allowed] = -np.inf
    wanted = np.sort(scores.max(1))[::-1]
    wanted = wanted[wanted > -np.inf][:count]
    found, exact, which = best(matrix, asked, count, allowed=allowed, own=own)
    assert len(set(found)) == len(found) >= len(wanted)
    np.testing.assert_allclose(np.sort(exact)[::-1][: len(wanted)], wanted, atol=1e-6)
    np.testing.assert_allclose(scores[found, which], exact, atol=1e-6)


@pytest.mark.parametrize("kind", ["index", "approximate"])
def test_merging_gives_the_count_of_moments(kind, request):
    index = request.getfixturevalue(kind)
    query = np.random.default_rng(1).standard_normal((1, 16)).astype(np.float32)
    for found in (index.search(query, 40, merge=True), index.search_label("archery", 40, merge=True)):
        assert len(found) == 40
        assert merged(found) == found
    assert len(index.search(query, 10**9, merge=True)) == 60  # all of each video touches
    assert len(index.search(query, 10**9)) == 1500


def test_by_label(index, content):
    label = LABELS[1]
    stored = [
        (dict(names)[label], path, span.start)
        for path, (array, labels) in content.items()
        for span, names in zip(spans(len(array)), labels, strict=True)
        if label in dict(names)
    ]
    wanted = sorted(stored, key=lambda each: (-each[0], name(each[1]), each[2]))
    hits = index.search_label(label, 10_000)
    assert [(hit.score, hit.path, hit.start) for hit in hits] == wanted
    only = index.search_label(label, 3, where=Where(videos=(name("/videos/009.mp4"),), start=2.0))
    assert all(hit.path == "/videos/009.mp4" and hit.start >= 2 for hit in only)
    with pytest.raises(UsageError, match="no clip has the label 'archer'; the index has 'archery'"):
        index.search_label("archer", 3)
    assert index.labels() == {
        label: sum(label in dict(each) for _, every in content.values() for each in every) for label in LABELS
    }


def test_videos_and_their_labels(index, content):
    videos = index.videos()
    assert [video.path for video in videos] == sorted(content)
    for video in videos[::13]:
        _, labels = content[video.path]
        means = {label: sum(dict(each).get(label, 0) for each in labels) / 25 for label in LABELS}
        assert {label.label: label.score for label in video.labels} == pytest.approx(means)
        assert [label.score for label in video.labels] == sorted(means.values(), reverse=True)
        assert (video.title, video.duration, video.clips, video.status) == (video.path[8:], 12.5, 25, "ok")


@pytest.mark.parametrize(
    ("vectors", "why"),
    [
        (np.zeros((1, 16)), "zero vector"),
        (np.full((1, 16), np.nan), "not finite"),
        (np.full((2, 16), np.inf), "not finite"),
        (np.ones((1, 15)), "expected vectors"),
        (np.ones(16), "expected vectors"),
        (np.ones((0, 16)), "expected vectors"),
    ],
)
def test_what_is_no_query(index, vectors, why):
    with pytest.raises(UsageError, match=why):
        index.search(vectors.astype(np.float32), 5)


def test_queries_without_direction_are_passed_over(index):
    vectors = np.concatenate([np.zeros((2, 16)), np.ones((1, 16))]).astype(np.float32)
    assert {hit.query for hit in index.search(vectors, 5)} == {2}
    huge = np.full((1, 16), 3e38, np.float32)
    assert [hit.start for hit in index.search(huge, 5)] == [hit.start for hit in index.search(vectors[2:], 5)]


def test_what_cannot_be_asked(index):
    query = np.ones((1, 16), np.float32)
    for count in (0, -3, 2.5, True):
        with pytest.raises(UsageError, match="count"):
            index.search(query, count)
    with pytest.raises(UsageError, match="has no video 'nobody'"):
        index.search(query, 1, where=Where(videos=("nobody",)))
    with pytest.raises(UsageError, match="no clip has the label"):
        index.search(query, 1, where=Where(label="nothing"))
    for start, end in ((math.nan, None), (None, math.inf), (5.0, 5.0)):
        with pytest.raises(UsageError):
            Where(start=start, end=end)
