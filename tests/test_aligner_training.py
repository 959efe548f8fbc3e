"""The aligner's training: what its scenes say of themselves, against OpenCV; resumption; and the calibration of clips."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from ig65m.camera_motion.aligner_training import (
    AlignerPlan,
    Scenes,
    learning_rate,
    new_aligner_run,
    packed,
    publish,
    scene_batches,
    train_aligner,
    unpacked,
)
from ig65m.camera_motion.calibration import calibrate
from ig65m.camera_motion.known_scenes import FACTS, PAIRS, random_scene
from ig65m.camera_motion.scenes import Disturbed, Library, add_overlay, background, make_masks
from ig65m.camera_motion.sources import textures
from ig65m.camera_motion.takes import KINDS, random_take, sway
from ig65m.models.aligner import Alignment
from ig65m.models.aligner_plan import CALIBRATION, CELLS, EDGE, WINDOW, shapes
from ig65m.motion.clip_motion import EDGE as EDGE_SHARES
from ig65m.motion.clip_motion import facts, parallax_terms, probability, terms
from ig65m.motion.path import ClipPath
from ig65m.motion.weights import load_weights
from ig65m.types import ClipSpan

pytestmark = pytest.mark.slow

torch.set_num_threads(2)


@pytest.fixture(scope="module")
def library() -> Library:
    pictures = textures(np.random.default_rng(0), 5)
    return Library(pictures, [], pictures, make_masks(np.random.default_rng(0)))


def similarity(facts: dict[str, float]) -> np.ndarray:
    """The content's move in pixels of a square frame of 96, from its move in the shape of the picture."""
    a, b, s, r, aspect = (facts[name] for name in ("a", "b", "s", "r", "aspect"))
    linear = np.array([[1 + s, -r / aspect], [r * aspect, 1 + s]])
    centre = np.array([EDGE / 2, EDGE / 2]) - 0.5
    return np.column_stack([linear, centre - linear @ centre + np.array([a, b]) * EDGE])


def test_a_plain_scene_moves_as_its_facts_say(library):
    """OpenCV warps the second frame back to the first: the difference nearly disappears."""
    before, after = [], []
    for seed in range(12):
        scene = random_scene(np.random.default_rng(seed), library, plain=True)
        for index, (start, end) in enumerate(PAIRS):
            facts = dict(zip(FACTS, scene.facts[index].tolist(), strict=True))
            assert (facts["valid"], facts["cut"], facts["parallax"]) == (1, 0, 0)
            one, other = (scene.frames[number].numpy().astype(np.float32) for number in (start, end))
            back = cv2.warpAffine(other, similarity(facts), (EDGE, EDGE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            inside = cv2.warpAffine(np.ones_like(other), similarity(facts), (EDGE, EDGE), flags=cv2.WARP_INVERSE_MAP) > 0
            before.append(np.abs(one - other)[inside].mean())
            after.append(np.abs(one - back)[inside].mean())
    assert np.mean(after) < 0.35 * np.mean(before)


def test_scenes_with_cuts_objects_and_layers_say_so(library):
    facts, hidden = [], []
    for seed in range(150):
        scene = random_scene(np.random.default_rng([1, seed]), library)
        assert scene.frames.shape == (3, EDGE, EDGE, 3)
        facts += [dict(zip(FACTS, row.tolist(), strict=True)) for row in scene.facts]
        hidden.append(1 - scene.camera.mean())
    assert {each["cut"] for each in facts} == {0, 1}
    assert all(each["valid"] == 1 - each["cut"] for each in facts)
    assert {each["parallax"] for each in facts} == {-1, 0, 1}
    assert 0.02 < np.mean(hidden) < 0.5


def test_bars_and_writing_come_as_often_as_said():
    grey = torch.full((1, 3, 64, 64), 128.0)
    for often in (1.0, 3.0):
        rng = np.random.default_rng(0)
        share = np.mean([bool((add_overlay(rng, grey.clone(), often=often) != grey).any()) for _ in range(2000)])
        assert share == pytest.approx(0.14 * often, abs=0.03)


def test_a_pattern_repeats_its_source(library):
    """Copies of a source side by side, mirrored: a picture of few and large changes has many."""
    soft = Library(textures(np.random.default_rng(4), 1), [], textures(np.random.default_rng(4), 1), library.masks)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    points = torch.from_numpy(np.stack([x, y], -1).astype(np.float32))[None]
    changes = [
        np.mean(
            [
                background(
                    *(np.random.default_rng(seed), soft, points, np.eye(3)[None], 1.0, np.zeros(1), Disturbed.NOT),
                    patterned=patterned,
                )
                .diff(dim=3)
                .abs()
                .mean()
                for seed in range(20)
            ]
        )
        for patterned in (False, True)
    ]
    assert changes[1] > 1.5 * changes[0]


def test_the_learning_rate_rises_again_for_hard_scenes():
    plan = AlignerPlan(seed=1, steps=6000)
    rates = [learning_rate(plan, step) for step in range(6000)]
    assert max(rates[:4500]) == plan.peak_rate
    assert rates[4499] < 1e-6
    assert max(rates[4500:]) == pytest.approx(plan.hard_rate)
    assert rates[5999] < 1e-6
    assert min(rates) >= 0


def test_the_data_of_a_step_depend_on_the_seed_and_the_step_only(library):
    plan = AlignerPlan(seed=3, steps=4, batch_size=2)
    frames, targets = Scenes(library, plan)[2]
    again, same = list(scene_batches(library, plan, 1, workers=0))[1]
    assert torch.equal(frames, again)
    assert torch.equal(targets, same)
    assert targets.shape == (2, len(PAIRS), len(FACTS) + CELLS * CELLS)


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(library, tmp_path):
    plan = AlignerPlan(seed=4, steps=3, batch_size=2)
    whole = new_aligner_run(plan)
    train_aligner(whole, plan, library, checkpoint=tmp_path / "whole", workers=0)
    part = new_aligner_run(plan)
    for frames, targets in list(scene_batches(library, plan, 0, workers=0))[:1]:
        part.update(frames, targets)
    part.save_checkpoint(tmp_path / "part")
    resumed = new_aligner_run(plan)
    resumed.restore(tmp_path / "part")
    train_aligner(resumed, plan, library, checkpoint=tmp_path / "part", workers=0)
    assert resumed.step == whole.step == 3
    for name, value in whole.network.state_dict().items():
        assert value.numpy() == pytest.approx(resumed.network.state_dict()[name].numpy(), rel=1e-3, abs=1e-5)


def test_published_weights_load(library, tmp_path):
    run = new_aligner_run(AlignerPlan(seed=5, steps=1))
    run.mean["judge.bias"].fill_(-9)  # no cuts
    publish(run, library, tmp_path / "weights.safetensors", seed=5, takes=50, workers=0)
    weights = load_weights(tmp_path / "weights.safetensors")
    assert {name: array.shape for name, array in weights.arrays.items()} == {**shapes(), **CALIBRATION}
    assert all(np.isfinite(array).all() for array in weights.arrays.values())


def test_packing_is_undone():
    parts = Alignment(*(torch.randn(2, *shape) for shape in ((6,), (6, 6), (6,), (2,), (CELLS, CELLS))))
    assert all(torch.equal(part, same) for part, same in zip(parts, unpacked(packed(parts)), strict=True))


def test_takes_are_of_all_kinds_and_a_tripod_stands_still(library):
    takes = [random_take(np.random.default_rng([2, seed]), library) for seed in range(25)]
    assert {take.kind for take in takes} == set(KINDS)
    for take in takes:
        assert take.take.frames.shape == (WINDOW, EDGE, EDGE, 3)
        assert (take.positions[0] == 0).all()
        assert np.any(take.positions) == (take.kind != "tripod")


def test_a_hand_sways_more_slowly_than_it_trembles():
    """The spectrum falls: most of the power is below 2 Hz."""
    low = high = 0.0
    for seed in range(40):
        power = np.abs(np.fft.rfft(sway(np.random.default_rng(seed), 60)[:, 0])) ** 2
        low, high = low + power[1:2].sum(), high + power[3:].sum()
    assert low > 3 * high


def observed(kind, positions, truth, sigma, parallax=0.02):
    path = ClipPath(
        times=np.arange(8) * 0.08,
        numbers=np.arange(8) * 2,
        positions=positions,
        sigma=sigma,
        step_sigma=sigma,
        cut=0.0,
        parallax=parallax,
        span=ClipSpan(0, 0.6),
    )
    return SimpleNamespace(known=SimpleNamespace(kind=kind, plain=True, positions=truth), path=path, truth=truth[7])


def test_calibration_finds_the_spread_of_made_up_errors():
    rng = np.random.default_rng(6)
    takes = []
    for index in range(800):
        kind = list(KINDS)[index % len(KINDS)]
        truth = np.zeros((8, 4))
        if "move" in kind:
            truth += np.linspace(0, 1, 8)[:, None] * rng.normal(0, 0.1, 4)
        if "hand" in kind:
            truth += rng.normal(0, 0.006, (8, 4)) * (np.arange(8) > 0)[:, None]
        sigma = np.full(4, 1e-3) * rng.uniform(0.5, 2)
        wrong = rng.normal(0, 1, (8, 4)) * (2.5 * sigma + 0.02 * np.abs(truth))
        takes.append(observed(kind, truth + wrong, truth, sigma))
    walks = [observed("walk", truth, truth, sigma, parallax=rng.uniform(0.03, 0.3)) for _ in range(60)]
    found = calibrate(takes, walks)
    scale, share, floor = (found[f"clip.{name}"] for name in ("scale", "share", "floor"))
    within = [
        np.abs(take.path.positions[-1] - take.truth)
        < np.sqrt((scale * take.path.sigma) ** 2 + (share * take.path.positions[-1]) ** 2 + floor**2)
        for take in takes
        if "move" in take.known.kind
    ]
    assert np.mean(within, axis=0) == pytest.approx(np.full(4, 0.683), abs=0.04)
    assert scale == pytest.approx(np.full(4, 2.5), rel=0.3)
    weights = SimpleNamespace(arrays=found)
    for name, kinds in (("static", {"tripod"}), ("shake", {"hand", "hand and move"})):
        right = [(probability_of(take, weights, name) > 0.5) == (take.known.kind in kinds) for take in takes]
        assert np.mean(right) > 0.85
    assert probability(parallax_terms(0.02), weights, "parallax") < 0.2
    assert probability(parallax_terms(0.1), weights, "parallax") > 0.8
    assert EDGE_SHARES.shape == floor.shape


def probability_of(take, weights, name):
    return probability(terms(facts(take.path)), weights, name)
