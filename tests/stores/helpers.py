"""Builders of jobs, experiments and results, and a way to make the writer of a store wait."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from service.experiments import Measure, Run
from service.experiments.experiment import Experiment
from service.jobs import Failure, Job, JobHead, JobState, Report, Result
from service.stores import make_store
from service.stores.base import JobStore
from service.stores.sql import SqlStore

__all__ = [
    "RESULT_S",
    "T0",
    "ended_job",
    "heads",
    "make_experiment",
    "make_job",
    "make_report",
    "make_result",
    "make_run",
    "open_store",
    "running_job",
    "writer_busy",
]

RESULT_S = 20.0  # how long a test waits for a future that should come at once; generous for a busy machine

T0 = datetime(2024, 5, 17, 8, 30, 0, 123456, tzinfo=UTC)

_numbers = itertools.count(1)


def make_job(**changes: Any) -> Job:
    """Return a queued job with an id of its own, greater than that of the one before."""
    values: dict[str, Any] = {
        "id": f"job_{next(_numbers):08d}",
        "scenario": "probe",
        "lane": "wait",
        "request": {"scenario": "probe", "threads": 2, "timeout_s": 10.0},
        "created_at": T0,
    }
    return Job(**{**values, **changes})


def running_job(attempt: int = 1, **changes: Any) -> Job:
    """Return a job that was taken up that many times and runs."""
    job = make_job(**changes)
    for again in range(attempt):
        job = (job.put_back() if again else job).start(T0 + timedelta(seconds=1 + again))
    return job


def ended_job(status: JobState = JobState.SUCCEEDED, **changes: Any) -> Job:
    """Return a job that ran once and ended."""
    return running_job(**changes).finish(make_report(status), T0 + timedelta(seconds=9))


def heads(*jobs: Job) -> list[JobHead]:
    """Return jobs as a page shows them."""
    return [job.head() for job in jobs]


def make_report(status: JobState = JobState.SUCCEEDED, **changes: Any) -> Report:
    """Return what an executor could say of one run; an error where the status calls for one."""
    failed = status in (JobState.FAILED, JobState.LOST)
    values: dict[str, Any] = {
        "status": status,
        "result": make_result(),
        "error": Failure(type="ValueError", message="no", traceback="Traceback: …") if failed else None,
        "python": {"version": "3.13.0", "gil": True},
        "machine": {"cpus": 2},
    }
    return Report(**{**values, **changes})


def make_result(**changes: Any) -> Result:
    """Return a result in which every kind of value occurs."""
    result = Result(
        outcome="lost",
        grade="interesting",
        meaning="At least one addition was overwritten.",
        values={"expected": 4, "actual": 3, "text": "naïve ☃ 𝄞 \x00 end", "nested": [{"deep": [None, True, 0.1]}]},
        timings={"queued_s": None, "startup_s": 0.001, "wall_s": 0.4, "cpu_s": None},
        active_threads={"before": 1, "peak": 5, "after": 1},
        threads=[],
        output=[{"at_s": 0.1, "thread": None, "line": "a\x00b"}, {"at_s": 0.2, "thread": "Thread-1", "line": ""}],
        output_dropped=0,
        process={
            "pid": 7,
            "exit_code": None,
            "signal": "SIGSEGV",
            "lived_s": 0.5,
            "cpu_s": 0.4,
            "max_rss_bytes": 2**40,
        },
        warnings=["\u2028"],
    )
    return Result(**{**result, **changes})  # type: ignore[typeddict-item]


def make_experiment(**changes: Any) -> Experiment:
    """Return a queued experiment of two cells with an id of its own, greater than that of the one before."""
    values: dict[str, Any] = {
        "id": f"exp_{next(_numbers):08d}",
        "scenario": "probe",
        "vary": {"threads": [1, 2]},
        "fixed": {"scenario": "probe", "python": None, "gil": None, "timeout_s": 10.0, "label": None},
        "repeats": 3,
        "seed": 7,
        "measure": Measure("wall_s", "lower"),
        "created_at": T0,
        "machine": {"cpus": 2, "usable_cpus": 2, "platform": "test"},
    }
    return Experiment(**{**values, **changes})


def make_run(**changes: Any) -> Run:
    """Return the first run of the first cell, which succeeded."""
    values: dict[str, Any] = {
        "cell": 0,
        "repeat": 0,
        "job_id": "job_00000001",
        "status": "succeeded",
        "outcome": "lost",
        "grade": "interesting",
        "value": 0.4,
        "load": 0.5,
        "python": "3.13.0",
    }
    return Run(**{**values, **changes})


def open_store(url: str) -> JobStore:
    """Return the store for a URL, open."""
    store = make_store(url)
    store.open()
    return store


@contextmanager
def writer_busy(store: SqlStore) -> Iterator[None]:
    """Keep the store's writer thread busy with a write of its own during the block, so that all others wait."""
    busy, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        busy.set()
        go_on.wait(RESULT_S)

    held = store._writer.write(hold)
    assert busy.wait(RESULT_S)
    try:
        yield
    finally:
        go_on.set()
    held.result(RESULT_S)
