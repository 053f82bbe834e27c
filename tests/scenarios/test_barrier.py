"""The scenario `barrier`: phases that threads keep or do not keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.jobs import JobState, Report
from service.scenarios import barrier
from service.scenarios.barrier import Params, Seat

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_without_the_barrier_rounds_mix_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Threads of different speed read values of other rounds, and the counts add up."""
    seen = result(run_scenario("barrier", every_python, barrier=False, rounds=5, work_s=0.008))
    counted = seen["values"]
    assert ("wrong_phase", "interesting") == (seen["outcome"], seen["grade"])
    assert 4 * 5 == counted["reads"] == counted["right_reads"] + counted["early_reads"] + counted["late_reads"]
    assert counted["early_reads"] > 0
    assert pytest.approx(1 - counted["right_reads"] / 20) == counted["wrong_share"]
    assert 0.0 == counted["waited_s"]


def test_with_the_barrier_every_reading_fits_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Nobody reads before all have written, or writes before all have read."""
    seen = result(run_scenario("barrier", every_python, rounds=20, work_s=0.002, patience_s=30.0))
    counted = seen["values"]
    assert ("in_phase", "acceptable") == (seen["outcome"], seen["grade"])
    assert (80, 80, 0, 0, 0.0) == tuple(
        counted[name] for name in ("reads", "right_reads", "early_reads", "late_reads", "wrong_share")
    )
    assert (20, 0, None) == (counted["rounds_done"], counted["broken_barrier_errors"], counted["freed_s"])
    assert counted["waited_s"] > 0


def test_a_thread_that_aborts_frees_the_others_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """One thread fails in the third of four rounds and aborts; each other one gets BrokenBarrierError at once."""
    seen = result(run_scenario("barrier", every_python, failing="abort", rounds=4, work_s=0.001, patience_s=60.0))
    counted = seen["values"]
    assert ("broken", "interesting") == (seen["outcome"], seen["grade"])
    assert 3 == counted["broken_barrier_errors"]
    assert 2 == counted["rounds_done"]
    assert 0 <= counted["freed_s"] < 60
    assert "One thread failed" in seen["meaning"]
    assert [] == seen["warnings"]


def test_a_thread_that_stays_away_costs_the_others_their_patience(run_scenario: Run) -> None:
    """Without an abort the others wait until one of them gives up, and then all of them are free."""
    seen = result(run_scenario("barrier", failing="silent", rounds=2, work_s=0.0, patience_s=0.3))
    assert "broken" == seen["outcome"]
    assert 3 == seen["values"]["broken_barrier_errors"]
    assert seen["values"]["freed_s"] >= 0.2


def test_a_failure_before_the_first_round_leaves_nothing_to_read(run_scenario: Run) -> None:
    """With one round the first thread fails in it, and no thread comes to read."""
    counted = result(run_scenario("barrier", failing="abort", rounds=1, work_s=0.0))["values"]
    assert (0, 0.0, 0) == (counted["reads"], counted["wrong_share"], counted["rounds_done"])


def test_impatience_breaks_the_barrier_although_nobody_failed(run_scenario: Run) -> None:
    """A thread that waits for a slower one longer than its patience breaks the barrier for all."""
    seen = result(run_scenario("barrier", threads=2, rounds=2, work_s=1.0, patience_s=0.01))
    assert ("broken", 2) == (seen["outcome"], seen["values"]["broken_barrier_errors"])
    assert "No thread failed" in seen["meaning"]
    assert seen["values"]["freed_s"] is None


def test_a_job_that_runs_out_of_time_ends(run_scenario: Run) -> None:
    """Threads at a barrier do not outlive the deadline of their job."""
    report = run_scenario("barrier", timeout_s=0.3, rounds=10_000, work_s=0.01)
    assert JobState.TIMED_OUT == report.status


def test_without_a_barrier_a_failure_breaks_nothing(run_scenario: Run) -> None:
    """The others go on, and read what the failed thread has left."""
    seen = result(run_scenario("barrier", barrier=False, failing="silent", rounds=4, work_s=0.001))
    assert ("wrong_phase", 0) == (seen["outcome"], seen["values"]["broken_barrier_errors"])
    assert 2 + 3 * 4 == seen["values"]["reads"]


@pytest.mark.parametrize(
    ("ahead", "right", "early", "late"), [(0, 1, 0, 0), (-1, 0, 1, 0), (-7, 0, 1, 0), (1, 0, 0, 1)]
)
def test_a_reading_is_right_early_or_late(ahead: int, right: int, early: int, late: int) -> None:
    """A neighbour that is behind was read early, one that is ahead was read late."""
    seat = Seat()
    barrier.note(seat, ahead)
    assert (right, early, late) == (seat.right, seat.early, seat.late)


@pytest.mark.parametrize(
    ("has_barrier", "wrong", "broken", "outcome", "grade"),
    [
        (True, 0, 0, "in_phase", "acceptable"),
        (True, 1, 0, "wrong_phase", "forbidden"),
        (True, 1, 3, "wrong_phase", "forbidden"),
        (True, 0, 3, "broken", "interesting"),
        (False, 0, 0, "not_seen", "acceptable"),
        (False, 1, 0, "wrong_phase", "interesting"),
    ],
)
def test_outcomes(has_barrier: bool, wrong: int, broken: int, outcome: str, grade: str) -> None:
    """With the barrier a wrong reading is forbidden; without it, it is what is to be seen."""
    assert outcome == barrier.judge(has_barrier, wrong, broken)
    grades = barrier.outcomes(Params(barrier=has_barrier))
    assert grade == grades[outcome][0]
    assert not any("safe" in meaning for _, meaning in grades.values())
