"""Jobs and experiments in a database: SQLite, embedded, one file.

    any thread ── add/move/delete ──▶ `sql_writer`: one transaction for all that wait ──▶ futures
    any thread ── get/page/unfinished ──▶ a connection of its own, beside the writer (WAL)

Who uses it: `runner`, `experimenter`, `retention` and `api`, through the seam. SQLAlchemy is known to this file and to
those that begin with its name: the tables, the statements about each kind of thing, the file and its connections, the
schema's revisions, the writer.

Durability: `synchronous=FULL` with a write-ahead log syncs the log at every commit, so what a future has come back for
survives a kill and a power cut.

Source: sqlite.org/pragma.html#pragma_synchronous, sqlite.org/wal.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime

from service.events import EventLog
from service.experiments import Run
from service.experiments.experiment import Experiment, ExperimentState
from service.jobs import Job, JobHead, JobState
from service.observer import Observer, nobody
from service.stores import sql_experiments, sql_jobs, sql_retention
from service.stores.base import Added, AddedExperiment, Idempotency, JobQuery, Pruned, Store
from service.stores.sql_database import Database
from service.stores.sql_writer import Writer

__all__ = ["SqlStore"]


class SqlStore(Store):
    """Jobs and experiments in a SQLite database.

    Args:
        url: SQLAlchemy's URL of the database, `sqlite:///path`.
        observe: hears of commits and reads.

    Raises:
        StoreUnavailable: the URL names no file.
    """

    def __init__(self, url: str, observe: Observer = nobody) -> None:
        self._database = Database(url, observe)
        self._writer = Writer(self._database, observe)
        self._life = 0

    def open(self) -> None:
        """Take the file, bring it forward, and start the writer; see the base class."""
        self._database.open()
        try:
            with self._database.writing() as connection:
                self._life = sql_jobs.begin_life(connection)
        except BaseException:
            self._database.close()
            raise
        self._writer.start()

    @property
    def life(self) -> int:
        """How often it was opened."""
        return self._life

    def add(self, job: Job, idempotency: Idempotency | None = None, *, lazily: bool = False) -> Future[Added]:
        """Remember a new job; see the base class."""
        return self._writer.write(lambda connection: sql_jobs.add(connection, job, idempotency), lazily)

    def known(self, idempotency: Idempotency) -> Future[Job | None]:
        """Find the job that has a key; see the base class."""
        return self._writer.write(lambda connection: sql_jobs.known(connection, idempotency))

    def move(self, before: JobState, job: Job, log: EventLog | None = None, *, lazily: bool = False) -> Future[None]:
        """Replace a job; see the base class."""
        kept = None if log is None else (log.epoch, sql_jobs.deflated(log.events))  # here: the writer has enough to do
        return self._writer.write(lambda connection: sql_jobs.move(connection, before, job, kept), lazily)

    def delete(self, job_id: str) -> Future[None]:
        """Forget a finished job; see the base class."""
        return self._writer.write(lambda connection: sql_jobs.delete(connection, job_id))

    def get(self, job_id: str) -> Job:
        """Return a job; see the base class."""
        with self._database.reading() as connection:
            return sql_jobs.find(connection, job_id)

    def logs(self, job_id: str) -> list[EventLog]:
        """Return what was told of a job; see the base class."""
        with self._database.reading() as connection:
            return sql_jobs.logs(connection, job_id)

    def page(self, query: JobQuery) -> list[JobHead]:
        """Return the jobs of a page as lists show them; see the base class."""
        with self._database.reading() as connection:
            return sql_jobs.page(connection, query)

    def unfinished(self) -> list[Job]:
        """Return all jobs that are queued or running; see the base class."""
        with self._database.reading() as connection:
            return sql_jobs.unfinished(connection)

    def add_experiment(self, experiment: Experiment, idempotency: Idempotency | None = None) -> Future[AddedExperiment]:
        """Remember a new experiment; see the base class."""
        return self._writer.write(lambda connection: sql_experiments.add(connection, experiment, idempotency))

    def move_experiment(self, before: ExperimentState, experiment: Experiment) -> Future[None]:
        """Replace an experiment; see the base class."""
        return self._writer.write(lambda connection: sql_experiments.move(connection, before, experiment))

    def add_run(self, experiment_id: str, run: Run) -> Future[None]:
        """Remember what a run showed; see the base class."""
        return self._writer.write(
            lambda connection: sql_experiments.add_run(connection, experiment_id, run), lazily=True
        )

    def delete_experiment(self, experiment_id: str) -> Future[None]:
        """Forget a finished experiment; see the base class."""
        return self._writer.write(lambda connection: sql_experiments.delete(connection, experiment_id))

    def experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment; see the base class."""
        with self._database.reading() as connection:
            return sql_experiments.find(connection, experiment_id)

    def runs(self, experiment_id: str) -> list[Run]:
        """Return the runs of an experiment; see the base class."""
        with self._database.reading() as connection:
            return sql_experiments.runs(connection, experiment_id)

    def experiments(self, limit: int, before: str | None = None, label: str | None = None) -> list[Experiment]:
        """Return experiments, newest first; see the base class."""
        with self._database.reading() as connection:
            return sql_experiments.page(connection, limit, before, label)

    def unfinished_experiments(self) -> list[Experiment]:
        """Return all experiments that are queued or running; see the base class."""
        with self._database.reading() as connection:
            return sql_experiments.unfinished(connection)

    def prune(self, before: datetime, limit: int) -> Future[Pruned]:
        """Forget what finished before a moment; see the base class."""
        return self._writer.write(lambda connection: sql_retention.prune(connection, before, limit))

    def shrink(self) -> bool:
        """Give back some of the file; see the base class."""
        given, left = self._writer.write(sql_retention.give_back).result()
        if given and not left:
            self._database.fold()
        return given > 0 and left > 0

    def set_marks(self, marks: Sequence[datetime]) -> Future[None]:
        """Remember what the clock was seen to show; see the base class."""
        return self._writer.write(lambda connection: sql_retention.set_marks(connection, marks))

    def marks(self) -> list[datetime]:
        """Return what the clock was seen to show; see the base class."""
        with self._database.reading() as connection:
            return sql_retention.marks(connection)

    def probe(self) -> None:
        """See whether jobs can be read and written; see the base class."""
        self._writer.write(sql_jobs.probe).result()

    def close(self) -> None:
        """Finish the writes and close the database."""
        self._writer.close()
        self._database.close()
