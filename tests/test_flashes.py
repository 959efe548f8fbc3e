"""Flashes in shots are no cuts, and nothing else is taken for a flash."""

import numpy as np
import pytest

from ig65m.shots.flashes import flash_frames
from tests.shot_footage import dissolve, take


def brightened(pictures, first, rises):
    """The pictures from `first` on with these shares of the way to white."""
    lit = pictures.copy()
    for number, share in enumerate(rises, first):
        lit[number] = (pictures[number] + (255.0 - pictures[number]) * share).round().astype(np.uint8)
    return lit


def small(pictures):
    """As large as TransNetV2 takes them: the nearest pixels."""
    rows, columns = (np.linspace(0, size - 1, wanted).round().astype(int) for size, wanted in ((96, 27), (160, 48)))
    return pictures[:, rows[:, None], columns]


def flagged(pictures):
    return np.flatnonzero(list(flash_frames(iter(small(pictures))))).tolist()


@pytest.mark.parametrize("name", ["rabbit", "square"])
@pytest.mark.parametrize("first", [1, 7, 20, 37])
@pytest.mark.parametrize("rises", [[1.0], [1.0, 1.0], [0.8, 0.8, 0.8], [0.5, 1, 1, 0.5]], ids=str)
def test_a_flash_and_the_frames_beside_it(name, first, rises):
    pictures = take(name, 40)
    if first + len(rises) > 39:
        first = 39 - len(rises)
    assert flagged(brightened(pictures, first, rises)) == list(range(first - 1, first + len(rises) + 1))


def test_a_flash_that_rises_and_falls():
    rises = np.sin(np.linspace(0, np.pi, 11)[1:-1]) * 0.8
    found = flagged(brightened(take("square", 40), 12, rises))
    assert set(range(14, 19)) <= set(found) <= set(range(11, 22))


def test_a_broken_flash_has_no_end():
    """A picture that stays bright, and one that comes back after too long, is none."""
    assert flagged(brightened(take("rabbit", 60), 20, [0.8] * 40)) == []
    assert flagged(brightened(take("rabbit", 60), 20, [0.8] * 25)) == []


@pytest.mark.parametrize("names", [("rabbit", "street"), ("street", "square"), ("square", "rabbit")])
def test_what_changes_the_picture_is_none(names):
    """A cut, a dissolve, a fade through white or through black, a cut with a white frame between."""
    first, second = (take(name, 40) for name in names)
    assert flagged(np.concatenate([first, second])) == []
    assert flagged(dissolve(first, second, 12)) == []
    for count in (4, 8, 16, 40):
        fade = np.linspace(0, 1, count)
        through_white = np.concatenate([brightened(first, 40 - count, fade), brightened(second, 0, fade[::-1])])
        assert flagged(through_white) == []
        assert flagged(255 - through_white) == []
    assert flagged(np.concatenate([brightened(first, 39, [1.0]), second])) == []


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_short_shot_of_something_else_is_none(count):
    first, second = take("rabbit", 40), take("square", 40)
    assert flagged(np.concatenate([first[:20], second[:count], first[20:]])) == []
    assert flagged(np.concatenate([second[:20], first[:count], second[20:]])) == []


@pytest.mark.parametrize("count", [2, 4, 6, 10])
def test_fast_cutting_is_none(count):
    """Night and day in turn; pictures between black frames; pictures between title cards."""
    night, day, other = (take("rabbit", 40) * 0.3).astype(np.uint8), take("street", 40), take("square", 40)
    turns = [(night, day)[turn % 2][turn : turn + count] for turn in range(8)]
    assert flagged(np.concatenate([night[:20], *turns, night[20:]])) == []
    black = np.zeros_like(day[:6])
    assert flagged(np.concatenate([black, day[:count], black, other[:count], black, night[:count], black])) == []
    card = black.copy()
    card[:, 40:56, 20:140:6] = 255
    assert flagged(np.concatenate([card, day[:count], card[:, :, ::-1], other[:count], card])) == []


def test_every_frame_has_an_answer():
    for count in (1, 2, 12, 13, 14, 30):
        assert len(list(flash_frames(iter(small(take("rabbit", 40)[:count]))))) == count
    assert list(flash_frames(iter([]))) == []
