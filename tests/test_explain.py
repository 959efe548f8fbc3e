"""Semantic codes: the original's pixels, by ig65m-pytorch's arithmetic; pictures whose columns lie at their times."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import ig65m
from ig65m.display.feature_map import feature_levels, viridis
from ig65m.errors import UsageError
from ig65m.explain.picture import draw_original, draw_semcode
from ig65m.explain.semcode import original_code
from ig65m.store.features import Features, load, save
from ig65m.types import ClipSpan, Label

pytestmark = pytest.mark.slow


def features(rows, spans):
    return Features("holiday.mp4", "ok", np.asarray(rows, np.float32), tuple(ClipSpan(*span) for span in spans), {"name": "m"})


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def ig65m_pytorchs(features, degrees):
    """The picture as the last version of ig65m-pytorch makes it, clip by clip, of any number of features."""
    features = features / features.max()
    image = Image.new("HSV", features.shape)
    for number, feature in enumerate(features):
        hue = np.ones(len(feature), dtype=np.uint8) * int(degrees / 360 * 255)
        saturation = (feature * 255).astype(np.uint8)
        value = np.ones(len(feature), dtype=np.uint8) * 255
        strip = np.stack([hue, saturation, value], axis=-1)[:, None]
        image.paste(Image.frombytes("HSV", (1, len(feature)), strip.tobytes()), box=(number, 0))
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("width", [1, 40, 512, 2048])
@pytest.mark.parametrize("degrees", [0, 20, 133, 360])
def test_the_original_is_ig65m_pytorchs_pixel_for_pixel(width, degrees, tmp_path):
    rows = np.abs(np.random.default_rng(3).standard_normal((7, width))).astype(np.float32) ** 3
    wanted = ig65m_pytorchs(rows, degrees)
    assert wanted.shape == (width, 7, 3)
    np.testing.assert_array_equal(original_code(rows, degrees), wanted)
    draw_original(features(rows, [(clip, clip + 1) for clip in range(7)]), tmp_path / "a.png", hue=degrees)
    np.testing.assert_array_equal(picture(tmp_path / "a.png"), wanted)


def test_what_has_no_code():
    assert (original_code(np.zeros((2, 3), np.float32)) == 255).all()
    for rows in (np.zeros((0, 4)), np.zeros((2, 3, 4)), np.array([[-0.1, 1.0]]), np.array([[np.nan, 1.0]])):
        with pytest.raises(UsageError, match="semantic code"):
            original_code(rows)
    for degrees in (-1, 361, float("nan")):
        with pytest.raises(UsageError, match="from 0 to 360"):
            original_code(np.ones((1, 1)), degrees)


def test_columns_lie_at_their_times(tmp_path):
    """Two clips, one feature each: the colours change at 3 of 4 seconds."""
    drawn = features([[0.6], [0.8]], [(0.0, 3.0), (3.0, 4.0)])
    draw_semcode(drawn, tmp_path / "code.png", title="x")
    first, second = viridis()[feature_levels(drawn.array, 1)[0]].astype(int)
    row = next(row for row in picture(tmp_path / "code.png") if (abs(row - first).max(1) < 3).sum() > 300)
    left, right = np.flatnonzero(abs(row - first).max(1) < 3), np.flatnonzero(abs(row - second).max(1) < 3)
    assert left.max() < right.min()
    assert len(left) / (len(left) + len(right)) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("clips", [1, 2, 2001, 5000])
def test_videos_of_any_length_have_a_picture(clips, tmp_path):
    rows = np.random.default_rng(0).standard_normal((clips, 6)).astype(np.float32)
    labels = tuple((Label("a", 0.5),) for _ in range(clips))
    drawn = replace(features(rows, [(clip, clip + 1.5) for clip in range(clips)]), labels=labels)
    draw_semcode(drawn, tmp_path / "a.png", title="x")
    assert picture(tmp_path / "a.png").shape[1] == 1800


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
    code, out, _ = run("explain", "semcode", tmp_path / "a.npz", two, "--overwrite", "--style", "original", "--hue", 200)
    assert (code, "4 clips" in out) == (0, True)
    np.testing.assert_array_equal(picture(two), ig65m_pytorchs(load(tmp_path / "a.npz").array, 200))


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
        (["bad.npz", "a.png", "--hue", "4"], 2, "--hue is for --style original"),
        (["bad.npz", "a.png", "--style", "original", "--top-k", "4"], 2, "--style original does not have"),
        (["bad.npz", "a.png", "--style", "modern"], 2, "modern"),
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
