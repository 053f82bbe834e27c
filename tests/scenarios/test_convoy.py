"""The scenario `convoy`: a thread that answers, beside threads that compute."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.child.lab import Cancelled, Lab
from service.child.recorder import Recorder
from service.jobs import Report
from service.scenarios import convoy
from service.scenarios.convoy import MEASURES, Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def has_gil(report: Report) -> bool:
    """Whether the job's interpreter has a GIL."""
    assert report.python is not None
    return bool(report.python["gil"])


@pytest.fixture
def lab() -> Lab:
    """A lab for a run in this process."""
    return Lab(Recorder(10_000), 60.0)


@pytest.mark.parametrize("transport", ["udp", "pipe"])
def test_computing_threads_take_the_echoes_away(run_scenario: Run, every_python: str, transport: str) -> None:
    """Beside computing threads few echoes are left where there is a GIL, and it is no convoy where there is none."""
    params = {"transport": transport, "threads": 2, "duration_s": 0.1}
    reports = (run_scenario("convoy", every_python, **params) for _ in range(5))
    report = next(report for report in reports if result(report)["outcome"] == "convoy" or not has_gil(report))
    seen = result(report)
    counted = seen["values"]
    if has_gil(report):
        assert ("convoy", "interesting") == (seen["outcome"], seen["grade"])
        assert counted["share"] < 0.5
        assert counted["latency_p99_s"] > 0.2 * counted["switch_interval_s"]
    else:
        assert seen["outcome"] in {"no_convoy", "crowded"}
        assert "without a GIL" in seen["meaning"]


def test_a_c_call_is_waited_for_whatever_the_interval(run_scenario: Run) -> None:
    """A shorter switch interval does not help beside a call of C code that holds the GIL."""
    reports = (run_scenario("convoy", work="sort", duration_s=0.2, switch_interval_s=0.00001) for _ in range(5))
    report = next(report for report in reports if result(report)["outcome"] == "convoy" or not has_gil(report))
    seen = result(report)
    if has_gil(report):
        assert seen["values"]["latency_p99_s"] > 10 * 0.00001
    assert pytest.approx(0.00001) == seen["values"]["switch_interval_s"]


def test_work_that_releases_the_gil_makes_no_convoy(run_scenario: Run) -> None:
    """Beside threads that compute without the GIL, what is lost is not lost to it."""
    seen = result(run_scenario("convoy", work="hash", duration_s=0.05))
    assert seen["outcome"] in {"no_convoy", "crowded"}
    assert "release the GIL" in seen["meaning"]


def test_with_nobody_computing_there_is_no_convoy(run_scenario: Run) -> None:
    """Without computing threads both phases are the same, and nothing is said of a computing rate."""
    seen = result(run_scenario("convoy", threads=0, duration_s=0.05))
    assert ("no_convoy", "acceptable") == (seen["outcome"], seen["grade"])
    assert "no thread computed" in seen["meaning"]
    assert [None] * 3 == [seen["values"][name] for name in ("chunks_per_s", "chunks_per_s_alone", "compute_share")]


def test_the_numbers_fit_each_other(run_scenario: Run) -> None:
    """The share is that of the two rates, latencies rise with their rank, and every measure is a number."""
    seen = result(run_scenario("convoy", threads=2, duration_s=0.1))
    counted = seen["values"]
    assert pytest.approx(counted["echoes_per_s"] / counted["echoes_per_s_alone"]) == counted["share"]
    for phase in ("latency", "latency_alone"):
        assert 0 < counted[f"{phase}_p50_s"] <= counted[f"{phase}_p95_s"] <= counted[f"{phase}_p99_s"]
    assert all(isinstance(counted[name], float) for name in MEASURES)
    assert min(counted[name] for name in ("echoes", "echoes_alone", "latency_samples", "latency_samples_alone")) >= 1
    assert {"MainThread", "echo", "compute-0", "compute-1"} >= {thread["name"] for thread in seen["threads"]}


def test_the_interpreters_own_interval_is_told(run_scenario: Run) -> None:
    """Without a switch interval of its own the job runs with the interpreter's."""
    counted = result(run_scenario("convoy", threads=0, duration_s=0.02))["values"]
    assert pytest.approx(0.005) == counted["switch_interval_s"]


def test_nobody_to_answer_is_unavailable(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that starts no second process is no failure of the job: the answer says so, and has no numbers."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert {"outcome": "unavailable", **dict.fromkeys(MEASURES)} == convoy.run(Params(), lab)
    assert "Nobody can ask over udp" in lab.warnings[0]


@pytest.mark.parametrize("transport", ["udp", "pipe"])
def test_a_cancelled_job_ends_its_threads_and_the_far_end(lab: Lab, transport: Any) -> None:
    """When the job is cancelled in the middle of a window, nothing runs on."""
    threading.Timer(0.2, lab.cancel).start()
    with pytest.raises(Cancelled):
        convoy.run(Params(transport=transport, duration_s=60.0, threads=2), lab)


def test_a_far_end_that_dies_is_an_error(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the process at the far end ends by itself, the job fails and says why."""
    monkeypatch.setattr(convoy, "_FAR_END", "raise SystemExit(1)")
    with pytest.raises(RuntimeError, match="far end is gone"):
        convoy.run(Params(), lab)


def test_a_window_without_an_answer_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is never answered ends its window when patience is over, and counts for nothing."""
    reads, writes = os.pipe()
    program = convoy._FAR_END.replace(f"seconds + {convoy._PATIENCE_S}", "seconds + 0.05")
    command = [sys.executable, "-I", "-S", "-c", program, str(reads), str(writes)]
    silent, unheard = os.pipe()
    command[-2] = str(silent)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(silent, writes)) as far_end:
        assert far_end.stdout is not None
        assert b'{"count": 0, "per_s": 0.0, "p50": null, "p95": null, "p99": null}\n' == far_end.stdout.readline()
    assert 0 == far_end.returncode
    for descriptor in (reads, writes, silent, unheard):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("params", "share", "outcome", "grade"),
    [
        (Params(), 0.01, "convoy", "interesting"),
        (Params(), 0.9, "no_convoy", "acceptable"),
        (Params(threads=0), 0.01, "no_convoy", "acceptable"),
        (Params(work="hash"), 1.0, "no_convoy", "acceptable"),
        (Params(work="hash"), 0.3, "crowded", "interesting"),
    ],
)
def test_outcomes(params: Params, share: float, outcome: str, grade: str) -> None:
    """Only where the threads want the GIL is the loss of most echoes a convoy."""
    assert outcome == convoy.judge(params, share)
    assert grade == convoy.outcomes(params)[outcome][0]


@pytest.mark.parametrize(
    ("params", "convoy_says", "no_convoy_says"),
    [
        ({}, "or shorten switch_interval_s.", "Try more threads, or a longer duration_s."),
        ({"switch_interval_s": 0.001}, "or shorten switch_interval_s.", "the interpreter's own switch interval"),
        ({"switch_interval_s": 1e-6}, "Compute in another process.", "the interpreter's own switch interval"),
        ({"work": "sort"}, "does nothing against a call", "Try more threads, or a longer duration_s."),
    ],
)
def test_the_advice_fits_the_work(
    monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], convoy_says: str, no_convoy_says: str
) -> None:
    """A shorter interval is proposed where it can be had and helps, the interpreter's own where it is another."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    said = convoy.outcomes(Params(**params))
    assert convoy_says in said["convoy"][1]
    assert no_convoy_says in said["no_convoy"][1]


def test_not_seen_is_never_called_safe() -> None:
    """Where a convoy could have been and was not, the sentence says that one run shows nothing, and what to try."""
    for params in (Params(), Params(threads=0), Params(work="hash")):
        for _, meaning in convoy.outcomes(params).values():
            assert "safe" not in meaning
    assert "does not show" in convoy.outcomes(Params())["no_convoy"][1]
