"""The scenario `daemon`: the tutorial's Example 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.jobs import JobState, Report
from service.scenarios import daemon
from service.scenarios.daemon import Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_a_daemon_thread_is_cut_off_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """The process ends while the daemon thread runs, without waiting for it and without an error."""
    seen = result(run_scenario("daemon", every_python, interval_s=0.01, main_s=0.05, max_ticks=10_000))
    assert (seen["outcome"], seen["grade"]) == ("abandoned", "acceptable")
    assert seen["process"]["exit_code"] == 0
    assert seen["values"]["alive_when_main_ended"]
    assert seen["values"]["alive_at_exit"]
    assert 1 <= seen["values"]["ticks_before_main_ended"] <= seen["values"]["ticks_at_exit"] < 10_000


def test_a_thread_that_is_no_daemon_is_awaited_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """The interpreter waits for a thread that is no daemon, and the process ends after it."""
    seen = result(run_scenario("daemon", every_python, daemon=False, interval_s=0.05, main_s=0.01, max_ticks=10))
    assert (seen["outcome"], seen["grade"]) == ("awaited", "acceptable")
    assert seen["values"]["ticks_at_exit"] == 10
    assert seen["values"]["alive_when_main_ended"]
    assert not seen["values"]["alive_at_exit"]
    assert seen["values"]["waited_s"] + seen["values"]["main_ended_s"] >= 10 * 0.05
    assert seen["process"]["lived_s"] >= 10 * 0.05


@pytest.mark.parametrize("is_daemon", [True, False])
def test_a_thread_may_be_done_first(run_scenario: Run, is_daemon: bool) -> None:
    """A thread that ends before the main thread is neither cut off nor awaited."""
    seen = result(run_scenario("daemon", daemon=is_daemon, interval_s=0.0, main_s=0.3, max_ticks=1))
    assert (seen["outcome"], seen["values"]["ticks_at_exit"]) == ("finished_first", 1)
    assert not seen["values"]["alive_when_main_ended"]


def test_what_was_seen_before_the_end_was_forced_is_kept(run_scenario: Run) -> None:
    """A thread that outlives the deadline is killed with its process; what was not seen by then is null."""
    report = run_scenario("daemon", timeout_s=0.6, daemon=False, interval_s=0.05, main_s=0.01, max_ticks=10_000)
    assert report.status == JobState.TIMED_OUT
    counted = result(report)["values"]
    assert counted["alive_when_main_ended"]
    assert [counted[name] for name in ("ticks_at_exit", "alive_at_exit", "waited_s")] == [None, None, None]


def test_prints_what_the_tutorial_prints(run_scenario: Run) -> None:
    """The background thread and the main thread print the tutorial's lines."""
    lines = result(run_scenario("daemon", interval_s=0.0, main_s=0.2, max_ticks=2))["output"]
    assert [line["line"] for line in lines] == [
        "Running background task...",
        "Running background task...",
        "Main thread exiting",
    ]


@pytest.mark.parametrize(
    ("is_daemon", "outlived_main", "alive_at_exit", "outcome", "grade"),
    [
        (True, True, True, "abandoned", "acceptable"),
        (True, True, False, "finished_first", "acceptable"),
        (False, True, False, "awaited", "acceptable"),
        (False, True, True, "abandoned", "forbidden"),
        (False, False, False, "finished_first", "acceptable"),
    ],
)
def test_outcomes(is_daemon: bool, outlived_main: bool, alive_at_exit: bool, outcome: str, grade: str) -> None:
    """Being cut off is what a daemon thread is for, and forbidden for any other."""
    assert outcome == daemon.judge(is_daemon, outlived_main, alive_at_exit)
    assert grade == daemon.outcomes(Params(daemon=is_daemon))[outcome][0]
