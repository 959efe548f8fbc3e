"""The report of an evaluation in a real browser: light, dark and on a phone, without a request or a complaint."""

import pytest

from tests.page.conftest import PHONE
from tests.test_evaluate_report import HOSTILE, LABELS, results, written

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("classes", [len(LABELS), 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_asks_for_nothing_and_obeys_no_label(browser, tmp_path, scheme, classes):
    labels = (*LABELS, *(f"label {number}" for number in range(len(LABELS), classes)))
    written(tmp_path, results(labels=labels, count=200))
    with browser.new_context(color_scheme=scheme, viewport=PHONE) as context:
        page = context.new_page()
        problems = []
        page.on("console", lambda said: problems.append(said.text))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.on("pageerror", lambda error: problems.append(str(error)))
        address = (tmp_path / "report.html").as_uri()
        page.on("request", lambda request: problems.extend([request.url] if request.url != address else []))
        page.goto(address)
        assert page.title() == f"model {HOSTILE} on {HOSTILE.replace('/', '')}.csv"
        assert page.locator("svg.reliability, svg.confusion").count() == 2
        assert page.locator(".mistakes figure").count() == 24
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not problems


def test_the_pictures_of_mistakes_are_shown(browser, bikes, tmp_path):
    written(tmp_path, results(count=12, path=str(bikes)))
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((tmp_path / "report.html").as_uri())
        sizes = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.naturalHeight])")
        assert sizes
        assert {tuple(size) for size in sizes} == {(240, 102)}
