"""Camera motion over HTTP: of videos that the folder has, and refusals for all others; the folder is not trusted."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ig65m.motion.folder import MotionWriter
from ig65m.store.digest import content_digest
from ig65m.types import CameraMotion, Failure, Segment
from tests.motions import SETTINGS, motion
from tests.serving import checked, serving

pytestmark = pytest.mark.slow

BIKES, MARKUP, FAILED, DAMAGED = "bikes.mp4", "<img src=x onerror=alert(1)>.mp4", "long ü.ts", "clip.webm"


@pytest.fixture(scope="module")
def folder(shelf, tmp_path_factory):
    """Camera motion of two videos, one that failed, and one whose record is damaged; the fifth has none."""
    folder = tmp_path_factory.mktemp("motion") / "motion"
    writer = MotionWriter(folder, SETTINGS, pictures=False)
    for name in (BIKES, MARKUP, DAMAGED):
        path = shelf / "videos" / name
        writer.write(Segment(str(path)), content_digest(path), motion(str(path)))
    path = shelf / "videos" / FAILED
    failed = CameraMotion(str(path), "failed", (), (), SETTINGS, Failure("open", f"{path} is broken"))
    writer.write(Segment(str(path)), content_digest(path), failed)
    record = writer.file(Segment(str(shelf / "videos" / DAMAGED)), ".json")
    record.write_text(record.read_text().replace('"sigma"', '"stigma"'))
    return folder


@pytest.fixture(scope="module")
def web(shelf, folder, tmp_path_factory):
    with (
        serving(shelf / "index", tmp_path_factory.mktemp("web") / "tmp", "--motion", folder) as served,
        served.client() as client,
    ):
        yield client
        assert "ig65m: GET" not in served.said()


def identifiers(client):
    return {video["title"]: video["id"] for video in client.get("/api/videos").json()["videos"]}


def test_the_motion_of_a_video(web):
    ids = identifiers(web)
    found = web.get(f"/api/videos/{ids[BIKES]}/motion").json()
    assert (found["id"], found["title"], found["status"]) == (ids[BIKES], BIKES, "ok")
    clips = motion().clips
    assert [(clip["start"], clip["end"]) for clip in found["clips"]] == [(clip.start, clip.end) for clip in clips]
    assert found["clips"][1] == {
        **{"start": 0.5, "end": 1.5, "pan": 0.1, "tilt": 0, "zoom": 0.01, "roll": 0},
        **{"sigma": {"pan": 0.01, "tilt": 0.01, "zoom": 0.005, "roll": 0.5}},
        **{"static": 0, "shake": 0, "cut": 0, "parallax": 0, "label": "pan_right"},
    }
    chances = {"shake": 0, "cut": 0}
    moves = [{"move": "pan_right", "speed": 0.14, "sigma": 0.01}, {"move": "zoom_in", "speed": 0.02, "sigma": 0.01}]
    text = "pan right at 14 %/s with slow zoom in and parallax"
    assert found["segments"] == [
        {"start": 0, "end": 1, "moves": [], "static": 0.9, "parallax": 0, "text": "static", **chances},
        {"start": 1, "end": 3, "moves": moves, "static": 0, "parallax": 0.9, "text": text, **chances},
    ]
    assert web.get(f"/api/videos/{ids[MARKUP]}/motion").json()["title"] == MARKUP


def test_timelines_say_whether_to_ask(web, attacked, ids):
    assert web.get(f"/api/videos/{identifiers(web)[BIKES]}/timeline").json()["has_motion"] is True
    with attacked.client() as client:
        assert client.get(f"/api/videos/{ids[BIKES]}/timeline").json()["has_motion"] is False
        error = checked(client.get(f"/api/videos/{ids[BIKES]}/motion"), 404, "no_motion")
        assert "`ig65m serve --motion FOLDER`" in error["message"]


def test_videos_without_motion(web):
    ids = identifiers(web)
    (other,) = ids.keys() - {BIKES, MARKUP, FAILED, DAMAGED}
    for name, said in (
        (other, "has no camera motion of this video"),
        (DAMAGED, "is damaged"),
        (FAILED, "`ig65m motion VIDEO`"),
    ):
        error = checked(web.get(f"/api/videos/{ids[name]}/motion"), 404, "no_motion")
        assert said in error["message"]
        timeline = web.get(f"/api/videos/{ids[name]}/timeline").json()
        assert timeline["has_motion"]
        assert timeline["clips"]
    checked(web.get("/api/videos/nobody/motion"), 404, "no_video")


def test_nothing_is_read_outside_of_root(shelf, folder, tmp_path):
    options = ("--motion", folder, "--root", tmp_path)
    with serving(shelf / "index", tmp_path / "tmp", *options) as served, served.client() as client:
        checked(client.get(f"/api/videos/{identifiers(client)[BIKES]}/motion"), 410, "gone")


def test_a_file_that_was_exchanged(shelf, folder, tmp_path):
    with serving(shelf / "index", tmp_path / "tmp", "--motion", folder) as served, served.client() as client:
        address = f"/api/videos/{identifiers(client)[BIKES]}/motion"
        path, kept = shelf / "videos" / BIKES, tmp_path / "kept"
        path.rename(kept)
        try:
            checked(client.get(address), 410, "gone")
            os.mkfifo(path)
            checked(client.get(address), 410, "gone")
            path.unlink()
            path.write_bytes(kept.read_bytes() + b"more")
            assert "earlier version" in checked(client.get(address), 404, "no_motion")["message"]
        finally:
            path.unlink(missing_ok=True)
            kept.rename(path)
        assert client.get(address).status_code == 200


def test_motion_of_a_copy_is_found_by_its_content(shelf, tmp_path):
    copy = str(shutil.copy(shelf / "videos" / BIKES, tmp_path / "copy.mp4"))
    MotionWriter(tmp_path / "motion", SETTINGS, pictures=False).write(Segment(copy), content_digest(Path(copy)), motion(copy))
    with serving(shelf / "index", tmp_path / "tmp", "--motion", tmp_path / "motion") as served, served.client() as client:
        assert client.get(f"/api/videos/{identifiers(client)[BIKES]}/motion").json()["title"] == BIKES


def test_impossible_speeds_are_no_fault(shelf, tmp_path):
    path = shelf / "videos" / BIKES
    made = motion(str(path))
    fast = replace(made.segments[1], moves=tuple(replace(move, speed=1e300) for move in made.segments[1].moves))
    clips = tuple(replace(clip, speeds=replace(clip.speeds, pan=1e300, zoom=-1e300)) for clip in made.clips)
    writer = MotionWriter(tmp_path / "motion", SETTINGS, pictures=False)
    writer.write(Segment(str(path)), content_digest(path), replace(made, segments=(made.segments[0], fast), clips=clips))
    with serving(shelf / "index", tmp_path / "tmp", "--motion", tmp_path / "motion") as served, served.client() as client:
        found = client.get(f"/api/videos/{identifiers(client)[BIKES]}/motion").json()
        assert found["clips"][0]["pan"] == 1e300
        assert found["segments"][1]["text"].startswith("pan right at ")


@pytest.mark.parametrize("content", [None, "", "{}", json.dumps({"format": 99})])
def test_a_folder_of_something_else_is_refused_at_the_start(content, shelf, tmp_path, run):
    folder = tmp_path / "motion"
    folder.mkdir()
    if content is not None:
        (folder / "motion.json").write_text(content)
    code, out, err = run("serve", shelf / "index", "--port", 0, "--motion", folder)
    assert (code, out) == (2, "")
    assert ("is not a folder of camera motion" if content is None else "is damaged, or of another version") in err
    assert str(folder) in err
