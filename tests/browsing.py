"""Pages in a real browser, and what tests do with them."""

import json
import re
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, BrowserContext, Page, Request


class Watch:
    """Opens pages, and notes what a page must not do: errors, warnings, broken rules of its own, requests elsewhere."""

    def __init__(self, browser: Browser, url: str, token: str) -> None:
        self.browser, self.url, self.token = browser, url, token
        self.contexts: list[BrowserContext] = []
        self.problems: list[str] = []

    def open(self, address: str, *, logged_in: bool = True, **how: Any) -> Page:
        """A page at that address of the service, in a context of its own."""
        how = {"viewport": {"width": 1280, "height": 900}, "base_url": self.url, **how}
        context = self.browser.new_context(**how)
        context.set_default_timeout(15_000)
        self.contexts.append(context)
        if logged_in:
            assert context.request.post("/api/login", data={"token": self.token}).ok
        page = context.new_page()
        page.on("console", lambda said: self._hear(said.type, said.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._see)
        page.goto(f"/{address}")
        return page

    def _hear(self, kind: str, text: str) -> None:
        """A browser reports refused requests as errors; whether they were in order is for the test to say."""
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.problems.append(f"{kind}: {text}")

    def _see(self, request: Request) -> None:
        if not request.url.startswith((self.url + "/", f"blob:{self.url}/")):
            self.problems.append(f"asks {request.url}")


def video_address(ids: dict[str, str], name: str, time: float | None = None) -> str:
    return f"#/video/{quote(ids[name])}" + ("" if time is None else f"?t={time}")


def seconds(page: Page) -> float:
    """Where the player is."""
    return page.locator(".player video").evaluate("video => video.currentTime")


def wait_for_time(page: Page, least: float, most: float) -> None:
    """Until the player is at a time between these."""
    page.wait_for_function(
        "([a, b]) => { const t = document.querySelector('.player video')?.currentTime ?? -1; return a <= t && t <= b }",
        arg=[least, most],
    )


def click_at(page: Page, share: float) -> None:
    """There along the timeline, 0 to 1."""
    box = page.get_by_role("slider").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + share * box["width"], box["y"] + 40)


def choose(page: Page, name: str, data: bytes) -> None:
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "video/mp4", "buffer": data})


def refuse(page: Page, pattern: str, status: int, message: str, **headers: str) -> None:
    """Let the browser see such an answer of the server."""
    body = json.dumps({"error": {"code": "busy", "message": message}})
    page.route(
        re.compile(pattern),
        lambda route: route.fulfill(status=status, content_type="application/json", headers=headers, body=body),
    )


def scrolls_sideways(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")
