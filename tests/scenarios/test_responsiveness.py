"""The scenario `responsiveness`: a main loop beside long work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from service.child.lab import Cancelled, Lab
from service.child.recorder import Recorder
from service.jobs import JobState, Report
from service.scenarios import responsiveness
from service.scenarios.responsiveness import MEASURES, Params, Ticks

Run = Callable[..., Report]

SHORT = {"work_s": 0.1, "alone_s": 0.0, "limit_s": 0.02}


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def lab(timeout_s: float = 60.0) -> Lab:
    """A lab as a child has one, for a run in the test's own process."""
    return Lab(Recorder(1_000), timeout_s)


def test_inline_work_freezes_the_loop_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Work in a turn of the loop is one gap, as long as the work."""
    seen = result(run_scenario("responsiveness", every_python, where="inline", **SHORT))
    counted = seen["values"]
    assert (seen["outcome"], seen["grade"]) == ("frozen", "interesting")
    assert counted["longest_gap_s"] == counted["gap_p99_s"] == counted["work_wall_s"] > 0.02
    assert counted["ticks_made"] == 1 < counted["ticks_expected"]
    assert counted["start_s"] is None


def test_a_background_thread_lets_the_loop_tick_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """While a thread computes, the loop ticks on, if late."""
    runs = (result(run_scenario("responsiveness", every_python, **SHORT))["values"] for _ in range(5))
    counted = next(run for run in runs if run["ticks_made"] >= 2)  # on a busy machine some runs see one tick
    assert counted["longest_gap_s"] < counted["work_wall_s"]
    assert 0 < counted["start_s"] < counted["work_wall_s"]


def test_one_long_call_in_a_thread_freezes_it_with_a_gil(run_scenario: Run, every_python: str) -> None:
    """A call that keeps the GIL stops the loop from another thread; without a GIL the loop ticks on."""
    reports = (run_scenario("responsiveness", every_python, work="regex", **SHORT) for _ in range(5))
    first = next(reports)
    assert first.python is not None
    if first.python["gil"]:
        assert "frozen" == result(first)["outcome"]
    else:
        assert any(result(report)["values"]["ticks_made"] >= 2 for report in reports)


def test_a_process_leaves_the_loop_alone_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """The same long call in a process has no GIL in common with the loop."""
    given = {"work": "regex", "where": "process", **SHORT}
    runs = (result(run_scenario("responsiveness", every_python, **given)) for _ in range(5))
    seen = next(run for run in runs if run["values"]["ticks_made"] >= 2)  # on a busy machine some runs see one tick
    assert seen["values"]["longest_gap_s"] < seen["values"]["work_wall_s"]
    assert ([], []) == (seen["warnings"], seen["output"][1:])  # no warning of a fork beside threads, either


@pytest.mark.parametrize("where", ["inline", "thread", "process"])
def test_what_stays_below_the_limit_is_responsive(run_scenario: Run, where: str) -> None:
    """Wherever the work runs, a loop with no gap above the limit is responsive."""
    seen = result(run_scenario("responsiveness", where=where, work="hash", work_s=0.02, alone_s=0.0, limit_s=10.0))
    assert (seen["outcome"], seen["grade"]) == ("responsive", "acceptable")


@pytest.mark.parametrize("work", ["python", "regex", "hash", "sleep"])
def test_the_work_is_as_long_as_asked_for(run_scenario: Run, work: str) -> None:
    """Ten times the length is more work, of whatever kind."""
    short, long = (
        result(run_scenario("responsiveness", where="inline", work=work, alone_s=0.0, work_s=work_s))["values"]
        for work_s in (0.02, 0.2)
    )
    assert short["work_wall_s"] < long["work_wall_s"]


def test_the_work_is_cut_over_the_threads(run_scenario: Run) -> None:
    """The threads do a part each at the same time; inline the parts come one after another."""
    given = {"work": "sleep", "threads": 4, "work_s": 0.4, "alone_s": 0.0}
    beside = result(run_scenario("responsiveness", **given))
    assert 4 <= len([thread for thread in beside["threads"] if thread["name"] != "MainThread"])
    assert 0.1 <= beside["values"]["work_wall_s"]
    assert 0.4 <= result(run_scenario("responsiveness", where="inline", **given))["values"]["work_wall_s"]


def test_the_switch_interval_is_set_and_told(run_scenario: Run) -> None:
    """The job runs with the switch interval that it asks for."""
    report = run_scenario("responsiveness", work_s=0.001, alone_s=0.0, switch_interval_s=0.002)
    assert report.python is not None
    assert pytest.approx(0.002) == report.python["switch_interval_s"]


def test_the_loop_alone_is_measured_first(run_scenario: Run) -> None:
    """How late the system alone makes the loop is told beside."""
    counted = result(run_scenario("responsiveness", work="sleep", work_s=0.01, alone_s=0.05))["values"]
    assert counted["alone_gap_p99_s"] > 0 <= counted["alone_late_p50_s"]


def test_missed_ticks_are_dropped() -> None:
    """A loop that was held up makes one tick as late as that, and is then on time again."""
    begun = time.perf_counter() - 0.995
    turns = iter([True, True, False])
    ticks = responsiveness.tick_while(lambda: next(turns), Params(interval_s=0.1), lab(), begun)
    assert 3 == len(ticks.late)
    assert ticks.late[0] >= 0.895
    assert ticks.stamps[0] == begun
    assert [stamp >= begun + due for stamp, due in zip(ticks.stamps[1:], (0.995, 1.0, 1.1), strict=True)] == [True] * 3


def test_the_worst_gaps_come_first() -> None:
    """At most fifty gaps are told, the longest first, each with its beginning."""
    stamps = [10.0 + number**2 for number in range(100)]
    worst = responsiveness.worst(Ticks(stamps, []))
    assert 50 == len(worst)
    assert [{"at_s": 98.0**2, "gap_s": 197.0}, {"at_s": 97.0**2, "gap_s": 195.0}] == worst[:2]


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.001, 1.0)])
def test_percentiles_are_values_that_were_seen(share: float, expected: float) -> None:
    """A percentile is the nearest rank's value, whatever the order."""
    assert expected == responsiveness.percentile([float(number) for number in range(100, 0, -1)], share)


def test_without_fork_a_process_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no fork, the outcome says it, and threads are measured as ever."""
    monkeypatch.setattr(responsiveness, "get_all_start_methods", lambda: ["spawn"])
    seen = responsiveness.run(Params(where="process"), lab())
    assert seen == {"outcome": "unavailable", **dict.fromkeys(MEASURES)}
    assert "acceptable" == responsiveness.outcomes(Params(where="process"))["unavailable"][0]
    assert "unavailable" not in responsiveness.outcomes(Params(where="thread"))


def test_a_process_that_fails_is_told() -> None:
    """A process that did not do its work leaves a warning."""

    class Killed(BaseProcess):
        exitcode = -9

        def __init__(self) -> None:
            pass

        def terminate(self) -> None:
            pass

        def join(self, timeout: float | None = None) -> None:
            pass

    bench = lab()
    responsiveness.end(Killed(), bench)
    assert ["A process ended with exit code -9, its work not done."] == bench.warnings


@pytest.mark.parametrize("where", ["thread", "process"])
def test_ends_at_the_deadline(run_scenario: Run, where: str) -> None:
    """A job whose time is up ends, its loop and its work with it."""
    report = run_scenario("responsiveness", timeout_s=0.3, where=where, work_s=30.0, alone_s=0.0)
    assert report.status == JobState.TIMED_OUT
    assert result(report)["values"] == {}
    assert result(report)["process"]["lived_s"] < 20  # the work would take thirty


def test_the_loop_hears_of_a_cancelling() -> None:
    """A loop whose job was cancelled stops at its next tick."""
    bench = lab()
    bench.cancel()
    with pytest.raises(Cancelled):
        responsiveness.tick_while(lambda: True, Params(), bench)


@pytest.mark.parametrize(
    ("longest_gap_s", "work_wall_s", "outcome"),
    [(0.1, 0.1, "responsive"), (0.2, 1.0, "jittery"), (0.5, 1.0, "frozen"), (1.0, 1.0, "frozen")],
)
@pytest.mark.parametrize("where", ["inline", "thread", "process"])
def test_outcomes(where: Any, longest_gap_s: float, work_wall_s: float, outcome: str) -> None:
    """A gap is judged by the limit first, and then by the time of the work; each sentence says what to try."""
    assert outcome == responsiveness.judge(longest_gap_s, work_wall_s, 0.1)
    grade, meaning = responsiveness.outcomes(Params(where=where))[outcome]
    assert grade == ("acceptable" if outcome == "responsive" else "interesting")
    assert outcome == "responsive" or responsiveness.advice(Params(where=where)) in meaning


@pytest.mark.parametrize(
    ("params", "gil", "right", "wrong"),
    [
        ({"where": "inline", "work": "sleep"}, True, "a thread that waits", "computes"),
        ({"where": "inline", "work": "regex"}, True, "to a process", "a thread or"),
        ({"where": "inline", "work": "regex"}, False, "to a thread or a process", "GIL"),
        ({"threads": 1}, True, "work that releases the GIL", "fewer threads"),
        ({"threads": 8}, True, "fewer threads", "no GIL"),
        ({"work": "regex"}, True, "One call of C code", "start_s"),
        ({"work": "hash"}, True, "no GIL to wait for", "releases the GIL"),
        ({"work": "python"}, False, "no GIL to wait for", "free-threaded"),
        ({"where": "process"}, True, "the cores were busy", "start_s"),
        ({"interval_s": 0.5}, True, "a shorter interval_s", "GIL"),
    ],
)
def test_the_advice_fits_the_work(
    monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], gil: bool, right: str, wrong: str
) -> None:
    """What held the loop up is said of the work that it was, and only what can help is proposed."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: gil, raising=False)
    said = responsiveness.outcomes(Params(**params))["frozen"][1]
    assert right in said
    assert wrong not in said


def test_the_measures_are_in_the_answer(run_scenario: Run) -> None:
    """What an experiment can compare is a number in every run."""
    counted = result(run_scenario("responsiveness", work="sleep", work_s=0.01, alone_s=0.0))["values"]
    assert "longest_gap_s" == next(iter(MEASURES))
    assert all(isinstance(counted[name], float) for name in MEASURES)
