"""The scenario `deadlock`: philosophers and their forks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from service.jobs import JobState, Report
from service.scenarios import deadlock
from service.scenarios.deadlock import Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


@pytest.mark.parametrize("threads", [2, 5])
def test_it_gets_stuck_on_every_interpreter(run_scenario: Run, every_python: str, threads: int) -> None:
    """Each holds his left fork and waits for his right one; the job is ended long before its deadline, and says so."""
    begun = time.monotonic()
    report = run_scenario("deadlock", every_python, threads=threads, hold_s=0.5)
    assert time.monotonic() - begun < 20
    assert (JobState.TIMED_OUT, "stuck", "interesting") == (
        report.status,
        result(report)["outcome"],
        result(report)["grade"],
    )
    seats = range(1, threads + 1)
    assert {(f"Philosopher-{n}", f"fork {n}", f"fork {n % threads + 1}") for n in seats} == {
        (link["thread"], link["holds"], link["waits_for"]) for link in result(report)["autopsy"]["cycle"]
    }
    assert report.error is not None
    assert "Deadlock" == report.error["type"]
    assert "Philosopher-1 holds fork 1 and waits for fork 2, which Philosopher-2 holds" in report.error["message"]


def test_the_stacks_show_where(run_scenario: Run) -> None:
    """Each philosopher stands at the line that takes his second fork, and main at the one that joins them."""
    rows = {row["name"]: row for row in result(run_scenario("deadlock", threads=3, hold_s=0.5))["autopsy"]["threads"]}
    lines = {name: [place["code"] for place in row["stack"]] for name, row in rows.items()}
    assert {f"Philosopher-{n}": ["with forks[second]:"] for n in (1, 2, 3)} == {
        name: each for name, each in lines.items() if name != "MainThread"
    }
    assert "philosopher.join()" == lines["MainThread"][0]


@pytest.mark.parametrize("threads", [2, 5])
def test_order_is_the_cure_on_every_interpreter(run_scenario: Run, every_python: str, threads: int) -> None:
    """With the lower number first everybody eats, however often."""
    report = run_scenario("deadlock", every_python, threads=threads, ordered=True, hold_s=0.01, rounds=2)
    assert (JobState.SUCCEEDED, "all_ate", "acceptable") == (
        report.status,
        result(report)["outcome"],
        result(report)["grade"],
    )
    values = result(report)["values"]
    assert (2 * threads, [2] * threads) == (values["meals"], values["meals_of_each"])
    assert values["wall_s"] >= 0.02
    assert result(report)["autopsy"] is None


def test_the_cure_under_contention(run_scenario: Run) -> None:
    """Many threads that take forks in order without a pause between wait for each other, and never get stuck."""
    report = run_scenario("deadlock", threads=8, ordered=True, hold_s=0, rounds=1000)
    assert ("all_ate", 8000) == (result(report)["outcome"], result(report)["values"]["meals"])


def test_the_largest_table(run_scenario: Run) -> None:
    """Sixty-four philosophers close one ring of sixty-four; with the main thread that is one more than are listed."""
    autopsy = result(run_scenario("deadlock", threads=64, hold_s=1.0))["autopsy"]
    assert (64, 64, 1) == (len(autopsy["cycle"]), len(autopsy["threads"]), autopsy["threads_left_out"])


def test_a_race_may_go_well(run_scenario: Run) -> None:
    """Without the pause it is a race: whichever way it goes, it is told as what it was."""
    report = run_scenario("deadlock", hold_s=0, rounds=1)
    assert (report.status, result(report)["outcome"]) in (
        (JobState.SUCCEEDED, "not_seen"),
        (JobState.TIMED_OUT, "stuck"),
    )
    if report.status is JobState.SUCCEEDED:
        assert [1, 1] == result(report)["values"]["meals_of_each"]


def test_a_deadline_is_no_deadlock(run_scenario: Run) -> None:
    """A job whose time was up before all had their first fork down names no deadlock, and is nothing forbidden."""
    report = run_scenario("deadlock", timeout_s=0.2, ordered=True, hold_s=10.0)
    assert (JobState.TIMED_OUT, None, "interesting") == (report.status, report.error, result(report)["grade"])
    assert result(report)["autopsy"]["cycle"] is None
    assert "its time was up" in result(report)["meaning"]


@pytest.mark.parametrize(
    ("ordered", "good", "stuck"), [(False, "not_seen", "interesting"), (True, "all_ate", "forbidden")]
)
def test_outcomes(ordered: bool, good: str, stuck: str) -> None:
    """Being stuck is what the mistake shows, and forbidden with the cure; one run that went well shows nothing."""
    found = deadlock.outcomes(Params(ordered=ordered))
    assert {good, "stuck"} == set(found)
    assert ("acceptable", stuck) == (found[good][0], found["stuck"][0])


def test_lanes() -> None:
    """What sleeps runs beside others; the race, which computes, runs alone."""
    assert ("wait", "cpu") == (deadlock.lane(Params()), deadlock.lane(Params(hold_s=0)))
