"""`/v1/experiments`: submit a matrix of jobs, look at what it shows, cancel it, take it along as a table.

No `from __future__ import annotations` here: see `requests`.
"""

import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from service.api.answers import Desk, JsonAnswer, documented, tags
from service.api.jobs import IdempotencyKey, Prefer, read_cursor, write_cursor
from service.api.requests import RequestUnion
from service.api.schemas import ExperimentList, ExperimentView, experiment_head, experiment_view
from service.catalog import Catalog, Scenario
from service.child import cage
from service.errors import BadExperiment, IllegalExperimentMove, InterpreterNotFound
from service.executors.base import JobExecutor
from service.experimenter import Experimenter
from service.experiments import Analysis, Cell, Measure, NotCovered, analyse, check_baseline, csv_text, expand
from service.experiments.experiment import Experiment, ExperimentState
from service.stores.base import Idempotency, Store

__all__ = ["ExperimentLimits", "Laboratory", "make_router"]

_MAX_PAGE = 100
_MAX_TOLD = 20  # mistakes in one answer
_SEEDS = 2**32
_NEVER_VARIED = ("scenario", "label")  # an experiment is about one scenario, and the label is how its jobs are found

ExperimentId = Annotated[
    str, Path(description="An experiment's `id`.", examples=["exp_01kabcdefghjkmnpqrstvwxyz0"], max_length=64)
]


class ExperimentRequest(BaseModel):
    """A matrix of jobs over one scenario; every field that is not listed here is the job's, the same in all cells."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True, strict=True)

    scenario: str = Field(max_length=100)
    vary: dict[str, list[Any]] = Field(
        min_length=1, examples=[{"threads": [1, 2, 4], "lock": [True, False]}, {"threads,iterations": [[1, 8], [8, 1]]}]
    )
    """Lists of values by field of the job; what is run is their product. Fields that vary together stand in one key,
    with commas between them, and each of its values is a list of that many."""
    repeats: int = Field(5, ge=1)
    """Runs of each cell. From 6 on an interval can be 95 % sure."""
    seed: int | None = Field(None, ge=0, lt=_SEEDS)
    """Of the random order in which the cells run within each repeat; null draws one."""
    baseline: dict[str, Any] | None = Field(None, examples=[{"threads": 1}])
    """Values of some of the varied fields: each cell is compared with the one that has these and is the same otherwise.
    Null is the first cell, for all."""
    measure: str | None = Field(None, max_length=100, examples=["wall_s"])
    """What is compared: one of the scenario's `measures`; null is the first of them."""
    label: str | None = Field(None, min_length=1, max_length=200)
    """A text of yours to find the experiment again by."""


class ListQuery(BaseModel):
    """Which experiments to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=_MAX_PAGE, description="Experiments on a page.")
    cursor: str | None = Field(None, max_length=100, description="`next_cursor` of the page before.")


class ExperimentLimits(BaseModel):
    """What an experiment may ask for."""

    max_cells: int
    max_repeats: int

    def request_type(self) -> type[ExperimentRequest]:
        """Return the request with these limits in its schema."""

        class Limited(ExperimentRequest):
            __doc__ = ExperimentRequest.__doc__

            repeats: int = Field(
                5, ge=1, le=self.max_repeats, description="Runs of each cell. From 6 on an interval can be 95 % sure."
            )

        Limited.__name__ = Limited.__qualname__ = "ExperimentRequest"
        return Limited


class Laboratory:
    """Turns valid requests into experiments, and what is remembered of them into answers.

    Args:
        new_id: gives ids that sort by time.
    """

    def __init__(
        self,
        catalog: Catalog,
        requests: RequestUnion,
        executor: JobExecutor,
        limits: ExperimentLimits,
        new_id: Callable[[], str],
    ) -> None:
        self._catalog = catalog
        self._requests = requests
        self._executor = executor
        self._limits = limits
        self._new_id = new_id
        self.request_type = limits.request_type()

    def plan(self, asked: ExperimentRequest) -> Experiment:
        """Return the experiment that is asked for. Blocks: interpreters may have to be found.

        Raises:
            ScenarioNotFound: nobody knows the scenario.
            BadExperiment, RequestValidationError: it cannot be; the text says where.
            InterpreterNotFound: nothing here can run any of it.
        """
        scenario = self._scenario(asked.scenario)
        cells = self._cells(asked)
        check_baseline(cells, asked.baseline)
        requests = self._check_cells(asked, cells)
        varied = cells[0].values
        return Experiment(
            id=self._new_id(),
            scenario=scenario.name,
            vary=asked.vary,
            fixed={name: value for name, value in requests[0].items() if name not in varied},
            repeats=asked.repeats,
            seed=secrets.randbelow(_SEEDS) if asked.seed is None else asked.seed,
            measure=_measure(scenario, asked.measure),
            created_at=datetime.now(UTC),
            machine=cage.about()["machine"],
            baseline=asked.baseline,
            label=asked.label,
            not_covered=self._not_covered(asked.vary, cells, requests),
        )

    def _scenario(self, name: str) -> Scenario:
        if name not in self._catalog.names:
            raise BadExperiment(("scenario",), f"There is no scenario {name!r}.", sorted(self._catalog.names))
        return self._catalog.get(name)

    def _cells(self, asked: ExperimentRequest) -> tuple[Cell, ...]:
        cells = expand(asked.vary)
        if len(cells) > self._limits.max_cells:
            text = f"That makes {len(cells):,} cells; {self._limits.max_cells:,} can be. Vary fewer values."
            raise BadExperiment(("vary",), text)
        for field in cells[0].values:
            if field in _NEVER_VARIED:
                raise BadExperiment(("vary", field), f"{field} is the same in all cells of an experiment.")
            if field in (asked.model_extra or {}):
                raise BadExperiment((field,), f"{field} is varied: it cannot be the same in all cells, too.")
        return cells

    def _check_cells(self, asked: ExperimentRequest, cells: tuple[Cell, ...]) -> list[dict[str, Any]]:
        """Return the request of each cell, every default filled in."""
        requests: list[dict[str, Any]] = []
        found: dict[Any, dict[str, Any]] = {}
        for cell in cells:
            body = {**(asked.model_extra or {}), **cell.values, "scenario": asked.scenario}
            try:
                requests.append(self._requests.dump(self._requests.parse(body)))
            except ValidationError as exc:
                places = _places(asked.vary, cell)
                for error in exc.errors():
                    field = error["loc"][1] if len(error["loc"]) > 1 else None
                    key = (error["type"], error["loc"], places.get(field))
                    found.setdefault(key, {**error, "loc": ("body", *error["loc"]), "places": places, "body": body})
        if found:
            raise RequestValidationError(list(found.values())[:_MAX_TOLD])
        return requests

    def _not_covered(
        self, vary: dict[str, list[Any]], cells: tuple[Cell, ...], requests: list[dict[str, Any]]
    ) -> tuple[NotCovered, ...]:
        """Return what no interpreter here can run; if that is all, say why."""
        refused: dict[tuple[Any, Any], InterpreterNotFound] = {}
        for python, gil in {(request["python"], request["gil"]) for request in requests}:
            try:
                self._executor.choose(python, gil)
            except InterpreterNotFound as exc:
                refused[python, gil] = exc
        if all((request["python"], request["gil"]) in refused for request in requests):
            raise _nowhere(vary, cells[0], next(iter(refused.values())))
        missing: list[NotCovered] = []
        for cell, request in zip(cells, requests, strict=True):
            why = refused.get((request["python"], request["gil"]))
            if why is not None:
                options = ("python",) if why.option == "python" else ("python", "gil")
                each = NotCovered({name: cell.values[name] for name in options if name in cell.values}, _reason(why))
                missing += [] if each in missing else [each]
        return tuple(missing)


def _places(vary: dict[str, list[Any]], cell: Cell) -> dict[Any, tuple[Any, ...]]:
    """Where in the request each varied field's value of a cell stands."""
    places: dict[Any, tuple[Any, ...]] = {}
    for key, values in vary.items():
        names = [name.strip() for name in key.split(",")]
        here = [cell.values[name] for name in names]
        index = next(i for i, value in enumerate(values) if (list(value) if len(names) > 1 else [value]) == here)
        for position, name in enumerate(names):
            places[name] = ("vary", key, index, position) if len(names) > 1 else ("vary", key, index)
    return places


def _nowhere(vary: dict[str, list[Any]], cell: Cell, why: InterpreterNotFound) -> Exception:
    """What to raise when no cell can be run: of a varied option, where its list stands."""
    if why.option not in cell.values:
        return why
    return BadExperiment(_places(vary, cell)[why.option][:2], str(why), why.known)


def _reason(why: InterpreterNotFound) -> str:
    """Why, as a verdict can say it behind the interpreter's name: `3.14t, which is not installed`."""
    return why.why.removeprefix(f"{why.asked} is ").removesuffix(".")


def _measure(scenario: Scenario, name: str | None) -> Measure:
    measures = scenario.measures()
    if name is None:
        return next(iter(measures.values()))
    if name not in measures:
        raise BadExperiment(("measure",), f"{scenario.name} has no measure {name!r}.", list(measures))
    return measures[name]


def _analysis(store: Store, experiment: Experiment) -> Analysis:
    return analyse(
        experiment.cells(),
        store.runs(experiment.id),
        repeats=experiment.repeats,
        measure=experiment.measure,
        baseline=experiment.baseline,
        not_covered=experiment.not_covered,
        seed=experiment.seed,
        usable_cpus=experiment.machine["usable_cpus"],
        finished=experiment.finished,
    )


def make_router(desk: Desk, laboratory: Laboratory, experimenter: Experimenter) -> APIRouter:
    """Return the endpoints of `/v1/experiments`."""
    router = APIRouter(prefix="/v1/experiments", tags=["experiments"])
    waiting: dict[int | str, dict[str, Any]] = {
        200: {"model": ExperimentView, "description": "The finished experiment: it ended while the answer was held."},
        202: {"model": ExperimentView, "description": "Accepted and on disk; `Location` says where to look."},
    }

    def look(experiment_id: str) -> tuple[Experiment, Analysis]:
        experiment = desk.store.experiment(experiment_id)
        return experiment, _analysis(desk.store, experiment)

    async def answer(experiment_id: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        experiment, analysis = await desk.blocking(look, experiment_id)
        known = {"ETag": _etag(experiment, analysis), **(headers or {}), **desk.headers(experiment.finished)}
        return JsonAnswer(experiment_view(experiment, analysis), status, known)

    async def submit_experiment(body: Any, prefer: Prefer = None, idempotency_key: IdempotencyKey = None) -> Response:
        """Submit an experiment: each combination of the varied fields is run `repeats` times, in an order that is
        random within each repeat. One experiment runs at a time, and one run of it.
        """
        wait = desk.wait(prefer)
        experiment = await desk.blocking(laboratory.plan, body)
        fingerprint = hashlib.sha256(to_json(body.model_dump())).hexdigest()
        idempotency = None if idempotency_key is None else Idempotency(idempotency_key, fingerprint)
        added = await desk.future(experimenter.submit(experiment, idempotency))
        known = added.experiment
        ended = await desk.settled(experimenter.watch(known.id), wait.seconds)
        headers = {"Location": f"/v1/experiments/{known.id}", **wait.headers()}
        if added.replayed:
            headers["Idempotent-Replayed"] = "true"
        return await answer(known.id, 200 if ended or known.finished else 202, headers)

    submit_experiment.__annotations__["body"] = Annotated[laboratory.request_type, Body()]
    router.post(
        "", status_code=202, response_class=JsonAnswer, responses={**waiting, **documented(413, 415, 422, 503)}
    )(submit_experiment)

    @router.get("", response_model=ExperimentList, response_class=JsonAnswer, responses=documented(422, 503))
    async def list_experiments(query: Annotated[ListQuery, Query()]) -> Response:
        """List experiments, newest first, page by page."""
        found = await desk.blocking(desk.store.experiments, query.limit + 1, read_cursor(query.cursor))
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
        if_none_match: Annotated[str | None, Header(description="An `ETag` that you have already.")] = None,
    ) -> Response:
        """Look at an experiment, at what it has shown so far; with `Prefer: wait=N`, once it is finished."""
        wait = desk.wait(prefer)
        await desk.settled(experimenter.watch(experiment_id), wait.seconds)
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
            now = await desk.blocking(desk.store.experiment, experiment_id)
        else:
            now = await desk.future(settled)
        if settled is None or now.status is not ExperimentState.CANCELLED:
            raise IllegalExperimentMove(f"The experiment is {now.status} already and cannot be cancelled.")
        return await answer(experiment_id)

    @router.delete(
        "/{experiment_id}", status_code=204, response_class=Response, responses=documented(404, 409, 422, 503)
    )
    async def delete_experiment(experiment_id: ExperimentId) -> None:
        """Forget a finished experiment. Its jobs stay."""
        await desk.future(desk.store.delete_experiment(experiment_id))

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
        _, analysis = await desk.blocking(look, experiment_id)
        headers = {"Content-Disposition": f'attachment; filename="{experiment_id}.csv"'}
        return Response(csv_text(analysis), media_type="text/csv; charset=utf-8; header=present", headers=headers)

    return router


def _etag(experiment: Experiment, analysis: Analysis) -> str:
    return f'"{experiment.id}-{experiment.status}-{analysis["progress"]["done"]}"'
