"""`/v1/jobs`: submit, look, wait, cancel, run again, forget.

No `from __future__ import annotations` here: see `requests`.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.responses import Response

from service.api import queries
from service.api.access import JobAccess
from service.api.answers import JsonAnswer, Wait, documented, etag, tags
from service.api.bodies import NO_NUL, JsonRoute
from service.api.requests import RequestUnion
from service.api.schemas import JobList, JobView, job_list_item
from service.catalog import Catalog
from service.errors import IllegalMove
from service.executors.base import JobExecutor
from service.jobs import Job, JobState
from service.runner import Ticket
from service.stores.base import Idempotency, JobQuery

__all__ = [
    "CURSOR",
    "IdempotencyKey",
    "IfNoneMatch",
    "Intake",
    "JobId",
    "Prefer",
    "make_router",
    "read_cursor",
    "write_cursor",
]

_ID = re.compile(r"(job|exp)_[0-9a-hjkmnp-tv-z]{26}")

CURSOR: dict[str, Any] = {"pattern": "^[A-Za-z0-9_-]{40}$"}  # an id in base64; held by `read_cursor`, in its words

_MAX_PAGE = 200  # list items are about 1 kB, so a page stays under 200 kB

JobId = Annotated[
    str,
    Path(description="A job's `id`.", examples=["job_01kabcdefghjkmnpqrstvwxyz0"], max_length=64, pattern=NO_NUL),
]
IfNoneMatch = Annotated[str | None, Header(description="An `ETag` that you have already.")]
Prefer = Annotated[
    str | None,
    Header(description="`wait=N`: hold the answer until the job is finished, at most N seconds (RFC 7240)."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="A text of yours that names this request: sent again, it gives the same job again.",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
    ),
]


class ListQuery(BaseModel):
    """Which jobs to list."""

    limit: int = Field(50, ge=1, le=_MAX_PAGE, description="Jobs on a page.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.", json_schema_extra=CURSOR)
    status: list[JobState] = Field([], max_length=len(JobState), description="Only jobs in one of these states.")
    scenario: str | None = Field(None, max_length=100, pattern=NO_NUL, description="Only jobs of this scenario.")
    label: str | None = Field(None, max_length=200, pattern=NO_NUL, description="Only jobs with this label.")


class Intake:
    """Turns valid requests into jobs and submits them; `/v1/jobs`, `/v1/try` and `/v1/atomicity` share it."""

    def __init__(
        self,
        access: JobAccess,
        catalog: Catalog,
        requests: RequestUnion,
        executor: JobExecutor,
        new_id: Callable[[], str],
    ) -> None:
        self.access = access
        self.requests = requests
        self._catalog = catalog
        self._executor = executor
        self._new_id = new_id

    def job(self, request: Any, rerun_of: str | None = None) -> Job:
        """Return a valid request as a new job, every default filled in."""
        return Job(
            id=self._new_id(),
            scenario=request.scenario,
            lane=self._catalog.get(request.scenario).lane(request),
            request=self.requests.dump(request),
            created_at=datetime.now(UTC),
            label=request.label,
            rerun_of=rerun_of,
        )

    async def submit(
        self, request: Any, prefer: str | None, rerun_of: str | None = None, key: str | None = None
    ) -> Response:
        """Submit a valid request as a new job: 200 with the finished job if it ends in time, else 202.

        Raises:
            InterpreterNotFound: nothing here can run it.
            QueueFull, ShuttingDown: it cannot be taken now.
        """
        wait = self.access.wait(prefer)
        if request.python is not None or request.gil is not None:
            await self.access.blocking(self._executor.choose, request.python, request.gil)
        job = self.job(request, rerun_of)
        idempotency = None if key is None else Idempotency(key, _fingerprint(job.request, rerun_of))
        ticket = self.access.runner.submit(job, idempotency, waits=bool(wait.seconds))
        return await self._answer(ticket, wait)

    async def _answer(self, ticket: Ticket, wait: Wait) -> Response:
        job = await self.access.settled(ticket.settled, wait.seconds)
        added = ticket.accepted.result() if ticket.accepted.done() else await self.access.future(ticket.accepted)
        job = job or (added.job if added.job.finished else self.access.runner.peek(added.job.id) or added.job)
        headers = {"Location": f"/v1/jobs/{job.id}", **wait.headers()}
        if added.replayed:
            headers["Idempotent-Replayed"] = "true"
        return self.access.answer(job, 200 if job.finished else 202, headers)


def make_router(intake: Intake) -> APIRouter:
    """Return the endpoints of `/v1/jobs`."""
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JsonRoute)
    access = intake.access
    waiting: dict[int | str, dict[str, Any]] = {
        200: {"model": JobView, "description": "The finished job: it ended while the answer was held."},
        202: {"model": JobView, "description": "Accepted and on disk; `Location` says where to look."},
    }

    async def submit_job(body: Any, prefer: Prefer = None, idempotency_key: IdempotencyKey = None) -> Response:
        """Submit a job: one run of one scenario, in a child interpreter of its own.

        The body holds `scenario`, that scenario's parameters, and the job's options. What is left out has a default.
        """
        return await intake.submit(body, prefer, key=idempotency_key)

    submit_job.__annotations__["body"] = Annotated[intake.requests.annotation, Body()]
    router.post(
        "", status_code=202, response_class=JsonAnswer, responses={**waiting, **documented(413, 415, 422, 503)}
    )(submit_job)

    @router.get(
        "",
        response_model=JobList,
        response_class=JsonAnswer,
        responses=documented(422, 503),
        dependencies=[queries.only(ListQuery)],
    )
    async def list_jobs(query: Annotated[ListQuery, Query()]) -> Response:
        """List jobs, newest first, page by page."""
        asked = JobQuery(
            limit=query.limit + 1,
            before=read_cursor(query.cursor),
            status=query.status,
            scenario=query.scenario,
            label=query.label,
        )
        jobs = await access.blocking(access.store.page, asked)
        more = len(jobs) > query.limit
        jobs = jobs[: query.limit]
        return JsonAnswer(
            {"jobs": [job_list_item(job) for job in jobs], "next_cursor": write_cursor(jobs[-1].id) if more else None}
        )

    @router.get(
        "/{job_id}", response_model=JobView, response_class=JsonAnswer, responses=documented(304, 404, 422, 503)
    )
    async def get_job(
        job_id: JobId,
        prefer: Prefer = None,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """Look at a job; with `Prefer: wait=N`, once it is finished."""
        wait = access.wait(prefer)
        job = await access.settled(access.runner.watch(job_id), wait.seconds) or await access.job(job_id)
        if if_none_match is not None and {"*", etag(job)} & tags(if_none_match):
            return Response(status_code=304, headers={"ETag": etag(job), **wait.headers()})
        return access.answer(job, headers=wait.headers())

    @router.post(
        "/{job_id}/cancel", response_model=JobView, response_class=JsonAnswer, responses=documented(404, 409, 422, 503)
    )
    async def cancel_job(job_id: JobId) -> Response:
        """End a job, queued or running. Its threads are gone when this answers."""
        settled = access.runner.cancel(job_id)
        job = await access.job(job_id) if settled is None else await access.future(settled)
        if job.status is not JobState.CANCELLED or settled is None:
            raise IllegalMove(f"The job is {job.status} already and cannot be cancelled. {job.story()}")
        return access.answer(job)

    @router.post(
        "/{job_id}/rerun",
        status_code=202,
        response_class=JsonAnswer,
        responses={**waiting, **documented(404, 413, 415, 422, 503)},
    )
    async def rerun_job(
        job_id: JobId,
        changes: Annotated[
            dict[str, Any] | None,
            Body(
                description="Fields to change; the others stay as they were, but for the label of an experiment's run, "
                "which has none then.",
                examples=[{"lock": True}],
            ),
        ] = None,
        prefer: Prefer = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Run a job again, with the fields of the body changed; `rerun_of` names the first one."""
        job = await access.job(job_id)
        others = [name for name in intake.requests.models if name != job.scenario]
        if changes is not None and changes.get("scenario") in others:
            raise _another_scenario(job, changes)
        request = intake.requests.validate(intake.requests.again(job.request, changes or {}))
        return await intake.submit(request, prefer, rerun_of=job.id, key=idempotency_key)

    @router.delete("/{job_id}", status_code=204, response_class=Response, responses=documented(404, 409, 422, 503))
    async def delete_job(job_id: JobId) -> None:
        """Forget a finished job."""
        await access.future(access.store.delete(job_id))

    return router


def _another_scenario(job: Job, changes: dict[str, Any]) -> RequestValidationError:
    """What refuses to make another scenario of a job: the rest of its request is not what that one takes."""
    error = {
        "type": "literal_error",
        "loc": ("body", "scenario"),
        "msg": f"A job is run again by its own scenario, {job.scenario!r}; post a new job for another one.",
        "input": changes["scenario"],
        "ctx": {"expected": repr(job.scenario)},
    }
    return RequestValidationError([error], body=changes)


def _fingerprint(values: dict[str, Any], rerun_of: str | None) -> str:
    return hashlib.sha256(to_json([rerun_of, sorted(values.items())])).hexdigest()


def write_cursor(last_id: str) -> str:
    """Return the opaque cursor of the page after the one that ends with this."""
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> str | None:
    """Return the id that a cursor was made of.

    Raises:
        RequestValidationError: it is none of ours.
    """
    if cursor is None:
        return None
    try:
        last_id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        last_id = ""
    if not _ID.fullmatch(last_id):
        raise RequestValidationError([queries.mistake("cursor", "cursor", cursor, "Not a cursor of ours.")])
    return last_id
