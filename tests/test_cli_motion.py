"""`ig65m motion`: what it prints, what it writes into a folder, what a second run does, and the lists it selects."""

import csv
import errno
import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

import ig65m.cli
from ig65m.collection.listing import find_videos
from ig65m.motion.folder import MotionFolder
from ig65m.types import CameraMotion, Failure, Segment
from tests.motions import SETTINGS, motion
from tests.videos import constant, encode_numbers


@pytest.fixture
def clips(tmp_path):
    """A folder of two short videos."""
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4"):
        encode_numbers(tmp_path / "clips" / name, constant(75))
    return tmp_path / "clips"


@pytest.fixture
def estimation(monkeypatch):
    """Replaces the network: each call's options and videos are noted; a video named in `bad` fails, one in `ends` raises."""

    class Estimation:
        def __init__(self):
            self.calls, self.bad, self.ends, self.settings = [], [], {}, SETTINGS

        def many(self, videos, **options):
            self.calls.append(options | {"videos": [video.path for video in videos]})
            return self.found(videos)

        def found(self, videos):
            for video in videos:
                name = video.path.rpartition("/")[2]
                if (end := self.ends.get(name)) is not None:
                    end()
                if name in self.bad:
                    yield CameraMotion(video.path, "failed", (), (), SETTINGS, Failure("decode", f"{video.path}: no frames"))
                else:
                    yield replace(motion(video.path), settings=self.settings)

    estimation = Estimation()
    weights = SimpleNamespace(load_weights=lambda: SimpleNamespace(sha256=estimation.settings["sha256"]))
    monkeypatch.setattr("ig65m.motion.picture.draw_motion", lambda _, path, *, title: path.write_bytes(os.fsencode(title)))
    monkeypatch.setattr("ig65m.tasks.motion.estimate_motion_many", estimation.many)
    monkeypatch.setitem(sys.modules, "ig65m.motion.weights", weights)
    monkeypatch.setattr("ig65m.tasks.motion.motion_settings", lambda sha256: {**SETTINGS, "sha256": sha256})
    return estimation


@pytest.fixture
def no_pictures(monkeypatch):
    """As if matplotlib were not installed."""
    monkeypatch.setattr("ig65m.errors.find_spec", lambda _: None)


def test_a_timeline_for_each_video(run, clips, estimation):
    estimation.bad = ["b.mp4"]
    code, out, err = run("motion", clips)
    assert code == 3
    assert err == f"ig65m: failed: {clips}/b.mp4: no frames\n"
    assert out.splitlines() == [
        f"{clips}/a.mp4",
        "0.0 to 1.0 s static",
        "1.0 to 3.0 s pan right at 14 %/s with slow zoom in and parallax",
        f"{clips}/b.mp4: failed",
    ]


def test_json_is_one_object(run, clips, estimation, monkeypatch):
    monkeypatch.chdir(clips)
    estimation.bad = ["b.mp4"]
    code, out, _ = run("motion", "a.mp4", "b.mp4", "--json")
    assert code == 3
    record = json.loads(out)
    assert list(record) == ["videos"]
    assert [video["path"] for video in record["videos"]] == ["a.mp4", "b.mp4"]
    assert [len(video["clips"]) for video in record["videos"]] == [5, 0]
    assert record["videos"][1]["error"]["message"] == "b.mp4: no frames"
    assert record["videos"][0]["segments"][1]["moves"][0] == {"move": "pan_right", "speed": 0.14, "sigma": 0.01}


def test_options_reach_the_estimation(run, clips, estimation):
    how = ("--device", "cuda:1", "--engine", "pytorch", "--threads", 3)
    run("motion", clips, *how, "--image-fps", 5, "--max-frames", 99, "--in-process")
    (call,) = estimation.calls
    wanted = {"device": "cuda:1", "engine": "pytorch", "threads": 3, "image_fps": 5}
    assert call.items() >= (wanted | {"in_process": True, "limits": ig65m.Limits(frames=99)}).items()
    assert call["videos"] == [f"{clips}/a.mp4", f"{clips}/b.mp4"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--json", "--select", "pan>0"), "--json and --select exclude each other"),
        (("--select", "pan_rihgt>0"), "character 1: 'pan_rihgt' is not one of"),
        (("--select", ""), "expected a name, a number, `not` or `(`, got the end"),
        (("--output", "a.mp4"), "a.mp4 is not a folder"),
        (("--output", "."), "is not empty, and not a folder of camera motion"),
        (("--output", "motion", "--image-fps", "0"), "image_fps must be from 0.001"),
    ],
)
def test_wrong_use(args, message, run, clips, estimation, monkeypatch):
    monkeypatch.chdir(clips)
    code, out, err = run("motion", "a.mp4", *args)
    assert (code, out) == (2, "")
    assert message in err
    assert not estimation.calls
    assert sorted(file.name for file in clips.iterdir()) == ["a.mp4", "b.mp4"]


def test_an_expression_is_checked_before_anything_else(run, tmp_path):
    code, _, err = run("motion", tmp_path / "missing.mp4", "--select", "pan>")
    assert (code, "expected a number, got the end" in err) == (2, True)


def test_a_folder_is_continued(run, clips, estimation, tmp_path):
    estimation.bad = ["b.mp4"]
    command = ("motion", clips, "--output", tmp_path / "motion")
    code, out, err = run(*command)
    assert (code, out) == (3, f"2 videos -> {tmp_path}/motion: 1 ok, 1 failed; 2 segments\n")
    assert err == f"ig65m: failed: {clips}/b.mp4: no frames\n"
    files = sorted(file.name.partition("-")[0] + file.suffix for file in (tmp_path / "motion").glob("[!.]*"))
    assert files == ["a.json", "a.png", "b.json", "clips.jsonl.jsonl", "clips.parquet.parquet", "motion.json.json"]

    estimation.bad = []
    (picture,) = (tmp_path / "motion").glob("a-*.png")
    picture.unlink()
    code, out, err = run(*command, "--json")
    assert (code, err) == (0, "ig65m: 1 of 2 videos were done before\n")
    assert [video["path"] for video in json.loads(out)["videos"]] == [f"{clips}/a.mp4", f"{clips}/b.mp4"]
    assert picture.read_text() == "a.mp4"
    assert len(pd.read_parquet(tmp_path / "motion" / "clips.parquet")) == 10
    assert MotionFolder(tmp_path / "motion").read(clips / "b.mp4") == motion(f"{clips}/b.mp4")

    encode_numbers(clips / "a.mp4", constant(12))
    assert run(*command)[0] == 0
    assert [call["videos"] for call in estimation.calls] == [
        *([f"{clips}/a.mp4", f"{clips}/b.mp4"], [f"{clips}/b.mp4"], [f"{clips}/a.mp4"])
    ]

    estimation.settings = {**SETTINGS, "sha256": "cd" * 32}
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert "holds camera motion of other settings (sha256 is abab" in err


def test_pictures_are_left_out_without_matplotlib(run, clips, estimation, tmp_path, no_pictures):
    code, _, err = run("motion", clips, "--output", tmp_path / "motion")
    assert code == 0
    assert err == (
        "ig65m: pictures of the curves are left out: drawing them needs matplotlib, which is not installed: "
        "pip install 'ig65m[explain]'\n"
    )
    assert not list((tmp_path / "motion").glob("*.png"))


def no_space():
    raise OSError(errno.ENOSPC, "No space left on device", "motion")


@pytest.mark.parametrize(("end", "code"), [(no_space, 1), (lambda: signal.raise_signal(signal.SIGTERM), 143)])
def test_an_interrupted_run_keeps_what_is_done(end, code, run, clips, estimation, tmp_path):
    estimation.ends = {"b.mp4": end}
    command = ("motion", clips, "--output", tmp_path / "motion", "--json")
    stopped, out, _ = run(*command)
    assert stopped == code
    assert [video["path"] for video in json.loads(out)["videos"]] == [f"{clips}/a.mp4"]
    assert not list((tmp_path / "motion").glob("b-*"))
    assert not list((tmp_path / "motion").glob(".ig65m*"))
    estimation.ends = {}
    assert run(*command)[0] == 0
    assert [call["videos"] for call in estimation.calls[1:]] == [[f"{clips}/b.mp4"]]


def test_a_selection_is_a_list_that_extract_reads(clips, estimation, tmp_path, monkeypatch, capsysbinary):
    """Names are absolute, so that the list may be anywhere; bytes that are no UTF-8, quotes and line breaks survive."""
    names = ["a.mp4", 'c,"d".mp4', "e\nf.mp4", "g\udcff.mp4"]
    for name in names[1:]:
        shutil.copy(clips / "a.mp4", clips / name)
    monkeypatch.chdir(clips)
    command = ["motion", *names, "--select", "pan_right > 0.12", "--output", str(tmp_path / "motion")]
    monkeypatch.setattr(sys, "argv", ["ig65m", *command])
    with pytest.raises(SystemExit) as stop:
        ig65m.cli.main()
    assert not stop.value.code
    out = capsysbinary.readouterr().out
    assert out.startswith(f"path,start,end\n{clips}/a.mp4,1.0,3.0\n".encode())
    assert (tmp_path / "motion" / "selected.csv").read_bytes() == out
    (tmp_path / "pans.csv").write_bytes(out)
    assert find_videos([str(tmp_path / "pans.csv")]) == [Segment(f"{clips}/{name}", 1.0, 3.0) for name in names]


def test_a_selection_of_parts(run, clips, estimation, tmp_path):
    estimation.bad = ["b.mp4"]
    command = ("motion", clips, "--output", tmp_path / "motion", "--select", "not pan_right>0.12 or start<0")
    assert run(*command)[0] == 2
    command = (*command[:-1], "not pan_right>0.12")
    for _ in range(2):  # the second time from the folder
        code, out, _ = run(*command)
        assert (code, out) == (3, f"path,start,end\n{clips}/a.mp4,0.0,1.5\n")
        assert (tmp_path / "motion" / "selected.csv").read_text() == out
    code, out, _ = run("motion", clips, "--select", "pan<-1")
    assert (code, out) == (3, "path,start,end\n")


def test_a_terminal_gets_names_escaped(run, clips, estimation, monkeypatch):
    shutil.copy(clips / "a.mp4", clips / "c\x1b[31m.mp4")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = run("motion", clips / "c\x1b[31m.mp4", "--select", "pan>0")[1]
    assert out == f"path,start,end\n{clips}/c\\x1b[31m.mp4,0.5,3.0\n"


def test_a_name_that_no_list_can_have_is_refused_first(run, clips, estimation):
    shutil.copy(clips / "a.mp4", clips / "c\r.mp4")
    code, out, err = run("motion", clips, "--select", "pan>0")
    assert (code, out) == (2, "")
    assert r"c\r.mp4' cannot be in a list of videos" in err
    assert not estimation.calls


def test_extract_takes_the_list(run, clips, estimation, tmp_path):
    out = run("motion", clips / "a.mp4", "--select", "pan_right>0.12")[1]
    (tmp_path / "pans.csv").write_text(out)
    model = ("--model", "r2plus1d_10_camera_motion", "--output", tmp_path / "features")
    assert run("extract", tmp_path / "pans.csv", *model)[0] == 0
    (file,) = (tmp_path / "features" / "features").glob("*.parquet")
    spans = pd.read_parquet(file)
    assert len(spans) > 1
    assert spans["start"].min() == pytest.approx(1.0)
    assert spans["end"].max() == pytest.approx(3.0)
    assert [row[1:] for row in csv.reader(out.splitlines())][1:] == [["1.0", "3.0"]]
