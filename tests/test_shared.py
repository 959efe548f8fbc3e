"""An engine that threads share: batches of several callers, each one's own results and errors, nobody waits in vain."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ig65m.engines.base import Work
from ig65m.engines.choice import choose
from ig65m.engines.shared import SharedEngine
from ig65m.errors import ModelError, UsageError
from ig65m.tasks.extractor import Extractor
from ig65m.zoo.load import load_weights

BAD = 255


class Doubling:
    """Features are twice a clip's mean, logits thrice; a run takes `seconds`; a clip of BAD is a ModelError."""

    name, precision, device = "doubling", "fp32", "cpu"

    def __init__(self, size, seconds=0.0):
        self.size, self.seconds, self.runs = size, seconds, []

    def __call__(self, clips):
        assert 1 <= len(clips) <= self.size
        self.runs.append(len(clips))
        time.sleep(self.seconds)
        if (clips == BAD).any():
            raise ModelError("not finite")
        means = clips.reshape(len(clips), -1).mean(1, keepdims=True).astype(np.float32)
        return means * 2, means * 3


def clips(*values):
    return np.stack([np.full((2, 4, 4, 3), value, np.uint8) for value in values])


def both(single=0.0, eight=0.0):
    one, many = Doubling(1, single), Doubling(8, eight)
    return SharedEngine({1: one, 8: many}), one, many


def test_everybody_gets_their_own_rows_in_order():
    shared, one, many = both(single=0.001, eight=0.004)
    rng = np.random.default_rng(0)

    def ask(_):
        with shared.expected():
            for _ in range(5):
                values = rng.integers(0, BAD, rng.integers(1, 20))
                features, logits = shared(clips(*values))
                np.testing.assert_array_equal(features, values[:, None] * 2)
                np.testing.assert_array_equal(logits, values[:, None] * 3)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(12)))
    counts = shared.counts
    assert counts.clips == sum(one.runs) + sum(many.runs)
    assert counts.batches == len(one.runs) + len(many.runs)
    assert counts.mean > 4


def test_a_whole_batch_runs_in_the_large_engine_and_what_is_left_in_the_small_one():
    shared, one, many = both()
    shared(clips(*range(17)))
    assert many.runs == [8, 8]
    assert one.runs == [1]


def test_a_lone_clip_does_not_wait_and_does_not_fill_a_batch():
    shared, one, many = both()
    with shared.expected():
        shared(clips(1))
    assert (one.runs, many.runs) == ([1], [])


def test_clips_wait_a_little_for_those_of_others():
    shared, one, many = both()
    there = threading.Barrier(8)

    def ask(value):
        with shared.expected():
            there.wait()
            return shared(clips(value))[0]

    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(ask, range(8)))
    np.testing.assert_array_equal(np.concatenate(rows)[:, 0], np.arange(8) * 2)
    assert (one.runs, many.runs) == ([], [8])


def test_nobody_waits_for_somebody_who_does_not_come():
    shared, one, _ = both()
    with ThreadPoolExecutor(1) as pool, shared.expected(), shared.expected():
        pool.submit(shared, clips(1, 2)).result()
    assert one.runs == [1, 1]


@pytest.mark.parametrize(
    ("eight", "expected"),
    [(0.02, ([1], [5, 5, 3])), (0.2, ([1] * 9, [5]))],  # which takes one try to see
    ids=["filling up pays", "it does not"],
)
def test_a_part_of_a_batch_runs_where_it_is_faster(eight, expected):
    shared, one, many = both(single=0.01, eight=eight)
    for count in (1, 5, 5, 3):
        shared(clips(*range(count)))
    assert (one.runs, many.runs) == expected


def test_an_error_is_of_the_clip_that_made_it():
    shared, _, many = both(eight=0.01)
    there = threading.Barrier(4)

    def ask(values):
        with shared.expected():
            there.wait()
            return shared(clips(*values))[0][:, 0].tolist()

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, values) for values in ((1, 2), (3, BAD), (4, 5), (6, 7))]
        assert [asked[place].result() for place in (0, 2, 3)] == [[2, 4], [8, 10], [12, 14]]
        with pytest.raises(ModelError, match="not finite"):
            asked[1].result()
    assert 8 in many.runs
    np.testing.assert_array_equal(shared(clips(9))[0], [[18]])


def test_an_interrupted_run_leaves_nobody_waiting(monkeypatch):
    shared, *_ = both()
    there = threading.Barrier(2)

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shared, "_engines", {1: interrupted, 8: interrupted})

    def ask(values):
        with shared.expected():
            there.wait()
            shared(clips(*values))

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, (1, 2, 3, 4)) for _ in range(2)]
        for each in asked:
            with pytest.raises((KeyboardInterrupt, RuntimeError)):
                each.result(timeout=5)


def test_clips_of_another_shape_harm_nobody_else():
    shared, *_ = both(single=0.01)
    there = threading.Barrier(2)

    def ask(given):
        with shared.expected():
            there.wait()
            return shared(given)[0][:, 0].tolist()

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, given) for given in (clips(*range(7)), np.full((1, 2, 5, 5, 3), 9, np.uint8))]
        assert [each.result(timeout=5) for each in asked] == [[0, 2, 4, 6, 8, 10, 12], [18]]


def test_no_clip_and_no_engine_for_one_are_wrong_use():
    shared, *_ = both()
    with pytest.raises(UsageError, match="at least one clip"):
        shared(clips(1)[:0])
    with pytest.raises(UsageError, match="batch size 1"):
        SharedEngine({8: Doubling(8)})


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "pytorch"])
def test_neighbours_change_no_more_than_the_last_bits(engine):
    model = load_weights("r2plus1d_10_camera_motion")
    work = Work(preprocessing=model.card.preprocessing, frames=8)
    given = np.random.default_rng(0).integers(0, 256, (16, *work.shape[1:]), np.uint8)
    alone = choose(engine).load(model, work)
    expected = [alone(given[[place]]) for place in range(16)]
    sizes = {
        size: choose(engine).load(model, Work(preprocessing=work.preprocessing, frames=8, batch_size=size)) for size in (1, 8)
    }
    shared = SharedEngine(sizes)
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda place: shared(given[[place]]), range(16)))
    for (features, logits), (own_features, own_logits) in zip(expected, got, strict=True):
        np.testing.assert_allclose(own_features, features, rtol=0, atol=2e-6 * np.abs(features).max())
        np.testing.assert_allclose(own_logits, logits, rtol=0, atol=2e-6 * np.abs(logits).max())


def test_an_extractor_that_threads_share_gives_what_one_alone_gives(videos):
    paths = sorted(videos.glob("*.mp4"))[:8]
    alone = Extractor("r2plus1d_10_camera_motion", logits=True)
    expected = list(alone.extract_many(paths))
    shared = Extractor("r2plus1d_10_camera_motion", logits=True, shared=True)
    assert shared.settings == alone.settings
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda path: next(shared.extract_many([path])), paths))
        predicted = list(pool.map(lambda path: next(shared.classify_many([path], top_k=2)), paths))
    for one, other, prediction in zip(expected, got, predicted, strict=True):
        assert other.spans == one.spans
        np.testing.assert_allclose(other.array, one.array, rtol=0, atol=2e-6 * np.abs(one.array).max())
        assert [clip.start for clip in prediction.clips] == [span.start for span in one.spans]
        assert len(prediction.labels) == 2
    assert shared.counts.clips == 2 * sum(len(one.spans) for one in expected)
    assert alone.counts.clips == 0
