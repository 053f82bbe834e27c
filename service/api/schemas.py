"""The shapes of requests and answers, and the request union that is built from the catalog.

Who uses it: the endpoints, and FastAPI for the OpenAPI document. A scenario's `Params` is a standard dataclass whose
`metadata` holds pydantic's names; `RequestUnion` makes one named dataclass per scenario out of it and of the job's
options, so that a body is flat and every limit stands in the document. No `from __future__ import annotations` here:
annotations must be objects, not text.
"""

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from service.catalog import Catalog, Scenario
from service.jobs import Grade, Job, JobState, Lane

__all__ = [
    "Capacity",
    "Health",
    "InterpreterList",
    "JobList",
    "JobView",
    "Problem",
    "RequestLimits",
    "RequestUnion",
    "ScenarioList",
    "ScenarioView",
    "job_list_item",
    "job_view",
]

_STRICT = {int, float, bool, str}  # a "4" for a number is a mistake that we tell, with the 4 it stands for


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a request may ask for; the limits stand in the schema.

    Attributes:
        fields: the highest value of a parameter, by its name, whatever the scenario itself allows.
    """

    fields: dict[str, int]
    default_timeout_s: float
    max_timeout_s: float


class RequestUnion:
    """All requests that the catalog allows, told apart by `scenario`.

    Attributes:
        annotation: the union as a type, for an endpoint's parameter.
    """

    def __init__(self, catalog: Catalog, limits: RequestLimits) -> None:
        self.models = {scenario.name: _request_model(scenario, limits) for scenario in catalog}
        models = tuple(self.models.values())
        self.annotation: Any = Annotated[Union[models], Field(discriminator="scenario")]  # noqa: UP007  made at run time
        adapted: Any = self.annotation  # a type made at run time, which mypy cannot know for one
        self._adapter: TypeAdapter[Any] = TypeAdapter(adapted)

    def parse(self, body: Any) -> Any:
        """Return the request that a JSON value holds.

        Raises:
            pydantic.ValidationError: it holds none.
        """
        return self._adapter.validate_python(body)

    def from_query(self, scenario: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the body that a query string stands for: text for parameters that are text, else read as JSON."""
        hints = typing.get_type_hints(self.models[scenario]) if scenario in self.models else {}
        texts = {name for name, hint in hints.items() if str in (hint, *typing.get_args(hint))}
        values = {name: text if name in texts else _from_json(text) for name, text in query.items()}
        return {**values, "scenario": scenario}

    @staticmethod
    def dump(request: Any) -> dict[str, Any]:
        """Return a request as JSON values, every default filled in, `scenario` first."""
        values = {each.name: _plain(getattr(request, each.name)) for each in dataclasses.fields(request)}
        return {"scenario": values.pop("scenario"), **values}

    def schema(self, name: str) -> dict[str, Any]:
        """Return the JSON Schema of a scenario's request."""
        return TypeAdapter(self.models[name]).json_schema()


def _request_model(scenario: Scenario, limits: RequestLimits) -> type[Any]:
    """A frozen dataclass, named like `CounterJob`: the scenario's parameters and the job's options."""
    hints = scenario.hints()
    members: list[tuple[str, Any, Any]] = [
        ("scenario", Literal[scenario.name], field(metadata={"description": scenario.summary}))
    ]
    for name, parameter in scenario.fields().items():
        metadata = dict(parameter.metadata)
        if name in limits.fields:
            metadata["le"] = min(metadata.get("le", limits.fields[name]), limits.fields[name])
        if {hints[name], *typing.get_args(hints[name])} & _STRICT:
            metadata["strict"] = True
        members.append((name, hints[name], field(default=parameter.default, metadata=metadata)))
    members += _options(limits)
    return dataclasses.make_dataclass(
        "".join(part.title() for part in scenario.name.split("_")) + "Job",
        members,
        bases=(scenario.params_type,),
        frozen=True,
        kw_only=True,
        namespace={"__pydantic_config__": ConfigDict(extra="forbid"), "__doc__": scenario.summary},
    )


def _options(limits: RequestLimits) -> list[tuple[str, Any, Any]]:
    """What every job has besides its scenario's parameters."""
    timeout = {
        "gt": 0,
        "le": limits.max_timeout_s,
        "strict": True,
        "allow_inf_nan": False,
        "description": "Seconds that the scenario may run; then the job is `timed_out` and its process is ended.",
    }
    label = {"min_length": 1, "max_length": 200, "description": "A text of yours to find the job again by."}
    return [
        ("timeout_s", float, field(default=min(limits.default_timeout_s, limits.max_timeout_s), metadata=timeout)),
        ("label", str | None, field(default=None, metadata=label)),
    ]


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


class _Answer(BaseModel):
    """Base of the answers: descriptions stand under the fields, and nothing undocumented is answered."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class TimingsView(_Answer):
    """Seconds; each from one clock of one process; null where it was not measured."""

    queued_s: float | None
    """From accepted to taken up, by the service's clock."""
    startup_s: float | None
    """From asking for a child process to its first word that the scenario begins, by the service's clock."""
    wall_s: float | None
    """Around the scenario's own work, inside the child."""
    cpu_s: float | None
    """CPU time of all threads of the child during that work."""


class ActiveThreadsView(_Answer):
    """`threading.active_count()` of the child, the main thread included."""

    before: int | None
    """Before the scenario began."""
    peak: int | None
    """The highest count seen, taken as each thread began."""
    after: int | None
    """When the scenario's own work was done; null if it did not get there."""


class ThreadView(_Answer):
    """One thread, as it measured itself."""

    name: str
    daemon: bool
    ident: int
    """`threading.get_ident()`; may be used again after the thread's end."""
    native_id: int | None
    """The number that the operating system gave it."""
    started_s: float
    """Seconds after the scenario began."""
    ended_s: float | None
    """Seconds after the scenario began; null if it was still running when last heard of."""
    cpu_s: float | None
    voluntary_switches: int | None
    """Context switches because it waited (Linux)."""
    involuntary_switches: int | None
    """Context switches because another thread was given the core (Linux)."""


class OutputLineView(_Answer):
    """A printed line."""

    at_s: float
    """Seconds after the scenario began, at the line's first character."""
    thread: str | None
    """Who printed it; null for output from C."""
    line: str


class ProcessView(_Answer):
    """How the child process ended, observed from outside by its parent."""

    pid: int | None
    exit_code: int | None
    signal: str | None
    lived_s: float | None
    """Seconds from the fork to the end of the process, by its parent's clock."""
    cpu_s: float | None
    max_rss_bytes: int | None


class ResultView(_Answer):
    """What the run showed. What was not measured is null, never 0."""

    outcome: str | None
    """One of the scenario's outcomes; `stuck` if the job had to be killed at its deadline."""
    grade: Grade | None
    meaning: str | None
    """The outcome in one sentence."""
    values: dict[str, Any]
    """What the scenario counted and measured."""
    timings: TimingsView
    active_threads: ActiveThreadsView
    threads: list[ThreadView]
    """In the order in which they started; the main thread is not listed."""
    output: list[OutputLineView]
    output_dropped: int | None
    """Lines beyond the limit on output."""
    process: ProcessView
    warnings: list[str]


class FailureView(_Answer):
    """Why a job did not succeed."""

    type: str
    message: str
    traceback: str | None
    """The scenario's own traceback; never one of the service."""


class PythonView(_Answer):
    """The interpreter that ran the scenario."""

    version: str
    implementation: str
    gil: bool
    """Whether the global interpreter lock was on."""
    executable: str
    switch_interval_s: float
    """`sys.getswitchinterval()` at the end of the scenario."""


class MachineView(_Answer):
    """The machine that ran the scenario."""

    cpus: int | None
    usable_cpus: int | None
    platform: str


class _JobHead(_Answer):
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


class JobView(_JobHead):
    """A job and what became of it."""

    python: PythonView | None
    machine: MachineView | None
    result: ResultView | None
    error: FailureView | None


class JobListItem(_JobHead):
    """A job in a list: without its threads and its output."""

    outcome: str | None
    grade: Grade | None


class JobList(_Answer):
    """Jobs, newest first."""

    jobs: list[JobListItem]
    next_cursor: str | None
    """Give this as `cursor` for the page of older jobs; null on the last one."""


class ExampleView(_Answer):
    """A request that can be posted as it stands."""

    caption: str
    body: dict[str, Any]


class OutcomeView(_Answer):
    """What a scenario can end with."""

    outcome: str
    grade: Grade
    meaning: str


class ScenarioItem(_Answer):
    """A scenario in a list."""

    name: str
    title: str
    summary: str
    origin: str
    """`built-in`, or the distribution that brought it."""


class UnavailableView(_Answer):
    """A scenario that breaks a rule and cannot be run."""

    name: str
    origin: str
    reason: str


class ScenarioList(_Answer):
    """What can be run, and what cannot."""

    scenarios: list[ScenarioItem]
    unavailable: list[UnavailableView]


class ScenarioView(ScenarioItem):
    """All about one scenario."""

    text: str
    """Its docstring: why it happens, what was observed, sources."""
    digest: str
    """SHA-256 of its source."""
    parameters: dict[str, Any]
    """JSON Schema of the request."""
    examples: list[ExampleView]
    outcomes: list[OutcomeView]
    """For the default parameters."""


class InterpreterView(_Answer):
    """An interpreter that can run jobs."""

    python: PythonView
    machine: MachineView


class InterpreterList(_Answer):
    """What can run jobs; the first is the default."""

    interpreters: list[InterpreterView]


class LaneView(_Answer):
    """How full a lane is."""

    queued: int
    running: int
    slots: int


class Capacity(_Answer):
    """How full the service is, and the limits in force."""

    lanes: dict[Lane, LaneView]
    limits: dict[str, float]
    """By the names of the settings that set them."""


class Health(_Answer):
    """A probe's answer."""

    status: Literal["ok", "ready"]


class FieldProblem(BaseModel):
    """One thing that is wrong with a request; where it stands, what is allowed there, and the nearest valid value."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    detail: str
    pointer: str | None = None
    """RFC 6901 pointer into the body, as a URI fragment."""
    parameter: str | None = None
    """Name of a query or path parameter."""
    header: str | None = None
    allowed: Any = None
    """A list of names, or JSON Schema keywords."""
    nearest: Any = None
    """The valid value closest to what was given."""


class Problem(BaseModel):
    """An error, after RFC 9457."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str
    """A page that says what this kind of problem means and what to do."""
    title: str
    status: int
    detail: str
    request_id: str | None = None
    """The same as in the header `X-Request-ID` and in the service's log."""
    errors: list[FieldProblem] | None = None


def job_view(job: Job) -> dict[str, Any]:
    """Return a job in the shape of `JobView`, ready for JSON."""
    return {
        "id": job.id,
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
        "python": job.python,
        "machine": job.machine,
        "result": job.result,
        "error": job.error,
    }


def job_list_item(job: Job) -> dict[str, Any]:
    """Return a job in the shape of `JobListItem`, ready for JSON."""
    view = job_view(job)
    for name in ("python", "machine", "result", "error"):
        del view[name]
    view["outcome"] = job.result["outcome"] if job.result else None
    view["grade"] = job.result["grade"] if job.result else None
    return view
