import gc
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ig65m.errors import UsageError, VideoError
from ig65m.video.sampling import Sampling, clip_samples, clip_starts, leaves_gaps, needed, samples, windows


@dataclass(frozen=True)
class Shown:
    time: float
    end: float


def shown(*times: float, end: float) -> list[Shown]:
    return [Shown(a, b) for a, b in zip(times, [*times[1:], end], strict=True)]


def constant(rate: float, count: int, *, first: float = 0.0, digits: int = 9) -> list[Shown]:
    times = [round(first + i / rate, digits) for i in range(count + 1)]
    return shown(*times[:-1], end=times[-1])


def brute_clips(count: int, frames: int, step: int, stride: int, tail: str) -> list[list[int]]:
    """For each clip the samples it shows, from the rule in words, by trying every start."""
    clips, covered = [], set()
    for start in range(0, count, stride):
        places = [start + j * step for j in range(frames)]
        if places[-1] < count:
            clips.append(places)
            covered.update(range(start, places[-1] + 1))
        else:
            fresh = not covered or any(sample > max(covered) for sample in range(start, count)) or count - 1 > max(covered)
            if not clips or (tail == "pad" and fresh):
                real = [place for place in places if place < count]
                clips.append(real + [real[-1]] * (frames - len(real)))
            break
    return clips


samplings = st.builds(
    Sampling,
    frames=st.integers(1, 9),
    frame_step=st.integers(1, 5),
    stride=st.none() | st.integers(1, 40),
    tail=st.sampled_from(["pad", "drop"]),
)


@given(st.integers(0, 120), samplings)
def test_windows_are_the_rule_tried_out_by_brute_force(count: int, sampling: Sampling) -> None:
    stride = sampling.stride or (sampling.frames - 1) * sampling.frame_step + 1
    expected = brute_clips(count, sampling.frames, sampling.frame_step, stride, sampling.tail)
    got = list(windows(range(count), sampling))
    assert [window for window, _ in got] == expected
    assert [real for _, real in got] == [len(set(window)) for window in expected]
    assert clip_starts(count, sampling) == [window[0] for window in expected]


@given(st.integers(0, 200), samplings)
def test_needed_ticks_are_those_of_the_clips_of_a_longer_video(sample: int, sampling: Sampling) -> None:
    longer = sample + 2 * sampling.span + sampling.hop
    full = [window for window, real in windows(range(longer), sampling) if real == sampling.frames]
    assert needed(sample, sampling) == any(sample in window for window in full)


@pytest.mark.parametrize(
    ("count", "options", "starts"),
    [
        (20, {}, [0, 8, 16]),
        (20, {"tail": "drop"}, [0, 8]),
        (16, {}, [0, 8]),
        (5, {}, [0]),
        (5, {"tail": "drop"}, [0]),
        (0, {}, []),
        (20, {"stride": 4}, [0, 4, 8, 12]),
        (21, {"stride": 4}, [0, 4, 8, 12, 16]),
        (14, {"stride": 10}, [0, 10]),
        (10, {"stride": 10}, [0]),
        (15, {"frame_step": 2}, [0]),
        (16, {"frame_step": 2}, [0, 15]),
    ],
)
def test_clip_starts_of_clips_of_eight_frames(count: int, options: dict[str, int], starts: list[int]) -> None:
    assert clip_starts(count, Sampling(frames=8, **options)) == starts


def test_a_short_clip_repeats_its_own_last_frame() -> None:
    assert list(windows("abcdef", Sampling(frames=4, frame_step=2))) == [(["a", "c", "e", "e"], 3)]


def test_a_clip_is_given_before_the_next_item_is_asked_for() -> None:
    asked = []

    def items() -> object:
        for i in range(100):
            asked.append(i)
            yield i

    next(windows(items(), Sampling(frames=4, frame_step=3)))
    assert asked == list(range(10))


class Item:
    pass


@pytest.mark.parametrize("stride", [1, 3, None, 50])
def test_memory_is_bounded_by_one_span_whatever_the_length(stride: int | None) -> None:
    sampling, alive, most = Sampling(frames=8, frame_step=2, stride=stride), weakref.WeakSet(), 0

    def items() -> object:
        nonlocal most
        for _ in range(500):
            item = Item()
            alive.add(item)
            most = max(most, len(alive))
            yield item
            del item

    for _window in windows(items(), sampling):
        del _window
    gc.collect()
    assert most <= sampling.span + sampling.frames + 2


def test_every_frame_is_a_tick_without_a_rate() -> None:
    frames = shown(0.0, 0.1, 0.15, 0.9, end=1.0)
    assert list(samples(frames, Sampling(frames=1))) == frames


def test_start_and_end_choose_by_presentation_time() -> None:
    frames = constant(25, 100, first=1.4)
    chosen = list(samples(frames, Sampling(frames=1, start=2.0, end=3.0)))
    assert (chosen[0].time, chosen[-1].time, len(chosen)) == (2.0, 2.96, 25)


def test_adjoining_ranges_share_no_frame_and_lose_none() -> None:
    frames = constant(29.97, 100, digits=3)
    cut = frames[40].time + 0.0004
    before = list(samples(frames, Sampling(frames=1, end=cut)))
    after = list(samples(frames, Sampling(frames=1, start=cut)))
    assert before + after == frames
    assert len(before) == 40


def test_nothing_is_read_after_the_end() -> None:
    def frames() -> object:
        yield from constant(25, 50)
        pytest.fail("read too far")

    assert len(list(samples(frames(), Sampling(frames=1, end=1.0)))) == 25


@pytest.mark.parametrize("digits", [9, 3])
@pytest.mark.parametrize("rate", [23.976, 25.0, 29.97, 30.0, 60.0])
def test_retiming_to_the_own_rate_changes_nothing(rate: float, digits: int) -> None:
    """Matroska's times are whole milliseconds: no frame may be doubled or lost for that."""
    frames = constant(rate, 300, digits=digits)
    assert list(samples(frames, Sampling(frames=1, fps=rate))) == frames


def test_retiming_to_half_the_rate_takes_every_second_frame() -> None:
    frames = constant(30, 90, digits=3)
    assert list(samples(frames, Sampling(frames=1, fps=15))) == frames[::2]


def test_retiming_up_repeats_frames() -> None:
    frames = constant(10, 3)
    assert [frame.time for frame in samples(frames, Sampling(frames=1, fps=30))] == [0, 0, 0, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2]


def test_a_lasting_frame_is_shown_until_its_end_or_the_end_asked_for() -> None:
    frames = shown(0.0, 1.0, end=3.0)
    assert [frame.time for frame in samples(frames, Sampling(frames=1, fps=2))] == [0, 0, 1, 1, 1, 1]
    assert [frame.time for frame in samples(frames, Sampling(frames=1, fps=2, end=2.0))] == [0, 0, 1, 1]


def test_a_frame_without_duration_still_gives_a_tick() -> None:
    assert len(list(samples([Shown(2.0, 2.0)], Sampling(frames=1, fps=25)))) == 1


@given(
    gaps=st.lists(st.integers(5, 300), min_size=1, max_size=40),
    first=st.integers(-2000, 5000),
    fps=st.sampled_from([1.0, 4.0, 12.5, 25.0]),
)
def test_each_tick_shows_the_last_frame_not_after_it(gaps: list[int], first: int, fps: float) -> None:
    """Times here are whole milliseconds, samples are compared in exact arithmetic but for those that fall on the tolerance."""
    times = [first]
    for gap in gaps:
        times.append(times[-1] + gap)
    frames = shown(*(time / 1000 for time in times[:-1]), end=times[-1] / 1000)
    got = [round(frame.time * 1000) for frame in samples(frames, Sampling(frames=1, fps=fps))]
    period = round(1000 / fps)
    grid = [sample for sample in range(first, times[-1], period) if times[-1] - sample > 1 or sample == first]
    for sample, time in zip(grid, got, strict=False):
        on_display = [frame for frame in times[:-1] if frame <= sample]
        assert time == on_display[-1] or (time == sample + 1 and time in times)
    assert abs(len(grid) - len(got)) <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"frames": 8, "frame_step": 0}, "frame_step must be at least 1"),
        ({"frames": 8, "stride": 0}, "stride must be at least 1"),
        ({"frames": 8, "fps": 0.0}, "fps must be a positive number"),
        ({"frames": 8, "fps": float("nan")}, "fps must be a positive number"),
        ({"frames": 8, "start": float("inf")}, "start must be a finite number"),
        ({"frames": 8, "start": 2.0, "end": 2.0}, "start must be before end, got 2.0 s and 2.0 s"),
        ({"frames": 8, "tail": "keep"}, "tail 'keep' is not one of pad, drop"),
    ],
)
def test_wrong_values_are_refused_with_a_reason(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sampling(**options)


def test_a_rate_does_not_fill_a_gap_of_days() -> None:
    frames = [Shown(0.0, 0.5), Shown(0.5, 1e6), Shown(1e6, 1e6 + 0.5)]
    taken, chosen = [], samples(frames, Sampling(frames=1, fps=4))
    with pytest.raises(VideoError, match=r"no new frame for 1000000 s after 0\.500 s"):
        taken.extend(chosen)
    assert taken == [frames[0], frames[0]]
    last = [Shown(0.0, 0.5), Shown(0.5, 1e6)]
    with pytest.raises(VideoError, match="no new frame"):
        list(samples(last, Sampling(frames=1, fps=4)))
    assert len(list(samples(frames, Sampling(frames=1)))) == 3


def test_ticks_are_bounded_with_a_rate_and_without() -> None:
    frames = [Shown(0.0, 0.04), Shown(0.04, 0.08), Shown(1000.0, 1000.04)]
    for sampling, most in ((Sampling(frames=1), 2), (Sampling(frames=1, fps=25), 100)):
        taken, chosen = [], samples(frames, sampling, most=most)
        with pytest.raises(VideoError, match=f"more than {most} frames sampled"):
            taken.extend(chosen)
        assert len(list(samples(frames, Sampling(frames=1), most=3))) == 3


@pytest.mark.parametrize(("starts", "count"), [((5,), 3), ((5, 9), 5), ((0, 3), 0)])
def test_starts_beyond_the_end_of_a_short_video_give_no_clip(starts: tuple[int, ...], count: int) -> None:
    assert list(windows(range(count), Sampling(frames=8, starts=starts))) == []
    assert clip_starts(count, Sampling(frames=8, starts=starts)) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"stride": 57}, False),
        ({"stride": 58}, True),
        ({"starts": ()}, False),
        ({"starts": (0, 8, 16)}, False),
        ({"starts": (49, 106)}, False),
        ({"starts": (50,)}, True),
        ({"starts": (0, 4, 62)}, True),
    ],
)
def test_gaps_between_clips_of_eight_frames(options: dict[str, Any], expected: bool) -> None:
    assert leaves_gaps(Sampling(frames=8, **options)) == expected


@given(st.integers(0, 120), samplings)
def test_clip_samples_are_the_real_ones_of_windows(count: int, sampling: Sampling) -> None:
    expected = [window[:real] for window, real in windows(range(count), sampling)]
    assert [list(each) for each in clip_samples(count, sampling)] == expected
