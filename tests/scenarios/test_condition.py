"""The scenario `condition`: waiting for a state, and waiting for news of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.child.lab import Cancelled, Lab
from service.child.recorder import Recorder
from service.jobs import Report
from service.scenarios import condition
from service.scenarios.condition import Params, Seat, Shelf

Run = Callable[..., Report]

COUNTS = ("took", "found_nothing", "missed_wakeups", "woken", "waited_again")


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_who_looks_again_finds_that_it_is_gone_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """All are woken for two items; two take one, the others wait again until they are told that there are no more."""
    seen = result(run_scenario("condition", every_python))
    assert (seen["outcome"], seen["grade"]) == ("state_awaited", "acceptable")
    assert [2, 0, 0, 8 + 6, 6] == [seen["values"][name] for name in COUNTS]
    assert seen["warnings"] == []


def test_who_believes_it_finds_nothing_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """With `if` in place of `while`, all but two of those who are woken go on to an empty list, in every run."""
    seen = result(run_scenario("condition", every_python, predicate=False))
    assert (seen["outcome"], seen["grade"]) == ("found_nothing", "interesting")
    assert [2, 6, 0, 8, 0] == [seen["values"][name] for name in COUNTS]
    assert seen["warnings"] == []


def test_who_looks_first_needs_no_notification_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """After an early notification those for whom there is an item take it without waiting."""
    seen = result(run_scenario("condition", every_python, notify="early"))
    assert (seen["outcome"], seen["grade"]) == ("state_awaited", "acceptable")
    assert [2, 0, 0, 6, 0] == [seen["values"][name] for name in COUNTS]


def test_who_just_waits_misses_it_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """After an early notification a bare wait ends by its timeout only, beside an item that was there all the time."""
    seen = result(run_scenario("condition", every_python, notify="early", predicate=False, patience_s=0.05))
    assert (seen["outcome"], seen["grade"]) == ("missed", "interesting")
    assert [2, 0, 2] == [seen["values"][name] for name in COUNTS[:3]]
    assert seen["values"]["wait_max_s"] >= 0.05


def test_enough_items_hide_the_mistake(run_scenario: Run) -> None:
    """Where there is an item for everybody, `if` goes well; that is called not seen, never safe."""
    seen = result(run_scenario("condition", threads=3, items=5, predicate=False))
    assert (seen["outcome"], seen["grade"]) == ("not_seen", "acceptable")
    assert [3, 0, 0, 3, 0] == [seen["values"][name] for name in COUNTS]
    assert "safe" not in seen["meaning"]


@pytest.mark.parametrize("notify", ["all", "early"])
@pytest.mark.parametrize(("threads", "items"), [(1, 1), (1, 5), (40, 3)])
def test_it_ends_with_any_numbers(run_scenario: Run, threads: int, items: int, notify: str) -> None:
    """With more items than threads or fewer, each thread goes on in the end, and no item is taken twice."""
    for predicate in (True, False):
        params = {"threads": threads, "items": items, "notify": notify, "predicate": predicate, "patience_s": 0.01}
        counted = result(run_scenario("condition", **params))["values"]
        assert min(threads, items) == counted["took"]


def test_waits_are_measured(run_scenario: Run) -> None:
    """The longest wait is no shorter than the median, and no longer than the run."""
    seen = result(run_scenario("condition", notify="early", predicate=False, patience_s=0.02))
    counted = seen["values"]
    assert 0 < counted["wait_p50_s"] <= counted["wait_max_s"] <= counted["wall_s"] <= seen["timings"]["wall_s"]
    assert set(condition.MEASURES) <= set(counted)


@pytest.mark.parametrize("predicate", [True, False])
@pytest.mark.parametrize("notify", ["all", "early"])
def test_a_cancelled_run_ends(notify: Any, predicate: bool) -> None:
    """Nobody is left waiting when the job is cancelled."""
    lab = Lab(Recorder(10_000), 60.0)
    lab.cancel()
    with pytest.raises(Cancelled):
        condition.run(Params(predicate=predicate, notify=notify, patience_s=0.1), lab)
    assert threading.active_count() == 1


def test_nothing_more_comes_to_a_closed_shelf() -> None:
    """Who comes when all is over is told at once, and who comes to an item takes it even then."""
    shelf, late, lucky = Shelf(threading.RLock()), Seat(), Seat()
    shelf.close()
    condition.fetch(condition.wait_while, shelf, late)
    shelf.put(1)
    condition.fetch(condition.wait_while, shelf, lucky)
    assert (late.took, late.waits, lucky.took, lucky.waits) == (False, 0, True, 0)


@pytest.mark.parametrize(
    ("params", "found_nothing", "missed", "outcome", "grade"),
    [
        (Params(), 0, 0, "state_awaited", "acceptable"),
        (Params(), 1, 0, "found_nothing", "forbidden"),
        (Params(predicate=False), 1, 0, "found_nothing", "interesting"),
        (Params(predicate=False), 0, 0, "not_seen", "acceptable"),
        (Params(predicate=False, notify="early"), 0, 1, "missed", "interesting"),
    ],
)
def test_outcomes(params: Params, found_nothing: int, missed: int, outcome: str, grade: str) -> None:
    """Going on to nothing is forbidden for those who look again, and worth seeing of those who do not."""
    assert outcome == condition.judge(params.predicate, found_nothing, missed)
    assert grade == condition.outcomes(params)[outcome][0]


def test_one_thread_is_not_told_to_take_fewer_items() -> None:
    """There is one item at least: it is threads that there are to be more of."""
    assert "more threads than items" in condition.outcomes(Params(threads=1, items=1, predicate=False))["not_seen"][1]
