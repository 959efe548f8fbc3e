"""The arithmetic of camera paths, against OpenCV; the training loop's resumption."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ig65m.camera_motion.degrade import SIZE
from ig65m.camera_motion.paths import (
    EDGE_SHARE,
    FRAME_STEP,
    FRAMES,
    LABELS,
    MOVES,
    SPAN,
    SPEEDS,
    matrices,
    mirrored,
    random_path,
    steady_path,
)
from ig65m.camera_motion.scenes import Disturbed, Library, make_masks, mirror, random_clip, render
from ig65m.camera_motion.sources import Source, load_sources, source, textures
from ig65m.camera_motion.training import CARD, Clips, Plan, batches, new_run, published_weights
from ig65m.errors import CheckpointError, UsageError
from ig65m.models.spec import ResNetSpec
from ig65m.train.loop import Run

pytestmark = pytest.mark.slow

torch.set_num_threads(2)
SPEC = ResNetSpec(depth=10, classes=len(LABELS), channel_multiplier=0.1)


@pytest.fixture(scope="module")
def library() -> Library:
    pictures = textures(np.random.default_rng(0), 5)
    return Library(pictures, [], pictures, make_masks(np.random.default_rng(0)))


def test_labels_are_those_of_the_card_in_their_order() -> None:
    assert CARD.labels == LABELS
    assert (CARD.frames, CARD.frame_step, CARD.preprocessing.crop) == (FRAMES, FRAME_STEP, (SIZE, SIZE))
    assert list(MOVES) == list(LABELS[1:])


@pytest.mark.parametrize(
    ("label", "x", "y"),
    [("pan_right", -0.04, 0), ("pan_left", 0.04, 0), ("tilt_up", 0, 0.04), ("tilt_down", 0, -0.04), ("static", 0, 0)],
)
def test_a_pan_moves_a_point_of_the_content_against_the_camera(label: str, x: float, y: float) -> None:
    aspect = 16 / 9
    views = matrices(steady_path(label, 0.0 if label == "static" else 0.02).offsets, aspect)
    point = np.array([0.3, -0.2, 1.0])  # of the plane; frame t shows it where views[t] @ p == point
    shown = np.linalg.inv(views[2]) @ point
    assert (shown - point)[:2] / [2 * aspect, 2] == pytest.approx([x, y])


@pytest.mark.parametrize(("label", "growth"), [("zoom_in", 1.02), ("zoom_out", 1 / 1.02)])
def test_a_zoom_leaves_its_anchor_and_scales_the_rest(label: str, growth: float) -> None:
    views = matrices(steady_path(label, 0.02).offsets, 1.5, anchor=(0.2, 0.4))
    anchor = np.array([0.3, 0.4, 1.0])
    assert np.linalg.inv(views[1]) @ anchor == pytest.approx(anchor)
    assert np.linalg.inv(views[1])[:2, :2] == pytest.approx(growth * np.eye(2))


@pytest.mark.parametrize("label", LABELS)
def test_opencv_measures_the_move_that_was_asked_for(label: str) -> None:
    """Rendered frames are compared by tracked corners: content goes left, down, grows, turns counter-clockwise."""
    speed = 0.0 if label == "static" else np.radians(2) if label.startswith("roll") else 0.02
    leaves = textures(np.random.default_rng(1), 1)
    library = Library(leaves, [], leaves, make_masks(np.random.default_rng(0)))
    measured = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        pictures = render(rng, library, steady_path(label, speed), 1.0, np.array([6.0, 7.0]), (256, 256), Disturbed.NOT)
        before, after = (picture.mean(0).numpy().astype(np.uint8) for picture in pictures)
        corners = cv2.goodFeaturesToTrack(before, 100, 0.01, 8)
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=(31, 31))
        matrix, inliers = cv2.estimateAffinePartial2D(corners[found == 1], moved[found == 1])
        assert inliers.mean() > 0.8
        centre = matrix @ [128, 128, 1] - 128
        counter_clockwise = -np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
        measured.append([*centre / 2.56, 100 * np.log(np.hypot(matrix[0, 0], matrix[1, 0])), counter_clockwise])
    expected = {
        "static": (0, 0, 0, 0),
        "pan_right": (-2, 0, 0, 0),
        "pan_left": (2, 0, 0, 0),
        "tilt_down": (0, -2, 0, 0),
        "tilt_up": (0, 2, 0, 0),
        "zoom_in": (0, 0, 2, 0),
        "zoom_out": (0, 0, -2, 0),
        "roll_clockwise": (0, 0, 0, 2),
        "roll_counterclockwise": (0, 0, 0, -2),
    }[label]
    assert np.median(measured, axis=0) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("label", LABELS)
def test_random_paths_are_led_by_their_label(label: str) -> None:
    for seed in range(200):
        offsets = random_path(np.random.default_rng(seed), label).offsets
        assert offsets.shape == (SPAN, 4)
        travelled = (offsets[-1] - offsets[0]) * EDGE_SHARE
        if label != "static":
            column, sign = MOVES[label]
            assert np.abs(travelled).argmax() == column
            assert travelled[column] * sign > 0.5 * SPEEDS[column][0] * EDGE_SHARE[column] * (SPAN - 1)


@pytest.mark.parametrize(
    ("label", "across", "down", "backwards"),
    [
        ("pan_right", "pan_left", "pan_right", "pan_left"),
        ("tilt_up", "tilt_up", "tilt_down", "tilt_down"),
        ("zoom_out", "zoom_out", "zoom_out", "zoom_in"),
        ("roll_clockwise", "roll_counterclockwise", "roll_counterclockwise", "roll_counterclockwise"),
        ("static", "static", "static", "static"),
    ],
)
def test_mirroring_renames_moves(label: str, across: str, down: str, backwards: str) -> None:
    assert mirrored(label, horizontally=True, vertically=False, in_time=False) == across
    assert mirrored(label, horizontally=False, vertically=True, in_time=False) == down
    assert mirrored(label, horizontally=False, vertically=False, in_time=True) == backwards


def test_a_mirrored_clip_is_played_backwards() -> None:
    clip = torch.arange(3 * 8 * 4 * 4).view(3, 8, 4, 4)
    for seed in range(8):
        flipped, _ = mirror(np.random.default_rng(seed), clip, 0)
        assert torch.equal(flipped[:, 0].sort()[0].unique(), clip[:, -1].unique())


def test_clips_depend_on_their_seed_alone(library: Library) -> None:
    clip, label = random_clip(np.random.default_rng([3, 4]), library)
    again, same = random_clip(np.random.default_rng([3, 4]), library)
    assert clip.shape == (3, 8, 64, 64)
    assert clip.dtype == torch.uint8
    assert label == same
    assert torch.equal(clip, again)


def test_the_rate_rises_to_the_peak_and_falls_to_nothing() -> None:
    plan = Plan(seed=0, steps=100, warmup=0.1)
    run = new_run(plan, SPEC)
    rates = [run.rate(step) for step in range(100)]
    assert max(rates) == plan.peak_rate
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < plan.peak_rate / 1000


def test_a_resumed_run_ends_where_an_unbroken_one_does(library: Library, tmp_path: Path) -> None:
    plan = Plan(seed=5, steps=2, batch_size=2)

    def advance(run: Run, steps: int) -> Run:
        for clips, labels in batches(library, plan, run.step, workers=0):
            run.update(clips, labels)
            if run.step == steps:
                break
        return run

    unbroken = advance(new_run(plan, SPEC), 2)
    advance(new_run(plan, SPEC), 1).save_checkpoint(tmp_path / "state")
    resumed = new_run(plan, SPEC)
    resumed.restore(tmp_path / "state")
    assert resumed.step == 1
    advance(resumed, 2)
    for name, value in published_weights(unbroken).items():
        assert torch.equal(value, published_weights(resumed)[name]), name
    with pytest.raises(CheckpointError, match="another run"):
        new_run(Plan(seed=6, steps=2, batch_size=2), SPEC).restore(tmp_path / "state")


def test_batches_come_in_the_same_order_from_a_worker(library: Library) -> None:
    plan = Plan(seed=5, steps=2, batch_size=2)
    clips, labels = next(iter(batches(library, plan, 0, workers=0)))
    expected, targets = Clips(library, plan)[0]
    assert torch.equal(clips, expected)
    assert torch.equal(labels, targets)


def test_pictures_met_twice_small_or_flat_are_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    leaves = [picture.levels[0][0].permute(1, 2, 0).numpy() for picture in textures(rng, 6)[::5]]
    for index, picture in enumerate(leaves):
        Image.fromarray(picture).resize((900, 700)).save(tmp_path / f"{index}.png")
        Image.fromarray(picture).resize((1800, 1400)).save(tmp_path / f"{index}_large.jpg")
    Image.fromarray(leaves[0]).resize((400, 300)).save(tmp_path / "preview.png")
    Image.new("RGB", (900, 700), "blue").save(tmp_path / "flat.png")
    (tmp_path / "README.txt").write_text("no picture")
    photos, footage = load_sources([tmp_path])
    assert len(photos) == 2
    assert footage == []
    assert max(photos[0].levels[0].shape) <= 640


def test_a_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no photograph"):
        load_sources([tmp_path])


def test_levels_halve_and_are_chosen_by_texels() -> None:
    picture: Source = source(np.zeros((1, 256, 320, 3), np.uint8))
    assert [tuple(level.shape[2:]) for level in picture.levels] == [(256, 320), (128, 160), (64, 80), (32, 40)]
    assert picture.level(0.3).shape[2] == 256
    assert picture.level(2).shape[2] == 128
    assert picture.level(100).shape[2] == 32
