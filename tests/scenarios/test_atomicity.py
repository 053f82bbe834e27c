"""The scenario `atomicity`: what loses an update on this interpreter, and where another thread can come in."""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable
from typing import Any

import pytest

from service.jobs import Report
from service.scenarios import atomicity, counter
from service.scenarios.atomicity import Params

Run = Callable[..., Report]

OPERATIONS = typing.get_args(typing.get_type_hints(Params)["operation"])
ONE_CALL = {"setdefault", "list_append"}  # one call into a dictionary or a list reads and writes
WITH_CALLS = {"function_call", "property", "yield", "dict_get", "lazy_init"}


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def values(report: Report) -> Any:
    """What a job counted."""
    return result(report)["values"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_lost_and_what_is_marked_agree_on_every_interpreter(
    run_scenario: Run, every_python: str, operation: str
) -> None:
    """Where the marks say that nobody can come in, nothing is lost; where they say somebody can, something is."""
    report = run_scenario("atomicity", every_python, operation=operation, iterations=20_000)
    counted = values(report)
    if counted["gap_has_switch"]:
        again = (values(run_scenario("atomicity", every_python, operation=operation)) for _ in range(10))
        assert counted["lost"] or any(one["lost"] for one in again)
    else:
        assert 0 == counted["lost"], f"{operation} lost although no mark lies in its gap: {counted['instructions']}"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_marks_follow_the_rule_on_every_interpreter(run_scenario: Run, every_python: str, operation: str) -> None:
    """Until 3.9 and without a GIL every gap has a mark, since 3.10 one with a call in it; a single call has no gap."""
    report = run_scenario("atomicity", every_python, operation=operation, iterations=1, attempts=1)
    counted = values(report)
    assert report.python is not None
    version = tuple(int(part) for part in report.python["version"].split(".")[:2])
    rare = report.python["gil"] and version >= (3, 10)
    assert (operation not in ONE_CALL and (operation in WITH_CALLS or not rare)) == counted["gap_has_switch"]
    roles = [row["role"] for row in counted["instructions"] if row["role"]]
    assert (["read and write"] if operation in ONE_CALL else ["read", "write"]) == roles


def test_the_disassembly_is_that_of_the_loop_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """The instructions are those of the line, with offsets, lines, source, and a reason for each mark."""
    report = run_scenario("atomicity", every_python, iterations=1)
    counted = values(report)
    rows = counted["instructions"]
    assert [row["offset"] for row in rows] == sorted({row["offset"] for row in rows})
    assert "LOAD_GLOBAL" == rows[0]["opname"]
    assert "STORE_GLOBAL" in [row["opname"] for row in rows]
    assert rows[-1]["opname"] in {"JUMP_ABSOLUTE", "JUMP_BACKWARD"}
    assert rows[-1]["switch"]
    assert {"counter += 1"} == {row["source"] for row in rows[:-1]}
    assert all(row["switch"] == (row["why"] is not None) for row in rows)
    assert report.python is not None
    with_gil = "FAST_DISPATCH" if report.python["version"].startswith("3.9.") else "bpo-29988"
    assert (with_gil if report.python["gil"] else "PEP 703") in counted["switch_rule"]


def test_runs_grow_until_one_loses(run_scenario: Run) -> None:
    """The runs end with the first length that loses, all attempts of which are made and counted."""
    report = run_scenario("atomicity", operation="yield", attempts=4)
    counted = values(report)
    assert "loss" == counted["ended_by"]
    assert counted["smallest_iterations"] == counted["iterations_reached"]
    lengths = list(atomicity.lengths(counted["smallest_iterations"]))
    assert 4 * len(lengths) == counted["runs"]
    assert 4 * 4 * sum(lengths) == counted["operations_done"]
    assert 4 * 4 * lengths[-1] == counted["expected"] == counted["actual"] + counted["lost"]
    assert counted["lost"] / counted["expected"] == counted["lost_share"]
    assert 1 <= counted["runs_that_lost"] <= 4
    assert "Updates were lost on CPython" in counted["finding"]
    assert ("lost", "interesting") == (result(report)["outcome"], result(report)["grade"])


def test_where_nothing_is_lost_it_says_no_more_than_that(run_scenario: Run) -> None:
    """One call into a list loses nothing, and the answer says in how many operations that was seen."""
    seen = result(run_scenario("atomicity", operation="list_append", iterations=200, attempts=2))
    counted = seen["values"]
    assert ("not_seen", "acceptable", "iterations") == (seen["outcome"], seen["grade"], counted["ended_by"])
    assert 2 * 4 * (10 + 100 + 200) == counted["operations_done"]
    assert (None, 200, 0, 0.0, 6, 0) == tuple(
        counted[name]
        for name in ("smallest_iterations", "iterations_reached", "lost", "lost_share", "runs", "runs_that_lost")
    )
    assert counted["finding"].startswith("Nothing was lost in 2,480 operations on CPython")
    assert counted["finding"].endswith("the language does not promise it.")


def test_the_time_for_all_runs_is_bounded(run_scenario: Run) -> None:
    """A run that may not fit into what is left of the budget is not begun; the first one always is."""
    counted = values(run_scenario("atomicity", operation="setdefault", iterations=1_000_000, budget_s=0.001))
    assert "time" == counted["ended_by"]
    assert counted["runs"] >= 1
    assert counted["iterations_reached"] < 1_000_000


@pytest.mark.parametrize("operation", ["check_then_act", "lazy_init"])
def test_a_second_winner_is_one_too_many(run_scenario: Run, operation: str) -> None:
    """Of the operations with keys each key has one winner, and what is lost is the share of winners overwritten."""
    counted = values(run_scenario("atomicity", operation=operation, iterations=1_000, threads=2))
    assert counted["actual"] == counted["expected"] + counted["lost"]
    assert counted["lost"] / counted["actual"] == counted["lost_share"]


@pytest.mark.parametrize(("wished", "used"), [(0.002, 0.002), (None, 0.005)])
def test_the_switch_interval_is_set_and_told(run_scenario: Run, wished: float | None, used: float) -> None:
    """The job runs with the switch interval that it asks for, or with the interpreter's own."""
    report = run_scenario("atomicity", iterations=1, switch_interval_s=wished)
    assert report.python is not None
    assert pytest.approx(used) == report.python["switch_interval_s"]


def test_a_thread_that_breaks_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that raises breaks the barrier, so that the run fails instead of standing still."""

    class Lab:
        Thread = staticmethod(threading.Thread)

    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    crew = atomicity.Crew(lambda iterations: {}[iterations], 2, typing.cast("Any", Lab()))
    with pytest.raises(threading.BrokenBarrierError):
        crew.work_together(10)
    crew.dismiss()


@pytest.mark.parametrize(
    ("iterations", "lengths"), [(1, [1]), (10, [10]), (11, [10, 11]), (1_000, [10, 100, 1_000]), (250, [10, 100, 250])]
)
def test_lengths_grow_tenfold(iterations: int, lengths: list[int]) -> None:
    """Runs begin with 10, grow tenfold, and end with the longest one asked for."""
    assert lengths == list(atomicity.lengths(iterations))


@pytest.mark.parametrize("shape", typing.get_args(typing.get_type_hints(counter.Params)["shape"]))
def test_the_additions_are_those_of_the_counter(shape: str) -> None:
    """What has the same name in both scenarios is the same line."""
    assert counter.SHAPES[shape].code == atomicity.OPERATIONS[shape].code


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_sentence_promises_anything(operation: Any) -> None:
    """Nothing seen is never called safe or atomic."""
    grades = atomicity.outcomes(Params(operation=operation))
    assert {"lost": "interesting", "not_seen": "acceptable"} == {name: grade for name, (grade, _) in grades.items()}
    assert not any(word in meaning for _, meaning in grades.values() for word in ("safe", "atomic"))


@pytest.mark.parametrize(
    ("rows", "has_switch"),
    [
        ([("LOAD", "read", None), ("ADD", None, None), ("STORE", "write", None)], False),
        ([("LOAD", "read", "after"), ("ADD", None, None), ("STORE", "write", None)], True),
        ([("LOAD", "read", None), ("ADD", None, "after"), ("STORE", "write", None)], True),
        ([("LOAD", "read", None), ("ADD", None, None), ("STORE", "write", "after")], False),
        ([("LOAD", "read", None), ("STORE", "write", atomicity.CALLS_PYTHON)], True),
        ([("LOAD", None, "before"), ("LOAD", "read", None), ("STORE", "write", None)], False),
        ([("LOAD", "read", None), ("JUMP_BACKWARD", None, "back"), ("STORE", "write", None)], False),
        ([("CALL", "read and write", "after")], False),
    ],
)
def test_the_gap_is_from_the_read_to_the_write(
    rows: list[tuple[str, str | None, str | None]], has_switch: bool
) -> None:
    """A mark counts after the read and before the write takes effect, but for a jump that leaves without the write."""
    made = [{"opname": name, "role": role, "why": why, "switch": why is not None} for name, role, why in rows]
    assert has_switch == atomicity.gap_has_switch(made)
