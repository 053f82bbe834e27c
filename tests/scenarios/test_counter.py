"""The scenario `counter`: the tutorial's Example 4."""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable
from typing import Any

import pytest

from service.child.lab import Lab
from service.child.recorder import Recorder
from service.jobs import Report
from service.scenarios import counter
from service.scenarios.counter import Params

Run = Callable[..., Report]

SHAPES = typing.get_args(typing.get_type_hints(Params)["shape"])


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_the_default_loses_without_the_lock_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """With nothing but the lock taken away, additions are lost, whatever the interpreter."""
    runs = (result(run_scenario("counter", every_python, lock=False)) for _ in range(3))
    seen = next(run for run in runs if run["outcome"] == "lost")
    counted = seen["values"]
    assert seen["grade"] == "interesting"
    assert 400_000 == counted["expected"] == counted["actual"] + counted["lost"]
    assert counted["lost"] / 400_000 == counted["lost_share"] > 0
    assert not set(seen["warnings"]) - {counter.SOME_OVER}


def test_the_lock_counts_every_addition_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Under the lock nothing is lost."""
    seen = result(run_scenario("counter", every_python, iterations=5_000))
    assert (seen["outcome"], seen["grade"]) == ("exact", "acceptable")
    assert tuple(seen["values"][name] for name in ("expected", "actual", "lost", "lost_share")) == (
        20_000,
        20_000,
        0,
        0.0,
    )


def test_where_nothing_can_be_lost_it_says_so_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """The tutorial's addition is explained where the interpreter leaves no gap in it, and only there."""
    report = run_scenario("counter", every_python, lock=False, shape="augmented", iterations=1_000)
    seen = result(report)
    assert report.python is not None
    major, minor = report.python["version"].split(".")[:2]
    if report.python["gil"] and (int(major), int(minor)) >= (3, 10):
        assert "not_seen" == seen["outcome"]
        assert seen["meaning"] in seen["warnings"]
        for part in ("Not seen", "bpo-29988", "does not guarantee", "try shape function_call"):
            assert part in seen["meaning"]
    else:
        assert not set(seen["warnings"]) - {counter.SOME_OVER}


def test_threads_that_do_not_meet_are_told_of(run_scenario: Run) -> None:
    """Where threads are over before the last one begins, that explains a low peak and additions that nobody lost."""
    seen = result(run_scenario("counter", threads=64, iterations=1))
    assert [counter.SOME_OVER] == seen["warnings"]
    assert seen["active_threads"]["peak"] < 65


@pytest.mark.parametrize("iterations", [1, 1_000, 8_000, 100_000])
def test_no_low_peak_goes_unexplained(run_scenario: Run, iterations: int) -> None:
    """Whenever fewer than all were active at once, it is said why; what is said of a full peak is left open.

    A thread can end while the last one is being started, so that none was over before.
    """
    for _ in range(10):
        seen = result(run_scenario("counter", lock=False, iterations=iterations))
        assert seen["active_threads"]["peak"] == 5 or [counter.SOME_OVER] == seen["warnings"]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_adds_with_and_without_the_lock(run_scenario: Run, shape: str) -> None:
    """Each shape counts exactly under the lock, and never too much without it."""
    locked = result(run_scenario("counter", shape=shape, iterations=50))
    assert (locked["outcome"], locked["values"]["actual"]) == ("exact", 200)
    unlocked = result(run_scenario("counter", shape=shape, iterations=50, lock=False))
    assert unlocked["outcome"] in {"lost", "not_seen"}
    assert 1 <= unlocked["values"]["actual"] <= 200
    assert counter.SHAPES[shape].code == unlocked["values"]["addition"]


def test_a_pause_in_the_gap_loses(run_scenario: Run) -> None:
    """With a pause between the read and the write a few hundred additions are enough."""
    runs = (result(run_scenario("counter", shape="yield", iterations=200, lock=False)) for _ in range(10))
    assert any(run["outcome"] == "lost" for run in runs)


def test_one_thread_alone_loses_nothing(run_scenario: Run) -> None:
    """Without another thread there is nobody to overwrite anything; that is called not seen, never safe."""
    seen = result(run_scenario("counter", threads=1, iterations=100, lock=False))
    assert (seen["outcome"], seen["grade"]) == ("not_seen", "acceptable")
    assert "safe" not in seen["meaning"]


@pytest.mark.parametrize("shape", ["function_call", "augmented"])
def test_one_thread_alone_is_told_to_take_another(run_scenario: Run, shape: str) -> None:
    """To one thread nothing is proposed that only matters between two, and no reason given but that it is alone."""
    seen = result(run_scenario("counter", threads=1, iterations=100, lock=False, shape=shape))
    assert ([], "One thread alone") == (seen["warnings"], seen["meaning"][:16])
    assert "Try" not in seen["meaning"]
    assert "forbidden" == counter.outcomes(Params(threads=1, lock=False))["lost"][0]


@pytest.mark.parametrize(
    ("params", "gil", "ways"),
    [
        ({}, True, "more iterations, or a shorter switch_interval_s, or shape yield."),
        ({"shape": "yield"}, True, "more iterations, or shape function_call."),
        ({"switch_interval_s": 1e-6}, True, "more iterations, or shape yield."),
        ({"shape": "augmented"}, False, "more iterations, or shape function_call, or shape yield."),
    ],
)
def test_it_proposes_what_is_left_to_try(
    monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], gil: bool, ways: str
) -> None:
    """Where nothing was lost, no shape is proposed that is there already, and no interval that cannot be shorter."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: gil, raising=False)
    assert f"Try {ways}" in counter.outcomes(Params(lock=False, **params))["not_seen"][1]


@pytest.mark.parametrize(("wished", "used"), [(0.002, 0.002), (None, 0.005)])
def test_the_switch_interval_is_set_and_told(run_scenario: Run, wished: float | None, used: float) -> None:
    """The job runs with the switch interval that it asks for, or with the interpreter's own."""
    report = run_scenario("counter", iterations=1, switch_interval_s=wished)
    assert report.python is not None
    assert pytest.approx(used) == report.python["switch_interval_s"]


def test_times_are_those_of_the_loop(run_scenario: Run) -> None:
    """The wall time lies within that of the whole run, and an addition takes its share of it."""
    seen = result(run_scenario("counter", iterations=1_000))
    assert 0 < seen["values"]["wall_s"] <= seen["timings"]["wall_s"]
    assert pytest.approx(seen["values"]["wall_s"] / 4_000) == seen["values"]["per_addition_s"]


@pytest.mark.parametrize(
    ("params", "timeout_s", "additions"),
    [
        ({"threads": 256}, 60.0, "25,600,000 additions"),
        ({"threads": 256}, 600.0, None),
        ({"threads": 256, "lock": False}, 60.0, None),
        ({}, 60.0, None),
        ({}, 1.0, "400,000 additions"),
        ({"shape": "yield"}, 30.0, "400,000 additions"),
    ],
)
def test_more_additions_than_there_is_time_for_are_warned_of(
    params: dict[str, Any], timeout_s: float, additions: str | None
) -> None:
    """Before it begins it is said how many additions must be made one after the other, if they may take too long."""
    lab = Lab(Recorder(1_000), timeout_s)
    counter.warn_of_too_many(Params(**params), lab)
    assert (additions is not None) == any(f"{additions} under one lock" in warning for warning in lab.warnings)
    assert bool(lab.warnings) == (additions is not None)


def test_who_had_not_enough_time_was_warned(run_scenario: Run) -> None:
    """A job that was killed in the middle of its additions is told with the warning that it began with."""
    seen = result(run_scenario("counter", timeout_s=0.5, threads=8, iterations=10_000_000))
    (warning,) = seen["warnings"]
    assert ("stuck", "80,000,000 additions") == (seen["outcome"], warning[:20])


def test_with_the_lock_a_lost_addition_is_forbidden() -> None:
    """What the lock must prevent is graded as such."""
    assert {name: grade for name, (grade, _) in counter.outcomes(Params(lock=True)).items()} == {
        "exact": "acceptable",
        "lost": "forbidden",
    }
    assert {name: grade for name, (grade, _) in counter.outcomes(Params(lock=False)).items()} == {
        "lost": "interesting",
        "not_seen": "acceptable",
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_no_sentence_calls_it_safe(shape: Any) -> None:
    """Nothing seen is never called safe."""
    for lock in (True, False):
        for _, meaning in counter.outcomes(Params(shape=shape, lock=lock)).values():
            assert "safe" not in meaning
