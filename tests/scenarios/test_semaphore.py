"""The scenario `semaphore`: a few slots, and one release too many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.child.lab import Cancelled, Lab
from service.child.recorder import Recorder
from service.jobs import Report
from service.scenarios import semaphore
from service.scenarios.semaphore import Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_a_semaphore_keeps_the_limit_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Never are more workers in than there are slots, and all visits are made."""
    seen = result(run_scenario("semaphore", every_python, visits=2, hold_s=0.005))
    assert (seen["outcome"], seen["grade"]) == ("limit_kept", "acceptable")
    assert (seen["values"]["visits"], seen["values"]["over_limit"]) == (16, 0)
    assert 1 <= seen["values"]["peak_inside"] <= 2
    assert seen["warnings"] == []


def test_unguarded_slots_are_overrun_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """With nothing but the semaphore taken away, more workers are in than there are slots."""
    seen = result(run_scenario("semaphore", every_python, visits=1, hold_s=0.1, lock=False))
    assert (seen["outcome"], seen["grade"]) == ("limit_exceeded", "interesting")
    assert 3 <= seen["values"]["peak_inside"] <= 8
    assert seen["values"]["peak_inside"] - 2 <= seen["values"]["over_limit"] <= 6


def test_a_plain_semaphore_takes_a_release_too_many_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """After one release too many, a plain semaphore lets one more in, and nobody is told."""
    params = {"bounded": False, "extra_release": "before", "threads": 4, "visits": 1, "hold_s": 0.1}
    seen = result(run_scenario("semaphore", every_python, **params))
    assert (seen["outcome"], seen["grade"]) == ("limit_exceeded", "interesting")
    assert (seen["values"]["peak_inside"], seen["values"]["refusals"]) == (3, 0)


def test_a_bounded_semaphore_refuses_it_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """While all slots are free, a release too many raises ValueError at once, where it is made."""
    seen = result(run_scenario("semaphore", every_python, extra_release="before", visits=1, hold_s=0.005))
    counted = seen["values"]
    assert (seen["outcome"], seen["grade"]) == ("refused", "acceptable")
    assert ("MainThread", "MainThread") == (counted["released_too_often_by"], counted["refused_in"])
    assert (counted["refusals"], counted["over_limit"]) == (1, 0)
    assert counted["said"] == "Semaphore released too many times"


def test_a_bounded_semaphore_may_notice_too_late_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """While slots are in use, it takes a release too many; the one ValueError comes after the limit was exceeded."""
    seen = result(run_scenario("semaphore", every_python, extra_release="inside", threads=4, visits=1, hold_s=0.1))
    counted = seen["values"]
    assert (seen["outcome"], seen["grade"]) == ("refused_late", "interesting")
    assert (counted["peak_inside"], counted["refusals"]) == (3, 1)
    assert counted["released_too_often_by"] == "Worker-0"
    assert counted["refused_in"].startswith("Worker-")
    assert seen["warnings"] == []


def test_a_slot_too_many_may_go_unused(run_scenario: Run) -> None:
    """With fewer workers than slots a release too many does nothing, but a bounded semaphore tells of it in the end."""
    few = {"threads": 1, "visits": 2, "hold_s": 0.0, "extra_release": "inside"}
    plain, bounded = (result(run_scenario("semaphore", bounded=bounded, **few)) for bounded in (False, True))
    assert (plain["outcome"], plain["grade"]) == ("not_seen", "acceptable")
    assert (bounded["outcome"], bounded["grade"], bounded["values"]["visits"]) == ("refused", "acceptable", 2)


def test_enough_slots_need_no_guard(run_scenario: Run) -> None:
    """Without a guard the limit may hold by itself; that is called not seen, never safe."""
    seen = result(run_scenario("semaphore", slots=4, threads=4, visits=1, hold_s=0.0, lock=False))
    assert (seen["outcome"], seen["grade"]) == ("not_seen", "acceptable")
    assert "safe" not in seen["meaning"]


def test_who_must_wait_waits(run_scenario: Run) -> None:
    """With one slot, visits come one after the other, and the waits before them are measured."""
    seen = result(run_scenario("semaphore", slots=1, threads=2, visits=3, hold_s=0.01))
    counted = seen["values"]
    assert 6 * 0.01 <= counted["wall_s"] <= seen["timings"]["wall_s"]
    assert counted["waited_s"] > 0
    assert pytest.approx(6 / counted["wall_s"]) == counted["visits_per_s"]
    assert set(semaphore.MEASURES) <= set(counted)


def test_a_cancelled_run_ends() -> None:
    """Workers make no further visits when the job is cancelled."""
    lab = Lab(Recorder(10_000), 60.0)
    cancel = threading.Timer(0.1, lab.cancel)
    cancel.start()
    with pytest.raises(Cancelled):
        semaphore.run(Params(visits=1_000), lab)
    cancel.join()
    assert threading.active_count() == 1


def test_what_is_not_there_cannot_be_released() -> None:
    """A release too many needs a semaphore."""
    for extra in ("before", "inside"):
        with pytest.raises(ValueError, match="set lock to true, or extra_release to no"):
            Params(lock=False, extra_release=extra)


@pytest.mark.parametrize(
    ("params", "over_limit", "refusals", "outcome", "grade"),
    [
        (Params(), 0, 0, "limit_kept", "acceptable"),
        (Params(), 1, 0, "limit_exceeded", "forbidden"),
        (Params(lock=False), 1, 0, "limit_exceeded", "interesting"),
        (Params(lock=False), 0, 0, "not_seen", "acceptable"),
        (Params(bounded=False, extra_release="before"), 1, 0, "limit_exceeded", "interesting"),
        (Params(bounded=False, extra_release="inside"), 0, 0, "not_seen", "acceptable"),
        (Params(extra_release="before"), 0, 1, "refused", "acceptable"),
        (Params(extra_release="before"), 1, 1, "refused_late", "forbidden"),
        (Params(extra_release="inside"), 0, 1, "refused", "acceptable"),
        (Params(extra_release="inside"), 1, 1, "refused_late", "interesting"),
    ],
)
def test_outcomes(params: Params, over_limit: int, refusals: int, outcome: str, grade: str) -> None:
    """More workers than slots are forbidden wherever the semaphore is used as it should be, or can tell."""
    assert outcome == semaphore.judge(params, over_limit, refusals)
    assert grade == semaphore.outcomes(params)[outcome][0]


@pytest.mark.parametrize(
    ("threads", "said"), [(2, "Try more threads than slots."), (8, "Try more visits, or a longer")]
)
def test_more_threads_are_proposed_where_they_are_missing(threads: int, said: str) -> None:
    """Where the limit was not exceeded, more threads than slots are proposed to those who have not as many."""
    for params in (Params(lock=False, threads=threads), Params(bounded=False, extra_release="before", threads=threads)):
        assert said in semaphore.outcomes(params)["not_seen"][1]
