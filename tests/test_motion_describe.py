"""Camera motion in words, and as a picture."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import image

from ig65m.motion.describe import describe_segment
from ig65m.motion.picture import draw_motion
from tests.motions import motion, segment, wandering


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (segment(0, 3.2), "0.0 to 3.2 s static"),
        (segment(0, 3.2, shake=0.7), "0.0 to 3.2 s handheld shake"),
        (segment(0, 3.2, parallax=0.9), "0.0 to 3.2 s static"),
        (segment(0, 3.2, cut=0.6, shake=0.6), "0.0 to 3.2 s cut"),
        (segment(3.2, 5, ("pan_right", 0.14), ("zoom_in", 0.02)), "3.2 to 5.0 s pan right at 14 %/s with slow zoom in"),
        (segment(0, 1, ("tilt_down", 0.0213)), "0.0 to 1.0 s slow tilt down at 2.1 %/s"),
        (segment(0, 1, ("zoom_in", 0.5)), "0.0 to 1.0 s zoom in at 65 %/s"),
        (segment(0, 1, ("zoom_out", 0.5)), "0.0 to 1.0 s zoom out at 39 %/s"),
        (segment(0, 1, ("roll_counterclockwise", 2.96)), "0.0 to 1.0 s slow roll counterclockwise at 3 °/s"),
        (segment(0, 1, ("pan_left", 1.234)), "0.0 to 1.0 s pan left at 123 %/s"),
        (segment(0, 1, ("pan_left", 0.2), parallax=0.85), "0.0 to 1.0 s pan left at 20 %/s with parallax"),
        (segment(0, 1, ("pan_left", 0.2), shake=0.6, cut=0.9), "0.0 to 1.0 s pan left at 20 %/s with handheld shake, cut"),
        (
            segment(0, 1, ("pan_left", 0.2), ("tilt_up", 0.06), ("roll_clockwise", 1.0), parallax=0.85),
            "0.0 to 1.0 s pan left at 20 %/s with tilt up at 6 %/s, slow roll clockwise and parallax",
        ),
        (segment(1.04, 1.08), "1.04 to 1.08 s static"),
    ],
)
def test_words(made, words):
    assert describe_segment(made) == words


@pytest.mark.parametrize("made", [motion(), wandering(1), wandering(2000)], ids=["hand", "one clip", "long"])
def test_a_picture(made, tmp_path):
    draw_motion(made, tmp_path / "a.png", title="holiday $x_ \ud83d.mp4")
    pixels = image.imread(tmp_path / "a.png")
    assert pixels.shape[1] == 1800
    assert pixels[..., :3].min(axis=2).mean() > 0.8  # mostly white
    assert np.unique(pixels.reshape(-1, 4), axis=0).shape[0] > 100
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_picture_leaves_damaged_parts_empty(tmp_path):
    whole = wandering(40)
    clips = tuple(clip for clip in whole.clips if not 10 < clip.end < 30)
    for name, made in (("whole", whole), ("gap", replace(whole, clips=clips, segments=()))):
        draw_motion(replace(made, segments=()), tmp_path / f"{name}.png", title="a")
    pixels = {name: image.imread(tmp_path / f"{name}.png") for name in ("whole", "gap")}
    columns = slice(800, 900)  # within the gap
    colours = {name: (np.ptp(each[:, columns, :3], axis=2) > 0.3).sum() for name, each in pixels.items()}
    assert colours["gap"] == 0 < colours["whole"]
