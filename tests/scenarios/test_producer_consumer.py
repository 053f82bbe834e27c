"""The scenario `producer_consumer`: a queue, and a list in its place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.child.lab import Cancelled, Lab
from service.child.recorder import Recorder
from service.jobs import Report
from service.scenarios import producer_consumer
from service.scenarios.producer_consumer import Bare, Bounded, Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_a_list_loses_by_default_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """With a list in the queue's place items are lost, and as many are taken twice."""
    runs = (result(run_scenario("producer_consumer", every_python, queue="list", items=150)) for _ in range(5))
    seen = next(run for run in runs if run["outcome"] == "lost_or_twice")
    counted = seen["values"]
    assert seen["grade"] == "interesting"
    assert 300 == counted["made"] == counted["taken"] + counted["lost"] - counted["taken_twice"]
    assert 0 < counted["lost"] < 300
    assert seen["warnings"] == []


def test_a_queue_gives_every_item_once_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Through a queue each item comes once, and never are more in it than it has room for."""
    seen = result(run_scenario("producer_consumer", every_python, items=100, maxsize=5))
    assert (seen["outcome"], seen["grade"]) == ("every_item_once", "acceptable")
    counts = ("made", "taken", "lost", "taken_twice", "errors")
    assert [200, 200, 0, 0, 0] == [seen["values"][name] for name in counts]
    assert 1 <= seen["values"]["max_depth"] <= 5


def test_pop_finds_the_list_empty_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """`list.pop` never gives an item twice, but the list can be empty after the look."""
    params = {"queue": "list_pop", "work_s": 0.0, "items": 25}
    runs = (result(run_scenario("producer_consumer", every_python, **params)) for _ in range(10))
    seen = next(run for run in runs if run["outcome"] == "found_empty")
    assert seen["grade"] == "interesting"
    assert (seen["values"]["lost"], seen["values"]["taken_twice"]) == (0, 0)
    assert seen["values"]["errors"] >= 1
    assert seen["values"]["error"] == "pop from empty list"


def test_a_full_queue_holds_its_producers_back(run_scenario: Run) -> None:
    """Producers wait while there is no room: with room for one item, for about as long as the consumers work."""
    params = {"producers": 1, "threads": 1, "items": 20, "maxsize": 1, "work_s": 0.005}
    counted = result(run_scenario("producer_consumer", **params))["values"]
    assert counted["blocked_puts"] >= 10
    assert 10 * 0.005 <= counted["blocked_s"] <= counted["wall_s"]
    assert counted["max_depth"] == 1


@pytest.mark.parametrize("params", [{"maxsize": 0}, {"queue": "list"}])
def test_without_a_bound_the_items_pile_up(run_scenario: Run, params: dict[str, Any]) -> None:
    """A queue without a bound and a list never hold a producer back: nearly all that it makes is in them at once."""
    counted = result(run_scenario("producer_consumer", items=200, work_s=0.005, **params))["values"]
    assert (counted["blocked_puts"], counted["blocked_s"]) == (0, 0)
    assert counted["max_depth"] > 200


def test_one_consumer_alone_takes_every_item_once(run_scenario: Run) -> None:
    """Without a second consumer nothing comes between look and taking; that is called not seen, never safe."""
    seen = result(run_scenario("producer_consumer", queue="list", threads=1, items=20))
    assert (seen["outcome"], seen["grade"]) == ("not_seen", "acceptable")
    assert "safe" not in seen["meaning"]
    assert "Take two or more." in seen["meaning"]
    alone = producer_consumer.outcomes(Params(queue="list", threads=1))
    assert ("forbidden", "forbidden") == (alone["lost_or_twice"][0], alone["found_empty"][0])


@pytest.mark.parametrize(("pause_s", "way"), [(0.0001, "or a longer pause_s."), (None, "or a pause_s.")])
def test_a_pause_that_is_not_there_is_not_made_longer(pause_s: float | None, way: str) -> None:
    """Where nothing was lost, the pause is proposed as what it would be: longer, or one at all."""
    assert producer_consumer.outcomes(Params(queue="list", pause_s=pause_s))["not_seen"][1].endswith(way)


def test_rates_are_those_of_the_run(run_scenario: Run) -> None:
    """The wall time lies within that of the whole run, and the rate counts the different items that came through."""
    seen = result(run_scenario("producer_consumer", items=50))
    counted = seen["values"]
    assert 0 < counted["wall_s"] <= seen["timings"]["wall_s"]
    assert pytest.approx(100 / counted["wall_s"]) == counted["items_per_s"]
    assert set(producer_consumer.MEASURES) <= set(counted)


@pytest.mark.parametrize("kind", ["queue", "list"])
def test_a_cancelled_run_ends(kind: Any) -> None:
    """All threads come to their end soon when the job is cancelled, whoever waits for whom."""
    lab = Lab(Recorder(10_000), 60.0)
    params = Params(queue=kind, items=50_000, maxsize=1, work_s=0.05)
    cancel = threading.Timer(0.1, lab.cancel)
    cancel.start()
    with pytest.raises(Cancelled):
        producer_consumer.run(params, lab)
    cancel.join()
    assert threading.active_count() == 1


def test_the_end_comes_behind_all_items() -> None:
    """What was put in before the end is taken before it, from a queue and from a list."""
    for between in (Bounded(5), Bare("list", None), Bare("list_pop", None)):
        for item in (1, 2, 3):
            assert between.put(item) is None
        between.close(2)
        assert [1, 2, 3, None, None] == [between.take() for _ in range(5)]


@pytest.mark.parametrize(
    ("kind", "wrong", "errors", "outcome", "grade"),
    [
        ("queue", 0, 0, "every_item_once", "acceptable"),
        ("queue", 1, 0, "lost_or_twice", "forbidden"),
        ("list", 1, 1, "lost_or_twice", "interesting"),
        ("list", 0, 1, "found_empty", "interesting"),
        ("list_pop", 0, 0, "not_seen", "acceptable"),
    ],
)
def test_outcomes(kind: Any, wrong: int, errors: int, outcome: str, grade: str) -> None:
    """What a queue must prevent is forbidden with it, and worth seeing without it."""
    assert outcome == producer_consumer.judge(kind, wrong, errors)
    assert grade == producer_consumer.outcomes(Params(queue=kind))[outcome][0]


def test_too_many_items_are_refused() -> None:
    """All producers together make a hundred thousand items at most."""
    assert Params(producers=4, items=25_000).items == 25_000
    with pytest.raises(ValueError, match="100,000, not 100,004; take fewer"):
        Params(producers=4, items=25_001)


def test_consumers_that_do_not_sleep_take_the_lane_for_computing() -> None:
    """A job whose consumers sleep runs beside others; one that only hands over runs alone."""
    assert (producer_consumer.lane(Params()), producer_consumer.lane(Params(work_s=0.0))) == ("wait", "cpu")
