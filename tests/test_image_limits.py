"""Images of which a few bytes claim a huge picture, and folders of too many of them."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from ig65m.errors import VideoError
from ig65m.types import Limits
from ig65m.video.reader import read_frames
from tests import videos
from tests.test_broken_videos import read_until_failure
from tests.test_odd_videos import numbers


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    animation = chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(
        b"fcTL", struct.pack(">5I2H2B", 0, width, height, 0, 0, 1, 25, 0, 0)
    )
    data = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + animation + data + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    picture = b"\x2c" + struct.pack("<4H", 0, 0, 1, 1) + b"\0\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<2H", width, height) + b"\x80\0\0" + bytes(6) + picture * 100 + b"\x3b"


@pytest.mark.parametrize("size", [(16_000, 16_000), (65_535, 65_535)])
@pytest.mark.parametrize("make", [png, gif])
def test_few_bytes_that_claim_a_huge_picture(make: Callable[[int, int], bytes], size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "bomb.bin"
    path.write_bytes(make(*size))
    with pytest.raises(VideoError, match=r"pixels[;:] raise --max-pixels|supported format|a single image"):
        list(read_frames(path))
    if make is png:
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "0.png").write_bytes(make(*size))
        with pytest.raises(VideoError, match=r"0\.png: not a readable image"):
            list(read_frames(folder))


def test_too_many_images_and_none_at_all(tmp_path: Path) -> None:
    for i in range(4):
        encoder = av.CodecContext.create("png", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 96, 64, "rgb24", videos.MILLISECONDS
        picture = av.VideoFrame.from_ndarray(videos.numbered(i))
        (tmp_path / f"{i}.png").write_bytes(b"".join(bytes(p) for p in [*encoder.encode(picture), *encoder.encode(None)]))
    frames, failure = read_until_failure(tmp_path, limits=Limits(frames=3))
    assert (numbers(frames), failure is not None and failure.last_good_time) == ([0, 1, 2], pytest.approx(0.12))
    _, failure = read_until_failure(tmp_path, limits=Limits(pixels=100))
    assert "0.png: not a readable image" in str(failure)
    assert "a picture of 96x64, more than the limit of 100 pixels; raise --max-pixels" in str(failure)
