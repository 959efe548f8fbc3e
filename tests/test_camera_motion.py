"""The embedded network on sources that its training never saw, moved by other tools than the trainer's."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ig65m

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "bench"))

from synthetic_motion import LABELS, draw_moves, footage_file, make  # noqa: E402

pytestmark = pytest.mark.slow

MODEL = "r2plus1d_10_camera_motion"
DEMO = Path(ig65m.__file__).parent / "demo"
BIKES_CUTS = (30, 76, 137, 187, 242)  # frames of bikes.mp4 (25 a second) at which a new shot starts


@pytest.fixture(scope="module")
def network() -> Iterator[object]:
    return ig65m.load_model(MODEL)


def best(path: Path, network: object, **options: object) -> list[tuple[float, float, str]]:
    clips = ig65m.classify(path, model=network, top_k=1, tail="drop", **options).clips
    return [(clip.start, clip.end, clip.labels[0].label) for clip in clips]


def test_the_file_is_small() -> None:
    weights = Path(ig65m.__file__).parent / "zoo" / "weights" / f"{MODEL}.safetensors"
    assert weights.stat().st_size < 3e6


def test_95_of_100_moves_are_named_rightly(network: object, tmp_path: Path) -> None:
    wrong = []
    moves = draw_moves(seed=2, each=8, sizes=((640, 360), (352, 288), (360, 480)))
    for index, move in enumerate(moves):
        video = tmp_path / f"{index}.mp4"
        make(move, video, frames=15)
        ((_, _, label),) = best(video, network)
        if label != move.label:
            wrong.append((label, move))
    assert {move.label for move in moves} == set(LABELS)
    assert len(wrong) <= 0.05 * len(moves), wrong


@pytest.mark.parametrize(
    ("name", "cuts", "share"), [("bigbuckbunny", (), 1.0), ("bikes", BIKES_CUTS, 0.8), ("carphone_pristine", (), 0.95)]
)
def test_footage_of_an_unmoving_camera_is_static(network: object, name: str, cuts: tuple[int, ...], share: float) -> None:
    """A rabbit climbs out of its hole; people, cars and a bus pass; trees go by outside a car's window.

    The camera of the third shot of bikes.mp4 tilts down in its second half: the parked van goes up by 48 of 272 rows.
    """
    clips = best(footage_file(name), network, stride=5)
    labels = [label for start, end, label in clips if not any(start < cut / 25 < end for cut in cuts)]
    assert len(labels) >= 15
    assert labels.count("static") >= share * len(labels), labels


def test_the_demonstration_clip_comes_out_right(network: object) -> None:
    segments = json.loads((DEMO / "clip.json").read_text("utf-8"))
    assert {segment["label"] for segment in segments} == set(LABELS)
    clips = best(DEMO / "clip.mp4", network)
    assert len(clips) == 18
    for start, end, label in clips:
        shown = [s["label"] for s in segments if s["start"] <= start + 1e-6 and end <= s["end"] + 1e-6]
        assert shown == [label], f"{start} s to {end} s"
