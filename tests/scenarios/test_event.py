"""The scenario `event`: waiting until something is ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.jobs import Report
from service.scenarios import event
from service.scenarios.event import Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_an_event_wakes_all_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Every thread sleeps until the event is set, finds what was prepared, and has not looked once."""
    seen = result(run_scenario("event", every_python, prepare_s=0.05))
    counted = seen["values"]
    assert ("woken", "acceptable") == (seen["outcome"], seen["grade"])
    assert (0, 0) == (counted["seen_early"], counted["polls"])
    assert 0 <= counted["latency_p50_s"] <= counted["latency_max_s"] <= counted["wall_s"]
    assert counted["prepared_s"] >= 0.05


def test_who_does_not_wait_finds_nothing_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Without a signal threads read before there is anything; there is no latency to be measured then."""
    seen = result(run_scenario("event", every_python, signal="none", prepare_s=0.1))
    assert ("seen_early", "interesting") == (seen["outcome"], seen["grade"])
    assert 1 <= seen["values"]["seen_early"] <= 8
    assert (None, None) == (seen["values"]["latency_p50_s"], seen["values"]["latency_max_s"])


def test_polling_finds_it_and_pays_for_it_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Threads that look at a flag find what was prepared, after more looks than one each."""
    seen = result(run_scenario("event", every_python, signal="poll", poll_s=0.005, prepare_s=0.1))
    counted = seen["values"]
    assert ("polled", "interesting") == (seen["outcome"], seen["grade"])
    assert 0 == counted["seen_early"]
    assert counted["polls"] > 8
    assert counted["cpu_s"] > 0


def test_looking_without_a_pause_costs_far_more(run_scenario: Run) -> None:
    """Without a pause there are far more looks and processor seconds than with one."""
    without = result(run_scenario("event", signal="poll", poll_s=0.0, threads=2, prepare_s=0.1))["values"]
    paused = result(run_scenario("event", signal="poll", poll_s=0.02, threads=2, prepare_s=0.1))["values"]
    assert without["polls"] > 100 * paused["polls"]
    assert without["cpu_s"] > 2 * paused["cpu_s"]


def test_a_flag_can_be_up_before_the_first_look(run_scenario: Run) -> None:
    """Who comes late enough finds the flag up, the event set, or the data there, and that is called not seen."""
    runs = [result(run_scenario("event", signal="none", threads=1, prepare_s=0.0)) for _ in range(100)]
    assert {run["outcome"] for run in runs} <= {"seen_early", "not_seen"}
    assert all((run["outcome"] == "seen_early") == (run["values"]["seen_early"] == 1) for run in runs)


@pytest.mark.parametrize(
    ("params", "lane"),
    [
        (Params(), "wait"),
        (Params(signal="none", poll_s=0.0), "wait"),
        (Params(signal="poll"), "wait"),
        (Params(signal="poll", poll_s=0.0), "cpu"),
        (Params(signal="poll", poll_s=0.0005), "cpu"),
    ],
)
def test_threads_that_look_all_the_time_take_the_lane_for_computing(params: Params, lane: str) -> None:
    """Only polling with no pause, or next to none, computes."""
    assert lane == event.lane(params)


@pytest.mark.parametrize(
    ("signal", "early", "outcome", "grade"),
    [
        ("event", 0, "woken", "acceptable"),
        ("event", 1, "seen_early", "forbidden"),
        ("poll", 0, "polled", "interesting"),
        ("poll", 1, "seen_early", "forbidden"),
        ("none", 0, "not_seen", "acceptable"),
        ("none", 1, "seen_early", "interesting"),
    ],
)
def test_outcomes(signal: Any, early: int, outcome: str, grade: str) -> None:
    """Who waited must not read early; who did not wait may."""
    assert outcome == event.judge(signal, early)
    grades = event.outcomes(Params(signal=signal))
    assert grade == grades[outcome][0]
    assert not any("safe" in meaning for _, meaning in grades.values())


@pytest.mark.parametrize(("latencies", "median"), [([], None), ([3.0], 3.0), ([4.0, 1.0, 2.0], 2.0)])
def test_the_median_of_nothing_is_not_measured(latencies: list[float], median: float | None) -> None:
    """Where nobody waited there is no latency, and that is null."""
    assert median == event.median(latencies)
