"""Clips with gaps between them: parts of a video are decoded, and nothing may differ from decoding all of it."""

import json
import math
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import ig65m
from ig65m.errors import UsageError, VideoError
from ig65m.store.features import describe
from ig65m.types import Clip, Limits, Preprocessing, Segment
from ig65m.video.clips import clips_from, read_clips
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.frame_index import FrameIndex, read_index
from ig65m.video.isolation import Decoder
from ig65m.video.jobs import CLIP, CLIP_HEAD
from ig65m.video.reader import read_frames
from ig65m.video.sample import SeekError
from ig65m.video.sample_reader import read_samples
from ig65m.video.sampling import Sampling
from ig65m.video.seeking import seek_clips
from tests import videos
from tests.test_broken_videos import KINDS
from tests.test_odd_videos import AV1, ODD, VP9, even
from tests.test_reader import SEEKABLE

pytestmark = pytest.mark.slow

SMALL = Preprocessing(resize=(32, 48), crop=(24, 40), mean=(0, 0, 0), std=(1, 1, 1), crops=2)
COUNT = 90
GROUPS = {"g": "12", "sc_threshold": "0"}
HIDDEN: dict[str, Any] = {"deadline": "good", "cpu-used": "5", "b": "1M", "auto-alt-ref": "1", "lag-in-frames": "16"}
VIDEOS: dict[str, tuple[str, dict[str, Any]]] = {
    **ODD,
    **KINDS,
    **SEEKABLE,
    "vp9-alt-ref-mkv": ("mkv", {**VP9, "options": {**HIDDEN, "g": "40"}}),
    "av1-mkv": ("mkv", {**AV1, "options": {**AV1["options"], "g": "30"}}),
    "av1-mp4": ("mp4", {**AV1, "options": {**AV1["options"], "g": "30"}}),
}
EXACT = {"mp4", "mov", "3gp", "mkv", "webm"}
UNSUPPORTED = {"libvpx", "mpeg2video", "png", "qtrle"}
CHOICES: list[tuple[Sampling, int | None]] = [
    (Sampling(frames=1, starts=(0, 7, 31, 88)), None),
    (Sampling(frames=4, frame_step=3, starts=(24, 25, 77)), None),
    (Sampling(frames=1, starts=(89,)), None),
    (Sampling(frames=2, starts=(3, 80, 200)), None),
    (Sampling(frames=3, frame_step=2, stride=60), None),
    (Sampling(frames=4, stride=70, tail="drop"), None),
    (Sampling(frames=4, stride=70, fps=10.0), None),
    (Sampling(frames=2, stride=55, start=0.5, end=3.3), None),
    (Sampling(frames=8), 5),
    (Sampling(frames=8, fps=50.0, start=1.0), 2),
    (Sampling(frames=100), 4),
]


def made(folder: Path, kind: str) -> Path:
    """With several key frames, where the codec has an option for it."""
    suffix, how = VIDEOS[kind]
    if how.get("codec", "libx264") in ("libx264", "libx264rgb", "libvpx-vp9", "ffv1", "mpeg4", "mpeg2video"):
        how = {**how, "options": {"g": "12", **how.get("options", {})}}
    return even(folder / f"video.{suffix}", how, COUNT)


def read(clips: Iterator[Clip]) -> tuple[list[Clip], tuple[Any, ...] | None]:
    """Return clips, and what the error after them says."""
    found: list[Clip] = []
    try:
        found.extend(clips)
    except UsageError as error:
        return found, (str(error), None, ())
    except VideoError as error:
        return found, (str(error), error.last_good_time, error.gaps)
    return found, None


def refuse(*_: Any, **__: Any) -> Generator[Clip, None, None]:
    raise SeekError("everything is decoded")
    yield


def decoded(path: Path, sampling: Sampling, clips: int | None) -> tuple[list[Clip], tuple[Any, ...] | None]:
    """What decoding everything gives."""
    return read(clips_from(read_samples, refuse, path, sampling, SMALL, clips=clips))


def assert_equal(found: list[Clip], expected: list[Clip]) -> None:
    for clip, good in zip_longest(found, expected):
        assert clip.span == good.span
        np.testing.assert_array_equal(clip.pixels, good.pixels)


def check(path: Path) -> bool:
    """Compare with decoding everything. Return whether seeking was exact each time."""
    exact: list[bool] = []
    for sampling, clips in CHOICES:
        expected, error = decoded(path, sampling, clips)
        found: list[Clip] = []
        try:
            found.extend(seek_clips(path, sampling, SMALL, clips=clips, limits=Limits()))
        except SeekError:
            exact.append(False)
            assert_equal(found, expected[: len(found)])
        else:
            exact.append(True)
            assert_equal(found, expected)
            assert error is None or "no complete clip" in error[0]
    for sampling, clips in (CHOICES[3], CHOICES[-3]):
        chosen, said = read(read_clips(path, sampling, SMALL, clips=clips, in_process=True))
        expected, error = decoded(path, sampling, clips)
        assert_equal(chosen, expected)
        assert said == error
    return all(exact)


@pytest.mark.parametrize("kind", VIDEOS)
def test_clips_equal_those_of_decoding_everything(kind: str, tmp_path: Path) -> None:
    path = made(tmp_path, kind)
    suffix, codec = VIDEOS[kind][0], VIDEOS[kind][1].get("codec", "libx264")
    is_exact = check(path)
    assert is_exact == (suffix in EXACT and codec not in UNSUPPORTED and "refresh" not in kind)
    try:
        index = read_index(path, Limits())
    except SeekError:
        assert not is_exact
    else:
        frames = list(read_frames(path))
        assert [(frame.time, frame.end) for frame in index] == [(frame.time, frame.end) for frame in frames]
        keys = [number for number, frame in enumerate(frames) if isinstance(frame, Frame) and frame.picture.key_frame]
        assert set(keys) <= set(index.keys)


def all_keys(number: int, packet: Any) -> Iterator[Any]:
    packet.is_keyframe = True
    yield packet


def more_keys(number: int, packet: Any) -> Iterator[Any]:
    packet.is_keyframe |= number % 5 == 0
    yield packet


def no_keys(number: int, packet: Any) -> Iterator[Any]:
    packet.is_keyframe = number == 0
    yield packet


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("change", [all_keys, more_keys, no_keys])
def test_key_frames_that_are_marked_wrongly(change: Any, suffix: str, tmp_path: Path) -> None:
    source = videos.encode_numbers(tmp_path / "source.mp4", videos.constant(COUNT), options={**GROUPS, "bf": "3"})
    path = tmp_path / f"lies.{suffix}"
    with av.open(str(source)) as whole, av.open(str(path), "w") as output:
        copy = output.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if packet.size:
                packet.stream = copy
                for each in change(number, packet):
                    output.mux(each)
    check(path)


@pytest.mark.skipif(not videos.HAVE_FFPROBE, reason="needs ffmpeg (Debian package ffmpeg)")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("edits.mp4", ["-c", "copy"]),
        ("edits.mkv", ["-c", "copy"]),
        ("negative.mkv", ["-c", "copy", "-avoid_negative_ts", "disabled"]),
        ("late.mp4", ["-c", "copy", "-output_ts_offset", "100000"]),
        ("twice.mkv", ["-c", "copy", "-bsf:v", "setts=ts='if(eq(N,30),TS-512,TS)'"]),
        ("fields.mkv", ["-c:v", "libx264", "-flags", "+ildct+ilme", "-x264-params", "tff=1:keyint=12"]),
        ("open.mp4", ["-c:v", "libx264", "-x264-params", "open-gop=1:keyint=10:bframes=3:b-adapt=0"]),
        ("hidden.webm", ["-c:v", "libvpx-vp9", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-g", "12", "-cpu-used", "5"]),
    ],
)
def test_what_ffmpeg_cuts_and_moves(name: str, options: list[str], tmp_path: Path) -> None:
    source = videos.encode_numbers(tmp_path / "source.mp4", videos.constant(COUNT + 25), options={**GROUPS, "bf": "3"})
    path = tmp_path / name
    subprocess.run(["ffmpeg", "-v", "error", "-ss", "1.0", "-i", source, *options, path], check=True)
    check(path)


@pytest.mark.parametrize("kind", ["h264-dash", "mkv", "vp9-mp4", "ffv1-gray16", "h264-open-mkv"])
def test_most_of_a_video_is_not_decoded(kind: str, tmp_path: Path) -> None:
    path = made(tmp_path, kind)
    seen: list[Frame | LostFrame] = []
    found = list(seek_clips(path, Sampling(frames=1, starts=(3, 75)), SMALL, limits=Limits(), on_frame=seen.append))
    assert len(found) == 2 * SMALL.crops
    assert len(seen) < 40


def test_a_worker_gives_the_same(tmp_path: Path) -> None:
    exact, inexact = made(tmp_path, "mkv"), made(tmp_path, "ts")
    with Decoder(Limits()) as decoder:
        for path in (exact, inexact):
            for sampling, clips in CHOICES:
                expected, error = decoded(path, sampling, clips)
                found, said = read(read_clips(path, sampling, SMALL, clips=clips, decoder=decoder))
                assert_equal(found, expected)
                assert said == error
        assert all(clip.sought for clip in read_clips(exact, Sampling(frames=8), SMALL, clips=3, decoder=decoder))
        assert not any(clip.sought for clip in read_clips(inexact, Sampling(frames=8), SMALL, clips=3, decoder=decoder))
        with pytest.raises(SeekError, match="the container mpegts has no exact index"):
            list(decoder.seek_clips(inexact, Sampling(frames=8), SMALL))
        with pytest.raises(SeekError, match="no such file"):
            list(decoder.seek_clips(tmp_path / "none.mp4", Sampling(frames=8), SMALL))
        segment = Segment(str(exact), starts=(0, 80))
        found = list(read_clips(segment, Sampling(frames=8), SMALL, decoder=decoder))
        assert_equal(found, list(read_clips(segment, Sampling(frames=8), SMALL, in_process=True)))
        assert all(clip.sought for clip in found)


def answer(start: float, end: float, size: int) -> tuple[bytes, float, float, bytes]:
    return CLIP, start, end, CLIP_HEAD.pack(0, 7, 0, 0, 64, 96) + bytes(size)


@pytest.mark.parametrize(("start", "end", "size"), [(1, 0, 0), (0, 1, -1), (math.nan, 1, 0), (0, math.inf, 0)])
def test_answers_of_a_worker_are_checked(start: float, end: float, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    good = 8 * SMALL.crop[0] * SMALL.crop[1] * 3
    monkeypatch.setattr(Decoder, "_answers", lambda *_: (answer(start, end, good + size) for _ in range(1)))
    with pytest.raises(VideoError, match="its decoder returned an invalid clip"):
        list(Decoder(Limits()).seek_clips("video.mp4", Sampling(frames=8), SMALL))


def without(index: FrameIndex, *numbers: int) -> FrameIndex:
    keys = [key - sum(number < key for number in numbers) for key in index.keys]
    return FrameIndex(np.delete(index.times, numbers), np.delete(index.pts, numbers), np.array(keys))


@pytest.mark.parametrize(("starts", "clips"), [((0, 38, 80), None), ((40,), None), ((89,), None), (None, 5), (None, 3)])
def test_an_index_that_is_wrong_is_found_out(
    starts: tuple[int, ...] | None, clips: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lacks frame 40: the video is decoded as a whole."""
    path = made(tmp_path, "mkv")
    wrong = without(read_index(path, Limits()), 40)
    monkeypatch.setattr("ig65m.video.seeking.read_index", lambda *_: wrong)
    sampling = Sampling(frames=8, starts=starts)
    expected, error = decoded(path, sampling, clips)
    found, said = read(read_clips(path, sampling, SMALL, clips=clips, in_process=True))
    assert_equal(found, expected)
    assert said == error


def test_an_index_that_is_found_wrong_too_late_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lacks the frames 40 and 76: the clip at frame 60 has been given with frame 61 in its place."""
    path = made(tmp_path, "mkv")
    wrong = without(read_index(path, Limits()), 40, 76)
    monkeypatch.setattr("ig65m.video.seeking.read_index", lambda *_: wrong)
    found, said = read(read_clips(path, Sampling(frames=4, starts=(0, 60, 74)), SMALL, in_process=True))
    assert [clip.span.first_frame for clip in found[::2]] == [0, 60]
    assert said is not None
    assert "its frames are not where its packets say" in said[0]


def test_damage_counts_where_it_is_read(tmp_path: Path) -> None:
    """The second of four groups is damaged: clips before and after it are found, and their video is whole for them."""
    path = videos.encode_numbers(tmp_path / "video.mp4", videos.constant(100), options={"g": "25", "sc_threshold": "0"})
    with av.open(str(path)) as container:
        bad = next(packet.pos for packet in container.demux(video=0) if packet.pts and packet.pts * packet.time_base == 1.0)
    data = bytearray(path.read_bytes())
    data[bad + 4 : bad + 200] = bytes([255]) * 196
    path.write_bytes(data)
    found, error = read(read_clips(path, Sampling(frames=1, starts=(0, 85)), SMALL, in_process=True))
    assert error is None
    assert [clip.span.first_frame for clip in found[::2]] == [0, 85]
    found, error = read(read_clips(path, Sampling(frames=1, starts=(0, 30, 90)), SMALL, in_process=True))
    assert error is not None
    [(start, end)] = error[2]
    assert start <= 1.2 < end
    assert [clip.span.first_frame for clip in found[::2]] == [0, 90]


@pytest.mark.parametrize("in_process", [True, False])
def test_results_say_what_was_decoded(in_process: bool, tiny_model: Path, bigbuckbunny: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": tiny_model, "frames": 8, "in_process": in_process}
    parts = ig65m.extract(bigbuckbunny, stride=100, **options)
    assert parts.sought
    assert not ig65m.extract(bigbuckbunny, stride=16, **options).sought
    assert ig65m.classify(bigbuckbunny, clips=2, **options).sought
    assert not ig65m.classify(made(tmp_path, "avi"), clips=2, **options).sought
    for suffix in (".npy", ".npz", ".parquet"):
        ig65m.save_features(parts, tmp_path / f"parts{suffix}")
        assert ig65m.load_features(tmp_path / f"parts{suffix}").sought
    assert "sought" in describe(parts)
    assert "sought" not in describe(replace(parts, sought=False))


def test_debug_prints_how_a_video_is_read(tiny_model: Path, bigbuckbunny: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("ig65m")
    command = [program, "classify", bigbuckbunny, made(tmp_path, "avi"), "--model", tiny_model, "--clips", "2"]
    silent = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True)
    assert "decoded" not in silent.stderr
    assert [video.get("sought") for video in json.loads(silent.stdout)["videos"]] == [True, None]
    lines = subprocess.run([*command, "--debug"], check=True, capture_output=True, text=True).stderr
    assert "bigbuckbunny.mp4: only the parts that its clips need were decoded" in lines
    assert "video.avi: decoded as a whole, since seeking is not exact: the container avi has no exact index" in lines
