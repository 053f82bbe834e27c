"""`/v1/scenarios`: what can be run, and the code itself; `/v1/try`: run it by a bare GET."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import PlainTextResponse, Response

from service.api.answers import JsonAnswer, documented
from service.api.jobs import Intake
from service.api.requests import RequestUnion
from service.api.schemas import JobView, ScenarioList, ScenarioView, measure_view
from service.catalog import Catalog, Scenario

__all__ = ["make_router"]

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


def make_router(catalog: Catalog, intake: Intake, try_timeout_s: float, try_limits: dict[str, int]) -> APIRouter:
    """Return the endpoints of `/v1/scenarios` and `/v1/try`.

    Args:
        try_timeout_s: the longest that a job of `/v1/try` may run.
        try_limits: the highest values of parameters there, by name.
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
        catalog.get(scenario)
        body = intake.requests.from_query(scenario, dict(request.query_params))
        body.setdefault("timeout_s", try_timeout_s)
        _check_small(body, {**try_limits, "timeout_s": try_timeout_s})
        job = intake.validate(body, "query")
        answer = await intake.submit(job, f"wait={intake.desk.max_wait_s}")
        answer.headers["Cache-Control"] = "no-store"
        del answer.headers["Preference-Applied"]  # nobody stated one
        return answer

    return router


def _check_small(body: dict[str, Any], limits: dict[str, float]) -> None:
    """Hold a job that a link can start to tighter limits than one that is posted."""
    found = [
        {
            "type": "less_than_equal",
            "loc": ("query", name),
            "msg": f"By a link, {name} can be at most {limit:g}; post a job for more",
            "input": body[name],
            "ctx": {"le": limit},
        }
        for name, limit in limits.items()
        if isinstance(body.get(name), (int, float)) and body[name] > limit
    ]
    if found:
        raise RequestValidationError(found)


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
