"""The formats of lists of shots, EDL and PySceneDetect's CSV, as other programs read them."""

import io
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import opentimelineio
import pytest
from scenedetect import FrameTimecode
from scenedetect.output import write_scene_list

from ig65m.shots.edl import edit_list, timecode_rate
from ig65m.shots.scene_list import scene_list
from ig65m.types import Failure, Shot, ShotList
from tests.shot_lists import PARTS, SETTINGS, VARIABLE, at_rate, shots_at
from tests.videos import constant, encode_numbers, number_in

SCENEDETECT = Path(sys.executable).parent / "scenedetect"


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
        pytest.skip("needs ffmpeg (Debian package ffmpeg)")
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


@pytest.mark.parametrize("doubled", [0, 1, 5, 8])
def test_a_few_long_frames_leave_29_97_what_it_is(doubled):
    """Ten minutes at 29.97 frames a second: timecodes count frames, 30 to a second."""
    frame = 1001 / 30000
    end = (17_982 + doubled) * frame
    shots = (Shot(0.0, end / 2, 0, 8_990, "cut", 0.9), Shot(end / 2, end, 8_991, 17_981, "end", None))
    last = edit_list(ShotList("a.mp4", "ok", shots, SETTINGS, frames=17_982)).splitlines()[-2].split()[-1]
    assert last == f"00:09:59:{12 + doubled}"
