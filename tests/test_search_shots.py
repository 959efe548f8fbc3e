"""Shots in an index: stored, searched with, merged by; an index without them says so, one of an earlier version takes them."""

import json

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from ig65m.cli import _with_values
from ig65m.errors import UnknownShotError, UsageError
from ig65m.search.hits import Moment
from ig65m.search.index import Index
from ig65m.search.query import shot_query, stored_query
from tests.indexes import drawn, holds, name, spans, unit, without_shots, write

pytestmark = pytest.mark.slow

SHOTS = [0, 0, 0, 1, 2, 2, 2, 2, 5, 5]  # of 10 clips; 3 and 4 were too short for a clip with --tail drop
FIRST = "/videos/000.mp4"


def numbers(content):
    """The shots of these videos, different from one to the next."""
    return {path: [shot + place % 3 for shot in SHOTS] for place, path in enumerate(content)}


@pytest.fixture(scope="module")
def content():
    return drawn(30, 10)


@pytest.fixture(scope="module")
def index(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shots")
    labels = {
        path: (array, [[("pan", float(score)) for score in row[:1] ** 2 / 100] for row in array])
        for path, array in content.items()
    }
    return Index.build(write(folder / "features", labels, shots=numbers(content)), folder / "index")[0]


@pytest.fixture(scope="module")
def approximate(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("approximate")
    more = {**content, **{f"/more{path}": array for path, array in drawn(90, 10, seed=1).items()}}
    index, _ = Index.build(write(folder / "features", more, shots=numbers(more)), folder / "index", exact_up_to=0)
    assert index.kind == "approximate"
    return index


def best_shots(content, queries, own=()):
    """Every shot with the best cosine of its clips to a query, in float64; `own`: video and shot that each query leaves out."""
    found = {}
    for path, shots in numbers(content).items():
        cosines = unit(content[path]) @ unit(queries).T
        for clip, shot in enumerate(shots):
            for query in range(len(queries)):
                if query < len(own) and own[query] == (path, shot):
                    continue
                found[path, shot] = max(found.get((path, shot), -2), cosines[clip, query])
    return sorted(((*key, score) for key, score in found.items()), key=lambda each: -each[2])


def agree(hits, wanted, content):
    shots = numbers(content)
    assert [(hit.path, hit.shot) for hit in hits] == [each[:2] for each in wanted]
    assert [hit.score for hit in hits] == pytest.approx([each[2] for each in wanted], abs=1e-6)
    for hit in hits:
        clips = [span for span, shot in zip(spans(10), shots[hit.path], strict=True) if shot == hit.shot]
        assert (hit.start, hit.end) == (clips[0].start, clips[-1].end)


def test_the_table_has_the_number_of_each_clips_shot(index, content):
    table = lancedb.connect(index.folder).open_table("clips").to_pandas()
    for path, shots in numbers(content).items():
        assert list(table[table["video"] == name(path)].sort_values("clip")["shot"]) == shots
        assert index.clips(name(path)).spans == spans(10, shots=shots)
    assert index.shots == 30 * len(set(SHOTS))
    query = np.ones((1, 16), np.float32)
    assert {(hit.path, hit.start): hit.shot for hit in index.search(query, 300)} == {
        (path, 0.5 * clip): shot for path, shots in numbers(content).items() for clip, shot in enumerate(shots)
    }


@pytest.mark.parametrize("kind", ["index", "approximate"])
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_hits_of_a_shot_become_one(kind, count, request, content):
    index = request.getfixturevalue(kind)
    query = np.random.default_rng(count).standard_normal((2, 16)).astype(np.float32)
    hits = index.search(query, count, merge="shot")
    if kind == "index":
        agree(hits, best_shots(content, query)[:count], content)
    else:
        assert len({(hit.video, hit.shot) for hit in hits}) == len(hits) == min(count, 120 * len(set(SHOTS)))
    if kind == "index":
        labelled = index.search_label("pan", count, merge="shot")
        assert len(labelled) == min(count, index.shots)
        assert len({(hit.video, hit.shot) for hit in labelled}) == len(labelled)


def test_the_shots_of_the_query_are_no_hits(index, content):
    clips = content[FIRST]
    one = index.search(clips[5:6], 1000, merge="shot", leave_out=stored_query(index, name(FIRST), 2.6).own)
    agree(one, best_shots(content, clips[5:6], [(FIRST, 2)]), content)
    whole = stored_query(index, name(FIRST))
    every = index.search(whole.vectors, 1000, merge="shot", leave_out=whole.own)
    agree(every, best_shots(content, clips, [(FIRST, shot) for shot in SHOTS]), content)


def test_moments_like_a_shot(index, content):
    query = stored_query(index, name(FIRST), 2.6, whole_shot=True)
    assert (query.spans, query.shot) == (spans(10, shots=SHOTS)[4:8], 2)
    assert query.spans == shot_query(index, name(FIRST), 2).spans
    np.testing.assert_allclose(query.vectors, unit(content[FIRST][4:8]), atol=1e-6)
    assert query.own == [Moment(name(FIRST), 2.0, 4.0)] * 4
    hits = index.search(query.vectors, 1000, leave_out=query.own)
    assert {(hit.path, hit.start) for hit in hits} == {
        (path, 0.5 * clip) for path in content for clip in range(10) if path != FIRST or SHOTS[clip] != 2
    }
    own = [(FIRST, 2)] * 4
    agree(
        index.search(query.vectors, 9, merge="shot", leave_out=query.own),
        best_shots(content, content[FIRST][4:8], own)[:9],
        content,
    )
    with pytest.raises(UnknownShotError, match=r"no shot 3 of '/videos/000\.mp4'"):
        shot_query(index, name(FIRST), 3)


def test_videos_without_shots_beside_others_are_merged_if_they_touch(tmp_path):
    content = drawn(3, 10)
    shots = dict.fromkeys(list(content)[1:], SHOTS)
    index, _ = Index.build(write(tmp_path / "f", content, shots=shots), tmp_path / "i")
    hits = index.search(content[FIRST][:1], 99, merge="shot")
    assert [(hit.start, hit.end, hit.shot) for hit in hits if hit.path == FIRST] == [(0, 5, None)]
    assert len(hits) == 1 + 2 * len(set(SHOTS))
    with pytest.raises(UnknownShotError, match=r"does not know the shots of '/videos/000\.mp4'; extract .* --within-shots"):
        stored_query(index, name(FIRST), 1.0, whole_shot=True)


def test_an_index_without_shots_says_how_to_get_them(tmp_path):
    index, _ = Index.build(write(tmp_path / "f", {FIRST: (np.eye(8)[:3], [[("pan", 0.5)]] * 3)}), tmp_path / "i")
    assert index.shots == 0
    for search in (lambda: index.search(np.ones((1, 8)), 3, merge="shot"), lambda: index.search_label("pan", 3, merge="shot")):
        with pytest.raises(UnknownShotError, match=r"has no shots to merge by; extract .* --within-shots, and add"):
            search()
    with pytest.raises(UsageError, match="merge 'shots' is not one of shot"):
        index.search(np.ones((1, 8)), 3, merge="shots")


@pytest.mark.parametrize("exact_up_to", [0, 100_000])
def test_an_index_of_an_earlier_version_opens_and_takes_shots(exact_up_to, tmp_path):
    content = drawn(110, 10)
    features = write(tmp_path / "f", content)
    Index.build(features, tmp_path / "i", exact_up_to=exact_up_to)
    without_shots(tmp_path / "i")
    reader = Index.open(tmp_path / "i")
    assert reader.kind == ("exact" if exact_up_to else "approximate")
    assert "shot" not in lancedb.connect(tmp_path / "i").open_table("clips").schema.names
    assert reader.damaged == 0
    assert {span.shot for path in content for span in reader.clips(name(path)).spans} == {None}
    assert reader.search(content[FIRST][3:4], 1)[0].start == 1.5
    assert reader.add(features).added == ()
    assert "shot" not in lancedb.connect(tmp_path / "i").open_table("clips").schema.names
    more = {f"/more{path}": array for path, array in drawn(2, 10, seed=1).items()}
    Index.open(tmp_path / "i").add(write(tmp_path / "more", more, shots=dict.fromkeys(more, SHOTS)))
    changed = {FIRST: content[FIRST]}
    Index.open(tmp_path / "i").add(write(tmp_path / "changed", changed, shots={FIRST: SHOTS}))
    for index in (reader, Index.open(tmp_path / "i")):
        shots = {path: {span.shot for span in index.clips(name(path)).spans} for path in content | more}
        assert shots == {path: {None} for path in content} | {path: set(SHOTS) for path in [*more, FIRST]}
        assert index.shots == 3 * len(set(SHOTS))
        assert index.search(content[FIRST][3:4], 1, merge="shot")[0].shot == 1
    without_shots(tmp_path / "i")
    holds(with_column(tmp_path / "i"), content | more)


def with_column(folder):
    """The index with the column, but without any number in it."""
    lancedb.connect(folder).open_table("clips").add_columns(pa.field("shot", pa.int64()))
    return Index.open(folder)


@pytest.mark.parametrize(
    ("args", "read"),
    [
        (["--merge"], ["--merge", "touching"]),
        (["--merge", "shot"], ["--merge", "shot"]),
        (["--merge", "shot.mp4"], ["--merge", "touching", "shot.mp4"]),
        (["--merge", "--json"], ["--merge", "touching", "--json"]),
        (["--merge=shot", "a"], ["--merge=shot", "a"]),
        (["--ray", "--merge", "--", "--merge"], ["--ray", "local", "--merge", "touching", "--", "--merge"]),
        (["--ray", "auto"], ["--ray", "auto"]),
    ],
)
def test_options_whose_value_may_be_left_out(args, read):
    assert _with_values(args) == read


def test_the_command(index, run, tmp_path):
    code, out, err = run("search", index.folder, "000.mp4@2.6", "--whole-shot", "--merge", "shot", "--count", 4, "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["query"]["shot"] == 2
    assert len(record["query"]["clips"]) == 4
    assert len(record["hits"]) == 4
    assert all(type(hit["shot"]) is int for hit in record["hits"])
    assert (record["hits"][0]["path"], record["hits"][0]["shot"]) != (FIRST, 2)
    code, out, _ = run("search", index.folder, "--merge", "000@2.6")
    assert code == 0
    assert "shot" in out.strip().splitlines()[0]
    code, out, _ = run("search", index.folder, "000@2.6", "--merge", "--json", "--count", 1000)
    assert "shot" not in json.loads(out)["hits"][0]  # all clips of a video touch, across its shots
    assert "shot" not in json.loads(out)["query"]
    code, out, _ = run("index", "info", index.folder)
    assert f"shots: {index.shots}" in out
    code, out, _ = run("index", "info", index.folder, "--json")
    assert json.loads(out)["shots"] == index.shots
    for args, why in (
        (["000", "--whole-shot"], "--whole-shot needs a time within the shot, as in VIDEO@12.5s"),
        (["--label", "pan", "--whole-shot"], "no VIDEO is given"),
        ([f"{__file__}@1", "--whole-shot"], "is not in it"),
        (["000@1", "--merge=all"], "'all' is not one of"),
    ):
        code, out, err = run("search", index.folder, *args)
        assert (code, out) == (2, ""), args
        assert why in err
    plain, _ = Index.build(write(tmp_path / "f", drawn(2, 3)), tmp_path / "i")
    for args in (["000@1", "--merge", "shot"], ["000@1", "--whole-shot"]):
        code, _, err = run("search", plain.folder, *args)
        assert code == 2
        assert "--within-shots" in err
    code, out, _ = run("index", "info", plain.folder, "--json")
    assert "shots" not in json.loads(out)
