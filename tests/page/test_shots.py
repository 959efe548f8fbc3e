"""Shots: marks in the timeline, a strip of pictures, keys, moments like a shot; nothing of it where they are unknown."""

import re
import shutil
import subprocess
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from ig65m.search.index import Index
from tests.browsing import scrolls_sideways, seconds, video_address, wait_for_time
from tests.indexes import cut_into_shots
from tests.page.conftest import MODEL, PHONE, PROGRAM

pytestmark = pytest.mark.slow

CUTS = [29 / 25, 75 / 25, 136 / 25, 186 / 25, 241 / 25]  # of bikes; the last shot is shorter than a clip
STARTS = [0, 32 / 25, 76 / 25, 136 / 25, 188 / 25]  # of the first clip of each shot: every fourth frame one begins


@pytest.fixture(scope="module")
def index(bikes, bigbuckbunny, tmp_path_factory):
    """Bikes, and a copy under another name, with their shots, and bunny without."""
    folder = tmp_path_factory.mktemp("page-shots")
    (folder / "videos").mkdir()
    for source, name in ((bikes, "bikes"), (bikes, "again"), (bigbuckbunny, "bunny")):
        shutil.copyfile(source, folder / "videos" / f"{name}.mp4")
    command = ["extract", folder / "videos", "--output", folder / "f", "--model", MODEL, "--top-k", "3", "--stride", "4"]
    subprocess.run([PROGRAM, *command], check=True, capture_output=True)
    cut_into_shots(folder / "f", folder / "features", {"bikes": CUTS, "again": CUTS})
    return Index.build(folder / "features", folder / "index")[0].folder


def current(page: Page) -> list[int]:
    """Numbers of the shots that are marked."""
    marks = "shots => shots.flatMap((shot, i) => shot.getAttribute('aria-current') ? [i] : [])"
    return page.locator(".shot").evaluate_all(marks)


def wait_for_shot(page: Page, number: int) -> None:
    expect(page.locator(".shot").nth(number)).to_have_attribute("aria-current", "true")
    assert current(page) == [number]


def test_every_shot_has_a_picture_and_a_mark(open_page, ids):
    page = open_page(video_address(ids, "bikes", 4))
    expect(page.locator(".summary")).to_have_text("0:10, 43 clips, 5 shots")
    shots = page.get_by_role("toolbar", name="Shots by time").get_by_role("button")
    expect(shots).to_have_count(5)
    expect(shots.nth(1)).to_have_accessible_name("Shot from 0:01.3 to 0:03.0")
    expect(page.locator(".shot img")).to_have_count(5)
    for picture, start, end in zip(page.locator(".shot img").all(), STARTS, CUTS, strict=True):
        expect(picture).to_have_js_property("naturalWidth", 320)
        shown = float(re.search(r"time=([0-9.]+)$", picture.get_attribute("src"))[1])
        assert start < shown < end
    wait_for_shot(page, 2)
    plot = page.locator(".cuts").bounding_box()
    marks = [mark.bounding_box() for mark in page.locator(".cut").all()]
    assert len(marks) == 4
    for mark, start in zip(marks, STARTS[1:], strict=True):
        assert mark["x"] + mark["width"] == pytest.approx(plot["x"] + plot["width"] * start / 10, abs=2)


def test_a_short_last_clip_of_a_shot_leaves_no_gap_before_it(open_page):
    """The part of each clip in the timeline: overlapping ones share, others keep their whole span."""
    page = open_page("#/upload")
    cells = "clips => import('/static/bands.js').then(({ cellsOf }) => cellsOf(clips.map(([start, end]) => ({ start, end }))))"
    for clips, parts in (
        ([[0, 2], [2, 2.25], [2.25, 4]], [[0, 2], [2, 2.25], [2.25, 4]]),
        ([[0, 2], [1, 3], [2, 4]], [[0, 1.5], [1.5, 2.5], [2.5, 4]]),
        ([[0, 4], [3, 3.5]], [[0, 3], [3, 3.5]]),
        ([[0, 1], [3, 4]], [[0, 1], [3, 4]]),
        ([[1, 2]], [[1, 2]]),
        ([], []),
    ):
        assert page.evaluate(cells, clips) == parts


def test_a_click_on_a_shot_goes_to_its_start(open_page, ids):
    page = open_page(video_address(ids, "bikes"))
    page.locator(".shot").nth(3).click()
    wait_for_time(page, STARTS[3], STARTS[3] + 0.002)
    wait_for_shot(page, 3)
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuenow", "5.4")
    expect(page).to_have_url(re.compile(r"\?t=5\.44$"))
    page.get_by_role("button", name="Next shot").click()
    wait_for_shot(page, 4)
    page.get_by_role("button", name="Previous shot").click()
    wait_for_shot(page, 3)


def test_the_shot_that_plays_is_marked(open_page, ids):
    page = open_page(video_address(ids, "bikes", 0.9))
    wait_for_shot(page, 0)
    page.get_by_role("slider").focus()
    page.keyboard.press("Space")
    wait_for_shot(page, 1)
    assert STARTS[1] - 0.2 <= seconds(page) <= 3
    page.keyboard.press("Space")


@pytest.mark.parametrize("where", [".plot", ".player video", '.shot[tabindex="0"]'])
def test_keys_for_the_next_and_the_previous_shot(where, open_page, ids):
    page = open_page(video_address(ids, "bikes", 2.5))
    page.locator(where).focus()
    wait_for_shot(page, 1)
    for key, number in (("p", 1), ("p", 0), ("p", 0), ("n", 1), ("N", 2), ("n", 3), ("n", 4), ("n", 4), ("P", 3)):
        page.keyboard.press(key)
        wait_for_shot(page, number)
        wait_for_time(page, STARTS[number], STARTS[number] + 0.002)
    page.keyboard.press("Control+p")
    page.locator("h1").focus()
    page.keyboard.press("n")  # not on the whole page
    page.get_by_role("slider").focus()
    assert current(page) == [3]


def test_one_tab_reaches_the_strip_and_arrows_go_along_it(open_page, ids):
    page = open_page(video_address(ids, "bikes", 4))
    wait_for_shot(page, 2)
    shots = page.locator(".shot")
    page.get_by_role("button", name="Next shot").focus()
    page.keyboard.press("Tab")
    expect(shots.nth(2)).to_be_focused()
    for key, number in (("ArrowRight", 3), ("ArrowLeft", 2), ("End", 4), ("ArrowRight", 4), ("Home", 0), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        expect(shots.nth(number)).to_be_focused()
    wait_for_shot(page, 2)
    page.keyboard.press("Enter")
    wait_for_shot(page, 0)
    page.keyboard.press("n")
    expect(shots.nth(1)).to_be_focused()
    assert page.locator('.shot[tabindex="0"]').count() == 1


def test_moments_like_a_shot(open_page, ids):
    page = open_page(video_address(ids, "bikes", 4))
    wait_for_shot(page, 2)
    page.get_by_role("link", name="Moments like this shot").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Moments like this shot")
    expect(page).to_have_url(re.compile(r"\?shot=2$"))
    expect(page.locator(".query .times")).to_have_text(re.compile(r"0:03\.0.*0:05\.4"))
    hits = page.locator(".hit")
    expect(hits.first).to_contain_text("again.mp4")  # the same shot under another name
    expect(hits.first.locator(".score")).to_have_text("1.000")
    own = page.locator(".hit", has=page.get_by_role("link", name="bikes.mp4", exact=True))
    expect(own).to_have_count(4)
    assert not [times for times in own.locator(".times").all_inner_texts() if times.startswith("0:03.0")]
    merged = hits.count()
    page.get_by_text("One hit for each shot").click()
    expect(page).to_have_url(re.compile(r"\?shot=2&merge=no$"))
    page.wait_for_function("count => document.querySelectorAll('.hit').length > count", arg=merged)
    page.reload()
    expect(page.get_by_role("switch", name="One hit for each shot")).not_to_be_checked()
    page.get_by_text("One hit for each shot").click()
    expect(hits).to_have_count(merged)
    page.get_by_text("Other videos only").click()
    expect(own).to_have_count(0)
    hits.first.get_by_role("link", name="More like").click()
    expect(page.locator(".query")).to_contain_text("again.mp4")
    expect(page).to_have_url(re.compile(rf"/similar/{re.escape(quote(ids['again']))}\?shot=2$"))


def test_a_shot_that_is_not_there_says_so(open_page, ids):
    page = open_page(f"#/similar/{quote(ids['bikes'])}?shot=99")
    expect(page.get_by_text("has no such shot")).to_be_visible()


def many_shots(page: Page, number: int = 300) -> None:
    """Let the browser see so many shots in a video, of 10 s."""

    def fill(route: Route) -> None:
        line = route.fetch().json()
        length = line["duration"] / number
        shots = [{**line["shots"][0], "number": n, "start": n * length, "end": (n + 1) * length} for n in range(number)]
        route.fulfill(json={**line, "shots": shots})

    page.route(re.compile("/timeline$"), fill)


@pytest.mark.parametrize("screen", [{}, {"viewport": PHONE, "has_touch": True, "is_mobile": True}], ids=["wide", "phone"])
def test_of_many_shots_only_visible_ones_are_loaded(screen, open_page, ids):
    page = open_page("#/upload", **screen)
    asked: list[str] = []
    many_shots(page)
    page.on("request", lambda request: asked.append(request.url) if "thumbnail" in request.url else None)
    page.goto(f"/{video_address(ids, 'bikes', 5)}")
    wait_for_shot(page, 156)
    in_view = page.locator('.shot[aria-current="true"] img')
    expect(in_view).to_have_js_property("naturalWidth", 320)
    page.wait_for_load_state("networkidle")
    width = page.locator(".shot-strip").bounding_box()["width"]
    each = page.locator(".shot").first.bounding_box()["width"]
    most = (width + 400) / each + 2
    assert 3 <= len(asked) <= most
    assert not scrolls_sideways(page)
    asked.clear()
    page.locator(".shot-strip").evaluate("strip => strip.scrollTo({ left: 0, behavior: 'instant' })")
    expect(page.locator(".shot").first.locator("img")).to_have_js_property("naturalWidth", 320)
    page.wait_for_load_state("networkidle")
    assert 3 <= len(asked) <= most
    assert page.locator(".cuts.dense .cut").count() == 299
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    expect(page.locator(".shot").last).to_be_in_viewport()


def test_nothing_of_it_where_shots_are_unknown(open_page, ids):
    page = open_page(video_address(ids, "bunny", 2))
    expect(page.get_by_role("slider")).to_be_visible()
    wait_for_time(page, 1.9, 2.1)
    page.get_by_role("slider").focus()
    page.keyboard.press("n")
    for part in (".shots", ".shot", ".cut"):
        expect(page.locator(part)).to_have_count(0)
    expect(page.get_by_text(re.compile("shot", re.IGNORECASE))).to_have_count(0)
    assert seconds(page) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_rules_of_axe_find_nothing(open_page, ids, scheme):
    page = open_page("", color_scheme=scheme, reduced_motion="reduce")
    for address, there in (
        (video_address(ids, "bikes", 4), ".shot img"),
        (f"#/similar/{quote(ids['bikes'])}?shot=2", ".hit"),
    ):
        page.goto(f"/{address}")
        expect(page.locator(there).first).to_be_visible()
        page.wait_for_load_state("networkidle")
        found = Axe().run(page)
        assert found.violations_count == 0, f"{address}\n{found.generate_report()}"


def test_on_a_phone_nothing_scrolls_sideways(open_page, ids):
    page = open_page(video_address(ids, "bikes", 4), viewport=PHONE, has_touch=True, is_mobile=True)
    expect(page.locator(".shot")).to_have_count(5)
    assert not scrolls_sideways(page)
    page.locator(".shot").nth(3).tap()
    wait_for_shot(page, 3)
