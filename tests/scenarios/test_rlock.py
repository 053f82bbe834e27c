"""The scenario `rlock`: a lock that is taken by the thread that holds it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from service.jobs import JobState, Report
from service.scenarios import rlock
from service.scenarios.rlock import Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_an_rlock_goes_on_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """A lock that its holder may take again is taken again, and every deposit is counted."""
    report = run_scenario("rlock", every_python, threads=3, iterations=50, depth=4)
    assert (JobState.SUCCEEDED, "exact", "acceptable") == (
        report.status,
        result(report)["outcome"],
        result(report)["grade"],
    )
    values = result(report)["values"]
    assert (150, 150, 0, 600) == (values["expected"], values["actual"], values["lost"], values["lock_taken"])
    assert pytest.approx(values["wall_s"] / 150) == values["per_deposit_s"]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_plain_lock_waits_for_itself_on_every_interpreter(run_scenario: Run, every_python: str, threads: int) -> None:
    """A thread that takes a plain lock twice waits for itself, and who wants the lock waits for it: seen at once."""
    begun = time.monotonic()
    report = run_scenario("rlock", every_python, threads=threads, reentrant=False)
    assert time.monotonic() - begun < 20
    assert (JobState.TIMED_OUT, "stuck", "interesting") == (
        report.status,
        result(report)["outcome"],
        result(report)["grade"],
    )
    (link,) = result(report)["autopsy"]["cycle"]
    assert ("account", "account") == (link["holds"], link["waits_for"])
    caught = next(row for row in result(report)["autopsy"]["threads"] if row["name"] == link["thread"])
    assert ["deposit", "deposit"] == [place["function"] for place in caught["stack"]][-2:]
    assert report.error is not None
    assert "waits for account, which it holds itself" in report.error["message"]


def test_a_deadline_is_no_deadlock(run_scenario: Run) -> None:
    """A job with more deposits than it has time for waits for nobody, and is nothing forbidden."""
    report = run_scenario("rlock", timeout_s=0.2, threads=8, iterations=1_000_000)
    assert (JobState.TIMED_OUT, None, "interesting") == (report.status, report.error, result(report)["grade"])
    assert "give it a longer timeout_s" in result(report)["meaning"]


def test_a_plain_lock_that_is_taken_once(run_scenario: Run) -> None:
    """A plain lock is enough where no method calls another one that takes it."""
    assert "exact" == result(run_scenario("rlock", reentrant=False, depth=1, iterations=10))["outcome"]


@pytest.mark.parametrize(
    ("reentrant", "depth", "exact", "stuck"),
    [
        (True, 1, "acceptable", "forbidden"),
        (True, 2, "acceptable", "forbidden"),
        (False, 1, "acceptable", "forbidden"),
        (False, 2, "forbidden", "interesting"),
    ],
)
def test_outcomes(reentrant: bool, depth: int, exact: str, stuck: str) -> None:
    """A plain lock taken twice gets stuck, and could not end otherwise; all else must end with every deposit."""
    found = rlock.outcomes(Params(reentrant=reentrant, depth=depth))
    assert {"exact": exact, "lost": "forbidden", "stuck": stuck} == {name: grade for name, (grade, _) in found.items()}


def test_lanes() -> None:
    """What waits for itself does not compute."""
    assert ("cpu", "wait") == (rlock.lane(Params()), rlock.lane(Params(reentrant=False)))
