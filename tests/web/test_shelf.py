"""The lists below the runs: live, and not filled by one experiment."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.system.server import Server
from tests.web.visit import Visit, check_clean

pytestmark = pytest.mark.browser

EXPERIMENT = {"scenario": "counter", "iterations": 10, "vary": {"threads": [1, 2, 3, 4]}, "repeats": 5}


def test_an_experiment_goes_on(visit: Visit, live_server: Server) -> None:
    """List, chart and queue follow an experiment to its end without a reload; the chart says its verdict."""
    slow = {"scenario": "interleaving", "steps": 3, "delay_s": 0.2, "vary": {"threads": [1, 2]}, "repeats": 6}
    experiment = live_server.ask("POST", "/v1/experiments", json=slow).json()
    visit.page.goto("/")
    row = visit.page.locator(".experiments li").filter(has_text=experiment["id"])
    expect(row).to_contain_text(re.compile("(queued|running), [0-9]+ of 12 runs"))
    expect(row).to_contain_text("succeeded", timeout=60_000)
    expect(visit.page.locator("#queue + ul")).not_to_contain_text(re.compile("[1-9][0-9]* of"))
    done = live_server.ask("GET", experiment["links"]["self"]).json()
    expect(row.locator("img")).to_have_attribute("alt", done["verdict"]["text"])
    expect(row.locator("img")).to_have_attribute("src", f"{experiment['links']['chart']}?done=12")
    check_clean(visit)


def test_a_chart_on_a_phone(visit: Visit, live_server: Server) -> None:
    """A chart keeps a size at which it can be read, and scrolls by itself where it is wider than the screen."""
    experiment = live_server.ask("POST", "/v1/experiments", json=EXPERIMENT, headers={"Prefer": "wait=60"}).json()
    visit.page.set_viewport_size({"width": 375, "height": 667})
    visit.page.goto("/")
    picture = visit.page.locator(".experiments li").filter(has_text=experiment["id"]).locator("img")
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("complete", value=True)
    box = picture.bounding_box()
    assert box is not None
    assert box["width"] >= 500
    assert 375 >= visit.page.evaluate("document.documentElement.scrollWidth")
    check_clean(visit)


def test_a_job_of_somebody_else(visit: Visit, live_server: Server) -> None:
    """A job in the list is followed to its end."""
    live_server.submit({"scenario": "interleaving", "steps": 4, "delay_s": 0.5, "label": "hers"})
    visit.page.goto("/")
    row = visit.page.locator(".recent li").filter(has_text="hers")
    expect(row).to_contain_text("running")
    expect(row).to_contain_text("interleaved")
    check_clean(visit)


def test_runs_of_experiments_push_no_job_out(visit: Visit, live_server: Server) -> None:
    """However many runs an experiment makes, the jobs before it stay in the list."""
    for number in range(8):
        live_server.run({"scenario": "counter", "iterations": 10, "label": f"mine {number}"})
    experiment = live_server.ask("POST", "/v1/experiments", json=EXPERIMENT, headers={"Prefer": "wait=60"}).json()
    assert 20 == experiment["progress"]["done"]
    visit.page.goto("/")
    visit.page.locator(".recent").get_by_text("mine 0").wait_for()
    assert 8 == visit.page.locator(".recent li").count()
    assert 0 == visit.page.locator(".recent").get_by_text(experiment["id"]).count()
    check_clean(visit)
