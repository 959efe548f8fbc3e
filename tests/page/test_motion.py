"""Camera motion under the timeline: curves, segments, seeking, words; and a page that goes on where there is none."""

import re
import shutil
import subprocess

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from ig65m.motion.folder import MotionWriter
from ig65m.search.index import Index
from ig65m.store.digest import content_digest
from ig65m.types import CameraMotion, Segment
from tests.browsing import refuse, scrolls_sideways, seconds, video_address, wait_for_time
from tests.motions import SETTINGS, clip, segment
from tests.page.conftest import MODEL, PHONE, PROGRAM, TOKEN
from tests.serving import serving

pytestmark = pytest.mark.slow

SPEEDS = ("pan", "tilt", "zoom", "roll")
PAN = "pan right at 14 %/s with zoom in at 11 %/s"


def moves_at(time):
    """Speeds of a camera that stands still for 3 s, pans right and zooms in for 3 s, and tilts down for 4 s."""
    return {} if time < 3 else {"pan": 0.14, "zoom": 0.1} if time < 6 else {"tilt": -0.08}


def motion(path):
    """Of bikes, which lasts 10 s; a clip in the middle, from 5.5 to 6.5 s, has a cut."""
    clips = [clip(at / 2, at / 2 + 1, cut=float(at == 11), **moves_at(at / 2 + 0.5)) for at in range(19)]
    segments = (
        segment(0, 3, static=0.9),
        segment(3, 6, ("pan_right", 0.14), ("zoom_in", 0.1)),
        segment(6, 10, ("tilt_down", 0.08)),
    )
    return CameraMotion(path, "ok", segments, tuple(clips), SETTINGS)


@pytest.fixture(scope="module")
def index(bikes, bigbuckbunny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page-motion")
    (folder / "videos").mkdir()
    for source, name in ((bikes, "bikes"), (bigbuckbunny, "bunny")):
        shutil.copyfile(source, folder / "videos" / f"{name}.mp4")
    command = ["extract", folder / "videos", "--output", folder / "f", "--model", MODEL, "--top-k", "3", "--stride", "8"]
    subprocess.run([PROGRAM, *command], check=True, capture_output=True)
    return Index.build(folder / "f", folder / "index")[0].folder


@pytest.fixture(scope="module")
def served(index, tmp_path_factory):
    """The camera motion of bikes is there, that of bunny is not."""
    folder, video = tmp_path_factory.mktemp("camera-motion"), index.parent / "videos" / "bikes.mp4"
    writer = MotionWriter(folder / "motion", SETTINGS, pictures=False)
    writer.write(Segment(str(video)), content_digest(video), motion(str(video)))
    with serving(index, folder / "tmp", "--motion", folder / "motion", env={"IG65M_TOKEN": TOKEN}) as service:
        yield service


def chart(page: Page) -> Locator:
    return page.get_by_role("slider", name="Time in the camera motion")


def curve(page: Page, speed: str) -> str:
    return page.locator(f'[data-speed="{speed}"] .curve').get_attribute("d")


def geometry(page: Page, expression: str, argument: object) -> object:
    """What an expression over `geometry`, the module, and `given` evaluates to."""
    return page.evaluate(f"given => import('/static/motion_geometry.js').then((geometry) => {expression})", argument)


def fulfil(page: Page, values: dict[str, object], duration: float | None = None) -> None:
    """Let the browser see this camera motion; and such a duration, of a video that it cannot play."""
    page.route(re.compile("/motion$"), lambda route: route.fulfill(json={"id": "x", "title": "x", "status": "ok", **values}))
    if duration is not None:
        page.route(re.compile("/file$"), lambda route: route.fulfill(status=200, content_type="video/mp4", body="no video"))
        page.route(re.compile("/timeline$"), lambda route: route.fulfill(json={**route.fetch().json(), "duration": duration}))


def as_values(clips, segments):
    """As the service sends it."""
    kept = ("start", "end", "static", "shake", "cut", "parallax")
    return {
        "clips": [
            {name: getattr(each, name) for name in (*kept, "label")} | vars(each.speeds) | {"sigma": vars(each.sigma)}
            for each in clips
        ],
        "segments": [
            {name: getattr(each, name) for name in kept} | {"moves": [vars(move) for move in each.moves], "text": "some moves"}
            for each in segments
        ],
    }


def test_curves_lie_under_the_timeline_on_the_same_axis(open_page, ids):
    page = open_page(video_address(ids, "bikes", 4.2))
    expect(page.get_by_role("heading", name="Camera motion")).to_be_visible()
    expect(chart(page)).to_be_visible()
    above, below = page.get_by_role("slider", name="Time in the video").bounding_box(), chart(page).bounding_box()
    assert (above["x"], above["width"]) == (below["x"], below["width"])
    assert above["y"] + above["height"] < below["y"]
    heads = [head.bounding_box()["x"] for head in page.locator(".playhead").all()]
    assert heads[0] == heads[1] == pytest.approx(below["x"] + 0.42 * below["width"], abs=2)
    assert curve(page, "pan").count("M") == 2  # none at the cut
    middle = re.match(r"M0\.0 ([0-9.]+)L", curve(page, "pan"))[1]
    zero = page.locator('[data-speed="pan"] .zero').get_attribute("d")
    assert re.fullmatch(rf"M0 {float(middle):g}H[0-9.]+", zero)  # the camera stands at first
    for speed in SPEEDS:
        expect(page.locator(f'[data-speed="{speed}"] .band')).to_have_attribute("d", re.compile("^M.*Z$"))
    names = page.get_by_role("list", name="Speeds at this moment").get_by_role("listitem")
    assert [limit.inner_text() for limit in page.locator(".limit").all()] == [
        *("15 right", "15 left", "10 up", "10 down", "15 in", "15 out", "3 clockwise", "3 counterclockwise")
    ]
    assert [re.sub(r"\s+", " ", name.locator(".lane-value").text_content()) for name in names.all()] == [
        *("14 ± 1 %/s →right", "0.0 ± 1.0 %/s", "11 ± 1 %/s +in", "0.0 ± 0.5 °/s")
    ]
    expect(page.locator(".motion-now")).to_have_text(f"At 0:04.2: {PAN}")


def test_seeking_by_pointer_and_by_keys(open_page, ids):
    page = open_page(video_address(ids, "bikes", 1))
    expect(chart(page)).to_have_attribute("aria-valuetext", "1 seconds of 10 seconds, static")
    width = chart(page).bounding_box()["width"]
    chart(page).click(position={"x": 0.8 * width, "y": 10})
    wait_for_time(page, 7.95, 8.05)
    expect(chart(page)).to_have_attribute("aria-valuetext", re.compile("^8 seconds of 10 seconds, tilt down at 8 %/s$"))
    expect(page.get_by_role("slider", name="Time in the video")).to_have_attribute("aria-valuenow", "8.0")
    chart(page).click(position={"x": 0.4 * width, "y": 200})
    wait_for_time(page, 3.95, 4.05)
    chart(page).focus()
    for key, least, most in (("Home", 0, 0), ("ArrowRight", 0.19, 0.21), ("PageUp", 2.19, 2.21), ("ArrowLeft", 1.99, 2.01)):
        page.keyboard.press(key)
        wait_for_time(page, least, most)
    expect(page.locator(".motion-now")).to_have_text("At 0:02.0: static")
    page.keyboard.press("End")
    expect(chart(page)).to_have_attribute("aria-valuenow", "10.0")


def test_the_line_follows_the_player(open_page, ids):
    page = open_page(video_address(ids, "bikes", 2.5))
    expect(page.locator(".motion-now")).to_have_text("At 0:02.5: static")
    chart(page).focus()
    page.keyboard.press("Space")
    expect(page.locator(".motion-now")).to_contain_text(PAN)
    assert seconds(page) >= 3
    page.keyboard.press("Space")
    expect(page.locator(".player video")).to_have_js_property("paused", True)


def test_the_pointer_shows_speeds_and_segments(open_page, ids):
    page = open_page(video_address(ids, "bikes", 1))
    blocks = page.locator(".motion-block")
    expect(blocks).to_have_text(["static", f"→+{PAN}", "↓tilt down at 8 %/s"])
    blocks.nth(1).hover()
    tip = page.locator(".motion .tip")
    expect(tip).to_contain_text(PAN)
    expect(tip).to_contain_text(re.compile(r"0:03\.0.*0:06\.0"))
    for speed, share, text in (("pan", 0.45, "Pan 14 ± 1\u2009%/s right"), ("tilt", 0.7, "Tilt 8.0 ± 1.0\u2009%/s down")):
        lane = page.locator(f'[data-speed="{speed}"] .lane-ground')
        width = lane.bounding_box()["width"]
        lane.hover(position={"x": share * width, "y": 20}, force=True)
        expect(tip.locator(".tip-label")).to_have_text(text)
    lane.hover(position={"x": 0.6 * width, "y": 5}, force=True)
    expect(tip.locator(".tip-label")).to_have_text("Tilt not known: a cut")
    page.mouse.move(5, 5)
    expect(tip).to_be_hidden()


def test_segments_in_words(open_page, ids):
    page = open_page(video_address(ids, "bikes", 1))
    page.get_by_text("3 segments in words").click()
    rows = page.locator(".motion .span-list tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text(PAN)
    rows.nth(1).get_by_role("button").click()
    wait_for_time(page, 2.99, 3.01)


def test_without_motion_the_page_goes_on(open_page, ids):
    page = open_page(video_address(ids, "bunny", 2))
    expect(page.locator(".motion")).to_contain_text("the service has no camera motion of this video")
    expect(page.locator(".curve")).to_have_count(0)
    page.get_by_role("slider", name="Time in the video").focus()
    page.keyboard.press("Home")
    wait_for_time(page, 0, 0)


def test_a_service_without_a_folder_is_not_asked(open_page, ids):
    page = open_page("#/upload")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route(re.compile("/timeline$"), lambda route: route.fulfill(json={**route.fetch().json(), "has_motion": False}))
    page.goto(f"/{video_address(ids, 'bikes', 2)}")
    wait_for_time(page, 1.9, 2.1)
    page.wait_for_load_state("networkidle")
    expect(page.locator(".motion")).to_have_count(0)
    assert not [url for url in asked if url.endswith("/motion")]


def test_a_failed_request_can_be_tried_again(open_page, ids):
    page = open_page("#/upload")
    refuse(page, "/motion$", 500, "internal error")
    page.goto(f"/{video_address(ids, 'bikes', 2)}")
    expect(page.locator(".motion").get_by_role("alert")).to_contain_text("internal error")
    expect(page.get_by_role("slider", name="Time in the video")).to_be_visible()
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(chart(page)).to_be_visible()


@pytest.mark.parametrize("screen", [{}, {"viewport": PHONE}], ids=["wide", "phone"])
def test_hours_are_drawn_in_as_many_columns_as_pixels(screen, open_page, ids):
    page = open_page("#/upload", **screen)
    hours = [clip(at, at + 2, pan=0.2 * (-1) ** at) for at in range(7199)]
    fulfil(page, as_values(hours, [segment(at, at + 1, ("pan_left", 0.1)) for at in range(7200)]), 7200)
    page.goto(f"/{video_address(ids, 'bikes', 3600)}")
    expect(page.locator(".curves.dense")).to_be_visible()
    width = chart(page).bounding_box()["width"]
    assert width <= curve(page, "pan").count("L") <= 2 * width + 10
    points = [[float(number) for number in point.split()] for point in re.split("[ML]", curve(page, "pan"))[1:]]
    assert len({round(x) for x, _ in points}) >= width - 2
    assert max(y for _, y in points) - min(y for _, y in points) > 35  # both directions are seen in each column
    assert page.locator(".motion-block").count() <= width / 4
    assert not scrolls_sideways(page)
    page.get_by_text("7,200 segments in words").click()
    rows = page.locator(".motion .span-list tbody tr")
    expect(rows).to_have_count(100)
    page.locator(".motion").get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(200)


def test_odd_motion_does_no_harm(open_page, ids):
    """Speeds that no camera has, words that are markup, unknown moves, nothing at all."""
    page = open_page("#/upload")
    fast = as_values([clip(0, 5, pan=1e300, zoom=1e300), clip(5, 10, roll=-1e300)], [segment(0, 10, ("truck_left", 1e300))])
    fast["segments"][0]["text"] = "<b>bold</b>"
    empty = {"clips": [], "segments": []}
    for values, said in ((fast, "<b>bold</b>"), (empty, "unknown")):
        fulfil(page, values)
        page.goto("/#/upload")
        page.goto(f"/{video_address(ids, 'bikes', 3)}")
        expect(page.locator(".motion-now")).to_have_text(f"At 0:03.0: {said}")
        assert not [speed for speed in SPEEDS if "NaN" in curve(page, speed)]
        assert not scrolls_sideways(page)
        page.unroute_all()


def test_geometry(open_page):
    page = open_page("#/upload")
    limit = "given.map(([speeds, least]) => geometry.limitOf(speeds.map(([value, sigma]) => ({ value, sigma })), least))"
    sure, unsure = [14, 1], [-80, 60]
    assert geometry(page, limit, [[[], 5], [[sure, unsure], 5], [[[-31, 1]], 5], [[[0.1, 0]], 3]]) == [5, 15, 50, 3]
    runs = "geometry.runsOf(given.map(([start, end, cut]) => ({ start, end, cut })))"
    assert geometry(page, runs, [[0, 1, 0], [0.5, 1.5, 0], [1, 2, 0.9], [1.5, 2.5, 0], [9, 10, 0.1]]) == [
        [0, 1],
        [3, 3],
        [4, 4],
    ]
    columns = "geometry.columnsOf([0, 2], [[0, 1], [1, 2], [2, 4]], given.map((value) => ({ value, sigma: 1 })), 2)"
    first = {"least": 3, "most": 5, "low": 2, "high": 6}
    last = {"least": 4, "most": 4, "low": 3, "high": 5}
    assert geometry(page, columns, [5, 3, 4]) == [
        *({"time": 0, **first}, {"time": 0.5, **first}, {"time": 3, **last}, {"time": 4, **last})
    ]
    blocks = "geometry.blocksOf(given.map(([start, end]) => ({ start, end })), 1)"
    found = geometry(page, blocks, [[0, 0.4], [0.4, 0.8], [0.8, 3], [3, 6], [9, 9.5]])
    assert [(block["start"], block["end"], len(block["segments"])) for block in found] == [(0, 3, 3), (3, 6, 1), (9, 9.5, 1)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [{}, {"viewport": PHONE}], ids=["wide", "phone"])
def test_the_rules_of_axe_find_nothing(open_page, ids, scheme, screen):
    page = open_page(video_address(ids, "bikes", 4), color_scheme=scheme, reduced_motion="reduce", **screen)
    expect(chart(page)).to_be_visible()
    page.get_by_text("3 segments in words").click()
    page.wait_for_load_state("networkidle")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_on_a_phone_a_tap_seeks_and_nothing_scrolls_sideways(open_page, ids):
    page = open_page(video_address(ids, "bikes", 1), viewport=PHONE, has_touch=True, is_mobile=True)
    expect(page.locator(".motion-now")).to_have_text("At 0:01.0: static")
    assert not scrolls_sideways(page)
    chart(page).tap(position={"x": chart(page).bounding_box()["width"] / 2, "y": 70})
    wait_for_time(page, 4.9, 5.1)
