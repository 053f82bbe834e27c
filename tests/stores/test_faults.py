"""When the database cannot: clear words, nothing half-written, and on again as soon as the cause is gone."""

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path

import pytest

from service.errors import StoreUnavailable
from service.jobs import Job, JobHead, JobState
from service.stores.base import Added, JobQuery
from service.stores.sql import SqlStore
from tests.stores.helpers import (
    RESULT_S,
    ended_job,
    heads,
    make_experiment,
    make_job,
    make_run,
    running_job,
    writer_busy,
)

_PAGE = 4_096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is, or will be."""
    return tmp_path / "jobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    """An open store."""
    with closing(_opened(path)) as opened:
        yield opened


def _opened(path: Path) -> SqlStore:
    store = SqlStore(f"sqlite:///{path}")
    store.open()
    return store


@contextmanager
def _other(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else's connection."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def _add(store: SqlStore, job: Job | None = None) -> Job:
    return store.add(job or make_job()).result(RESULT_S).job


def _large() -> Job:
    """A finished job that takes many pages."""
    job = running_job()
    return ended_job(id=job.id, label="x" * 300_000)


def _filled(path: Path, count: int = 200) -> list[Job]:
    """Jobs of a database of many pages, which is closed."""
    jobs = [ended_job(label=f"{'y' * 900} {number}") for number in range(count)]
    with closing(_opened(path)) as store:
        for future in [store.add(job) for job in jobs]:
            future.result(RESULT_S)
    return jobs


# A full disk.


@contextmanager
def _full(store: SqlStore) -> Iterator[None]:
    """Let the file grow no further, for the connection that writes: SQLite's own stand-in for a full disk."""

    def limit(pages: int) -> None:
        store._writer.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()).result(RESULT_S)

    limit(1)  # which means: as many as there are
    yield
    limit(2**30)


def test_a_full_disk_refuses_what_does_not_fit(store: SqlStore) -> None:
    """Nothing of a commit for which there is no room is kept; reads go on; with room again, so do writes."""
    first = _add(store)
    with _full(store):
        with writer_busy(store):
            futures = [store.add(make_job()), store.add(_large())]
        for future in futures:
            with pytest.raises(StoreUnavailable, match=r"database or disk is full\. Make room on its disk\."):
                future.result(RESULT_S)
        assert heads(first) == store.page(JobQuery(limit=10))
    last = _add(store, _large())
    assert heads(last, first) == store.page(JobQuery(limit=10))


def test_a_database_that_can_only_be_read_refuses_writes(store: SqlStore) -> None:
    """While nothing may be written reads go on, and a write says what to change; then it works again."""

    def may_write(allowed: bool) -> None:  # by SQLite's own way to forbid it in the midst of a run
        store._database._ask(f"PRAGMA query_only={'OFF' if allowed else 'ON'}")

    job = _add(store)
    may_write(False)
    with pytest.raises(StoreUnavailable, match=r"readonly database\. Let the user of the service write to the file"):
        _add(store)
    assert heads(job) == store.page(JobQuery(limit=10))
    may_write(True)
    _add(store)


# A lock of another program.


def test_a_database_that_another_program_locks_is_refused(store: SqlStore, path: Path) -> None:
    """A commit waits for another program's lock, then says who is to blame; when that is gone it goes on."""
    with _other(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        future = store.add(make_job())
        assert [] == store.page(JobQuery(limit=10))  # with a write-ahead log readers go on
        with pytest.raises(StoreUnavailable, match=r"database is locked\. Another program holds the file"):
            future.result(RESULT_S)
        other.execute("COMMIT")
        job = _add(store)
    assert heads(job) == store.page(JobQuery(limit=10))


def test_readers_give_up_soon(path: Path) -> None:
    """A reader that meets a lock does not wait for long on a thread that others need."""
    with closing(_opened(path)) as store:
        job = _add(store)
    with _other(path) as other:  # before the store has a connection that reads
        other.execute("PRAGMA journal_mode=DELETE").fetchone()
        store = SqlStore(f"sqlite:///{path}")
        store._database._may_make, store._database._place = False, (path.stat().st_dev, path.stat().st_ino)
        other.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"database is locked"):
            store.get(job.id)
        assert time.monotonic() - begun < 3  # 0.25 s; a busy machine may take its time
        other.execute("COMMIT")
        assert job == store.get(job.id)
        store.close()


def test_a_locked_database_is_not_opened(path: Path) -> None:
    """A start meets another program's lock, waits a while, and says so."""
    _filled(path, 1)
    with _other(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            StoreUnavailable, match=r"could not open .*database is locked\. Another program holds the file"
        ):
            _opened(path)
    _opened(path).close()


# The file goes away.


def test_a_deleted_file_is_told(store: SqlStore, path: Path) -> None:
    """Nothing is accepted into, or read from, a file that nobody would find again; the same file back, all is well."""
    job = _add(store)
    away = path.with_name("away.db")
    path.rename(away)
    for call in _calls(store, job):
        with pytest.raises(StoreUnavailable, match=rf"file {re.escape(str(path))} is gone: put it back, or start"):
            call()
    assert not path.exists()
    away.rename(path)
    assert heads(job) == store.page(JobQuery(limit=10))
    _add(store)


def test_another_file_in_its_place_is_told(store: SqlStore, path: Path) -> None:
    """A copy that was put in the place of the open file is neither read nor written."""
    job = _add(store)
    away, copy = path.with_name("away.db"), path.with_name("copy.db")
    shutil.copy(path, copy)
    path.rename(away)
    copy.rename(path)
    before = path.read_bytes()
    for call in _calls(store, job):
        with pytest.raises(StoreUnavailable, match="is another one than the service opened: put that one back"):
            call()
    assert before == path.read_bytes()
    away.rename(path)
    assert job == store.get(job.id)


def _calls(store: SqlStore, job: Job) -> list[Callable[[], object]]:
    """A write, a deletion, and each kind of read."""
    return [
        lambda: store.add(make_job()).result(RESULT_S),
        lambda: store.delete(job.id).result(RESULT_S),
        lambda: store.get(job.id),
        lambda: store.logs(job.id),
        lambda: store.page(JobQuery(limit=1)),
        lambda: store.experiments(1),
        store.unfinished,
        store.marks,
        store.probe,
    ]


def test_a_deleted_file_is_made_anew_at_the_next_start(path: Path) -> None:
    """Whoever deletes the database has an empty one at the next start, whatever is left of its log."""
    store = _opened(path)
    _add(store)
    path.unlink()
    store.close()
    path.with_name("jobs.db-wal").write_bytes(b"left behind" * 1_000)
    with closing(_opened(path)) as store:
        assert [] == store.page(JobQuery(limit=10))
        _add(store)


# Damage.


def test_a_damaged_header_is_told(path: Path) -> None:
    """A file that no longer begins as a database does is left as it is."""
    _filled(path)
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)
    before = path.read_bytes()
    with pytest.raises(
        StoreUnavailable, match=r"not a database\. The file is damaged, or another program's: put a backup"
    ):
        _opened(path)
    assert before == path.read_bytes()


def _damage(path: Path) -> None:
    """Overwrite pages in the middle of the file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // _PAGE // 3 * _PAGE)
        file.write(b"\xa5" * _PAGE * 20)


def test_damaged_pages_are_told_by_whatever_needs_them(path: Path) -> None:
    """A read or write that meets a damaged page says what to do; what does not meet it goes on."""
    jobs = _filled(path)
    _damage(path)
    with closing(_opened(path)) as store:
        told: list[str] = []
        for job in jobs:
            try:
                assert job == store.get(job.id)
            except StoreUnavailable as exc:
                told.append(str(exc))
        assert 0 < len(told) < len(jobs)
        assert all("database disk image is malformed. The file is damaged. Stop the service" in text for text in told)
        assert all(".recover" in text for text in told)


def test_damage_is_found_at_the_start_after_an_unclean_end(path: Path) -> None:
    """A database that was not closed is checked before anything is written into it."""
    _filled(path)
    copy = path.with_name("copy.db")
    with closing(_opened(path)) as store:
        _add(store)
        for name in ("", "-wal"):  # as a power cut leaves them
            shutil.copy(f"{path}{name}", f"{copy}{name}")
    _damage(copy)
    with pytest.raises(StoreUnavailable, match=r"(is|disk image is) (damaged|malformed).*put a backup in its place"):
        _opened(copy)


def test_a_torn_log_costs_what_was_not_committed(path: Path) -> None:
    """A write-ahead log that ends in the middle of a commit, or in garbage, is used as far as it is whole."""
    copy = path.with_name("copy.db")
    with closing(_opened(path)) as store:
        jobs = [_add(store) for _ in range(20)]
        file, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    found = []
    for torn in (log[: len(log) // 2 + 100], log[:-100] + b"\x00" * 100, log + b"garbage" * 1_000):
        copy.write_bytes(file)
        Path(f"{copy}-wal").write_bytes(torn)
        with closing(_opened(copy)) as store:
            found.append(store.unfinished())
            _add(store)
    half, all_but_last, whole = found
    assert jobs[: len(half)] == half
    assert 0 < len(half) < len(jobs)
    assert [jobs[:-1], jobs] == [all_but_last, whole]


# A row that cannot be read.

_BROKEN = {
    "half a JSON": ("request", '{"scenario": "pro'),
    "JSON of another shape": ("result", "[1, 2]"),
    "a time that is none": ("created_at", "yesterday"),
    "a state that is none": ("status", "sleeping"),
    "bytes that are no text": ("error", b"\xff\xfe"),
}
_LISTED = frozenset(field.name for field in fields(JobHead))


@pytest.mark.parametrize(("column", "value"), _BROKEN.values(), ids=_BROKEN.keys())
def test_a_broken_row_is_told(store: SqlStore, path: Path, column: str, value: str | bytes) -> None:
    """Whatever a row holds, reading it is an error of ours; other rows are read, and it can be removed.

    A page does not read what runs told, and shows the job all the same; a probe does not read what jobs hold.
    """
    whole, broken = _add(store, ended_job()), _add(store, ended_job())
    with _other(path) as other:
        other.execute(f"UPDATE jobs SET {column} = CAST(? AS TEXT) WHERE id = ?", (value, broken.id))
    with pytest.raises(StoreUnavailable, match=rf"{broken.id} cannot be read: |Could not decode"):
        store.get(broken.id)
    if column in _LISTED:
        with pytest.raises(StoreUnavailable, match=rf"{broken.id} cannot be read: "):
            store.page(JobQuery(limit=10))
    else:
        assert heads(broken, whole) == store.page(JobQuery(limit=10))
    assert whole == store.get(whole.id)
    assert store.probe() is None
    if column != "status":
        store.delete(broken.id).result(RESULT_S)
        assert heads(whole) == store.page(JobQuery(limit=10))


def test_a_broken_row_harms_no_other_write(store: SqlStore, path: Path) -> None:
    """In one transaction the write that meets a broken row is refused alone."""
    broken = _add(store, running_job())
    with _other(path) as other:
        other.execute("UPDATE jobs SET request = '{' WHERE id = ?", (broken.id,))
    job = make_job()
    with writer_busy(store):
        refused, written = store.move(JobState.QUEUED, broken), store.add(job)
    with pytest.raises(StoreUnavailable, match=f"{broken.id} cannot be read"):
        refused.result(RESULT_S)
    assert Added(job) == written.result(RESULT_S)


@pytest.mark.parametrize("kept", [b"", b"no zlib", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_a_broken_log_is_told(store: SqlStore, path: Path, kept: bytes) -> None:
    """Events that cannot be read are an error of ours; the job is read all the same."""
    job = _add(store, ended_job())
    with _other(path) as other:
        other.execute("INSERT INTO event_logs VALUES (?, 1, ?)", (job.id, kept))
    with pytest.raises(StoreUnavailable, match=rf"the events of {job.id} cannot be read: .*Delete the job\."):
        store.logs(job.id)
    assert job == store.get(job.id)


def test_a_broken_experiment_is_told(store: SqlStore, path: Path) -> None:
    """An experiment, or a run, that cannot be read is an error of ours."""
    experiment = make_experiment()
    store.add_experiment(experiment).result(RESULT_S)
    store.add_run(experiment.id, make_run()).result(RESULT_S)
    with _other(path) as other:
        other.execute("""UPDATE experiment_runs SET run = '{"unknown": 1}'""")
        with pytest.raises(StoreUnavailable, match=rf"the runs of {experiment.id} cannot be read"):
            store.runs(experiment.id)
        for plan in ("null", "{}", "[", '{"measure": 1}'):
            other.execute("UPDATE experiments SET plan = ?", (plan,))
            for read in (lambda: store.experiment(experiment.id), store.unfinished_experiments):
                with pytest.raises(StoreUnavailable, match=rf"{experiment.id} cannot be read: .*Stop the service"):
                    read()
