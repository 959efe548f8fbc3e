"""From frames to clips: chunks, the camera's path over them, and segments; with made-up frames and moves."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ig65m.errors import VideoError
from ig65m.models.aligner_plan import EDGE, PAIRS, WINDOW
from ig65m.motion.chunks import ChunkSpan, chunks_of
from ig65m.motion.clip_motion import clip_motion, moves_of
from ig65m.motion.path import FRAMES, HOP, Pair, Paths, solve, steady_moves
from ig65m.motion.segments import segments_of
from ig65m.motion.weights import load_weights
from ig65m.types import ClipMotion, Speeds
from ig65m.video.sample import Sample

STEP = 0.04  # seconds


def samples(count, lost=(), shapes=None, error=None):
    """Samples whose pixels are their numbers; every second one has none."""
    for number in range(count):
        pixels = None if number in lost or number % 2 else np.full((EDGE, EDGE, 3), number % 251, np.uint8)
        shape = None if pixels is None else (shapes or {}).get(number, (360, 640))
        yield Sample(number * STEP, (number + 1) * STEP, pixels, lost=number in lost, shape=shape)
    if error is not None:
        raise error


def numbers(clip):
    return clip.pixels[:, 0, 0, 0].tolist()


def test_chunks_share_a_frame_and_take_every_second_one():
    first, second, third = chunks_of(samples(40))
    assert numbers(first) == list(range(0, 17, 2))
    assert numbers(second) == list(range(16, 33, 2))
    assert numbers(third) == [32, 34, 36, 38, *[38] * 5]
    assert [clip.span.joined for clip in (first, second, third)] == [False, True, True]
    assert len(third.span.times) == 4
    assert (third.span.start, third.span.end) == pytest.approx((32 * STEP, 39 * STEP))
    assert first.span.aspect == pytest.approx(16 / 9)


def test_a_video_that_ends_with_a_chunk_has_no_chunk_of_one_frame_more():
    assert len(list(chunks_of(samples(17)))) == 1
    assert len(list(chunks_of(samples(1)))) == 1


def test_a_chunk_ends_before_a_lost_frame_and_at_another_shape():
    first, second = chunks_of(samples(20, lost={5}))
    assert numbers(first)[:3] == [0, 2, 4]
    assert len(first.span.times) == 3
    assert (numbers(second)[0], second.span.joined, second.span.first_frame) == (6, False, 6)
    upright = dict.fromkeys(range(7, 20), (640, 360))
    first, second = chunks_of(samples(20, shapes=upright))
    assert len(first.span.times) == 4
    assert numbers(second)[0] == 8
    assert (first.span.aspect, second.span.aspect) == pytest.approx((16 / 9, 9 / 16))


def test_an_error_comes_after_the_last_chunk():
    chunks = chunks_of(samples(21, error=VideoError("broken")))
    assert [len(next(chunks).span.times) for _ in range(2)] == [WINDOW, 3]
    with pytest.raises(VideoError, match="broken"):
        next(chunks)


def chunk_span(first, count, joined):
    times = tuple((first + 2 * index) * STEP for index in range(count))
    return ChunkSpan(times[0], times[-1] + STEP, first, first + 2 * (count - 1), times=times, aspect=1.5, joined=joined)


def pair(start, end, move, cut=0.0, sigma=1e-3):
    return Pair(start, end, np.asarray(move, dtype=float), np.full(4, sigma), cut, 0.0)


def paths(count, speed, cuts=()):
    """Paths of a video of `count` frames that the network saw, whose camera moves by `speed` from one to the next."""
    found, together, first = [], Paths(), 0
    while first == 0 or first < count - 1:
        size = min(WINDOW, count - first)
        span = chunk_span(2 * first, size, joined=first > 0)
        moves = [
            pair(start, end, np.asarray(speed) * (end - start), cut=0.9 if first + start in cuts and end == start + 1 else 0.0)
            for start, end in PAIRS
            if end < size
        ]
        found += together.add(span, moves)
        first += WINDOW - 1
    found += together.finish()
    return found, together.cuts


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 12, 13, 16, 17, 40, 41])
def test_clips_overlap_by_half_and_cover_the_video(count):
    found, _ = paths(count, [0.01, 0, 0, 0])
    starts = [path.span.first_frame for path in found]
    assert starts == [2 * HOP * index for index in range(len(found))]
    assert found[-1].span.last_frame == 2 * (count - 1)
    assert found[-1].span.end == pytest.approx((2 * count - 1) * STEP)
    assert all(len(path.times) == FRAMES for path in found[:-1])
    for path in found:
        assert path.positions[:, 0] == pytest.approx(0.01 * np.arange(len(path.times)), abs=1e-9)


def test_a_clip_with_a_cut_follows_its_longer_part():
    found, cuts = paths(16, [0.01, 0, 0, 0], cuts={5})
    assert cuts == [pytest.approx(11 * STEP)]
    assert len(found[0].times) == 6  # frames 0 to 5 of 0 to 7
    assert found[0].cut == pytest.approx(0.9)
    assert len(found[1].times) == 6  # frames 6 to 11 of 4 to 11
    assert found[2].cut == 0


def test_a_dissolve_is_one_cut():
    _, cuts = paths(16, [0, 0, 0, 0], cuts={4, 5, 6})
    assert cuts == [pytest.approx(11 * STEP)]


def test_positions_are_a_weighted_least_squares_solution():
    rng = np.random.default_rng(0)
    pairs = [(start, end) for start, end in PAIRS if end < FRAMES]
    moves, sigmas = rng.normal(size=(len(pairs), 4)), rng.uniform(0.5, 2, (len(pairs), 4))
    given = [Pair(*ends, move, sigma, 0, 0) for ends, move, sigma in zip(pairs, moves, sigmas, strict=True)]
    positions, sigma = solve(given, 0, FRAMES)
    design = np.zeros((len(pairs), FRAMES))
    for row, (start, end) in enumerate(pairs):
        design[row, [start, end]] = -1, 1
    for column in range(4):
        scale = sigmas[:, column]
        wanted = np.linalg.lstsq(design[:, 1:] / scale[:, None], moves[:, column] / scale, rcond=None)[0]
        assert positions[1:, column] == pytest.approx(wanted)
        inverse = np.linalg.inv((design[:, 1:] / scale[:, None]).T @ (design[:, 1:] / scale[:, None]))
        assert sigma[column] == pytest.approx(math.sqrt(inverse[-1, -1]))


def clip(start, speeds=(0.0, 0.0, 0.0, 0.0), cut=0.0):
    return ClipMotion(start, start + 0.6, Speeds(*speeds), Speeds(0.01, 0.01, 0.01, 1.0), 0.1, 0.2, cut, 0.0, "static")


def segments(*names, cuts=()):
    speeds = {"pan_right": (0.2, 0, 0, 0), "zoom_in": (0, 0, 0.1, 0), "both": (0.2, 0, 0.1, 0), "": (0, 0, 0, 0)}
    moves = {"both": ("pan_right", "zoom_in"), "": ()}
    clips = [(clip(0.3 * index, speeds[name]), moves.get(name, (name,))) for index, name in enumerate(names)]
    found = segments_of(clips, cuts)
    for before, after in pairwise(found):
        assert before.end == pytest.approx(after.start)
    return [(round(each.start, 2), round(each.end, 2), [move.move for move in each.moves]) for each in found]


def test_clips_with_the_same_moves_are_one_segment():
    assert segments("", "", "pan_right", "pan_right", "both", "both") == [
        (0, 0.75, []),
        (0.75, 1.35, ["pan_right"]),
        (1.35, 2.1, ["pan_right", "zoom_in"]),
    ]


def test_a_single_clip_makes_no_segment_and_no_gap():
    assert segments("", "", "pan_right", "", "") == [(0, 1.8, [])]
    assert segments("pan_right", "pan_right", "", "pan_right") == [(0, 1.5, ["pan_right"])]
    assert segments("pan_right") == [(0, 0.6, ["pan_right"])]


def test_a_cut_ends_a_segment():
    assert segments("", "", "", cuts=[0.6]) == [(0, 0.6, []), (0.6, 1.2, [])]


def test_no_clips_make_no_segments():
    assert segments_of([], []) == ()


def test_a_move_must_be_fast_enough_and_sure():
    sure = np.array([0.001, 0.001, 0.001, 0.1])
    assert moves_of(np.array([0.06, -0.2, 0, 0]), sure, 25, shake=0) == ("tilt_down", "pan_right")
    assert moves_of(np.array([0.04, 0, 0, 0]), sure, 25, shake=0) == ()
    assert moves_of(np.array([0.04, 0, 0, 0]), sure, 12, shake=0) == ("pan_right",)  # 0.33 % a frame
    assert moves_of(np.array([0.06, 0, 0, 0]), np.full(4, 0.05), 25, shake=0) == ()
    assert moves_of(np.array([0.06, 0, 0, 0]), sure, 25, shake=0.9) == ()
    assert moves_of(np.array([0, 0, -0.1, -5.0]), sure, 25, shake=0) == ("zoom_out", "roll_counterclockwise")


def test_what_is_not_known_is_no_move_and_says_so():
    """The limit of standard deviations that are reported does not make a move of a guess."""
    (path,), _ = paths(8, [0.1, 0, 0, 0])
    vague = np.array([5.0, 5.0, 5.0, 500.0])
    motion, moves = clip_motion(replace(path, sigma=vague, step_sigma=vague), load_weights())
    assert motion.speeds.pan == pytest.approx(0.1 / (2 * STEP))
    assert (motion.sigma.pan, motion.sigma.roll) == (0.5, 45.0)
    assert moves == ()


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_steady_moves_add_up_over_frames(frames):
    """A similarity that is applied several times, by matrices, is as many times the move of one."""
    aspect, zoom, turn = 16 / 9, 0.01, math.radians(-1.5)
    linear = math.exp(zoom) * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    one = np.eye(3)
    one[:2] = np.column_stack([linear, [0.02, 0.05]])
    moves = []
    for matrix in (one, np.linalg.matrix_power(one, frames)):
        similar = [matrix[0, 2] / (2 * aspect), matrix[1, 2] / 2, matrix[0, 0] - 1, matrix[1, 0]]
        moves.append(steady_moves(np.array([similar]), aspect)[0])
    assert moves[1] == pytest.approx(frames * moves[0])
    assert moves[0][2:] == pytest.approx([0.01, 1.5])
    assert moves[0][:2] == pytest.approx([-0.02 / (2 * aspect), 0.05 / 2], rel=0.05)


def test_a_shift_is_a_pan_and_a_tilt():
    assert steady_moves(np.array([[0.1, 0.2, 0, 0]]), 1.5)[0] == pytest.approx([-0.1, 0.2, 0, 0])
