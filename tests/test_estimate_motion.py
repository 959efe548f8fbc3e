"""Camera motion of videos, made by OpenCV and filmed: speeds, labels, engines, and what happens to odd videos."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import ig65m
from tests.videos import constant, encode, encode_numbers

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "bench"))

from known_motion import NAMES, PAIRS, draw, make  # noqa: E402
from synthetic_motion import footage_file, photograph  # noqa: E402

DEMO = Path(ig65m.__file__).parent / "demo"
BIKES_CUTS = (30, 76, 137, 187, 242)  # frames of bikes.mp4 (25 a second) at which a new shot starts
SIGNS = {
    ("pan", 1): "pan_right",
    ("pan", -1): "pan_left",
    ("tilt", 1): "tilt_up",
    ("tilt", -1): "tilt_down",
    ("zoom", 1): "zoom_in",
    ("zoom", -1): "zoom_out",
    ("roll", 1): "roll_clockwise",
    ("roll", -1): "roll_counterclockwise",
}


def films(names, count, low, high, seed):
    """Films of single moves or pairs, without objects, none of them so fast that it leaves the picture soon."""
    for index in range(count):
        film = draw(np.random.default_rng([seed, index]), names[index % len(names)], low, high)
        yield replace(film, intruder=False, frames=24)


def estimated(films, folder):
    """Yield each film with the clips of it that are complete."""
    made = []
    for index, film in enumerate(films):
        make(film, folder / f"{index}.mp4")
        made.append((film, folder / f"{index}.mp4"))
    for (film, _), motion in zip(made, ig65m.estimate_motion_many(path for _, path in made), strict=True):
        assert motion.status == "ok"
        yield film, motion, [clip for clip in motion.clips if clip.end - clip.start > 14.5 / float(film.fps)]


@pytest.mark.slow
def test_single_moves_are_named_and_measured(tmp_path):
    right, errors, sure = [], [], []
    for film, _, clips in estimated(films([(name,) for name in NAMES], 32, 0.4, 3, seed=11), tmp_path):
        ((name, speed),) = film.speeds.items()
        for clip in clips:
            right.append(clip.label == SIGNS[name, int(np.sign(speed))])
            errors.append(abs(getattr(clip.speeds, name) / film.rate(name) - 1))
            sure += [abs(getattr(clip.speeds, each) - film.rate(each)) < 2 * getattr(clip.sigma, each) for each in NAMES]
    assert len(right) >= 60
    assert np.mean(right) >= 0.95
    assert np.median(errors) <= 0.05
    assert np.mean(sure) >= 0.8


@pytest.mark.slow
def test_both_moves_of_a_pair_are_found(tmp_path):
    both = []
    for film, motion, _ in estimated(films(PAIRS, 18, 0.7, 2, seed=12), tmp_path):
        found = {move.move for segment in motion.segments for move in segment.moves}
        both.append({SIGNS[name, int(np.sign(speed))] for name, speed in film.speeds.items()} <= found)
    assert np.mean(both) >= 0.9


@pytest.mark.slow
def test_the_demonstration_clip_comes_out_right():
    """Each of nine parts of it shows one of the nine labels."""
    parts = json.loads((DEMO / "clip.json").read_text("utf-8"))
    motion = ig65m.estimate_motion(DEMO / "clip.mp4")
    inside = [
        (clip.label, part["label"])
        for clip in motion.clips
        for part in parts
        if part["start"] <= clip.start + 1e-6 and clip.end <= part["end"] + 1e-6
    ]
    assert {part for _, part in inside} == {part["label"] for part in parts}
    assert np.mean([label == part for label, part in inside]) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "pytorch"])
def test_engines_agree(engine):
    ours, others = (ig65m.estimate_motion(DEMO / "clip.mp4", engine=each, in_process=True) for each in ("openvino", engine))
    assert len(ours.clips) == len(others.clips) > 10
    for clip, same in zip(ours.clips, others.clips, strict=True):
        for name in NAMES:
            scale = 1e-3 if name != "roll" else 0.1
            assert getattr(clip.speeds, name) == pytest.approx(getattr(same.speeds, name), abs=scale)
        assert clip.static == pytest.approx(same.static, abs=0.05)
        assert clip.label == same.label


@pytest.mark.slow
def test_a_cut_is_seen_and_ends_a_segment():
    """bikes.mp4 has five cuts; TransNetV2 and a person agree on them."""
    motion = ig65m.estimate_motion(footage_file("bikes"))
    ends = [segment.end for segment in motion.segments[:-1]]
    for cut in BIKES_CUTS:
        assert min(abs(end - cut / 25) for end in ends) < 0.1
        assert any(clip.cut > 0.5 for clip in motion.clips if clip.start < cut / 25 - 0.08 and cut / 25 + 0.08 < clip.end)


@pytest.mark.slow
@pytest.mark.parametrize("speed", [0.004, 0.02])
def test_a_camera_that_starts_stops_and_turns_around_does_not_shake(speed):
    picture = cv2.resize(photograph("astronaut.png"), (1280, 1280))
    places = np.cumsum([0] * 20 + [1] * 26 + [0] * 22 + [-1] * 25 + [1] * 25) * speed * 640
    shifts = [np.array([[1, 0, -250 - place], [0, 1, -400]], dtype=np.float32) for place in places]
    frames = [cv2.warpAffine(picture, shift, (640, 360), borderMode=cv2.BORDER_REFLECT_101) for shift in shifts]
    motion = ig65m.estimate_motion(ig65m.Frames(np.stack(frames), fps=25))
    assert len(motion.clips) == 14
    assert np.mean([clip.shake > 0.5 for clip in motion.clips]) <= 0.1
    found = [move.move for segment in motion.segments for move in segment.moves]
    assert [name for name, before in zip(found, [None, *found], strict=False) if name != before] == [
        "pan_right",
        "pan_left",
        "pan_right",
    ]


def grey(count):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (9, 16, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    return [picture] * count


@pytest.mark.parametrize("count", [1, 2, 3, 15, 40])
def test_videos_of_any_length_have_clips_from_start_to_end(tmp_path, count):
    video = encode(tmp_path / "video.mp4", grey(count), constant(count))
    motion = ig65m.estimate_motion(video)
    assert motion.status == "ok"
    assert (motion.clips[0].start, motion.segments[0].start) == (0, 0)
    assert motion.segments[-1].end == motion.clips[-1].end
    assert motion.clips[-1].end == pytest.approx(count / 25, abs=0.041)
    for clip in motion.clips:
        assert all(np.isfinite([getattr(clip.speeds, name), getattr(clip.sigma, name)]).all() for name in NAMES)
        assert all(0 <= getattr(clip, name) <= 1 for name in ("static", "shake", "cut", "parallax"))
    assert {clip.label for clip in motion.clips} == {"static"}


def test_frames_in_memory_and_a_part_of_a_video(tmp_path):
    pictures = grey(50)
    video = encode(tmp_path / "video.mp4", pictures, constant(50))
    whole = ig65m.estimate_motion(ig65m.Frames(np.stack(pictures), fps=25))
    assert whole.clips[-1].end == pytest.approx(2.0, abs=0.041)
    part = ig65m.estimate_motion(ig65m.Segment(str(video), start=1.0, end=1.6))
    assert part.clips[0].start == pytest.approx(1.0)
    assert part.clips[-1].end <= 1.6 + 1e-6


def test_a_video_that_breaks_off_is_partial_and_one_that_is_missing_fails(tmp_path):
    video = encode_numbers(tmp_path / "video.mkv", constant(60), size=(160, 96))
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(video.read_bytes()[: int(video.stat().st_size * 0.6)])
    ok, partial, failed = ig65m.estimate_motion_many([video, broken, tmp_path / "missing.mp4"])
    assert (ok.status, failed.status) == ("ok", "failed")
    assert (partial.status, failed.clips, failed.segments) == ("partial", (), ())
    assert partial.error is not None
    assert 0 < len(partial.clips) <= len(ok.clips)
    with pytest.raises(ig65m.VideoError, match=r"missing\.mp4"):
        ig65m.estimate_motion(tmp_path / "missing.mp4")
    with pytest.raises(ig65m.UsageError):
        ig65m.estimate_motion(3)


def test_progress_and_the_engine_are_told(tmp_path):
    video = encode(tmp_path / "video.mp4", grey(40), constant(40))
    said, times = [], []
    list(ig65m.estimate_motion_many([video], on_engine=said.append, on_frame=lambda _, time: times.append(time)))
    assert len(said) == 1
    assert said[0].endswith("fp32, cpu")
    assert times == sorted(times)
    assert len(times) >= 2
