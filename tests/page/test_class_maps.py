"""The switch that shows where the model finds a label: what is drawn over the player, and when it cannot be."""

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browsing import refuse, video_address

pytestmark = pytest.mark.slow

ALPHA = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return { size: [canvas.height, canvas.width], alpha: Array.from(data).filter((_, i) => i % 4 === 3) };
}"""


def drawn(page: Page) -> np.ndarray:
    """The opacity of each pixel, from 0 to 1."""
    found = page.locator("canvas.class-map").evaluate(ALPHA)
    return np.array(found["alpha"]).reshape(found["size"]) / 255


def answer(page: Page) -> None:
    """Let the browser see this map: 2x2 values at the corners of what the network sees, the left half."""
    found = {
        **{"start": 0, "end": 0.6, "label": "pan_left", "score": 0.9, "times": [0]},
        **{"rows": [0.25, 0.75], "columns": [0.1, 0.4], "values": [[[4, 0], [4, -4]]]},
        "region": {"top": 0, "left": 0, "height": 1, "width": 0.5},
    }
    page.route(re.compile("/class-map"), lambda route: route.fulfill(json=found))


def test_it_is_drawn_over_the_player_on_request(open_page, ids):
    page = open_page(video_address(ids, "moves", 8.2))
    switch, canvas = page.get_by_role("button", name="Show where"), page.locator("canvas.class-map")
    expect(canvas).to_be_hidden()
    expect(switch).to_have_attribute("aria-pressed", "false")
    switch.click()
    expect(page.locator(".where")).to_contain_text(re.compile("Yellow: where the model finds [a-z ]+ [(][0-9]+"))
    expect(canvas).to_be_visible()
    assert drawn(page).max() == pytest.approx(0.75, abs=0.03)
    assert canvas.bounding_box() == page.locator(".player video").bounding_box()
    shown = page.locator(".player").screenshot()
    switch.click()
    expect(canvas).to_be_hidden()
    assert page.locator(".player").screenshot() != shown
    page.locator(".player video").evaluate("video => video.play()")  # what is drawn does not take clicks from the player


def test_places_and_values(open_page, ids):
    page = open_page(video_address(ids, "moves", 0.1))
    answer(page)
    page.get_by_role("button", name="Show where").click()
    expect(page.locator("canvas.class-map")).to_be_visible()
    alpha = drawn(page)
    height, width = alpha.shape
    assert alpha[:, width * 6 // 10 :] == pytest.approx(0.55, abs=0.01)  # unseen
    assert alpha[:, : width // 12] == pytest.approx(0.75, abs=0.01)  # beyond the centres, the value of the nearest
    assert alpha[height // 8, width * 45 // 100] == pytest.approx(0, abs=0.01)
    assert alpha[height // 8, width // 4] == pytest.approx(0.375, abs=0.03)  # half way
    expect(page.locator(".where")).to_contain_text("pan left (90")


def test_a_refusal_switches_it_off(open_page, ids):
    page = open_page(video_address(ids, "moves", 1))
    refuse(page, "/class-map", 503, "too many uploads at a time; try again later")
    switch = page.get_by_role("button", name="Show where")
    switch.click()
    expect(page.locator(".where")).to_contain_text("too many uploads at a time")
    expect(switch).to_have_attribute("aria-pressed", "false")


def test_a_model_without_maps_has_no_switch(open_page, ids):
    page = open_page("")
    page.route(re.compile("/timeline$"), lambda route: route.fulfill(json={**route.fetch().json(), "has_class_maps": False}))
    page.goto(f"/{video_address(ids, 'moves', 1)}")
    expect(page.locator(".player video")).to_be_visible()
    expect(page.get_by_role("button", name="Show where")).to_have_count(0)
