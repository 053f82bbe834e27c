"""The documentation and the page in a real browser that can reach nothing but the service."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from tests.system.server import Server
from tests.web.visit import Visit, check_clean

pytestmark = pytest.mark.browser


def summaries(server: Server) -> list[str]:
    """The summaries of all operations."""
    document: dict[str, Any] = server.ask("GET", "/openapi.json").json()
    return [operation["summary"] for methods in document["paths"].values() for operation in methods.values()]


def test_swagger_ui_shows_every_operation(visit: Visit, live_server: Server) -> None:
    """/docs renders with the network cut off, with every operation on it."""
    visit.page.goto("/docs")
    visit.page.locator(".opblock").first.wait_for()
    shown = visit.page.locator(".opblock-summary-description").all_inner_texts()
    assert sorted(summaries(live_server)) == sorted(shown)
    assert "Threadlab" in visit.page.title()
    check_clean(visit)


def test_redoc_shows_every_operation(visit: Visit, live_server: Server) -> None:
    """/redoc renders with the network cut off, with every operation on it."""
    visit.page.goto("/redoc")
    headings = visit.page.locator("h2")
    for summary in summaries(live_server):
        headings.filter(has_text=summary).first.wait_for()
    check_clean(visit)


def test_the_page_runs_a_lesson(visit: Visit) -> None:
    """Run on the front page draws a lane for each thread before the job has ended, and then says how it ended."""
    visit.page.goto("/?scenario=interleaving&delay_s=0.6")
    visit.page.get_by_role("button", name="Run", exact=True).click()
    visit.page.get_by_role("button", name="Cancel").wait_for()
    visit.page.get_by_text("Thread-2").first.wait_for()
    assert visit.page.get_by_role("button", name="Cancel").is_visible()
    visit.page.get_by_role("button", name="Run again").wait_for()
    visit.page.locator("header.outcome[data-grade=acceptable]").wait_for()
    assert "job=job_" in visit.page.url
    check_clean(visit)


def test_the_page_cancels(visit: Visit, live_server: Server) -> None:
    """Cancel ends the job that is on the page."""
    job_id = live_server.submit({"scenario": "daemon", "main_s": 30.0})
    visit.page.goto(f"/?job={job_id}")
    visit.page.get_by_role("button", name="Cancel").click()
    visit.page.locator("header.outcome").get_by_text("cancelled").first.wait_for()
    assert "cancelled" == live_server.job(job_id)["status"]
    check_clean(visit)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_link_shows_a_run_on_a_phone(visit: Visit, live_server: Server, scheme: Literal["light", "dark"]) -> None:
    """A link with a job in it shows that run, at 375 pixels without scrolling sideways, light and dark."""
    job = live_server.run({"scenario": "counter", "threads": 3, "iterations": 20, "trace": "locks"})
    visit.page.emulate_media(color_scheme=scheme)
    visit.page.set_viewport_size({"width": 375, "height": 800})
    visit.page.goto(f"/?job={job['id']}")
    visit.page.get_by_text(job["result"]["meaning"]).first.wait_for()
    wide = visit.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 375
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (scheme == "dark") == (sum(map(int, re.findall(r"\d+", background)[:3])) < 200)
    check_clean(visit)


def test_problem_pages_render(visit: Visit) -> None:
    """A problem's page opens from the list of all, with a style of our own."""
    visit.page.goto("/problems")
    visit.page.get_by_role("link", name="The queue is full").click()
    visit.page.get_by_role("heading", name="The queue is full").wait_for()
    check_clean(visit)


def test_example_runs_by_a_click(visit: Visit) -> None:
    """An example of POST /v1/jobs that is executed as it stands shows the accepted job in the page."""
    visit.page.goto("/docs")
    block = visit.page.locator("#operations-jobs-submit_job")
    block.locator(".opblock-summary").click()
    picker = block.locator(
        ".opblock-section-request-body select.examples-select-element, .examples-select select"
    ).first
    picker.select_option("counter_2")
    body = block.locator("textarea.body-param__text")
    assert '"lock": false' in body.input_value()
    block.get_by_role("button", name="Execute").click()
    status = block.locator(".live-responses-table .response-col_status").nth(1)
    status.wait_for()
    assert status.inner_text().split()[0] in {"200", "202"}
    answer = block.locator(".live-responses-table .highlight-code").first.inner_text()
    assert '"scenario": "counter"' in answer
    assert '"lock": false' in answer
    check_clean(visit)


def test_waiting_for_a_job_by_a_click(visit: Visit) -> None:
    """With the header `Prefer` filled in, a job that is executed in the page is shown finished."""
    visit.page.goto("/docs")
    block = visit.page.locator("#operations-jobs-submit_job")
    block.locator(".opblock-summary").click()
    block.locator('tr[data-param-name="prefer"] input').fill("wait=30")
    block.locator("textarea.body-param__text").fill('{"scenario": "counter", "iterations": 10}')
    block.get_by_role("button", name="Execute").click()
    status = block.locator(".live-responses-table .response-col_status").nth(1)
    status.wait_for()
    assert "200" == status.inner_text().split()[0]
    assert '"status": "succeeded"' in block.locator(".live-responses-table .highlight-code").first.inner_text()
    check_clean(visit)
