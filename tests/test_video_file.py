"""Videos that we write: as FFmpeg's own tools read them."""

import json
import subprocess
from fractions import Fraction

import numpy as np
import pytest

from ig65m.errors import UsageError
from ig65m.explain.video_file import write_video

COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [0, 0, 0], [255, 255, 255], [128, 90, 40]], np.uint8)


def flat(colour, height=48, width=64):
    return np.full((height, width, 3), colour, np.uint8)


def test_ffmpeg_reads_what_was_written(tmp_path):
    path = tmp_path / "new" / "colours.mp4"
    write_video(path, (flat(colour) for colour in COLOURS for _ in range(5)), Fraction(30000, 1001))
    show = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", str(path)]
    (stream,) = json.loads(subprocess.run(show, check=True, capture_output=True).stdout)["streams"]
    wanted = {"codec_name": "h264", "pix_fmt": "yuv420p", "width": 64, "height": 48, "r_frame_rate": "30000/1001"}
    wanted |= {"nb_read_frames": "30", "color_space": "bt709", "color_primaries": "bt709", "color_range": "tv"}
    assert {name: stream[name] for name in wanted} == wanted
    raw = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(raw, check=True, capture_output=True).stdout
    frames = np.frombuffer(pixels, np.uint8).reshape(-1, 48, 64, 3).astype(int)
    assert abs(frames[2::5] - COLOURS[:, None, None]).max() <= 6
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # it plays before it is loaded completely
    assert [file.name for file in path.parent.iterdir()] == ["colours.mp4"]


@pytest.mark.parametrize(
    ("frames", "word"),
    [([], "no frames"), ([flat(0, 3, 4)], "even"), ([flat(0, 4, 5)], "even"), ([flat(0), flat(0, 4, 4)], "equal")],
)
def test_frames_that_make_no_video(tmp_path, frames, word):
    (tmp_path / "there.mp4").write_text("kept")
    with pytest.raises(UsageError, match=word):
        write_video(tmp_path / "there.mp4", frames, 25)
    assert (tmp_path / "there.mp4").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1
