"""Jobs and experiments in a database: SQLite, embedded, one file.

    any thread ── add/move/delete ──▶ waiting ──▶ writer thread: one transaction for all of them ──▶ futures
    any thread ── get/page/unfinished ──▶ a connection of its own, beside the writer (WAL)

Who uses it: `runner`, `experimenter` and `api`, through the seam. SQLAlchemy is known to this file and to
`sql_experiments`, which holds the statements about experiments.

Durability: `synchronous=FULL` with a write-ahead log syncs the log at every commit, so what a future has come back for
survives a kill and a power cut. One writer thread commits everything that has come in while the last commit ran in one
transaction, so that the cost of a sync is shared.

Source: sqlite.org/pragma.html#pragma_synchronous, sqlite.org/wal.html.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from service.errors import IdempotencyConflict, IllegalMove, JobNotFound, StoreUnavailable, ThreadlabError
from service.events import EventLog, JobEvent
from service.experiments import Run
from service.experiments.experiment import Experiment, ExperimentState
from service.jobs import FINAL, Job, JobState
from service.stores import sql_experiments
from service.stores.base import Added, AddedExperiment, Idempotency, JobQuery, Store

__all__ = ["SqlStore"]

T = TypeVar("T")

_MAX_BATCH = 500  # writes in one transaction: keeps a commit under some 50 ms, so that nobody waits long
_LAZY_S = 0.05  # how late a lazy write can come: what it tells of, nobody was told of before
_BUSY_TIMEOUT_MS = 5_000  # how long SQLite waits for another process's lock before it says so

_metadata = sa.MetaData()

_jobs = sa.Table(
    "jobs",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),  # sorts by time of creation
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("scenario", sa.Text, nullable=False),
    sa.Column("lane", sa.Text, nullable=False),
    sa.Column("label", sa.Text),
    sa.Column("rerun_of", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),  # RFC 3339, UTC
    sa.Column("started_at", sa.Text),
    sa.Column("finished_at", sa.Text),
    sa.Column("request", sa.Text, nullable=False),  # JSON, as the next four
    sa.Column("python", sa.Text),
    sa.Column("machine", sa.Text),
    sa.Column("result", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("idempotency_key", sa.Text, unique=True),
    sa.Column("fingerprint", sa.Text),
    sa.Index("jobs_by_status", "status", "id"),
    sa.Index("jobs_by_scenario", "scenario", "id"),
    sa.Index("jobs_by_label", "label", "id"),
)

_lives = sa.Table(
    "lives",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("begun_at", sa.Text, nullable=False),  # RFC 3339, UTC
    sqlite_autoincrement=True,  # a number is never used again, even if its row is gone
)

_logs = sa.Table(
    "event_logs",
    _metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("events", sa.LargeBinary, nullable=False),  # a JSON list, deflated: a tenth of its size
)

_KEPT = [column for column in _jobs.columns if column.name not in ("idempotency_key", "fingerprint")]
_ALL = [column.name for column in _KEPT]
_JSON = frozenset({"request", "python", "machine", "result", "error"})
_TIMES = frozenset({"created_at", "started_at", "finished_at"})
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_CHANGING = ("status", "attempt", "started_at", "finished_at", "python", "machine", "result", "error")

_INSERT = sa.insert(_jobs)
_SELECT = sa.select(*_KEPT).where(_jobs.c.id == sa.bindparam("key"))
_SELECT_BY_KEY = sa.select(*_KEPT, _jobs.c.fingerprint).where(_jobs.c.idempotency_key == sa.bindparam("key"))
_MOVE = sa.update(_jobs).where(_jobs.c.id == sa.bindparam("key"), _jobs.c.status == sa.bindparam("before"))
_MOVE = _MOVE.values({name: sa.bindparam(name) for name in _CHANGING})
_DELETE = sa.delete(_jobs).where(_jobs.c.id == sa.bindparam("key"), _jobs.c.status.in_(sorted(FINAL)))
_SELECT_LOGS = sa.select(_logs.c.epoch, _logs.c.events).where(_logs.c.job_id == sa.bindparam("key"))
_SELECT_LOGS = _SELECT_LOGS.order_by(_logs.c.epoch)
_INSERT_LOG = sa.insert(_logs)
_DELETE_LOG = sa.delete(_logs).where(_logs.c.job_id == sa.bindparam("key"), _logs.c.epoch == sa.bindparam("of"))
_DELETE_LOGS = sa.delete(_logs).where(_logs.c.job_id == sa.bindparam("key"))
_UNFINISHED = sa.select(*_KEPT).where(_jobs.c.status.not_in(sorted(FINAL))).order_by(_jobs.c.id)


class SqlStore(Store):
    """Jobs and experiments in a SQLite database.

    Args:
        url: SQLAlchemy's URL of the database, `sqlite:///path`.
    """

    def __init__(self, url: str) -> None:
        with _translated(f"open {url}"):
            self._engine = sa.create_engine(url)
        if self._engine.url.database in (None, "", ":memory:"):  # each of our connections would see another one
            raise StoreUnavailable(f"{url} names no file: use sqlite:///FILE, or memory: to keep nothing.")
        sa.event.listen(self._engine, "connect", _set_pragmas)
        self._writer = threading.Thread(target=self._write_all, name="store-writer", daemon=True)
        self._news = threading.Condition()
        self._waiting: deque[_Write[Any]] = deque()  # in the order of the calls; guarded by _news
        self._urgent = False  # whether somebody waits for one of them; guarded by _news
        self._closed = False  # guarded by _news
        self._life = 0

    def open(self) -> None:
        """Create the tables where there are none, and start the writer."""
        with _translated(f"open {self._engine.url}"), self._engine.begin() as connection:
            _metadata.create_all(connection)
            sql_experiments.metadata.create_all(connection)
            begun = sa.insert(_lives).returning(_lives.c.id)
            self._life = connection.execute(begun, {"begun_at": datetime.now(UTC).isoformat()}).scalar_one()
        self._writer.start()

    @property
    def life(self) -> int:
        """How often it was opened."""
        return self._life

    def add(self, job: Job, idempotency: Idempotency | None = None, *, lazily: bool = False) -> Future[Added]:
        """Remember a new job; see the base class."""
        return self._write(lambda connection: _add(connection, job, idempotency), lazily)

    def move(self, before: JobState, job: Job, log: EventLog | None = None, *, lazily: bool = False) -> Future[None]:
        """Replace a job; see the base class."""
        deflated = None if log is None else (log.epoch, _deflated(log.events))  # here: the writer has enough to do
        return self._write(lambda connection: _move(connection, before, job, deflated), lazily)

    def delete(self, job_id: str) -> Future[None]:
        """Forget a finished job; see the base class."""
        return self._write(lambda connection: _delete(connection, job_id))

    def get(self, job_id: str) -> Job:
        """Return a job; see the base class."""
        with _translated("read"), self._engine.connect() as connection:
            return _find(connection, job_id)

    def logs(self, job_id: str) -> list[EventLog]:
        """Return what was told of a job; see the base class."""
        with _translated("read"), self._engine.connect() as connection:
            rows = connection.execute(_SELECT_LOGS, {"key": job_id}).all()
        return [EventLog(epoch, json.loads(zlib.decompress(events))) for epoch, events in rows]

    def page(self, query: JobQuery) -> list[Job]:
        """Return the jobs of a page; see the base class."""
        statement = sa.select(*_KEPT).order_by(_jobs.c.id.desc()).limit(query.limit)
        if query.before is not None:
            statement = statement.where(_jobs.c.id < query.before)
        if query.status:
            statement = statement.where(_jobs.c.status.in_(sorted(query.status)))
        if query.scenario is not None:
            statement = statement.where(_jobs.c.scenario == query.scenario)
        if query.label is not None:
            statement = statement.where(_jobs.c.label == query.label)
        with _translated("read"), self._engine.connect() as connection:
            return [_job(row) for row in connection.execute(statement).mappings()]

    def unfinished(self) -> list[Job]:
        """Return all jobs that are queued or running; see the base class."""
        with _translated("read"), self._engine.connect() as connection:
            return [_job(row) for row in connection.execute(_UNFINISHED).mappings()]

    def add_experiment(self, experiment: Experiment, idempotency: Idempotency | None = None) -> Future[AddedExperiment]:
        """Remember a new experiment; see the base class."""
        return self._write(lambda connection: sql_experiments.add(connection, experiment, idempotency))

    def move_experiment(self, before: ExperimentState, experiment: Experiment) -> Future[None]:
        """Replace an experiment; see the base class."""
        return self._write(lambda connection: sql_experiments.move(connection, before, experiment))

    def add_run(self, experiment_id: str, run: Run) -> Future[None]:
        """Remember what a run showed; see the base class."""
        return self._write(lambda connection: sql_experiments.add_run(connection, experiment_id, run), lazily=True)

    def delete_experiment(self, experiment_id: str) -> Future[None]:
        """Forget a finished experiment; see the base class."""
        return self._write(lambda connection: sql_experiments.delete(connection, experiment_id))

    def experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment; see the base class."""
        with _translated("read"), self._engine.connect() as connection:
            return sql_experiments.find(connection, experiment_id)

    def runs(self, experiment_id: str) -> list[Run]:
        """Return the runs of an experiment; see the base class."""
        with _translated("read"), self._engine.connect() as connection:
            return sql_experiments.runs(connection, experiment_id)

    def experiments(self, limit: int, before: str | None = None) -> list[Experiment]:
        """Return experiments, newest first; see the base class."""
        with _translated("read"), self._engine.connect() as connection:
            return sql_experiments.page(connection, limit, before)

    def unfinished_experiments(self) -> list[Experiment]:
        """Return all experiments that are queued or running; see the base class."""
        with _translated("read"), self._engine.connect() as connection:
            return sql_experiments.unfinished(connection)

    def close(self) -> None:
        """Finish the writes and close the database."""
        with self._news:
            self._closed = True
            self._news.notify()
        if self._writer.ident is not None:
            self._writer.join()
        self._engine.dispose()

    def _write(self, change: Callable[[Connection], T], lazily: bool = False) -> Future[T]:
        write = _Write(change)
        with self._news:
            if self._closed:
                write.done.set_exception(StoreUnavailable("The store is closed."))
                return write.done
            self._waiting.append(write)
            if not lazily and not self._urgent:
                self._urgent = True
                self._news.notify()
        return write.done

    def _write_all(self) -> None:
        """Carry out writes until there are no more to come. Runs on the writer thread."""
        while True:
            with self._news:
                self._news.wait_for(lambda: self._urgent or self._closed, _LAZY_S)
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
                self._urgent = bool(self._waiting)
                last = self._closed and not self._waiting
            if batch:
                self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[_Write[Any]]) -> None:
        try:
            with _translated("write"), self._engine.begin() as connection:
                for write in batch:
                    write.carry_out(connection)
        except Exception as exc:  # noqa: BLE001  whatever it is, the writer goes on: others wait for it
            if len(batch) > 1 and not isinstance(exc.__cause__, OperationalError):
                for write in batch:  # one of them cannot be done: let it fail alone
                    self._commit([write])
                return
            refusal = exc if isinstance(exc, StoreUnavailable) else _unfit(exc)
            for write in batch:
                write.done.set_exception(refusal)
        else:
            for write in batch:
                write.tell()


class _Write(Generic[T]):
    """A change that waits for its transaction, and the future of whoever asked for it."""

    def __init__(self, change: Callable[[Connection], T]) -> None:
        self._change = change
        self._value: T
        self._refusal: ThreadlabError | None = None
        self.done: Future[T] = Future()
        self.done.set_running_or_notify_cancel()  # whoever gives up waiting does not take the write back

    def carry_out(self, connection: Connection) -> None:
        """Make the change; a refusal is this write's own and leaves the others of the transaction alone."""
        self._refusal = None
        try:
            self._value = self._change(connection)
        except ThreadlabError as exc:
            self._refusal = exc

    def tell(self) -> None:
        """Resolve the future, after the commit."""
        if self._refusal is not None:
            self.done.set_exception(self._refusal)
        else:
            self.done.set_result(self._value)


def _add(connection: Connection, job: Job, idempotency: Idempotency | None) -> Added:
    if idempotency is not None:
        row = connection.execute(_SELECT_BY_KEY, {"key": idempotency.key}).mappings().one_or_none()
        if row is not None and row["fingerprint"] != idempotency.fingerprint:
            raise IdempotencyConflict(idempotency.key, row["id"])
        if row is not None:
            return Added(_job(row), replayed=True)
    key, fingerprint = (idempotency.key, idempotency.fingerprint) if idempotency else (None, None)
    connection.execute(_INSERT, {**_row(job, _ALL), "idempotency_key": key, "fingerprint": fingerprint})
    return Added(job)


def _move(connection: Connection, before: JobState, job: Job, log: tuple[int, bytes] | None) -> None:
    if connection.execute(_MOVE, {**_row(job, _CHANGING), "key": job.id, "before": before.value}).rowcount != 1:
        now = _find(connection, job.id)
        raise IllegalMove(f"The job is {now.status}, not {before}. {now.story()}")
    if log is not None:
        epoch, events = log
        if job.attempt > 1 or before is JobState.QUEUED:  # an attempt before, in the same life, may have left one
            connection.execute(_DELETE_LOG, {"key": job.id, "of": epoch})
        connection.execute(_INSERT_LOG, {"job_id": job.id, "epoch": epoch, "events": events})


def _delete(connection: Connection, job_id: str) -> None:
    if connection.execute(_DELETE, {"key": job_id}).rowcount != 1:
        job = _find(connection, job_id)
        raise IllegalMove(f"Only a finished job can be deleted; cancel it first. {job.story()}")
    connection.execute(_DELETE_LOGS, {"key": job_id})


def _find(connection: Connection, job_id: str) -> Job:
    row = connection.execute(_SELECT, {"key": job_id}).mappings().one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    return _job(row)


def _row(job: Job, names: Iterable[str]) -> dict[str, Any]:
    return {name: _to_column(name, getattr(job, name)) for name in names}


def _to_column(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _JSON:
        return _ENCODER.encode(value)
    return value.isoformat() if name in _TIMES else value


def _deflated(events: Sequence[JobEvent]) -> bytes:
    return zlib.compress(_ENCODER.encode(events).encode(), level=1)


def _job(row: sa.RowMapping) -> Job:
    values = {column.name: row[column.name] for column in _KEPT}
    for name in _JSON:
        values[name] = None if values[name] is None else json.loads(values[name])
    for name in _TIMES:
        values[name] = None if values[name] is None else datetime.fromisoformat(values[name])
    values["status"] = JobState(values["status"])
    return Job(**values)


def _set_pragmas(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_TIMEOUT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _unfit(exc: Exception) -> StoreUnavailable:
    refusal = StoreUnavailable(f"The database cannot hold this: {type(exc).__name__}: {exc}")
    refusal.__cause__ = exc
    return refusal


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn the database's errors into ours, once, here."""
    try:
        yield
    except SQLAlchemyError as exc:
        cause = getattr(exc, "orig", None) or exc
        raise StoreUnavailable(f"The database could not {what}: {cause}") from exc
