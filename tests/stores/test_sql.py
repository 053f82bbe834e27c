"""What the embedded database promises beyond the contract: durability, shared commits, clear words when it fails."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from service.errors import IllegalMove, JobNotFound, StoreUnavailable
from service.jobs import JobState
from service.stores import make_store
from service.stores.base import Added, Idempotency, JobQuery
from service.stores.memory import MemoryStore
from service.stores.sql import SqlStore
from tests.stores.helpers import (
    RESULT_S,
    T0,
    ended_job,
    heads,
    make_job,
    make_report,
    open_store,
    running_job,
    writer_busy,
)
from tests.support import wait_until

_ROOT = Path(__file__).parents[2]

# Adds jobs as fast as it can, starts each, and says so as soon as that has come back.
_ENDLESS = """
import itertools, os, sys
from datetime import UTC, datetime
from service.jobs import Job, JobState
from service.stores import make_store

store = make_store(sys.argv[1])
store.open()

def say(what, future):
    future.result()
    os.write(1, f"{what}\\n".encode())  # one call, so that a line is whole or absent

for number in itertools.count():
    now = datetime.now(UTC)
    job = Job(f"job_{number:08d}", "probe", "wait", {"number": number}, now)
    added, moved = store.add(job), store.move(JobState.QUEUED, job.start(now))
    added.add_done_callback(lambda future, job=job: say(f"queued {job.id}", future))
    moved.add_done_callback(lambda future, job=job: say(f"running {job.id}", future))
    if number % 8 == 0:
        moved.result()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is, or will be."""
    return tmp_path / "jobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    """An open store."""
    opened = SqlStore(f"sqlite:///{path}")
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def other(path: Path, store: SqlStore) -> Iterator[sqlite3.Connection]:
    """Somebody else's connection to the database of `store`."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def _count_commits(store: SqlStore) -> list[object]:
    commits: list[object] = []
    sa.event.listen(store._database.writer, "commit", commits.append)
    return commits


# Durability.


def test_what_came_back_survives_a_kill(path: Path) -> None:
    """A process that is killed while it writes leaves every job that it was told is on disk, in its last told state."""
    writer = subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, f"sqlite:///{path}"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    assert writer.stdout is not None
    with writer:
        lines = [writer.stdout.readline() for _ in range(150)]
        writer.kill()
        lines += writer.stdout.readlines()
    assert -signal.SIGKILL == writer.returncode
    told = [line.split() for line in lines]
    queued = {job_id for what, job_id in told if what == "queued"}
    running = {job_id for what, job_id in told if what == "running"}
    assert len(queued) >= 75

    store = open_store(f"sqlite:///{path}")
    try:
        found = {job.id: job for job in store.unfinished()}
    finally:
        store.close()
    assert set() == queued - found.keys()
    assert set() == {job_id for job_id in running if found[job_id].status is not JobState.RUNNING}
    assert [{"number": int(job.id[4:])} for job in found.values()] == [job.request for job in found.values()]


def test_a_closed_database_can_be_opened_again(path: Path) -> None:
    """Jobs and keys are there after a restart."""
    url, same = f"sqlite:///{path}", Idempotency("key", "fingerprint")
    job, ended = make_job(), ended_job()
    store = open_store(url)
    store.add(job, same)
    store.add(ended)
    store.close()
    store = open_store(url)
    assert heads(ended, job) == store.page(JobQuery(limit=10))
    assert Added(job, replayed=True) == store.add(make_job(), same).result(RESULT_S)
    store.close()


def test_every_connection_syncs_its_log_at_each_commit(store: SqlStore) -> None:
    """`synchronous` is FULL and the journal a write-ahead log on each connection, however many there are."""
    full, engines = 2, [store._database.reader, store._database.reader, store._database.writer]
    with ExitStack() as open_together:
        for engine in engines:
            connection = open_together.enter_context(engine.connect())
            found = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("synchronous", "journal_mode")
            ]
            assert [full, "wal"] == found


def test_close_leaves_one_file(path: Path, store: SqlStore) -> None:
    """A store that was closed has folded its log into the database: one file can be copied away."""
    store.add(make_job()).result(RESULT_S)
    store.close()
    assert [path] == list(path.parent.iterdir())


# Shared commits.


def test_many_writes_share_a_commit(store: SqlStore) -> None:
    """All that comes in while the writer is busy is committed at once."""
    commits = _count_commits(store)
    jobs = [make_job() for _ in range(100)]
    with writer_busy(store):
        futures = [store.add(job) for job in jobs]
        futures += [store.move(JobState.QUEUED, job.start(T0)) for job in jobs]
        assert not any(future.done() for future in futures)
    for future in futures:
        future.result(RESULT_S)
    expected = 2  # what the writer was busy with, and the rest
    assert expected == len(commits)
    assert [JobState.RUNNING] * 100 == [job.status for job in store.unfinished()]


def test_a_commit_holds_a_limited_number_of_writes(store: SqlStore) -> None:
    """A flood of writes is cut into transactions, so that the first do not wait for the last."""
    commits = _count_commits(store)
    with writer_busy(store):
        futures = [store.add(make_job()) for _ in range(1001)]
    for future in futures:
        future.result(RESULT_S)
    expected = 1 + 3  # what the writer was busy with, then 500, 500 and 1
    assert expected == len(commits)


def test_a_refused_write_leaves_the_others_of_its_transaction(store: SqlStore) -> None:
    """In one transaction, refusals are told to those whom they concern, and all else is written."""
    commits = _count_commits(store)
    first, last = make_job(), make_job()
    with writer_busy(store):
        futures = [
            store.add(first),
            store.move(JobState.RUNNING, ended_job(id=first.id)),
            store.move(JobState.QUEUED, running_job()),
            store.delete(first.id),
            store.add(last),
        ]
    nothing = type(None)
    refusals = [type(future.exception(RESULT_S)) for future in futures]
    assert [nothing, IllegalMove, JobNotFound, IllegalMove, nothing] == refusals
    assert heads(last, first) == store.page(JobQuery(limit=10))
    assert 2 == len(commits)


def _nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"deeper": value}
    return value


_UNWRITABLE = {
    "an id that is taken": {"id": "job_taken"},
    "text that is no Unicode": {"label": "\ud800"},
    "a value that is no JSON": {"request": {"when": T0}},
    "a value nested too deep": {"request": _nested(5000)},
    "a number too large": {"attempt": 2**70},
}


@pytest.mark.parametrize("changes", _UNWRITABLE.values(), ids=_UNWRITABLE.keys())
def test_a_write_that_cannot_be_done_harms_no_other(store: SqlStore, changes: dict[str, Any]) -> None:
    """A job that the database cannot take is refused by itself: its neighbours and all that follows are written."""
    taken, before, behind, later = make_job(id="job_taken"), make_job(), make_job(), make_job()
    store.add(taken).result(RESULT_S)
    with writer_busy(store):
        futures = [store.add(before), store.add(make_job(**changes)), store.add(behind)]
    refusals = [future.exception(RESULT_S / 4) for future in futures]
    assert [True, False, True] == [refusal is None for refusal in refusals]
    assert Added(later) == store.add(later).result(RESULT_S)
    assert heads(taken, later, behind, before) == store.page(JobQuery(limit=10))


def test_a_write_whose_caller_gave_up_is_done_all_the_same(store: SqlStore) -> None:
    """A future that is cancelled before its commit harms neither its own write nor its neighbours'."""
    given_up, waited_for = make_job(), make_job()
    with writer_busy(store):
        store.add(given_up).cancel()
        future = store.add(waited_for)
    assert Added(waited_for) == future.result(RESULT_S / 4)
    assert heads(waited_for, given_up) == store.page(JobQuery(limit=10))


# When the database fails.


def test_a_commit_that_fails_is_told_to_all_of_its_writes(store: SqlStore, other: sqlite3.Connection) -> None:
    """When a transaction fails nothing of it is kept and each caller is told; the next one works again."""
    other.execute("ALTER TABLE jobs RENAME TO hidden")
    with writer_busy(store):
        futures = [store.add(make_job()) for _ in range(3)]
    for future in futures:
        with pytest.raises(StoreUnavailable, match="The database could not write: no such table: jobs"):
            future.result(RESULT_S)
    with pytest.raises(StoreUnavailable, match="The database could not write: no such table: jobs"):
        store.probe()
    reads = [lambda: store.get("job_unknown"), lambda: store.page(JobQuery(limit=1)), store.unfinished]
    for read in reads:
        with pytest.raises(StoreUnavailable, match="The database could not read: no such table: jobs"):
            read()
    other.execute("ALTER TABLE hidden RENAME TO jobs")
    job = make_job()
    assert Added(job) == store.add(job).result(RESULT_S)
    assert heads(job) == store.page(JobQuery(limit=10))


def test_a_lock_of_another_process_is_waited_for(store: SqlStore, other: sqlite3.Connection) -> None:
    """While somebody else writes, reads go on and writes wait instead of failing."""
    job = make_job()
    other.execute("BEGIN IMMEDIATE")
    future = store.add(job)
    assert [] == store.page(JobQuery(limit=10))
    assert not future.done()
    other.execute("COMMIT")
    assert Added(job) == future.result(RESULT_S)


def test_a_directory_that_is_missing_is_named_as_the_reason(tmp_path: Path) -> None:
    """A database whose directory does not exist cannot be opened, and the text says which, why, and what to do."""
    path = tmp_path / "absent" / "jobs.db"
    with pytest.raises(StoreUnavailable, match=r"No such file or directory\. .* folder must exist") as refused:
        open_store(f"sqlite:///{path}")
    assert str(path) in str(refused.value)


def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A directory cannot be opened as a database, nor can a file be made where nothing can be written."""
    for url in (f"sqlite:///{tmp_path}", "sqlite:////proc/jobs.db"):
        with pytest.raises(StoreUnavailable, match=r"unable to open database file|cannot be made") as refused:
            open_store(url)
        assert "folder must exist" in str(refused.value)
    assert not tmp_path.with_name(f"{tmp_path.name}.lock").exists()


def test_a_file_that_is_no_database_is_an_error(path: Path) -> None:
    """Somebody else's file is left as it is."""
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(StoreUnavailable, match=r"could not open .*: file is not a database"):
        open_store(f"sqlite:///{path}")
    assert "Dear diary, " * 1000 == path.read_text()


def test_a_store_that_could_not_be_opened_can_be_closed(tmp_path: Path) -> None:
    """Who cleans up after a failed start need not know how far it came."""
    store = SqlStore(f"sqlite:///{tmp_path / 'absent' / 'jobs.db'}")
    with pytest.raises(StoreUnavailable):
        store.open()
    assert store.close() is None


def test_a_store_that_was_never_opened_can_be_closed(path: Path) -> None:
    """To close is always allowed."""
    store = SqlStore(f"sqlite:///{path}")
    assert store.close() is None
    assert not path.exists()


# Which store.


def test_the_scheme_of_the_url_picks_the_store(path: Path) -> None:
    """`sqlite:` is a file and `memory:` is nothing."""
    for url, kind in ((f"sqlite:///{path}", SqlStore), ("memory:", MemoryStore)):
        store = make_store(url)
        assert kind is type(store)
        store.close()


@pytest.mark.parametrize("url", ["", "jobs.db", "redis://localhost", "mysql://user:secret@host/jobs"])
def test_a_scheme_that_no_store_knows_is_an_error(url: str) -> None:
    """The text says what is possible instead, and does not repeat a password."""
    with pytest.raises(StoreUnavailable, match=r"use sqlite:///threadlab\.db, or memory:") as refused:
        make_store(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite:jobs.db", "sqlite:/jobs.db"])
def test_a_url_that_is_none_is_an_error_of_ours(url: str) -> None:
    """A slash too few is told in our words, not as a foreign error."""
    with pytest.raises(StoreUnavailable):
        open_store(url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused_or_works(url: str) -> None:
    """SQLite's own memory, another one for each thread, is either refused or holds what it is given."""
    job = make_job()
    try:
        store = open_store(url)
    except StoreUnavailable:
        return
    try:
        assert Added(job) == store.add(job).result(RESULT_S)
        assert job == store.get(job.id)
    finally:
        store.close()


def test_times_are_kept_as_text_that_sorts(store: SqlStore, other: sqlite3.Connection) -> None:
    """People who look into the database with a tool of theirs find RFC 3339 in UTC."""
    job = make_job(created_at=T0 + timedelta(microseconds=1))
    store.add(job).result(RESULT_S)
    assert [("2024-05-17T08:30:00.123457+00:00",)] == other.execute("SELECT created_at FROM jobs").fetchall()


def test_what_was_observed_stands_in_columns_of_its_own(store: SqlStore, other: sqlite3.Connection) -> None:
    """Outcome and grade are written with whatever writes a result: an end, and a job that comes as it is."""
    moved, added = make_job(), ended_job()
    store.add(moved).result(RESULT_S)
    store.move(JobState.QUEUED, moved.start(T0)).result(RESULT_S)
    observed = "SELECT outcome, grade FROM jobs ORDER BY id"
    assert [(None, None)] == other.execute(observed).fetchall()
    store.move(JobState.RUNNING, moved.start(T0).finish(make_report(), T0)).result(RESULT_S)
    store.add(added).result(RESULT_S)
    assert [("lost", "interesting")] * 2 == other.execute(observed).fetchall()


def test_a_lazy_write_comes_without_another(tmp_path: Path) -> None:
    """A write that nobody waits for is on disk a moment later, even if no other write comes."""
    store = SqlStore(f"sqlite:///{tmp_path}/jobs.db")
    store.open()
    job = make_job()
    store.add(job).result(20)
    store.move(JobState.QUEUED, job.start(job.created_at), lazily=True)
    wait_until(lambda: store.get(job.id).status is JobState.RUNNING)
    store.close()


def test_a_lazy_write_keeps_its_place(tmp_path: Path) -> None:
    """A lazy write is carried out before those that were called for after it, in one commit with them."""
    store = SqlStore(f"sqlite:///{tmp_path}/jobs.db")
    store.open()
    job = make_job()
    store.add(job).result(20)
    started = job.start(job.created_at)
    first = store.move(JobState.QUEUED, started, lazily=True)
    store.move(JobState.RUNNING, started.put_back()).result(20)
    assert (True, JobState.QUEUED, 1) == (first.done(), store.get(job.id).status, store.get(job.id).attempt)
    store.close()
