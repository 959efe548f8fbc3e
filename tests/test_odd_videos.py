"""Videos that are whole, but not what one expects: every frame must come, in order, at its time, without a complaint."""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from ig65m.errors import VideoError
from ig65m.types import Frames, Limits
from ig65m.video.frame import Frame
from ig65m.video.reader import read_frames
from ig65m.video.sampling import Sampling, samples
from tests import videos

COUNT = 30
SAMPLE = Fraction(1, 25)
LOSSLESS = {"codec": "ffv1"}
VP8: dict[str, Any] = {"codec": "libvpx", "options": {"deadline": "realtime", "b": "1M"}}
VP9: dict[str, Any] = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "b": "1M"}}
AV1: dict[str, Any] = {"codec": "libsvtav1", "options": {"preset": "8", "crf": "20", "svtav1-params": "lp=1"}}
H265: dict[str, Any] = {"codec": "libx265", "options": {"x265-params": "log-level=none:pools=1:bframes=3"}}
SHARP = {"qmin": "1", "qmax": "2", "b": "4M"}

ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "h264-faststart": ("mp4", {"container": {"movflags": "faststart"}}),
    "h264-a-fragment-for-each-frame": ("mp4", {"container": {"movflags": "frag_every_frame+empty_moov"}}),
    "h264-dash": ("mp4", {"container": {"movflags": "dash+frag_keyframe+empty_moov"}, "options": {"g": "10"}}),
    "h264-negative-offsets": ("mp4", {"container": {"movflags": "negative_cts_offsets"}}),
    "h264-without-edit-list": ("mp4", {"container": {"use_editlist": "0"}}),
    "h264-3gp": ("3gp", {}),
    "h264-m2ts": ("m2ts", {}),
    "h264-ts-constant-rate": ("ts", {"container": {"muxrate": "2000000"}}),
    "h264-avi": ("avi", {}),
    "h264-nut": ("nut", {}),
    "h264-program-stream": ("mpg", {}),
    "h264-open-groups": ("ts", {"options": {"x264-params": "open-gop=1:keyint=10:bframes=3:b-adapt=0"}}),
    "h264-refresh": ("ts", {"options": {"x264-params": "intra-refresh=1:keyint=10"}}),
    "h264-pyramid": ("mkv", {"options": {"x264-params": "bframes=8:b-pyramid=normal:ref=8:slices=4"}}),
    "h264-interlaced-tff": ("mp4", {"options": {"x264-params": "tff=1"}}),
    "h264-interlaced-bff": ("ts", {"options": {"x264-params": "bff=1"}}),
    "h264-10-bit": ("mkv", {"pix_fmt": "yuv420p10le"}),
    "h264-422-10-bit": ("mp4", {"pix_fmt": "yuv422p10le"}),
    "h264-gray": ("mp4", {"pix_fmt": "gray"}),
    "h264-rgb": ("mp4", {"codec": "libx264rgb", "pix_fmt": "rgb24"}),
    "h265-ts": ("ts", H265),
    "h265-elementary": ("hevc", H265),
    "h265-12-bit-444": ("mkv", {**H265, "pix_fmt": "yuv444p12le"}),
    "h265-hdr": (
        "mp4",
        {
            **H265,
            "pix_fmt": "yuv420p10le",
            "options": {"x265-params": "log-level=none:pools=1:colorprim=bt2020:transfer=smpte2084:max-cll=1000,400"},
        },
    ),
    "vp8-ivf": ("ivf", VP8),
    "vp8-alpha": ("webm", {**VP8, "pix_fmt": "yuva420p", "options": {**VP8["options"], "auto-alt-ref": "0"}}),
    "vp8-hidden-frames": (
        "webm",
        {**VP8, "options": {"deadline": "good", "b": "1M", "auto-alt-ref": "1", "lag-in-frames": "16"}},
    ),
    "vp9-mp4": ("mp4", VP9),
    "vp9-444": ("webm", {**VP9, "pix_fmt": "yuv444p"}),
    "vp9-440": ("webm", {**VP9, "pix_fmt": "yuv440p"}),
    "vp9-hidden-frames": ("webm", {**VP9, "options": {"deadline": "good", "cpu-used": "5", "b": "1M", "lag-in-frames": "16"}}),
    "av1-ivf": ("ivf", AV1),
    "av1-obu": ("obu", AV1),
    "mpeg2-program-stream": ("mpg", {"codec": "mpeg2video", "options": {**SHARP, "bf": "2"}}),
    "mpeg2-ts": ("ts", {"codec": "mpeg2video", "options": {**SHARP, "bf": "2"}}),
    "mpeg2-interlaced": ("mpg", {"codec": "mpeg2video", "options": {**SHARP, "bf": "2", "flags": "+ildct+ilme"}}),
    "mpeg2-mkv": ("mkv", {"codec": "mpeg2video", "options": {**SHARP, "bf": "2"}}),
    "mpeg4-avi-b-frames": ("avi", {"codec": "mpeg4", "options": {**SHARP, "bf": "2"}}),
    "mpeg4-elementary": ("m4v", {"codec": "mpeg4", "options": SHARP}),
    "wmv": ("wmv", {"codec": "wmv2", "options": SHARP}),
    "flv1": ("flv", {"codec": "flv", "options": SHARP}),
    "mjpeg-avi": ("avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "prores-4444-alpha": ("mov", {"codec": "prores_ks", "pix_fmt": "yuva444p10le", "options": {"profile": "4444"}}),
    "png-palette": ("mov", {"codec": "png", "pix_fmt": "gray"}),
    "qtrle": ("mov", {"codec": "qtrle", "pix_fmt": "rgb24"}),
    "ffv1-gray16": ("mkv", {**LOSSLESS, "pix_fmt": "gray16le"}),
    "ffv1-rgb-12-bit": ("mkv", {**LOSSLESS, "pix_fmt": "gbrp12le"}),
    "ffv1-rgba": ("mkv", {**LOSSLESS, "pix_fmt": "bgra"}),
    "ffv1-410": ("avi", {**LOSSLESS, "pix_fmt": "yuv410p"}),
    "huffyuv": ("avi", {"codec": "huffyuv", "pix_fmt": "yuv422p"}),
    "raw-nv12": ("nut", {"codec": "rawvideo", "pix_fmt": "nv12"}),
    "y4m": ("y4m", {"codec": "wrapped_avframe"}),
    "gif": ("gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    "apng": ("apng", {"codec": "apng", "pix_fmt": "rgb24"}),
}


def numbers(frames: list[Frame]) -> list[int]:
    return [videos.number_in(frame.picture.to_ndarray(format="rgb24")) for frame in frames]


def even(path: Path, how: dict[str, Any], count: int = COUNT) -> Path:
    return videos.encode_numbers(path, range(count), time_base=SAMPLE, **how)


def first_stamp(path: Path) -> float:
    """Of the container's presentation times the earliest, 0 if it has none; writers start later by the delay of B-frames."""
    with av.open(str(path)) as container:
        stamps = [packet.pts * packet.time_base for packet in container.demux(video=0) if packet.pts is not None]
    return float(min(stamps, default=0))


@pytest.mark.parametrize("kind", ODD)
def test_every_frame_at_its_time(kind: str, tmp_path: Path) -> None:
    suffix, how = ODD[kind]
    path = even(tmp_path / f"video.{suffix}", how)
    frames = list(read_frames(path))
    assert numbers(frames) == list(range(COUNT))
    starts = [frame.time - frames[0].time for frame in frames]
    assert starts == pytest.approx([i / 25 for i in range(COUNT)], abs=1.01e-3)
    assert [frame.end for frame in frames[:-1]] == [frame.time for frame in frames[1:]]
    assert frames[-1].end - frames[-1].time == pytest.approx(
        0.1 if suffix == "gif" else 0.04, abs=0.061 if suffix == "gif" else 2e-3
    )
    assert frames[0].time == pytest.approx(0.0 if suffix == "avi" else first_stamp(path), abs=1e-3)


SIZES = ((1, 1), (1, 2), (2, 1), (3, 3), (17, 31), (31, 17), (1, 64), (64, 1), (4, 300))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "how",
    [{"codec": "mjpeg", "pix_fmt": "yuvj444p"}, {"pix_fmt": "yuv444p"}, VP9],
    ids=lambda how: how.get("codec"),
)
def test_sizes_however_small_or_odd(how: dict[str, Any], size: tuple[int, int], tmp_path: Path) -> None:
    frames = list(read_frames(videos.encode_numbers(tmp_path / "video.mkv", videos.constant(6), size=size, **how)))
    assert [(frame.picture.width, frame.picture.height) for frame in frames] == [size] * 6


def remuxed(source: Path, target: Path, move: float, *, container: dict[str, str] | None = None) -> Path:
    """The same packets, all later by `move` seconds."""
    with av.open(str(source)) as whole, av.open(str(target), "w", options=container or {}) as output:
        stream = whole.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for packet in whole.demux(stream):
            if packet.size:
                packet.pts += round(move / stream.time_base)
                packet.dts += round(move / stream.time_base)
                packet.stream = copy
                output.mux(packet)
    return target


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "nut", "flv"])
@pytest.mark.parametrize("first", [0.6, 100_000.0])
def test_a_late_start_is_kept(first: float, suffix: str, tmp_path: Path) -> None:
    path = remuxed(even(tmp_path / "video.mp4", {}), tmp_path / f"moved.{suffix}", first)
    frames = list(read_frames(path))
    assert numbers(frames) == list(range(COUNT))
    assert [frame.time for frame in frames] == pytest.approx([first + i / 25 for i in range(COUNT)], abs=1.01e-3)


def test_timestamps_that_wrap_around_go_on(tmp_path: Path) -> None:
    """Those of MPEG-TS have 33 bits, at 90 kHz: they begin anew after 95443.7 s."""
    path = remuxed(
        even(tmp_path / "video.mp4", {}),
        tmp_path / "wraps.ts",
        2**33 / 90_000 - 0.5,
        container={"mpegts_copyts": "1", "muxdelay": "0"},
    )
    with av.open(str(path)) as container:
        stamps = [packet.dts for packet in container.demux(video=0) if packet.size]
    assert len(stamps) == COUNT
    frames = list(read_frames(path))
    assert numbers(frames) == list(range(COUNT))
    assert np.diff([frame.time for frame in frames]) == pytest.approx(0.04, abs=1e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_gap_of_a_day_is_a_gap(suffix: str, tmp_path: Path) -> None:
    times = [*videos.constant(10), *videos.constant(10, first=86_400_000)]
    frames = list(read_frames(videos.encode_numbers(tmp_path / f"gap.{suffix}", times)))
    assert numbers(frames) == list(range(20))
    assert [frame.time for frame in frames] == pytest.approx([time / 1000 for time in times], abs=1.01e-3)


def test_ticks_in_a_gap_are_bounded(tmp_path: Path) -> None:
    path = videos.encode_numbers(tmp_path / "gap.mkv", [0, 40, 3_000_000])
    taken, retimed = [], samples(read_frames(path), Sampling(frames=8, fps=25), most=1000)
    with pytest.raises(VideoError, match="more than 1,000 frames sampled; raise --max-frames") as failure:
        taken.extend(retimed)
    assert failure.value.last_good_time == pytest.approx(3_000.0)


@pytest.mark.parametrize("beside", ["before", "after"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_streams_beside_the_video_change_nothing(suffix: str, beside: str, tmp_path: Path) -> None:
    """Packets of another stream must not be taken for the video's, nor end its decoder early."""
    source = even(tmp_path / "video.mp4", {})
    path = tmp_path / f"both.{suffix}"
    with av.open(str(source)) as video, av.open(str(path), "w") as output:
        if beside == "before":
            sound = output.add_stream("aac", rate=16000, layout="mono")
        copy = output.add_stream_from_template(video.streams.video[0])
        if beside == "after":
            sound = output.add_stream("aac", rate=16000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts, silence.time_base = 16000, 0, Fraction(1, 16000)
        output.mux(sound.encode(silence))
        for packet in video.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
        output.mux(sound.encode(None))
    assert numbers(list(read_frames(path))) == list(range(COUNT))


def test_a_time_code_track_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "coded.mov"
    source = even(tmp_path / "video.mp4", {})
    with av.open(str(source)) as video, av.open(str(path), "w") as output:
        copy = output.add_stream_from_template(video.streams.video[0])
        copy.metadata["timecode"] = "10:00:00:00"
        for packet in video.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video", "data"]
    assert numbers(list(read_frames(path))) == list(range(COUNT))


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    source, path = even(tmp_path / "video.mp4", {}), tmp_path / "covered.mp4"
    cover = av.VideoFrame.from_ndarray(np.full((400, 400, 3), 200, np.uint8))
    with av.open(str(source)) as video, av.open(str(path), "w") as output:
        picture = output.add_stream("png", rate=1)
        picture.width = picture.height = 400
        picture.pix_fmt = "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        copy = output.add_stream_from_template(video.streams.video[0])
        output.mux(picture.encode(cover))
        output.mux(picture.encode(None))
        for packet in video.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    assert numbers(list(read_frames(path))) == list(range(COUNT))


@pytest.mark.parametrize(("before", "after"), [(4, 0), (0, 16)])
def test_transport_packets_with_something_around_them(before: int, after: int, tmp_path: Path) -> None:
    """Of 192 bytes with a time in front (M2TS), of 204 with a checksum behind (DVB)."""
    data = even(tmp_path / "plain.ts", {}, COUNT).read_bytes()
    path = tmp_path / "padded.ts"
    path.write_bytes(b"".join(bytes(before) + data[i : i + 188] + bytes(after) for i in range(0, len(data), 188)))
    assert numbers(list(read_frames(path))) == list(range(COUNT))


CHANGES = {
    "h264-size": ("ts", [{"size": (96, 64)}, {"size": (192, 128)}, {"size": (48, 32)}]),
    "h264-depth": ("ts", [{"pix_fmt": "yuv420p"}, {"pix_fmt": "yuv444p"}, {"pix_fmt": "yuv420p10le"}]),
    "mpeg2-size": ("ts", [{"codec": "mpeg2video", "size": size, "options": SHARP} for size in ((96, 64), (192, 128))]),
    "vp8-size": ("ivf", [{**VP8, "size": size} for size in ((96, 64), (192, 128), (97, 63))]),
    "vp9-size": ("ivf", [{**VP9, "size": size} for size in ((96, 64), (192, 128), (97, 63))]),
    "av1-size": ("obu", [{**AV1, "size": size} for size in ((96, 64), (192, 128), (128, 96))]),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_pictures_may_change_in_the_middle(kind: str, tmp_path: Path) -> None:
    """IVF is joined as packets of one stream, as a conference is recorded; the others byte by byte."""
    suffix, parts = CHANGES[kind]
    paths = [even(tmp_path / f"{i}.{suffix}", how, 30) for i, how in enumerate(parts)]
    joined = tmp_path / f"joined.{'mkv' if suffix == 'ivf' else suffix}"
    if suffix != "ivf":
        joined.write_bytes(b"".join(path.read_bytes() for path in paths))
    else:
        with av.open(str(joined), "w") as output:
            copy = None
            for i, path in enumerate(paths):
                with av.open(str(path)) as part:
                    copy = copy or output.add_stream_from_template(part.streams.video[0])
                    for packet in part.demux(video=0):
                        if packet.size:
                            packet.pts = packet.dts = round(
                                (i * 30 + packet.pts * packet.time_base * 25) / 25 / packet.time_base
                            )
                            packet.stream = copy
                            output.mux(packet)
    frames = list(read_frames(joined))
    assert numbers(frames) == [*range(30)] * len(parts)
    assert len({(frame.picture.width, frame.picture.format.name) for frame in frames}) == len(parts)
    assert np.diff([frame.time for frame in frames]) == pytest.approx(0.04, abs=1.01e-3)


def test_a_packet_without_bytes_repeats_the_picture_before(tmp_path: Path) -> None:
    """So Theora and VirtualDub say that nothing changed."""
    source, path = even(tmp_path / "video.mp4", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}), tmp_path / "repeats.avi"
    with av.open(str(source)) as video, av.open(str(path), "w") as output:
        copy = output.add_stream_from_template(video.streams.video[0])
        for i, packet in enumerate(video.demux(video=0)):
            if packet.size and i % 3 == 0:
                packet.stream = copy
                output.mux(packet)
    frames = list(read_frames(path))
    assert numbers(frames) == list(range(0, COUNT, 3))
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(0, COUNT, 3)], abs=1e-3)


def test_memory_does_not_grow_with_pictures_shown(tmp_path: Path) -> None:
    path = even(tmp_path / "video.mp4", {})
    pictures: list[int] = []
    for frame in read_frames(path):
        pictures.append(frame.picture.planes[0].buffer_ptr)
    assert len(set(pictures)) < COUNT, "no buffer was used again"


NAMES = ("a%03d.mp4", "-leading.mp4", "new\nline.mp4", "esc\x1b[31m.mp4", "http:x.mp4", "concat:a|b.mp4", "\udcff\udcfe.mp4")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_only_a_name(name: str, tmp_path: Path) -> None:
    path = even(tmp_path / "plain.mp4", {}, 5).rename(tmp_path / name)
    assert numbers(list(read_frames(path))) == list(range(5))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    """By EXIF tag 0x112: 1 upright, 2 mirrored, 3 upside down, ... ; the rest of EXIF data must not disturb."""
    upright = videos.numbered(0b10110001)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = orientation, "Maker"
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"0.{suffix}", exif=exif, quality=95)
    [frame] = read_frames(tmp_path)
    shown = frame.orientation.turn(frame.picture.to_ndarray(format="rgb24"))
    assert shown.shape == upright.shape
    assert videos.number_in(shown) == 0b10110001


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_the_number_of_frames_is_bounded(suffix: str, tmp_path: Path) -> None:
    path = even(tmp_path / f"video.{suffix}", {})
    frames = []
    with pytest.raises(VideoError, match=r"more than 10 frames; raise --max-frames") as failure:
        frames.extend(itertools.islice(read_frames(path, limits=Limits(frames=10)), 100))
    assert failure.value.last_good_time == pytest.approx(frames[-1].end if frames else failure.value.last_good_time)
    assert len(list(read_frames(path, limits=Limits(frames=COUNT)))) == COUNT


def test_frames_in_memory_need_no_bound() -> None:
    assert len(list(read_frames(Frames(np.zeros((3, 4, 4, 3), np.uint8), 25.0), limits=Limits(frames=1)))) == 3
