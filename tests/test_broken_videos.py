"""Videos that are cut or damaged: what is good comes, at its time, then an error that says where and why it ends."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from ig65m.errors import VideoError
from ig65m.types import Limits
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.integrity.container import is_cut
from ig65m.video.reader import read_frames
from tests.test_odd_videos import AV1, H265, SHARP, VP8, VP9, even, numbers

pytestmark = pytest.mark.slow

GROUPS = {"g": "10", "sc_threshold": "0"}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("mp4", {"container": {"movflags": "faststart"}, "options": GROUPS}),
    "mp4-fragments": ("mp4", {"container": {"movflags": "frag_keyframe+empty_moov"}, "options": GROUPS}),
    "mp4-dash": ("mp4", {"container": {"movflags": "dash+frag_keyframe+empty_moov"}, "options": GROUPS}),
    "mkv": ("mkv", {"options": GROUPS}),
    "mkv-live": ("mkv", {"container": {"live": "1"}, "options": GROUPS}),
    "webm": ("webm", VP9),
    "ts": ("ts", {"options": GROUPS}),
    "m2ts": ("m2ts", {"options": GROUPS}),
    "avi": ("avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "avi-mpeg4": ("avi", {"codec": "mpeg4", "options": SHARP}),
    "flv": ("flv", {"options": GROUPS}),
    "mpg": ("mpg", {"codec": "mpeg2video", "options": {**SHARP, "bf": "2"}}),
    "mpeg2-ts": ("ts", {"codec": "mpeg2video", "options": SHARP}),
    "h265": ("mkv", H265),
    "av1": ("mkv", AV1),
    "vp8-ivf": ("ivf", VP8),
    "ogg": ("ogg", VP8),
    "gif": ("gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    "apng": ("apng", {"codec": "apng", "pix_fmt": "rgb24"}),
    "y4m": ("y4m", {"codec": "wrapped_avframe"}),
    "prores": ("mkv", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each kind of video, encoded once."""
    folder, made = tmp_path_factory.mktemp("whole"), dict[str, Path]()

    def make(kind: str) -> Path:
        if kind not in made:
            suffix, how = KINDS[kind]
            made[kind] = even(folder / f"{kind}.{suffix}", how, 60)
        return made[kind]

    return make


def read_all(path: Path, **how: Any) -> tuple[list[Frame | LostFrame], VideoError | None]:
    frames: list[Frame | LostFrame] = []
    try:
        for frame in read_frames(path, **how):
            frames.append(frame)
    except VideoError as failure:
        return frames, failure
    return frames, None


def read_until_failure(path: Path, **how: Any) -> tuple[list[Frame], VideoError | None]:
    """The frames that were not lost."""
    frames, failure = read_all(path, **how)
    return [frame for frame in frames if isinstance(frame, Frame)], failure


def times(path: Path) -> list[float]:
    return [frame.time for frame in read_frames(path)]


@pytest.mark.parametrize("share", [0.7, 0.85, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_is_reported_after_the_good_frames(kind: str, share: float, whole: Callable[[str], Path], tmp_path: Path) -> None:
    source = whole(kind)
    data, cut = source.read_bytes(), tmp_path / f"cut{source.suffix}"
    size = int(len(data) * share)
    cut.write_bytes(data[: size + 1 if size % 188 == 0 or size % 192 == 0 else size])
    frames, failure = read_until_failure(cut)
    assert failure is not None
    found = numbers(frames)
    assert found == sorted(set(found))
    assert found[: len(found) - 3] == list(range(len(found) - 3))
    assert 60 * share * 0.3 < len(found) <= 60
    assert [frame.time for frame in frames] == pytest.approx([times(source)[i] for i in found], abs=1e-3)
    assert failure.last_good_time == frames[-1].end
    assert str(failure).startswith(f"{cut}: ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_is_not_taken_for_a_cut_one(kind: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    source = whole(kind)
    assert read_until_failure(source)[1] is None
    if kind in {"vp8-ivf", "y4m"}:
        return
    padded = tmp_path / f"padded{source.suffix}"
    padded.write_bytes(source.read_bytes() + bytes(4000))
    assert len(read_until_failure(padded)[0]) == 60
    with av.open(str(padded)) as container:
        assert not is_cut(padded, container.format.name)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts", "avi", "mpg"])
@pytest.mark.parametrize("share", [0.02, 0.1])
def test_next_to_nothing_of_a_file_is_a_failure(kind: str, share: float, whole: Callable[[str], Path], tmp_path: Path) -> None:
    source = whole(kind)
    data, cut = source.read_bytes(), tmp_path / f"cut{source.suffix}"
    cut.write_bytes(data[: int(len(data) * share) + 1])
    frames, failure = read_until_failure(cut)
    assert failure is not None
    assert numbers(frames) == list(range(len(frames)))


def holds_the_grid(frames: list[Frame | LostFrame], source: Path) -> list[int]:
    """Compare frames with those of the undamaged video: times, and pixels of good ones. Returns the numbers of lost ones."""
    whole = list(read_frames(source))
    assert [frame.time for frame in frames] == pytest.approx([frame.time for frame in whole[: len(frames)]], abs=1.01e-3)
    for frame, good in zip(frames, whole, strict=False):
        assert isinstance(good, Frame)
        assert isinstance(frame, LostFrame) or (frame.picture.to_ndarray() == good.picture.to_ndarray()).all()
    return [number for number, frame in enumerate(frames) if isinstance(frame, LostFrame)]


def test_packets_lost_from_a_transport_stream(whole: Callable[[str], Path], tmp_path: Path) -> None:
    source = whole("ts")
    data, lossy = source.read_bytes(), tmp_path / "lossy.ts"
    middle = len(data) // 188 // 2 * 188
    lossy.write_bytes(data[:middle] + data[middle + 3 * 188 :])
    frames, failure = read_all(lossy)
    assert failure is None
    lost = holds_the_grid(frames, source)
    assert len(frames) == 60
    assert 15 < lost[0] < 45
    assert lost[-1] < lost[0] + 10
    assert (lost[-1] + 1) % 10 == 0
    assert {frame.reason for frame in frames if isinstance(frame, LostFrame)} == {"packets of it were lost"}


def test_recordings_that_were_joined_lost_nothing(whole: Callable[[str], Path], tmp_path: Path) -> None:
    """The counters of the packets jump there as well."""
    for kind in ("ts", "m2ts", "mpeg2-ts"):
        joined = tmp_path / f"joined.{kind}"
        joined.write_bytes(whole(kind).read_bytes() * 3)
        frames, failure = read_until_failure(joined)
        assert failure is None
        assert numbers(frames) == [*range(60)] * 3
        assert np.diff([frame.time for frame in frames]) == pytest.approx(0.04, abs=1e-3)


def damaged(source: Path, target: Path, number: int, change: Callable[[bytes], bytes]) -> Path:
    """The packets of `source`, but for the contents of one."""
    with av.open(str(source)) as video, av.open(str(target), "w") as output:
        copy = output.add_stream_from_template(video.streams.video[0])
        for i, packet in enumerate(video.demux(video=0)):
            if packet.size:
                changed = av.Packet(change(bytes(packet))) if i == number else packet
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.is_keyframe, changed.stream = packet.is_keyframe, copy
                output.mux(changed)
    return target


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def overwritten(data: bytes) -> bytes:
    return data[: len(data) // 4] + bytes(len(data) - len(data) // 4)


DAMAGES: dict[str, tuple[str, dict[str, Any], Callable[[bytes], bytes], int]] = {
    "h264": ("mp4", {"options": {"bf": "0", **GROUPS}}, halved, 30),
    "h264-b-frames": ("mkv", {"options": {"bf": "2", **GROUPS}}, halved, 30),
    "h264-b-pyramid": ("mp4", {"options": {"bf": "7", "b_strategy": "0", "b-pyramid": "normal", **GROUPS}}, overwritten, 30),
    "h264-open-groups": ("mp4", {"options": {"x264-params": "keyint=10:open-gop=1:bframes=3:b-adapt=0"}}, halved, 34),
    "h264-one-group": ("mp4", {"options": {"bf": "0", "g": "100"}}, halved, 40),
    "mpeg4": ("mp4", {"codec": "mpeg4", "options": {**SHARP, "g": "10"}}, halved, 30),
    "mpeg2": ("mkv", {"codec": "mpeg2video", "options": {**SHARP, "g": "10", "bf": "2"}}, halved, 34),
    "mjpeg": ("mkv", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, lambda data: bytes(len(data)), 22),
    "mjpeg-avi": ("avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, lambda data: bytes(len(data)), 22),
    "vp8": ("mkv", {**VP8, "options": {**VP8["options"], "g": "10"}}, lambda data: data[:2], 32),
    "vp9": ("mkv", {**VP9, "options": {**VP9["options"], "g": "10"}}, overwritten, 32),
    "png-checksum": ("mov", {"codec": "png", "pix_fmt": "rgb24"}, overwritten, 22),
    "prores": ("mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}, halved, 22),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_costs_frames_up_to_the_next_key_frame(kind: str, tmp_path: Path) -> None:
    """Even where the decoder conceals it, and goes on."""
    suffix, how, change, most = DAMAGES[kind]
    source = even(tmp_path / f"source.{suffix}", how, 40)
    frames, failure = read_all(damaged(source, tmp_path / f"damaged.{suffix}", 20 + ("b-" in kind), change))
    lost = holds_the_grid(frames, source)
    assert len(frames) == 40
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert 13 <= lost[0] <= 23
    assert lost[-1] < most
    if lost[-1] < 39:
        assert failure is None
    else:
        assert failure is not None
        assert failure.last_good_time == frames[lost[0] - 1].end
        assert "nothing after" in str(failure)


def test_damage_at_the_beginning_costs_the_beginning_only(tmp_path: Path) -> None:
    source = even(tmp_path / "source.mp4", {"options": GROUPS}, 40)
    frames, failure = read_all(damaged(source, tmp_path / "damaged.mp4", 0, halved))
    assert failure is None
    assert holds_the_grid(frames, source) == list(range(10))
    assert len(frames) == 40


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts", "avi", "flv", "mpg", "webm", "h265", "av1", "ogg", "gif"])
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_never_crash_nor_hang(kind: str, seed: int, whole: Callable[[str], Path], tmp_path: Path) -> None:
    """Whatever comes has a time, not before the one that came before it, and an error is one of ours."""
    random, source = np.random.default_rng(seed), whole(kind)
    data = bytearray(source.read_bytes())
    for place in random.integers(0, len(data), 2 + 6 * seed):
        data[place] ^= 1 << int(random.integers(8))
    flipped = tmp_path / f"flipped{source.suffix}"
    flipped.write_bytes(data)
    frames, failure = read_until_failure(flipped, limits=Limits(frames=500))
    assert all(frame.time <= frame.end for frame in frames)
    assert failure is None or failure.last_good_time == (frames[-1].end if frames else None)


def without_moov(data: bytes) -> bytes:
    return data.replace(b"moov", b"gone")


def sizes_too_large(data: bytes) -> bytes:
    place = data.index(b"stsz") + 16
    return data[:place] + b"\x7f\xff\xff\xff" + data[place + 4 :]


def offsets_elsewhere(data: bytes) -> bytes:
    place = data.index(b"stco") + 12
    return data[:place] + b"\x7f\xff\xff\x00" + data[place + 4 :]


def random_bytes(data: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(data))


def nothing_but_packets_without_content(data: bytes) -> bytes:
    return b"\x47\x1f\xff\x10" + b"\xff" * 184 + (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 99


HOPELESS = [
    (without_moov, "not a video in a supported format"),
    (random_bytes, "not a video in a supported format"),
    (nothing_but_packets_without_content, "not a video"),
    (lambda data: bytes(len(data)), "not a video in a supported format"),
    (lambda data: b"#EXTM3U\nhttp://127.0.0.1:9/x.ts\n", "not a video in a supported format"),
    (lambda data: b"ffconcat version 1.0\nfile /etc/passwd\n", "not a video in a supported format"),
    (lambda data: b"<html><video src='http://127.0.0.1:9/x.mp4'></html>", "not a video in a supported format"),
    (lambda data: b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 96\n", "not a video in a supported format"),
    (lambda data: b"<asx><entry><ref href='http://127.0.0.1:9/x'/></entry></asx>", "not a video in a supported format"),
]


@pytest.mark.parametrize(("change", "message"), HOPELESS)
def test_what_is_beyond_help_fails_with_a_reason(
    change: Callable[[bytes], bytes], message: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "hopeless.mp4"
    path.write_bytes(change(whole("mp4").read_bytes()))
    frames, failure = read_until_failure(path)
    assert not frames
    assert failure is not None
    assert message in str(failure)
    assert failure.last_good_time is None


@pytest.mark.parametrize("change", [sizes_too_large, offsets_elsewhere])
def test_an_index_that_lies_is_found_out(
    change: Callable[[bytes], bytes], whole: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "lies.mp4"
    path.write_bytes(change(whole("mp4").read_bytes()))
    frames, failure = read_until_failure(path)
    assert failure is not None
    found = numbers(frames)
    assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in found], abs=1e-3)


def test_external_data_is_not_opened(whole: Callable[[str], Path], tmp_path: Path) -> None:
    """A track of mp4 may say that its samples are in another file: what is read is this file, or nothing."""
    data = whole("mp4").read_bytes()
    name = b"file:///etc/passwd\0"
    reference = struct.pack(">I4sI", 12 + len(name), b"url ", 0) + name
    grown = data.replace(b"\x00\x00\x00\x0curl \x00\x00\x00\x01", reference)
    assert grown != data
    path = tmp_path / "elsewhere.mp4"
    path.write_bytes(grown)
    frames, failure = read_until_failure(path)
    assert failure is not None or numbers(frames) == list(range(60))


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts", "avi", "webm", "av1"])
def test_the_size_of_a_picture_is_bounded(kind: str, whole: Callable[[str], Path]) -> None:
    with pytest.raises(VideoError, match=r"a picture of 96x64, more than the limit of 6,143 pixels; raise --max-pixels"):
        next(read_frames(whole(kind), limits=Limits(pixels=96 * 64 - 1)))
    assert next(read_frames(whole(kind), limits=Limits(pixels=96 * 64))).time >= 0


@pytest.mark.parametrize("kind", ["ts", "mpeg2-ts"])
def test_a_picture_that_grows_beyond_the_bound_ends_the_video(kind: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    suffix, how = KINDS[kind]
    large = even(tmp_path / "large.ts", {**how, "size": (192, 128)}, 10)
    grows = tmp_path / f"grows.{suffix}"
    grows.write_bytes(whole(kind).read_bytes() + large.read_bytes())
    frames, failure = read_until_failure(grows, limits=Limits(pixels=96 * 64))
    assert failure is not None
    assert {frame.picture.width for frame in frames} == {96}
    assert 50 < len(frames) <= 60


def test_repeated_edits_are_bounded_by_the_number_of_frames(whole: Callable[[str], Path], tmp_path: Path) -> None:
    """An edit list of a few bytes a line that shows the whole video again with each of its thousand lines."""
    data = whole("mp4").read_bytes()
    place = data.index(b"edts") - 4
    old = int.from_bytes(data[place : place + 4], "big")
    lines = b"".join(struct.pack(">IIHH", 2400, 0, 1, 0) for _ in range(1000))
    edits = struct.pack(">I4sII", 16 + len(lines), b"elst", 0, 1000) + lines
    grown = bytearray(data[:place] + struct.pack(">I4s", 8 + len(edits), b"edts") + edits + data[place + old :])
    for kind in (b"moov", b"trak"):
        start = grown.index(kind) - 4
        size = int.from_bytes(grown[start : start + 4], "big") + 8 + len(edits) - old
        grown[start : start + 4] = size.to_bytes(4, "big")
    offsets = grown.index(b"stco") + 12
    first = int.from_bytes(grown[offsets : offsets + 4], "big") + 8 + len(edits) - old
    grown[offsets : offsets + 4] = first.to_bytes(4, "big")
    path = tmp_path / "edits.mp4"
    path.write_bytes(grown)
    frames, failure = read_until_failure(path, limits=Limits(frames=150))
    assert failure is not None
    assert "more than 150 frames" in str(failure)
    assert len(frames) == 150


@pytest.mark.parametrize("share", [0.7, 0.9])
def test_starting_late_in_a_cut_file_tells_it_too(share: float, whole: Callable[[str], Path], tmp_path: Path) -> None:
    for kind in ("mp4", "mkv"):
        data, cut = whole(kind).read_bytes(), tmp_path / f"cut.{kind}"
        cut.write_bytes(data[: int(len(data) * share)])
        frames, failure = read_until_failure(cut, start=0.5)
        assert failure is not None
        assert failure.last_good_time == frames[-1].end
