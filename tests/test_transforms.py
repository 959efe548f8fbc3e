"""Against VMZ's rule written out in numpy, and against what ig65m-pytorch called: OpenCV and torch."""

import subprocess
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ig65m.errors import VideoError
from ig65m.models.card import VMZ_CSN
from ig65m.types import Frames, Preprocessing, Resampling
from ig65m.video.frame import Frame, Orientation
from ig65m.video.geometry import crop_corners, resized_size
from ig65m.video.reader import read_frames
from ig65m.video.transforms import Scaler, to_pixels
from tests import videos

MEAN, STD = (110.201, 100.64, 95.9966), (58.1489, 56.4701, 55.3324)


def network(
    resize: tuple[int, int] = (128, 171), crop: tuple[int, int] = (112, 112), by: Resampling = "fast_bilinear"
) -> Preprocessing:
    return Preprocessing(resize=resize, crop=crop, mean=MEAN, std=STD, resampling=by)


VMZ, AREA, ORIGINAL = network(), network(by="area"), network(by="float_bilinear")


def as_frame(picture: av.VideoFrame) -> Frame:
    return Frame(0.0, 0.04, picture)


def flat(values: tuple[int, ...], pix_fmt: str = "yuv420p", size: tuple[int, int] = (320, 240)) -> av.VideoFrame:
    picture = av.VideoFrame(*size, pix_fmt)
    for plane, value in zip(picture.planes, values, strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return picture


def planes_of(picture: av.VideoFrame) -> list[NDArray[np.float64]]:
    """Of 8-bit planar formats, or of 10 bits on the same scale."""
    kind, scale = ("<u2", 4) if "10" in picture.format.name else ("u1", 1)
    rows = [np.frombuffer(bytes(plane), kind).reshape(plane.height, -1)[:, : plane.width] for plane in picture.planes]
    return [plane / scale for plane in rows]


def noise(pix_fmt: str, size: tuple[int, int]) -> av.VideoFrame:
    """Smooth random planes that stay inside RGB."""
    random, picture = np.random.default_rng(0), av.VideoFrame(*size, pix_fmt)
    for plane, middle in zip(picture.planes, (120, 128, 128), strict=True):
        coarse = random.uniform(middle - 24, middle + 24, (plane.height // 4 + 2, plane.width // 4 + 2)).astype(np.float32)
        values = np.zeros((plane.height, plane.line_size // (2 if "10" in pix_fmt else 1)))
        values[:, : plane.width] = cv2.resize(coarse, (plane.width, plane.height), interpolation=cv2.INTER_CUBIC)
        plane.update((values * 4).astype("<u2").tobytes() if "10" in pix_fmt else values.astype("u1").tobytes())
    return picture


def vmz_by_hand(picture: av.VideoFrame, *, full_range: bool = False) -> NDArray[np.float64]:
    """(128, 171, 3): each plane by two taps a side, then BT.601; source: libswscale's utils.c (x86) and BT.601.

    Rows lie at (i + 1/2)·H/128 - 1/2. Columns have SWS_FAST_BILINEAR's own step (W - 2)/(171 - 2) - 20/65536. Chroma planes
    go the same way by their own size, so chroma counts as lying in the middle of its luma.
    """

    def along(plane: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
        places = np.clip(places, 0, len(plane) - 1)
        first = np.minimum(places.astype(int), len(plane) - 2)
        share = (places - first)[:, None]
        return plane[first] * (1 - share) + plane[first + 1] * share

    def resized(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        height, width = plane.shape
        step = (width - 2) / (171 - 2) - 20 / 65536
        rows = along(plane, (np.arange(128) + 0.5) * height / 128 - 0.5)
        return along(rows.T, (np.arange(171) + 0.5) * step - 0.5).T

    y, u, v = (resized(plane) for plane in planes_of(picture))
    y = y if full_range else (y - 16) * 255 / 219
    u, v = ((chroma - 128) * (1 if full_range else 255 / 224) for chroma in (u, v))
    rgb = np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], axis=-1)
    return np.clip(rgb, 0, 255)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1280, 720), (340, 256), (160, 120), (321, 243)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_vmz_is_fast_bilinear_by_hand(pix_fmt: str, size: tuple[int, int]) -> None:
    picture = noise(pix_fmt, size)
    pixels = to_pixels(as_frame(picture), VMZ)
    assert pixels.shape == (112, 112, 3)
    assert pixels.dtype == np.uint8
    assert pixels == pytest.approx(vmz_by_hand(picture)[8:120, 29:141], abs=2)


@pytest.mark.slow
def test_vmz_on_real_footage(bigbuckbunny: Path, bikes: Path) -> None:
    """Real H.264 says that its chroma lies left of where VMZ took it to be; at sharp edges that is 20 levels."""
    for path in (bigbuckbunny, bikes):
        scaler = Scaler()
        for number, frame in enumerate(read_frames(path)):
            pixels = to_pixels(frame, VMZ, scaler)
            if number % 40 == 0:
                assert pixels == pytest.approx(vmz_by_hand(frame.picture)[8:120, 29:141], abs=2)


def test_the_matrix_is_bt601_whatever_the_tag_says() -> None:
    picture = flat((119, 89, 200))
    assert np.abs(vmz_by_hand(picture)[64, 64] - [235, 76, 42]).max() <= 1
    for preprocessing in (VMZ, AREA, ORIGINAL):
        for colorspace in range(15):
            for color_range in range(3):
                picture.colorspace, picture.color_range = colorspace, color_range
                assert np.abs(to_pixels(as_frame(picture), preprocessing).astype(int) - [235, 76, 42]).max() <= 2
    picture.colorspace, picture.color_range = 1, 1
    assert picture.to_ndarray(format="rgb24")[64, 64, 0] >= 246, "PyAV by itself goes by the tag"


def test_full_range_goes_by_the_pixel_format() -> None:
    for preprocessing in (VMZ, AREA, ORIGINAL):
        full = to_pixels(as_frame(flat((107, 118, 140), "yuvj420p")), preprocessing)
        assert np.abs(full - vmz_by_hand(flat((107, 118, 140)), full_range=True)[64, 64]).max() <= 2
        assert np.abs(to_pixels(as_frame(flat((107,), "gray")), preprocessing) - 107.0).max() <= 1


@pytest.mark.parametrize(
    ("preprocessing", "corner"),
    [
        (VMZ, (8, 29)),
        (AREA, (8, 29)),
        (ORIGINAL, (8, 30)),
        (network((256, 340), (224, 224)), (16, 58)),
        (network((115, 117), (112, 112), "float_bilinear"), (2, 2)),
        (network((112, 112), (112, 112)), (0, 0)),
    ],
)
def test_the_crop_is_in_the_middle(preprocessing: Preprocessing, corner: tuple[int, int]) -> None:
    assert crop_corners(preprocessing, *resized_size(preprocessing, 720, 1280)) == [corner]


@pytest.mark.parametrize(
    ("shown", "resized", "corner"),
    [
        ((720, 1280), (256, 455), (16, 115)),
        ((1280, 720), (455, 256), (115, 16)),
        ((256, 256), (256, 256), (16, 16)),
        ((100, 133), (256, 340), (16, 58)),
    ],
)
def test_a_short_edge_keeps_the_aspect_ratio(shown: tuple[int, int], resized: tuple[int, int], corner: tuple[int, int]) -> None:
    assert resized_size(VMZ_CSN, *shown) == resized
    assert crop_corners(VMZ_CSN, *resized) == [corner]


def test_a_short_edge_gives_the_middle_of_the_resized_picture() -> None:
    """Against OpenCV's resizing of a smooth picture, which every good resizer agrees on."""
    y, x = np.mgrid[0:180, 0:320].astype(np.float32)
    picture = np.stack([128 + 100 * np.sin(x / 40), 128 + 100 * np.cos(y / 30), 64 + x / 4], axis=-1).astype(np.uint8)
    wide = to_pixels(Frame(0, 1, av.VideoFrame.from_ndarray(picture, "rgb24")), VMZ_CSN).astype(int)
    expected = cv2.resize(picture, (455, 256), interpolation=cv2.INTER_LINEAR)[16:240, 115:339].astype(int)
    assert wide.shape == (224, 224, 3)
    assert np.abs(wide - expected).max() <= 4
    turned = Frame(0, 1, av.VideoFrame.from_ndarray(picture, "rgb24"), Orientation(transpose=True))
    np.testing.assert_array_equal(to_pixels(turned, VMZ_CSN).astype(int), wide.swapaxes(0, 1))


def test_a_picture_too_thin_to_keep_its_aspect_ratio_is_refused() -> None:
    thin = av.VideoFrame.from_ndarray(np.zeros((2, 100, 3), np.uint8), "rgb24")
    with pytest.raises(VideoError, match="longer edge is more than 32 times the shorter"):
        to_pixels(Frame(0, 1, thin), VMZ_CSN)


@pytest.mark.parametrize("by", ["fast_bilinear", "area", "float_bilinear"])
def test_the_crop_is_placed_to_the_pixel(by: Resampling) -> None:
    """A picture of the very size is not resized, so its pixels must come through at their places."""
    picture = np.random.default_rng(1).integers(0, 256, (128, 171, 3), dtype=np.uint8)
    [frame] = read_frames(Frames(picture[None], fps=25))
    left = 30 if by == "float_bilinear" else 29
    assert (to_pixels(frame, network(by=by)) == picture[8:120, left : left + 112]).all()


def original(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """ig65m-pytorch's extract.py, its result put back on 0..255."""
    x = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    x = torch.nn.functional.interpolate(x, size=(128, 171), mode="bilinear", align_corners=False)
    top, left = round((128 - 112) / 2.0), round((171 - 112) / 2.0)
    return x[0, :, top : top + 112, left : left + 112].permute(1, 2, 0).numpy() * 255


@pytest.mark.slow
def test_the_float_path_is_opencv_and_torch(bigbuckbunny: Path, bikes: Path) -> None:
    for path in (bigbuckbunny, bikes):
        capture, scaler = cv2.VideoCapture(str(path)), Scaler()
        for number, frame in enumerate(read_frames(path)):
            found, bgr = capture.read()
            assert found
            if number % 40 == 0:
                pixels = to_pixels(frame, ORIGINAL, scaler)
                assert pixels.dtype == np.float32
                assert pixels == pytest.approx(original(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)), abs=1e-4 * 255)


@pytest.mark.parametrize("size", [(33, 35), (97, 63), (171, 128), (1920, 1080)])
def test_the_float_path_on_frames_in_memory(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    [frame] = read_frames(Frames(picture[None], fps=25))
    assert to_pixels(frame, ORIGINAL) == pytest.approx(original(picture), abs=1e-4 * 255)


def test_area_is_the_mean_of_what_a_pixel_covers() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (128 * 4, 171 * 4, 3), dtype=np.uint8)
    [frame] = read_frames(Frames(picture[None], fps=25))
    mean = picture.reshape(128, 4, 171, 4, 3).mean(axis=(1, 3))
    assert np.abs(to_pixels(frame, AREA) - mean[8:120, 29:141]).mean() < 2


@pytest.mark.parametrize("by", ["fast_bilinear", "area", "float_bilinear"])
@pytest.mark.parametrize("size", [(320, 240), (97, 63), (5, 3)])
@pytest.mark.parametrize(
    "pix_fmt",
    [
        "yuv410p",
        "yuv411p",
        "yuv422p10le",
        "yuv444p12le",
        "yuva420p",
        "yuvj422p",
        "nv12",
        "p010le",
        "yuyv422",
        "gray",
        "gray10le",
        "ya8",
        "gbrp",
        "gbrpf32le",
        "rgb24",
        "rgba",
        "bgra",
        "rgb565le",
        "rgb48le",
        "pal8",
        "monob",
    ],
)
def test_any_pixel_format_and_size_goes(pix_fmt: str, size: tuple[int, int], by: Resampling) -> None:
    assert to_pixels(as_frame(av.VideoFrame(*size, pix_fmt)), network(by=by)).shape == (112, 112, 3)


def test_a_format_that_cannot_be_converted_is_named() -> None:
    with pytest.raises(VideoError, match="cannot convert a 64x64 picture of pixel format rgbaf32le") as failure:
        to_pixels(Frame(3.0, 4.0, av.VideoFrame(64, 64, "rgbaf32le")), VMZ)
    assert failure.value.last_good_time == 3.0


def test_one_scaler_does_for_frames_of_any_size() -> None:
    scaler = Scaler()
    for picture in (noise("yuv420p", (320, 240)), noise("yuv444p", (160, 120)), noise("yuv420p", (320, 240))):
        assert (to_pixels(as_frame(picture), VMZ, scaler) == to_pixels(as_frame(picture), VMZ)).all()


DISPLAYS = {
    "left": {"degrees": 90},
    "right": {"degrees": -90},
    "over": {"degrees": 180},
    "mirrored": {"degrees": 0, "hflip": True},
    "upside-down": {"degrees": 0, "vflip": True},
    "left-mirrored": {"degrees": 90, "hflip": True},
    "right-mirrored": {"degrees": -90, "hflip": True},
}


@pytest.fixture(params=DISPLAYS)
def turned(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    pictures = [videos.numbered(0b10110000, 96, 64)] * 2
    return request.param, videos.encode(tmp_path / "turned.mp4", pictures, [0, 40], display=DISPLAYS[request.param])


def upright(path: Path, height: int, width: int, by: Resampling) -> NDArray[np.float32]:
    frame = next(read_frames(path))
    return to_pixels(frame, network((height, width), (height, width), by)).astype(np.float32)


@pytest.mark.parametrize("by", ["fast_bilinear", "area", "float_bilinear"])
def test_rotation_is_applied(turned: tuple[str, Path], by: Resampling) -> None:
    name, path = turned
    stored = videos.numbered(0b10110000, 96, 64)
    shown = {
        "left": np.rot90(stored),
        "right": np.rot90(stored, -1),
        "over": np.rot90(stored, 2),
        "mirrored": stored[:, ::-1],
        "upside-down": stored[::-1],
        "left-mirrored": np.rot90(stored)[:, ::-1],
        "right-mirrored": np.rot90(stored, -1)[:, ::-1],
    }[name]
    height, width = shown.shape[:2]
    difference = np.abs(upright(path, height, width, by) - shown)
    assert difference.mean() < 8


@pytest.mark.skipif(not videos.HAVE_FFPROBE, reason="needs ffmpeg (Debian package ffmpeg)")
def test_rotation_is_as_ffmpeg_shows_it(turned: tuple[str, Path]) -> None:
    _, path = turned
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.uint8)
    height, width = (96, 64) if next(read_frames(path)).orientation.transpose else (64, 96)
    shown = raw.reshape(height, width, 3).astype(np.float32)
    assert np.abs(upright(path, height, width, "float_bilinear") - shown).mean() < 2


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_rotation_is_as_opencv_shows_it(degrees: int, tmp_path: Path) -> None:
    pictures = [videos.numbered(0b10110000, 96, 64)] * 2
    path = videos.encode(tmp_path / "turned.mp4", pictures, [0, 40], display={"degrees": degrees})
    _, bgr = cv2.VideoCapture(str(path)).read()
    pixels = to_pixels(next(read_frames(path)), ORIGINAL)
    assert pixels == pytest.approx(original(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)), abs=1e-4 * 255)


def test_a_slanted_picture_is_left_as_it_is(tmp_path: Path) -> None:
    stored = videos.numbered(0b10110000, 96, 64)
    path = videos.encode(tmp_path / "slanted.mp4", [stored] * 2, [0, 40], display={"degrees": 45})
    assert np.abs(upright(path, 64, 96, "fast_bilinear") - stored).mean() < 8
