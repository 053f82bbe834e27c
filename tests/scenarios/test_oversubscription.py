"""The scenario `oversubscription`: what more threads than cores cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from service.child.lab import Lab
from service.child.recorder import Recorder
from service.jobs import JobState, Report
from service.scenarios import oversubscription
from service.scenarios.oversubscription import MEASURES, Measured, Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def lab(timeout_s: float = 60.0) -> Lab:
    """A lab as a child has one, for a run in the test's own process."""
    return Lab(Recorder(1_000), timeout_s)


def measured(threads: int, wall_s: float, start_s: float = 0.0, switches: Any = None) -> Measured:
    """A measurement that was never made."""
    return Measured(threads, wall_s, start_s, wall_s - start_s, 0.0, switches)


def test_too_many_threads_cost_time_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """A little work takes longer when it is cut over a hundred threads."""
    runs = (result(run_scenario("oversubscription", every_python, threads=100, total=64)) for _ in range(5))
    seen = next(run for run in runs if run["outcome"] == "costly")
    counted = seen["values"]
    assert seen["grade"] == "interesting"
    assert counted["overhead_share"] > oversubscription.MARGIN
    assert counted["overhead_share"] == pytest.approx(counted["wall_s"] / counted["single_s"] - 1)
    assert counted["cost_per_thread_s"] == pytest.approx((counted["wall_s"] - counted["single_s"]) / 99)
    assert counted["wall_s"] == pytest.approx(counted["start_s"] + counted["work_s"])
    assert 0 < counted["start_per_thread_s"] == pytest.approx(counted["start_s"] / 100)
    assert (counted["best_threads"], counted["knee"]) == (1, 1)


def test_a_short_switch_interval_switches_more_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Waiting threads wake up once in every switch interval, where there is a GIL to wait for."""
    given = {"threads": 8, "total": 512, "rounds": 1, "reference": False}
    often, seldom = (
        run_scenario("oversubscription", every_python, switch_interval_s=interval_s, **given)
        for interval_s in (1e-4, 10.0)
    )
    assert often.python is not None
    assert often.python["switch_interval_s"] == pytest.approx(1e-4)
    assert result(often)["values"]["switches"] is not None
    if often.python["gil"]:
        assert result(often)["values"]["voluntary_switches"] > 2 * result(seldom)["values"]["voluntary_switches"]


def test_the_switches_are_counted_in_each_thread() -> None:
    """Both kinds are summed over the threads; the median and the most are those of single threads."""
    counted = oversubscription.count_switches(measured(3, 1.0, switches=[(5, 0), (1, 1), (20, 3)]))
    assert counted == {
        "switches": 30,
        "voluntary_switches": 26,
        "involuntary_switches": 4,
        "per_thread_p50": 5,
        "per_thread_max": 23,
    }


def test_where_the_system_cannot_tell_switches_are_null(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without RUSAGE_THREAD nothing is said of switches, and nothing is computed from them."""
    monkeypatch.setattr(oversubscription, "_RUSAGE_THREAD", None)
    counted = oversubscription.run(Params(threads=2, total=4, rounds=1), lab())
    assert {counted[name] for name in (*oversubscription.SWITCHES, "cost_per_switch_s")} == {None}
    assert [point["switches"] for point in counted["curve"]] == [None, None]


def test_a_switch_is_charged_with_the_work_s_extra_time() -> None:
    """What starting the threads took is no cost of switching; what is spread over threads is all of the extra time."""
    many, one = measured(5, 3.0, start_s=1.0, switches=[(20, 2)] * 5), measured(1, 1.0, switches=[(10, 0)])
    cost = oversubscription.compare(many, one)
    assert cost == {
        "single_s": 1.0,
        "overhead_share": 2.0,
        "cost_per_switch_s": pytest.approx(1.0 / 100),
        "cost_per_thread_s": pytest.approx(2.0 / 4),
    }


def test_what_costs_nothing_more_has_no_price() -> None:
    """Where the threads were faster, or no more of anything, no cost of one is told."""
    one = measured(1, 1.0, switches=[(10, 0)])
    for many in (measured(2, 0.5, switches=[(10, 0)] * 2), measured(1, 1.5, switches=[(10, 0)])):
        cost = oversubscription.compare(many, one)
        assert (cost["cost_per_switch_s"], cost["cost_per_thread_s"]) == (None, None)


def test_one_thread_is_nothing_to_compare(run_scenario: Run) -> None:
    """One thread costs what one thread costs, and is neither the best nor a knee of anything."""
    seen = result(run_scenario("oversubscription", threads=1, total=4))
    counted = seen["values"]
    assert (seen["outcome"], counted["overhead_share"]) == ("not_compared", 0.0)
    assert counted["wall_s"] == counted["single_s"]
    assert [point["threads"] for point in counted["curve"]] == [1]
    assert (counted["best_threads"], counted["knee"]) == (None, None)
    assert "Take more threads" in seen["meaning"]


def test_one_thread_of_a_curve_is_a_reference(run_scenario: Run) -> None:
    """What the curve measures is compared, without a reference, too."""
    seen = result(run_scenario("oversubscription", threads=2, total=4, reference=False, curve=(1,)))
    assert seen["outcome"] != "not_compared"
    assert seen["values"]["single_s"] is not None


def test_without_one_thread_the_curve_has_its_best_all_the_same(run_scenario: Run) -> None:
    """Two numbers of threads are compared with each other, if not with one."""
    seen = result(run_scenario("oversubscription", threads=2, total=4, reference=False, curve=(3,)))
    assert ("not_compared", None) == (seen["outcome"], seen["values"]["single_s"])
    assert seen["values"]["best_threads"] in {2, 3}


def test_threads_that_need_no_core_each_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that runs at the same time takes less of it; waiting does so on any machine."""
    monkeypatch.setitem(oversubscription.WORK, "hash", lambda: time.sleep(0.02))
    counted = oversubscription.run(Params(threads=5, total=10, work="hash", rounds=1), lab())
    assert counted["outcome"] == "faster"
    assert counted["overhead_share"] < 0
    assert (counted["cost_per_switch_s"], counted["best_threads"], counted["knee"]) == (None, 5, 5)


def test_without_a_reference_nothing_is_compared(run_scenario: Run) -> None:
    """The threads alone are measured, and what would need a reference is null."""
    seen = result(run_scenario("oversubscription", threads=3, total=30, work="hash", reference=False))
    assert (seen["outcome"], seen["grade"]) == ("not_compared", "acceptable")
    assert seen["values"]["wall_s"] > 0
    assert [point["threads"] for point in seen["values"]["curve"]] == [3]
    for name in ("single_s", "overhead_share", "cost_per_switch_s", "cost_per_thread_s", "best_threads", "knee"):
        assert seen["values"][name] is None


def test_a_curve_holds_every_number_once(run_scenario: Run) -> None:
    """The reference, the threads and the further numbers are points of one curve, in their order."""
    counted = result(run_scenario("oversubscription", threads=4, total=8, rounds=2, curve=(8, 2, 8, 1)))["values"]
    assert [point["threads"] for point in counted["curve"]] == [1, 2, 4, 8]
    walls = {point["threads"]: point["wall_s"] for point in counted["curve"]}
    assert (walls[1], walls[4]) == (counted["single_s"], counted["wall_s"])
    assert walls[counted["best_threads"]] == min(walls.values())


def test_the_knee_is_the_last_that_is_as_good_as_the_best() -> None:
    """More threads within a tenth of the best time still count; a slower number below them does not matter."""
    curve = [measured(1, 1.0), measured(2, 0.5), measured(4, 0.6), measured(8, 0.54), measured(16, 0.56)]
    assert (oversubscription.best(curve).threads, oversubscription.knee(curve)) == (2, 8)


def test_each_round_has_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number is always measured first, and of its measurements the median is kept."""
    walls = iter(range(100))
    asked: list[int] = []

    def measure(threads: int, total: int, work: str, lab: Lab) -> Measured:
        asked.append(threads)
        return measured(threads, float(next(walls)))

    monkeypatch.setattr(oversubscription, "measure", measure)
    kept = oversubscription.measure_all(Params(threads=8, curve=(4,)), lab())
    assert asked == [1, 1, 4, 8, 4, 8, 1, 8, 1, 4]  # one to warm up
    assert {1: 6.0, 4: 4.0, 8: 5.0} == {threads: each.wall_s for threads, each in kept.items()}


@pytest.mark.parametrize(("total", "threads"), [(1, 512), (4_096, 7), (100, 100)])
def test_the_whole_work_is_shared_out(total: int, threads: int) -> None:
    """However many threads there are, they do all of the work, and nearly the same each."""
    shares = oversubscription.shares(total, threads)
    assert (len(shares), sum(shares)) == (threads, total)
    assert max(shares) - min(shares) <= 1


def test_more_threads_than_the_system_gives_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no more threads can be started, those that were come to their end, and the outcome says it."""
    bench = lab()
    made: list[threading.Thread] = []

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    def make(**given: Any) -> threading.Thread:
        made.append((threading.Thread if len(made) < 3 else Refused)(**given))
        return made[-1]

    monkeypatch.setattr(bench, "Thread", make)
    seen = oversubscription.run(Params(threads=9, total=90, reference=False), bench)
    assert (seen["outcome"], seen["reason"]) == ("unavailable", "can't start new thread")
    assert {seen[name] for name in MEASURES} == {None}
    assert "unavailable" in oversubscription.outcomes(Params())
    assert not any(thread.is_alive() for thread in made)


def test_a_free_threaded_build_is_not_asked_for_more_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a thread that finds no memory would hang the run, the outcome says it instead."""
    monkeypatch.setattr(oversubscription.sys, "abiflags", "t")
    monkeypatch.setattr(oversubscription.resource, "getrlimit", lambda _: (6 * 1024**3, 6 * 1024**3))
    oversubscription.expect_room(149)
    seen = oversubscription.run(Params(curve=(150,)), lab())
    assert seen["outcome"] == "unavailable"
    assert "room for 149 threads" in seen["reason"]


def test_as_many_threads_as_can_be_asked_for(run_scenario: Run, every_python: str) -> None:
    """The largest number of threads runs in a child's memory, or is unavailable, on every interpreter."""
    seen = result(run_scenario("oversubscription", every_python, threads=512, total=1, rounds=1, reference=False))
    assert seen["outcome"] in {"not_compared", "unavailable"}
    assert (seen["values"]["wall_s"] is None) == (seen["outcome"] == "unavailable")


def test_ends_at_the_deadline(run_scenario: Run) -> None:
    """A job whose time is up ends, whatever work is left."""
    report = run_scenario("oversubscription", timeout_s=0.3, total=100_000, rounds=25)
    assert report.status == JobState.TIMED_OUT
    assert result(report)["values"] == {}
    assert result(report)["process"]["lived_s"] < 20  # the work would take minutes


@pytest.mark.parametrize(
    ("wall_s", "best_one", "outcome", "grade"),
    [
        (1.2, None, "costly", "interesting"),
        (1.05, None, "little_cost", "acceptable"),
        (0.95, None, "little_cost", "acceptable"),
        (0.5, None, "faster", "acceptable"),
        (1.2, measured(8, 0.5), "costly", "interesting"),
        (1.05, measured(8, 0.9), "past_knee", "interesting"),
        (0.6, measured(8, 0.5), "past_knee", "interesting"),
        (0.6, measured(256, 0.5), "faster", "acceptable"),
        (0.53, measured(8, 0.5), "faster", "acceptable"),
        (1.05, measured(8, 1.0), "little_cost", "acceptable"),
    ],
)
def test_outcomes(wall_s: float, best_one: Measured | None, outcome: str, grade: str) -> None:
    """A tenth more or less is neither cost nor gain, beside one thread as beside the best of fewer."""
    many, one = measured(128, wall_s), measured(1, 1.0)
    assert outcome == oversubscription.judge(many, one, best_one or min(many, one, key=lambda each: each.wall_s))
    assert grade == oversubscription.outcomes(Params())[outcome][0]


def test_the_measures_are_in_the_answer(run_scenario: Run) -> None:
    """What an experiment can compare is a number, but for a price that nobody paid."""
    counted = result(run_scenario("oversubscription", threads=2, total=4))["values"]
    assert "wall_s" == next(iter(MEASURES))
    for name in MEASURES:
        assert isinstance(counted[name], float) or name == "cost_per_switch_s"
