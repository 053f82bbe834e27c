"""Pages that are opened again, in a browser that has kept them."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext

from tests.web.visit import check_clean, opened

pytestmark = pytest.mark.browser

STYLE = "getComputedStyle(document.querySelector('main, .swagger-ui, body')).padding"  # without a style sheet: 0px


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/?scenario=counter", "[data-lesson=counter][aria-pressed=true]"),
        ("/docs", ".opblock"),
        ("/redoc", "h2"),
        ("/problems", "main li a"),
    ],
)
def test_a_page_works_each_time(at_home: BrowserContext, path: str, there: str) -> None:
    """Reloaded twice and opened in a second tab, it has its style and runs its scripts as it did at first."""
    first = opened(at_home)
    first.page.goto(path)
    first.page.locator(there).first.wait_for()
    styled = first.page.evaluate(STYLE)
    for _ in range(2):
        first.page.reload()
        first.page.locator(there).first.wait_for()
    second = opened(at_home)
    second.page.goto(path)
    second.page.locator(there).first.wait_for()
    for visit in (first, second):
        assert styled == visit.page.evaluate(STYLE)
        check_clean(visit)
