"""The form of the page: it keeps what was typed, and says what is wrong with it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route, expect

from tests.system.server import Server
from tests.web.visit import Visit, check_clean

pytestmark = pytest.mark.browser


def test_what_is_typed_during_a_run_stays(visit: Visit, live_server: Server) -> None:
    """The form is filled from the job that the address names, once: its end takes nothing away that was typed since."""
    job_id = live_server.submit({"scenario": "interleaving", "steps": 500, "delay_s": 0.4})
    visit.page.goto(f"/?scenario=interleaving&job={job_id}")
    expect(visit.page.locator("#field-delay_s")).to_have_value("0.4")
    visit.page.locator("#field-delay_s").fill("0.125")
    visit.page.get_by_role("button", name="Cancel").click()
    visit.page.locator(".details").wait_for()
    expect(visit.page.locator("#field-delay_s")).to_have_value("0.125")
    expect(visit.page.locator("#field-steps")).to_have_value("500")
    check_clean(visit)


def test_back_to_a_job(visit: Visit, live_server: Server) -> None:
    """Back and forward lead to the values that the form had with each job, whatever was typed and run since."""
    job = live_server.run({"scenario": "counter", "iterations": 77})
    visit.page.goto(job["links"]["page"])
    field = visit.page.locator("#field-iterations")
    expect(field).to_have_value("77")
    visit.page.get_by_role("button", name="Run with locks traced").click()
    visit.page.get_by_text("trace: threads → locks").wait_for()
    for value in ("33", "44"):
        field.fill(value)
        visit.page.get_by_role("button", name="Run again").click()
        visit.page.get_by_text(f"iterations: {'77' if value == '33' else '33'} → {value}").wait_for()
    for value in ("44", "33", "77"):
        visit.page.go_back()
        expect(field).to_have_value(value)
    visit.page.go_forward()
    expect(field).to_have_value("33")
    check_clean(visit)


def test_what_is_no_json_is_not_run(visit: Visit) -> None:
    """Neither a program with a slip in it is run nor the one before it: its field says what is wrong with it."""
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.method))
    visit.page.goto("/?scenario=custom")
    visit.page.locator(".summary code").get_by_text("Thread()").wait_for()
    field, run = visit.page.locator("#field-program"), visit.page.get_by_role("button", name="Run", exact=True)
    field.fill('[{"target": "sleep", "args": [0.01], "name": "mine",}]')
    run.click()
    visit.page.locator("#field-program-wrong").get_by_text("This is not JSON").wait_for()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    run.click()
    expect(field).to_have_value('[{"target": "sleep", "args": [0.01], "name": "mine",}]')
    field.fill('[{"target": "sleep", "args": [0.01], "name": "mine"}]')
    expect(field).to_have_attribute("aria-invalid", "false")
    run.click()
    visit.page.locator(".name").get_by_text("mine").wait_for()
    assert 1 == asked.count("POST")
    check_clean(visit)


@pytest.mark.parametrize("address", ["/?job={id}", "/?scenario=counter&job={id}", "{links[page]}"])
def test_a_job_opens_with_its_own_form(visit: Visit, live_server: Server, address: str) -> None:
    """A link to a job shows the form of its scenario with its values, whatever scenario the link names."""
    job = live_server.run({"scenario": "semaphore", "threads": 3, "visits": 2})
    visit.page.goto(address.format(**job))
    visit.page.get_by_role("heading", level=1).get_by_text("semaphore").wait_for()
    expect(visit.page.locator("#field-threads")).to_have_value("3")
    visit.page.get_by_text(job["result"]["meaning"]).first.wait_for()
    assert f"{live_server.url}{job['links']['page']}" == visit.page.url
    check_clean(visit)


def test_what_is_typed_is_in_the_address(visit: Visit) -> None:
    """Reloaded, the form has what was typed, without a run and without a place of its own in the history."""
    visit.page.goto("/?scenario=counter")
    visit.page.locator("#field-threads").fill("7")
    visit.page.locator("#field-shape").select_option("item")
    visit.page.wait_for_url("**/?scenario=counter&*shape=item*")
    visit.page.reload()
    expect(visit.page.locator("#field-threads")).to_have_value("7")
    expect(visit.page.locator("#field-shape")).to_have_value("item")
    assert 2 == visit.page.evaluate("history.length")  # about:blank, and this
    check_clean(visit)


def test_back_to_the_defaults(visit: Visit, live_server: Server) -> None:
    """Who puts the defaults in place of a job's values finds the defaults after a reload, and not the job's values."""
    job = live_server.run({"scenario": "counter", "threads": 7})
    visit.page.goto(job["links"]["page"])
    threads = visit.page.locator("#field-threads")
    expect(threads).to_have_value("7")
    threads.fill("4")
    visit.page.wait_for_url(f"**/?scenario=counter&threads=4&job={job['id']}")
    visit.page.reload()
    visit.page.locator(".details").wait_for()
    expect(threads).to_have_value("4")
    check_clean(visit)


def test_a_refusal_lasts_until_it_is_heeded(visit: Visit) -> None:
    """What is wrong with a field is said until the field changes; the options stay open when they are right again."""
    visit.page.goto("/?scenario=counter&threads=0&timeout_s=-1")
    visit.page.get_by_role("button", name="Run", exact=True).click()
    visit.page.locator("#field-threads-wrong button").click()
    expect(visit.page.locator("#field-threads-wrong")).to_have_count(0)
    expect(visit.page.locator("#field-threads")).to_have_attribute("aria-invalid", "false")
    expect(visit.page.locator("#field-timeout_s-wrong")).to_be_visible()
    visit.page.locator("#field-timeout_s").fill("9")
    expect(visit.page.locator(".actions [role=alert]")).to_have_count(0)
    visit.page.get_by_role("button", name="Run", exact=True).click()
    visit.page.locator(".details").wait_for()
    expect(visit.page.locator("#field-timeout_s")).to_be_visible()


def test_whoever_goes_on_is_not_pulled_back(visit: Visit) -> None:
    """A job that is accepted after another lesson was chosen is in the list, and the lesson stays."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route) if route.request.method == "POST" else route.fallback()

    visit.page.route("**/v1/jobs", hold)
    visit.page.goto("/?scenario=counter&label=mine")
    visit.page.get_by_role("button", name="Run", exact=True).click()
    visit.page.locator("[data-lesson=daemon]").click()
    visit.page.locator("#field-main_s").wait_for()
    held.pop().continue_()
    visit.page.locator(".recent").get_by_text("mine").wait_for()
    assert visit.page.url.endswith("/?scenario=daemon")
    check_clean(visit)


def test_no_name_turns_the_command_round(visit: Visit) -> None:
    """A character that turns the order of those after it is written as JSON writes it, in the command for a job."""
    visit.page.goto("/?scenario=counter&label=a%E2%80%AEb")
    expect(visit.page.locator(".curl")).to_contain_text(r'"label":"a\u202eb"')
    check_clean(visit)
