"""The OpenAPI document: valid, whole, and true; what pydantic does not document is pinned here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.api.requests import RequestLimits, RequestUnion
from service.app import create_app
from service.catalog import Catalog
from service.executors.scripted import ScriptedExecutor
from service.settings import Settings
from tests.api.client import Client, contract

OPERATIONS = {
    "get_atomicity": "GET /v1/atomicity",
    "submit_experiment": "POST /v1/experiments",
    "list_experiments": "GET /v1/experiments",
    "get_experiment": "GET /v1/experiments/{experiment_id}",
    "cancel_experiment": "POST /v1/experiments/{experiment_id}/cancel",
    "delete_experiment": "DELETE /v1/experiments/{experiment_id}",
    "get_table": "GET /v1/experiments/{experiment_id}/table.csv",
    "get_chart": "GET /v1/experiments/{experiment_id}/chart.svg",
    "submit_job": "POST /v1/jobs",
    "list_jobs": "GET /v1/jobs",
    "get_job": "GET /v1/jobs/{job_id}",
    "delete_job": "DELETE /v1/jobs/{job_id}",
    "job_events": "GET /v1/jobs/{job_id}/events",
    "job_timeline": "GET /v1/jobs/{job_id}/timeline.svg",
    "job_trace": "GET /v1/jobs/{job_id}/trace.json",
    "job_output": "GET /v1/jobs/{job_id}/output",
    "cancel_job": "POST /v1/jobs/{job_id}/cancel",
    "rerun_job": "POST /v1/jobs/{job_id}/rerun",
    "list_scenarios": "GET /v1/scenarios",
    "get_scenario": "GET /v1/scenarios/{name}",
    "get_scenario_source": "GET /v1/scenarios/{name}/source",
    "try_scenario": "GET /v1/try/{scenario}",
    "list_interpreters": "GET /v1/interpreters",
    "get_capacity": "GET /v1/capacity",
    "get_health": "GET /healthz",
    "get_readiness": "GET /readyz",
    "get_metrics": "GET /metrics",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document with default settings."""
    return create_app(Settings(database_url="memory:"), ScriptedExecutor()).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation, with its method and path."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def references(value: Any) -> Iterator[str]:
    """Every reference within a document, those of a discriminator included."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            elif name == "mapping":
                yield from inner.values()
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def body(document: dict[str, Any]) -> dict[str, Any]:
    """What the document says of the body of a submission."""
    return dict(document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"])


def test_document_is_served(client: Client) -> None:
    """The document of the service is at /openapi.json."""
    response = client.get("/openapi.json")
    assert (200, client.app.openapi()) == (response.status_code, response.json())


def test_document_is_valid(document: dict[str, Any]) -> None:
    """It is a valid OpenAPI 3.1 document."""
    assert document["openapi"].startswith("3.1.")
    assert [] == [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]


def test_document_names_itself(document: dict[str, Any]) -> None:
    """Title, version, description, licence and contact are there."""
    info = document["info"]
    assert "Threadlab" == info["title"]
    assert all(info[name] for name in ("version", "summary", "description", "license", "contact"))


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    """No reference dangles, and every component is referred to."""
    found = set(references(document))
    known = {f"#/components/{kind}/{name}" for kind, named in document["components"].items() for name in named}
    assert set() == found - known
    assert set() == known - found


def test_schema_names_are_clean(document: dict[str, Any]) -> None:
    """A schema's name makes a good class name for a client."""
    for name in document["components"]["schemas"]:
        assert re.fullmatch(r"[A-Z][A-Za-z]*", name), name


def test_operations_are_these(document: dict[str, Any]) -> None:
    """The names of operations, which clients are made from, change only on purpose."""
    assert OPERATIONS == {operation["operationId"]: call for call, operation in operations(document)}


def test_operation_ids_are_snake_case_and_unique(document: dict[str, Any]) -> None:
    """An operation's id makes a good name for a client's method."""
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert sorted(set(ids)) == sorted(ids)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", each) for each in ids)


def test_operations_are_described(document: dict[str, Any]) -> None:
    """Every operation has a summary, a description, and a tag that is described."""
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    for call, operation in operations(document):
        assert operation["summary"], call
        assert operation["description"], call
        assert all(tags[tag] for tag in operation["tags"]), call
        assert 1 == len(operation["tags"]), call


def test_parameters_are_described(document: dict[str, Any]) -> None:
    """Every parameter of an operation says what it is for."""
    for call, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), f"{call}: {parameter['name']}"


def test_errors_are_problems(document: dict[str, Any]) -> None:
    """Every operation documents an error, and every error is problem+json of the one schema."""
    for call, operation in operations(document):
        errors = {
            status: answer for status, answer in operation["responses"].items() if not status.startswith(("2", "3"))
        }
        assert errors, f"{call} documents no error"
        for status, answer in errors.items():
            assert ["application/problem+json"] == list(answer["content"]), f"{call}: {status}"
            schema = answer["content"]["application/problem+json"]["schema"]
            assert {"$ref": "#/components/schemas/Problem"} == schema, f"{call}: {status}"


def test_answers_are_described(document: dict[str, Any]) -> None:
    """Every answer has a text and, if it has a body, a schema."""
    for call, operation in operations(document):
        for status, answer in operation["responses"].items():
            assert answer["description"], f"{call}: {status}"
            for content in answer.get("content", {}).values():
                assert content["schema"], f"{call}: {status}"


def test_accepted_jobs_say_where_they_are(document: dict[str, Any]) -> None:
    """A submission documents both its answers, the finished job and the accepted one."""
    for path in ("/v1/jobs", "/v1/jobs/{job_id}/rerun"):
        answers = document["paths"][path]["post"]["responses"]
        for status in ("200", "202"):
            schema = answers[status]["content"]["application/json"]["schema"]
            assert {"$ref": "#/components/schemas/JobView"} == schema


def test_discriminator_is_the_scenario(document: dict[str, Any], catalog: Catalog) -> None:
    """A body is told apart by `scenario`, with one named schema for each."""
    names = list(catalog.names)
    schemas = ["".join(part.title() for part in name.split("_")) + "Job" for name in names]
    assert {"CounterJob", "NamedWorkersJob", "CheckThenActJob"} <= set(schemas)
    references = [f"#/components/schemas/{schema}" for schema in schemas]
    schema = body(document)["schema"]
    assert {"propertyName": "scenario", "mapping": dict(zip(names, references, strict=True))} == schema["discriminator"]
    assert [{"$ref": reference} for reference in references] == schema["oneOf"]
    for name, schema_name in zip(names, schemas, strict=True):
        assert name == document["components"]["schemas"][schema_name]["properties"]["scenario"]["const"]


def test_limits_and_texts_of_params_are_in_the_document(document: dict[str, Any], catalog: Catalog) -> None:
    """`metadata` of a standard dataclass becomes limits and descriptions: pydantic does so without documenting it."""
    threads = document["components"]["schemas"]["CounterJob"]["properties"]["threads"]
    assert 1 == threads["minimum"]
    assert catalog.get("counter").fields()["threads"].metadata["description"] == threads["description"]
    assert "integer" == threads["type"]


def test_every_parameter_is_in_the_document(document: dict[str, Any], catalog: Catalog) -> None:
    """Each scenario's schema holds its parameters and the job's options, described, and nothing else."""
    for scenario in catalog:
        schema = document["components"]["schemas"]["".join(map(str.title, scenario.name.split("_"))) + "Job"]
        assert {"scenario", *scenario.fields(), "python", "gil", "timeout_s", "trace", "label"} == set(
            schema["properties"]
        )
        assert ["scenario"] == schema["required"]
        assert schema["additionalProperties"] is False
        for name, part in schema["properties"].items():
            assert part.get("description"), f"{scenario.name}: {name}"
        for name, field in scenario.fields().items():
            if isinstance(field.default, (bool, int, float, str)):
                assert field.default == schema["properties"][name]["default"]


def test_settings_limit_the_document() -> None:
    """A setting that is lower than a scenario's own limit is the one in the document."""
    settings = Settings(database_url="memory:", max_threads=7, max_iterations=70, max_timeout_s=5.0)
    schema = create_app(settings, ScriptedExecutor()).openapi()["components"]["schemas"]["CounterJob"]
    found = {name: schema["properties"][name]["maximum"] for name in ("threads", "iterations", "timeout_s")}
    assert {"threads": 7, "iterations": 70, "timeout_s": 5.0} == found
    assert schema["properties"]["timeout_s"]["default"] <= 5.0


def test_examples_are_those_of_the_scenarios(document: dict[str, Any], catalog: Catalog) -> None:
    """Every request of a `Run it:` section is a named example as it stands, its nulls included."""
    examples = body(document)["examples"]
    assert [example.body for scenario in catalog for example in scenario.examples] == [
        example["value"] for example in examples.values()
    ]
    assert all(example["summary"] for example in examples.values())
    assert {scenario.name for scenario in catalog} == {example["value"]["scenario"] for example in examples.values()}


def test_examples_are_valid(document: dict[str, Any], catalog: Catalog) -> None:
    """Every example matches the document's own schema, and is taken by the service's."""
    requests = RequestUnion(catalog, RequestLimits({}, 60.0, 600.0))
    for name, given in body(document)["examples"].items():
        contract().validate(body(document)["schema"], given["value"], name)
        assert requests.parse(given["value"]).scenario == given["value"]["scenario"]


def test_filled_in_requests_match_the_document(document: dict[str, Any], catalog: Catalog) -> None:
    """A request with every default filled in is one that could be posted: an answer's `request` can be sent again."""
    requests = RequestUnion(catalog, RequestLimits({}, 60.0, 600.0))
    for scenario in catalog:
        for example in scenario.examples:
            filled = requests.dump(requests.parse(example.body))
            contract().validate(body(document)["schema"], filled, scenario.name)
            assert filled == requests.dump(requests.parse(filled))


def test_every_answer_documents_its_headers(document: dict[str, Any]) -> None:
    """The id of the request is documented of every answer, and whatever a client goes on with where it occurs."""
    for call, operation in operations(document):
        for status, answer in operation["responses"].items():
            assert "X-Request-ID" in answer["headers"], f"{call}: {status}"
    submission = document["paths"]["/v1/jobs"]["post"]["responses"]
    for status in ("200", "202"):
        assert {"Location", "ETag", "Retry-After", "Preference-Applied"} <= set(submission[status]["headers"])
    assert "Retry-After" in submission["503"]["headers"]
    assert "ETag" in document["paths"]["/v1/jobs/{job_id}"]["get"]["responses"]["304"]["headers"]


def test_answers_say_what_is_required_of_them(client: Client, document: dict[str, Any]) -> None:
    """A header that is documented as required is there."""
    headers = document["components"]["headers"]
    response = client.post("/v1/jobs", json={"scenario": "counter"})
    for name in document["paths"]["/v1/jobs"]["post"]["responses"][str(response.status_code)]["headers"]:
        assert name in response.headers or not headers[name].get("required"), name
        if name in response.headers and headers[name]["schema"]["type"] == "string":
            contract().validate(headers[name]["schema"], response.headers[name], name)


def test_links_lead_to_operations(document: dict[str, Any]) -> None:
    """A link names an operation and fills in what that asks for."""
    known = {operation["operationId"]: (call, operation) for call, operation in operations(document)}
    assert document["components"]["links"]
    for name, link in document["components"]["links"].items():
        call, operation = known[link["operationId"]]
        asked = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert asked == set(link["parameters"]), f"{name}: {call}"
    for status in ("200", "202"):
        links = set(document["paths"]["/v1/jobs"]["post"]["responses"][status]["links"])
        assert {"get_job", "cancel_job", "rerun_job", "delete_job", "job_events"} <= links


def test_no_parameter_can_be_null(document: dict[str, Any]) -> None:
    """What is left out of a query or of the headers is not sent; there is no null there."""
    for call, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert "null" not in str(parameter["schema"]), f"{call}: {parameter['name']}"
