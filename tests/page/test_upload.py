"""Uploads, tokens, and a server that is busy or gone."""

import re

import pytest
from playwright.sync_api import Route, expect

from tests.browsing import choose, click_at, refuse, wait_for_time
from tests.page.conftest import MIB, TOKEN

pytestmark = pytest.mark.slow


def test_an_upload_is_classified_and_its_like_found(open_page, bikes):
    page = open_page("#/upload")
    choose(page, "<b>mine</b>.mp4", bikes.read_bytes())
    expect(page.get_by_role("heading", level=1)).to_have_text("<b>mine</b>.mp4")
    expect(page).to_have_url(re.compile("#/upload/result"))
    expect(page.get_by_role("region", name="In the whole video")).to_contain_text("static")
    wait_for_time(page, 0, 0)
    click_at(page, 0.5)
    wait_for_time(page, 4.9, 5.1)
    page.get_by_role("button", name="Find similar moments").click()
    expect(page.locator(".hit").first).to_contain_text("like yours at")
    expect(page.locator(".hit .score").first).to_have_text("1.000")
    page.reload()
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuenow", re.compile(r"^(4\.9|5\.)"))
    expect(page.get_by_text("Choose the file once more to watch it")).to_be_visible()


def test_a_video_dropped_anywhere_is_classified(open_page, bigbuckbunny):
    page = open_page("")
    expect(page.locator(".card")).to_have_count(4)
    page.evaluate(
        """async (address) => {
            const bytes = await (await fetch(address)).blob();
            const files = new DataTransfer();
            files.items.add(new File([bytes], "dropped.mp4", { type: "video/mp4" }));
            const how = { bubbles: true, cancelable: true, dataTransfer: files };
            document.body.dispatchEvent(new DragEvent("dragover", how));
            window.curtain = !document.getElementById("drop").hidden;
            document.body.dispatchEvent(new DragEvent("drop", how));
        }""",
        page.locator(".card-link").nth(2).evaluate("a => a.hash.replace('#/video/', 'api/videos/') + '/file'"),
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("dropped.mp4")
    assert page.evaluate("window.curtain")
    expect(page.locator("#drop")).to_be_hidden()


def test_a_broken_file_is_told_in_words(open_page):
    page = open_page("#/upload")
    choose(page, "notes.mp4", b"no video at all\n" * 100)
    alert = page.locator("main").get_by_role("alert")
    expect(alert).to_contain_text("That did not work")
    expect(alert).to_contain_text("notes.mp4")
    assert not re.search(r"/tmp|Traceback|\[Errno", alert.inner_text())
    alert.get_by_role("button", name="Choose another file").click()
    expect(page.get_by_text("Drop a video anywhere")).to_be_visible()


def test_a_file_over_the_limit_is_not_even_sent(open_page):
    page = open_page("#/upload")
    choose(page, "long.mp4", bytes(4 * MIB + 1))
    expect(page.locator("main").get_by_role("alert")).to_contain_text("this server takes 4.2 MB at most")


def test_a_busy_server_is_tried_again_when_it_said(open_page, bigbuckbunny):
    page = open_page("#/upload")
    refuse(page, "/api/classify", 503, "as many uploads as it can take", **{"Retry-After": "2"})
    choose(page, "bunny.mp4", bigbuckbunny.read_bytes())
    expect(page.get_by_text("as many uploads as it can take")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Try again in [12] s"))).to_be_disabled()
    page.unroute_all()
    page.get_by_role("button", name="Try again", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("bunny.mp4")


def test_an_upload_is_cancelled(open_page, bigbuckbunny):
    page = open_page("#/upload")
    held: list[Route] = []
    page.route(re.compile("/api/classify"), lambda route: held.append(route))
    choose(page, "bunny.mp4", bigbuckbunny.read_bytes())
    with page.expect_event("requestfailed", lambda request: "classify" in request.url):
        page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Drop a video anywhere")).to_be_visible()
    for route in held:
        route.abort()


def test_a_server_that_is_gone_is_told_and_found_again(open_page, ids):
    page = open_page("")
    expect(page.locator(".card")).to_have_count(4)
    page.route(re.compile("/api/"), lambda route: route.abort())
    page.get_by_role("link", name="bunny.mp4").click()
    expect(page.locator("#banner")).to_contain_text("does not answer")
    page.unroute_all()
    expect(page.get_by_role("slider")).to_be_visible()  # by itself
    expect(page.locator("#banner")).to_be_empty()


def test_a_server_with_a_token_asks_for_it(open_page):
    page = open_page("#/label/zoom_in", logged_in=False)
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Enter").click()
    expect(page.get_by_text("That is not the token")).to_be_visible()
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("zoom in")
    expect(page.locator(".hit").first).to_be_visible()
    assert page.evaluate("document.cookie") == ""
