"""The page while the service is away: it says so, and goes on by itself when it is back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.system.server import Server
from tests.web.visit import Visit

pytestmark = pytest.mark.browser

HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
LONG = {"scenario": "custom", "program": [{"target": "sleep", "args": [60], "name": "sleeper"}]}


def refuse(route: Route) -> None:
    """Answer as a service does that cannot do it now."""
    route.fulfill(status=503, headers={"Retry-After": "1"}, json={"title": "It is closed", "status": 503})


def test_a_stream_that_is_refused_once(visit: Visit, live_server: Server) -> None:
    """A run whose stream the service refuses is watched as soon as it does not."""
    visit.page.route("**/events*", refuse, times=1)
    visit.page.goto(f"/?scenario=custom&job={live_server.submit(LONG)}")
    visit.page.locator(".doing").get_by_text("running").first.wait_for()
    visit.page.get_by_role("button", name="Cancel").click()
    visit.page.locator(".run[data-status=cancelled] .details").wait_for()


def test_a_job_that_cannot_be_had_now(visit: Visit, live_server: Server) -> None:
    """What is wrong is said while it is wrong, for the lists, the lesson and the run, and no longer."""
    job = live_server.run({"scenario": "counter", "iterations": 20})
    visit.page.route("**/v1/**", refuse)
    visit.page.goto(f"/?scenario=counter&job={job['id']}")
    expect(visit.page.get_by_role("alert").get_by_text("It is closed")).to_have_count(2)  # for the lesson, and the run
    visit.page.unroute("**/v1/**")
    visit.page.get_by_text(job["result"]["meaning"]).first.wait_for()
    expect(visit.page.get_by_role("alert")).to_have_count(0)


def test_an_unknown_scenario_is_left_behind(visit: Visit) -> None:
    """Who chooses a lesson, or goes back to one, reads no more that there is no such scenario."""
    visit.page.goto("/?scenario=nothing")
    visit.page.get_by_role("alert").wait_for()
    visit.page.locator("[data-lesson=daemon]").click()
    expect(visit.page.get_by_role("alert")).to_have_count(0)
    visit.page.go_back()
    visit.page.get_by_role("alert").wait_for()
    visit.page.go_forward()
    expect(visit.page.get_by_role("alert")).to_have_count(0)


def test_another_service_at_its_address(visit: Visit, live_server: Server, tmp_path: Path) -> None:
    """While nobody tells what a run does it does not grow; when nobody knows of it any more, the page says so."""
    job_id = live_server.submit(LONG)
    port = live_server.url.rpartition(":")[2]
    visit.page.goto(f"/?scenario=custom&job={job_id}")
    visit.page.locator(".doing").get_by_text("running").first.wait_for()
    live_server.kill()
    visit.page.get_by_text("The link is lost; reconnecting.").wait_for()
    length = "document.querySelector('.axis').lastChild.textContent"
    before = visit.page.evaluate(length)
    visit.page.wait_for_timeout(3_000)  # in which it must not grow
    assert before == visit.page.evaluate(length)
    live_server.start("--port", port, "--database", f"sqlite:///{tmp_path / 'other.db'}")
    visit.page.locator(".run").get_by_role("alert").wait_for()
    expect(visit.page.locator(".run .kicker")).to_contain_text("is no longer known")
    expect(visit.page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_a_page_that_nobody_sees(visit: Visit, live_server: Server) -> None:
    """It holds no connection; seen again, it goes on after the last event that it has."""
    job_id = live_server.submit(LONG)
    visit.page.goto(f"/?scenario=custom&job={job_id}")
    visit.page.locator(".doing").get_by_text("running").first.wait_for()
    streams: list[str] = []
    visit.page.on("request", lambda request: streams.append(request.url) if "/events" in request.url else None)
    with visit.page.expect_event("requestfailed", lambda request: "/events" in request.url):
        visit.page.evaluate(HIDE, True)
    assert [] == streams
    visit.page.evaluate(HIDE, False)
    visit.page.get_by_role("button", name="Cancel").click()
    visit.page.locator(".run[data-status=cancelled] .details").wait_for()
    (stream,) = streams
    assert "?cursor=1-" in stream
    expect(visit.page.locator(".lane")).to_have_count(2)
