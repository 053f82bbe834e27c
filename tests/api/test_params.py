"""The schema of each scenario's request is the truth: what it allows is accepted, what it forbids is refused there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from service import catalog as catalogs
from service.api.requests import RequestLimits, RequestUnion
from service.app import create_app
from service.catalog import Catalog
from service.executors.scripted import ScriptedExecutor
from service.settings import Settings
from tests.api.client import Client, contract, strict_json

NAMES = [scenario.name for scenario in catalogs.find()]
LEFT_OUT = {"scenario", "python"}  # which interpreters there are stands in no schema
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=60)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def near(schema: dict[str, Any], whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema allows, and those just beside."""
    if "$ref" in schema:
        return near(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "anyOf" in schema:
        return st.one_of([near(each, whole) for each in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]]) | TEXT
    make = {"integer": _near_numbers, "number": _near_numbers, "string": _near_texts}.get(schema["type"])
    if make is not None:
        return make(schema)
    return _near_parts(schema, whole)


def _near_parts(schema: dict[str, Any], whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    if schema["type"] == "array":
        most = schema.get("maxItems", 3)
        items = near(schema["items"], whole) if "items" in schema else ANY
        return st.lists(items, max_size=min(most, 4)) | st.lists(items, min_size=most + 1, max_size=most + 1)
    if "properties" in schema:
        members = {name: near(each, whole) for name, each in schema["properties"].items()}
        needed = {name: members.pop(name) for name in schema.get("required", ())}
        return st.fixed_dictionaries(needed, optional=members)
    return {"boolean": st.booleans(), "null": st.none()}.get(schema["type"], ANY)


def _near_texts(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    longest = schema.get("maxLength", 50)
    return st.text("aZ-", min_size=schema.get("minLength", 0), max_size=longest) | st.just("x" * (longest + 1))


def _near_numbers(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    least = schema.get("minimum", schema.get("exclusiveMinimum", -1000))
    most = schema.get("maximum", schema.get("exclusiveMaximum", 1000))
    edges = [least, least - 1, most, most + 1, -0.0, 2**63]
    if schema["type"] == "integer":
        return st.integers(int(least), int(most)) | st.sampled_from(edges)
    return st.floats(float(least), float(most)) | st.integers(int(least), int(most)) | st.sampled_from(edges)


def whole_float(value: Any) -> bool:
    """Whether it holds a number such as 4.0: to JSON Schema that is a whole one, to the service a mistake."""
    if isinstance(value, dict):
        value = list(value.values())
    return any(map(whole_float, value)) if isinstance(value, list) else isinstance(value, float) and value.is_integer()


@pytest.mark.parametrize("name", NAMES)
def test_schema_and_service_agree(catalog: Catalog, name: str) -> None:
    """A valid value is accepted and comes back as it was; an invalid one is 422 with a pointer to it."""
    requests = RequestUnion(catalog, RequestLimits({"threads": 512, "iterations": 10_000_000}, 60.0, 600.0))
    schema = requests.schema(name)
    fields = sorted(set(schema["properties"]) - LEFT_OUT)
    bodies = st.sampled_from(fields).flatmap(
        lambda field: st.tuples(st.just(field), near(schema["properties"][field], schema) | ANY)
    )
    with Client(create_app(Settings(database_url="memory:"), ScriptedExecutor(), catalog)) as client:

        @PROPERTY
        @given(bodies)
        def check(given_field: tuple[str, Any]) -> None:
            field, value = given_field
            part = {**schema["properties"][field], "$defs": schema.get("$defs", {})}
            valid = Draft202012Validator(part).is_valid(value)
            body = {"scenario": name, field: value}
            response = client.post("/v1/jobs", json=body)
            if response.status_code == 202:
                assert valid
                kept = response.json()["request"]
                contract().validate({"$ref": "#/components/schemas/JobView"}, response.json())
                assert [value] == [kept[field]] or isinstance(value, list)  # a program's defaults are filled in
                assert kept == client.post("/v1/jobs", json=kept).json()["request"]
                return
            assert 422 == response.status_code
            pointers = {error["pointer"] for error in strict_json(response.content)["errors"]}
            if valid and not whole_float(value):  # then a rule between fields has refused it, in the scenario's words
                assert {pointer.count("/") for pointer in pointers} <= {0, 2}, (body, response.text)
            else:
                at = f"#/{field}"
                assert all(pointer == at or pointer.startswith(f"{at}/") or pointer == "#" for pointer in pointers)
                assert valid or any(pointer.startswith(at) for pointer in pointers), response.text

        check()


def test_every_field_can_be_refused(catalog: Catalog) -> None:
    """No field of any scenario takes whatever it is given."""
    requests = RequestUnion(catalog, RequestLimits({}, 60.0, 600.0))
    for name in NAMES:
        for field, part in requests.schema(name)["properties"].items():
            whole = {**part, "$defs": requests.schema(name).get("$defs", {})}
            wrong = [value for value in (None, {"a": {}}, [[[]]], "\x01", -1) if not _valid(whole, value)]
            assert wrong, f"{name}: {field}: {json.dumps(part)}"


def _valid(schema: dict[str, Any], value: Any) -> bool:
    return bool(Draft202012Validator(schema).is_valid(value))
