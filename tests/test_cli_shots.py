"""`ig65m shots`: what it prints, what it writes into a folder, and what a second run does."""

import csv
import errno
import json
import re
import shutil
import signal
from dataclasses import asdict

import pandas as pd
import pytest

import ig65m
from ig65m.shots.folder import ShotFolder, read_settings
from ig65m.types import Failure, Shot, ShotList
from tests.videos import constant, encode_numbers

CUTS = [29, 75, 136, 186, 241]  # last frames of the shots of bikes.mp4 before the last, by TransNetV2's own program


@pytest.fixture
def clips(tmp_path):
    """A folder of two short videos."""
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4"):
        encode_numbers(tmp_path / "clips" / name, constant(10))
    return tmp_path / "clips"


@pytest.fixture
def detection(monkeypatch):
    """Replaces the network: each call's options and videos are noted; a video named in `bad` fails, one in `ends` raises."""

    class Detection:
        def __init__(self):
            self.calls, self.bad, self.ends = [], [], {}

        def many(self, videos, **options):
            self.calls.append(options | {"videos": [video.path for video in videos]})
            return self.found(videos, options)

        def found(self, videos, options):
            settings = {"network": "transnetv2", "sha256": "ab" * 32, "threshold": options["threshold"]}
            for video in videos:
                if (end := self.ends.get(video.path.rpartition("/")[2])) is not None:
                    end()
                if video.path.rpartition("/")[2] in self.bad:
                    yield ShotList(video.path, "failed", (), settings, Failure("decode", f"{video.path}: no frames"))
                else:
                    shots = (Shot(0.0, 0.2, 0, 4, "cut", 0.875), Shot(0.2, 0.4, 5, 9, "end", None))
                    yield ShotList(video.path, "ok", shots, settings, frames=10)

    class Weights:
        sha256 = "ab" * 32

    detection = Detection()
    monkeypatch.setattr("ig65m.tasks.shots.detect_shots_many", detection.many)
    monkeypatch.setattr("ig65m.shots.weights.load_weights", Weights)
    return detection


@pytest.mark.slow
def test_the_cuts_of_a_film_in_the_contracts_json(run, bikes):
    code, out, err = run("shots", bikes, "--json")
    assert (code, err.splitlines()) == (0, [err.strip()])
    assert re.fullmatch(r"ig65m: openvino \S+, fp32, cpu\n", err)
    record = json.loads(out)
    assert list(record) == ["videos"]
    (video,) = record["videos"]
    assert list(video) == ["path", "status", "error", "shots"]
    assert (video["path"], video["status"], video["error"]) == (str(bikes), "ok", None)
    assert list(video["shots"][0]) == ["start", "end", "first_frame", "last_frame", "transition", "score"]
    assert [shot["last_frame"] for shot in video["shots"]] == [*CUTS, 249]
    assert [shot["transition"] for shot in video["shots"]] == ["cut"] * 5 + ["end"]
    assert video["shots"][-1]["score"] is None
    assert [asdict(shot) for shot in ig65m.detect_shots(bikes).shots] == video["shots"]


@pytest.mark.slow
def test_a_folder_has_the_shots_of_a_film_and_of_a_late_one(run, bikes, tmp_path):
    late = encode_numbers(tmp_path / "late.mkv", constant(30, first=7000))
    code, out, _ = run("shots", bikes, late, "--output", tmp_path / "shots", "--threshold", 0.6)
    assert (code, out) == (0, f"2 videos -> {tmp_path}/shots: 2 ok; 7 shots\n")
    found = ShotFolder(tmp_path / "shots").read(bikes)
    assert found.shots == ig65m.detect_shots(bikes, threshold=0.6).shots
    assert found.settings == read_settings(tmp_path / "shots") == ig65m.detect_shots(late, threshold=0.6).settings
    (shot,) = ShotFolder(tmp_path / "shots").read(late).shots
    assert (shot.start, shot.end) == (pytest.approx(7), pytest.approx(8.2))
    (scenes,) = (tmp_path / "shots").glob("late-*.csv")
    assert scenes.read_text().splitlines()[2] == "1,1,00:00:00.000,0.000,30,00:00:01.200,1.200,30,00:00:01.200,1.200"


@pytest.mark.slow
def test_a_video_that_cannot_be_read_and_one_of_a_frame(run, bikes, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(bikes.read_bytes()[:-100_000])  # without its index
    one = encode_numbers(tmp_path / "one.mkv", [5000])
    code, out, err = run("shots", broken, one, "--json", "--output", tmp_path / "shots")
    assert code == 3
    assert "failed" in err
    assert [video["status"] for video in json.loads(out)["videos"]] == ["failed", "ok"]
    assert ShotFolder(tmp_path / "shots").read(one).shots == (Shot(5.0, 5.04, 0, 0, "end", None),)
    with pytest.raises(ig65m.VideoError, match="finding its shots failed"):
        ShotFolder(tmp_path / "shots").read(broken)


@pytest.mark.slow
def test_clips_within_shots_of_a_folder_are_those_of_shots_on_the_way(run, bikes, tmp_path, monkeypatch):
    """The folder knows the video by another path."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(bikes, tmp_path / "copy.mp4")
    assert run("shots", bikes, "--output", "shots")[0] == 0
    classify = ("classify", "copy.mp4", "--model", "r2plus1d_10_camera_motion", "--json")
    there, on_the_way = (run(*classify, *how) for how in (("--shots", "shots"), ("--within-shots",)))
    assert there[:2] == on_the_way[:2]
    assert {clip["shot"] for clip in json.loads(there[1])["videos"][0]["clips"]} == set(range(6))


def test_a_table_for_each_video(run, clips, detection):
    detection.bad = ["b.mp4"]
    code, out, err = run("shots", clips)
    assert code == 3
    assert err == f"ig65m: failed: {clips}/b.mp4: no frames\n"
    rows = [line.split() for line in out.splitlines() if line.strip() and "─" not in line]
    assert rows == [
        [f"{clips}/a.mp4"],
        ["shot", "from", "(s)", "to", "(s)", "frames", "transition", "score"],
        ["0", "0.00", "0.20", "0-4", "cut", "0.88"],
        ["1", "0.20", "0.40", "5-9", "end"],
        [f"{clips}/b.mp4:", "failed"],
    ]


def test_options_reach_the_detection(run, clips, detection):
    how = ("--device", "cuda:1", "--engine", "pytorch", "--threads", 3)
    run("shots", clips, *how, "--threshold", 0.25, "--image-fps", 5, "--max-frames", 99, "--in-process")
    (call,) = detection.calls
    wanted = {"device": "cuda:1", "engine": "pytorch", "threads": 3, "threshold": 0.25, "image_fps": 5}
    assert call.items() >= (wanted | {"in_process": True, "limits": ig65m.Limits(frames=99)}).items()
    assert call["videos"] == [f"{clips}/a.mp4", f"{clips}/b.mp4"]


def test_parts_in_a_list_stand_for_their_videos(run, clips, detection):
    (clips / "list.csv").write_text("path,start,end\na.mp4,0.1,0.2\na.mp4,0.2,0.3\nb.mp4,0,1\n")
    run("shots", clips / "list.csv", clips / "a.mp4")
    assert detection.calls[0]["videos"] == [f"{clips}/a.mp4", f"{clips}/b.mp4"]


def test_csv_has_a_row_for_each_shot(run, clips, detection, monkeypatch):
    names = ["=1+1;.mp4", '+a,"b.mp4', "-c.mp4", "@d.mp4", "e\nf.mp4", "g.mp4"]
    monkeypatch.chdir(clips)
    for name in names:
        shutil.copy("a.mp4", name)
    code, out, _ = run("shots", "--csv", "--", *names)
    assert code == 0
    assert out.splitlines()[0] == '"path","shot","start","end","first_frame","last_frame","transition","score"'
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["path"] for row in rows[::2]] == ["./=1+1;.mp4", './+a,"b.mp4', "./-c.mp4", "./@d.mp4", r"e\nf.mp4", "g.mp4"]
    assert all(line.startswith('"') for line in out.splitlines())
    (clips / "table.csv").write_text(out)
    table = pd.read_csv(clips / "table.csv")
    assert table["score"].isna().tolist() == [False, True] * 6
    assert table.drop(columns=["path", "score"]).values.tolist()[:2] == [[0, 0.0, 0.2, 0, 4, "cut"], [1, 0.2, 0.4, 5, 9, "end"]]


def test_without_the_weights_a_line_says_what_to_install(run, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("ig65m.shots.weights.find_spec", lambda _: None)
    for args in ((), ("--output", tmp_path / "shots")):
        code, out, err = run("shots", clips, *args)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "pip install 'ig65m[shots]'" in err
    assert not (tmp_path / "shots").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--json", "--csv"), "--json and --csv exclude each other"),
        (("--threshold", "1"), "the threshold must be between 0 and 1, got 1.0"),
        (("--threshold", "nan"), "the threshold must be between 0 and 1, got nan"),
        (("--threshold", "2", "--output", "shots"), "the threshold must be between 0 and 1, got 2.0"),
        (("--output", "a.mp4"), "a.mp4 is not a folder"),
        (("--output", "."), "is not empty, and not a folder of shots"),
    ],
)
def test_wrong_use(args, message, run, clips, monkeypatch):
    monkeypatch.chdir(clips)
    code, out, err = run("shots", "a.mp4", *args)
    assert (code, out) == (2, "")
    assert message in err
    assert sorted(file.name for file in clips.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_folder_is_continued(run, clips, detection, tmp_path):
    detection.bad = ["b.mp4"]
    command = ("shots", clips, "--output", tmp_path / "shots")
    code, out, err = run(*command)
    assert (code, out) == (3, f"2 videos -> {tmp_path}/shots: 1 ok, 1 failed; 2 shots\n")
    assert err == f"ig65m: failed: {clips}/b.mp4: no frames\n"
    assert sorted(file.suffix for file in (tmp_path / "shots").iterdir()) == [".csv", ".edl", ".json", ".json", ".json"]

    detection.bad = []
    code, out, err = run(*command, "--json")
    assert (code, err) == (0, "ig65m: 1 of 2 videos were done before\n")
    assert [video["path"] for video in json.loads(out)["videos"]] == [f"{clips}/a.mp4", f"{clips}/b.mp4"]
    assert [len(video["shots"]) for video in json.loads(out)["videos"]] == [2, 2]

    code, out, err = run(*command, "--csv")
    assert (code, err) == (0, "ig65m: 2 of 2 videos were done before\n")
    assert len(out.splitlines()) == 5

    encode_numbers(clips / "a.mp4", constant(12))
    assert run(*command)[0] == 0
    assert [call["videos"] for call in detection.calls] == [
        *([f"{clips}/a.mp4", f"{clips}/b.mp4"], [f"{clips}/b.mp4"], [f"{clips}/a.mp4"])
    ]

    code, out, err = run(*command, "--threshold", 0.4)
    assert (code, out) == (2, "")
    assert "holds shots of other settings (threshold is 0.5 there, 0.4 here)" in err


def test_a_missing_video_has_a_record_that_says_so(run, clips, detection, tmp_path):
    detection.bad = ["missing.mp4"]
    code, _, err = run("shots", clips / "missing.mp4", clips / "a.mp4", "--output", tmp_path / "shots")
    assert code == 3
    assert "missing.mp4: no frames" in err
    (file,) = (tmp_path / "shots").glob("missing-*")
    record = json.loads(file.read_text())
    assert (record["status"], record["content"], record["shots"]) == ("failed", None, [])
    detection.calls.clear()
    assert run("shots", clips / "none.mp4", "--output", tmp_path / "shots")[0] == 2
    assert not detection.calls


def no_space():
    raise OSError(errno.ENOSPC, "No space left on device", "shots")


@pytest.mark.parametrize(("end", "code"), [(no_space, 1), (lambda: signal.raise_signal(signal.SIGTERM), 143)])
def test_an_interrupted_run_keeps_what_is_done(end, code, run, clips, detection, tmp_path):
    detection.ends = {"b.mp4": end}
    command = ("shots", clips, "--output", tmp_path / "shots", "--json")
    stopped, out, _ = run(*command)
    assert stopped == code
    assert [video["path"] for video in json.loads(out)["videos"]] == [f"{clips}/a.mp4"]
    assert not list((tmp_path / "shots").glob("b-*"))
    assert not list((tmp_path / "shots").glob(".*"))
    detection.ends = {}
    assert run(*command)[0] == 0
    assert [call["videos"] for call in detection.calls[1:]] == [[f"{clips}/b.mp4"]]
