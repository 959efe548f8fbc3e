"""Features as colours that people can read: order, contrast and change, compared with SciPy and matplotlib."""

import io
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import cosine

from ig65m.display.feature_map import (
    cell_edges,
    changes,
    feature_levels,
    feature_order,
    run_means,
    run_starts,
    viridis,
)
from ig65m.display.png import indexed_png
from ig65m.errors import UsageError


def draws(clips, width, seed=0):
    return np.random.default_rng(seed).standard_normal((clips, width))


def standardised(values):
    return (values - values.mean(0)) / values.std(0)


def test_colours_are_those_of_viridis():
    theirs = mpl.colormaps["viridis"](np.arange(256))[:, :3] * 255
    assert np.abs(viridis() - theirs).max() < 1.5


@pytest.mark.parametrize(("clips", "width"), [(5, 40), (30, 7), (60, 129)])
def test_each_group_of_scipys_tree_is_together(clips, width):
    scaled = standardised(draws(clips, width) @ draws(width, width, 1))
    order = feature_order(scaled)
    assert sorted(order) == list(range(width))
    rows, columns = np.triu_indices(width, 1)
    tree = linkage(1 - np.corrcoef(scaled.T)[rows, columns], "average")
    places = np.argsort(order)
    groups = [[number] for number in range(width)]
    for first, second, *_ in tree:
        groups.append(groups[int(first)] + groups[int(second)])
        at = places[groups[-1]]
        assert at.max() - at.min() == len(at) - 1


def test_similar_features_are_neighbours_whatever_their_numbers():
    """Three kinds of features, shuffled: each kind is one block, and constant features are last."""
    kinds = np.tile([0, 1, 2, 3], 10)
    courses = np.stack([np.sin(np.arange(50)), np.arange(50) % 7, np.arange(50) ** 2, np.ones(50)], axis=1)
    values = 3 + standardised(np.where(np.arange(4) < 3, courses, draws(50, 4)))[:, kinds]
    values[:, :36] += 0.05 * draws(50, 36, 1)
    values[:, kinds == 3] = 3
    scaled = np.where(values.std(0) > 0, values - values.mean(0), 0) / np.maximum(values.std(0), 1e-9)
    blocks = kinds[feature_order(scaled)]
    assert np.count_nonzero(np.diff(blocks)) == 3
    assert (blocks[-10:] == 3).all()


def test_the_order_is_the_same_again_and_for_equal_features():
    assert feature_order(np.ones((6, 5)) * [[1], [-1], [1], [-1], [1], [-1]]).tolist() == [0, 1, 2, 3, 4]
    assert feature_order(np.zeros((6, 5))).tolist() == [0, 1, 2, 3, 4]
    scaled = standardised(draws(20, 50))
    np.testing.assert_array_equal(feature_order(scaled), feature_order(scaled.copy(order="F")))


def test_the_ends_of_the_colours_are_percentiles_whatever_one_value_is():
    values = draws(200, 30)
    levels = feature_levels(values, 30)
    assert ((levels == 0).mean(), (levels == 255).mean()) == pytest.approx((0.02, 0.02), abs=0.002)
    scaled = standardised(values)
    low, high = np.percentile(scaled, [2, 98])
    wanted = np.rint(255 * np.clip((scaled[:, feature_order(scaled)] - low) / (high - low), 0, 1)).T
    np.testing.assert_array_equal(levels, wanted)
    values[17, 4] = 1e6
    assert feature_levels(values, 30).std() > 50


def test_levels_of_scaled_features_are_the_same():
    values = draws(40, 30)
    np.testing.assert_array_equal(feature_levels(values, 30), feature_levels(1000 + 8 * values, 30))


def test_a_still_video_is_of_one_colour():
    still = np.abs(draws(1, 30)).repeat(20, axis=0)
    for values in (still[:1], still, np.zeros((4, 3)), still * (1 + 1e-8 * draws(20, 30))):
        assert (feature_levels(values.astype(np.float32), 30) == 0).all()


def test_large_ones_are_means():
    assert feature_levels(draws(5000, 300), 64).shape == (64, 2000)
    assert feature_levels(draws(50, 3), 64).shape == (3, 50)
    assert run_starts(7, 3).tolist() == [0, 2, 4]
    np.testing.assert_allclose(run_means(np.arange(14.0).reshape(7, 2), 3), [[1, 2], [5, 6], [10, 11]])


def test_what_has_no_colours():
    for values in (np.zeros((0, 4)), np.zeros((2, 3, 4)), np.array([[np.inf, 1.0]]), np.array([[np.nan, 1.0]])):
        with pytest.raises(UsageError, match="semantic code"):
            feature_levels(values, 8)


def test_changes_are_scipys_cosine_distances():
    values = draws(12, 9).astype(np.float32)
    wanted = [cosine(a.astype(float), b.astype(float)) for a, b in pairwise(values)]
    np.testing.assert_allclose(changes(values), wanted, atol=1e-7)
    assert changes(values[:1]).tolist() == []
    zero = np.zeros(2)
    assert changes(np.array([zero, zero, [3, 4], [6, 8], [-3, -4], [4, -3], zero])).tolist() == [0, 1, 0, 2, 1, 1]


@pytest.mark.parametrize(
    ("starts", "ends", "edges"),
    [
        ([0, 1, 2], [1, 2, 3], [0, 1, 2, 3]),
        ([0, 3], [3, 4], [0, 3, 4]),
        ([1.0, 1.5, 2.0], [3.0, 3.5, 4.0], [1.0, 2.25, 2.75, 4.0]),
        ([0, 5], [1, 6], [0, 3, 6]),
        ([0], [2], [0, 2]),
    ],
)
def test_clips_share_their_time_at_the_centre(starts, ends, edges):
    assert cell_edges(np.array(starts, float), np.array(ends, float)).tolist() == edges


@pytest.mark.parametrize("shape", [(1, 1), (64, 2000), (3, 5)])
def test_pillow_reads_the_png(shape):
    levels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(indexed_png(levels, viridis()))) as image:
        image.verify()
    with Image.open(io.BytesIO(indexed_png(levels, viridis()))) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), viridis()[levels])
