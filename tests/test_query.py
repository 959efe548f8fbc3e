"""What is searched for is found by its name or computed from its file; the command."""

import json
import shutil

import numpy as np
import pytest

import ig65m
from ig65m.errors import UsageError, VideoError
from ig65m.search.hits import Where
from ig65m.search.index import Index
from ig65m.search.query import clip_at, extractor_for, file_query, find_video, parse_moment, resolve
from ig65m.store.folder import read_journal
from ig65m.types import ClipSpan
from tests.indexes import SETTINGS, drawn, name, write

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a.mp4@12.5s", ("a.mp4", 12.5)),
        ("a.mp4@12.5", ("a.mp4", 12.5)),
        ("a.mp4@-1", ("a.mp4", -1.0)),
        ("me@home.mp4", ("me@home.mp4", None)),
        ("me@home.mp4@3 s", ("me@home.mp4", 3.0)),
        ("a@b\n'c.mp4@.5s", ("a@b\n'c.mp4", 0.5)),
        ("a@2/b.mp4", ("a@2/b.mp4", None)),
        ("@3", ("@3", None)),
        ("a@", ("a@", None)),
    ],
)
def test_moments_by_name(text, meant):
    assert parse_moment(text) == meant


def test_times_that_are_none():
    for text in ("a@nan", "a@infs", "a@1e999"):
        with pytest.raises(UsageError, match="finite"):
            parse_moment(text)


def test_the_clip_at_a_time():
    clips = [ClipSpan(0, 1), ClipSpan(0.5, 1.5), ClipSpan(1, 2), ClipSpan(4, 5)]
    found = {0.0: 0, 0.4: 0, 0.7: 0, 0.8: 1, 1.2: 1, 1.3: 2, 2.5: 2, 3.5: 3, 5.0: 3}
    assert {time: clip_at(clips, time) for time in found} == found
    for time in (-0.1, 5.1):
        with pytest.raises(UsageError, match=r"from 0\.00 to 5\.00 s"):
            clip_at(clips, time)


def test_videos_by_name(tmp_path, monkeypatch):
    odd = "/videos/o'brien \"; DROP\n雪@3.mp4"
    paths = [
        "/a/holiday.mp4",
        "/b/holiday.mp4",
        "/b/other.mkv",
        "/b/other.webm",
        odd,
        "/c/\udcff.mp4",
        str(tmp_path / "here.mp4"),
    ]
    features = write(tmp_path / "f", {path: np.eye(8)[n : n + 1] for n, path in enumerate(paths)})
    index, _ = Index.build(features, tmp_path / "i")
    assert sorted(index.sources().values()) == sorted(paths)
    for path in paths:
        assert find_video(index, path) == name(path)
        assert find_video(index, name(path)) == name(path)
        assert index.search(index.clips(name(path)).vectors, 1)[0].path == path
        assert index.search(np.ones((1, 8)), 9, where=Where(videos=(name(path),)))[0].path == path
    assert find_video(index, "other.mkv") == name("/b/other.mkv")
    for text in ("holiday.mp4", "holiday", "other"):
        with pytest.raises(UsageError, match=r"matches 2 videos .* give one of these names"):
            find_video(index, text)
    with pytest.raises(UsageError, match=r"did you mean 'holiday\.mp4'"):
        find_video(index, "holidya.mp4")
    monkeypatch.chdir(tmp_path)
    assert resolve(index, "here.mp4@2") == (name(str(tmp_path / "here.mp4")), str(tmp_path / "here.mp4"), 2.0)
    assert resolve(index, odd.removesuffix(".mp4")[8:]) == (name(odd), odd, None)
    (tmp_path / "holiday.mp4").touch()
    assert resolve(index, "holiday.mp4@1.5s") == (None, "holiday.mp4", 1.5)
    (tmp_path / "a@2").touch()
    assert resolve(index, "a@2") == (None, "a@2", None)
    with pytest.raises(UsageError, match="is not a file"):
        resolve(index, "nowhere.mp4@2")
    index.remove([name(path) for path in paths])
    with pytest.raises(UsageError, match="it is empty"):
        find_video(index, "holiday")


@pytest.fixture(scope="module")
def footage(bikes, bigbuckbunny, tmp_path_factory):
    """An index of what `ig65m extract` makes of real footage with the network that is in the package, and its folder."""
    from ig65m.collection.extraction import extract_collection, open_store
    from ig65m.tasks.extractor import Extractor
    from ig65m.types import Segment

    folder = tmp_path_factory.mktemp("footage")
    extractor = Extractor("r2plus1d_10_camera_motion", top_k=2, stride=10)
    with open_store(folder / "features", extractor) as store:
        list(extract_collection([Segment(str(bikes)), Segment(str(bigbuckbunny))], extractor, store))
    return Index.build(folder / "features", folder / "index")[0]


def test_a_file_that_is_not_in_the_index(footage, bikes, tmp_path):
    extractor = extractor_for(footage)
    for time in (0.1, 5.0, 9.95):
        query = file_query(footage, extractor, str(bikes), time)
        (span,) = query.spans
        assert span.start <= time <= span.end
        assert span.end - span.start <= footage.clip_seconds + 1e-6
        direct = ig65m.extract(bikes, model="r2plus1d_10_camera_motion", start=span.start, end=span.end)
        np.testing.assert_allclose(query.vectors, direct.array, atol=1e-4)
        nearest = footage.search(query.vectors, 1)[0]
        assert nearest.path == str(bikes)
        assert min(nearest.end, span.end) > max(nearest.start, span.start)
    whole = file_query(footage, extractor, str(bikes))
    stored = footage.clips(find_video(footage, "bikes"))
    assert whole.spans == stored.spans
    unit = whole.vectors / np.linalg.norm(whole.vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, stored.vectors, atol=1e-5)
    assert whole.own is None
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError):
        file_query(footage, extractor, str(tmp_path / "text.mp4"), 1.0)
    for time in (10.5, 99.0):
        with pytest.raises((UsageError, VideoError), match=f"{time:g}"):
            file_query(footage, extractor, str(bikes), time)


def test_another_model_is_refused(footage, tiny_model, tmp_path):
    index, _ = Index.build(write(tmp_path / "f", drawn(1, 2)), tmp_path / "i")
    with pytest.raises(UsageError, match=r"cannot be compared with .* sha256 is \w+ there, \w+ here"):
        extractor_for(footage, tiny_model)
    with pytest.raises(UsageError, match="'numbers', a model file; give it with --model"):
        extractor_for(index)
    assert index.model_name == SETTINGS["name"]


def test_the_command(footage, run, bikes, tmp_path):
    folder = footage.folder
    copy = tmp_path / "copy of it's.mp4"
    shutil.copy(bikes, copy)
    code, out, err = run("search", folder, "bikes@5s", "--count", 3, "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["query"]["path"] == str(bikes)
    (span,) = record["query"]["clips"]
    assert span["start"] <= 5 < span["end"]
    assert len(record["hits"]) == 3
    for hit in record["hits"]:
        assert {*hit} == {"video", "path", "score", "start", "end", "labels", "query"}
        assert hit["path"] != str(bikes) or hit["end"] <= span["start"] + 1e-3 or hit["start"] >= span["end"] - 1e-3
        assert len(hit["labels"]) == 2
    code, out, err = run("search", folder, copy, "--count", 3, "--not-video", "bikes", "--merge")
    assert code == 0
    assert "bigbuckbunny.mp4" in out
    assert "like (s)" in out
    assert "is not in the index; computing its features" in err
    code, out, _ = run("search", folder, "--label", "static", "--merge", "--json", "--video", "bikes", "--from", 1, "--to", 9)
    assert code == 0
    assert all(1 <= hit["start"] <= hit["end"] <= 9 for hit in json.loads(out)["hits"])
    code, out, _ = run("search", folder, "bikes", "--others", "--json", "--count", 2)
    assert {hit["path"] for hit in json.loads(out)["hits"]} == {bunny(footage)}


def bunny(index):
    (path,) = (entry.video.path for entry in read_journal(index.folder.parent / "features") if "bunny" in entry.video.path)
    return path


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [
        ([], 2, "no query given"),
        (["--others", "--label", "static"], 2, "--others"),
        (["nobody.mp4"], 2, "is not a file, and"),
        (["bikes@99"], 2, "there is no clip at 99 s"),
        (["bikes@nan"], 2, "finite"),
        (["bikes", "--count", "0"], 2, "count"),
        (["bikes", "--count", "-99999999999999999999"], 2, ""),
        (["bikes", "--from", "inf"], 2, "finite"),
        (["bikes", "--from", "9", "--to", "3"], 2, "before"),
        (["bikes", "--video", "x"], 2, "has no video 'x'"),
        (["--label", "statik"], 2, "'static'"),
        (["--label", ""], 2, "no clip has the label ''"),
        (["http://example.org/a.mp4"], 2, "is a URL"),
        (["bikes\n@3"], 2, "is not a file"),
        (["bikes", "--precision", "bf16"], 2, "--precision is for a VIDEO that is not in the index"),
        (["--label", "static", "--model", "x.pth"], 2, "--model is for a VIDEO"),
    ],
)
def test_wrong_use(footage, run, args, code, why):
    got, out, err = run("search", footage.folder, *args)
    assert (got, out) == (code, "")
    assert why in err
    assert "bug in ig65m" not in err
