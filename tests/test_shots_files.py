"""Files of shots: EDL, PySceneDetect's CSV, and the folder of `ig65m shots --output`, read by other programs."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import opentimelineio
import pytest
from scenedetect import FrameTimecode
from scenedetect.output import write_scene_list

from ig65m.errors import UsageError, VideoError
from ig65m.shots.edl import edit_list, timecode_rate
from ig65m.shots.folder import ShotFolder, ShotWriter, read_settings, read_shots
from ig65m.shots.record import Record
from ig65m.shots.scene_list import scene_list
from ig65m.store.digest import content_digest
from ig65m.types import Failure, Segment, Shot, ShotList
from tests.videos import constant, encode_numbers, number_in

SCENEDETECT = Path(sys.executable).parent / "scenedetect"
SETTINGS = {"network": "transnetv2", "sha256": "ab" * 32, "threshold": 0.5}
PARTS = [(0, 9), (10, 29), (33, 34), (35, 35), (36, 59)]  # first and last frames; 30 to 32 are within a transition
VARIABLE = [0]  # milliseconds
for number in range(1, 60):
    VARIABLE.append(VARIABLE[-1] + (120 if number % 3 == 1 else 40))


def shots_at(times, parts=PARTS, path="/videos/holiday.mp4"):
    """Shots of frames at these times in seconds; the last time is the end of the last frame."""
    transitions = ["gradual" if after[0] - before[1] > 1 else "cut" for before, after in pairwise(parts)]
    shots = [
        Shot(times[first], times[last + 1], first, last, transition, None if transition == "end" else 0.75)
        for (first, last), transition in zip(parts, [*transitions, "end"], strict=True)
    ]
    return ShotList(path, "ok", tuple(shots), SETTINGS, frames=shots[-1].last_frame + 1 if shots else 0)


def at_rate(fps, count=60, start=0.0):
    return [start + number / fps for number in range(count + 1)]


def events(text, rate):
    """The clips of an EDL as OpenTimelineIO reads it: name, first and last frame in the source, and in the record."""
    (track,) = opentimelineio.adapters.read_from_string(text, "cmx_3600", rate=rate).tracks
    for clip in track.find_clips():
        source = clip.source_range
        record = clip.trimmed_range_in_parent()
        begin = 0 if track.source_range is None else -track.source_range.start_time.value
        yield (
            clip.name,
            (source.start_time.value, source.end_time_inclusive().value),
            (record.start_time.value + begin, record.end_time_inclusive().value + begin),
        )


@pytest.mark.parametrize(("fps", "rate"), [(25, 25), (24000 / 1001, 24), (30000 / 1001, 30), (60000 / 1001, 60), (50, 50)])
@pytest.mark.parametrize("start", [0, 10.01, -0.5])
def test_an_edl_has_the_frames_of_each_shot(fps, rate, start):
    hours = round(3600 * fps)
    parts = [*PARTS, (hours, 2 * hours - 1)]
    text = edit_list(shots_at(at_rate(fps, 2 * hours, start), parts))
    assert [(name, source) for name, source, _ in events(text, rate)] == [("holiday.mp4", part) for part in parts]


def test_the_record_of_an_edl_is_in_step_with_the_source():
    text = edit_list(shots_at(at_rate(25)))
    assert text.startswith("TITLE: holiday\nFCM: NON-DROP FRAME\n001  AX       V     C        00:00:00:00 00:00:00:10 ")
    assert all(source == record for _, source, record in events(text, 25))
    (track,) = opentimelineio.adapters.read_from_string(text, "cmx_3600", rate=25).tracks
    assert [each.duration().value for each in track if isinstance(each, opentimelineio.schema.Gap)] == [3]


@pytest.mark.parametrize("start", [0, 36_000_000])
def test_an_edl_is_right_at_a_variable_rate(start):
    times = [(start + time) / 1000 for time in [*VARIABLE, VARIABLE[-1] + 40]]
    shots = shots_at(times)
    assert timecode_rate(shots.fps)[0] == 30
    for shot, (_, (first, last), _) in zip(shots.shots, events(edit_list(shots), 30), strict=True):
        assert abs(first / 30 - (shot.start - times[0])) <= 0.5 / 30 + 1e-6
        assert abs((last + 1) / 30 - (shot.end - times[0])) <= 0.5 / 30 + 1e-6


def test_shots_shorter_than_a_frame_of_timecode_get_one():
    times = [0.0, 1.0, 1.001, 1.002, 1.003, 3.0]
    parts = [(0, 0), (1, 1), (2, 2), (3, 4)]
    sources = [source for _, source, _ in events(edit_list(shots_at(times, parts)), 24)]
    assert sources == [(0, 23), (24, 24), (25, 25), (26, 71)]


@pytest.mark.parametrize(
    ("fps", "rate", "frames"),
    [
        (25, 25, 25),
        (23.976, 24, 24 / 1.001),
        (29.97, 30, 30 / 1.001),
        (14.985, 30, 30 / 1.001),
        (119.88, 60, 60 / 1.001),
        (15, 30, 30),
        (12.5, 25, 25),
        (10, 30, 30),
        (100, 50, 50),
        (24.7, 25, 25),
        (22, 24, 24),
        (1000, 50, 50),
        (0, 24, 24),
    ],
)
def test_rates_of_timecodes(fps, rate, frames):
    assert timecode_rate(fps) == (rate, pytest.approx(frames))


@pytest.mark.parametrize(
    "name", ["a\nTITLE: b.mp4", "b\udcff\u2028.mkv", "x" * 250 + ".mp4", "* FROM CLIP NAME: c", "ü: [1-2].mp4"]
)
def test_names_cannot_break_an_edl(name):
    text = edit_list(replace(shots_at(at_rate(25)), path=f"/videos/{name}"))
    text.encode()
    assert len(text.splitlines()) == 2 + 2 * len(PARTS)
    assert max(map(len, text.splitlines()[:2])) <= 70
    assert [source for _, source, _ in events(text, 25)] == PARTS


@pytest.mark.parametrize("start", [0, 3700])
def test_the_scene_list_is_the_one_that_pyscenedetect_writes(start):
    shots = shots_at(at_rate(25, start=start))
    scenes = [(FrameTimecode(first, 25.0), FrameTimecode(last + 1, 25.0)) for first, last in PARTS]
    theirs = io.StringIO()
    write_scene_list(theirs, scenes, cut_list=[start.get_timecode() for start, _ in scenes[1:]])
    assert scene_list(shots) == theirs.getvalue()


def test_a_video_that_begins_within_a_transition_keeps_its_frame_numbers():
    shots = shots_at(at_rate(25, start=7.0), [(5, 9), (10, 59)])
    assert scene_list(shots).splitlines()[2].startswith("1,6,00:00:00.200,0.200,10,00:00:00.400,")
    assert next(events(edit_list(shots), 25))[1] == (5, 9)


def test_a_video_without_shots_has_empty_lists():
    none = ShotList("a.mp4", "failed", (), SETTINGS, Failure("decode", "no frames"))
    assert edit_list(none) == "TITLE: a\nFCM: NON-DROP FRAME\n"
    assert scene_list(none).splitlines()[0] == "Timecode List:"
    assert len(scene_list(none).splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "times", "column"),
    [
        ("constant.mp4", constant(60), "Start Frame"),
        ("late.mkv", constant(60, first=10_000), "Start Frame"),
        ("late.mp4", constant(60, first=10_000), "Start Timecode"),
        ("variable.mkv", VARIABLE, "Start Timecode"),
        ("late variable.mkv", [7000 + time for time in VARIABLE], "Start Timecode"),
    ],
)
def test_pyscenedetect_cuts_a_video_at_the_scenes(name, times, column, tmp_path):
    """Each scene's file begins with its first frame; PySceneDetect reads starts only, so that a scene reaches to the next."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    video = encode_numbers(tmp_path / name, times)
    shots = shots_at([time / 1000 for time in [*times, times[-1] + 40]])
    (tmp_path / "scenes.csv").write_text(scene_list(shots))
    command = [SCENEDETECT, "-i", video, "load-scenes", "-i", "scenes.csv", "-c", column, "split-video", "-o", "parts"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    firsts = [first for first, _ in PARTS]
    for part, first, following in zip(sorted((tmp_path / "parts").iterdir()), firsts, [*firsts[1:], 60], strict=True):
        with av.open(str(part)) as file:
            numbers = [number_in(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
        assert sorted(set(numbers)) == list(range(first, following))


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
    assert read_shots(folder, video) == found
    assert read_shots(folder, Segment(str(video), start=1.0)) == found
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
    assert read_shots("shots", "./holiday.mp4") == replace(found, path="./holiday.mp4")
    copy = shutil.copy(video, tmp_path / "copy.mp4")
    assert read_shots(folder, copy) == replace(found, path=str(copy))


def test_a_video_without_its_shots_is_an_error_that_says_what_to_run(folder, video, tmp_path):
    other = encode_numbers(tmp_path / "other.mp4", constant(10))
    with pytest.raises(
        UsageError, match=r"other\.mp4: .*shots has no shots of it; run `ig65m shots .*other\.mp4 --output .*shots`"
    ):
        read_shots(folder, other)
    shutil.copy(other, video)
    with pytest.raises(UsageError, match="it has changed since its shots were found; run `ig65m shots"):
        read_shots(folder, video)
    with pytest.raises(VideoError, match=r"missing\.mp4: No such file"):
        read_shots(folder, tmp_path / "missing.mp4")
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
        read_shots(folder, video)


def test_a_partial_video_keeps_its_error(folder, video, found):
    gaps = ((0.1, 0.2), (1.0, 1.5))
    partial = replace(found, status="partial", error=Failure("decode", "holiday.mp4: damaged\udcff", 2.4, gaps))
    writer = ShotWriter(folder, SETTINGS)
    writer.write(Segment(str(video)), content_digest(video), partial)
    assert read_shots(folder, video) == partial
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
        read_shots(folder, video)


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
    monkeypatch.setattr(Record, "to_json", lambda _: 1 / 0)
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
        read_shots(folder, video)
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
        read_shots(folder, video)


@pytest.mark.parametrize("error", [{"gaps": [[1]]}, {"gaps": 1}, {"last_good_time": "x"}, {"message": None}, {"stage": 1}])
def test_a_damaged_error_is_named(error, folder, video):
    record = json.loads(record_in(folder).read_text())
    good = {"stage": "decode", "message": "damaged", "last_good_time": 1.0}
    record_in(folder).write_text(json.dumps({**record, "status": "partial", "error": good}))
    assert read_shots(folder, video).status == "partial"
    record_in(folder).write_text(json.dumps({**record, "status": "partial", "error": {**good, **error}}))
    with pytest.raises(UsageError, match=r"\.json is damaged \("):
        read_shots(folder, video)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"path": 1e999}', b"7" * 5000])
@pytest.mark.parametrize("which", ["record", "settings"])
def test_anything_but_json_of_shots_is_refused(which, data, folder, video):
    (record_in(folder) if which == "record" else folder / "shots.json").write_bytes(data)
    with pytest.raises(UsageError, match="is damaged"):
        read_shots(folder, video)


def test_only_files_of_a_sane_size_are_read(folder, video, tmp_path):
    file = record_in(folder)
    with file.open("r+b") as record:
        record.truncate(1 << 40)  # sparse
    with pytest.raises(UsageError, match="is not a file of at most 268,435,456 bytes"):
        read_shots(folder, video)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UsageError, match="is not a file of at most"):
        read_shots(folder, video)
    file.unlink()
    file.mkdir()
    with pytest.raises(UsageError, match="is not a file of at most"):
        read_shots(folder, video)


def test_other_records_that_are_damaged_do_not_hide_a_video(folder, video, found, tmp_path):
    (folder / "a-0.json").write_text("{")
    copy = shutil.copy(video, tmp_path / "copy.mp4")
    assert ShotFolder(folder).read(copy).shots == found.shots


def test_a_folder_of_an_unknown_format_is_refused(folder):
    settings = json.loads((folder / "shots.json").read_text())
    (folder / "shots.json").write_text(json.dumps({**settings, "format": 2}))
    with pytest.raises(UsageError, match=r"unknown format 2"):
        read_settings(folder)


@pytest.mark.parametrize("doubled", [0, 1, 5, 8])
def test_a_few_long_frames_leave_29_97_what_it_is(doubled):
    """Ten minutes at 29.97 frames a second: timecodes count frames, 30 to a second."""
    frame = 1001 / 30000
    end = (17_982 + doubled) * frame
    shots = (Shot(0.0, end / 2, 0, 8_990, "cut", 0.9), Shot(end / 2, end, 8_991, 17_981, "end", None))
    last = edit_list(ShotList("a.mp4", "ok", shots, SETTINGS, frames=17_982)).splitlines()[-2].split()[-1]
    assert last == f"00:09:59:{12 + doubled}"


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
