"""The scenario `cpu_bound`: the tutorial's key point that threads do not help computation, and what does."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from service.jobs import JobState, Report
from service.scenarios import cpu_bound
from service.scenarios.cpu_bound import Params

Run = Callable[..., Report]

HINTS = typing.get_type_hints(Params)
MODELS = typing.get_args(HINTS["model"])
WORKS = typing.get_args(HINTS["work"])

COMPARED = {"speedup", "no_speedup", "slowdown"}
SMALL = {"threads": 2, "tasks": 3, "size": 1}


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def version(report: Report) -> tuple[int, int]:
    """The interpreter's version."""
    assert report.python is not None
    major, minor = report.python["version"].split(".")[:2]
    return int(major), int(minor)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_on_every_interpreter(run_scenario: Run, every_python: str, model: str) -> None:
    """Whoever works comes to the results of the main thread alone and tells every time, or it is not available."""
    report = run_scenario("cpu_bound", every_python, model=model, **SMALL)
    seen = result(report)
    if model == "interpreters" and version(report) < (3, 13):
        assert (seen["outcome"], seen["grade"]) == ("unavailable", "acceptable")
        assert "No module named" in seen["values"]["reason"]
        assert all(seen["values"][name] is None for name in cpu_bound.MEASURES)
        return
    assert seen["outcome"] in COMPARED, seen["values"]["reason"]
    assert seen["values"]["reason"] is None
    assert all(seen["values"][name] > 0 for name in cpu_bound.MEASURES)
    assert seen["values"]["single_task_s"] <= seen["values"]["sequential_s"]
    assert seen["output"] == []


@pytest.mark.parametrize("work", WORKS)
def test_every_work_in_a_subinterpreter_on_every_interpreter(run_scenario: Run, every_python: str, work: str) -> None:
    """Where there are subinterpreters, each work has what it needs in one, and gives the same result there."""
    report = run_scenario("cpu_bound", every_python, model="interpreters", work=work, **SMALL)
    seen = result(report)
    assert (seen["outcome"] in COMPARED) == (version(report) >= (3, 13)), seen["values"]["reason"]


@pytest.mark.parametrize("work", WORKS)
def test_every_work_in_another_process(run_scenario: Run, work: str) -> None:
    """Each work gives the same result in another process."""
    assert result(run_scenario("cpu_bound", model="processes", work=work, **SMALL))["outcome"] in COMPARED


def test_the_gil_is_the_reason_where_there_is_one_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """The sentence about threads that compute in Python names the GIL where they share one."""
    report = run_scenario("cpu_bound", every_python, **SMALL)
    assert report.python is not None
    assert report.python["gil"] == result(report)["values"]["gil"]
    assert report.python["gil"] == ("keeps the GIL" in result(report)["meaning"])


def test_times_and_ratios_fit_together(run_scenario: Run) -> None:
    """The wall time is start-up, work and end; the ratios are those of the times that are told."""
    told = result(run_scenario("cpu_bound", model="pool", threads=3, tasks=4, size=2))["values"]
    assert told["wall_s"] == pytest.approx(told["startup_s"] + told["work_s"] + told["shutdown_s"])
    assert told["speedup"] == pytest.approx(told["sequential_s"] / told["work_s"])
    assert told["speedup_with_startup"] == pytest.approx(told["sequential_s"] / told["wall_s"])
    assert told["efficiency"] == pytest.approx(told["speedup"] / 3)
    assert told["workers"] == 3


def test_one_after_the_other_is_one_worker(run_scenario: Run) -> None:
    """The model `sequential` has one worker, whatever `threads` says, and makes no thread."""
    seen = result(run_scenario("cpu_bound", model="sequential", threads=8, tasks=2, size=1))
    assert seen["values"]["workers"] == 1
    assert seen["active_threads"]["peak"] == 1


def test_threads_work_and_are_gone(run_scenario: Run) -> None:
    """There are as many threads as workers, each known by its name, and none is left."""
    seen = result(run_scenario("cpu_bound", threads=3, tasks=3, size=1))
    assert [thread["name"] for thread in seen["threads"]][-3:] == ["Worker-0", "Worker-1", "Worker-2"]
    assert (seen["active_threads"]["peak"], seen["active_threads"]["after"]) == (4, 1)


def test_without_a_reference_nothing_is_compared(run_scenario: Run) -> None:
    """Without the reference the ratios are null and the times are told."""
    seen = result(run_scenario("cpu_bound", reference=False, **SMALL))
    ratios = {"speedup", "speedup_with_startup", "efficiency"}
    assert (seen["outcome"], seen["grade"]) == ("not_compared", "acceptable")
    assert ratios == {name for name in cpu_bound.MEASURES if seen["values"][name] is None}
    assert seen["values"]["sequential_s"] is seen["values"]["single_task_s"] is None


def test_a_payload_costs_processes_more_than_threads(run_scenario: Run) -> None:
    """What a task takes along is copied into another process, and shared with a thread."""
    transfers = [
        result(run_scenario("cpu_bound", model=model, payload_bytes=10_000_000, **SMALL))["values"]["transfer_s"]
        for model in ("threads", "processes")
    ]
    assert transfers[0] < transfers[1]


@pytest.mark.parametrize("model", ["threads", "processes"])
def test_an_endless_amount_of_work_ends_at_the_deadline(run_scenario: Run, model: str) -> None:
    """Tasks that take longer than the job may are ended with it."""
    report = run_scenario("cpu_bound", timeout_s=0.3, model=model, tasks=4, size=100_000, reference=False)
    assert report.status == JobState.TIMED_OUT


class PlainLab:
    """A lab without a recorder, for runs in the test's own process."""

    Thread = staticmethod(threading.Thread)

    def __init__(self, checkpoints: int = 1_000) -> None:
        self.left = checkpoints
        self.warnings: list[str] = []
        self.warn = self.warnings.append

    def progress(self, done: int, of: int) -> None:
        """Nobody watches."""

    def checkpoint(self) -> None:
        """Raise when the job is over, as it is after a number of calls."""
        self.left -= 1
        if self.left < 0:
            raise InterruptedError


def run_here(model: str, checkpoints: int = 1_000) -> dict[str, Any]:
    """Run the scenario in the test's own process."""
    lab: Any = PlainLab(checkpoints)
    return cpu_bound.run(Params(model=model, **SMALL), lab)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["sequential", "threads", "pool"])
@pytest.mark.parametrize("checkpoints", range(3, 12))
def test_the_end_of_the_job_ends_the_workers(model: str, checkpoints: int) -> None:
    """Wherever the job ends, its workers end with it."""
    with pytest.raises(InterruptedError):
        run_here(model, checkpoints)


class PublicInterpreter:
    """Stands in for `concurrent.interpreters.Interpreter` of CPython 3.14, with its signatures."""

    def __init__(self, failing: str = "") -> None:
        self._main: dict[str, Any] = {}
        self._failing = failing

    def prepare_main(self, ns: dict[str, Any] | None = None, /, **kwargs: Any) -> None:
        """Set global variables."""
        self._fail("prepare_main")
        self._main.update(ns or {}, **kwargs)

    def exec(self, code: str, /) -> None:
        """Run source text."""
        self._fail("exec")
        exec(code, self._main)

    def close(self) -> None:
        """End it."""
        self._fail("close")

    def _fail(self, method: str) -> None:
        if method == self._failing:
            raise TypeError(f"{method} takes something else now")


def offer(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    """Make `concurrent.interpreters` this module."""
    monkeypatch.setitem(sys.modules, "concurrent.interpreters", module)


def test_the_public_module_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the module of CPython 3.14 the work is done in its interpreters."""
    offer(monkeypatch, SimpleNamespace(create=PublicInterpreter))
    seen = run_here("interpreters")
    assert seen["outcome"] in COMPARED, seen["reason"]


@pytest.mark.parametrize("failing", ["prepare_main", "exec"])
def test_another_api_is_unavailable_and_no_crash(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Where the module does not work as expected, the answer says what failed."""
    offer(monkeypatch, SimpleNamespace(create=lambda: PublicInterpreter(failing)))
    seen = run_here("interpreters")
    assert ("unavailable", f"TypeError: {failing} takes something else now") == (seen["outcome"], seen["reason"])


def test_an_interpreter_that_cannot_be_ended_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured stands when a subinterpreter cannot be ended, and the answer says so."""
    offer(monkeypatch, SimpleNamespace(create=lambda: PublicInterpreter("close")))
    lab: Any = PlainLab()
    assert cpu_bound.run(Params(model="interpreters", **SMALL), lab)["outcome"] in COMPARED  # type: ignore[arg-type]
    assert ["A subinterpreter could not be ended: TypeError: close takes something else now"] * 2 == lab.warnings


def test_a_module_without_create_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that has lost its function is told, too."""
    offer(monkeypatch, SimpleNamespace())
    assert "no attribute 'create'" in run_here("interpreters")["reason"]


def test_no_fork_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without fork cannot run the model `processes`."""

    def get_context(method: str) -> None:
        raise ValueError(f"cannot find context for {method!r}")

    monkeypatch.setattr(multiprocessing, "get_context", get_context)
    assert run_here("processes")["reason"] == "ValueError: cannot find context for 'fork'"


def test_a_wrong_result_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that come to another result than the main thread alone are found out."""

    @contextmanager
    def liars(*_: object) -> Iterator[cpu_bound.Ask]:
        yield lambda tasks: [(-1, 0.1) for _ in tasks]

    monkeypatch.setitem(cpu_bound.TEAMS, "threads", liars)
    assert run_here("threads")["outcome"] == "wrong_result"
    assert cpu_bound.outcomes(Params())["wrong_result"][0] == "forbidden"


@pytest.mark.parametrize(
    ("speedup", "outcome"),
    [(3.9, "speedup"), (1.3, "speedup"), (1.0, "no_speedup"), (0.8, "no_speedup"), (0.7, "slowdown")],
)
def test_how_much_faster_is_faster(speedup: float, outcome: str) -> None:
    """Differences that a busy machine makes by itself are no speed-up and no slow-down."""
    assert outcome == cpu_bound.judge(True, speedup)


@pytest.mark.parametrize(
    ("gil", "params", "at_once"),
    [
        (True, Params(), False),
        (True, Params(model="pool", work="regex"), False),
        (True, Params(work="hash"), True),
        (True, Params(model="pool", work="compress"), True),
        (True, Params(model="processes"), True),
        (True, Params(model="interpreters"), True),
        (False, Params(), True),
        (False, Params(model="sequential"), False),
        (False, Params(threads=1), False),
        (False, Params(tasks=1, model="processes"), False),
    ],
)
def test_what_is_expected_is_acceptable(
    monkeypatch: pytest.MonkeyPatch, gil: bool, params: Params, at_once: bool
) -> None:
    """A speed-up is expected where workers can compute at once, and its absence where they cannot."""
    monkeypatch.setattr(cpu_bound, "gil_enabled", lambda: gil)
    found = cpu_bound.outcomes(params)
    expected, surprising = ("speedup", "no_speedup") if at_once else ("no_speedup", "speedup")
    assert ("acceptable", "interesting") == (found[expected][0], found[surprising][0])
    assert cpu_bound.reason(params) in found[expected][1]
    assert "run it again" in found[surprising][1].lower()


@pytest.mark.parametrize("model", ["threads", "processes"])
def test_a_single_task_is_not_told_of_as_many(model: Any) -> None:
    """Of many workers with one task between them, it is said that all but one have nothing to do."""
    said = cpu_bound.reason(Params(model=model, threads=64, tasks=1))
    assert "the only task" in said
    assert "one task after the other" not in said
    assert "one task after the other" in cpu_bound.reason(Params(model=model, threads=1, tasks=1))
