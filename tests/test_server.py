"""`ig65m serve`, a real process: each route, and that uploads give what the command line gives."""

import io
import json
import shutil
import subprocess
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cosine

import ig65m
from ig65m.display.feature_map import feature_levels, viridis
from ig65m.search.index import Index
from ig65m.server import service
from ig65m.server.errors import ApiError
from ig65m.server.routes import semcode
from ig65m.server.service import Service
from ig65m.store.features import Features
from ig65m.types import ClipSpan
from tests.serving import PROGRAM, serving
from tests.videos import constant, encode_numbers, number_in
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

MODEL = "r2plus1d_10_camera_motion"


@pytest.fixture(scope="module")
def served(shelf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(shelf / "index", folder / "index")
    with serving(folder / "index", folder / "tmp", "--workers", 2) as served:
        yield served
        assert served.left() == []


@pytest.fixture
def web(served):
    with served.client() as client:
        yield client


@pytest.fixture(scope="module")
def ids(served):
    with served.client() as client:
        return {video["title"]: video["id"] for video in client.get("/api/videos").json()["videos"]}


def test_health(web, shelf):
    health = web.get("/api/health").json()
    assert health["status"] == "ok"
    assert health["version"] == ig65m.__version__
    assert (health["model"], health["precision"], health["kind"]) == (MODEL, "fp32", "exact")
    assert health["videos"] == 5
    assert health["clips"] == len(Index.open(shelf / "index"))
    assert health["requests"] == {"running": 0, "waiting": 0, "room": 32}
    assert health["max_upload"] == 128 << 20


def test_models_begin_with_the_one_that_serves(web):
    models = web.get("/api/models").json()
    assert models[0] == {
        "name": MODEL,
        "serving": True,
        "frames": 8,
        "frame_step": 2,
        "size": [64, 64],
        "classes": 9,
        "has_labels": True,
        "features": 128,
    }
    assert {model["name"] for model in models} == set(ig65m.list_models())
    assert [model["serving"] for model in models].count(True) == 1


def test_labels_are_those_of_the_index_the_most_frequent_first(web, shelf):
    labels = web.get("/api/labels").json()
    index = Index.open(shelf / "index")
    count = Counter(label.label for video in index.videos() for row in index.clips(video.video).labels for label in row)
    assert {label["label"]: label["clips"] for label in labels} == count
    assert [label["clips"] for label in labels] == sorted(count.values(), reverse=True)


def test_videos(web, shelf):
    every = web.get("/api/videos").json()
    titles = [video["title"] for video in every["videos"]]
    assert every["total"] == 5
    assert titles == sorted(titles, key=str.casefold)
    assert set(titles) == {"<img src=x onerror=alert(1)>.mp4", "b??.mkv", "bikes.mp4", "clip.webm", "long ü.ts"}
    pages = [web.get("/api/videos", params={"offset": offset, "limit": 2}).json() for offset in (0, 2, 4, 6)]
    assert [video["title"] for page in pages for video in page["videos"]] == titles
    assert {page["total"] for page in pages} == {5}
    assert [v["title"] for v in web.get("/api/videos", params={"text": "BIK"}).json()["videos"]] == ["bikes.mp4"]
    label = every["videos"][0]["labels"][0]["label"]
    assert every["videos"][0]["title"] in {v["title"] for v in web.get("/api/videos", params={"label": label}).json()["videos"]}
    assert web.get("/api/videos", params={"label": "no such label"}).json()["error"]["code"] == "no_label"
    for video in every["videos"]:
        assert web.get(f"/api/videos/{video['id']}").json() == video


def test_a_timeline_is_what_was_indexed(web, shelf, ids):
    index = Index.open(shelf / "index")
    for title, video in ids.items():
        timeline = web.get(f"/api/videos/{video}/timeline").json()
        rows = index.clips(video)
        assert (timeline["id"], timeline["title"]) == (video, title)
        assert [(clip["start"], clip["end"]) for clip in timeline["clips"]] == [(span.start, span.end) for span in rows.spans]
        assert timeline["clips"][0]["labels"][0] == {"label": rows.labels[0][0].label, "score": rows.labels[0][0].score}
        wanted = [cosine(a.astype(float), b.astype(float)) for a, b in pairwise(rows.vectors)]
        first, *others = [clip["change"] for clip in timeline["clips"]]
        assert first is None
        np.testing.assert_allclose(others, wanted, atol=1e-6)


def test_a_semantic_code_is_a_column_a_clip(web, ids, shelf):
    vectors = Index.open(shelf / "index").clips(ids["bikes.mp4"]).vectors
    saturation = np.uint8(vectors / vectors.max() * 255).T
    hsv = np.stack([np.full_like(saturation, 14), saturation, np.full_like(saturation, 255)], axis=-1)
    original = Image.frombytes("HSV", vectors.shape, hsv.tobytes()).convert("RGB")
    for query, wanted in (("", viridis()[feature_levels(vectors, 64)]), ("?style=original", np.asarray(original))):
        answer = web.get(f"/api/videos/{ids['bikes.mp4']}/semcode.png{query}")
        assert answer.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")), wanted)
    assert web.get(f"/api/videos/{ids['bikes.mp4']}/semcode.png?style=x").json()["error"]["code"] == "bad_parameter"


def test_the_originals_picture_of_a_long_video_is_not_made():
    vectors = np.broadcast_to(np.float32(0), (100_000, 512))
    index = SimpleNamespace(clips=lambda _: SimpleNamespace(vectors=vectors))
    catalogue = SimpleNamespace(listing=lambda: SimpleNamespace(video=lambda _: None))
    with pytest.raises(ApiError, match="51,200,000 pixels"):
        semcode(SimpleNamespace(index=index, catalogue=catalogue), "x", "original")


def test_thumbnails_show_the_time(web, ids):
    for title, first in (("b??.mkv", 3), ("clip.webm", 170)):
        for seconds in (0, 0.7, 2.3, 1000):
            answer = web.get(f"/api/videos/{ids[title]}/thumbnail.jpg", params={"time": seconds})
            assert answer.headers["content-type"] == "image/jpeg"
            assert "max-age" in answer.headers["cache-control"]
            shown = np.asarray(Image.open(io.BytesIO(answer.content)))
            assert number_in(shown) == first + min(59, int(seconds / 0.04 + 1e-6)) // 9
    wide = Image.open(io.BytesIO(web.get(f"/api/videos/{ids['bikes.mp4']}/thumbnail.jpg").content))
    assert wide.size == (320, 136)


KINDS = {"bikes.mp4": "video/mp4", "b??.mkv": "video/x-matroska", "clip.webm": "video/webm", "long ü.ts": "video/mp2t"}


@pytest.mark.parametrize("title", KINDS)
def test_bytes_of_a_video(web, ids, shelf, title):
    path = next(path for path in (shelf / "videos").iterdir() if path.name.encode(errors="replace").decode() == title)
    whole = path.read_bytes()
    url = f"/api/videos/{ids[title]}/file"
    answer = web.get(url)
    assert answer.content == whole
    assert answer.headers["content-type"] == KINDS[title]
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == "inline"
    head = web.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole)))
    size = len(whole)
    for text, (start, end) in {
        "bytes=0-": (0, size),
        "bytes=0-0": (0, 1),
        "bytes=100-199": (100, 200),
        "bytes=-10": (size - 10, size),
        f"bytes=-{size * 2}": (0, size),
        f"bytes={size - 1}-": (size - 1, size),
        f"bytes=5-{size * 10}": (5, size),
        "BYTES = 1-2": (1, 3),
    }.items():
        part = web.get(url, headers={"range": text})
        assert part.status_code == 206, text
        assert part.content == whole[start:end]
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    for text in (f"bytes={size}-", f"bytes={size + 5}-{size + 9}", "bytes=-0", "bytes=" + "9" * 18 + "-"):
        none = web.get(url, headers={"range": text})
        assert none.status_code == 416, text
        assert none.headers["content-range"] == f"bytes */{size}"
        assert none.json()["error"]["code"] == "bad_range"
    many = "bytes=" + ",".join(f"{n}-{n}" for n in range(1000))
    for text in ("bytes=9-2", "bytes=", "bytes=a-b", "bytes=1-2,3-4", "lines=1-2", "bytes", "bytes=--1", many, "bytes=\xb2-"):
        ignored = web.get(url, headers={"range": text.encode("latin-1")})
        assert (ignored.status_code, len(ignored.content)) == (200, size), text
    etag = answer.headers["etag"]
    assert web.get(url, headers={"range": "bytes=0-3", "if-range": etag}).status_code == 206
    assert web.get(url, headers={"range": "bytes=0-3", "if-range": '"other"'}).status_code == 200


def test_search_by_clip(web, ids, shelf):
    bikes = ids["bikes.mp4"]
    index = Index.open(shelf / "index")
    rows = index.clips(bikes)
    found = web.get("/api/search", params={"video": bikes, "time": 3.1, "count": 7, "merge": False}).json()
    number = next(place for place, span in enumerate(rows.spans) if span.start <= 3.1 < span.end)
    span = rows.spans[number]
    expected = {"video": bikes, "title": "bikes.mp4", "start": span.start, "end": span.end, "shot": None, "label": None}
    assert found["query"] == expected
    assert len(found["hits"]) == 7
    every = [
        (float(vector @ rows.vectors[number]), video.video, clip.start)
        for video in index.videos()
        for vector, clip in zip(index.clips(video.video).vectors, index.clips(video.video).spans, strict=True)
        if (video.video, clip.start) != (bikes, span.start)
    ]
    best = sorted(every, reverse=True)[:7]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx([score for score, *_ in best], abs=1e-5)
    assert {(hit["id"], hit["start"]) for hit in found["hits"]} == {(video, start) for _, video, start in best}
    for hit in found["hits"]:
        assert hit["query"] == {"start": span.start, "end": span.end}
        assert hit["query_time"] == span.start


def test_search_by_video_with_others_only_and_by_label(web, ids):
    bikes = ids["bikes.mp4"]
    found = web.get("/api/search", params={"video": bikes, "others": True, "count": 50}).json()
    assert {hit["id"] for hit in found["hits"]} == set(ids.values()) - {bikes}
    label = web.get("/api/labels").json()[-1]["label"]
    found = web.get("/api/search", params={"label": label, "merge": False, "count": 5}).json()
    assert found["query"]["label"] == label
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert all(label in {each["label"] for each in hit["labels"]} for hit in found["hits"])
    found = web.get("/api/search", params={"video": bikes, "label": label, "merge": False}).json()
    assert all(label in {each["label"] for each in hit["labels"]} for hit in found["hits"])


def test_merged_hits_do_not_touch(web, ids):
    hits = web.get("/api/search", params={"video": ids["bikes.mp4"], "time": 1, "count": 50, "merge": True}).json()["hits"]
    for one in hits:
        for other in hits:
            assert one is other or one["id"] != other["id"] or one["end"] < other["start"] or other["end"] < one["start"]


def ways_to_send(path):
    return [
        {"content": path.read_bytes()},
        {"content": path.read_bytes(), "headers": {"content-type": "video/mp4"}},
        {"content": iter([path.read_bytes()[:1000], path.read_bytes()[1000:]])},
        {"files": {"file": ("../../etc/passwd\n<b>.mp4", path.read_bytes(), "text/html")}},
        {"files": {"file": ("x", io.BytesIO(path.read_bytes()), "video/mp4")}},
    ]


def test_an_upload_is_classified_as_on_the_command_line(web, bikes):
    done = subprocess.run([PROGRAM, "classify", bikes, "--model", MODEL, "--json"], capture_output=True, check=True)
    report = json.loads(done.stdout)
    (expected,) = report["videos"]
    for how in ways_to_send(bikes):
        answer = web.post("/api/classify", **how)
        assert answer.status_code == 200, answer.text
        got = answer.json()
        assert list(got) == ["model", "status", "error", "labels", "clips"]
        assert (got["model"], got["status"], got["error"]) == (report["model"], "ok", None)
        assert [label["label"] for label in got["labels"]] == [label["label"] for label in expected["labels"]]
        assert len(got["clips"]) == len(expected["clips"])
        for one, other in zip(got["clips"], expected["clips"], strict=True):
            assert (one["start"], one["end"]) == (other["start"], other["end"])
            assert [label["label"] for label in one["labels"]] == [label["label"] for label in other["labels"]]
            scores = [[label["score"] for label in clip["labels"]] for clip in (one, other)]
            assert scores[0] == pytest.approx(scores[1], abs=2e-6)
    assert [len(clip["labels"]) for clip in web.post("/api/classify?top_k=2", content=bikes.read_bytes()).json()["clips"]] == [
        2
    ] * len(expected["clips"])


def test_features_of_an_upload_are_those_of_the_command_line(web, bikes, tmp_path):
    subprocess.run([PROGRAM, "extract", bikes, "--model", MODEL, "-o", tmp_path / "f.npz"], capture_output=True, check=True)
    with np.load(tmp_path / "f.npz") as expected:
        arrays = dict(expected)
    for how in ways_to_send(bikes)[:4:3]:
        got = web.post("/api/features", **how).json()
        assert (got["status"], got["error"], got["shape"]) == ("ok", None, list(arrays["features"].shape))
        features = np.array(got["features"], np.float32)
        np.testing.assert_allclose(features, arrays["features"], rtol=0, atol=2e-6 * arrays["features"].max())
        np.testing.assert_array_equal(np.array(got["spans"]), arrays["spans"])


def test_neighbours_change_nothing(served, bikes, bigbuckbunny):
    bodies = [path.read_bytes() for path in (bikes, bigbuckbunny)]

    def features(body):
        with served.client() as client:
            return np.array(client.post("/api/features", content=body).json()["features"])

    alone = [features(body) for body in bodies]
    got = [None] * 8

    def ask(place):
        got[place] = features(bodies[place % 2])

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, array in enumerate(got):
        np.testing.assert_allclose(array, alone[place % 2], rtol=0, atol=2e-6 * alone[place % 2].max())


def test_an_upload_finds_itself(web, bikes, ids):
    for how in ways_to_send(bikes)[:4:3]:
        found = web.post("/api/search?count=20&merge=false", **how).json()
        own = [hit for hit in found["hits"] if hit["id"] == ids["bikes.mp4"] and hit["query"]["start"] == hit["start"]]
        assert len(own) > 10
        assert all(hit["score"] == pytest.approx(1, abs=1e-4) for hit in own)
        assert found["query"]["start"] == 0.0


def test_a_video_that_breaks_off_is_partial(web, tmp_path):
    whole = encode_numbers(tmp_path / "whole.mp4", constant(80), container={"movflags": "faststart"})
    cut = whole.read_bytes()[: int(whole.stat().st_size * 0.6)]
    answer = web.post("/api/classify", content=cut)
    assert answer.status_code == 200
    got = answer.json()
    assert got["status"] == "partial"
    assert got["error"]["stage"] == "decode"
    assert got["error"]["last_good_time"] > 0
    assert got["clips"]
    assert got["error"]["message"].startswith("the upload: ")
    assert web.post("/api/features", content=cut).json()["status"] == "partial"


def test_the_pages_need_nothing_from_elsewhere(web):
    docs = web.get("/docs")
    assert docs.headers["content-type"].startswith("text/html")
    for name in ("reference.js", "reference.css"):
        assert f"/docs/{name}" in docs.text
        assert web.get(f"/docs/{name}").status_code == 200
    here = Path(ig65m.__file__).parent / "server"
    for path in (here / "reference").iterdir():
        assert "//" not in path.read_text("utf-8").replace("// ", ""), path
    start = web.get("/", follow_redirects=True)
    assert start.status_code == 200
    assert start.headers["content-type"].startswith("text/html")
    assert web.head("/docs").status_code == 200


def test_every_answer_has_the_headers(web, ids):
    file = f"/api/videos/{ids['bikes.mp4']}/file"
    for url in ("/api/health", "/", "/docs", "/static/none.js", "/nowhere", file, "/api/search"):
        headers = web.get(url).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
        assert "permissions-policy" in headers
        assert "server" not in headers
        assert not [name for name in headers if name.startswith("access-control")]


def test_the_description_names_every_route(web):
    api = httpx.Response.json(web.get("/openapi.json"))
    assert {(path, method) for path, routes in api["paths"].items() for method in routes} == {
        ("/api/health", "get"),
        ("/api/models", "get"),
        ("/api/labels", "get"),
        ("/api/videos", "get"),
        ("/api/videos/{id}", "get"),
        ("/api/videos/{id}/timeline", "get"),
        ("/api/videos/{id}/motion", "get"),
        ("/api/videos/{id}/semcode.png", "get"),
        ("/api/videos/{id}/class-map", "get"),
        ("/api/videos/{id}/thumbnail.jpg", "get"),
        ("/api/videos/{id}/file", "get"),
        ("/api/search", "get"),
        ("/api/search", "post"),
        ("/api/classify", "post"),
        ("/api/features", "post"),
        ("/api/login", "post"),
    }
    routes = (Path(__file__).parent.parent / "docs" / "server.md").read_text("utf-8")
    for path in api["paths"]:
        assert path in routes


def test_an_answer_has_no_more_numbers_than_it_can_bear(monkeypatch):
    rows = np.zeros((20, 128), np.float32)
    features = Features("x", "ok", rows, tuple(ClipSpan(n, n + 1) for n in range(20)))
    extractor = SimpleNamespace(extract_many=lambda *_, **__: iter([features]), card=SimpleNamespace(name="x"))
    asked = Service(None, None, extractor, None, None, None, None, None, None)
    assert asked.extract(Path("x"), lambda: False).shape == (20, 128)
    monkeypatch.setattr(service, "_MOST_NUMBERS", 20 * 128 - 1)
    with pytest.raises(ApiError) as refusal:
        asked.extract(Path("x"), lambda: False)
    assert (refusal.value.status, refusal.value.code) == (422, "too_long")


def test_batches_are_counted(web, bikes):
    before = web.get("/api/health").json()["batches"]
    clips = len(web.post("/api/classify", content=bikes.read_bytes()).json()["clips"])
    after = web.get("/api/health").json()["batches"]
    assert after["clips"] - before["clips"] == clips
    assert after["mean"] == after["clips"] / after["count"]


def test_what_is_added_to_the_index_is_served(served, web, tmp_path):
    """Another process may change the index; the service needs no new start."""
    video, features = encode_numbers(tmp_path / "new.mp4", constant(30)), tmp_path / "features"
    command = [PROGRAM, "extract", video, "--output", features, "--model", MODEL, "--top-k", "5"]
    subprocess.run(command, check=True, capture_output=True)
    index = Index.open(served.temporary.parent / "index")
    (new,) = index.add(features).added
    try:
        wait_for(lambda: web.get("/api/health").json()["videos"] == 6)
        assert web.get(f"/api/videos/{new}").json()["title"] == "new.mp4"
        assert web.get(f"/api/videos/{new}/thumbnail.jpg").status_code == 200
    finally:
        index.remove([new])
    wait_for(lambda: web.get(f"/api/videos/{new}").status_code == 404)
