"""`/v1/scenarios`: what can be run, and the code itself; `/v1/try`: run it by a bare GET."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import QueryParams
from starlette.responses import PlainTextResponse, Response

from service.api import queries
from service.api.answers import JsonAnswer, documented
from service.api.jobs import Intake
from service.api.requests import RequestUnion, lowered
from service.api.schemas import JobView, ScenarioList, ScenarioView, measure_view
from service.catalog import Catalog, Scenario

__all__ = ["TryLimits", "make_router"]

ScenarioName = Annotated[str, Path(description="A scenario's `name`.", examples=["counter"], max_length=100)]

_FREE_QUERY = {
    "parameters": [
        {
            "name": "parameters",
            "in": "query",
            "description": "The scenario's parameters and the job's options, by their names.",
            "style": "form",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            "example": {"threads": "4"},
        }
    ]
}


@dataclass(frozen=True, slots=True)
class TryLimits:
    """What a job that a link starts may ask for: the longest time that it may run, and its threads in all."""

    timeout_s: float
    threads: int


def make_router(catalog: Catalog, intake: Intake, limits: TryLimits) -> APIRouter:
    """Return the endpoints of `/v1/scenarios` and `/v1/try`.

    Args:
        limits: of the jobs of `/v1/try`.
    """
    router = APIRouter(prefix="/v1", tags=["scenarios"])

    @router.get("/scenarios", response_model=ScenarioList, response_class=JsonAnswer, responses=documented())
    async def list_scenarios() -> Response:
        """List what can be run, and what cannot and why."""
        return JsonAnswer(
            {
                "scenarios": [_item(scenario) for scenario in catalog],
                "unavailable": [
                    {"name": each.name, "origin": each.origin, "reason": each.reason} for each in catalog.unavailable
                ],
            }
        )

    @router.get(
        "/scenarios/{name}", response_model=ScenarioView, response_class=JsonAnswer, responses=documented(404, 422)
    )
    async def get_scenario(name: ScenarioName) -> Response:
        """Show all about a scenario: why it happens, its parameters, examples, and what it can end with."""
        return JsonAnswer(_view(catalog.get(name), intake.requests))

    @router.get(
        "/scenarios/{name}/source",
        response_class=PlainTextResponse,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **documented(404, 422)},
    )
    async def get_scenario_source(name: ScenarioName) -> Response:
        """Show the code that runs, as it runs."""
        scenario = catalog.get(name)
        return PlainTextResponse(scenario.source, headers={"ETag": f'"{scenario.digest}"'})

    @router.get(
        "/try/{scenario}",
        response_model=JobView,
        response_class=JsonAnswer,
        responses={
            202: {"model": JobView, "description": "It is not finished yet; `Location` says where to look."},
            **documented(404, 422, 503),
        },
        openapi_extra=_FREE_QUERY,
    )
    async def try_scenario(request: Request, scenario: ScenarioName) -> Response:
        """Run a small job by a bare GET, for an address bar or a slide; the answer is the finished job."""
        found = catalog.get(scenario)
        body = _small_defaults(found, limits) | intake.requests.from_query(scenario, _each_once(request.query_params))
        _check_small(found, body, limits)
        job = intake.requests.validate(body, "query")
        answer = await intake.submit(job, f"wait={intake.access.max_wait_s}")
        answer.headers["Cache-Control"] = "no-store"
        del answer.headers["Preference-Applied"]  # nobody stated one
        return answer

    return router


def _each_once(query: QueryParams) -> dict[str, str]:
    """The parameters of a link, each of which may stand there once; which scenario it is the path says."""
    found = list(queries.repeated(query))
    if "scenario" in query:
        text = "The path says which scenario to run."
        found.append(queries.mistake("elsewhere", "scenario", query["scenario"], text))
    if found:
        raise RequestValidationError(found)
    return dict(query)


def _small_defaults(scenario: Scenario, limits: TryLimits) -> dict[str, Any]:
    """What a link need not say, where the usual default would be too much for it."""
    fields = {name: field for name, field in scenario.fields().items() if name in scenario.counting("threads")}
    small = {name: lowered(field, limits.threads) for name, field in fields.items()}
    changed = {name: value for name, value in small.items() if value != fields[name].default}
    return {"timeout_s": limits.timeout_s, **changed}


def _check_small(scenario: Scenario, body: dict[str, Any], limits: TryLimits) -> None:
    """Hold a job that a link can start to tighter limits than one that is posted."""
    found = []
    if isinstance(body["timeout_s"], (int, float)) and body["timeout_s"] > limits.timeout_s:
        text = f"timeout_s can be at most {limits.timeout_s:g}"
        found.append(_too_much("timeout_s", body["timeout_s"], limits.timeout_s, text))
    values = {**{name: field.default for name, field in scenario.fields().items()}, **body}
    for team in scenario.teams(values):
        text = f"{' and '.join(team)} can be at most {limits.threads}{' together' if len(team) > 1 else ''}"
        found += [_too_much(name, values[name], most, text) for name, most in _room(team, limits.threads).items()]
    if found:
        raise RequestValidationError(found)


def _room(team: dict[str, int], threads: int) -> dict[str, int]:
    """Return what can be at most of the parameters that are too many together: of the largest one what the others
    leave, or, if they leave nothing, of each an equal share.
    """
    total = sum(team.values())
    if total <= threads:
        return {}
    largest = max(team, key=lambda name: team[name])
    left = threads - (total - team[largest])
    share = threads // len(team)
    return {largest: left} if left > 0 else {name: share for name in team if team[name] > share}


def _too_much(name: str, value: Any, most: float, text: str) -> dict[str, Any]:
    """The mistake as pydantic would tell it of the parameter alone."""
    number = isinstance(value, (int, float)) or all(isinstance(each, int) for each in value)
    return {
        "type": "less_than_equal" if number else "too_long",
        "loc": ("query", name),
        "msg": f"By a link, {text}; post a job for more",
        "input": value,
        "ctx": {"le": most} if number else {"field_type": "List", "max_length": most},
    }


def _item(scenario: Scenario) -> dict[str, Any]:
    return {
        "name": scenario.name,
        "title": scenario.title,
        "summary": scenario.summary,
        "origin": scenario.origin,
    }


def _view(scenario: Scenario, requests: RequestUnion) -> dict[str, Any]:
    return {
        **_item(scenario),
        "text": scenario.text,
        "digest": scenario.digest,
        "parameters": requests.schema(scenario.name),
        "examples": [{"caption": each.caption, "body": each.body} for each in scenario.examples],
        "outcomes": [
            {"outcome": each.name, "grade": each.grade, "meaning": each.meaning} for each in scenario.outcomes()
        ],
        "measures": [measure_view(each) for each in scenario.measures().values()],
    }
