"""Filter expressions over the camera motion of clips, and the parts that they select."""

import csv
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ig65m.errors import UsageError
from ig65m.motion.select import DEEPEST, LONGEST, NAMES, check_listable, compile_filter, list_text, selected_parts
from tests.motions import clip

SPEEDS = ("pan", "tilt", "zoom", "roll")
CHANCES = ("static", "shake", "cut", "parallax")
numbers = st.one_of(st.sampled_from([0.0, 0.05, 0.5, -0.05, 1.0]), st.floats(-2, 2))
orders = st.sampled_from(["<", "<=", ">", ">="])
spaces = st.sampled_from(["", " ", "  ", "\n\t"])
comparisons = st.builds(
    lambda name, order, number, space, swapped: space.join(
        [repr(number), order, name] if swapped else [name, order, repr(number)]
    ),
    st.sampled_from(NAMES),
    orders,
    numbers,
    spaces,
    st.booleans(),
)
expressions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds("{} and {}".format, inner, inner),
        st.builds("{} or {}".format, inner, inner),
        st.builds("not {}".format, inner),
        st.builds("({})".format, inner),
        st.builds("not({})".format, inner),
    ),
    max_leaves=12,
)
clips = st.builds(clip, **dict.fromkeys(SPEEDS, numbers), **dict.fromkeys(CHANCES, st.sampled_from([0.0, 0.05, 0.5, 1.0])))


def names_of(made):
    """What each name means, as Python's own `eval` is told."""
    speeds = made.speeds
    pairs = {
        **{"pan": ("pan_right", "pan_left"), "tilt": ("tilt_up", "tilt_down"), "zoom": ("zoom_in", "zoom_out")},
        "roll": ("roll_clockwise", "roll_counterclockwise"),
    }
    names = {name: getattr(speeds, name) for name in SPEEDS} | {name: getattr(made, name) for name in CHANCES}
    for name, (positive, negative) in pairs.items():
        names |= {positive: max(0, names[name]), negative: max(0, -names[name])}
    return names


@given(text=expressions, made=clips)
def test_an_expression_means_what_it_means_in_python(text, made):
    if len(text) > LONGEST:
        return
    names = names_of(made)
    assert set(names) == {*NAMES}
    wanted = eval("(" + text.replace("\t", " ") + ")", {"__builtins__": {}}, names)
    assert compile_filter(text)(made) is wanted


@given(st.text(max_size=40))
def test_any_other_text_is_an_error_that_says_where(text):
    with pytest.raises(UsageError, match=r", character [0-9]+: ") as caught:
        compile_filter(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expression '', character 1: expected a name, a number, `not` or `(`, got the end"),
        ("pan_rihgt>0.05", "character 1: 'pan_rihgt' is not one of pan, ... ; did you mean 'pan_right'?"),
        ("shake<0.3 and Static>0", "character 15: 'Static' is not one of ... ; did you mean 'static'?"),
        ("pan_right 0.05", "character 11: expected <, <=, > or >=, got '0.05'"),
        ("pan_right=0.05", "character 10: expected <, <=, > or >=, got '='"),
        ("pan!=0", "character 4: expected <, <=, > or >=, got '!='"),
        ("pan>", "character 5: expected a number, got the end"),
        ("pan>tilt", "character 5: expected a number, got 'tilt'"),
        ("pan>1e999", "character 5: expected a number that is not so large, got '1e999'"),
        ("pan>nan", "character 5: expected a number, got 'nan'"),
        ("0.1<0.2", "character 5: expected a name, got '0.2'"),
        ("0.1<pan<0.2", "character 8: expected `and`, `or`, or the end, got '<'; join two comparisons by `and`"),
        ("pan>0 && tilt>0", "character 7: expected `and`, `or`, or the end, got '&&'; write `and`"),
        ("pan>0 OR tilt>0", "character 7: expected `and`, `or`, or the end, got 'OR'; write `or`"),
        ("!pan>0", "character 1: expected a name, a number, `not` or `(`, got '!'; write `not`"),
        ("(pan>0", "character 7: expected `and`, `or` or `)`, got the end"),
        ("pan>0)", "character 6: expected `and`, `or`, or the end, got ')'"),
        ("and pan>0", "character 1: expected a name, ... got 'and'"),
        ("pan.__class__>0", "character 4: expected <, <=, > or >=, got '.'"),
        ("__import__('os')", "character 1: '__import__' is not one of"),
        ("pan>٣", "character 5: expected a number, got '٣'"),
        ("pan>0\x1b[31m", r"expression 'pan>0\x1b[31m', character 6: ... got '\x1b'"),
        ("(" * 31 + "pan>0" + ")" * 31, f"character 31: expected at most {DEEPEST} parentheses"),
        ("not " * 200 + "pan>0", f"expected at most {DEEPEST} parentheses and `not` within each other"),
        ("pan>0 or " * 200 + "pan>0", "the expression has 1,805 characters; expected at most 1,000"),
    ],
)
def test_errors(text, message):
    with pytest.raises(UsageError) as caught:
        compile_filter(text)
    assert all(part in str(caught.value) for part in message.split(" ... "))


def test_parts_are_clips_that_overlap_or_touch():
    made = [clip(at, at + 1, shake=shake) for at, shake in ((0, 1), (0.5, 1), (1, 0), (1.5, 1), (4, 1), (4.5, 0), (5, 1))]
    keep = compile_filter("shake>0.5")
    assert selected_parts(made, keep) == [(0, 2.5), (4, 6)]
    assert selected_parts(made[2:4], keep) == [(1.5, 2.5)]
    assert selected_parts([clip(0, 1), clip(1.002, 2)], lambda _: True) == [(0, 1), (1.002, 2)]
    assert selected_parts([clip(-2, -1), clip(3, 3)], lambda _: True) == []
    assert selected_parts([], keep) == []


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=20))
def test_parts_cover_just_the_selected_clips(starts):
    made = [SimpleNamespace(start=at / 2, end=at / 2 + 1, kept=kept) for at, kept in sorted(starts)]
    parts = selected_parts(made, lambda each: each.kept)
    assert all(before[1] < after[0] for before, after in pairwise(parts))
    for half in range(45):
        covered = any(start <= half / 2 and half / 2 + 0.5 <= end for start, end in parts)
        assert covered == any(each.kept and each.start <= half / 2 < each.end for each in made)


def test_a_list_has_names_as_they_are():
    rows = [('/a,"b\n.mp4', 0.5, 1.25), ("/c\udcff.mp4", 1.0, 1.5)]
    text = list_text(rows)
    assert list(csv.reader(text.splitlines(keepends=True))) == [
        *(["path", "start", "end"], ['/a,"b\n.mp4', "0.5", "1.25"], ["/c\udcff.mp4", "1.0", "1.5"])
    ]
    assert list_text(rows[1:], header=False) == "/c\udcff.mp4,1.0,1.5\n"
    check_listable([path for path, _, _ in rows])
    for path in ("/a.mp4 ", "/a\r.mp4"):
        with pytest.raises(UsageError, match="cannot be in a list of videos"):
            check_listable([path])
