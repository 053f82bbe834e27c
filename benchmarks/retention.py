"""Forgetting 100,000 old jobs: how long that takes, what whoever writes meanwhile waits, what the file gives back."""

from __future__ import annotations

import random
import string
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_type_hints

from benchmarks.support import banner, summary
from service.events import EventLog
from service.jobs import Job, JobState, Result
from service.retention import Retention
from service.stores.base import JobQuery
from service.stores.sql import SqlStore

_JOBS = 100_000
_KEPT = timedelta(days=30)
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _jobs() -> Iterator[tuple[Job, EventLog]]:
    """Jobs that ended within the year before, as large as `counter`'s with four threads: 3 KB, and 1 KB of events."""
    noise = random.Random(1)
    for number in range(_JOBS):
        ended = _NOW - timedelta(days=31 + 330 * (1 - number / _JOBS))
        text = "".join(noise.choices(string.ascii_letters, k=2_400))
        result: Any = dict.fromkeys(get_type_hints(Result)) | {"outcome": "exact", "values": {"text": text}}
        job = Job(f"job_{number:09d}", "counter", "cpu", {"scenario": "counter", "threads": 4}, ended)
        log: Any = [
            {"id": f"1-{n}", "kind": "note", "text": "".join(noise.choices(string.hexdigits, k=60))} for n in range(16)
        ]
        yield replace(job.start(ended), status=JobState.SUCCEEDED, finished_at=ended, result=result), EventLog(1, log)


def _fill(store: SqlStore) -> None:
    for job, log in _jobs():
        queued = replace(job, status=JobState.QUEUED, finished_at=None, result=None)
        store.add(queued)
        last = store.move(JobState.QUEUED, job, log)
        if int(job.id[4:]) % 500 == 499:
            last.result()
    for mark in range(40):
        store.set_marks([_NOW - timedelta(days=1.5) * (39 - n) for n in range(mark + 1)])
    store._database.fold()  # noqa: SLF001


def _write(store: SqlStore, stop: threading.Event, took: list[float]) -> None:
    """One client after another: a job is added, and that is waited for."""
    while not stop.is_set():
        begun = time.perf_counter()
        store.add(Job(f"new_{len(took):09d}", "counter", "cpu", {}, datetime.now(UTC))).result()
        took.append(time.perf_counter() - begun)
        stop.wait(0.002)


def _size(folder: Path) -> str:
    sizes = {path.suffix: path.stat().st_size for path in folder.iterdir()}
    return f"file {sizes['.db'] / 1e6:.1f} MB, log {sizes.get('.db-wal', 0) / 1e6:.1f} MB"


def main() -> None:
    """Measure and print."""
    banner("retention")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store = SqlStore(f"sqlite:///{folder}/jobs.db")
        store.open()
        _fill(store)
        stop, alone, beside = threading.Event(), [], []
        writer = threading.Thread(target=_write, args=(store, stop, alone))
        writer.start()
        time.sleep(3)
        stop.set()
        writer.join()
        print(f"  {_JOBS} jobs: {_size(Path(folder))}")
        print(f"  a write, alone: {summary(alone)}, {len(alone)} writes")
        stop.clear()
        retention = Retention(store, _KEPT.total_seconds(), lambda: _NOW)
        beside += alone  # their ids go on
        writer = threading.Thread(target=_write, args=(store, stop, beside))
        writer.start()
        begun = time.perf_counter()
        retention._pass(_KEPT)  # noqa: SLF001  one pass, on this thread
        passed = time.perf_counter() - begun
        stop.set()
        writer.join()
        beside = beside[len(alone) :]
        print(f"  a pass that forgets all of them: {passed:.1f} s; after it: {_size(Path(folder))}")
        print(f"  a write, beside it: {summary(beside)}, {len(beside)} writes")
        print(f"  left: {len(store.page(JobQuery(limit=1_000_000)))} jobs, those of the writer")
        store.close()


if __name__ == "__main__":
    main()
