"""`/v1/experiments`: submit a matrix of jobs, look at what it shows, cancel it, take it along as a table.

No `from __future__ import annotations` here: see `requests`.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.responses import Response

from service.api import queries
from service.api.access import JobAccess
from service.api.answers import JsonAnswer, documented, tags
from service.api.bodies import NO_NUL, JsonRoute
from service.api.jobs import CURSOR, IdempotencyKey, IfNoneMatch, Prefer, read_cursor, write_cursor
from service.api.pictures import SVG_HEADERS
from service.api.planner import ExperimentPlanner
from service.api.schemas import ExperimentList, ExperimentView, experiment_head, experiment_view
from service.errors import IllegalExperimentMove
from service.experimenter import Experimenter
from service.experiments import Analysis, analyse, csv_text
from service.experiments.experiment import Experiment, ExperimentState
from service.pictures import chart
from service.stores.base import Idempotency, Store

__all__ = ["make_router"]

_MAX_PAGE = 100

_EXAMPLES: dict[str, Any] = {
    "counter_lock": {
        "summary": "What a lock costs, and what is lost without it",
        "value": {"scenario": "counter", "vary": {"lock": [True, False]}, "iterations": 20_000, "repeats": 7},
    },
    "counter_shares": {
        "summary": "The same additions by one, two and four threads: fields that vary together",
        "value": {
            "scenario": "counter",
            "vary": {"threads,iterations": [[1, 200_000], [2, 100_000], [4, 50_000]]},
            "repeats": 7,
        },
    },
    "cpu_bound_models": {
        "summary": "Threads or processes for computing, against one thread",
        "value": {
            "scenario": "cpu_bound",
            "vary": {"threads": [1, 2, 4], "model": ["threads", "processes"]},
            "baseline": {"threads": 1, "model": "threads"},
            "repeats": 7,
            "size": 25,
            "reference": False,
        },
    },
}

ExperimentId = Annotated[
    str,
    Path(
        description="An experiment's `id`.", examples=["exp_01kabcdefghjkmnpqrstvwxyz0"], max_length=64, pattern=NO_NUL
    ),
]


class ListQuery(BaseModel):
    """Which experiments to list."""

    limit: int = Field(20, ge=1, le=_MAX_PAGE, description="Experiments on a page.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.", json_schema_extra=CURSOR)
    label: str | None = Field(None, max_length=200, pattern=NO_NUL, description="Only experiments with this label.")


def _analysis(store: Store, experiment: Experiment) -> Analysis:
    return analyse(
        experiment.cells(),
        store.runs(experiment.id),
        repeats=experiment.repeats,
        measure=experiment.measure,
        baseline=experiment.baseline,
        not_covered=experiment.not_covered,
        usable_cpus=experiment.machine["usable_cpus"],
        finished=experiment.finished,
    )


def make_router(access: JobAccess, planner: ExperimentPlanner, experimenter: Experimenter) -> APIRouter:
    """Return the endpoints of `/v1/experiments`."""
    router = APIRouter(prefix="/v1/experiments", tags=["experiments"], route_class=JsonRoute)
    waiting: dict[int | str, dict[str, Any]] = {
        200: {"model": ExperimentView, "description": "The finished experiment: it ended while the answer was held."},
        202: {"model": ExperimentView, "description": "Accepted and on disk; `Location` says where to look."},
    }

    def look(experiment_id: str) -> tuple[Experiment, Analysis]:
        experiment = access.store.experiment(experiment_id)
        return experiment, _analysis(access.store, experiment)

    async def answer(experiment_id: str, unfinished: int = 200, headers: dict[str, str] | None = None) -> Response:
        experiment, analysis = await access.blocking(look, experiment_id)
        status = 200 if experiment.finished else unfinished
        known = {"ETag": _etag(experiment, analysis), **(headers or {}), **access.headers(experiment.finished)}
        return JsonAnswer(experiment_view(experiment, analysis), status, known)

    async def submit_experiment(body: Any, prefer: Prefer = None, idempotency_key: IdempotencyKey = None) -> Response:
        """Submit an experiment: each combination of the varied fields is run `repeats` times, in an order that is
        random within each repeat. One experiment runs at a time, and one run of it.
        """
        wait = access.wait(prefer)
        experiment = await access.blocking(planner.plan, body)
        idempotency = _idempotency(idempotency_key, experiment, body.seed)
        added = await access.future(experimenter.submit(experiment, idempotency))
        known = added.experiment
        await access.settled(experimenter.watch(known.id), wait.seconds)
        headers = {"Location": f"/v1/experiments/{known.id}", **wait.headers()}
        if added.replayed:
            headers["Idempotent-Replayed"] = "true"
        return await answer(known.id, 202, headers)

    submit_experiment.__annotations__["body"] = Annotated[planner.request_type, Body(openapi_examples=_EXAMPLES)]
    router.post(
        "", status_code=202, response_class=JsonAnswer, responses={**waiting, **documented(413, 415, 422, 503)}
    )(submit_experiment)

    @router.get(
        "",
        response_model=ExperimentList,
        response_class=JsonAnswer,
        responses=documented(422, 503),
        dependencies=[queries.only(ListQuery)],
    )
    async def list_experiments(query: Annotated[ListQuery, Query()]) -> Response:
        """List experiments, newest first, page by page."""
        found = await access.blocking(access.store.experiments, query.limit + 1, read_cursor(query.cursor), query.label)
        shown = found[: query.limit]
        cursor = write_cursor(shown[-1].id) if len(found) > query.limit else None
        return JsonAnswer({"experiments": [experiment_head(each) for each in shown], "next_cursor": cursor})

    @router.get(
        "/{experiment_id}",
        response_model=ExperimentView,
        response_class=JsonAnswer,
        responses=documented(304, 404, 422, 503),
    )
    async def get_experiment(
        experiment_id: ExperimentId,
        prefer: Prefer = None,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """Look at an experiment, at what it has shown so far; with `Prefer: wait=N`, once it is finished."""
        wait = access.wait(prefer)
        await access.settled(experimenter.watch(experiment_id), wait.seconds)
        found = await answer(experiment_id, headers=wait.headers())
        if if_none_match is not None and {"*", found.headers["ETag"]} & tags(if_none_match):
            return Response(status_code=304, headers={"ETag": found.headers["ETag"], **wait.headers()})
        return found

    @router.post(
        "/{experiment_id}/cancel",
        response_model=ExperimentView,
        response_class=JsonAnswer,
        responses=documented(404, 409, 422, 503),
    )
    async def cancel_experiment(experiment_id: ExperimentId) -> Response:
        """End an experiment, queued or running. What it has shown stays; its run is gone when this answers."""
        settled = experimenter.cancel(experiment_id)
        if settled is None:
            now = await access.blocking(access.store.experiment, experiment_id)
        else:
            now = await access.future(settled)
        if settled is None or now.status is not ExperimentState.CANCELLED:
            raise IllegalExperimentMove(f"The experiment is {now.status} already and cannot be cancelled.")
        return await answer(experiment_id)

    @router.delete(
        "/{experiment_id}", status_code=204, response_class=Response, responses=documented(404, 409, 422, 503)
    )
    async def delete_experiment(experiment_id: ExperimentId) -> None:
        """Forget a finished experiment. Its jobs stay."""
        await access.future(access.store.delete_experiment(experiment_id))

    _add_papers(router, access, look)
    return router


def _add_papers(router: APIRouter, access: JobAccess, look: Callable[[str], tuple[Experiment, Analysis]]) -> None:
    """Add what is taken along: the table and the picture."""

    @router.get(
        "/{experiment_id}/table.csv",
        response_class=Response,
        responses={
            200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "A line for each cell."},
            **documented(404, 422, 503),
        },
    )
    async def get_table(experiment_id: ExperimentId) -> Response:
        """Take the rows along as a table, one line for each cell (RFC 4180)."""
        _, analysis = await access.blocking(look, experiment_id)
        headers = {"Content-Disposition": f'attachment; filename="{experiment_id}.csv"'}
        return Response(csv_text(analysis), media_type="text/csv; charset=utf-8; header=present", headers=headers)

    @router.get(
        "/{experiment_id}/chart.svg",
        response_class=Response,
        responses={
            200: {"content": {"image/svg+xml": {"schema": {"type": "string"}}}, "description": "A picture."},
            **documented(304, 404, 422, 503),
        },
    )
    async def get_chart(experiment_id: ExperimentId, if_none_match: IfNoneMatch = None) -> Response:
        """A picture of what it has shown so far: speedup over workers with the ideal line and the knees, else the
        medians with their intervals and how often each outcome was seen.
        """
        experiment, analysis = await access.blocking(look, experiment_id)
        headers = {"ETag": _etag(experiment, analysis), **SVG_HEADERS}
        if if_none_match is not None and {"*", headers["ETag"]} & tags(if_none_match):
            return Response(status_code=304, headers=headers)
        drawn = await access.blocking(chart.draw, experiment, analysis)
        return Response(drawn, media_type="image/svg+xml", headers=headers)


def _idempotency(key: str | None, experiment: Experiment, seed: int | None) -> Idempotency | None:
    """Two requests are the same although one spells out a default; no seed that was drawn counts."""
    if key is None:
        return None
    asked = {**experiment_head(experiment)["request"], "seed": seed, "vary": list(experiment.vary.items())}
    return Idempotency(key, hashlib.sha256(to_json(sorted(asked.items()))).hexdigest())


def _etag(experiment: Experiment, analysis: Analysis) -> str:
    return f'"{experiment.id}-{experiment.status}-{analysis["progress"]["done"]}"'
