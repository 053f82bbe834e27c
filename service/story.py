"""A job's story as events: what its threads told, between the states that it passed through.

    0-1 queued │ 7-1 running  7-2 started … 7-n end │ 7-(n+1) succeeded
               │ 7-1 running  7-2 started … 7-n     │ (killed)  8-1 queued again  8-2 running …

Who uses it: `runner` while a job is on its way, the HTTP face for one that is remembered. Pure.

An id is `epoch-n`. Each life of the service is an epoch, in which n counts from 1 for each job without a hole; so ids
grow and never repeat, though nobody can say what was told last by a service that was killed. What was told is written
down with the move that ends an attempt. The first event and the last one are made from the job itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from service.events import EventLog, JobEvent
from service.jobs import Job, JobState

__all__ = ["EventId", "ended", "identified", "queued", "read_id", "returned", "running", "whole"]

EventId = tuple[int, int]

_ID = re.compile(r"(\d{1,9})-(\d{1,9})")


def identified(event: JobEvent, epoch: int, number: int) -> JobEvent:
    """Return an event with its id."""
    return {"id": f"{epoch}-{number}", **event}


def read_id(text: str) -> EventId:
    """Return an id as a pair that sorts as events do.

    Raises:
        ValueError: it is none.
    """
    found = _ID.fullmatch(text)
    if found is None:
        raise ValueError(f"Not an event's id: {text!r:.40}")
    return int(found[1]), int(found[2])


def queued(job: Job) -> JobEvent:
    """The first event of every job."""
    return identified(_state(JobState.QUEUED, 0, job.created_at), 0, 1)


def running(job: Job) -> JobEvent:
    """A lane has taken it up; without an id."""
    return _state(JobState.RUNNING, job.attempt, job.started_at)


def returned(job: Job, at: datetime, reason: str) -> JobEvent:
    """It waits again; without an id."""
    return _state(JobState.QUEUED, job.attempt, at, reason)


def ended(job: Job) -> JobEvent:
    """The last event of a finished job; without an id."""
    return {
        **_state(job.status, job.attempt, job.finished_at, job.error["message"] if job.error else None),
        "outcome": job.outcome,
        "grade": job.grade,
        "meaning": job.result["meaning"] if job.result else None,
    }


def whole(job: Job, logs: Sequence[EventLog]) -> list[JobEvent]:
    """Return all events of a job of which no more will come for now.

    Args:
        logs: what was told in each epoch, in order.
    """
    told = [queued(job), *(event for log in logs for event in log.events)]
    if not job.finished:
        return told
    epoch, number = (logs[-1].epoch, len(logs[-1].events) + 1) if logs else (0, 2)  # of before events were kept
    return [*told, identified(ended(job), epoch, number)]


def _state(status: JobState, attempt: int, at: datetime | None, reason: str | None = None) -> JobEvent:
    when = None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"type": "state", "at": when, "status": status.value, "attempt": attempt, "reason": reason}
