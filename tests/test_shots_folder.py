"""The folder of `ig65m shots --output`: what is written, found again, and refused."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ig65m.errors import UsageError, VideoError
from ig65m.shots.edl import edit_list
from ig65m.shots.folder import ShotFolder, ShotWriter, read_settings
from ig65m.shots.scene_list import scene_list
from ig65m.store.digest import content_digest
from ig65m.types import Failure, Segment
from tests.shot_lists import SETTINGS, at_rate, shots_at
from tests.videos import constant, encode_numbers


@pytest.fixture
def video(tmp_path):
    return encode_numbers(tmp_path / "holiday.mp4", constant(60))


@pytest.fixture
def found(video):
    return shots_at(at_rate(25), path=str(video))


@pytest.fixture
def folder(tmp_path, video, found):
    """A folder with the shots of the video."""
    writer = ShotWriter(tmp_path / "shots", SETTINGS)
    writer.write(Segment(str(video)), content_digest(video), found)
    return tmp_path / "shots"


def record_in(folder):
    (file,) = (file for file in folder.glob("*.json") if file.name != "shots.json")
    return file


def test_a_folder_gives_back_the_shots(folder, video, found):
    assert read_settings(folder) == SETTINGS
    assert ShotFolder(folder).read(video) == found
    assert ShotFolder(folder).read(Segment(str(video), start=1.0)) == found
    record = json.loads(record_in(folder).read_text())
    assert list(record) == ["path", "content", "status", "error", "settings", "frames", "shots"]
    assert record["path"] == str(video)
    assert record["shots"][1] == {
        **{"start": 0.4, "end": 1.2, "first_frame": 10, "last_frame": 29, "transition": "gradual", "score": 0.75}
    }
    assert record_in(folder).with_suffix(".csv").read_text() == scene_list(found)
    assert record_in(folder).with_suffix(".edl").read_text() == edit_list(found)


def test_a_video_is_found_by_another_path(folder, video, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ShotFolder("shots").read("./holiday.mp4") == replace(found, path="./holiday.mp4")
    copy = shutil.copy(video, tmp_path / "copy.mp4")
    assert ShotFolder(folder).read(copy) == replace(found, path=str(copy))


def test_a_video_without_its_shots_is_an_error_that_says_what_to_run(folder, video, tmp_path):
    other = encode_numbers(tmp_path / "other.mp4", constant(10))
    with pytest.raises(
        UsageError, match=r"other\.mp4: .*shots has no shots of it; run `ig65m shots .*other\.mp4 --output .*shots`"
    ):
        ShotFolder(folder).read(other)
    shutil.copy(other, video)
    with pytest.raises(UsageError, match="it has changed since its shots were found; run `ig65m shots"):
        ShotFolder(folder).read(video)
    with pytest.raises(VideoError, match=r"missing\.mp4: No such file"):
        ShotFolder(folder).read(tmp_path / "missing.mp4")
    with pytest.raises(UsageError, match=r"is not a folder of shots .* it has no shots\.json"):
        read_settings(tmp_path)
    with pytest.raises(UsageError, match=r"is not a folder of shots"):
        read_settings(other)


def test_a_failed_video_has_a_record_only(folder, video, found):
    failed = replace(found, status="failed", shots=(), error=Failure("decode", "holiday.mp4: no frames"))
    writer = ShotWriter(folder, SETTINGS)
    writer.write(Segment(str(video)), content_digest(video), failed)
    assert sorted(file.suffix for file in folder.iterdir()) == [".json", ".json"]
    assert writer.done(Segment(str(video)), content_digest(video)) is None
    with pytest.raises(VideoError, match=r"finding its shots failed .*no frames"):
        ShotFolder(folder).read(video)


def test_a_partial_video_keeps_its_error(folder, video, found):
    gaps = ((0.1, 0.2), (1.0, 1.5))
    partial = replace(found, status="partial", error=Failure("decode", "holiday.mp4: damaged\udcff", 2.4, gaps))
    writer = ShotWriter(folder, SETTINGS)
    writer.write(Segment(str(video)), content_digest(video), partial)
    assert ShotFolder(folder).read(video) == partial
    assert writer.done(Segment(str(video)), content_digest(video)) is None


def test_other_settings_are_refused(folder):
    with pytest.raises(UsageError, match=r"holds shots of other settings \(threshold is 0\.5 there, 0\.4 here\)"):
        ShotWriter(folder, {**SETTINGS, "threshold": 0.4})
    with pytest.raises(UsageError, match=r"image_fps is 25\.0 there, 30\.0 here"):
        ShotWriter(folder, SETTINGS, image_fps=30.0)
    ShotWriter(folder, SETTINGS)


def test_a_record_of_other_settings_than_its_folder_is_refused(folder, video):
    text = (folder / "shots.json").read_text()
    (folder / "shots.json").write_text(text.replace("0.5", "0.4"))
    with pytest.raises(UsageError, match=r"other settings than .* \(threshold is 0\.5 there, 0\.4 here\)"):
        ShotFolder(folder).read(video)


def test_a_folder_of_anything_else_is_left_alone(tmp_path):
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(UsageError, match="is not empty, and not a folder of shots"):
        ShotWriter(tmp_path, SETTINGS)
    assert [file.name for file in tmp_path.iterdir()] == ["settings.json"]


def test_a_video_is_done_only_once_all_its_files_are_there(folder, video, found, monkeypatch):
    part, content = Segment(str(video)), content_digest(video)
    writer = ShotWriter(folder, SETTINGS)
    assert writer.done(part, content) == found
    assert writer.done(part, "0" * 64) is None
    assert writer.done(part, None) is None
    for suffix in (".csv", ".edl", ".json"):
        writer.file(part, suffix).unlink()
        assert writer.done(part, content) is None
        writer.write(part, content, found)
        assert writer.done(part, content) == found
    record_in(folder).unlink()
    monkeypatch.setattr("ig65m.shots.record.record_text", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writer.write(part, content, found)
    assert not writer.file(part, ".json").exists()


GOOD = {"start": 0.4, "end": 1.2, "first_frame": 10, "last_frame": 29, "transition": "cut", "score": 0.75}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("start", "0.4"),
        ("start", None),
        ("start", True),
        ("start", float("nan")),
        ("end", float("inf")),
        ("end", 10**400),
        ("end", 0.1),
        ("start", 0.2),
        ("first_frame", -1),
        ("first_frame", 10.0),
        ("first_frame", 5),
        ("last_frame", 9),
        ("last_frame", True),
        ("last_frame", 10**30),
        ("transition", "wipe"),
        ("transition", ["cut"]),
        ("score", 1.5),
        ("score", "high"),
        ("score", float("nan")),
    ],
)
def test_a_damaged_shot_is_named_with_its_file(key, value, folder, video):
    record = json.loads(record_in(folder).read_text())
    record["shots"] = [record["shots"][0], {**GOOD, key: value}]
    record_in(folder).write_text(json.dumps(record))
    with pytest.raises(
        UsageError, match=r"holiday-[0-9a-f]{12}\.json is damaged \(.*\); remove it and run `ig65m shots` again"
    ):
        ShotFolder(folder).read(video)
    assert ShotWriter(folder, SETTINGS).done(Segment(str(video)), content_digest(video)) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path", ""),
        ("path", 3),
        ("status", "good"),
        ("status", "failed"),
        ("content", "abc"),
        ("content", 7),
        ("settings", {}),
        ("settings", {**SETTINGS, "threshold": 2}),
        ("settings", {**SETTINGS, "sha256": "AB" * 32}),
        ("settings", None),
        ("shots", None),
        ("shots", {"a": 1}),
        ("shots", [[]]),
        ("shots", [None]),
        ("shots", "shots"),
        ("error", "broken"),
        ("error", {"stage": "decode"}),
    ],
)
def test_a_damaged_record_is_named(key, value, folder, video):
    record = json.loads(record_in(folder).read_text())
    record_in(folder).write_text(json.dumps({**record, key: value}))
    with pytest.raises(UsageError, match=r"\.json is damaged \("):
        ShotFolder(folder).read(video)


@pytest.mark.parametrize("error", [{"gaps": [[1]]}, {"gaps": 1}, {"last_good_time": "x"}, {"message": None}, {"stage": 1}])
def test_a_damaged_error_is_named(error, folder, video):
    record = json.loads(record_in(folder).read_text())
    good = {"stage": "decode", "message": "damaged", "last_good_time": 1.0}
    record_in(folder).write_text(json.dumps({**record, "status": "partial", "error": good}))
    assert ShotFolder(folder).read(video).status == "partial"
    record_in(folder).write_text(json.dumps({**record, "status": "partial", "error": {**good, **error}}))
    with pytest.raises(UsageError, match=r"\.json is damaged \("):
        ShotFolder(folder).read(video)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"path": 1e999}', b"7" * 5000])
@pytest.mark.parametrize("which", ["record", "settings"])
def test_anything_but_json_of_shots_is_refused(which, data, folder, video):
    (record_in(folder) if which == "record" else folder / "shots.json").write_bytes(data)
    with pytest.raises(UsageError, match="is damaged"):
        ShotFolder(folder).read(video)


def test_only_files_of_a_sane_size_are_read(folder, video, tmp_path):
    file = record_in(folder)
    with file.open("r+b") as record:
        record.truncate(1 << 40)  # sparse
    with pytest.raises(UsageError, match="is not a file of at most 268,435,456 bytes"):
        ShotFolder(folder).read(video)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UsageError, match="is not a file of at most"):
        ShotFolder(folder).read(video)
    file.unlink()
    file.mkdir()
    with pytest.raises(UsageError, match="is not a file of at most"):
        ShotFolder(folder).read(video)


def test_other_records_that_are_damaged_do_not_hide_a_video(folder, video, found, tmp_path):
    (folder / "a-0.json").write_text("{")
    copy = shutil.copy(video, tmp_path / "copy.mp4")
    assert ShotFolder(folder).read(copy).shots == found.shots


def test_a_folder_of_an_unknown_format_is_refused(folder):
    settings = json.loads((folder / "shots.json").read_text())
    (folder / "shots.json").write_text(json.dumps({**settings, "format": 2}))
    with pytest.raises(UsageError, match=r"unknown format 2"):
        read_settings(folder)


def test_two_processes_agree_on_the_settings_of_a_new_folder(tmp_path):
    def create(threshold):
        barrier.wait()
        try:
            return ShotWriter(folder, {**SETTINGS, "threshold": threshold}).settings["threshold"]
        except UsageError:
            return None

    for turn in range(20):
        folder, barrier = tmp_path / str(turn), threading.Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            accepted = list(pool.map(create, [0.3, 0.6]))
        assert sum(threshold is not None for threshold in accepted) == 1
        assert read_settings(folder)["threshold"] in accepted
