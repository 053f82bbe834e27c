"""Jobs, and lists of them."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from service.api.schemas.base import Answer
from service.api.schemas.results import FailureView, MachineView, PythonView, ResultView
from service.jobs import Grade, Job, JobHead, JobState, Lane

__all__ = ["JobList", "JobListItem", "JobView", "job_list_item", "job_view"]


class _JobHead(Answer):
    """What every account of a job begins with."""

    id: str
    status: JobState
    scenario: str
    label: str | None
    attempt: int
    """How often it was started; more than 1 after a restart of the service."""
    lane: Lane
    """`cpu`: runs alone; `wait`: runs beside many others."""
    rerun_of: str | None
    request: dict[str, Any]
    """Every default filled in."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobLinks(Answer):
    """Where more of it is."""

    self: str
    events: str
    output: str
    trace: str
    """For Perfetto and `chrome://tracing`."""
    timeline: str
    """A picture."""
    page: str
    """For people."""


class JobView(_JobHead):
    """A job and what became of it."""

    links: JobLinks

    python: PythonView | None
    machine: MachineView | None
    result: ResultView | None
    error: FailureView | None


class JobListItem(_JobHead):
    """A job in a list: without its threads and its output."""

    outcome: str | None
    grade: Grade | None


class JobList(Answer):
    """Jobs, newest first."""

    jobs: list[JobListItem]
    next_cursor: str | None
    """Give this as `cursor` for the page of older jobs; null on the last one."""


def job_view(job: Job) -> dict[str, Any]:
    """Return a job in the shape of `JobView`, ready for JSON."""
    result = job.result and {"autopsy": None, "gil": None, "trace": None, **job.result}  # older results have none
    return {
        "id": job.id,
        "links": _links(job),
        **_head(job),
        "python": job.python,
        "machine": job.machine,
        "result": result,
        "error": job.error,
    }


def _links(job: Job) -> dict[str, str]:
    path = f"/v1/jobs/{job.id}"
    return {
        "self": path,
        "events": f"{path}/events",
        "output": f"{path}/output",
        "trace": f"{path}/trace.json",
        "timeline": f"{path}/timeline.svg",
        "page": f"/?{urlencode({'scenario': job.scenario, 'job': job.id})}",
    }


def job_list_item(job: JobHead) -> dict[str, Any]:
    """Return a job in the shape of `JobListItem`, ready for JSON."""
    return {"id": job.id, **_head(job), "outcome": job.outcome, "grade": job.grade}


def _head(job: Job | JobHead) -> dict[str, Any]:
    """What every account of a job begins with, after its id."""
    return {
        "status": job.status.value,
        "scenario": job.scenario,
        "label": job.label,
        "attempt": job.attempt,
        "lane": job.lane,
        "rerun_of": job.rerun_of,
        "request": job.request,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
    }
