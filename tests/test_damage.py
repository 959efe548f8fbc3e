"""Damage in the middle of a video costs the clips that touch it; all others are those of the undamaged video, to the bit."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from ig65m.collection.listing import find_videos
from ig65m.errors import UsageError, VideoError
from ig65m.search.hits import Hit, merged
from ig65m.types import Clip, Limits, Preprocessing
from ig65m.video.clips import clips_of, uniform_clips
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.isolation import Decoder
from ig65m.video.reader import read_frames
from ig65m.video.sample_reader import read_samples
from ig65m.video.sampling import Sampling
from tests import videos

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not videos.HAVE_FFPROBE, reason="needs ffmpeg (Debian package ffmpeg)"),
]

VMZ = Preprocessing(resize=(128, 171), crop=(112, 112), mean=(0, 0, 0), std=(1, 1, 1))
SAMPLING = Sampling(frames=8, frame_step=2)
SOURCE = "-f lavfi -i testsrc2=s=176x144:r=30000/1001:d=20,noise=alls=8 -f lavfi -i sine=d=20"
H264 = "-c:v libx264 -preset veryfast -g 45 -pix_fmt yuv420p -c:a aac"
KINDS = {
    "h264.mp4": H264,
    "h264.mkv": H264,
    "h264.ts": H264,
    "h264.m2ts": f"{H264} -mpegts_m2ts_mode 1 -f mpegts",
    "h264.flv": H264,
    "h264-annexb.avi": H264.replace("aac", "pcm_s16le"),
    "mpeg4.avi": "-c:v mpeg4 -q:v 6 -g 30 -c:a libmp3lame",
    "mpeg4-b-frames.avi": "-c:v mpeg4 -q:v 6 -g 30 -bf 2 -c:a libmp3lame",
    "mpeg2.ts": "-c:v mpeg2video -b:v 1M -g 15 -bf 2 -c:a mp2",
    "mpeg2.mkv": "-c:v mpeg2video -b:v 1M -g 15 -bf 2 -c:a mp2",
    "hevc-open-groups.ts": "-c:v libx265 -preset ultrafast -x265-params log-level=none:pools=1:keyint=30 -pix_fmt yuv420p",
    "h264-open-groups.mkv": f"{H264} -x264-params open-gop=1:bframes=3",
}


def ffmpeg(arguments: str, *paths: Path) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", *arguments.split(), *map(str, paths)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A video of 20 s of each kind, encoded once."""
    folder = tmp_path_factory.mktemp("whole")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            ffmpeg(f"{SOURCE} {KINDS[name]}", path)
        return path

    return make


def with_zeros(source: Path, target: Path, shares: list[float], length: int = 400) -> Path:
    """A copy of a file in which parts are overwritten with zeros, as a disk gives what it cannot read any more.

    Each part starts in the middle of the picture that is at that share of the video.
    """
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for share in shares:
        packet = packets[int(len(packets) * share)]
        start = packet.pos + packet.size // 2
        data[start : start + length] = bytes(length)
    target.write_bytes(data)
    return target


def read_clips(source: Path, sampling: Sampling = SAMPLING) -> tuple[list[Clip], VideoError | None]:
    clips: list[Clip] = []
    try:
        clips.extend(clips_of(read_samples(source, sampling, VMZ), sampling))
    except VideoError as error:
        return clips, error
    return clips, None


def touches(clip: Clip, gap: tuple[float, float]) -> bool:
    return clip.span.start < gap[1] - 2e-3 and gap[0] < clip.span.end - 2e-3


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("share", [0.31, 0.5, 0.66])
def test_all_clips_that_touch_no_damage_are_kept(name: str, share: float, whole: Callable[[str], Path], tmp_path: Path) -> None:
    source = whole(name)
    expected, failure = read_clips(source)
    assert failure is None
    path = with_zeros(source, tmp_path / name, [share])
    found, failure = read_clips(path)
    assert failure is not None
    assert 1 <= len(failure.gaps) <= 2
    assert sum(end - start for start, end in failure.gaps) < 6
    assert f"{failure.gaps[0][0]:.3f} to {failure.gaps[0][1]:.3f} s" in str(failure)
    assert failure.last_good_time == pytest.approx(expected[-1].span.end, abs=0.2)
    kept = [clip for clip in expected if not any(touches(clip, gap) for gap in failure.gaps)]
    assert [clip.span.first_frame for clip in found] == [clip.span.first_frame for clip in kept]
    for clip, good in zip(found, kept, strict=True):
        assert (clip.pixels == good.pixels).all()
        assert (clip.span.start, clip.span.end) == pytest.approx((good.span.start, good.span.end), abs=2e-3)
    assert len(found) < len(expected)


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "h264.ts", "mpeg4.avi"])
def test_every_way_to_ask_leaves_out_the_same_clips(name: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    source = whole(name)
    path = with_zeros(source, tmp_path / name, [0.5])
    gap = read_clips(path)[1].gaps[0]
    for sampling in (
        Sampling(frames=8, fps=15.0),
        Sampling(frames=8, frame_step=2, start=2.0),
        Sampling(frames=8, frame_step=2, start=gap[0] - 3, end=gap[1] + 3),
        Sampling(frames=8, starts=(0, 100, 290, 300, 310, 320, 400)),
        Sampling(frames=4, fps=3.0, stride=2),
    ):
        expected, _ = read_clips(source, sampling)
        found, failure = read_clips(path, sampling)
        assert failure is not None
        assert len(failure.gaps) == 1
        kept = [clip for clip in expected if not touches(clip, failure.gaps[0])]
        assert [clip.span.first_frame for clip in found] == [clip.span.first_frame for clip in kept]
        assert all((clip.pixels == good.pixels).all() for clip, good in zip(found, kept, strict=True))
    after = Sampling(frames=8, start=gap[1] + 2)
    assert read_clips(path, after)[1] is None
    assert len(read_clips(path, Sampling(frames=8, end=gap[0] - 2))[0]) == len(
        read_clips(source, Sampling(frames=8, end=gap[0] - 2))[0]
    )


def test_clips_spread_over_a_damaged_video(whole: Callable[[str], Path], tmp_path: Path) -> None:
    source = whole("h264.mp4")
    path = with_zeros(source, tmp_path / "damaged.mp4", [0.56])

    def spread(video: Path) -> tuple[list[Clip], VideoError | None]:
        clips: list[Clip] = []
        try:
            clips.extend(uniform_clips(lambda sampling: read_samples(video, sampling, VMZ), SAMPLING, 10))
        except VideoError as error:
            return clips, error
        return clips, None

    (expected, _), (found, failure) = spread(source), spread(path)
    assert failure is not None
    kept = [clip for clip in expected if not touches(clip, failure.gaps[0])]
    assert [clip.span for clip in found] == [clip.span for clip in kept]
    assert 7 <= len(found) < 10


def test_a_worker_says_the_same(whole: Callable[[str], Path], tmp_path: Path) -> None:
    path = with_zeros(whole("h264.mkv"), tmp_path / "damaged.mkv", [0.3, 0.7])
    expected, failure = read_clips(path)
    found: list[Clip] = []
    with Decoder(Limits()) as decoder, pytest.raises(VideoError) as raised:
        found.extend(clips_of(decoder.read_samples(path, SAMPLING, VMZ, image_fps=25.0), SAMPLING))
    assert [clip.span for clip in found] == [clip.span for clip in expected]
    assert (str(raised.value), raised.value.gaps) == (str(failure), failure.gaps)
    assert raised.value.last_good_time == failure.last_good_time


def test_a_packet_damaged_at_its_end_is_not_given(tmp_path: Path) -> None:
    """The decoder notices only that the next one makes no sense."""
    options = {"g": "20", "bf": "0", "sc_threshold": "0"}
    source = videos.encode_numbers(tmp_path / "whole.mp4", videos.constant(60), options=options)
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place = packets[30].pos
    data = bytearray(source.read_bytes())
    data[place - 2 : place + 8] = b"\xa5" * 10
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    lost = [number for number, frame in enumerate(read_frames(damaged)) if isinstance(frame, LostFrame)]
    assert lost == list(range(29, 40))


def test_a_video_of_nothing_but_damage_is_given_up(whole: Callable[[str], Path], tmp_path: Path) -> None:
    """A thousand gaps are enough."""
    source = tmp_path / "many.avi"
    ffmpeg("-f lavfi -i testsrc2=s=96x64:r=30:d=120 -c:v mpeg4 -g 1 -q:v 5", source)
    with av.open(str(source)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(source.read_bytes())
    for position, size in places[3::3]:
        data[position + size // 3 : position + size // 3 * 2] = bytes(size // 3 * 2 - size // 3)
    source.write_bytes(data)
    with pytest.raises(VideoError, match="damaged in more than 1000 places") as failure:
        list(read_samples(source, SAMPLING, VMZ))
    assert len(failure.value.gaps) == 1000


SEGMENT = "-f lavfi -i testsrc2=s=96x64:r=30:d=8 -f lavfi -i sine=d=8 -g 30"
SEGMENTS = {
    "sound": "-c:v libx264 -pix_fmt yuv420p -c:a aac -segment_format mpegts",
    "silent": "-an -c:v libx264 -pix_fmt yuv420p -segment_format mpegts",
    "m2ts": "-c:v libx264 -pix_fmt yuv420p -c:a aac -segment_format mpegts -segment_format_options mpegts_m2ts_mode=1",
    "mpeg2": "-an -c:v mpeg2video -bf 2 -b:v 1M -segment_format mpegts",
    "open-groups": "-an -c:v libx264 -pix_fmt yuv420p -x264-params open-gop=1:bframes=3 -segment_format mpegts",
}


@pytest.mark.parametrize("kind", SEGMENTS)
def test_segments_of_one_recording_joined_lost_nothing(kind: str, tmp_path: Path) -> None:
    ffmpeg(f"{SEGMENT} {SEGMENTS[kind]} -f segment -segment_time 2", tmp_path / "%02d.ts")
    parts = sorted(tmp_path.glob("0*.ts"))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(path.read_bytes() for path in parts))
    frames = list(read_frames(joined))
    assert len(parts) >= 4
    assert len(frames) == 240
    assert not any(isinstance(frame, LostFrame) for frame in frames)
    assert np.diff([frame.time for frame in frames]) == pytest.approx(1 / 30, abs=1e-3)


@pytest.mark.parametrize("offset", [0, 5, 3600])
def test_a_jump_of_the_clock_between_segments_is_no_loss(offset: int, tmp_path: Path) -> None:
    """Each segment has an encoder of its own. Where the clock jumps on, the times say so; where it starts anew, they go on."""
    parts = []
    for number in range(3):
        part = tmp_path / f"{number}.ts"
        how = f"-c:v libx264 -g 30 -pix_fmt yuv420p -output_ts_offset {number * offset}"
        ffmpeg(f"-f lavfi -i testsrc2=s=96x64:r=30:d=2 {how}", part)
        parts.append(part.read_bytes())
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts))
    frames = list(read_frames(joined))
    assert len(frames) == 180
    assert not any(isinstance(frame, LostFrame) for frame in frames)
    assert [frame.end - frame.time for frame in frames] == pytest.approx([1 / 30] * 180, abs=1e-3)
    assert frames[60].time - frames[59].end == pytest.approx(max(0, offset - 2), abs=0.1)


def test_packets_lost_at_the_start_of_a_segment_are_a_loss(tmp_path: Path) -> None:
    ffmpeg("-f lavfi -i testsrc2=s=176x144:r=30:d=8 -c:v libx264 -g 30 -pix_fmt yuv420p", tmp_path / "whole.ts")
    data = (tmp_path / "whole.ts").read_bytes()
    whole = list(read_frames(tmp_path / "whole.ts"))
    for share in np.linspace(0.3, 0.7, 9):
        start = int(len(data) * share) // 188 * 188
        lossy = tmp_path / "lossy.ts"
        lossy.write_bytes(data[:start] + data[start + 188 * 9 :])
        frames = list(read_frames(lossy))
        assert [frame.time for frame in frames] == pytest.approx([frame.time for frame in whole], abs=1e-3)
        assert any(isinstance(frame, LostFrame) for frame in frames)
        for frame, good in zip(frames, whole, strict=True):
            assert isinstance(frame, LostFrame) or (frame.picture.to_ndarray() == good.picture.to_ndarray()).all()


def crc(data: bytes) -> int:
    """That of MPEG-2 systems; source: ISO/IEC 13818-1, annex A."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return value


def with_new_map(data: bytes, version: int) -> bytes:
    """A transport stream whose programme map has another version number, so that readers look at it again."""
    changed = bytearray(data)
    for place in range(0, len(changed), 188):
        if (changed[place + 1] & 0x1F) << 8 | changed[place + 2] == 0x1000 and changed[place + 1] & 0x40:
            table = place + 5
            size = ((changed[table + 1] & 0x0F) << 8 | changed[table + 2]) + 3
            changed[table + 5] = changed[table + 5] & 0xC1 | version << 1
            changed[table + size - 4 : table + size] = crc(changed[table : table + size - 4]).to_bytes(4, "big")
    return bytes(changed)


def test_a_programme_that_goes_on_under_another_number(tmp_path: Path) -> None:
    """FFmpeg keeps the last picture under the old number back until the end of the file."""
    how = "-f lavfi -i testsrc2=s=96x64:r=30:d=4 -c:v libx264 -g 15 -pix_fmt yuv420p"
    first, second, joined = (tmp_path / name for name in ("first.ts", "second.ts", "joined.ts"))
    ffmpeg(f"{how} -streamid 0:257", first)
    ffmpeg(f"{how} -streamid 0:301 -output_ts_offset 4.1 -mpegts_flags +resend_headers", second)
    joined.write_bytes(first.read_bytes() + with_new_map(second.read_bytes(), 1))
    frames = list(read_frames(joined))
    expected = [*read_frames(first), *read_frames(second)]
    assert len(frames) == 240
    assert [frame.time for frame in frames] == pytest.approx([frame.time for frame in expected], abs=1e-3)
    for frame, good in zip(frames, expected, strict=True):
        assert isinstance(frame, Frame)
        assert (frame.picture.to_ndarray() == good.picture.to_ndarray()).all()


def test_a_second_video_stream_that_goes_on_is_reported(tmp_path: Path) -> None:
    """Two cameras one after the other, each with a track of its own: one of them is read."""
    one, other, both = (tmp_path / name for name in ("one.mp4", "other.mp4", "both.mkv"))
    for path in (one, other):
        ffmpeg("-f lavfi -i testsrc2=s=96x64:r=30:d=3 -c:v libx264 -pix_fmt yuv420p", path)
    ffmpeg(f"-i {one} -itsoffset 3 -i {other} -map 0 -map 1 -c copy", both)
    frames: list[Any] = []
    with pytest.raises(VideoError, match=r"another one \(number 1\) goes on from 3\.\d+ to 6\.\d+ s and was left out"):
        frames.extend(read_frames(both))
    assert read_clips(both)[1] is not None


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_start_before_the_first_marked_key_frame(suffix: str, tmp_path: Path) -> None:
    """A seek that fails has moved: what lies between the start and the second key frame comes all the same."""
    source = tmp_path / f"source.{suffix}"
    ffmpeg("-f lavfi -i testsrc2=s=96x64:r=30:d=4 -c:v libx264 -g 30 -pix_fmt yuv420p", source)
    data = bytearray(source.read_bytes())
    table = data.index(b"stss")
    data[table + 12 : table + 16] = data[table + 16 : table + 20]  # the first key frame is not in the list
    source.write_bytes(data)
    whole = [frame.time for frame in read_frames(source)]
    for start in (0.1, 0.5, 0.99, 1.5):
        late = [frame.time for frame in read_frames(source, start=start) if frame.time >= start]
        assert late == [time for time in whole if time >= start]


def test_tolerances_end_where_frames_are_shorter(tmp_path: Path) -> None:
    path = tmp_path / "fast.mp4"
    ffmpeg("-f lavfi -i testsrc2=s=96x64:r=2000:d=0.3 -c:v libx264 -pix_fmt yuv420p", path)
    times = [tick.time for tick in read_samples(path, Sampling(frames=1, start=0.1, end=0.11), VMZ)]
    assert times == [number / 2000 for number in range(200, 220)]


def test_an_encrypted_video_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "encrypted.mp4"
    key = "-encryption_scheme cenc-aes-ctr -encryption_key 00112233445566778899aabbccddeeff -encryption_kid " + "ab" * 16
    ffmpeg(f"-f lavfi -i testsrc2=s=96x64:d=1 -c:v libx264 -pix_fmt yuv420p {key}", path)
    with pytest.raises(VideoError, match="its video is encrypted; decrypt it first"):
        list(read_frames(path))


def test_a_single_image_is_called_so(tmp_path: Path) -> None:
    for name in ("one.jpg", "one.png"):
        ffmpeg("-f lavfi -i testsrc2=s=96x64:d=1 -frames:v 1", tmp_path / name)
        with pytest.raises(VideoError, match="found a single image; give a folder of images"):
            list(read_frames(tmp_path / name))


def test_photographs_in_heic_and_avif_are_refused(tmp_path: Path) -> None:
    """FFmpeg would read one tile of the picture."""
    for brand in (b"heic", b"mif1", b"avif"):
        path = tmp_path / "photo.heic"
        path.write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(200))
        with pytest.raises(VideoError, match="found a single image"):
            list(read_frames(path))
        with pytest.raises(UsageError, match="it has 1 photographs in HEIC or AVIF, which must be converted to JPEG"):
            find_videos([str(tmp_path)])


def test_a_configuration_that_flv_repeats_is_no_damage(tmp_path: Path) -> None:
    """Streaming servers write the decoder's configuration again and again; FFmpeg gives no packet for it."""
    source = tmp_path / "whole.flv"
    ffmpeg("-f lavfi -i testsrc2=s=96x64:r=30:d=4 -c:v libx264 -g 30 -pix_fmt yuv420p", source)
    data, tags, place = source.read_bytes(), [], 13
    while place < len(data):
        end = place + 15 + int.from_bytes(data[place + 1 : place + 4], "big")
        tags.append(data[place:end])
        place = end
    configuration = next(tag for tag in tags if tag[0] == 9 and tag[12] == 0)
    pictures = [number for number, tag in enumerate(tags) if tag[0] == 9 and tag[12] == 1]
    for number in reversed(pictures[30::30]):
        tags.insert(number, configuration[:4] + tags[number][4:8] + configuration[8:])
    repeated = tmp_path / "repeated.flv"
    repeated.write_bytes(data[:13] + b"".join(tags))
    frames = list(read_frames(repeated))
    assert len(frames) == 120
    assert not any(isinstance(frame, LostFrame) for frame in frames)


def test_search_tells_clips_apart_that_are_shorter_than_a_millisecond() -> None:
    hits = [Hit("a", "/a", 1.0, number * 5e-4, number * 5e-4 + 2e-4) for number in range(3)]
    assert len(merged(hits)) == 3
    assert len(merged([Hit("a", "/a", 1.0, 0.0, 0.5), Hit("a", "/a", 0.9, 0.5009, 1.0)])) == 1
