"""The OpenAPI document beyond what FastAPI writes by itself: texts, tags, problems, examples, headers and links.

Who uses it: `app`, once.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api import openapi_links
from service.api.schemas import Problem
from service.catalog import Catalog

__all__ = ["install"]

_DESCRIPTION = """Runs threading scenarios as jobs, each in a child interpreter of its own, and reports what the threads
really did: results, timings and active-thread counts.

Submit a job with `POST /v1/jobs`; with the header `Prefer: wait=10` the answer is the finished job. The examples there
are the lessons of a tutorial on `threading`; they run as they stand. Errors are `application/problem+json`.

Every answer has an `X-Request-ID`. Any address can also answer 400 to what is no HTTP/1.1 request, 404 and 405 (with
`Allow`) to a path or a method that is not here, 413 to a body beyond the limit, and 503 when there are too many
connections."""

_TAGS = [
    {"name": "jobs", "description": "One request to run one scenario once: submit, look, wait, cancel, run again."},
    {"name": "experiments", "description": "A matrix of jobs, repeated, with statistics and a verdict."},
    {
        "name": "scenarios",
        "description": "What can be run: texts, parameters, examples, outcomes, and the code itself.",
    },
    {"name": "system", "description": "Interpreters, limits, and probes."},
]

_REFERENCE = "#/components/schemas/{model}"


def install(app: FastAPI, found: Catalog) -> None:
    """Make the app's OpenAPI document whole."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, found)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend its document


def _document(app: FastAPI, found: Catalog) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary="Threading scenarios as jobs.",
        description=_DESCRIPTION,
        routes=app.routes,
        tags=_TAGS,
        servers=[{"url": "/", "description": "This service."}],
        license_info={"name": "MIT", "identifier": "MIT"},
        contact={"name": "The Threadlab authors"},
    )
    schemas = document["components"]["schemas"]
    problem = Problem.model_json_schema(ref_template=_REFERENCE)
    schemas.update(problem.pop("$defs"), Problem=problem)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    submit = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    _without_null(document)
    openapi_links.add(document)
    submit["examples"] = _examples(found)  # here, because FastAPI leaves out what is null: an example would change
    return document


def _without_null(document: dict[str, Any]) -> None:
    """Let no parameter be null: one that is left out is not sent, and `null` would be a text."""
    for operations in document["paths"].values():
        for parameter in (each for operation in operations.values() for each in operation.get("parameters", ())):
            schema = parameter["schema"]
            kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
            parameter["schema"] = {**(kinds[0] if kinds else {}), **schema}


def _examples(found: Catalog) -> dict[str, Any]:
    """Return the requests of all scenarios' `Run it:` sections as OpenAPI's named examples."""
    return {
        f"{scenario.name}_{number}": {"summary": f"{scenario.title}: {example.caption}", "value": example.body}
        for scenario in found
        for number, example in enumerate(scenario.examples, start=1)
    }
