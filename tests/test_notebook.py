"""Results in a notebook: HTML by an independent parser, tables and charts by their values, and the notebook in examples/."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import ig65m
from ig65m.display.feature_map import feature_levels, viridis
from ig65m.errors import UsageError
from ig65m.store.features import Features, save
from ig65m.types import ClipPrediction, ClipSpan, Failure, Label, Prediction
from tests.test_docs import blocks

ROOT = Path(__file__).parent.parent
HOSTILE = """<script>document.title='owned'</script><img src=x onerror="document.title='owned'"> &amp; 'so' \x1b[31m\n"""
SHOWN = HOSTILE.replace("\x1b", r"\x1b").replace("\n", r"\n")
ALLOWED = {"div", "p", "strong", "table", "caption", "thead", "tbody", "tr", "th", "td", "img", "svg", "polygon", "small"}


def prediction(clips=3, label="pan_right", path="videos/holiday.mp4", **how):
    spans = [(0.5 * clip, 0.5 * clip + 0.6) for clip in range(clips)]
    labels = (Label(label, 0.75), Label("static", 0.25))
    return Prediction("net", path, "ok", labels, tuple(ClipPrediction(*span, labels) for span in spans), **how)


def features(clips=6, width=5, path="videos/holiday.mp4", **how):
    rows = np.random.default_rng(0).random((clips, width), np.float32)
    spans = tuple(ClipSpan(0.5 * clip, 0.5 * clip + 0.6, 8 * clip, 8 * clip + 14) for clip in range(clips))
    return Features(path, "ok", rows, spans, {"name": "net"}, **how)


class Elements(HTMLParser):
    """Elements and their attributes as they are read in HTML, which is not as strict as XML."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def text_of(element):
    return "".join(element.itertext())


def parsed(result):
    """The HTML of a result; it is well-formed, and has only elements and attributes that do nothing."""
    source = result._repr_html_()
    assert source.isprintable()
    found, elements = ElementTree.fromstring(source), Elements()
    elements.feed(source)
    assert elements.found == [(each.tag, {name.lower(): value for name, value in each.items()}) for each in found.iter()]
    for element in found.iter():
        assert element.tag in ALLOWED
        assert not [name for name in element.attrib if name.startswith("on") or name == "href"]
        assert element.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert "url(" not in element.get("style", "")
    return found


def cells(table):
    return [[text_of(cell) for cell in row.iter("td")] for row in table.find("tbody")]


def test_a_prediction_is_a_table_of_its_clips():
    found = parsed(prediction())
    whole, clips = found.iter("table")
    assert cells(whole) == [["pan_right", "75 %"], ["static", "25 %"]]
    assert cells(clips) == [[f"{0.5 * n:.2f}", f"{0.5 * n + 0.6:.2f}", "pan_right", "75 %"] for n in range(3)]
    assert [cell.text for cell in clips.iter("th")] == ["start (s)", "end (s)", "best label", "score"]
    assert all(cell.get("scope") == "col" for cell in clips.iter("th"))
    assert " 75%," in clips.find("tbody/tr/td/div").get("style")
    assert text_of(found.find("p")) == "videos/holiday.mp4 · net · 0.00 to 1.60 s · ok"


def test_of_a_long_video_the_first_and_last_clips_are_shown():
    _, table = parsed(prediction(30_000)).iter("table")
    rows = cells(table)
    assert table.find("caption").text == "The first and last 10 of 30,000 clips"
    assert len(rows) == 21
    assert rows[10] == ["…", "…", "29,980 more clips", ""]
    assert [row[0] for row in rows[:2] + rows[-1:]] == ["0.00", "0.50", "14999.50"]
    assert len(prediction(30_000)._repr_html_()) < 10_000
    assert len(cells(list(parsed(prediction(20)).iter("table"))[1])) == 20


@pytest.mark.parametrize("make", [prediction, features])
def test_status_and_error_are_said(make):
    broken = replace(make(), status="partial", error=Failure("decode", "holiday.mp4 breaks off", 1.25))
    assert parsed(broken).find("p[@role='alert']").text == "⚠ partial (good until 1.25 s): holiday.mp4 breaks off"
    failed = replace(make(0), status="failed", error=Failure("open", "no such file"))
    assert "failed: no such file" in text_of(parsed(failed))
    assert "no clips" in text_of(parsed(failed))


@pytest.mark.parametrize("make", [prediction, features])
def test_text_of_files_is_escaped(make):
    hostile = replace(make(path=HOSTILE), status="partial", error=Failure("decode", HOSTILE))
    text = text_of(parsed(hostile))
    assert text.count(SHOWN) == 2
    named = replace(make(), model={"name": HOSTILE} if make is features else HOSTILE)
    assert SHOWN in text_of(parsed(named))
    assert len(text_of(parsed(make(path="x" * 100_000)))) < 1000


def test_labels_are_escaped():
    assert [row[2] for row in cells(list(parsed(prediction(label=HOSTILE)).iter("table"))[1])] == [SHOWN] * 3


def test_the_best_of_many_labels_are_shown():
    many = tuple(Label(f"class {number}", 1 / (number + 1)) for number in range(400))
    table, _ = parsed(replace(prediction(), labels=many)).iter("table")
    assert table.find("caption").text == "The best 10 of 400 labels"
    assert [row[0] for row in cells(table)] == [f"class {number}" for number in range(10)]


def test_clips_without_labels():
    clips = tuple(replace(clip, labels=()) for clip in prediction().clips)
    (table,) = parsed(replace(prediction(), clips=clips, labels=())).iter("table")
    assert {tuple(row[2:]) for row in cells(table)} == {("none", "")}


def shown_picture(result):
    (image,) = parsed(result).iter("img")
    return np.asarray(Image.open(io.BytesIO(b64decode(image.get("src").partition(",")[2]))).convert("RGB"))


def test_features_are_a_picture():
    given = features(40, 70)
    found = parsed(given)
    assert text_of(found.find("p")) == "videos/holiday.mp4 · net · features (40 x 70) float32 · 0.00 to 20.10 s · ok"
    np.testing.assert_array_equal(shown_picture(given), viridis()[feature_levels(given.array, 32)])
    assert next(found.iter("img")).get("alt")


def test_the_curve_is_highest_at_the_largest_change():
    rows = np.repeat([[1.0, 0.0], [0.0, 1.0]], [3, 7], axis=0).astype(np.float32)
    given = replace(features(10, 2), array=rows)
    (curve,) = parsed(given).iter("svg")
    places = [tuple(map(float, point.split(","))) for point in curve[0].get("points").split()]
    assert min(places, key=lambda place: place[1]) == (300, 0)
    assert "the largest is 1.00" in curve.get("aria-label")


def test_pictures_of_long_videos_are_small():
    long = features(20_000, 64)
    assert shown_picture(long).shape == (32, 400, 3)
    assert len(long._repr_html_()) < 40_000


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (3, 1), (3, 4, 2, 1, 1), (0, 4)])
def test_features_of_any_shape_are_shown(shape):
    given = replace(features(shape[0]), array=np.ones(shape, np.float32))
    assert bool(list(parsed(given).iter("img"))) == (len(shape) == 2 and shape[0] > 0)
    assert not list(parsed(replace(given, array=np.full(shape, np.nan, np.float32))).iter("img"))


def test_the_table_of_features():
    table = features().to_pandas()
    assert list(table.columns) == ["start", "end", "first_frame", "last_frame", "f0", "f1", "f2", "f3", "f4"]
    np.testing.assert_array_equal(table[[f"f{number}" for number in range(5)]].to_numpy(), features().array)
    assert table["f0"].dtype == np.float32
    assert [ClipSpan(*row) for row in table[["start", "end", "first_frame", "last_frame"]].itertuples(index=False)] == list(
        features().spans
    )


def test_the_table_of_features_with_shots_and_labels(tmp_path):
    spans = tuple(replace(span, shot=number // 2) for number, span in enumerate(features().spans))
    labels = (*((Label("a", 0.5), Label("b", 0.25)) for _ in range(5)), ())
    given = replace(features(), spans=spans, labels=labels)
    table = given.to_pandas()
    assert list(table.columns[4:8]) == ["shot", "label", "score", "f0"]
    save(given, tmp_path / "a.parquet")
    theirs = pd.read_parquet(tmp_path / "a.parquet")
    for name in ("start", "end", "first_frame", "last_frame", "shot"):
        assert table[name].tolist() == theirs[name].tolist()
    assert table["label"].tolist()[:5] == [row[0]["label"] for row in theirs["labels"][:5]]
    assert table["score"].tolist()[:5] == [0.5] * 5
    assert table.iloc[5][["label", "score"]].isna().all()


def test_features_that_are_not_pooled_have_no_table():
    with pytest.raises(UsageError, match=r"got \(6, 5, 2, 3, 3\); extract them with pooling"):
        replace(features(), array=np.ones((6, 5, 2, 3, 3), np.float32)).to_pandas()


def test_the_table_of_a_prediction():
    table = prediction(2).to_pandas()
    assert list(table.columns) == ["clip", "start", "end", "label", "score"]
    assert table.to_numpy().tolist() == [
        [0, 0.0, 0.6, "pan_right", 0.75],
        [0, 0.0, 0.6, "static", 0.25],
        [1, 0.5, 1.1, "pan_right", 0.75],
        [1, 0.5, 1.1, "static", 0.25],
    ]
    of_shots = replace(prediction(2), clips=tuple(replace(clip, shot=4) for clip in prediction(2).clips))
    assert of_shots.to_pandas()["shot"].tolist() == [4] * 4
    assert len(prediction(0).to_pandas()) == 0


@pytest.mark.parametrize(
    ("call", "library", "extra"),
    [
        (lambda: features().to_pandas(), "pandas", "pandas"),
        (lambda: prediction().to_pandas(), "pandas", "pandas"),
        (lambda: prediction().plot(), "matplotlib", "explain"),
    ],
)
def test_what_is_missing_is_said(call, library, extra, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(UsageError, match=rf"needs {library}, which is not installed: pip install 'ig65m\[{extra}\]'"):
        call()


def test_the_chart_has_a_band_of_each_label():
    import matplotlib.pyplot as plt

    figure = plt.figure()
    axes = figure.subplots()
    assert prediction(label="$x$ <b>").plot(axes) is axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["$x$ <b>", "static"]
    assert axes.get_title(loc="left") == "holiday.mp4 · net"
    for patch, score in zip(axes.patches, (0.75, 0.25), strict=True):
        values, edges, baseline = patch.get_data()
        np.testing.assert_allclose((values - baseline) / 0.84, score)
        np.testing.assert_allclose(edges, [0, 0.55, 1.05, 1.6])
    figure.savefig(io.BytesIO())
    new = prediction().plot()
    assert new.figure is not figure
    plt.close("all")
    with pytest.raises(UsageError, match="no clips to draw; no such file"):
        replace(prediction(0), error=Failure("open", "no such file")).plot()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_themes(scheme):
    """In a real browser: nothing runs, nothing is asked for, and each text has a contrast of 4.5 on its bar and beside it."""
    from playwright.sync_api import sync_playwright

    ground, ink = {"light": ("#ffffff", "#1c1d20"), "dark": ("#111111", "#e0e0e0")}[scheme]
    results = (prediction(label=HOSTILE), features(40, 70), replace(prediction(path=HOSTILE), error=Failure("x", HOSTILE)))
    body = "".join(result._repr_html_() for result in results)
    asked = []
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or playwright.chromium.executable_path
        if not Path(chromium).exists():
            pytest.skip("needs chromium (Debian package chromium, or playwright install chromium)")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(color_scheme=scheme)
        page.on("request", lambda request: asked.append(request.url))
        page.set_content(f"<title>mine</title><body style='background:{ground};color:{ink}'>{body}</body>")
        page.wait_for_timeout(200)
        assert page.title() == "mine"
        assert all(url.startswith("data:") for url in asked)
        bar = page.locator("td div").first
        shown = np.asarray(Image.open(io.BytesIO(bar.screenshot())).convert("RGB"))
        colours = {tuple(shown[-2, 2]), tuple(shown[-2, -2])}
        inks = page.locator("td, th, p, caption, small").evaluate_all("all => all.map(one => getComputedStyle(one).color)")
        browser.close()
    assert len(colours) == 2
    assert len(set(inks)) == 1
    text = tuple(int(number) for number in re.findall(r"\d+", inks[0]))
    assert min(contrast(text, colour) for colour in colours) > 4.5


def contrast(one, other):
    """The ratio of WCAG 2."""
    linear = [[part / 3294.6 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in rgb] for rgb in (one, other)]
    low, high = sorted(np.dot(rgb, (0.2126, 0.7152, 0.0722)) for rgb in linear)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
def test_the_examples_of_the_page_run(bigbuckbunny, tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    shutil.copy(bigbuckbunny, "video.mp4")
    names = {"ig65m": ig65m}
    for code in blocks("docs/notebook.md", "python"):
        exec(code, names)
    plt.close("all")
    assert len(names["best"]) == len(names["table"]) == len(names["similarity"]) == 9
    np.testing.assert_allclose(np.diag(names["similarity"]), 1)
    assert Path("labels.png").stat().st_size > 1000


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """The notebook of examples/, run anew by its program."""
    path = tmp_path_factory.mktemp("notebook") / "again.ipynb"
    command = [sys.executable, ROOT / "examples" / "run_notebook.py", path]
    places = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": places})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(path.read_text("utf-8"))


def outputs(notebook):
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


@pytest.mark.slow
def test_the_notebook_runs_and_its_outputs_are_those_that_are_committed(again):
    """Words must be equal, numbers as near as another machine's rounding."""
    committed = json.loads((ROOT / "examples" / "notebook.ipynb").read_text("utf-8"))
    assert [cell["source"] for cell in committed["cells"]] == [cell["source"] for cell in again["cells"]]
    assert [output["output_type"] for output in outputs(committed)] == [output["output_type"] for output in outputs(again)]
    assert "error" not in {output["output_type"] for output in outputs(committed)}
    ours, theirs = ("".join("".join(each.get("text", [])) for each in outputs(book)) for book in (committed, again))
    number = re.compile(r"\d+\.\d+")
    assert number.sub("#", ours).split() == number.sub("#", theirs).split()
    np.testing.assert_allclose([*map(float, number.findall(ours))], [*map(float, number.findall(theirs))], atol=0.11)
    assert "roll_clockwise" in ours


def test_the_committed_notebook_is_small_and_complete():
    path = ROOT / "examples" / "notebook.ipynb"
    assert path.stat().st_size < 200_000
    notebook = json.loads(path.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {kind for output in outputs(notebook) for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    for word in ("classify", "extract", "to_pandas", "plot", "load_model", "estimate_motion"):
        assert any(word in "".join(cell["source"]) for cell in code), word
