"""How far a scenario is: those that measure in steps say so between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.events import JobEvent
from service.jobs import JobState, Report
from tests.scenarios.test_contract import QUICK

Run = Callable[..., Report]

# So many times each says how far it is, and how far that is, with the parameters below.
STEPPED: dict[str, tuple[dict[str, Any], list[tuple[int, int]]]] = {
    "atomicity": ({"operation": "setdefault", "iterations": 200}, [(0, 3), (1, 3), (2, 3)]),  # it loses nothing
    "convoy": ({}, [(20, 100), (30, 100), (100, 100)]),
    "cpu_bound": ({}, [(1, 3), (2, 3), (3, 3)]),
    "io_bound": ({}, [(1, 2), (2, 2)]),
    "oversubscription": ({"threads": 4, "rounds": 2, "curve": (2,)}, [(n, 6) for n in range(1, 7)]),
}


def told(run_scenario: Run, name: str, **params: Any) -> tuple[Report, list[tuple[int, int]]]:
    """A report, and how far the scenario said that it was."""
    events: list[JobEvent] = []
    report = run_scenario(name, sink=events.extend, **{**QUICK[name], **params})
    return report, [(event["done"], event["of"]) for event in events if event["type"] == "progress"]


@pytest.mark.parametrize("name", STEPPED)
def test_between_its_steps(run_scenario: Run, name: str) -> None:
    """It says how far it is after each of its steps, each time further."""
    params, expected = STEPPED[name]
    report, steps = told(run_scenario, name, **params)
    assert JobState.SUCCEEDED == report.status, report.error
    assert expected == steps


def test_on_the_main_thread_only(run_scenario: Run) -> None:
    """The threads that are measured do not say it: it would be a stamp within what is timed."""
    events: list[JobEvent] = []
    run_scenario("oversubscription", sink=events.extend, **QUICK["oversubscription"])
    assert {0} == {event["number"] for event in events if event["type"] == "progress"}
