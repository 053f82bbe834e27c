"""The statements about jobs, what they told, and the lives of the service.

Who uses it: `sql`, which owns the connections and the writer. Each function works in the transaction that it is given.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection

from service.errors import IdempotencyConflict, IllegalMove, JobNotFound
from service.events import EventLog, JobEvent
from service.jobs import FINAL, Job, JobHead, JobState
from service.stores.base import Added, Idempotency, JobQuery
from service.stores.faults import readable
from service.stores.sql_tables import event_logs, jobs, lives

__all__ = ["add", "begin_life", "deflated", "delete", "find", "known", "logs", "move", "page", "probe", "unfinished"]

_ALL = [field.name for field in fields(Job)]
_KEPT = [jobs.c[name] for name in _ALL]
_HEAD = [field.name for field in fields(JobHead)]
_OBSERVED = ("outcome", "grade")  # of the result, once more: for who does not read that
_JSON = frozenset({"request", "python", "machine", "result", "error"})
_TIMES = frozenset({"created_at", "started_at", "finished_at"})
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_CHANGING = ("status", "attempt", "started_at", "finished_at", "python", "machine", "result", "error", *_OBSERVED)

_INSERT = sa.insert(jobs)
_SELECT = sa.select(*_KEPT).where(jobs.c.id == sa.bindparam("key"))
_SELECT_BY_KEY = sa.select(*_KEPT, jobs.c.fingerprint).where(jobs.c.idempotency_key == sa.bindparam("key"))
_MOVE = sa.update(jobs).where(jobs.c.id == sa.bindparam("key"), jobs.c.status == sa.bindparam("before"))
_MOVE = _MOVE.values({name: sa.bindparam(name) for name in _CHANGING})
_DELETE = sa.delete(jobs).where(jobs.c.id == sa.bindparam("key"), jobs.c.status.in_(sorted(FINAL)))
_SELECT_LOGS = sa.select(event_logs.c.epoch, event_logs.c.events).where(event_logs.c.job_id == sa.bindparam("key"))
_SELECT_LOGS = _SELECT_LOGS.order_by(event_logs.c.epoch)
_PUT_LOG = sqlite.insert(event_logs)  # an attempt before, in the same life, may have left one
_PUT_LOG = _PUT_LOG.on_conflict_do_update(index_elements=["job_id", "epoch"], set_={"events": _PUT_LOG.excluded.events})
_DELETE_LOGS = sa.delete(event_logs).where(event_logs.c.job_id == sa.bindparam("key"))
_SELECT_HEADS = sa.select(*(jobs.c[name] for name in _HEAD)).order_by(jobs.c.id.desc())
_NEWEST = sa.select(jobs.c.id, jobs.c.status).order_by(jobs.c.id.desc()).limit(1)
_PUT_PROBE = sa.insert(lives).values(id=-1, begun_at="probe")
_DELETE_PROBE = sa.delete(lives).where(lives.c.id == -1)
_UNFINISHED = sa.select(*_KEPT).where(jobs.c.status.in_(sorted(set(JobState) - FINAL))).order_by(jobs.c.id)
_BEGIN_LIFE = sa.insert(lives).returning(lives.c.id)


def begin_life(connection: Connection) -> int:
    """Return the number of the life of the service that begins now."""
    return int(connection.execute(_BEGIN_LIFE, {"begun_at": datetime.now(UTC).isoformat()}).scalar_one())


def add(connection: Connection, job: Job, idempotency: Idempotency | None) -> Added:
    """Remember a new job, or find the one that has its key already."""
    first = None if idempotency is None else known(connection, idempotency)
    if first is not None:
        return Added(first, replayed=True)
    key, fingerprint = (idempotency.key, idempotency.fingerprint) if idempotency else (None, None)
    connection.execute(_INSERT, {**_row(job, (*_ALL, *_OBSERVED)), "idempotency_key": key, "fingerprint": fingerprint})
    return Added(job)


def known(connection: Connection, idempotency: Idempotency) -> Job | None:
    """Return the job that has a key, if there is one."""
    row = connection.execute(_SELECT_BY_KEY, {"key": idempotency.key}).mappings().one_or_none()
    if row is not None and row["fingerprint"] != idempotency.fingerprint:
        raise IdempotencyConflict(idempotency.key, row["id"])
    return None if row is None else _job(row)


def move(connection: Connection, before: JobState, job: Job, log: tuple[int, bytes] | None) -> None:
    """Replace a job, if it is still in that state, and its log of this life, if there is one."""
    if connection.execute(_MOVE, {**_row(job, _CHANGING), "key": job.id, "before": before.value}).rowcount != 1:
        now = find(connection, job.id)
        raise IllegalMove(f"The job is {now.status}, not {before}. {now.story()}")
    if log is not None:
        epoch, events = log
        connection.execute(_PUT_LOG, {"job_id": job.id, "epoch": epoch, "events": events})


def delete(connection: Connection, job_id: str) -> None:
    """Forget a finished job and what it told."""
    if connection.execute(_DELETE, {"key": job_id}).rowcount != 1:
        job = find(connection, job_id)
        raise IllegalMove(f"Only a finished job can be deleted; cancel it first. {job.story()}")
    connection.execute(_DELETE_LOGS, {"key": job_id})


def find(connection: Connection, job_id: str) -> Job:
    """Return a job.

    Raises:
        JobNotFound: there is none.
    """
    row = connection.execute(_SELECT, {"key": job_id}).mappings().one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    return _job(row)


def logs(connection: Connection, job_id: str) -> list[EventLog]:
    """Return what was told of a job in each life, in order."""
    rows = connection.execute(_SELECT_LOGS, {"key": job_id}).all()
    with readable(f"the events of {job_id}", "Delete the job."):
        return [EventLog(epoch, _inflated(events)) for epoch, events in rows]


def page(connection: Connection, query: JobQuery) -> list[JobHead]:
    """Return the jobs of a page as lists show them, newest first."""
    statement = _SELECT_HEADS.limit(query.limit)
    if query.before is not None:
        statement = statement.where(jobs.c.id < query.before)
    if query.status:
        statement = statement.where(jobs.c.status.in_(sorted(query.status)))
    if query.scenario is not None:
        statement = statement.where(jobs.c.scenario == query.scenario)
    if query.label is not None:
        statement = statement.where(jobs.c.label == query.label)
    return [_head(row) for row in connection.execute(statement).mappings()]


def unfinished(connection: Connection) -> list[Job]:
    """Return all that are queued or running, oldest first."""
    return [_job(row) for row in connection.execute(_UNFINISHED).mappings()]


def probe(connection: Connection) -> None:
    """Read where the newest job stands, and have something to commit: a row that is gone again by then."""
    connection.execute(_NEWEST).all()
    connection.execute(_PUT_PROBE)
    connection.execute(_DELETE_PROBE)


def deflated(events: Sequence[JobEvent]) -> bytes:
    """Return events as they are kept."""
    return zlib.compress(_ENCODER.encode(events).encode(), level=1)


def _inflated(kept: bytes) -> list[JobEvent]:
    events = json.loads(zlib.decompress(kept))
    if not isinstance(events, list):
        raise TypeError(f"a list was expected, not {type(events).__name__}")
    return events


def _row(job: Job, names: Iterable[str]) -> dict[str, Any]:
    return {name: _to_column(name, getattr(job, name)) for name in names}


def _to_column(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _JSON:
        return _ENCODER.encode(value)
    return value.isoformat() if name in _TIMES else value


def _job(row: sa.RowMapping) -> Job:
    return Job(**_values(row, _ALL))


def _head(row: sa.RowMapping) -> JobHead:
    return JobHead(**_values(row, _HEAD))


def _values(row: sa.RowMapping, names: Iterable[str]) -> dict[str, Any]:
    remedy = "Delete the job."
    if row["status"] not in FINAL:  # nobody else can
        remedy = "Stop the service, and remove its row from the table `jobs`."
    with readable(str(row["id"]), remedy):
        values = {name: _from_column(name, row[name]) for name in names}
        return {**values, "status": JobState(values["status"])}


def _from_column(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _JSON:
        found = json.loads(value)
        if not isinstance(found, dict):
            raise TypeError(f"{name}: an object was expected, not {type(found).__name__}")
        return found
    return datetime.fromisoformat(value) if name in _TIMES else value
