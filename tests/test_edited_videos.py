"""The edited videos with which shot detection is measured: transitions lie where the list says."""

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

from edited_videos import LOSSLESS, Edit, Event, Join, Take, join, render

TAKE = Take("coffee.png", 20, False, 0, 1.5, 0.1, (0.5, 0.5), 6.0, 0.0, 0.0, None)
EDIT = Edit(
    "edited.mp4",
    160,
    96,
    Fraction(25),
    (
        TAKE,
        replace(TAKE, source="bus", start=50, event=Event("flash", 9, 2)),
        replace(TAKE, source="rocket.jpg", frames=30),
        replace(TAKE, source="bunny", frames=25, event=Event("whip pan", 5, 5)),
    ),
    (Join("cut"), Join("dissolve", 8), Join("fade", 13, 3)),
)


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The four shots, lossless."""
    folder = tmp_path_factory.mktemp("shots")
    return [render(take, EDIT, folder / f"{number}.mp4") for number, take in enumerate(EDIT.takes)]


def frames_of(path: Path) -> NDArray[np.int16]:
    """Luma of all frames (T, H, W)."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]).astype(np.int16)


def test_shots_stand_in_the_edited_video_where_the_list_says(shots: list[Path], tmp_path: Path) -> None:
    edited = frames_of(join(EDIT, shots, tmp_path / "edited.mp4", LOSSLESS))
    first, second, third, fourth = (frames_of(path) for path in shots)
    assert EDIT.events == (
        Event("cut", 20, 0),
        Event("flash", 29, 2),
        Event("dissolve", 32, 8),
        Event("fade", 57, 13),
        Event("whip pan", 70, 5),
    )
    assert len(edited) == EDIT.frames
    np.testing.assert_array_equal(edited[:20], first)
    np.testing.assert_array_equal(edited[20:32], second[:12])
    np.testing.assert_array_equal(edited[40:57], third[8:25])
    np.testing.assert_array_equal(edited[70:], fourth[5:])
    weights = np.arange(1, 9)[:, None, None] / 9
    mixed = second[12:] * (1 - weights) + third[:8] * weights
    assert np.abs(edited[32:40] - mixed).max() <= 1
    assert (edited[62:65] == 16).all()
    levels = edited[56:71].mean((1, 2))
    assert (np.diff(levels[:7]) < 0).all()
    assert (np.diff(levels[8:]) > 0).all()


def test_only_the_frames_of_a_flash_are_white(shots: list[Path]) -> None:
    levels = frames_of(shots[1]).min((1, 2))
    assert np.flatnonzero(levels == 235).tolist() == [9, 10]


def test_a_whip_pan_moves_in_its_frames_only(shots: list[Path], tmp_path: Path) -> None:
    still = replace(TAKE, source="rocket.jpg", swing=(0.0, 0.0), zoom=2.5, zoom_swing=0.0, event=Event("whip pan", 5, 5))
    moved = np.abs(np.diff(frames_of(render(still, EDIT, tmp_path / "pan.mp4")), axis=0)).mean((1, 2))
    assert np.flatnonzero(moved > 0).tolist() == [4, 5, 6, 7, 8, 9]
