"""What the OpenAPI document says of an answer beside its body: its headers, and where one can go from it.

Who uses it: `openapi`. By the links, tools and generated clients know that the `id` in one answer is what others ask
for; the documentation shows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["add"]

_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "Names the request, in the service's log, too: the client's own if that is 1 to 64 letters, "
        "digits, dots, hyphens or underscores.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "required": True,
    },
    "Location": {
        "description": "Where what was accepted is.",
        "schema": {"type": "string", "format": "uri-reference"},
        "required": True,
    },
    "ETag": {
        "description": "Changes whenever the answer does; for `If-None-Match`.",
        "schema": {"type": "string", "pattern": '^"[^"]+"$'},
        "required": True,
    },
    "Retry-After": {
        "description": "Seconds after which to look again, or to try again; left out where that would change nothing.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Preference-Applied": {
        "description": "How long the answer was held at most, where `Prefer` asked for that.",
        "schema": {"type": "string", "pattern": "^wait=[0-9]+$"},
    },
    "Idempotent-Replayed": {
        "description": "There if the `Idempotency-Key` was known: nothing new was accepted.",
        "schema": {"type": "string", "const": "true"},
    },
}

_ACCEPTED = ("Location", "ETag", "Retry-After", "Preference-Applied", "Idempotent-Replayed")
_LOOKED_AT = ("ETag", "Retry-After", "Preference-Applied")

# Of the good answers of an operation, beside `X-Request-ID`.
_SAYS: dict[str, tuple[str, ...]] = {
    "submit_job": _ACCEPTED,
    "rerun_job": _ACCEPTED,
    "submit_experiment": _ACCEPTED,
    "try_scenario": ("Location", "ETag", "Retry-After"),
    "get_job": _LOOKED_AT,
    "cancel_job": ("ETag",),
    "get_experiment": _LOOKED_AT,
    "cancel_experiment": ("ETag",),
    "get_chart": ("ETag",),
    "get_scenario_source": ("ETag",),
    "get_atomicity": ("Retry-After", "Preference-Applied"),
}
_KEPT_BY_304 = ("ETag", "Preference-Applied")

_TO: dict[str, dict[str, str]] = {  # by what they ask for: operations, and what that does
    "job_id": {
        "get_job": "Look at the job.",
        "cancel_job": "End it.",
        "rerun_job": "Run it again.",
        "delete_job": "Forget it.",
        "job_events": "What it tells, event by event.",
        "job_output": "The lines that it prints.",
        "job_timeline": "A picture of its threads.",
        "job_trace": "The same for Perfetto.",
    },
    "experiment_id": {
        "get_experiment": "Look at the experiment.",
        "cancel_experiment": "End it.",
        "delete_experiment": "Forget it.",
        "get_table": "Its rows as a table.",
        "get_chart": "A picture of them.",
    },
}
_FROM: dict[str, str] = {  # operations whose answer has an `id`, and what that stands for
    "submit_job": "job_id",
    "rerun_job": "job_id",
    "try_scenario": "job_id",
    "get_job": "job_id",
    "submit_experiment": "experiment_id",
    "get_experiment": "experiment_id",
}


def add(document: dict[str, Any]) -> None:
    """Write headers and links into a document, each once, among its components."""
    document["components"]["headers"] = _HEADERS
    document["components"]["links"] = {
        to: {"operationId": to, "parameters": {name: "$response.body#/id"}, "description": text}
        for name, links in _TO.items()
        for to, text in links.items()
    }
    for operation in _operations(document):
        name = operation["operationId"]
        for status, answer in operation["responses"].items():
            answer["headers"] = {each: _reference("headers", each) for each in _said(name, status)}
            if name in _FROM and status.startswith("2"):
                links = [to for to in _TO[_FROM[name]] if to != name]
                answer["links"] = {to: _reference("links", to) for to in links}


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        yield from operations.values()


def _said(operation: str, status: str) -> tuple[str, ...]:
    if status.startswith("2"):
        return ("X-Request-ID", *_SAYS.get(operation, ()))
    if status == "304":
        return ("X-Request-ID", *(each for each in _SAYS[operation] if each in _KEPT_BY_304))
    return ("X-Request-ID", "Retry-After") if status == "503" else ("X-Request-ID",)


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
