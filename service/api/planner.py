"""Turns requests for experiments into experiments, and says of each mistake where it stands.

Who uses it: `experiments`. No `from __future__ import annotations` here: see `requests`.
"""

import secrets
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from service.api.bodies import MOST_TOLD
from service.api.requests import RequestUnion
from service.catalog import Catalog, Scenario
from service.child import cage
from service.errors import BadExperiment, InterpreterNotFound
from service.executors.base import JobExecutor
from service.experiments import Cell, Measure, NotCovered, check_baseline, expand
from service.experiments.experiment import Experiment
from service.experiments.plan import identity

__all__ = ["ExperimentLimits", "ExperimentPlanner", "ExperimentRequest"]

_MOST_AXES = 32  # far more than anybody can read the statistics of
_SEEDS = 2**32
_NEVER_VARIED = ("scenario", "label")  # an experiment is about one scenario, and the label is how its jobs are found

_Vary = dict[str, list[Any]]
_Requests = dict[int, dict[str, Any]]  # by the index of the cell


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


class ExperimentLimits(BaseModel):
    """What an experiment may ask for."""

    max_cells: int
    max_repeats: int

    def request_type(self) -> type[ExperimentRequest]:
        """Return the request with these limits in its schema."""
        fields = ExperimentRequest.model_fields
        vary = f"{fields['vary'].description} They can be {self.max_cells:,} cells."
        return create_model(
            "ExperimentRequest",
            __base__=ExperimentRequest,
            __doc__=ExperimentRequest.__doc__,
            vary=(
                dict[str, list[Any]],
                Field(min_length=1, max_length=_MOST_AXES, description=vary, examples=fields["vary"].examples),
            ),
            repeats=(int, Field(5, ge=1, le=self.max_repeats, description=fields["repeats"].description)),
        )


class ExperimentPlanner:
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
        requests, impossible = self._requests_of(asked, cells)
        missing = self._not_installed(asked.vary, cells, requests)
        some_request = next(iter(requests.values()))
        return Experiment(
            id=self._new_id(),
            scenario=scenario.name,
            vary=asked.vary,
            fixed={name: value for name, value in some_request.items() if name not in cells[0].values},
            repeats=asked.repeats,
            seed=secrets.randbelow(_SEEDS) if asked.seed is None else asked.seed,
            measure=_measure(scenario, asked.measure, varied=cells[0].values),
            created_at=datetime.now(UTC),
            machine=cage.about()["machine"],
            baseline=asked.baseline,
            label=asked.label,
            not_covered=(*missing, *impossible),
        )

    def _scenario(self, name: str) -> Scenario:
        if name not in self._catalog.names:
            raise BadExperiment(("scenario",), f"There is no scenario {name!r}.", sorted(self._catalog.names), name)
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

    def _requests_of(self, asked: ExperimentRequest, cells: tuple[Cell, ...]) -> tuple[_Requests, list[NotCovered]]:
        """Return the request of each cell, every default filled in, and the cells whose values exclude each other.

        Raises:
            RequestValidationError: a value is wrong by itself, or no cell can be.
        """
        requests: _Requests = {}
        impossible: list[NotCovered] = []
        found: dict[Any, dict[str, Any]] = {}
        excluded: dict[Any, dict[str, Any]] = {}
        for cell in cells:
            body = {**(asked.model_extra or {}), **cell.values, "scenario": asked.scenario}
            try:
                requests[cell.index] = self._requests.dump(self._requests.parse(body))
            except ValidationError as exc:
                errors = list(islice(_in_places(exc, asked.vary, cell, body), MOST_TOLD))
                if all(_is_cross_field(error) for error in errors):
                    reason = errors[0]["msg"].removeprefix("Value error, ")
                    impossible.append(NotCovered(cell.values, reason.removesuffix(".")))
                    excluded |= {error["msg"]: error for error in errors}
                else:
                    found |= {(error["type"], error["loc"], error["place"]): error for error in errors}
            if len(found) >= MOST_TOLD:
                break
        if found or not requests:
            raise RequestValidationError(list((found or excluded).values())[:MOST_TOLD])
        return requests, impossible

    def _not_installed(self, vary: _Vary, cells: tuple[Cell, ...], requests: _Requests) -> list[NotCovered]:
        """Return what no interpreter here can run.

        Raises:
            InterpreterNotFound, BadExperiment: that is all.
        """
        refused: dict[tuple[Any, Any], InterpreterNotFound] = {}
        for python, gil in dict.fromkeys((request["python"], request["gil"]) for request in requests.values()):
            try:
                self._executor.choose(python, gil)
            except InterpreterNotFound as exc:
                refused[python, gil] = exc
        if all((request["python"], request["gil"]) in refused for request in requests.values()):
            raise _nowhere(vary, cells[0], next(iter(refused.values())))
        missing: list[NotCovered] = []
        for index, request in requests.items():
            why = refused.get((request["python"], request["gil"]))
            if why is not None:
                values = cells[index].values
                options = ("python",) if why.option == "python" else ("python", "gil")
                each = NotCovered({name: values[name] for name in options if name in values}, _reason(why))
                missing += [] if each in missing else [each]
        return missing


def _in_places(exc: ValidationError, vary: _Vary, cell: Cell, body: Any) -> Iterator[dict[str, Any]]:
    """What is wrong with a cell's request, each with where the client wrote it."""
    for error in exc.errors():
        places = _places(vary, cell)
        field = error["loc"][1] if len(error["loc"]) > 1 else None
        barred: tuple[str, ...] = ()
        if error["type"] == "unexpected_keyword_argument" and field in places:  # whatever its values are
            places = {**places, field: places[field][:2]}
            barred = _NEVER_VARIED
        where = {"places": places, "place": places.get(field), "body": body}
        yield {**error, "loc": ("body", *error["loc"]), "barred": barred, **where}


def _is_cross_field(error: Mapping[str, Any]) -> bool:
    """Whether a scenario's `__post_init__` refused fields that are each valid by themselves."""
    return error["type"] == "value_error" and len(error["loc"]) == 2


def _places(vary: _Vary, cell: Cell) -> dict[Any, tuple[Any, ...]]:
    """Where in the request each varied field's value of a cell stands."""
    places: dict[Any, tuple[Any, ...]] = {}
    for key, values in vary.items():
        names = [name.strip() for name in key.split(",")]
        here = identity([cell.values[name] for name in names])  # `true` is no 1
        index = next(i for i, value in enumerate(values) if identity(value if len(names) > 1 else [value]) == here)
        for position, name in enumerate(names):
            places[name] = ("vary", key, index, position) if len(names) > 1 else ("vary", key, index)
    return places


def _nowhere(vary: _Vary, cell: Cell, why: InterpreterNotFound) -> Exception:
    """What to raise when no cell can be run: of a varied option, where its list stands."""
    if why.option not in cell.values:
        return why
    return BadExperiment(_places(vary, cell)[why.option][:2], str(why), why.known)


def _reason(why: InterpreterNotFound) -> str:
    """Why, as a verdict can say it behind the interpreter's name: `3.14t, which is not installed`."""
    return why.why.removeprefix(f"{why.asked} is ").removesuffix(".")


def _measure(scenario: Scenario, name: str | None, varied: Container[str]) -> Measure:
    measures = scenario.measures()
    name = next(iter(measures)) if name is None else name
    if name not in measures:
        raise BadExperiment(("measure",), f"{scenario.name} has no measure {name!r}.", list(measures), name)
    grown = {field for field in measures[name].grows_with if field in varied}
    instead = [each.name for each in measures.values() if grown and grown.isdisjoint(each.grows_with)]
    return replace(measures[name], instead=tuple(instead))
