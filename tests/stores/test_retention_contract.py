"""What every store promises about forgetting, over all of them; and that the embedded database's file shrinks."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.event import listen

from service.errors import ExperimentNotFound, JobNotFound, StoreUnavailable
from service.events import EventLog
from service.experiments.experiment import Experiment, ExperimentState
from service.jobs import FINAL, Job, JobState
from service.stores import make_store
from service.stores.base import Added, Idempotency, JobQuery, Pruned, Store
from service.stores.sql import SqlStore
from service.stores.sql_database import Database
from tests.stores.helpers import (
    RESULT_S,
    T0,
    ended_job,
    heads,
    make_experiment,
    make_job,
    make_run,
    running_job,
)

_DAY = timedelta(days=1)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each store there is, open."""
    opened = make_store("memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'jobs.db'}")
    opened.open()
    yield opened
    opened.close()


def _done(future: Future[Any]) -> Any:
    return future.result(RESULT_S)


def _remember(store: Store, *jobs: Job) -> tuple[Job, ...]:
    for future in [store.add(job) for job in jobs]:
        _done(future)
    return jobs


def _ended(at: datetime, **changes: Any) -> Job:
    """A job that ended at a moment."""
    return replace(ended_job(**changes), finished_at=at)


def _tested(at: datetime) -> Experiment:
    """An experiment that ended at a moment."""
    return make_experiment().start(T0).end(ExperimentState.SUCCEEDED, at)


def test_what_ended_before_is_forgotten(store: Store) -> None:
    """Jobs that ended before the moment are gone, in each final state; those that ended at it or later stay."""
    old = _remember(store, *(replace(ended_job(status), finished_at=T0) for status in sorted(FINAL)))
    new = _remember(store, _ended(T0 + _DAY), _ended(T0 + 2 * _DAY))
    assert Pruned(len(old), 0) == _done(store.prune(T0 + _DAY, 100))
    assert heads(*reversed(new)) == store.page(JobQuery(limit=100))
    for job in old:
        with pytest.raises(JobNotFound):
            store.get(job.id)
    assert Pruned(0, 0) == _done(store.prune(T0 + _DAY, 100))


def test_what_is_not_finished_is_never_forgotten(store: Store) -> None:
    """However old, what waits or runs stays."""
    jobs = _remember(store, make_job(), running_job(), running_job(3))
    experiments = (make_experiment(), make_experiment().start(T0))
    for experiment in experiments:
        _done(store.add_experiment(experiment))
    assert Pruned(0, 0) == _done(store.prune(T0 + 10_000 * _DAY, 100))
    assert ([*jobs], [*experiments]) == (store.unfinished(), store.unfinished_experiments())


def test_the_oldest_go_first_and_no_more_than_asked(store: Store) -> None:
    """A step forgets as many as it is told, in the order in which they ended, whatever the order of their ids."""
    late, early, middle = _remember(store, _ended(T0 + 2 * _DAY), _ended(T0), _ended(T0 + _DAY))
    left = []
    for _ in range(3):
        assert Pruned(1, 0) == _done(store.prune(T0 + 9 * _DAY, 1))
        left.append({job.id for job in store.page(JobQuery(limit=10))})
    assert [{late.id, middle.id}, {late.id}, set()] == left
    assert early.id not in left[0]


def test_what_a_job_told_goes_with_it(store: Store) -> None:
    """Its events, and its key, which can be used again, are forgotten with a job; those of others are not."""
    logs = {}
    for at in (T0, T0 + 2 * _DAY):
        started = running_job()
        _done(store.add(started, Idempotency(f"key {at}", "fingerprint")))
        ended = replace(ended_job(id=started.id), finished_at=at)
        log = EventLog(store.life, [{"id": "1-1", "kind": "state"}])  # type: ignore[typeddict-item]
        _done(store.move(JobState.RUNNING, ended, log))
        logs[started.id] = log
    (old, _), (new, kept) = logs.items()
    _done(store.prune(T0 + _DAY, 100))
    assert ([], [kept]) == (store.logs(old), store.logs(new))
    job = make_job()
    assert Added(job) == _done(store.add(job, Idempotency(f"key {T0}", "another")))


def test_experiments_go_with_their_runs(store: Store) -> None:
    """A finished experiment that is old is forgotten with its runs, and its jobs only if they are old themselves."""
    job, *_ = _remember(store, _ended(T0 + 3 * _DAY))
    old, new = _tested(T0), _tested(T0 + 2 * _DAY)
    for experiment in (old, new):
        _done(store.add_experiment(experiment))
        _done(store.add_run(experiment.id, make_run(job_id=job.id)))
    assert Pruned(0, 1) == _done(store.prune(T0 + _DAY, 100))
    with pytest.raises(ExperimentNotFound):
        store.experiment(old.id)
    assert ([], 1, [new]) == (store.runs(old.id), len(store.runs(new.id)), store.experiments(10))
    assert job == store.get(job.id)


def test_marks_are_those_that_were_set_last(store: Store) -> None:
    """What the clock showed is remembered in place of what was remembered before, and read in order."""
    assert [] == store.marks()
    for days in ((1, 2, 3), (2, 9, 3)):
        _done(store.set_marks([T0 + day * _DAY for day in days]))
        assert [T0 + day * _DAY for day in sorted(days)] == store.marks()


def test_a_closed_store_forgets_nothing(store: Store) -> None:
    """After its end a store refuses to forget, as it refuses all else."""
    store.close()
    for future in (store.prune(T0, 1), store.set_marks([T0])):
        with pytest.raises(StoreUnavailable, match="The store is closed"):
            _done(future)


# The embedded database.


def test_the_file_shrinks(tmp_path: Path) -> None:
    """When most is forgotten and given back, file and log take a small part of what they took, at once."""
    path = tmp_path / "jobs.db"
    store = SqlStore(f"sqlite:///{path}")
    store.open()
    with closing(store):
        kept = _ended(T0 + 2 * _DAY)
        for future in [store.add(_ended(T0, label="x" * 20_000)) for _ in range(500)] + [store.add(kept)]:
            _done(future)
        store._database.fold()
        before = _size(tmp_path)
        while _done(store.prune(T0 + _DAY, 100)).jobs:
            pass
        steps = 1
        while store.shrink():
            steps += 1
        assert before > 10_000_000
        assert _size(tmp_path) < before / 20
        assert 1 < steps < 10  # in pieces, so that nobody waits for all of it; large ones, for each is synced
        assert heads(kept) == store.page(JobQuery(limit=10))
        assert not store.shrink()
    with closing(sqlite3.connect(path)) as database:
        assert [("ok",)] == database.execute("PRAGMA integrity_check").fetchall()


def _size(folder: Path) -> int:
    """What the database takes on the disk, its log included."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir() if not path.name.endswith("-shm"))


@pytest.mark.parametrize("empty", [False, True], ids=["no file", "an empty file"])
def test_a_new_file_can_shrink_from_its_first_page_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    """A new database is not laid out anew: nothing is copied, and nothing said of it."""
    asked: list[str] = []
    ask = Database._ask

    def noted(database: Database, statement: str) -> Any:
        asked.append(statement)
        return ask(database, statement)

    monkeypatch.setattr(Database, "_ask", noted)
    path = tmp_path / "jobs.db"
    if empty:
        path.touch()
    with caplog.at_level(logging.DEBUG, "service"), closing(SqlStore(f"sqlite:///{path}")) as store:
        store.open()
    assert "VACUUM" not in asked
    assert [] == caplog.messages
    with closing(sqlite3.connect(path)) as database:
        assert (2,) == database.execute("PRAGMA auto_vacuum").fetchone()


_WHOLE = "SELECT id, status, request, result, error, idempotency_key, fingerprint FROM jobs ORDER BY id"


def test_a_file_of_before_shrinks_too(tmp_path: Path) -> None:
    """A file that could not shrink is laid out anew at its first start, once, and then can; nothing in it is lost."""
    path = tmp_path / "jobs.db"
    dump = Path(__file__).parent / "databases" / "events.sql"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(dump.read_text("utf-8"))
        database.execute("CREATE TABLE ballast AS SELECT zeroblob(5000000) AS air")
        database.execute("DROP TABLE ballast")
        database.commit()
        rows = database.execute(_WHOLE).fetchall()
    before = path.stat().st_size
    for _ in range(2):
        with closing(SqlStore(f"sqlite:///{path}")) as store:
            store.open()
    assert path.stat().st_size < before - 4_000_000
    with closing(sqlite3.connect(path)) as database:
        assert rows == database.execute(_WHOLE).fetchall()
        assert (2,) == database.execute("PRAGMA auto_vacuum").fetchone()


def test_a_file_that_cannot_be_laid_out_anew_opens_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is no room for a second copy, the service says so and goes on with the file as long as it is."""
    path = tmp_path / "jobs.db"
    with closing(SqlStore(f"sqlite:///{path}")) as store:
        store.open()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("PRAGMA auto_vacuum=NONE")
        database.execute("VACUUM")
        database.execute("PRAGMA journal_mode=WAL")
    store = SqlStore(f"sqlite:///{path}")
    ask = store._database._ask
    store._database._ask = lambda statement: _full(statement) or ask(statement)  # type: ignore[method-assign]
    with closing(store):
        store.open()
        _remember(store, _ended(T0))
        _done(store.prune(T0 + _DAY, 10))
        assert not store.shrink()
    assert ["the database could not be laid out anew"] == [
        r.message for r in caplog.records if r.levelname == "WARNING"
    ]


def _full(statement: str) -> None:
    if statement == "VACUUM":
        raise sqlite3.OperationalError("database or disk is full")


def test_old_jobs_are_found_by_an_index(tmp_path: Path) -> None:
    """What is old is found without a look at every job."""
    seen: list[tuple[str, Any]] = []
    with closing(SqlStore(f"sqlite:///{tmp_path / 'jobs.db'}")) as store:
        store.open()
        listen(store._database.writer, "before_cursor_execute", lambda *args: seen.append((args[2], args[3])))
        _done(store.prune(T0, 100))
    (asked,) = [each for each in seen if "FROM jobs" in each[0]]
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as database:
        plan = database.execute(f"EXPLAIN QUERY PLAN {asked[0]}", asked[1]).fetchall()
    assert ["SEARCH jobs USING INDEX jobs_by_end (finished_at<?)"] == [row[-1] for row in plan]
