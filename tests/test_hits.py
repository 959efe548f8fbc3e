"""Which hits are one moment."""

import math

from hypothesis import given
from hypothesis import strategies as st

from ig65m.search.hits import Hit, best_moments, merged


def hits_of(numbers):
    return [Hit(f"v{video}", "", score / 10, start / 2, start / 2 + length / 2) for video, score, start, length in numbers]


moments = st.lists(st.tuples(st.integers(0, 2), st.integers(-10, 10), st.integers(0, 30), st.integers(1, 4)), max_size=25)


@given(moments)
def test_merged_moments(numbers):
    """Against half seconds painted on a line: what touches is one."""
    hits = hits_of(numbers)
    found = merged(hits)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    for video in {hit.video for hit in hits}:
        theirs = [hit for hit in hits if hit.video == video]
        painted = {half for hit in theirs for half in range(round(2 * hit.start), round(2 * hit.end))}
        joined = {round(2 * hit.start) for hit in theirs} & {round(2 * hit.end) for hit in theirs}
        runs, here = [], []
        for half in [*sorted(painted), math.inf]:
            if here and half != here[-1] + 1:
                runs.append((here[0] / 2, (here[-1] + 1) / 2))
                here = []
            here.append(half)
        assert sorted((hit.start, hit.end) for hit in found if hit.video == video) == runs, joined
        for moment in (hit for hit in found if hit.video == video):
            inside = [hit for hit in theirs if moment.start <= hit.start < moment.end]
            assert moment.score == max(hit.score for hit in inside)
    assert merged(found) == found


@given(moments, st.integers(1, 8))
def test_as_many_moments_as_asked_for(numbers, count):
    hits = sorted(hits_of(numbers), key=lambda hit: -hit.score)
    found = best_moments(hits, count)
    sizes = [len(merged(hits[:number])) for number in range(len(hits) + 1)]
    if count in sizes:
        assert found == merged(hits[: sizes.index(count)])
    else:
        assert found == merged(hits)
