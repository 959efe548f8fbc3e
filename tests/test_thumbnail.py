"""Pictures of videos for people: the right moment, upright, in their own aspect ratio, out of a worker."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from ig65m.errors import UsageError, VideoError
from ig65m.types import Limits
from ig65m.video import isolation
from ig65m.video.isolation import Decoder, close_idle, keep_idle
from ig65m.video.jobs import View
from ig65m.video.thumbnail import read_picture
from tests.videos import constant, encode, encode_numbers, number_in


def picture(path, time, edge=96, **limits):
    return read_picture(path, View(time, edge), image_fps=25, limits=Limits(**limits))


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize("time", [0, 0.5, 1.02, 2.9, 3.99, 1e6])
def test_it_is_the_one_that_is_shown_at_the_time(tmp_path, container, time):
    path = encode_numbers(tmp_path / f"video.{container}", constant(100), options={"g": "12"})
    with av.open(str(path)) as video:
        first = float((video.streams.video[0].start_time or 0) * video.streams.video[0].time_base)
    shown = number_in(picture(path, time + (first if time < 100 else 0)))
    exact = min(99, int(time / 0.04 + 1e-6))
    assert shown == exact if container in ("mp4", "mkv") else abs(shown - exact) <= 12


@pytest.mark.parametrize("lies", ["every", "none"])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_it_is_exact_where_key_frames_are_marked_wrongly(tmp_path, container, lies):
    source = encode_numbers(tmp_path / "source.mp4", constant(100), options={"g": "12", "bf": "3", "sc_threshold": "0"})
    path = tmp_path / f"lies.{container}"
    with av.open(str(source)) as whole, av.open(str(path), "w") as output:
        copy = output.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if packet.size:
                packet.stream, packet.is_keyframe = copy, lies == "every" or number == 0
                output.mux(packet)
    assert [number_in(picture(path, number / 25 + 0.001)) for number in range(100)] == list(range(100))


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_it_is_exact_far_from_its_key_frame(tmp_path, container, monkeypatch):
    """The index tells where it is, and everything from the key frame on is decoded."""
    monkeypatch.setattr("ig65m.video.thumbnail.MOST_DECODED", 20)
    path = encode_numbers(tmp_path / f"video.{container}", constant(100), options={"g": "60", "sc_threshold": "0"})
    assert [number_in(picture(path, time, frames=30)) for time in (0.1, 1.0, 2.2, 3.6, 3.99)] == [2, 25, 55, 90, 99]


def test_before_the_start_it_is_the_first(tmp_path):
    path = encode_numbers(tmp_path / "late.mp4", constant(30, first=2000))
    assert number_in(picture(path, 0)) == 0
    assert number_in(picture(path, 2.5)) == 12


@pytest.mark.parametrize(("degrees", "shape"), [(0, (64, 96, 3)), (90, (96, 64, 3)), (180, (64, 96, 3))])
def test_it_is_upright(tmp_path, degrees, shape):
    pictures = np.zeros((10, 64, 96, 3), np.uint8)
    pictures[:, :16, :24] = 255
    path = encode(tmp_path / "turned.mp4", pictures, constant(10), display={"degrees": degrees} if degrees else None)
    shown = picture(path, 0.1)
    assert shown.shape == shape
    ends = (slice(0, 8), slice(-8, None))
    bright = [shown[rows, columns].mean() > 200 for rows in ends for columns in ends]
    assert sum(bright) == 1
    if degrees == 0:
        assert bright[0]


def test_it_is_fitted_and_never_enlarged(tmp_path, bigbuckbunny):
    assert picture(bigbuckbunny, 1, 320).shape == (180, 320, 3)
    small = encode_numbers(tmp_path / "small.mp4", constant(5))
    assert picture(small, 0, 320).shape == (64, 96, 3)


def test_pixels_need_not_be_square(tmp_path):
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    assert picture(path, 0, 96).shape == (48, 96, 3)


def test_a_folder_of_images_has_pictures_too(tmp_path):
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((20, 30, 3), number * 40, np.uint8))
    assert [round(float(picture(tmp_path, time).mean())) for time in (0, 0.05, 0.16, 9)] == [0, 40, 160, 160]


def test_what_is_no_video_is_an_error(tmp_path, bigbuckbunny):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    for name in ("text.mp4", "empty.mp4", "none.mp4", "."):
        with pytest.raises(VideoError):
            picture(tmp_path / name, 0)
    with pytest.raises(VideoError, match="1280x720"):
        picture(bigbuckbunny, 0, pixels=500_000)
    with pytest.raises(UsageError, match="edge"):
        picture(bigbuckbunny, 0, 0)


def test_a_damaged_end_gives_the_last_good_picture(tmp_path):
    whole = encode_numbers(tmp_path / "whole.ts", constant(100))
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 0 < number_in(picture(cut, 3.9)) < 99


def test_a_worker_gives_the_same(bigbuckbunny, tmp_path):
    with Decoder(Limits()) as decoder:
        there = decoder.read_picture(bigbuckbunny, View(1, 200))
        np.testing.assert_array_equal(there, picture(bigbuckbunny, 1, 200))
        with pytest.raises(VideoError, match="No such file"):
            decoder.read_picture(tmp_path / "none.mp4", View(0, 10))
        np.testing.assert_array_equal(decoder.read_picture(bigbuckbunny, View(1, 200)), there)


def test_a_worker_that_dies_costs_one_picture(bigbuckbunny):
    with Decoder(Limits()) as decoder:
        decoder.read_picture(bigbuckbunny, View(0, 50))
        decoder.interrupt()
        with pytest.raises(VideoError, match="crashed"):
            decoder.read_picture(bigbuckbunny, View(0, 50))
        assert decoder.read_picture(bigbuckbunny, View(0, 50)).shape == (28, 50, 3)


def test_as_many_workers_idle_as_are_wanted(tmp_path):
    close_idle()
    keep_idle(2)
    try:
        decoders = [Decoder(Limits()) for _ in range(3)]
        for decoder in decoders:
            decoder.__enter__()
        assert isolation._idle == []
        for decoder in decoders:
            decoder.__exit__(None, None, None)
        assert len(isolation._idle) == 2
        pids = {worker.process.pid for worker in isolation._idle}
        with Decoder(Limits()) as one, Decoder(Limits()) as other:
            assert {one._worker.process.pid, other._worker.process.pid} == pids
    finally:
        keep_idle(1)
        close_idle()
    assert isolation._idle == []
