"""The scenario `thread_local`: a request's user in a global, in a thread's own place, and left there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.jobs import JobState, Report
from service.scenarios import thread_local
from service.scenarios.thread_local import Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_a_global_mixes_users_up_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """With one place for all, requests read each other's users, and the examples show whose."""
    seen = result(run_scenario("thread_local", every_python, local=False, requests=40))
    counted = seen["values"]
    assert ("mixed_up", "interesting") == (seen["outcome"], seen["grade"])
    assert 1 <= counted["mixed_up"] <= counted["requests"] == 40
    assert min(5, counted["mixed_up"]) == len(counted["examples"])
    assert all(f"user-{one['request']}" == one["user"] != one["saw"] for one in counted["examples"])


def test_a_local_keeps_them_apart_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """With a value for each thread every request reads its own user back."""
    seen = result(run_scenario("thread_local", every_python, requests=40))
    counted = seen["values"]
    assert ("kept", "acceptable") == (seen["outcome"], seen["grade"])
    assert (40, 0, 0, 0, []) == tuple(
        counted[name] for name in ("requests", "anonymous", "mixed_up", "leaked", "examples")
    )
    assert 4 == counted["threads_used"]


def test_a_pool_hands_values_on_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """In a pool an anonymous request finds the user whom an earlier request of its thread has left."""
    runs = (result(run_scenario("thread_local", every_python, pool=True, requests=60)) for _ in range(5))
    seen = next(run for run in runs if run["outcome"] == "leaked")
    counted = seen["values"]
    assert "interesting" == seen["grade"]
    assert (12, 0) == (counted["anonymous"], counted["mixed_up"])
    assert 1 <= counted["leaked"] <= 12
    assert counted["threads_used"] <= 4
    assert all(one["user"] is None and one["request"] % 5 == 4 for one in counted["examples"])


def test_who_takes_away_what_it_set_leaves_nothing_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """In a pool in which each request takes its user away, an anonymous one finds none."""
    seen = result(run_scenario("thread_local", every_python, pool=True, reset=True, requests=60))
    assert ("kept", "acceptable") == (seen["outcome"], seen["grade"])
    assert (0, 0) == (seen["values"]["mixed_up"], seen["values"]["leaked"])


def test_a_global_in_a_pool_leaks_as_well(run_scenario: Run) -> None:
    """With one place for all an anonymous request, too, finds somebody's user."""
    counted = result(run_scenario("thread_local", local=False, pool=True, requests=60))["values"]
    assert counted["mixed_up"] > 0
    assert counted["leaked"] > 0


def test_threads_that_serve_one_request_each_have_nothing_to_hand_on(run_scenario: Run) -> None:
    """A pool whose threads each get one request, because all are at work, leaks nothing; that is called not seen."""
    runs = (result(run_scenario("thread_local", pool=True, threads=4, requests=4, pause_s=0.2)) for _ in range(3))
    seen = next(run for run in runs if run["values"]["threads_used"] == 4)
    assert ("not_seen", 0) == (seen["outcome"], seen["values"]["leaked"])


@pytest.mark.parametrize("pool", [False, True])
def test_a_job_that_runs_out_of_time_ends(run_scenario: Run, pool: bool) -> None:
    """The requests stop at the deadline, on threads and in a pool."""
    report = run_scenario("thread_local", timeout_s=0.3, requests=10_000, threads=2, pause_s=0.01, pool=pool)
    assert JobState.TIMED_OUT == report.status


def test_each_thread_has_a_request_at_least() -> None:
    """Fewer requests than threads are refused, with what to do."""
    with pytest.raises(ValueError, match="Raise `requests` or lower `threads`"):
        Params(threads=4, requests=3)


@pytest.mark.parametrize(
    ("params", "mixed_up", "leaked", "outcome", "grade"),
    [
        (Params(), 0, 0, "kept", "acceptable"),
        (Params(), 1, 0, "mixed_up", "forbidden"),
        (Params(local=False), 1, 0, "mixed_up", "interesting"),
        (Params(local=False), 0, 0, "not_seen", "acceptable"),
        (Params(local=False, pool=True), 1, 1, "mixed_up", "interesting"),
        (Params(local=False, pool=True), 0, 1, "leaked", "interesting"),
        (Params(pool=True), 0, 1, "leaked", "interesting"),
        (Params(pool=True), 1, 1, "mixed_up", "forbidden"),
        (Params(pool=True), 0, 0, "not_seen", "acceptable"),
        (Params(pool=True, reset=True), 0, 0, "kept", "acceptable"),
        (Params(pool=True, reset=True), 0, 1, "leaked", "forbidden"),
    ],
)
def test_outcomes(params: Params, mixed_up: int, leaked: int, outcome: str, grade: str) -> None:
    """What a local must prevent is forbidden, and so is what a reset must prevent."""
    assert outcome == thread_local.judge(params, mixed_up, leaked)
    grades = thread_local.outcomes(params)
    assert grade == grades[outcome][0]
    assert not any("safe" in meaning for _, meaning in grades.values())


@pytest.mark.parametrize(("local", "longer"), [(False, True), (True, False)])
def test_a_longer_pause_is_proposed_where_it_matters(local: bool, longer: bool) -> None:
    """A global is mixed up in the pause; what a request leaves behind stays there, however long that was."""
    meaning = thread_local.outcomes(Params(local=local, pool=True))["not_seen"][1]
    assert longer == ("a longer pause_s" in meaning)
