"""The scenario `check_then_act`: an instance that is made when it is first asked for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.child.lab import Cancelled, Lab
from service.child.recorder import Recorder
from service.jobs import Report
from service.scenarios import check_then_act
from service.scenarios.check_then_act import Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_without_the_lock_there_are_two_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """With nothing but the lock taken away, more than one instance is made, and threads hold different ones."""
    seen = result(run_scenario("check_then_act", every_python, rounds=30, lock=False))
    counted = seen["values"]
    assert (seen["outcome"], seen["grade"]) == ("made_twice", "interesting")
    assert counted["instances"] - 30 == counted["extra_instances"] > 0
    assert counted["rounds_raced"] / 30 == counted["race_share"] > 0
    assert 2 <= counted["most_in_one_round"] <= 8
    assert counted["strays"] >= 1
    assert seen["warnings"] == []


def test_under_the_lock_there_is_one_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Under the lock each round makes one instance, and every thread gets that one."""
    seen = result(run_scenario("check_then_act", every_python, rounds=20))
    assert (seen["outcome"], seen["grade"]) == ("one_each", "acceptable")
    counts = ("instances", "extra_instances", "most_in_one_round", "rounds_raced", "race_share", "strays")
    assert [20, 0, 1, 0, 0.0, 0] == [seen["values"][name] for name in counts]


def test_a_constructor_that_computes_long_enough_is_interrupted(run_scenario: Run, every_python: str) -> None:
    """One that takes longer than the switch interval gives other threads a turn, on every interpreter."""
    params = {"construction": "compute", "construction_s": 0.02, "rounds": 4, "switch_interval_s": 0.0001}
    runs = (result(run_scenario("check_then_act", every_python, lock=False, **params)) for _ in range(5))
    assert any(run["outcome"] == "made_twice" for run in runs)


@pytest.mark.parametrize("lock", [True, False])
@pytest.mark.parametrize("construction", ["sleep", "compute"])
def test_a_constructor_may_take_no_time(run_scenario: Run, construction: str, lock: bool) -> None:
    """With construction_s 0 each round has one instance at least, and with the lock at most."""
    params = {"construction": construction, "construction_s": 0.0, "rounds": 50, "threads": 3, "lock": lock}
    seen = result(run_scenario("check_then_act", **params))
    assert seen["outcome"] in check_then_act.outcomes(Params(lock=lock))
    assert 50 <= seen["values"]["instances"] <= (50 if lock else 150)


def test_one_thread_alone_makes_one(run_scenario: Run) -> None:
    """Without another thread there is no race; that is called not seen, never safe."""
    seen = result(run_scenario("check_then_act", threads=1, rounds=5, lock=False))
    assert (seen["outcome"], seen["grade"]) == ("not_seen", "acceptable")
    assert "safe" not in seen["meaning"]
    assert "Take two threads or more." in seen["meaning"]
    assert "forbidden" == check_then_act.outcomes(Params(threads=1, lock=False))["made_twice"][0]


@pytest.mark.parametrize(
    ("params", "gil", "ways"),
    [
        ({}, True, "more rounds, or a longer construction_s."),
        (
            {"construction": "compute"},
            True,
            "more rounds, or a longer construction_s, or a shorter switch_interval_s, or construction sleep.",
        ),
        ({"construction_s": 0.0, "switch_interval_s": 1e-6}, True, "more rounds, or a longer construction_s."),
        ({"construction": "compute", "construction_s": 0.0}, False, "more rounds, or a longer construction_s."),
    ],
)
def test_it_proposes_what_is_left_to_try(
    monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], gil: bool, ways: str
) -> None:
    """Where no second instance was made, what is proposed has an effect on this constructor and this interpreter."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: gil, raising=False)
    assert f"Try {ways}" in check_then_act.outcomes(Params(lock=False, **params))["not_seen"][1]


@pytest.mark.parametrize(("wished", "used"), [(0.002, 0.002), (None, 0.005)])
def test_the_switch_interval_is_set_and_told(run_scenario: Run, wished: float | None, used: float) -> None:
    """The job runs with the switch interval that it asks for, or with the interpreter's own."""
    report = run_scenario("check_then_act", rounds=1, switch_interval_s=wished)
    assert report.python is not None
    assert pytest.approx(used) == report.python["switch_interval_s"]


def test_rounds_take_as_long_as_their_constructors(run_scenario: Run) -> None:
    """Under the lock a round takes one construction at least, and its share of the wall time."""
    seen = result(run_scenario("check_then_act", rounds=10, construction_s=0.01))
    counted = seen["values"]
    assert 10 * 0.01 <= counted["wall_s"] <= seen["timings"]["wall_s"]
    assert pytest.approx(counted["wall_s"] / 10) == counted["per_round_s"]
    assert set(check_then_act.MEASURES) <= set(counted)


def test_a_cancelled_run_ends() -> None:
    """No thread is left at the barrier when the job is cancelled."""
    lab = Lab(Recorder(10_000), 60.0)
    cancel = threading.Timer(0.1, lab.cancel)
    cancel.start()
    with pytest.raises(Cancelled):
        check_then_act.run(Params(rounds=10_000, construction_s=0.01), lab)
    cancel.join()
    assert threading.active_count() == 1


@pytest.mark.parametrize(
    ("lock", "raced", "outcome", "grade"),
    [
        (True, 0, "one_each", "acceptable"),
        (True, 1, "made_twice", "forbidden"),
        (False, 1, "made_twice", "interesting"),
        (False, 0, "not_seen", "acceptable"),
    ],
)
def test_outcomes(lock: bool, raced: int, outcome: str, grade: str) -> None:
    """What the lock must prevent is forbidden with it, and worth seeing without it."""
    assert outcome == check_then_act.judge(lock, raced)
    assert grade == check_then_act.outcomes(Params(lock=lock))[outcome][0]
