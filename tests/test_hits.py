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


in_shots = st.lists(st.tuples(st.integers(0, 1), st.none() | st.integers(0, 2), st.integers(-10, 10)), max_size=12)


@given(in_shots, st.integers(1, 6))
def test_hits_of_a_shot_are_one(numbers, count):
    """The n-th hit is from n to n + 0.5 s: none touch, so only those of one shot are merged."""
    hits = [Hit(f"v{video}", "", score, n, n + 0.5, shot=shot) for n, (video, shot, score) in enumerate(numbers)]
    groups = {}
    for hit in hits:
        groups.setdefault((hit.video, hit.start if hit.shot is None else "shot", hit.shot), []).append(hit)
    found = merged(hits, by_shot=True)
    assert sorted((hit.video, hit.start, hit.end, hit.score, hit.shot is None) for hit in found) == sorted(
        (video, min(hit.start for hit in every), max(hit.end for hit in every), max(hit.score for hit in every), shot is None)
        for (video, _, shot), every in groups.items()
    )
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    hits.sort(key=lambda hit: -hit.score)
    sizes = [len(merged(hits[:number], by_shot=True)) for number in range(len(hits) + 1)]
    assert best_moments(hits, count, by_shot=True) == merged(
        hits[: sizes.index(count)] if count in sizes else hits, by_shot=True
    )


def test_a_moment_of_several_shots_has_no_shot():
    hits = [Hit("v", "", 0.5, 0, 1, shot=0), Hit("v", "", 0.9, 1, 2, shot=0), Hit("v", "", 0.7, 2, 3, shot=1)]
    assert [(hit.end, hit.score, hit.shot) for hit in merged(hits[:2])] == [(2, 0.9, 0)]
    assert [(hit.end, hit.score, hit.shot) for hit in merged(hits)] == [(3, 0.9, None)]


@given(moments, st.integers(1, 8))
def test_as_many_moments_as_asked_for(numbers, count):
    hits = sorted(hits_of(numbers), key=lambda hit: -hit.score)
    found = best_moments(hits, count)
    sizes = [len(merged(hits[:number])) for number in range(len(hits) + 1)]
    if count in sizes:
        assert found == merged(hits[: sizes.index(count)])
    else:
        assert found == merged(hits)
