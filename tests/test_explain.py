"""Semantic codes: the original's colours, by Python's own colour arithmetic; pictures whose columns lie at their times."""

import colorsys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import ig65m
from ig65m.errors import UsageError
from ig65m.explain.picture import clip_edges, draw_semcode
from ig65m.explain.semcode import semantic_code
from ig65m.store.features import Features, load, save
from ig65m.types import ClipSpan, Label

pytestmark = pytest.mark.slow


def features(rows, spans):
    return Features("holiday.mp4", "ok", np.asarray(rows, np.float32), tuple(ClipSpan(*span) for span in spans), {"name": "m"})


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_colours_are_the_originals():
    rows = np.abs(np.random.default_rng(3).standard_normal((7, 40))).astype(np.float32) ** 3
    code = semantic_code(rows)
    assert code.shape == (40, 7, 3)
    for clip, row in enumerate(rows):
        unit = row / np.linalg.norm(row)
        for feature, value in enumerate(unit):
            hue = int((value * 255 + 20) % 255)
            wanted = [255 * part for part in colorsys.hsv_to_rgb(hue / 255, 128 / 255, 1.0)]
            assert np.abs(code[feature, clip] - wanted).max() <= 1.5


def test_what_has_no_code():
    assert (semantic_code(np.zeros((2, 3), np.float32)) == semantic_code(np.zeros((1, 1), np.float32))).all()
    for rows in (np.zeros((0, 4)), np.zeros((2, 3, 4)), np.array([[-0.1, 1.0]]), np.array([[np.nan, 1.0]])):
        with pytest.raises(UsageError, match="semantic code"):
            semantic_code(rows)


def test_a_clip_is_shown_until_the_next_one_starts():
    overlapping = features(np.ones((3, 2)), [(1.0, 3.0), (1.5, 3.5), (2.0, 4.0)])
    assert clip_edges(overlapping).tolist() == [1.0, 1.5, 2.0, 4.0]


def test_columns_lie_at_their_times(tmp_path):
    """Two clips, one feature each: the colours change at 3 of 4 seconds."""
    drawn = features([[0.6, 0.8], [0.8, 0.6]], [(0.0, 3.0), (3.0, 4.0)])
    draw_semcode(drawn, tmp_path / "code.png", title="x")
    first, second = (semantic_code(drawn.array)[0, clip].astype(int) for clip in (0, 1))
    row = next(row for row in picture(tmp_path / "code.png") if (abs(row - first).max(1) < 3).sum() > 300)
    left, right = np.flatnonzero(abs(row - first).max(1) < 3), np.flatnonzero(abs(row - second).max(1) < 3)
    assert left.max() < right.min()
    assert len(left) / (len(left) + len(right)) == pytest.approx(0.75, abs=0.01)


def test_labels_are_bands_by_their_scores(tmp_path):
    plain = features(np.ones((2, 4)), [(0.0, 1.0), (1.0, 2.0)])
    labelled = replace(plain, labels=((Label("$x^2$ <b>", 1.0),), (Label("[red]", 0.0),)))
    draw_semcode(plain, tmp_path / "plain.png", title="$a$")
    draw_semcode(labelled, tmp_path / "labelled.png", title="$a$")
    without, band = picture(tmp_path / "plain.png"), picture(tmp_path / "labelled.png")
    assert len(band) > len(without)
    assert (abs(band - (0x1F, 0x77, 0xB4)).max(2) < 3).sum() > 10_000  # a full score is full colour
    assert (abs(band - (0xFF, 0x7F, 0x0E)).max(2) < 3).sum() == 0


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet"])
def test_files_of_features_are_read_as_they_were_written(suffix, tiny_model, bigbuckbunny, tmp_path):
    made = ig65m.extract(bigbuckbunny, model=tiny_model, end=1.0, logits=True)
    save(made, tmp_path / f"a.{suffix}")
    back = load(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(back.array, made.array)
    np.testing.assert_array_equal(back.logits, made.logits)
    assert (back.spans, back.status, back.path, back.error) == (made.spans, "ok", str(bigbuckbunny), None)
    assert back.model["sha256"] == made.model["sha256"]


def test_the_command(run, tiny_model, bigbuckbunny, tmp_path):
    code, _, _ = run("extract", bigbuckbunny, "--model", tiny_model, "-o", tmp_path / "a.npz", "--end", 1)
    assert code == 0
    for source, options in ((tmp_path / "a.npz", []), (bigbuckbunny, ["--model", tiny_model, "--end", 1])):
        code, out, _ = run("explain", "semcode", source, tmp_path / "a.png", "--overwrite", *options)
        assert (code, "4 clips" in out) == (0, True)
    one, two = tmp_path / "a.png", tmp_path / "b.png"
    run("explain", "semcode", tmp_path / "a.npz", two)
    assert picture(one).shape == picture(two).shape


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["a.npz", "a.jpg"], 2, "must be a .png"),
        (["none.npz", "a.png"], 2, "none.npz"),
        (["bad.npz", "a.png"], 2, "not a file of features"),
        (["bare.npy", "a.png"], 2, "bare"),
        (["bad.mp4", "a.png", "--model", "r2plus1d_10_camera_motion"], 3, "bad.mp4"),
        (["bad.npz", "there.png"], 2, "already exists"),
        (["bad.npz", "a.png", "--stride", "4"], 2, "--stride is for a video"),
        (["bad.npz", "a.png", "--top-k", "4"], 2, "--top-k is for a video"),
        (["bad.npz", "a.png", "--device", "cuda"], 2, "--device is for a video"),
    ],
)
def test_wrong_use(run, tmp_path, monkeypatch, arguments, code, word):
    monkeypatch.chdir(tmp_path)
    for name in ("bad.npz", "bad.mp4", "there.png"):
        (tmp_path / name).write_text("nothing of the kind")
    np.save("bare.npy", np.ones((2, 3)))
    got, _, err = run("explain", "semcode", *arguments)
    assert (got, word in err) == (code, True), err
    assert not (tmp_path / "a.png").exists()
