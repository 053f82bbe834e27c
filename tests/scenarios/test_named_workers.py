"""The scenario `named_workers`: the tutorial's Example 2."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from service.jobs import JobState, Report
from service.scenarios import named_workers
from service.scenarios.named_workers import Params

Run = Callable[..., Report]


def test_workers_are_named_and_counted_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Three workers have the tutorial's names, start in order, and are no longer counted after they were joined."""
    report = run_scenario("named_workers", every_python, delay_s=0.2)
    assert report.status == JobState.SUCCEEDED
    assert report.result is not None
    counted = report.result["values"]
    names = ["Worker-0", "Worker-1", "Worker-2"]
    assert names == counted["names"]
    assert names == sorted(counted["start_order"])
    assert names == sorted(counted["finish_order"])
    assert (counted["active_before"], counted["active_after"]) == (1, 1)
    assert counted["active_peak"] <= 4


def test_peak_counts_the_main_thread_and_all_workers(run_scenario: Run) -> None:
    """While all workers sleep, active_count() is their number and one for the main thread."""
    report = run_scenario("named_workers", threads=5, delay_s=0.3)
    assert report.result is not None
    assert report.result["values"]["active_peak"] == 6


def test_each_worker_prints_its_own_name(run_scenario: Run) -> None:
    """What a worker prints comes from the thread of that name."""
    report = run_scenario("named_workers", delay_s=0.0)
    assert report.result is not None
    lines = [(line["thread"], line["line"]) for line in report.result["output"]]
    for number in range(3):
        name = f"Worker-{number}"
        assert [f"Thread {name} starting.", f"Thread {name} finished."] == [line for who, line in lines if who == name]
    assert lines[-1] == ("MainThread", "Active threads: 1")


def test_many_workers_wake_in_another_order(run_scenario: Run) -> None:
    """A hundred workers that sleep equally long need not finish in the order in which they started."""
    reports = (run_scenario("named_workers", threads=100, delay_s=0.05) for _ in range(20))
    changed = next(report.result for report in reports if report.result and report.result["outcome"] == "order_changed")
    assert changed["values"]["start_order"] != changed["values"]["finish_order"]
    assert sorted(changed["values"]["start_order"]) == sorted(changed["values"]["finish_order"])


@pytest.mark.parametrize(
    ("finished", "more_active", "outcome", "grade"),
    [
        (["a", "b"], 0, "order_kept", "acceptable"),
        (["b", "a"], 0, "order_changed", "interesting"),
        (["a", "b"], 1, "still_counted", "forbidden"),
    ],
)
def test_outcomes(finished: list[str], more_active: int, outcome: str, grade: str) -> None:
    """The order is judged, and a thread that is counted after it was joined is forbidden."""
    assert outcome == named_workers.judge(["a", "b"], finished, more_active)
    assert grade == named_workers.outcomes(Params())[outcome][0]


@pytest.mark.parametrize(("name", "fits"), [("Worker", True), ("Läufer 1", True), ("a\nb", False), ("\x85", False)])
def test_a_name_has_no_control_characters(name: str, fits: bool) -> None:
    """The pattern of `name` lets through what stands on one line."""
    pattern = Params.__dataclass_fields__["name"].metadata["pattern"]
    assert fits == bool(re.search(pattern, name))
