"""Shots over HTTP: in timelines, as queries, as hits; and an index that does not know them."""

import shutil
import subprocess

import numpy as np
import pytest

from ig65m.search.index import Index
from tests.indexes import cut_into_shots, without_shots
from tests.serving import PROGRAM, checked, serving

pytestmark = pytest.mark.slow

MODEL = "r2plus1d_10_camera_motion"
CUTS = [29 / 25, 75 / 25, 136 / 25, 186 / 25, 241 / 25]  # of bikes


@pytest.fixture(scope="module")
def folder(bikes, bigbuckbunny, tmp_path_factory):
    """Indexes of bikes, whose shots are known, and bunny, whose are not: `index`; and `old`, of a version without shots."""
    folder = tmp_path_factory.mktemp("shots")
    (folder / "videos").mkdir()
    for source in (bikes, bigbuckbunny):
        shutil.copy(source, folder / "videos")
    command = ["extract", folder / "videos", "--output", folder / "f", "--model", MODEL, "--top-k", "3", "--stride", "4"]
    subprocess.run([PROGRAM, *command], check=True, capture_output=True)
    for name in ("index", "old"):
        Index.build(cut_into_shots(folder / "f", folder / f"{name}-features", {"bikes": CUTS}), folder / name)
    without_shots(folder / "old")
    return folder


@pytest.fixture(scope="module")
def web(folder, tmp_path_factory):
    with serving(folder / "index", tmp_path_factory.mktemp("new") / "tmp") as served, served.client() as client:
        yield client
        assert "fault of" not in served.said()


def identifiers(client):
    return {video["title"]: video["id"] for video in client.get("/api/videos").json()["videos"]}


def test_a_timeline_has_the_shots(web):
    ids = identifiers(web)
    line = web.get(f"/api/videos/{ids['bikes.mp4']}/timeline").json()
    assert [shot["number"] for shot in line["shots"]] == [0, 1, 2, 3, 4]  # the last one is shorter than a clip
    for shot, before, after in zip(line["shots"], [0, *CUTS], CUTS, strict=False):
        assert before - 1e-6 <= shot["start"] < before + 4 / 25
        assert after - 4 / 25 < shot["end"] <= after + 1e-6
        clips = line["clips"][shot["first_clip"] : shot["first_clip"] + shot["clips"]]
        assert {clip["shot"] for clip in clips} == {shot["number"]}
        assert (clips[0]["start"], clips[-1]["end"]) == (shot["start"], shot["end"])
    assert sum(shot["clips"] for shot in line["shots"]) == len(line["clips"])
    other = web.get(f"/api/videos/{ids['bigbuckbunny.mp4']}/timeline").json()
    assert other["shots"] == []
    assert {clip["shot"] for clip in other["clips"]} == {None}


def test_search_with_a_shot(web, folder):
    bikes = identifiers(web)["bikes.mp4"]
    rows = Index.open(folder / "index").clips(bikes)
    shots = np.array([span.shot for span in rows.spans])
    found = web.get("/api/search", params={"video": bikes, "shot": 2, "merge": "shot", "count": 100}).json()
    line = web.get(f"/api/videos/{bikes}/timeline").json()
    query = line["shots"][2]
    assert found["query"] == {
        **{"video": bikes, "title": "bikes.mp4", "start": query["start"], "end": query["end"], "shot": 2, "label": None}
    }
    cosines = rows.vectors @ rows.vectors[shots == 2].T
    wanted = {shot: cosines[shots == shot].max() for shot in (0, 1, 3, 4)}
    own = [hit for hit in found["hits"] if hit["id"] == bikes]
    assert [hit["shot"] for hit in own] == sorted(wanted, key=lambda shot: -wanted[shot])
    for hit in own:
        shot = line["shots"][hit["shot"]]
        assert (hit["start"], hit["end"]) == (shot["start"], shot["end"])
        assert hit["score"] == pytest.approx(wanted[hit["shot"]], abs=1e-5)
    (other,) = [hit for hit in found["hits"] if hit["id"] != bikes]  # its shots are unknown, so its clips, which touch, are one
    assert other["shot"] is None
    clips = web.get("/api/search", params={"video": bikes, "shot": 2, "merge": False, "count": 200}).json()["hits"]
    assert sorted(hit["shot"] for hit in clips if hit["id"] == bikes) == sorted(shots[shots != 2])


def test_hits_are_merged_by_shot(web, bikes):
    label = web.get("/api/labels").json()[0]["label"]
    for ask in (
        lambda: web.get("/api/search", params={"label": label, "merge": "shot", "count": 50}),
        lambda: web.post("/api/search?merge=shot&count=50", content=bikes.read_bytes()),
    ):
        hits = ask().json()["hits"]
        places = [(hit["id"], hit["shot"]) for hit in hits if hit["shot"] is not None]
        assert len(set(places)) == len(places) > 1


def test_shots_that_are_none(web):
    bikes = identifiers(web)["bikes.mp4"]
    checked(web.get("/api/search", params={"video": bikes, "shot": 5}), 404, "no_shot")
    for wrong in ({"shot": 1}, {"shot": 1, "label": "static"}, {"shot": 1, "video": bikes, "time": 2}):
        assert "shot" in checked(web.get("/api/search", params=wrong), 422, "bad_parameter")["message"]
    for shot in (-1, "first", 1 << 60, ""):
        checked(web.get("/api/search", params={"video": bikes, "shot": shot}), 422, "bad_parameter")
    checked(web.get("/api/search", params={"video": bikes, "merge": "shots"}), 422, "bad_parameter")


def test_an_index_without_shots(folder, tmp_path, bikes):
    with serving(folder / "old", tmp_path / "tmp") as served, served.client() as client:
        video = identifiers(client)["bikes.mp4"]
        line = client.get(f"/api/videos/{video}/timeline").json()
        assert line["shots"] == []
        assert {clip["shot"] for clip in line["clips"]} == {None}
        assert client.get("/api/search", params={"video": video, "time": 1}).json()["hits"][0]["shot"] is None
        checked(client.get("/api/search", params={"video": video, "shot": 0}), 404, "no_shot")
        checked(client.get("/api/search", params={"video": video, "merge": "shot"}), 404, "no_shot")
        checked(client.post("/api/search?merge=shot", content=bikes.read_bytes()), 404, "no_shot")
        assert "fault of" not in served.said()
