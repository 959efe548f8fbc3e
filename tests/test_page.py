"""The page of `ig65m serve` in a real browser, on a real collection."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.browsing import Watch, choose, click_at, refuse, scrolls_sideways, seconds, video_address, wait_for_time
from tests.serving import Served, serving

PROGRAM = Path(sys.executable).parent / "ig65m"
CLIP = Path(__file__).parent.parent / "src" / "ig65m" / "demo" / "clip.mp4"
HOSTILE = """<img src=x onerror="document.title='owned'"> 100% #1?&amp;'"""
MODEL = "r2plus1d_10_camera_motion"
TOKEN = "open-sesame-123456"
MIB = 1 << 20
PHONE = {"width": 360, "height": 740}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def index(bikes: Path, bigbuckbunny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos: bikes, bunny, the demo's, whose camera moves in turn, and bikes once more under a name that is markup."""
    folder = tmp_path_factory.mktemp("page")
    videos = folder / "videos"
    videos.mkdir()
    for source, name in ((bikes, "bikes"), (bigbuckbunny, "bunny"), (CLIP, "moves"), (bikes, HOSTILE)):
        shutil.copyfile(source, videos / f"{name}.mp4")
    for command in (
        ["extract", videos, "--output", folder / "features", "--model", MODEL, "--top-k", "3", "--stride", "8"],
        ["index", "build", folder / "features", folder / "index"],
    ):
        subprocess.run([PROGRAM, *command], check=True, capture_output=True)
    return folder / "index"


@pytest.fixture(scope="module")
def served(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    temporary = tmp_path_factory.mktemp("page-uploads") / "tmp"
    with serving(index, temporary, "--max-upload", 4, env={"IG65M_TOKEN": TOKEN}) as service:
        yield service


@pytest.fixture(scope="module")
def ids(served: Served) -> dict[str, str]:
    """The id of each video by its stem."""
    with served.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        return {video["title"].removesuffix(".mp4"): video["id"] for video in client.get("/api/videos").json()["videos"]}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=15_000)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or playwright.chromium.executable_path
        if not Path(chromium).exists():
            pytest.skip("needs chromium: playwright install chromium")
        program = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield program
        program.close()


@pytest.fixture
def watch(browser: Browser, served: Served) -> Iterator[Watch]:
    watching = Watch(browser, served.url, TOKEN)
    yield watching
    for context in watching.contexts:
        context.close()
    assert watching.problems == []


@pytest.fixture
def open_page(watch: Watch) -> Callable[..., Page]:
    return watch.open


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
    expect(page.locator(".stage video")).to_have_js_property("paused", True)
    expect(page).to_have_url(re.compile(r"\?t=[0-9.]+$"))


def test_a_click_on_the_timeline_jumps_and_the_address_keeps_the_time(open_page, ids):
    page = open_page(video_address(ids, "moves", 2))
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuenow", "2.0")
    wait_for_time(page, 1.99, 2.01)
    duration = page.locator(".stage video").evaluate("video => video.duration")
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
            document.querySelector(".stage video").dispatchEvent(new Event("seeked"));
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
    page = Path(__file__).parent.parent / "src" / "ig65m" / "server" / "page"
    for file in page.iterdir():
        assert not re.search(r"(https?:)?//(?!www\.w3\.org/2000/svg)[\w-]+\.[a-z]", file.read_text(), re.ASCII), file.name
