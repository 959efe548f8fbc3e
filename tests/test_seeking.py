"""Clips with gaps between them: parts of a video are decoded, and nothing may differ from decoding all of it."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from ig65m.errors import VideoError
from ig65m.types import Limits
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.sample_reader import Sample, read_samples
from ig65m.video.sampling import Sampling
from ig65m.video.seeking import read_index
from ig65m.zoo.cards import CARDS
from tests import videos
from tests.test_broken_videos import KINDS
from tests.test_odd_videos import ODD, even
from tests.test_reader import SEEKABLE

pytestmark = pytest.mark.slow

CARD = CARDS["r2plus1d_34_32_kinetics"]
COUNT = 90
GROUPS = {"g": "12", "sc_threshold": "0"}
STARTS = ((), (0, 7, 31, 88), (24, 25, 77), (89,))
VIDEOS = {**ODD, **KINDS, **SEEKABLE}


def made(folder: Path, kind: str) -> Path:
    """With several key frames, where the codec has an option for it."""
    suffix, how = VIDEOS[kind]
    if how.get("codec", "libx264") in ("libx264", "libx264rgb", "libvpx-vp9", "ffv1", "mpeg4", "mpeg2video"):
        how = {**how, "options": {"g": "12", **how.get("options", {})}}
    return even(folder / f"video.{suffix}", how, COUNT)


def read(path: Path, **how: Any) -> tuple[list[Sample], VideoError | None, int]:
    """Return samples, the error after them, and the number of decoded frames."""
    found: list[Sample] = []
    decoded: list[Frame | LostFrame] = []
    try:
        for sample in read_samples(path, Sampling(**how), CARD.preprocessing, limits=Limits(), on_frame=decoded.append):
            found.append(sample)
    except VideoError as error:
        return found, error, len(decoded)
    return found, None, len(decoded)


def check(path: Path) -> None:
    """Compare with reading every frame, which never seeks."""
    whole, failure, _ = read(path, frames=1)
    assert failure is None
    for starts in STARTS:
        found, failure, _ = read(path, frames=1, starts=starts)
        assert failure is None
        assert [(each.time, each.end) for each in found] == [(each.time, each.end) for each in whole[: len(found)]]
        assert len(found) == (starts[-1] + 1 if starts else len(whole))
        for number, sample in enumerate(found):
            assert (sample.pixels is None) == (number not in starts)
            assert sample.pixels is None or (sample.pixels == whole[number].pixels).all()  # type: ignore[attr-defined]
    spread = [each for each in read(path, frames=1, stride=60)[0] if each.pixels is not None]
    assert [each.time for each in spread] == [whole[0].time, whole[60].time]


@pytest.mark.parametrize("kind", VIDEOS)
def test_parts_equal_those_of_the_whole(kind: str, tmp_path: Path) -> None:
    check(made(tmp_path, kind))


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
    assert read_index(path, Limits()) is not None
    found, _, decoded = read(path, frames=1, starts=(3, 75))
    assert len(found) == 76
    assert decoded < 40


def test_an_index_that_is_wrong_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lacks a frame. Where no wrong sample was given, the video is decoded as a whole; else it ends with an error."""
    path = made(tmp_path, "mkv")
    whole, _, _ = read(path, frames=1)
    index = read_index(path, Limits())
    assert index is not None
    wrong = [replace(frame, number=number) for number, frame in enumerate([*index[:5], *index[6:]])]
    monkeypatch.setattr("ig65m.video.sample_reader.read_index", lambda *_: wrong)
    found, failure, _ = read(path, frames=1, starts=(3, 4, 5, 80))
    assert failure is None
    assert [each.time for each in found] == [each.time for each in whole[:81]]
    _, failure, _ = read(path, frames=1, starts=(2, 8))
    assert "its frames are not where its packets say" in str(failure)


def test_damage_counts_where_it_is_read(tmp_path: Path) -> None:
    """The second of four groups is damaged: clips before and after it are found, and their video is whole for them."""
    path = videos.encode_numbers(tmp_path / "video.mp4", videos.constant(100), options={"g": "25", "sc_threshold": "0"})
    with av.open(str(path)) as container:
        bad = next(packet.pos for packet in container.demux(video=0) if packet.pts and packet.pts * packet.time_base == 1.0)
    data = bytearray(path.read_bytes())
    data[bad + 4 : bad + 200] = bytes([255]) * 196
    path.write_bytes(data)
    assert read(path, frames=1, starts=(0, 85))[1] is None
    found, failure, _ = read(path, frames=1, starts=(0, 30, 90))
    assert failure is not None
    assert failure.gaps[0][0] <= 1.2 < failure.gaps[0][1]
    assert [number for number, sample in enumerate(found) if sample.pixels is not None] == [0, 90]
