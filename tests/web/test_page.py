"""The page in a real browser: every lesson, two runs side by side, a link after a restart, and who else must use it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.nasty import NASTY
from tests.system.server import Server
from tests.web.visit import Visit, check_clean

pytestmark = pytest.mark.browser

# Each with threads of a second or so: long enough to be seen before the job's end, short enough to wait for.
LESSONS = {
    "interleaving": "delay_s=0.2",
    "named_workers": "delay_s=0.6",
    "daemon": "main_s=0.8",
    "counter": "iterations=600000&lock=true",
    "custom": "",
}

SIDES = """(selector) => [...document.querySelectorAll(selector)].map((each) => {
  const { left, right } = each.getBoundingClientRect();
  return [left, right];
})"""  # found and measured in one call: `evaluate_all` takes two, and a frame between them draws the axis anew


def grave(visit: Visit) -> list[str]:
    """What axe-core finds on the page that is serious or worse."""
    visit.page.wait_for_load_state("networkidle")
    found: list[dict[str, Any]] = Axe().run(visit.page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in {"serious", "critical"}]


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_lesson_runs_from_the_page(visit: Visit, lesson: str) -> None:
    """Chosen and run by two clicks; its threads are seen before its end, and then its outcome."""
    visit.page.goto(f"/?scenario={lesson}&{LESSONS[lesson]}")
    visit.page.locator(f"[data-lesson={lesson}][aria-pressed=true]").wait_for()
    visit.page.get_by_role("button", name="Run", exact=True).click()
    visit.page.get_by_role("button", name="Cancel").wait_for()
    visit.page.locator("text=MainThread >> visible=true").first.wait_for()
    visit.page.get_by_role("button", name="Run again").wait_for()
    visit.page.locator("header.outcome[data-grade]").first.wait_for()
    check_clean(visit)


def test_another_run_with_one_thing_changed(visit: Visit) -> None:
    """Both runs stand on the page, and the link holds both."""
    visit.page.goto("/?scenario=counter&iterations=2000")
    visit.page.get_by_role("button", name="Run", exact=True).click()
    visit.page.get_by_role("button", name="Run again").wait_for()
    visit.page.get_by_label("Lock").first.click()
    visit.page.get_by_role("button", name="Run again").click()
    expect(visit.page.locator("header.outcome[data-grade]")).to_have_count(2)
    address = visit.page.url
    visit.page.goto("about:blank")
    visit.page.goto(address)
    expect(visit.page.locator("header.outcome[data-grade]")).to_have_count(2)
    check_clean(visit)


def test_a_link_after_a_restart(visit: Visit, live_server: Server) -> None:
    """A link shows the same run, and the form its values, though the service was killed in between."""
    job = live_server.run({"scenario": "counter", "threads": 3, "iterations": 77})
    port = live_server.url.rpartition(":")[2]
    live_server.kill()
    live_server.start("--port", port, "--database", live_server.database)
    visit.page.goto(f"/?job={job['id']}")
    visit.page.get_by_text(job["result"]["meaning"]).first.wait_for()
    expect(visit.page.locator("#field-iterations")).to_have_value("77")
    expect(visit.page.locator("#field-threads")).to_have_value("3")
    check_clean(visit)


def test_an_experiment_s_run_can_be_run_again(visit: Visit, live_server: Server) -> None:
    """Opened by its id, the form has its values, but not the label by which its experiment finds it."""
    body = {"scenario": "counter", "vary": {"threads": [3]}, "iterations": 77, "repeats": 1}
    experiment = live_server.ask("POST", "/v1/experiments", json=body, headers={"Prefer": "wait=60"}).json()
    visit.page.goto(f"/?job={experiment['rows'][0]['raw'][0]['job_id']}")
    expect(visit.page.locator("#field-threads")).to_have_value("3")
    visit.page.get_by_role("button", name="Run again").click()
    expect(visit.page.locator("header.outcome[data-grade]")).to_have_count(2)
    assert 1 == len(live_server.ask("GET", experiment["links"]["jobs"]).json()["jobs"])
    check_clean(visit)


def test_how_far_it_is(visit: Visit) -> None:
    """A scenario that runs in steps has a bar while it runs, and none when it has ended."""
    visit.page.goto("/?scenario=oversubscription&threads=2&rounds=25&total=2000")
    visit.page.get_by_role("button", name="Run", exact=True).click()
    bar = visit.page.get_by_role("progressbar", name="Progress")
    expect(bar).to_have_attribute("max", "50")
    assert 0 < int(bar.get_attribute("value") or 0) <= 50
    visit.page.get_by_role("button", name="Run again").wait_for()
    visit.page.locator("header.outcome[data-grade]").first.wait_for()
    expect(bar).to_have_count(0)
    check_clean(visit)


def test_what_was_not_kept_is_said(visit: Visit, live_server: Server) -> None:
    """Of a run whose locks did more than is kept, no wait is drawn beyond what is known, and the page says so."""
    job = live_server.run({"scenario": "counter", "threads": 2, "iterations": 30_000, "lock": True, "trace": "locks"})
    assert job["result"]["trace"]["dropped"] > 0
    visit.page.goto(f"/?job={job['id']}")
    visit.page.get_by_text(re.compile(r"What locks did after .* was not kept")).wait_for()
    ends = "path => path.getBBox().x + path.getBBox().width"
    (waits, holds, life) = (
        max(path.evaluate(ends) for path in visit.page.locator(f".bars .{kind}").all())
        for kind in ("waiting", "holding", "running")
    )
    assert max(waits, holds) < 0.9 * life
    check_clean(visit)


def test_recent_jobs_say_what_came_of_them(visit: Visit, live_server: Server) -> None:
    """The list below the runs has each job's outcome, with its grade."""
    live_server.run({"scenario": "counter", "iterations": 20, "lock": True})
    visit.page.goto("/")
    visit.page.locator(".recent .grade[data-grade=acceptable]").get_by_text("exact", exact=True).first.wait_for()


def test_a_refused_value_is_explained_at_its_field(visit: Visit) -> None:
    """What the service does not take is said beside the field, and one click puts the nearest valid value there."""
    visit.page.goto("/?scenario=counter&threads=0")
    visit.page.get_by_role("button", name="Run", exact=True).click()
    visit.page.locator("#field-threads-wrong").wait_for()
    assert "true" == visit.page.locator("#field-threads").get_attribute("aria-invalid")
    visit.page.locator("#field-threads-wrong button").click()
    expect(visit.page.locator("#field-threads")).to_have_value("1")


def test_by_keyboard_alone(visit: Visit) -> None:
    """A lesson is chosen, run and ended without a mouse, and what has the focus is seen to have it."""
    visit.page.goto("/?scenario=interleaving")
    visit.page.locator("[data-lesson=daemon]").wait_for()

    def tab_to(there: Callable[[], bool]) -> None:
        for _ in range(60):
            visit.page.keyboard.press("Tab")
            if there():
                return
        raise AssertionError("Tab does not lead there")

    def focus(expression: str) -> bool:
        return bool(visit.page.evaluate(f"(() => {{ const at = document.activeElement; return {expression}; }})()"))

    tab_to(lambda: focus("at.dataset.lesson === 'daemon'"))
    assert focus("at.matches(':focus-visible') && getComputedStyle(at).outlineStyle !== 'none'")
    visit.page.keyboard.press("Enter")
    visit.page.locator("[data-lesson=daemon][aria-pressed=true]").wait_for()
    tab_to(lambda: focus("at.textContent.trim() === 'Run'"))
    visit.page.keyboard.press("Enter")
    visit.page.locator("header.outcome[data-grade]").first.wait_for()
    check_clean(visit)


def test_the_focus_stays_where_people_are(visit: Visit, live_server: Server) -> None:
    """Run keeps it, however long the service takes to answer; Cancel hands it on to what becomes of the run."""
    visit.page.goto("/?scenario=daemon&main_s=30")
    visit.page.get_by_role("button", name="Run", exact=True).focus()
    visit.page.keyboard.press("Enter")
    visit.page.get_by_role("button", name="Cancel").wait_for()
    expect(visit.page.get_by_role("button", name="Run again")).to_be_focused()
    visit.page.get_by_role("button", name="Cancel").focus()
    visit.page.keyboard.press("Enter")
    visit.page.locator(".run[data-status=cancelled]").wait_for()
    expect(visit.page.locator(".outcome h2")).to_be_focused()
    check_clean(visit)


def test_arrow_keys_in_the_list_of_scenarios(visit: Visit) -> None:
    """Back leads from the scenario that was chosen at last to the one before the list was entered."""
    visit.page.goto("/?scenario=counter")
    visit.page.locator("#field-threads").wait_for()
    select = visit.page.get_by_label("All scenarios")
    select.focus()
    for scenario in ("custom", "io_bound", "pool"):
        select.select_option(scenario)
        visit.page.wait_for_url(f"**/?scenario={scenario}")
    visit.page.go_back()
    visit.page.locator("[data-lesson=counter][aria-pressed=true]").wait_for()
    assert visit.page.url.endswith("/?scenario=counter")
    check_clean(visit)


def test_forced_colours(visit: Visit, live_server: Server) -> None:
    """Where the system sets all colours, a switch, the chosen lesson and what colours mean can still be told."""
    job = live_server.run({"scenario": "counter", "iterations": 10, "trace": "locks"})
    visit.page.emulate_media(forced_colors="active")
    visit.page.goto(job["links"]["page"])
    visit.page.locator(".key.holding").wait_for()

    def style(selector: str, name: str, pseudo: str = "") -> str:
        script = "(element, [name, pseudo]) => getComputedStyle(element, pseudo)[name]"
        return str(visit.page.locator(selector).first.evaluate(script, [name, pseudo]))

    assert "auto" == style("input[role=switch]", "appearance")
    assert "solid" == style("[aria-pressed=true]", "outlineStyle")
    colours = {style(f".key.{kind}", "backgroundColor", "::before") for kind in ("running", "holding", "waiting")}
    assert 3 == len(colours)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave(visit: Visit, live_server: Server, scheme: Literal["light", "dark"]) -> None:
    """At the start and with a run on it, in both colour schemes."""
    job = live_server.run({"scenario": "counter", "threads": 3, "iterations": 200, "trace": "locks"})
    visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    visit.page.goto("/")
    visit.page.locator("[data-lesson=counter]").wait_for()
    assert [] == grave(visit)
    visit.page.goto(f"/?job={job['id']}")
    visit.page.get_by_text(job["result"]["meaning"]).first.wait_for()
    assert [] == grave(visit)


@pytest.mark.parametrize("width", [375, 1280, 2560])
def test_any_width(visit: Visit, live_server: Server, width: int) -> None:
    """Sixty-four threads fit a phone, a laptop and a projector without scrolling sideways."""
    job = live_server.run({"scenario": "check_then_act", "threads": 64, "rounds": 3, "trace": "locks"})
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.page.goto(f"/?job={job['id']}")
    visit.page.get_by_text(job["result"]["meaning"]).first.wait_for()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    check_clean(visit)


@pytest.mark.parametrize("width", [375, 1280, 1440, 1600, 1920])
def test_lanes_have_the_most_room(visit: Visit, live_server: Server, width: int) -> None:
    """At any width the lanes have more room than what was printed, and no figure of their axis touches the next."""
    job = live_server.run({"scenario": "interleaving", "steps": 2, "delay_s": 0.3})
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.page.goto(job["links"]["page"])
    visit.page.locator(".details").wait_for()
    visit.page.locator(".axis text").nth(1).wait_for()
    ((left, right),) = visit.page.evaluate(SIDES, ".axis")
    assert right - left > min(480, 0.75 * width)
    marks = visit.page.evaluate(SIDES, ".axis text")
    assert min(after[0] - before[1] for before, after in itertools.pairwise(marks)) > 4
    check_clean(visit)


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 720), (375, 667)])
def test_whoever_presses_run_sees_lanes(visit: Visit, width: int, height: int) -> None:
    """Run is in reach wherever the form is, and brings into sight what the threads do, the second time, too."""
    visit.page.set_viewport_size({"width": width, "height": height})
    visit.page.emulate_media(reduced_motion="reduce")
    visit.page.goto("/?scenario=interleaving&delay_s=0.05")
    button = visit.page.locator("button.primary")
    expect(button).to_be_in_viewport(ratio=1)
    for runs in (1, 2):
        button.click()
        visit.page.locator(".details").nth(runs - 1).wait_for()
        for thread in range(3):
            expect(visit.page.locator(".run").last.locator(".bars").nth(thread)).to_be_in_viewport(ratio=0.9)
        visit.page.locator("#field-steps").scroll_into_view_if_needed()
        expect(button).to_be_in_viewport(ratio=1)
    check_clean(visit)


def test_what_a_client_names_stays_text(visit: Visit, live_server: Server) -> None:
    """Markup in a label, a thread's name or a printed line is shown, not run."""
    evil = "<img src=x onerror=alert(1)>"
    program = [{"target": "sleep", "args": [0.01], "name": evil}]
    job = live_server.run({"scenario": "custom", "program": program, "label": evil})
    visit.page.goto(f"/?job={job['id']}")
    visit.page.get_by_text(evil).first.wait_for()
    assert 0 == visit.page.locator("img[src=x]").count()
    check_clean(visit)


def test_no_text_of_a_client_turns_the_order_of_what_is_read(visit: Visit, live_server: Server) -> None:
    """Characters that turn the writing direction are spelled out, wherever a name, a line or a label stands."""
    turned = "a\u202eb"
    program = [{"target": "print_numbers", "args": [1, 0.0], "name": turned}]
    job = live_server.run({"scenario": "custom", "program": program, "label": turned})
    visit.page.goto(f"/?job={job['id']}")
    visit.page.locator(".lane .name").get_by_text(r"a\u202eb").wait_for()
    visit.page.locator(".recent").get_by_text(r"a\u202eb").first.wait_for()
    visit.page.get_by_text("Threads as a table").click()
    visit.page.locator(".details tbody th").get_by_text(r"a\u202eb").wait_for()
    assert "\u202e" not in visit.page.locator("main").inner_text()
    check_clean(visit)


def test_nothing_that_a_client_names_becomes_a_part_of_the_page(visit: Visit, live_server: Server) -> None:
    """Threads by the nastiest names there are: the page shows each, runs none, and grows no element from them."""
    names = [name for name in NASTY if len(name) <= 50 and name.isprintable()]
    program = [{"target": "print_numbers", "args": [1, 0.0], "name": name} for name in names]
    job = live_server.run({"scenario": "custom", "program": program, "label": names[0]})
    assert sorted(names) == sorted(row["name"] for row in job["result"]["threads"])
    visit.page.on("dialog", lambda dialog: visit.errors.append(dialog.message))
    visit.page.goto(f"/?job={job['id']}")
    for name in names[:5]:
        visit.page.get_by_text(name).first.wait_for(state="attached")
    foreign = "main script, main img:not([src^='/v1/experiments/']), main [onerror], main [onmouseover]"
    assert 0 == visit.page.locator(foreign).count()
    check_clean(visit)
