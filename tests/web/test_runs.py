"""What the page shows of a run: its lanes, its figures, what it printed, and how it ended."""

from __future__ import annotations

import pytest

from tests.system.server import Server
from tests.web.visit import Visit, check_clean

pytestmark = pytest.mark.browser

SHARES = """() => [...document.querySelectorAll(".bars")].map((bars) => {
  const box = bars.querySelector(".running").getBBox();
  return (box.x + box.width) / bars.clientWidth;
})"""  # of the run's whole length, at which each thread ended


@pytest.mark.parametrize(
    ("body", "cancels"),
    [
        pytest.param({"scenario": "deadlock", "trace": "locks", "timeout_s": 2.0}, False, id="stuck"),
        pytest.param({"scenario": "custom", "program": [{"target": "sleep", "args": [30]}]}, True, id="cancelled"),
    ],
)
def test_lanes_of_a_run_ended_by_force(
    visit: Visit, live_server: Server, body: dict[str, object], cancels: bool
) -> None:
    """A thread that lived to the end is drawn to the end, though its last event came long before."""
    visit.page.goto(f"/?job={live_server.submit(body)}")
    if cancels:
        visit.page.locator(".doing").get_by_text("running").first.wait_for()
        visit.page.wait_for_timeout(1_000)  # time in which nothing happens is what this is about
        visit.page.get_by_role("button", name="Cancel").click()
    visit.page.locator(".details").wait_for()
    visit.page.wait_for_function(f"({SHARES})().every((share) => share > 0.98)")
    check_clean(visit)


def test_figures(visit: Visit) -> None:
    """A whole number is written in full, a duration in the unit that suits it, a rate as a rate."""
    visit.page.goto("/")
    facts = {
        "expected": 1_233_333,
        "per_addition_s": 4.6e-6,
        "tasks_per_s": 18.357,
        "share": 0.123456789,
        "wall_s": None,
    }
    said = visit.page.evaluate(
        "async (facts) => { const { fact } = await import('/assets/page/words.js');"
        " return Object.entries(facts).map(([name, value]) => fact(name, value)); }",
        facts,
    )
    assert [
        ["expected", "1,233,333"],
        ["per addition", "4.6 µs"],
        ["tasks per second", "18.357"],
        ["share", "0.123457"],
        ["wall", "\N{EN DASH}"],
    ] == said


def test_long_texts_of_clients(visit: Visit, live_server: Server) -> None:
    """A label, an error and a warning of one long word make no page wider: neither that of their job nor everybody's."""
    word = "x" * 190
    experiment = {"scenario": "counter", "iterations": 10, "vary": {"threads": [1, 2]}, "repeats": 3, "label": word}
    assert 202 == live_server.ask("POST", "/v1/experiments", json=experiment).status_code
    job = live_server.run({"scenario": "counter", "iterations": 10, "label": word})
    job["error"] = {"type": "ValueError", "message": word, "traceback": word}
    job["result"]["warnings"] = [{"code": "long", "detail": word}]
    visit.page.route(f"**{job['links']['self']}", lambda route: route.fulfill(json=job))
    visit.page.set_viewport_size({"width": 375, "height": 667})
    visit.page.goto(job["links"]["page"])
    visit.page.locator(".details").wait_for()
    visit.page.locator(".recent").get_by_text(word).first.wait_for()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 375
