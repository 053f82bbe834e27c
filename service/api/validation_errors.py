"""Where the mistakes of a request are, what is allowed there, and the nearest valid value.

Who uses it: `problems`. Here pydantic's errors, which speak of Python, become what a client can act on: pointers into
its own JSON (RFC 6901), names of parameters and headers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from fastapi.exceptions import RequestValidationError

from service import errors
from service.api import suggest
from service.api.bodies import MOST_TOLD
from service.api.requests import RequestUnion

__all__ = ["in_a_sentence", "in_lines", "of_name", "of_request"]

_MOST_REPEATED = 80  # characters

_IN_JSON_TERMS = {  # where pydantic speaks of Python's types
    "tuple_type": "Input should be a list",
    "dataclass_type": "Input should be an object",
    "dataclass_exact_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
}


def of_request(exc: RequestValidationError, requests: RequestUnion) -> tuple[str, list[dict[str, Any]]]:
    """Return what is wrong with a request: all of it in a sentence, and each mistake by itself."""
    errors_there = exc.errors()
    told = errors_there[:MOST_TOLD]
    found = _once_each_place(_field_problem(error, error.get("body", exc.body), requests) for error in told)
    detail = in_a_sentence(found)
    if len(errors_there) > len(told):
        detail += f" And {len(errors_there) - len(told):,} more."
    return detail, found


def in_a_sentence(found: Iterable[Mapping[str, Any]]) -> str:
    """Return mistakes as the `detail` of the whole: each with where it stands."""
    return " ".join(f"{_place(problem):.80}: {problem['detail']}" for problem in found)


def in_lines(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return mistakes for a terminal: each with where it stands, and what is allowed there."""
    return [
        f"{_place(problem)}: {problem['detail']}"
        + (f" Allowed: {json.dumps(problem['allowed'])}" if problem.get("allowed") is not None else "")
        for problem in found
    ]


def of_name(exc: Exception, method: str) -> list[dict[str, Any]] | None:
    """Return where a request names what there is not, and what there is; None for any other error."""
    if isinstance(exc, errors.BadExperiment):
        pointer = _pointer(exc.path)
        allowed = None if exc.allowed is None else list(exc.allowed)
        nearest = None if exc.asked is None or allowed is None else suggest.closest(str(exc.asked), allowed)
        return [_without_nulls(detail=exc.text, pointer=pointer, allowed=allowed, nearest=nearest)]
    if isinstance(exc, errors.InterpreterNotFound):
        nearest = suggest.closest(exc.asked, exc.known)
        where = {"parameter": exc.option} if method == "GET" else {"pointer": f"#/{exc.option}"}
        return [_without_nulls(detail=str(exc), **where, allowed=exc.known, nearest=nearest)]
    if not isinstance(exc, errors.ScenarioNotFound):
        return None
    return [
        _without_nulls(
            detail=str(exc), parameter="scenario", allowed=exc.known, nearest=suggest.closest(exc.name, exc.known)
        )
    ]


def _once_each_place(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One problem for each place: of a value that may be one of several types, pydantic tells what each would want."""
    places: dict[tuple[Any, ...], dict[str, Any]] = {}
    for problem in found:
        place = tuple(problem.get(name) for name in ("pointer", "parameter", "header"))
        if place in places:
            places[place]["detail"] += " " + problem["detail"]
        else:
            places[place] = problem
    return list(places.values())


def _field_problem(error: Mapping[str, Any], body: Any, requests: RequestUnion) -> dict[str, Any]:
    """One of pydantic's errors in our terms."""
    source, *path = error["loc"]
    if error["type"] in ("unfit", "unreadable"):  # of `bodies`: it is not yet known whose field it is
        pointer = _pointer(path)
        where = {"pointer": pointer} if source == "body" else {"parameter": str(path[0] if path else source)}
        return {**where, "detail": _detail(error)}
    if source == "body":
        problem = _body_problem(error, path, body, requests)
        return _without_nulls(**{**problem, "pointer": _in_matrix(problem["pointer"], error.get("places", {}))})
    if path and path[0] in requests.models:  # the query string of a small job
        problem = _body_problem(error, path, body, requests)
        _, *place = str(problem.pop("pointer")).split("/")
        if len(place) == 1 and isinstance(error["input"], str) and error["type"] in _IN_JSON_TERMS:
            problem["detail"] = f"{_IN_JSON_TERMS[error['type']]}, written as JSON."
        if len(place) > 1:
            problem["detail"] = f"At {'/'.join(place[1:])}: {problem['detail']}"
        return _without_nulls(parameter=place[0] if place else None, **problem)
    where = {"header": str(path[0])} if source == "header" else {"parameter": str(path[0] if path else source)}
    allowed = suggest.by_context(error)
    return _without_nulls(
        detail=_detail(error), **where, allowed=allowed, nearest=suggest.nearest(error.get("input"), allowed)
    )


def _detail(error: Mapping[str, Any]) -> str:
    """What is wrong, as a sentence that speaks of JSON."""
    text = _IN_JSON_TERMS.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    if error["type"] in ("too_short", "too_long"):
        text = text.replace("Tuple", "List").replace("Dictionary", "Object").replace(" after validation", "")
    return text if text.endswith((".", "?")) else f"{text}."


def _in_matrix(pointer: str, places: Mapping[str, tuple[Any, ...]]) -> str:
    """The pointer into a job's request as one into an experiment's, where a varied field stands in a list of values."""
    _, _, rest = pointer.partition("#/")
    step, _, deeper = rest.partition("/")
    field = unquote(step).replace("~1", "/").replace("~0", "~")
    if field not in places:
        return pointer
    return _pointer(places[field]) + (f"/{deeper}" if deeper else "")


def _place_in(body: Any, path: list[Any]) -> list[Any]:
    """The part of a path that leads through a value; pydantic appends which of several types it tried."""
    found: list[Any] = []
    for step in path:
        inside = (
            isinstance(step, int) and step < len(body)
            if isinstance(body, list)
            else isinstance(body, dict) and step in body
        )
        if not inside:
            break
        found.append(step)
        body = body[step]
    return found


def _body_problem(error: Mapping[str, Any], path: list[Any], body: Any, requests: RequestUnion) -> dict[str, Any]:
    kind, given = error["type"], error.get("input")
    names = sorted(requests.models)
    if kind == "json_invalid":
        return {"pointer": "#", "detail": f"Not JSON: {error['ctx']['error']}, at character {path[0]}."}
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _scenario_problem(given.get("scenario") if isinstance(given, Mapping) else None, names)
    if kind == "missing" and path:
        return {"pointer": f"#/{_escaped(path[-1])}", "detail": "This field is required."}
    model = path.pop(0) if path and path[0] in requests.models else None
    path = _place_in(body, path)
    if model is None:
        allowed = suggest.by_context(error)
    elif kind == "unexpected_keyword_argument":
        return _unknown_field(error, path, model, requests.schema(model))
    else:
        allowed = suggest.keywords(suggest.resolve(requests.schema(model), path)) if path else None
    return {
        "pointer": _pointer(path),
        "detail": _detail(error),
        "allowed": allowed,
        "nearest": suggest.nearest(given, allowed),
    }


def _unknown_field(error: Mapping[str, Any], path: list[Any], model: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    *above, name = path
    known = sorted(suggest.resolve(schema, above).get("properties", {}).keys() - set(error.get("barred", ())))
    nearest = suggest.closest(str(name), known)
    detail = f"{'This part' if above else model} has no field {_told(name)}.{suggest.did_you_mean(nearest)}"
    return {"pointer": _pointer(path), "detail": detail, "allowed": known, "nearest": nearest}


def _scenario_problem(tag: Any, names: list[str]) -> dict[str, Any]:
    if tag is None:
        return {"pointer": "#/scenario", "detail": "Say which scenario to run.", "allowed": names}
    nearest = suggest.closest(str(tag), names)
    return {
        "pointer": "#/scenario",
        "detail": f"There is no scenario {_told(tag)}.{suggest.did_you_mean(nearest)}",
        "allowed": names,
        "nearest": nearest,
    }


def _told(value: Any) -> str:
    """What a client wrote, as far as anybody wants to read it again."""
    text = repr(value)
    return text if len(text) <= _MOST_REPEATED else f"{text[:_MOST_REPEATED]}..."


def _pointer(path: Iterable[Any]) -> str:
    return "#" + "".join(f"/{_escaped(step)}" for step in path)


def _escaped(step: Any) -> str:
    """A step of a pointer. Source: RFC 6901, sections 3 and 6."""
    return quote(str(step).replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@")


def _place(problem: Mapping[str, Any]) -> str:
    return str(problem.get("pointer") or problem.get("parameter") or problem.get("header") or "request")


def _without_nulls(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
