"""Appearance and states: themes, phones, keyboard, errors, hostile names, accessibility."""

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Route, expect

from tests.browsing import click_at, scrolls_sideways, video_address, wait_for_time
from tests.page.conftest import HOSTILE, PHONE

pytestmark = pytest.mark.slow


def test_dark_and_light(open_page):
    ground = "getComputedStyle(document.body).backgroundColor"
    page = open_page("", color_scheme="dark")
    expect(page.locator(".card")).to_have_count(4)
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Switch to the light theme").click()
    light = page.evaluate(ground)
    assert max(map(int, re.findall(r"\d+", dark))) < 60
    assert min(map(int, re.findall(r"\d+", light))) > 200
    page.reload()
    expect(page.get_by_role("button", name="Switch to the dark theme")).to_be_visible()
    assert page.evaluate(ground) == light


def states(ids: dict[str, str], name: str) -> list[tuple[str, str]]:
    """An address of each view, and what is there when it is."""
    return [
        ("#/", ".card"),
        (video_address(ids, name, 1), ".plot"),
        (f"#/similar/{quote(ids[name])}@1", ".hit"),
        ("#/label/static", ".hit"),
        ("#/upload", ".chooser"),
        ("#/nowhere", ".notice"),
    ]


def test_on_a_phone_nothing_scrolls_sideways(open_page, ids):
    page = open_page("", viewport=PHONE, has_touch=True, is_mobile=True)
    for address, there in states(ids, HOSTILE):
        page.goto(f"/{address}")
        expect(page.locator(there).first).to_be_visible()
        assert not scrolls_sideways(page), address
    page.goto(f"/{video_address(ids, 'bikes')}")
    box = page.get_by_role("slider").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + 60)
    wait_for_time(page, 4.8, 5.2)


def test_names_and_labels_are_text_whatever_they_hold(open_page, ids):
    markup = "<img src=y onerror=\"document.title='owned'\">"

    def poison(route: Route) -> None:
        route.fulfill(body=route.fetch().text().replace('"static"', json.dumps(markup)), content_type="application/json")

    page = open_page("")
    page.route(re.compile(r"/api/(labels|videos|search)(\?|$|/[^/]+$|.*timeline)"), poison)
    page.reload()
    expect(page.get_by_role("link", name=f"{HOSTILE}.mp4")).to_be_visible()
    expect(page.locator(".chip", has_text=markup).first).to_be_visible()
    page.goto(f"/{video_address(ids, HOSTILE, 1)}")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{HOSTILE}.mp4")
    expect(page.get_by_role("list", name="Labels in this video")).to_contain_text(markup)
    wait_for_time(page, 0.9, 1.1)
    page.get_by_role("slider").hover()
    page.get_by_text("clips in words").click()
    page.get_by_role("link", name="More like this moment").click()
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.locator("img[src=x], img[src=y]")).to_have_count(0)
    assert "owned" not in page.title()


def test_features_without_labels_still_have_a_timeline(open_page, ids):
    def strip(route: Route) -> None:
        answer = route.fetch().json()
        for part in (answer, *(answer["clips"] if isinstance(answer["clips"], list) else ())):
            part["labels"] = []
        route.fulfill(json=answer)

    page = open_page("#/upload")
    page.route(re.compile(r"/api/videos/[^/]+(/timeline)?$"), strip)
    page.route(re.compile("/api/labels"), lambda route: route.fulfill(json=[]))
    page.goto(f"/{video_address(ids, 'bikes')}")
    expect(page.get_by_text("No labels are stored")).to_be_visible()
    click_at(page, 0.5)
    wait_for_time(page, 4.9, 5.1)


def test_an_empty_collection_says_how_to_fill_it(open_page):
    page = open_page("#/upload")
    page.route(re.compile("/api/videos"), lambda route: route.fulfill(json={"total": 0, "videos": []}))
    page.get_by_role("link", name="Collection", exact=True).click()
    expect(page.get_by_text("No videos in this index yet")).to_be_visible()
    expect(page.locator(".command")).to_contain_text("ig65m index add")


def test_where_the_browser_cannot_play_pictures_stand_in(open_page, ids):
    page = open_page("#/upload")
    page.route(re.compile("/file$"), lambda route: route.fulfill(body=b"what no browser plays", content_type="video/x-flv"))
    page.goto(f"/{video_address(ids, 'bikes', 2)}")
    expect(page.get_by_text("This browser cannot play this video")).to_be_visible()
    still = page.get_by_role("img", name="Still picture")
    expect(still).to_have_attribute("src", re.compile(r"time=2\.00$"))
    click_at(page, 0.5)
    expect(still).to_have_attribute("src", re.compile(r"time=(4\.9|5\.0)"))
    expect(still).to_have_js_property("naturalWidth", 320)


def test_a_picture_that_cannot_be_had_is_asked_for_once_more_then_drawn(open_page):
    page = open_page("#/upload")
    asked: list[str] = []

    def busy(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=503)

    page.clock.install()
    page.route(re.compile("thumbnail"), busy)
    page.get_by_role("link", name="Collection", exact=True).click()
    expect(page.locator(".card")).to_have_count(4)
    page.wait_for_load_state("networkidle")
    page.clock.run_for(3500)
    expect(page.locator(".card svg.big")).to_have_count(4)
    assert len(asked) == 8


@pytest.mark.parametrize("address", ["#/video/none-0123456789ab", "#/similar/none-0123456789ab@1", "#/label/none", "#/nowhere"])
def test_an_address_of_nothing_says_so(open_page, address):
    page = open_page(address)
    expect(page.get_by_text(re.compile("That did not work|nothing at this address"))).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"\w"))


def test_the_keyboard_alone_reaches_everything(open_page):
    page = open_page("")
    expect(page.locator(".card")).to_have_count(4)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator(".card-link").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_rules_of_axe_find_nothing(open_page, ids, bigbuckbunny, scheme):
    page = open_page("", color_scheme=scheme, reduced_motion="reduce")
    for address, there in states(ids, "moves"):
        page.goto(f"/{address}")
        expect(page.locator(there).first).to_be_visible()
        page.wait_for_load_state("networkidle")
        found = Axe().run(page)
        assert found.violations_count == 0, f"{address}\n{found.generate_report()}"


def test_nothing_of_the_page_comes_from_elsewhere(served):
    with served.client() as client:
        policy = client.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    page = Path(__file__).parent.parent.parent / "src" / "ig65m" / "server" / "page"
    for file in page.iterdir():
        assert not re.search(r"(https?:)?//(?!www\.w3\.org/2000/svg)[\w-]+\.[a-z]", file.read_text(), re.ASCII), file.name
