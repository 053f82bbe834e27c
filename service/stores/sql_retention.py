"""The statements by which old jobs and experiments are forgotten, and their room given back.

Who uses it: `sql`, which owns the connections and the writer. Each function works in the transaction that it is given.

Source: sqlite.org/pragma.html#pragma_incremental_vacuum.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.experiments.experiment import FINAL_EXPERIMENT_STATES
from service.jobs import FINAL, JobState
from service.stores.base import Pruned
from service.stores.sql_tables import clock_marks, event_logs, experiment_runs, experiments, jobs

__all__ = ["give_back", "marks", "prune", "set_marks"]

_PAGES = 1_000  # 4 MB: given back in some 20 ms here

_UNFINISHED = sorted(set(JobState) - FINAL)
_OLD_JOBS = sa.select(jobs.c.id).where(
    jobs.c.finished_at < sa.bindparam("before"),
    jobs.c.status.not_in(_UNFINISHED),  # and not "in": that would keep SQLite from the index of the ends
)
_OLD_JOBS = _OLD_JOBS.order_by(jobs.c.finished_at).limit(sa.bindparam("most"))
_OLD_EXPERIMENTS = sa.select(experiments.c.id).where(
    experiments.c.finished_at < sa.bindparam("before"), experiments.c.status.in_(sorted(FINAL_EXPERIMENT_STATES))
)
_OLD_EXPERIMENTS = _OLD_EXPERIMENTS.order_by(experiments.c.finished_at).limit(sa.bindparam("most"))


def prune(connection: Connection, before: datetime, limit: int) -> Pruned:
    """Forget what finished before a moment, the oldest first, at most `limit` of each kind."""
    old = {"before": before.isoformat(), "most": limit}
    old_jobs = connection.execute(_OLD_JOBS, old).scalars().all()
    if old_jobs:
        connection.execute(sa.delete(event_logs).where(event_logs.c.job_id.in_(old_jobs)))
        connection.execute(sa.delete(jobs).where(jobs.c.id.in_(old_jobs)))
    old_experiments = connection.execute(_OLD_EXPERIMENTS, old).scalars().all()
    if old_experiments:
        connection.execute(sa.delete(experiment_runs).where(experiment_runs.c.experiment.in_(old_experiments)))
        connection.execute(sa.delete(experiments).where(experiments.c.id.in_(old_experiments)))
    return Pruned(len(old_jobs), len(old_experiments))


def give_back(connection: Connection) -> tuple[int, int]:
    """Return how many pages of the file were given back, and how many are still free."""
    before = _free(connection)
    if before:
        cursor = connection.connection.cursor()  # the driver's, which is quicker
        for _ in range(min(before, _PAGES)):  # one by one: that of Python 3.11 never comes to the second of several
            cursor.execute("PRAGMA incremental_vacuum(1)").fetchall()
        cursor.close()
    after = _free(connection)
    return before - after, after


def marks(connection: Connection) -> list[datetime]:
    """Return when the service looked at the clock, in order."""
    statement = sa.select(clock_marks.c.seen_at).order_by(clock_marks.c.seen_at)
    return [datetime.fromisoformat(text) for text in connection.execute(statement).scalars()]


def set_marks(connection: Connection, seen: Sequence[datetime]) -> None:
    """Remember what the clock was seen to show, in place of what was remembered of it."""
    connection.execute(sa.delete(clock_marks))
    connection.execute(sa.insert(clock_marks), [{"seen_at": moment.isoformat()} for moment in seen])


def _free(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())
