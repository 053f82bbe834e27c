"""The scenario `custom`: the table of the parameters of `Thread()`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.jobs import Report
from service.scenarios import custom
from service.scenarios.custom import Call, Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_the_five_parameters_reach_the_thread_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Each row tells the thread's target, arguments, name and daemon flag, and what it printed and when."""
    first = {"target": "print_numbers", "args": [2], "kwargs": {"delay_s": 0.01}, "name": "Numbers", "daemon": True}
    seen = result(run_scenario("custom", every_python, program=[first, {"target": "print_letters", "args": ["XY", 0]}]))
    assert (seen["outcome"], seen["grade"]) == ("all_ended", "acceptable")
    numbers, letters = seen["values"]["threads"]
    assert first == {name: numbers[name] for name in first}
    assert not numbers["daemon_inherited"]
    assert numbers["printed"] == ["Number: 1", "Number: 2"]
    assert letters["printed"] == ["Letter: X", "Letter: Y"]
    assert tuple(letters[name] for name in ("args", "kwargs", "daemon", "daemon_inherited")) == (
        ["XY", 0],
        {},
        False,
        True,
    )
    assert letters["name"].startswith("Thread-1")
    assert 0 <= numbers["started_s"] < numbers["ended_s"]
    assert not numbers["alive_when_main_ended"]


def test_a_thread_without_a_name_is_named_after_its_target(run_scenario: Run) -> None:
    """The interpreter's own name for a thread holds the name of the target."""
    seen = result(run_scenario("custom", program=[{"target": "sleep", "args": [0]}]))
    assert seen["values"]["threads"][0]["name"] == "Thread-1 (sleep)"


def test_an_exception_ends_its_thread_only(run_scenario: Run) -> None:
    """A thread that fails does not fail the job, nor disturb the threads beside it."""
    report = run_scenario("custom", program=[{"target": "fail", "args": ["Oh."]}, {"target": "compute", "args": [4]}])
    seen = result(report)
    assert (report.status, seen["outcome"], seen["grade"]) == ("succeeded", "raised", "interesting")
    failed, computed = seen["values"]["threads"]
    assert (failed["raised"], computed["raised"]) == ("RuntimeError: Oh.", None)
    assert computed["printed"] == ["Computed: 14"]
    assert seen["warnings"] == ["Thread-1 (fail) ended with RuntimeError: Oh."]


def test_one_thread_at_a_time_holds_the_lock(run_scenario: Run) -> None:
    """Two threads that want the one lock hold it one after the other."""
    call = {"target": "hold_lock", "args": [0.1]}
    seen = result(run_scenario("custom", program=[call, call]))
    lines = [line["line"] for line in seen["output"] if line["line"] != "Waiting for the lock."]
    assert seen["values"]["threads"][0]["printed"] == [
        "Waiting for the lock.",
        "Holding the lock.",
        "Released the lock.",
    ]
    assert len(lines) == 4
    assert max(row["ended_s"] for row in seen["values"]["threads"]) >= 0.2


def test_not_joined_threads_are_awaited(run_scenario: Run) -> None:
    """Without join the main thread ends first, and the interpreter waits for a thread that is no daemon."""
    seen = result(run_scenario("custom", join=False, program=[{"target": "sleep", "args": [0.3]}]))
    (row,) = seen["values"]["threads"]
    assert (seen["outcome"], row["alive_when_main_ended"], row["alive_at_exit"]) == ("awaited", True, False)
    assert row["ended_s"] >= 0.3


def test_not_joined_daemons_are_cut_off(run_scenario: Run) -> None:
    """Without join a daemon thread is cut off: it has no end, and the process does not wait for it."""
    seen = result(run_scenario("custom", join=False, program=[{"target": "sleep", "args": [50], "daemon": True}]))
    (row,) = seen["values"]["threads"]
    assert (seen["outcome"], seen["grade"]) == ("abandoned", "acceptable")
    assert (row["ended_s"], row["alive_when_main_ended"], row["alive_at_exit"]) == (None, True, True)


@pytest.mark.parametrize(
    ("raised", "outlived", "cut_off", "outcome"),
    [
        (None, [False], [], "all_ended"),
        (None, [True], [], "awaited"),
        (None, [True], [True], "abandoned"),
        ("RuntimeError: no", [True], [True], "raised"),
        ("RuntimeError: no", [True, True], [True, False], "not_awaited"),
    ],
)
def test_outcomes(raised: str | None, outlived: list[bool], cut_off: list[bool], outcome: str) -> None:
    """A thread that is no daemon must not be cut off; an exception is told before what is to be expected."""
    desk = custom.Desk(threading.Lock())
    desk.raised = raised
    assert outcome == custom.judge([desk], outlived, cut_off)
    assert outcome in custom.outcomes(Params(join=False))


def test_only_threads_that_are_not_joined_can_outlive_the_main_thread() -> None:
    """The outcomes fit the parameters."""
    assert {"all_ended", "raised"} == set(custom.outcomes(Params(join=True)))
    assert custom.outcomes(Params(join=False))["not_awaited"][0] == "forbidden"


def test_a_program_that_computes_takes_the_lane_for_computing() -> None:
    """One target that computes is enough for the lane `cpu`."""
    assert custom.lane(Params()) == "wait"
    assert custom.lane(Params(program=(Call("sleep"), Call("compute")))) == "cpu"


def test_json_becomes_calls() -> None:
    """In a child the program arrives as objects with lists, and means the same."""
    from_json: Any = ({"target": "print_numbers", "args": [3, 0.5], "kwargs": {}, "name": None, "daemon": None},)
    assert (Call("print_numbers", (3, 0.5), {}),) == Params(program=from_json).program


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"target": "sleep", "args": [1, 2]}, r"Cannot call sleep .*too many .* Call it as sleep\(delay_s=1.0\)"),
        ({"target": "sleep", "kwargs": {"secs": 1}}, r"unexpected keyword argument 'secs'.* sleep\(delay_s=1.0\)"),
        ({"target": "sleep", "args": [1], "kwargs": {"delay_s": 1}}, "multiple values"),
        ({"target": "sleep", "kwargs": {"desk": 1}}, "unexpected keyword argument 'desk'"),
        ({"target": "sleep", "args": [61]}, "delay_s of sleep must be a number of seconds from 0 to 60"),
        ({"target": "sleep", "args": [float("nan")]}, "from 0 to 60"),
        ({"target": "sleep", "args": ["1"]}, "must be a number of seconds"),
        ({"target": "hold_lock", "args": [-1]}, "hold_s of hold_lock"),
        ({"target": "print_numbers", "args": [1001]}, "count of print_numbers must be a whole number from 0 to 1000"),
        ({"target": "print_numbers", "args": [1.5]}, "must be a whole number"),
        ({"target": "compute", "args": [10_000_001]}, "iterations of compute"),
        ({"target": "print_letters", "args": [5]}, "letters of print_letters must be text"),
        ({"target": "fail", "args": ["a\nb"]}, "on one line"),
        ({"target": "fail", "args": ["x" * 201]}, "up to 200 characters"),
        ({"target": "rm"}, "There is no target 'rm'. Choose one of print_numbers,"),
    ],
)
def test_a_wrong_call_is_refused_with_what_to_do(call: dict[str, Any], message: str) -> None:
    """A call that its target cannot take is refused before anything runs, and the text says what is right."""
    with pytest.raises(ValueError, match=message):
        Call(**call)


def test_an_empty_program_is_refused() -> None:
    """A program has at least one thread."""
    with pytest.raises(ValueError, match="Put at least one call into it"):
        Params(program=())
