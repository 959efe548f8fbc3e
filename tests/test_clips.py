import resource
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from ig65m.errors import UsageError, VideoError
from ig65m.types import Clip, Frames, Preprocessing
from ig65m.video import sample_reader
from ig65m.video.clips import clips_of
from ig65m.video.sample_reader import read_samples
from ig65m.video.sampling import Sampling
from tests import videos

WHOLE = Preprocessing(resize=(32, 64), crop=(32, 64), mean=(0, 0, 0), std=(1, 1, 1))
"""Resizes and cuts nothing off, so that the numbers in the pictures can be read."""

VMZ = Preprocessing(resize=(128, 171), crop=(112, 112), mean=(0, 0, 0), std=(1, 1, 1))


def read_clips(source: Path | Frames, sampling: Sampling, preprocessing: Preprocessing, **options: float) -> Iterator[Clip]:
    return clips_of(read_samples(source, sampling, preprocessing, **options), sampling)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 frames, one each 40 ms from 0.48 s on."""
    path = tmp_path_factory.mktemp("clips") / "video.mp4"
    return videos.encode_numbers(path, videos.constant(50, first=480), options={"g": "10"})


def shown(clip: Clip) -> list[int]:
    return [videos.number_in(picture) for picture in clip.pixels]


def spans(clips: list[Clip]) -> list[tuple[float, float]]:
    return [(round(clip.span.start, 3), round(clip.span.end, 3)) for clip in clips]


def read_until_failure(path: Path, sampling: Sampling) -> tuple[list[Clip], VideoError]:
    reading, clips = read_clips(path, sampling, WHOLE), []
    while True:
        try:
            clips.append(next(reading))
        except VideoError as failure:
            return clips, failure


def test_clips_are_consecutive_and_the_last_is_padded(video: Path) -> None:
    clips = list(read_clips(video, Sampling(frames=16), WHOLE))
    assert [shown(clip) for clip in clips] == [
        list(range(16)),
        list(range(16, 32)),
        list(range(32, 48)),
        [48] + [49] * 15,
    ]
    assert spans(clips) == [(0.48, 1.12), (1.12, 1.76), (1.76, 2.4), (2.4, 2.48)]
    assert {(clip.pixels.shape, clip.pixels.dtype.name) for clip in clips} == {((16, 32, 64, 3), "uint8")}


def test_dropping_the_tail(video: Path) -> None:
    clips = list(read_clips(video, Sampling(frames=16, tail="drop"), WHOLE))
    assert spans(clips) == [(0.48, 1.12), (1.12, 1.76), (1.76, 2.4)]


def test_step_and_stride(video: Path) -> None:
    clips = list(read_clips(video, Sampling(frames=4, frame_step=3, stride=20), WHOLE))
    assert [shown(clip) for clip in clips] == [[0, 3, 6, 9], [20, 23, 26, 29], [40, 43, 46, 49]]
    assert spans(clips) == [(0.48, 0.88), (1.28, 1.68), (2.08, 2.48)]


def test_start_and_end(video: Path) -> None:
    clips = list(read_clips(video, Sampling(frames=5, start=1.0, end=1.4), WHOLE))
    assert [shown(clip) for clip in clips] == [[13, 14, 15, 16, 17], [18, 19, 20, 21, 22]]
    assert spans(clips) == [(1.0, 1.2), (1.2, 1.4)]


def test_a_rate_chooses_frames(video: Path) -> None:
    [clip] = read_clips(video, Sampling(frames=20, fps=10), WHOLE)
    assert shown(clip) == [int(k * 2.5) for k in range(20)]


def test_variable_rate(tmp_path: Path) -> None:
    path = videos.encode_numbers(tmp_path / "uneven.mkv", [0, 500, 520, 540, 1000])
    clips = list(read_clips(path, Sampling(frames=2), WHOLE))
    assert [shown(clip) for clip in clips] == [[0, 1], [2, 3], [4, 4]]
    assert spans(clips)[:2] == [(0.0, 0.52), (0.52, 1.0)]
    [clip] = read_clips(path, Sampling(frames=10, fps=10, end=1.0), WHOLE)
    assert shown(clip) == [0, 0, 0, 0, 0, 1, 3, 3, 3, 3]


def test_a_video_shorter_than_a_clip_still_gives_one(video: Path) -> None:
    for tail in ("pad", "drop"):
        [clip] = read_clips(video, Sampling(frames=64, tail=tail), WHOLE)
        assert shown(clip) == [*range(50), *[49] * 14]
        assert spans([clip]) == [(0.48, 2.48)]


def test_sources_agree(video: Path, tmp_path: Path) -> None:
    with av.open(str(video)) as container:
        array = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    folder = tmp_path / "images"
    folder.mkdir()
    for number, picture in enumerate(array):
        encoder = av.CodecContext.create("png", "w")
        encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = 64, 96, "rgb24", videos.MILLISECONDS
        packets = [*encoder.encode(av.VideoFrame.from_ndarray(picture)), *encoder.encode(None)]
        (folder / f"{number}.png").write_bytes(b"".join(bytes(packet) for packet in packets))
    sampling = Sampling(frames=16, stride=10)
    from_memory = list(read_clips(Frames(array, fps=12.5), sampling, WHOLE))
    from_folder = list(read_clips(str(folder), sampling, WHOLE, image_fps=12.5))
    from_file = list(read_clips(str(video), sampling, WHOLE))
    assert [shown(clip) for clip in from_memory] == [shown(clip) for clip in from_folder] == [shown(clip) for clip in from_file]
    assert [clip.span for clip in from_memory] == [clip.span for clip in from_folder]
    assert spans(from_memory)[1] == (0.8, 2.08)
    assert all((a.pixels == b.pixels).all() for a, b in zip(from_memory, from_folder, strict=True))


def test_float_pixels(video: Path) -> None:
    original = Preprocessing(resize=(32, 64), crop=(32, 64), mean=(0, 0, 0), std=(1, 1, 1), resampling="float_bilinear")
    clip = next(iter(read_clips(video, Sampling(frames=8), original)))
    assert clip.pixels.dtype == np.float32
    assert clip.pixels.max() > 200
    assert shown(clip) == list(range(8))


@pytest.mark.parametrize(
    ("sampling", "resized"),
    [
        (Sampling(frames=16, stride=1), 50),
        (Sampling(frames=8, frame_step=2, stride=4), 25),
        (Sampling(frames=4, frame_step=3, stride=20), 12),
        (Sampling(frames=8, fps=100), 50),
        (Sampling(frames=8, fps=5), 10),
    ],
)
def test_a_frame_is_resized_once_and_only_if_a_clip_shows_it(
    sampling: Sampling, resized: int, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(frame, *rest):
        calls.append(frame.time)
        return to_pixels(frame, *rest)

    to_pixels = sample_reader.to_pixels
    monkeypatch.setattr(sample_reader, "to_pixels", counted)
    for _ in read_clips(video, sampling, WHOLE):
        pass
    assert len(calls) == len(set(calls)) == resized


def test_clips_come_while_the_video_is_read(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counted(*args, **kwargs) -> Iterator[object]:
        for frame in read_frames(*args, **kwargs):
            read.append(frame.time)
            yield frame

    read_frames = sample_reader.read_frames
    monkeypatch.setattr(sample_reader, "read_frames", counted)
    next(iter(read_clips(video, Sampling(frames=16), WHOLE)))
    assert len(read) == 16


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(bikes: Path, tmp_path: Path) -> None:
    """3000 frames of 640x272 are 780 MB decoded, and 110 MB resized."""

    def peak(path: Path) -> int:
        for _ in read_clips(path, Sampling(frames=32, stride=16), VMZ):
            pass
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    short = peak(bikes)
    assert peak(videos.repeated(bikes, tmp_path / "long.mp4", 12)) - short < 50_000


@pytest.mark.parametrize("tail", ["pad", "drop"])
def test_what_was_decoded_before_a_video_breaks_off_is_kept(tail: str, tmp_path: Path) -> None:
    whole = videos.encode_numbers(tmp_path / "whole.mkv", videos.constant(100), options={"g": "10"})
    data, cut = whole.read_bytes(), tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 6 // 10])
    clips, failure = read_until_failure(cut, Sampling(frames=16, tail=tail))
    frames = round(failure.last_good_time / 0.04)
    assert len(clips) == (frames // 16 if tail == "drop" else -(-frames // 16))
    assert shown(clips[0]) == list(range(16))
    assert spans(clips)[-1][1] == pytest.approx(failure.last_good_time if tail == "pad" else frames // 16 * 0.64)
    assert "breaks off at" in str(failure)


def test_a_range_before_the_break_is_whole(tmp_path: Path) -> None:
    whole = videos.encode_numbers(tmp_path / "whole.mkv", videos.constant(100), options={"g": "10"})
    data, cut = whole.read_bytes(), tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 6 // 10])
    [clip] = read_clips(cut, Sampling(frames=16, end=0.64), WHOLE)
    assert shown(clip) == list(range(16))


def test_a_folder_with_a_broken_image_keeps_what_came_before(tmp_path: Path) -> None:
    for number in range(3):
        encoder = av.CodecContext.create("png", "w")
        encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = 64, 96, "rgb24", videos.MILLISECONDS
        packets = [*encoder.encode(av.VideoFrame.from_ndarray(videos.numbered(number))), *encoder.encode(None)]
        (tmp_path / f"{number}.png").write_bytes(b"".join(bytes(packet) for packet in packets))
    (tmp_path / "3.png").touch()
    clips, failure = read_until_failure(tmp_path, Sampling(frames=2))
    assert [shown(clip) for clip in clips] == [[0, 1], [2, 2]]
    assert failure.last_good_time == pytest.approx(0.12)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"start": 5.0}, r"no frame from 5.0 s to its end: its frames end at 2.480 s"),
        ({"end": 0.2}, r"no frame from its beginning to 0.2 s: its first frame is at 0.480 s"),
        ({"start": 1.003, "end": 1.03}, "no frame starts from 1.003 s to 1.03 s; give a longer range"),
    ],
)
def test_a_range_without_frames_is_refused_with_the_videos_own(times: dict[str, float], message: str, video: Path) -> None:
    with pytest.raises(UsageError, match=message):
        list(read_clips(video, Sampling(frames=16, **times), WHOLE))


def test_stopping_early_closes_the_file(video: Path) -> None:
    reading = read_clips(video, Sampling(frames=8), WHOLE)
    next(reading)
    opened = [Path(link).resolve() for link in Path("/proc/self/fd").iterdir()]
    assert video.resolve() in opened
    reading.close()
    opened = [Path(link).resolve() for link in Path("/proc/self/fd").iterdir()]
    assert video.resolve() not in opened
