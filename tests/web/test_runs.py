"""What the page shows of a run: its lanes, its figures, what it printed, and how it ended."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route, expect

from tests.support import wait_until
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
        pytest.param({"scenario": "deadlock", "hold_s": 0.5, "trace": "locks", "timeout_s": 2.0}, False, id="stuck"),
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
    wait_until(lambda: min(visit.page.evaluate(SHARES)) > 0.98)
    check_clean(visit)


def test_figures(visit: Visit) -> None:
    """A whole number is written in full, a duration in the unit that suits it, a rate as a rate."""
    visit.page.goto("/")
    facts = {
        "expected": 1_233_333,
        "per_addition_s": 4.6e-6,
        "tasks_per_s": 18.357,
        "tasks_per_s_alone": 20,
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
        ["tasks per second alone", "20"],
        ["share", "0.123457"],
        ["wall", "\N{EN DASH}"],
    ] == said


def test_a_time_of_its_own(visit: Visit, live_server: Server) -> None:
    """A time that the scenario took stands beside the job's of the same name."""
    job = live_server.run({"scenario": "counter", "iterations": 10})
    job["result"]["values"]["wall_s"] = 0.001
    job["result"]["timings"]["wall_s"] = 0.002
    visit.page.route(f"**{job['links']['self']}", lambda route: route.fulfill(json=job))
    visit.page.goto(job["links"]["page"])
    for fact in ("whole run wall2 ms", "wall1 ms"):
        expect(visit.page.locator(".facts")).to_contain_text(fact)
    check_clean(visit)


def test_long_texts_of_clients(visit: Visit, live_server: Server) -> None:
    """A label, an error and a warning of one long word make no page wider: neither their own nor everybody's."""
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


def test_output_as_it_was_printed(visit: Visit, live_server: Server) -> None:
    """Spaces and tabs of a line are kept, and the lines that were not kept are counted."""
    job = live_server.run({"scenario": "counter", "iterations": 10})
    line = "    indented\tby  hand\u2028"
    job["result"]["output"] = [{"at_s": 0.001, "thread": "MainThread", "line": line}]
    job["result"]["output_dropped"] = 54_219
    visit.page.route(f"**{job['links']['self']}", lambda route: route.fulfill(json=job))
    visit.page.route("**/events*", lambda route: route.abort())
    visit.page.goto(job["links"]["page"])
    shown = visit.page.locator(".lines .text").first
    assert line == shown.evaluate("text => text.innerText")
    visit.page.get_by_text("54,219 more lines were not kept.").wait_for()


def test_who_reads_further_up_is_left_there(visit: Visit, live_server: Server) -> None:
    """Lines that come push the box to its end only for who is there."""
    program = [{"target": "print_numbers", "args": [300, 0.02]}]
    visit.page.goto(f"/?scenario=custom&job={live_server.submit({'scenario': 'custom', 'program': program})}")
    box = visit.page.locator(".lines")
    lines = box.locator("li")
    wait_until(lambda: lines.count() > 60)
    assert box.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") < 40
    box.evaluate("box => { box.scrollTop = 0; }")
    before = lines.count()
    wait_until(lambda: lines.count() > before + 20)
    assert box.evaluate("box => box.scrollTop") == 0


def test_a_finished_run_is_drawn_at_once(visit: Visit, live_server: Server) -> None:
    """However long its events take to come, all by one request, its result is drawn before them."""
    program = [{"target": "print_numbers", "args": [1000, 0.0]} for _ in range(3)]
    job = live_server.run({"scenario": "custom", "program": program})
    held: list[Route] = []
    visit.page.route("**/events*", lambda route: held.append(route))  # noqa: PLW0108  Playwright counts its arguments
    visit.page.goto(job["links"]["page"])
    visit.page.locator(".lane").nth(3).wait_for()
    visit.page.locator(".lines li").first.wait_for()
    visit.page.get_by_text("active threads, at most").wait_for(state="attached")
    assert 0 == visit.page.get_by_text("Nothing printed.").count()
    held.pop().continue_()
    check_clean(visit)
    assert [] == held


def test_a_run_that_waits_its_turn(visit: Visit, live_server: Server) -> None:
    """Before a run has begun there is neither an axis nor a curve, and nothing is said of what it printed."""
    before = live_server.submit({"scenario": "cpu_bound", "size": 5_000, "timeout_s": 100.0})
    job_id = live_server.submit({"scenario": "cpu_bound", "size": 1})
    visit.page.goto(f"/?scenario=cpu_bound&job={job_id}")
    visit.page.locator(".run[data-status=queued]").wait_for()
    assert 0 == visit.page.locator(".axis text").count()
    assert "" == visit.page.locator(".curve").text_content()
    visit.page.get_by_text("Nothing printed yet.").wait_for()
    assert 200 == live_server.ask("POST", f"/v1/jobs/{before}/cancel").status_code
    visit.page.locator(".details").wait_for()
    visit.page.get_by_text("active threads, at most").wait_for(state="attached")
    check_clean(visit)


def test_locks_that_nobody_looked_at(visit: Visit, live_server: Server) -> None:
    """Where locks were not traced the page says so, and runs the same with locks traced at one click."""
    job = live_server.run({"scenario": "counter", "iterations": 50, "threads": 3, "lock": True})
    visit.page.goto(job["links"]["page"])
    visit.page.get_by_text("Locks were not traced.").wait_for()
    assert 0 == visit.page.get_by_text("holds a lock").count()
    visit.page.get_by_role("button", name="Run with locks traced").click()
    visit.page.get_by_text("trace: threads → locks").wait_for()
    visit.page.get_by_text("holds a lock").wait_for()
    expect(visit.page.locator("#field-threads")).to_have_value("3")
    expect(visit.page.locator("header.outcome[data-grade]")).to_have_count(2)
    check_clean(visit)


def test_how_a_deadlock_ended(visit: Visit, live_server: Server) -> None:
    """A run that was ended because its threads waited for each other did not run out of time."""
    job = live_server.run({"scenario": "deadlock", "hold_s": 0.5, "trace": "locks", "timeout_s": 20.0})
    assert "Deadlock" == job["error"]["type"]
    visit.page.goto(job["links"]["page"])
    expect(visit.page.locator(".run .kicker")).to_contain_text("was stuck and was ended")
    assert 0 == visit.page.get_by_text("ran out of time").count()
    check_clean(visit)


def test_lists_and_long_texts_among_the_values(visit: Visit, live_server: Server) -> None:
    """A list of rows is a table, one of figures a line; a long text has the whole width, and code in it is code."""
    job = live_server.run({"scenario": "counter", "iterations": 10})
    rows = [{"worker": "A", "took_s": 0.5}, {"worker": "B", "took_s": 0.25, "note": None}]
    job["result"]["values"] = {"order": [3, 1, 2], "story": "Far and away `counter += 1` " * 5, "workers": rows}
    visit.page.route(f"**{job['links']['self']}", lambda route: route.fulfill(json=job))
    visit.page.goto(job["links"]["page"])
    expect(visit.page.locator(".facts")).to_contain_text("order3, 1, 2")
    story = visit.page.locator(".facts .long")
    assert "counter += 1" == story.locator("code").first.inner_text()
    assert story.evaluate("story => story.clientWidth > 0.9 * story.parentElement.clientWidth")
    visit.page.get_by_text("workers", exact=True).click()
    table = visit.page.get_by_role("region", name="workers")
    assert ["worker", "took", "note"] == table.locator("th").all_inner_texts()
    unknown = "\N{EN DASH}"
    assert ["A", "500 ms", unknown, "B", "250 ms", unknown] == table.locator("td").all_inner_texts()
    check_clean(visit)
