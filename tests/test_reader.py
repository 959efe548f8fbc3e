import itertools
import weakref
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from ig65m.errors import UsageError, VideoError
from ig65m.types import Frames
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.reader import read_frames
from tests import videos

UNEVEN = list(itertools.accumulate([1400, 40, 40, 20, 90, 33, 33, 34, 200, 10, 40, 41, 500, 40, 40, 40, 17, 16, 17, 40] * 2))
"""Milliseconds: 40 frames of variable rate that begin at 1.4 s and pause in the middle."""

KINDS = {
    "h264-mp4": ("mp4", {}),
    "h264-mp4-faststart": ("mp4", {"container": {"movflags": "faststart"}}),
    "h264-mp4-fragmented": ("mp4", {"container": {"movflags": "frag_keyframe+empty_moov"}, "options": {"g": "10"}}),
    "h264-mkv": ("mkv", {}),
    "h264-ts": ("ts", {}),
    "h264-flv": ("flv", {}),
    "h264-mov-10-bit": ("mov", {"pix_fmt": "yuv420p10le"}),
    "h264-444-odd": ("mp4", {"pix_fmt": "yuv444p", "size": (97, 63)}),
    "h264-full-range": ("mp4", {"pix_fmt": "yuvj420p"}),
    "h265-mp4": ("mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:pools=1"}}),
    "vp9-webm-odd": ("webm", {"codec": "libvpx-vp9", "size": (97, 63), "options": {"deadline": "realtime"}}),
    "av1-mkv": ("mkv", {"codec": "libsvtav1", "options": {"preset": "8", "crf": "20", "svtav1-params": "lp=1"}}),
    "mpeg4-mp4": ("mp4", {"codec": "mpeg4", "options": {"bf": "2"}}),
    "ffv1-rgb-mkv": ("mkv", {"codec": "ffv1", "pix_fmt": "bgr0"}),
}


@pytest.fixture(scope="module", params=KINDS)
def uneven(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    suffix, how = KINDS[request.param]
    return videos.encode_numbers(tmp_path_factory.mktemp(request.param) / f"video.{suffix}", UNEVEN, **how)


def numbers(frames: list[Frame]) -> list[int]:
    return [videos.number_in(frame.picture.to_ndarray(format="rgb24")) for frame in frames]


def read_until_failure(path: Path) -> tuple[list[Frame], VideoError]:
    reading, frames = read_frames(path), []
    while True:
        try:
            frames.append(next(reading))
        except VideoError as failure:
            return frames, failure


def test_every_frame_comes_in_order_with_its_time(uneven: Path) -> None:
    frames = list(read_frames(uneven))
    assert numbers(frames) == list(range(len(UNEVEN)))
    steps = [frame.time - frames[0].time for frame in frames]
    assert steps == pytest.approx([(time - UNEVEN[0]) / 1000 for time in UNEVEN], abs=1.01e-3)
    if uneven.suffix in {".mp4", ".mkv", ".mov", ".webm"} and "fragmented" not in str(uneven):
        assert frames[0].time == pytest.approx(1.4, abs=1.01e-3)


def test_a_frame_ends_where_the_next_begins(uneven: Path) -> None:
    frames = list(read_frames(uneven))
    assert [frame.end for frame in frames[:-1]] == [frame.time for frame in frames[1:]]
    assert 0 < frames[-1].end - frames[-1].time <= 0.2


@pytest.mark.skipif(not videos.HAVE_FFPROBE, reason="needs ffprobe (Debian package ffmpeg)")
def test_times_agree_with_ffprobe(uneven: Path) -> None:
    assert [frame.time for frame in read_frames(uneven)] == pytest.approx(videos.probe_packet_times(uneven), abs=1e-3)


def test_the_videos_do_have_pictures_out_of_order(tmp_path: Path) -> None:
    with av.open(str(videos.encode_numbers(tmp_path / "video.mp4", UNEVEN))) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert stamps != sorted(stamps)


def test_real_footage(bigbuckbunny: Path, bikes: Path) -> None:
    for path, count in ((bigbuckbunny, 132), (bikes, 250)):
        frames = list(read_frames(path))
        assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(count)])
        assert frames[-1].end == pytest.approx(count / 25)


def test_no_more_than_three_frames_live_at_once(bikes: Path) -> None:
    alive: weakref.WeakSet[Frame] = weakref.WeakSet()
    most = 0
    for frame in read_frames(bikes):
        alive.add(frame)
        most = max(most, len(alive))
    assert most <= 3


def test_frames_that_an_edit_list_hides_stay_hidden(tmp_path: Path) -> None:
    source = videos.encode_numbers(tmp_path / "whole.mp4", videos.constant(60), options={"g": "20"})
    edited = tmp_path / "edited.mp4"
    with av.open(str(source)) as whole, av.open(str(edited), "w") as output:
        stream = whole.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for packet in whole.demux(stream):
            if packet.size:
                packet.pts -= int(1 / stream.time_base)
                packet.dts -= int(1 / stream.time_base)
                packet.stream = copy
                output.mux(packet)
    frames = list(read_frames(edited))
    assert numbers(frames) == list(range(25, 60))
    assert frames[0].time == pytest.approx(0.0, abs=1e-3)
    assert frames[-1].end == pytest.approx(1.4, abs=1e-3)


def test_an_end_trimmed_by_an_edit_list_is_no_fault(tmp_path: Path) -> None:
    """As telephones trim: all packets are still there, but only the first 1.2 s are to be shown."""
    path = videos.encode_numbers(tmp_path / "trimmed.mp4", videos.constant(60))
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 4 + 8
    data[entry : entry + 4] = (1200).to_bytes(4, "big")
    path.write_bytes(data)
    frames = list(read_frames(path))
    assert numbers(frames) == list(range(30))
    assert frames[-1].end == pytest.approx(1.2, abs=1e-3)


def test_avi_without_presentation_times_still_runs_forward(tmp_path: Path) -> None:
    frames = list(read_frames(videos.encode_numbers(tmp_path / "video.avi", videos.constant(40))))
    assert numbers(frames) == list(range(40))
    assert np.diff([frame.time for frame in frames]) == pytest.approx(0.04, abs=1e-6)


def test_a_bare_stream_is_timed_by_its_rate(tmp_path: Path) -> None:
    frames = list(read_frames(videos.encode_numbers(tmp_path / "video.h264", videos.constant(40))))
    assert numbers(frames) == list(range(40))
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(40)])


@pytest.mark.parametrize("count", [6, 20, 50])
def test_joined_recordings_follow_each_other_though_their_clocks_start_anew(tmp_path: Path, count: int) -> None:
    small = videos.encode_numbers(tmp_path / "a.ts", videos.constant(count))
    large = videos.encode_numbers(tmp_path / "b.ts", videos.constant(count), size=(192, 128))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    frames = list(read_frames(joined))
    assert numbers(frames) == [*range(count), *range(count)]
    assert {frame.picture.width for frame in frames} == {96, 192}
    assert np.diff([frame.time for frame in frames]) == pytest.approx(0.04, abs=1e-3)


def test_a_recording_that_begins_between_key_frames_gives_what_can_be_decoded(tmp_path: Path) -> None:
    whole = videos.encode_numbers(tmp_path / "whole.ts", videos.constant(60), options={"g": "20", "sc_threshold": "0"})
    data, middle = whole.read_bytes(), tmp_path / "middle.ts"
    middle.write_bytes(data[len(data) // 188 // 5 * 188 :])
    found = numbers(list(read_frames(middle)))
    assert found == list(range(found[0], 60))
    assert 0 < found[0] <= 40


SEEKABLE = {
    "h264-closed": ("mp4", {"options": {"g": "12"}}),
    "h264-open": ("mp4", {"options": {"g": "12", "x264-params": "open-gop=1:bframes=3:b-adapt=0"}}),
    "h264-open-mkv": ("mkv", {"options": {"g": "12", "x264-params": "open-gop=1:bframes=3:b-adapt=0"}}),
    "h264-refresh": ("mp4", {"options": {"g": "12", "x264-params": "intra-refresh=1"}}),
    "h265-open": ("mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:pools=1:keyint=12:open-gop=1"}}),
    "vp9": ("webm", {"codec": "libvpx-vp9", "options": {"g": "12", "deadline": "realtime"}}),
    "av1": ("mp4", {"codec": "libsvtav1", "options": {"preset": "12", "g": "12", "svtav1-params": "lp=1"}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEEKABLE)
def test_starting_late_gives_the_same_frames_as_reading_from_the_beginning(kind: str, tmp_path: Path) -> None:
    suffix, how = SEEKABLE[kind]
    times = [time - 3 * (i % 2) for i, time in enumerate(videos.constant(60, first=500))]
    path = videos.encode_numbers(tmp_path / f"video.{suffix}", times, **how)
    whole = [(frame.time, frame.end, frame.picture.to_ndarray().tobytes()) for frame in read_frames(path)]
    for start in [0.0, *np.arange(0.45, 3.0, 0.13), whole[24][0], whole[36][0]]:
        late = [(frame.time, frame.end, frame.picture.to_ndarray().tobytes()) for frame in read_frames(path, start=start)]
        assert [frame for frame in late if frame[0] >= start] == [frame for frame in whole if frame[0] >= start]


def test_starting_late_does_not_decode_what_lies_before(tmp_path: Path) -> None:
    path = videos.encode_numbers(tmp_path / "video.mp4", videos.constant(100), options={"g": "10", "sc_threshold": "0"})
    assert next(read_frames(path, start=3.0)).time >= 2.5


def test_a_late_cut_of_the_file_is_reported_after_its_good_frames(tmp_path: Path) -> None:
    for suffix, how in (
        ("mkv", {}),
        ("mp4", {"container": {"movflags": "faststart"}}),
        ("flv", {}),
        ("webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}}),
    ):
        whole = videos.encode_numbers(tmp_path / f"whole.{suffix}", videos.constant(100), **how)
        data, cut = whole.read_bytes(), tmp_path / f"cut.{suffix}"
        cut.write_bytes(data[: len(data) * 6 // 10])
        frames, failure = read_until_failure(cut)
        assert numbers(frames[:-1]) == list(range(len(frames) - 1)), suffix
        assert len(frames) > 20
        assert failure.last_good_time == frames[-1].end
        assert str(cut) in str(failure)


def test_an_undecodable_packet_costs_its_frame_and_the_one_before(tmp_path: Path) -> None:
    """The end of the packet before may be damaged too, which decoders seldom notice."""
    whole = videos.encode_numbers(tmp_path / "whole.mkv", videos.constant(40), codec="ffv1", pix_fmt="bgr0", options={"g": "1"})
    broken = tmp_path / "broken.mkv"
    with av.open(str(whole)) as source, av.open(str(broken), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(source.demux(video=0)):
            if packet.size:
                bad = av.Packet(bytes(3)) if i == 25 else packet
                bad.pts, bad.dts, bad.time_base, bad.stream = packet.pts, packet.dts, packet.time_base, copy
                output.mux(bad)
    frames = list(read_frames(broken))
    assert numbers([frame for frame in frames if isinstance(frame, Frame)]) == [*range(24), *range(26, 40)]
    assert frames[25] == LostFrame(pytest.approx(1.0), pytest.approx(1.04), "Invalid data found when processing input")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv", "ts"])
@pytest.mark.parametrize("seconds", [1.0, 6.0])
def test_sound_of_another_length_is_no_fault(suffix: str, seconds: float, tmp_path: Path) -> None:
    silent = videos.encode_numbers(tmp_path / "silent.mp4", videos.constant(75))
    assert len(list(read_frames(videos.add_sound(silent, tmp_path / f"both.{suffix}", seconds)))) == 75


def missing(folder: Path) -> Path:
    return folder / "missing.mp4"


def empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def text(folder: Path) -> Path:
    (folder / "text.mp4").write_text("To be or not to be\n" * 50)
    return folder / "text.mp4"


def audio_only(folder: Path) -> Path:
    return videos.add_sound(folder / "none", folder / "audio.mp4", 1.0)


def playlist(folder: Path) -> Path:
    target = videos.encode_numbers(folder / "target.ts", videos.constant(5))
    (folder / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target.name}\n#EXT-X-ENDLIST\n")
    return folder / "list.m3u8"


def concatenation(folder: Path) -> Path:
    target = videos.encode_numbers(folder / "target.ts", videos.constant(5))
    (folder / "list.mp4").write_text(f"ffconcat version 1.0\nfile {target.name}\n")
    return folder / "list.mp4"


def url(folder: Path) -> str:
    return "http://127.0.0.1:9/video.mp4"


def device(folder: Path) -> str:
    return "/dev/zero"


def no_images(folder: Path) -> Path:
    (folder / "notes.txt").touch()
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "missing.mp4: no such file; expected a local video file or a folder of images"),
        (empty, "empty.mp4: an empty file"),
        (text, "text.mp4: 950 bytes that are not a video in a supported format"),
        (audio_only, "audio.mp4: no video stream found in this file; it has: audio"),
        (playlist, "list.m3u8: .* bytes that are not a video in a supported format"),
        (concatenation, "list.mp4: .* bytes that are not a video in a supported format"),
        (url, "no such file"),
        (device, "expected a regular file or a folder"),
        (no_images, "no images found; expected files with suffix .jpg"),
    ],
)
def test_what_is_no_video_is_refused_with_a_reason(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=message) as failure:
        next(read_frames(make(tmp_path)))
    assert failure.value.last_good_time is None


def test_a_name_full_of_signs_is_a_name(tmp_path: Path) -> None:
    path = videos.encode_numbers(tmp_path / "plain.mp4", videos.constant(5))
    odd = path.rename(tmp_path / "concat:%03d|é*?.mp4")
    assert len(list(read_frames(odd))) == 5
    assert len(list(read_frames(str(odd)))) == 5


def write_image(path: Path, picture: np.ndarray, codec: str, pix_fmt: str) -> None:
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = *picture.shape[:2], pix_fmt, videos.MILLISECONDS
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


def test_a_folder_of_images_in_natural_order(tmp_path: Path) -> None:
    kinds = (
        ("frame1.png", "png", "rgb24", (96, 64)),
        ("frame2.PNG", "png", "gray", (97, 63)),
        ("frame03.jpg", "mjpeg", "yuvj420p", (192, 128)),
        ("frame10.bmp", "bmp", "bgr24", (33, 65)),
        ("frame11.webp", "libwebp", "yuv420p", (96, 64)),
        ("frame100.jpeg", "mjpeg", "yuvj444p", (96, 64)),
    )
    for number, (name, codec, pix_fmt, size) in reversed(list(enumerate(kinds))):
        write_image(tmp_path / name, videos.numbered(number, *size), codec, pix_fmt)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".frame4.png").write_text("hidden")
    frames = list(read_frames(tmp_path, image_fps=10))
    assert numbers(frames) == list(range(6))
    assert [(frame.time, frame.end) for frame in frames] == [(i / 10, (i + 1) / 10) for i in range(6)]


def test_a_broken_image_ends_the_folder_after_the_good_ones(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png", videos.numbered(0), "png", "rgb24")
    write_image(tmp_path / "1.png", videos.numbered(1), "png", "rgb24")
    (tmp_path / "2.png").write_text("#EXTM3U\nhttp://127.0.0.1:9/x.png\n")
    frames, failure = read_until_failure(tmp_path)
    assert (numbers(frames[:2]), failure.last_good_time) == ([0, 1], 0.08)
    assert frames[2:] == [LostFrame(0.08, 0.12, "2.png is not a readable image")]
    assert "2.png: not a readable image (expected JPEG, PNG, BMP or WebP)" in str(failure)


def test_a_broken_image_among_good_ones_is_a_lost_frame(tmp_path: Path) -> None:
    for number in (0, 1, 3):
        write_image(tmp_path / f"{number}.png", videos.numbered(number), "png", "rgb24")
    (tmp_path / "2.png").touch()
    frames = list(read_frames(tmp_path, image_fps=25))
    assert [isinstance(frame, LostFrame) for frame in frames] == [False, False, True, False]
    assert numbers([frame for frame in frames if isinstance(frame, Frame)]) == [0, 1, 3]
    assert frames[3].time == 0.12


def test_half_a_jpeg_is_a_broken_image(tmp_path: Path) -> None:
    for number in (0, 1):
        write_image(tmp_path / f"{number}.jpg", videos.numbered(number), "mjpeg", "yuvj420p")
    data = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(data[:-20])
    frames, failure = read_until_failure(tmp_path)
    assert (numbers(frames[:1]), failure.last_good_time) == ([0], 0.04)
    assert "1.jpg: not a readable image (damaged or truncated)" in str(failure)


def test_images_need_a_rate(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png", videos.numbered(0), "png", "rgb24")
    with pytest.raises(UsageError, match="positive number of frames a second, got 0"):
        next(read_frames(tmp_path, image_fps=0))


def test_frames_in_memory() -> None:
    array = np.stack([videos.numbered(i, 97, 63) for i in range(5)])
    frames = list(read_frames(Frames(array, fps=8)))
    assert all((frame.picture.to_ndarray() == picture).all() for frame, picture in zip(frames, array, strict=True))
    assert [(frame.time, frame.end) for frame in frames] == [(i / 8, (i + 1) / 8) for i in range(5)]
