"""`/v1/atomicity`: which everyday operations lose updates, on which interpreter, as measured here.

Each cell of the matrix is a job of the scenario `atomicity` under an idempotency key of ours, which names the
operation, the build of the interpreter and the scenario's source: it is run when it is first asked for, and remembered.
"""

import asyncio
import hashlib
import itertools
import typing
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.responses import Response

from service.api import queries
from service.api.answers import JsonAnswer, Wait, documented
from service.api.jobs import Intake, Prefer
from service.api.schemas import Atomicity
from service.catalog import Catalog
from service.executors.base import Interpreter, JobExecutor
from service.jobs import Job, JobState
from service.runner import Ticket
from service.stores.base import Idempotency

__all__ = ["make_router"]

_SCENARIO = "atomicity"
_NOTE = (
    "Measured on the builds named here, and true of them: what was not seen to lose an update here may lose one in "
    "another run, version or build. The language promises none of these operations. Where threads share, use a lock."
)
_COUNTED = (
    "code",
    "finding",
    "expected",
    "actual",
    "lost",
    "lost_share",
    "smallest_iterations",
    "runs",
    "runs_that_lost",
    "operations_done",
    "gap_has_switch",
    "switch_rule",
    "instructions",
)


class MatrixQuery(BaseModel):
    """Which part of the matrix to show."""

    operation: list[str] = Field([], max_length=50, description="Only these operations.")
    python: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        [], max_length=50, description="Only these interpreters, by their selectors; the usable ones if left out."
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """A cell of the matrix."""

    operation: str
    interpreter: Interpreter

    def key(self, digest: str, attempt: int) -> str:
        """The cell's idempotency key; a client's has no spaces."""
        build = f"{self.interpreter.executable} {self.interpreter.build_id} {digest}"
        key = f"{_SCENARIO} {self.operation} {hashlib.sha256(build.encode()).hexdigest()}"
        return key if attempt == 1 else f"{key} {attempt}"


def make_router(catalog: Catalog, intake: Intake, executor: JobExecutor) -> APIRouter:
    """Return the endpoint of `/v1/atomicity`."""
    router = APIRouter(prefix="/v1", tags=["system"])
    access = intake.access
    scenario = catalog.get(_SCENARIO)
    operations = typing.get_args(scenario.hints()["operation"])

    @router.get(
        "/atomicity",
        response_model=Atomicity,
        response_class=JsonAnswer,
        responses=documented(422, 503),
        dependencies=[queries.only(MatrixQuery)],
    )
    async def get_atomicity(query: Annotated[MatrixQuery, Query()], prefer: Prefer = None) -> Response:
        """Show which everyday operations lose updates on which interpreter, each with the smallest run that showed it
        and the places where another thread can come in. What is not known yet is measured now: ask again until
        `complete`, or wait with `Prefer: wait=N`.
        """
        wait = access.wait(prefer)
        asked = _chosen(query.operation, operations)
        interpreters = await access.blocking(_interpreters, executor, query.python)
        places = [_Place(operation, each) for each in interpreters for operation in asked]
        jobs = await _measured(places, wait)
        done = sum(job.finished for job in jobs)
        answer = {
            "note": _NOTE,
            "complete": done == len(jobs),
            "progress": {"done": done, "of": len(jobs)},
            "operations": list(asked),
            "interpreters": [_head(each) for each in interpreters],
            "cells": [_cell(place, job) for place, job in zip(places, jobs, strict=True)],
        }
        return JsonAnswer(answer, headers={**wait.headers(), **access.headers(done == len(jobs))})

    async def _measured(places: list[_Place], wait: Wait) -> list[Job]:
        """The job of each place, as far as it has come when the client has waited long enough."""
        submitted = await asyncio.gather(*map(_submitted, places))
        settled = [asyncio.wrap_future(ticket.settled) for ticket, _ in submitted]
        if settled and wait.seconds:
            await asyncio.wait(settled, timeout=wait.seconds)
        jobs = []
        for (_, accepted), future in zip(submitted, settled, strict=True):
            if future.done() and future.exception() is None:
                jobs.append(future.result())
            else:
                future.cancel()
                jobs.append(access.runner.peek(accepted.id) or accepted)
        return jobs

    async def _submitted(place: _Place) -> tuple[Ticket, Job]:
        """The job of a place, new or remembered; one that was cancelled or got lost has measured nothing."""
        for attempt in itertools.count(1):
            idempotency = Idempotency(place.key(scenario.digest, attempt), fingerprint="")
            ticket = access.runner.submit(_job(place), idempotency)
            job = (await access.future(ticket.accepted)).job
            if job.status not in (JobState.CANCELLED, JobState.LOST):
                break
        return ticket, job

    def _job(place: _Place) -> Job:
        asked = {"scenario": _SCENARIO, "operation": place.operation, "python": place.interpreter.selector}
        return intake.job(intake.requests.validate({**asked, "label": _SCENARIO}))

    return router


def _chosen(asked: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [each for each in asked if each not in known]
    if unknown:
        text = f"There is no operation {unknown[0]!r}."
        raise RequestValidationError([queries.mistake("literal_error", "operation", unknown[0], text, known)])
    return tuple(each for each in known if not asked or each in asked)


def _interpreters(executor: JobExecutor, asked: list[str]) -> list[Interpreter]:
    if asked:
        chosen = [executor.choose(python, None) for python in asked]
        return list({each.executable: each for each in chosen}.values())  # two selectors may mean the same one
    return [each for each in executor.interpreters() if each.usable]


def _head(interpreter: Interpreter) -> dict[str, Any]:
    names = ("selector", "version", "free_threaded", "gil", "build_id", "executable")
    return {name: getattr(interpreter, name) for name in names}


def _cell(place: _Place, job: Job) -> dict[str, Any]:
    values = {} if job.result is None else job.result["values"]
    return {
        "operation": place.operation,
        "python": place.interpreter.selector,
        "status": job.status.value,
        "job_id": job.id,
        "measured_at": job.finished_at,
        "outcome": job.outcome,
        "grade": job.grade,
        **{name: values.get(name) for name in _COUNTED},
        "error": job.error,
    }
