"""Browsing: the collection, a video with its timeline, hits."""

import io
import re
from base64 import b64decode
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from tests.browsing import click_at, seconds, video_address, wait_for_time
from tests.page.conftest import HOSTILE, MODEL

pytestmark = pytest.mark.slow


def test_the_collection_has_a_picture_of_every_video(open_page):
    page = open_page("")
    pictures = page.locator(".card img")
    expect(pictures).to_have_count(4)
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("naturalWidth", 320)
    expect(page.locator(".summary")).to_have_text("4 videos")
    expect(page.get_by_role("contentinfo")).to_contain_text(MODEL)


def test_the_collection_is_filtered_by_name_and_label_and_its_address_says_so(open_page):
    page = open_page("")
    page.get_by_role("searchbox").fill("bun")
    expect(page.locator(".card")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"#/\?text=bun$"))
    page.reload()
    expect(page.locator(".card")).to_have_count(1)
    expect(page.get_by_role("searchbox")).to_have_value("bun")
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Label").select_option("pan_left")
    expect(page.locator(".card .chip").first).to_contain_text("pan left")
    expect(page).to_have_url(re.compile(r"#/\?label=pan_left$"))
    page.get_by_role("searchbox").fill("nothing like it")
    expect(page.get_by_text("No video fits")).to_be_visible()


def test_a_large_collection_comes_as_it_is_scrolled_and_is_found_again_on_the_way_back(open_page):
    asked: list[str] = []

    def many(route: Route) -> None:
        """The four videos over and over, 130 in all."""
        query = dict(pair.split("=") for pair in route.request.url.partition("?")[2].split("&"))
        asked.append(query["offset"])
        four = route.fetch(url=route.request.url.replace(f"offset={query['offset']}", "offset=0")).json()["videos"]
        first, limit = int(query["offset"]), int(query["limit"])
        route.fulfill(json={"total": 130, "videos": [four[i % 4] for i in range(first, min(first + limit, 130))]})

    page = open_page("#/upload")
    page.route(re.compile(r"/api/videos\?"), many)
    page.get_by_role("link", name="Collection", exact=True).click()
    cards = page.locator(".card:not(.skeleton)")
    expect(cards).to_have_count(60)
    assert asked == ["0"]
    cards.last.scroll_into_view_if_needed()
    expect(cards).to_have_count(120)
    cards.last.scroll_into_view_if_needed()
    expect(cards).to_have_count(130)
    before = page.evaluate("scrollY")
    cards.nth(118).locator(".card-link").click()
    expect(page.get_by_role("slider")).to_be_visible()
    page.go_back()
    expect(cards).to_have_count(130)
    assert abs(page.evaluate("scrollY") - before) < 300
    assert asked == ["0", "60", "120"]


def test_a_video_plays_and_the_playhead_goes_along(open_page, ids):
    page = open_page("")
    page.get_by_role("link", name="bunny.mp4").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("bunny.mp4")
    page.get_by_role("slider").focus()
    page.keyboard.press("Space")
    wait_for_time(page, 0.5, 5.3)
    page.wait_for_function("() => parseFloat(document.querySelector('.plot').style.getPropertyValue('--at')) > 8")
    page.keyboard.press("Space")
    expect(page.locator(".player video")).to_have_js_property("paused", True)
    expect(page).to_have_url(re.compile(r"\?t=[0-9.]+$"))


def test_a_click_on_the_timeline_jumps_and_the_address_keeps_the_time(open_page, ids):
    page = open_page(video_address(ids, "moves", 2))
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuenow", "2.0")
    wait_for_time(page, 1.99, 2.01)
    duration = page.locator(".player video").evaluate("video => video.duration")
    click_at(page, 0.75)
    wait_for_time(page, 0.74 * duration, 0.76 * duration)
    expect(page).not_to_have_url(re.compile(r"t=2$"))
    before = seconds(page)
    page.reload()
    wait_for_time(page, before - 0.01, before + 0.01)
    expect(page.get_by_role("region", name="At this moment")).to_contain_text("%")


def test_an_address_that_one_goes_to_is_not_written_over_by_the_player(open_page, ids):
    page = open_page(video_address(ids, "bikes", 3))
    wait_for_time(page, 2.9, 3.1)
    page.evaluate(
        """async () => {
            await new Promise((rested) => setTimeout(rested, 400));  // the player writes at once again
            location.hash = "#/upload";  // hashchange comes later
            document.querySelector(".player video").dispatchEvent(new Event("seeked"));
        }"""
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("Classify a video")


def test_dragging_along_the_timeline_seeks(open_page, ids):
    page = open_page(video_address(ids, "bikes"))
    box = page.get_by_role("slider").bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + 60)
    page.mouse.down()
    for share in (0.2, 0.4, 0.6):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + 60)
    page.mouse.up()
    wait_for_time(page, 5.9, 6.1)
    expect(page.locator(".tip")).to_contain_text("%")


def test_the_timeline_is_a_slider_for_the_keyboard(open_page, ids):
    page = open_page(video_address(ids, "bikes"))
    slider = page.get_by_role("slider", name="Time in the video")
    slider.focus()
    there = {"End": "10.0", "Home": "0.0", "ArrowRight": "0.2", "PageUp": "2.2", "ArrowLeft": "2.0", "PageDown": "0.0"}
    for key, value in there.items():
        page.keyboard.press(key)
        expect(slider).to_have_attribute("aria-valuenow", value)
    assert re.search(r"0 seconds of 10 seconds, \w+", slider.get_attribute("aria-valuetext"))


def test_the_semantic_code_has_its_colours_and_its_changes_above(open_page, ids):
    """The canvas in the middle of a clip's column, compared with the picture; the curve is highest where the change is."""
    page = open_page(video_address(ids, "moves"))
    answer = page.request.get(f"/api/videos/{ids['moves']}/semcode.png")
    code = np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB")).astype(int)
    page.wait_for_function("() => document.querySelector('.with-strip canvas')?.height > 250")
    clips = page.request.get(f"/api/videos/{ids['moves']}/timeline").json()["clips"]
    shown = page.locator(".timeline canvas").evaluate("canvas => canvas.toDataURL()").partition(",")[2]
    canvas = np.asarray(Image.open(io.BytesIO(b64decode(shown))).convert("RGBA")).astype(int)
    strip, curve = canvas[-64:, :, :3], canvas[-96:-64, :, 3]
    centres = [(clip["start"] + clip["end"]) / 2 * canvas.shape[1] / clips[-1]["end"] for clip in clips]
    for number in range(1, len(clips) - 1):
        assert np.abs(strip[:, int(centres[number])] - code[:, number]).max() <= 2
    highest = max(range(1, len(clips)), key=lambda number: clips[number]["change"])
    peak = np.flatnonzero(curve[3] > 100).mean()
    assert centres[highest - 1] < peak < centres[highest]


def test_clips_are_there_in_words_and_lead_to_their_moment(open_page, ids):
    page = open_page(video_address(ids, "bikes"))
    page.get_by_text("clips in words").click()
    page.get_by_role("row").nth(3).get_by_role("button").click()
    wait_for_time(page, 0.63, 0.65)


def test_moments_like_one_of_a_video(open_page, ids):
    page = open_page(video_address(ids, "bikes", 5))
    wait_for_time(page, 4.9, 5.1)
    page.get_by_role("link", name="More like this moment").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Moments like this one")
    expect(page.locator(".hit").first).to_contain_text(f"{HOSTILE}.mp4")  # the same video under another name
    expect(page.locator(".hit .score").first).to_have_text("1.000")
    expect(page.locator(".query")).to_contain_text("bikes.mp4")
    own = page.locator(".hit", has=page.get_by_role("link", name="bikes.mp4", exact=True))
    expect(own.first).to_be_visible()
    merged = page.locator(".hit .times").all_inner_texts()
    page.get_by_text("Merge neighbours").click()
    expect(page.locator(".hit .times").first).not_to_have_text(merged[0])
    page.get_by_text("Other videos only").click()
    expect(own).to_have_count(0)
    expect(page).to_have_url(re.compile(r"merge=no&others=yes$"))
    page.reload()
    expect(page.get_by_role("switch", name="Other videos only")).to_be_checked()
    expect(page.locator(".hit").first).to_be_visible()
    expect(own).to_have_count(0)
    page.go_back()
    wait_for_time(page, 4.9, 5.1)


def test_a_hit_leads_to_its_moment_and_to_others_like_it(open_page, ids):
    page = open_page(f"#/similar/{quote(ids['bunny'])}@1")
    page.locator(".hit").nth(1).get_by_role("link", name="More like").click()
    expect(page.locator(".query")).not_to_contain_text("bunny.mp4")
    page.locator(".hit").first.locator(".card-title").click()
    expect(page.get_by_role("slider")).to_be_visible()
    similar = page.get_by_role("link", name="More like this moment").get_attribute("href")
    assert page.url.split("?")[0].endswith(similar.split("@")[0].replace("similar", "video"))


def test_moments_of_a_label(open_page, ids):
    page = open_page(video_address(ids, "moves"))
    page.get_by_role("button", name="Show all 9 labels").click()
    page.get_by_role("list", name="Labels in this video").get_by_role("link", name="zoom in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("zoom in")
    expect(page.locator(".hit .score").first).to_have_text(re.compile("9[0-9].%"))
    expect(page).to_have_url(re.compile("#/label/zoom_in$"))


def test_a_hit_plays_its_moment_under_the_pointer(open_page, ids):
    page = open_page(f"#/similar/{quote(ids['bikes'])}@5")
    hit = page.locator(".hit").first
    hit.locator(".thumb").hover()
    video = hit.locator("video")
    page.wait_for_function("() => document.querySelector('.hit video')?.currentTime > 4.8")
    assert video.evaluate("video => video.muted")
    start, end = (float(part) for part in video.get_attribute("src").split("#t=")[1].split(","))
    # Once round: it comes to the end of its span and begins again.
    page.wait_for_function("end => document.querySelector('.hit video').currentTime > end - 0.2", arg=end)
    page.wait_for_function("end => document.querySelector('.hit video').currentTime < end - 0.3", arg=end)
    assert start - 0.05 <= video.evaluate("video => video.currentTime") <= end + 0.3
    page.mouse.move(0, 0)
    expect(page.locator(".hit video")).to_have_count(0)
    hit.locator(".thumb-link").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")  # so that the focus came by keyboard
    expect(page.locator(".hit video")).to_have_count(1)
    page.keyboard.press("Tab")
    expect(page.locator(".hit video")).to_have_count(0)


def test_with_less_motion_only_a_button_plays(open_page, ids):
    page = open_page(f"#/similar/{quote(ids['bikes'])}@5", reduced_motion="reduce")
    thumb = page.locator(".hit .thumb").first
    thumb.hover()
    toggle = thumb.get_by_role("button")
    toggle.click()
    expect(thumb.locator("video")).to_have_count(1)
    expect(toggle).to_have_attribute("aria-pressed", "true")
    toggle.click()
    expect(thumb.locator("video")).to_have_count(0)
