"""The folder of `ig65m motion --output`: what is written, found again, and refused."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from ig65m.errors import UsageError, VideoError
from ig65m.motion.folder import MotionFolder, MotionWriter
from ig65m.motion.record import video_values
from ig65m.store.digest import content_digest
from ig65m.types import Failure, Segment
from tests.motions import SETTINGS, clip, motion, segment
from tests.videos import constant, encode_numbers

COLUMNS = ["path", "start", "end", "pan", "tilt", "zoom", "roll", "sigma_pan", "sigma_tilt", "sigma_zoom", "sigma_roll"]
COLUMNS += ["static", "shake", "cut", "parallax", "label"]


@pytest.fixture
def video(tmp_path):
    return encode_numbers(tmp_path / "holiday.mp4", constant(60))


@pytest.fixture
def found(video):
    return motion(str(video))


@pytest.fixture
def writer(tmp_path):
    return MotionWriter(tmp_path / "motion", SETTINGS, pictures=False)


@pytest.fixture
def folder(writer, video, found):
    """A folder with the motion of the video."""
    writer.write(Segment(str(video)), content_digest(video), found)
    writer.finish()
    return writer.folder


def record_in(folder):
    (file,) = (file for file in folder.glob("*.json") if file.name != "motion.json")
    return file


def test_a_folder_gives_back_the_motion(folder, video, found, tmp_path):
    reader = MotionFolder(folder)
    assert reader.settings == SETTINGS
    assert reader.read(video) == found
    assert reader.read(Segment(str(video), start=1.0)) == found
    copy = shutil.copy(video, tmp_path / "copy.mp4")
    assert reader.read(copy) == replace(found, path=str(copy))
    record = json.loads(record_in(folder).read_text())
    assert list(record) == ["path", "content", "status", "error", "settings", "segments", "clips"]
    assert {name: record[name] for name in ("path", "status", "error", "segments", "clips")} == video_values(found)


def test_json_is_that_of_the_contract(found):
    values = json.loads(json.dumps(video_values(found)))
    assert list(values) == ["path", "status", "error", "segments", "clips"]
    assert values["segments"][1] == {
        **{"start": 1.0, "end": 3.0},
        "moves": [
            {"move": "pan_right", "speed": 0.14, "sigma": 0.01},
            {"move": "zoom_in", "speed": 0.02, "sigma": 0.01},
        ],
        **{"static": 0.0, "shake": 0.0, "cut": 0.0, "parallax": 0.9},
    }
    assert values["clips"][1] == {
        **{"start": 0.5, "end": 1.5, "pan": 0.1, "tilt": 0.0, "zoom": 0.01, "roll": 0.0},
        "sigma": {"pan": 0.01, "tilt": 0.01, "zoom": 0.005, "roll": 0.5},
        **{"static": 0.0, "shake": 0.0, "cut": 0.0, "parallax": 0.0, "label": "pan_right"},
    }


def test_the_tables_have_the_clips_of_all_videos(folder, writer, video, found, tmp_path):
    odd = encode_numbers(tmp_path / "b\udcff.mp4", constant(10))
    cut_off = replace(found, path=str(odd), status="partial", error=Failure("decode", "damaged"), clips=found.clips[:2])
    writer.write(Segment(str(odd)), content_digest(odd), cut_off)
    failed = replace(found, path="none.mp4", status="failed", error=Failure("decode", "none"), segments=(), clips=())
    writer.write(Segment("none.mp4"), None, failed)
    assert len(pq.read_table(folder / "clips.parquet")) == 5  # not before the end of the run
    writer.finish()
    table = pd.read_parquet(folder / "clips.parquet")
    assert list(table) == COLUMNS
    assert table["path"].tolist() == [f"{tmp_path}/b\\udcff.mp4"] * 2 + [str(video)] * 5
    assert table["pan"].tolist() == [0.0, 0.1, 0.0, 0.1, 0.14, 0.14, 0.14]
    rows = [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]
    assert list(rows[0]) == COLUMNS
    assert [row["path"] for row in rows[:3]] == [str(odd)] * 2 + [str(video)]
    assert [list(row.values())[1:] for row in rows] == table.iloc[:, 1:].values.tolist()
    assert sorted(file.name for file in folder.glob(".*")) == [".locks"]


def test_tables_of_a_folder_without_clips(writer):
    writer.finish()
    assert pq.read_table(writer.folder / "clips.parquet").column_names == COLUMNS
    assert (writer.folder / "clips.jsonl").read_text() == ""


def test_a_picture_stands_beside_a_record(tmp_path, video, found):
    part, content = Segment(str(video)), content_digest(video)
    writer = MotionWriter(tmp_path / "motion", SETTINGS)
    writer.write(part, content, found)
    picture = writer.file(part, ".png")
    before = picture.read_bytes()
    assert before.startswith(b"\x89PNG")
    shorter = replace(found, clips=found.clips[:2])
    writer.draw(part, shorter)
    assert picture.read_bytes() == before  # it is there
    writer.write(part, content, shorter)
    assert picture.read_bytes() != before
    failed = replace(found, status="failed", error=Failure("decode", "none"), segments=(), clips=())
    writer.write(part, content, failed)
    assert not picture.exists()


def test_a_failed_video_has_a_record_that_says_so(folder, writer, video, found):
    failed = replace(found, status="failed", error=Failure("decode", "no frames"), segments=(), clips=())
    writer.write(Segment(str(video)), content_digest(video), failed)
    assert writer.done(Segment(str(video)), content_digest(video)) is None
    with pytest.raises(VideoError, match=r"finding its camera motion failed \(no frames\); run `ig65m motion "):
        MotionFolder(folder).read(video)


def test_a_video_without_its_motion_is_an_error_that_says_what_to_run(folder, video, tmp_path):
    other = encode_numbers(tmp_path / "other.mp4", constant(10))
    with pytest.raises(UsageError, match=r"has no camera motion of it; run `ig65m motion .*other\.mp4 --output .*motion`"):
        MotionFolder(folder).read(other)
    shutil.copy(other, video)
    with pytest.raises(UsageError, match="it has changed since its camera motion was estimated; run `ig65m motion"):
        MotionFolder(folder).read(video)
    with pytest.raises(
        UsageError, match=r"is not a folder of camera motion of `ig65m motion --output`: it has no motion\.json"
    ):
        MotionFolder(tmp_path)


def test_other_settings_and_other_folders_are_refused(folder, tmp_path):
    with pytest.raises(UsageError, match=r"holds camera motion of other settings \(sha256 is abab.* there, cdcd.* here\)"):
        MotionWriter(folder, {**SETTINGS, "sha256": "cd" * 32})
    with pytest.raises(UsageError, match=r"image_fps is 25\.0 there, 30\.0 here"):
        MotionWriter(folder, SETTINGS, image_fps=30.0)
    with pytest.raises(UsageError, match="is not empty, and not a folder of camera motion"):
        MotionWriter(tmp_path, SETTINGS)
    (folder / "motion.json").write_text((folder / "motion.json").read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UsageError, match=r"is damaged, or of another version \(unknown format 2\)"):
        MotionFolder(folder)


GOOD = video_values(motion())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("clips", 0, "start"), "0"),
        (("clips", 0, "start"), 1.5),
        (("clips", 0, "end"), float("nan")),
        (("clips", 1, "start"), -1.0),
        (("clips", 0, "pan"), None),
        (("clips", 0, "roll"), float("inf")),
        (("clips", 0, "zoom"), True),
        (("clips", 0, "sigma"), None),
        (("clips", 0, "sigma", "pan"), -0.1),
        (("clips", 0, "sigma", "tilt"), "wide"),
        (("clips", 0, "static"), 1.1),
        (("clips", 0, "shake"), -0.1),
        (("clips", 0, "label"), "dolly"),
        (("clips", 0, "label"), ["static"]),
        (("segments", 0, "end"), 1.5),
        (("segments", 0, "parallax"), 2),
        (("segments", 1, "moves"), {"move": "pan_right"}),
        (("segments", 1, "moves", 0), "pan_right"),
        (("segments", 1, "moves", 0, "move"), "static"),
        (("segments", 1, "moves", 0, "move"), "zoom_out"),
        (("segments", 1, "moves", 0, "speed"), -0.1),
        (("segments", 1, "moves", 0, "sigma"), -0.1),
        (("clips",), None),
        (("segments",), {}),
        (("clips", 0), None),
        (("status",), "failed"),
        (("status",), "good"),
        (("path",), ""),
        (("error",), {"stage": "decode"}),
        (("settings",), {"network": "motion_field"}),
        (("settings",), None),
        (("content",), "abc"),
    ],
)
def test_a_damaged_record_is_named(place, value, folder, writer, video):
    record = json.loads(record_in(folder).read_text())
    part = record
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    record_in(folder).write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"holiday-[0-9a-f]{12}\.json is damaged \(.*; remove it and run `ig65m motion` again"):
        MotionFolder(folder).read(video)
    assert writer.done(Segment(str(video)), content_digest(video)) is None


def test_a_failed_record_has_no_clips(folder, video):
    record = json.loads(record_in(folder).read_text())
    error = {"stage": "decode", "message": "none", "last_good_time": None}
    record_in(folder).write_text(json.dumps({**record, "status": "failed", "error": error}))
    with pytest.raises(UsageError, match="status 'failed', but there are segments or clips"):
        MotionFolder(folder).read(video)


def test_every_move_and_label_can_be_read(writer, video):
    moves = [("pan_left", 0.1), ("tilt_down", 0.1), ("zoom_out", 0.1), ("roll_counterclockwise", 5.0)]
    part, content = Segment(str(video)), content_digest(video)
    for label in ("static", "pan_right", "tilt_up", "zoom_in", "roll_clockwise", *(name for name, _ in moves)):
        made = replace(motion(str(video)), segments=(segment(0, 1, *moves),), clips=(clip(label=label, shake=1.0),))
        writer.write(part, content, made)
        assert writer.done(part, content) == made


def test_numbers_that_json_does_not_have_are_not_written(writer, video):
    with pytest.raises(ValueError, match="not JSON compliant"):
        writer.write(Segment(str(video)), None, replace(motion(), clips=(clip(pan=float("nan")),)))
    assert not writer.file(Segment(str(video)), ".json").exists()
