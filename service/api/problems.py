"""Our errors as problem+json, after RFC 9457; nothing else chooses status codes of errors.

Who uses it: `app` installs the handlers; `pages` shows a page for each kind. The table `KINDS` is the whole truth: what
is not in it is a fault of ours and answers 500, without a word of what happened inside.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service import errors, logs
from service.api import suggest
from service.api.bodies import MOST_TOLD
from service.api.border import STARTS_JOBS, Refusal
from service.api.requests import RequestUnion

__all__ = ["AT_BORDER", "BY_STATUS", "KINDS", "Kind", "ProblemResponse", "install", "refused", "too_large"]

_log = logging.getLogger(__name__)

_MOST_REPEATED = 80  # characters

_IN_JSON_TERMS = {  # where pydantic speaks of Python's types
    "tuple_type": "Input should be a list",
    "dataclass_type": "Input should be an object",
    "dataclass_exact_type": "Input should be an object",
    "dict_type": "Input should be an object",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its status, its name in URLs, its title, and what to do about it."""

    status: int
    slug: str
    title: str
    remedy: str


KINDS: dict[type[Exception], Kind] = {
    errors.ScenarioNotFound: Kind(
        404, "scenario-not-found", "No such scenario", "`GET /v1/scenarios` lists what can be run."
    ),
    errors.JobNotFound: Kind(
        404,
        "job-not-found",
        "No such job",
        "It was deleted, or posted to another service. `GET /v1/jobs` lists all jobs.",
    ),
    errors.IllegalMove: Kind(
        409,
        "illegal-move",
        "The job's state does not allow that",
        "A finished job cannot be cancelled, and only a finished job can be deleted. Look at the job's `status` first.",
    ),
    errors.ExperimentNotFound: Kind(
        404,
        "experiment-not-found",
        "No such experiment",
        "It was deleted, or posted to another service. `GET /v1/experiments` lists all.",
    ),
    errors.IllegalExperimentMove: Kind(
        409,
        "illegal-experiment-move",
        "The experiment's state does not allow that",
        "A finished experiment cannot be cancelled, and only a finished one be deleted. Look at its `status` first.",
    ),
    errors.BadExperiment: Kind(
        422,
        "bad-experiment",
        "The experiment is not valid",
        "`errors` says where the mistake stands and what is allowed there.",
    ),
    errors.IdempotencyConflict: Kind(
        422, "idempotency-conflict", "The Idempotency-Key belongs to another request", "Take a new key for a new job."
    ),
    errors.InterpreterNotFound: Kind(
        422,
        "interpreter-not-found",
        "No such interpreter",
        "`GET /v1/interpreters` lists what is here; install another one, and it is found at the next request.",
    ),
    errors.QueueFull: Kind(
        503, "queue-full", "The queue is full", "Post again after the seconds that `Retry-After` says."
    ),
    errors.ShuttingDown: Kind(
        503, "shutting-down", "The service is shutting down", "Post again when it is back. Accepted jobs are not lost."
    ),
    errors.StoreUnavailable: Kind(
        503,
        "store-unavailable",
        "The database cannot be used right now",
        "Nothing was accepted. Post again; the service's log says what the database said.",
    ),
    errors.ExecutorError: Kind(
        503, "executor-unavailable", "Jobs cannot be run right now", "Ask again; the service's log says why."
    ),
    errors.NotReady: Kind(
        503,
        "not-ready",
        "The service is not ready",
        "`parts` says which part is unwell, and why. It is looked at anew each time: ask again.",
    ),
    errors.BadScenario: Kind(
        500, "bad-scenario", "The scenario is broken", "Tell its author; `detail` says which rule it breaks."
    ),
    RequestValidationError: Kind(
        422,
        "invalid-request",
        "The request is not valid",
        "`errors` says for each mistake where it stands, what is allowed there, and the nearest valid value.",
    ),
}

BY_STATUS: dict[int, Kind] = {
    404: Kind(404, "not-found", "No such page", "`/docs` lists all addresses."),
    405: Kind(405, "method-not-allowed", "That method is not for this address", "The header `Allow` says which are."),
    408: Kind(
        408,
        "too-slow",
        "The body took too long",
        "Send it again, without pauses; `GET /v1/capacity` says how many seconds it may take.",
    ),
    413: Kind(413, "body-too-large", "The body is too large", "`GET /v1/capacity` says how large it may be."),
    415: Kind(
        415,
        "not-json",
        "The body is not sent as JSON",
        "Send the header `Content-Type: application/json`; `curl --json` does, `curl -d` does not. Do not compress it.",
    ),
    500: Kind(500, "internal-error", "The service made a mistake", "Its log tells more, under the same request id."),
}

AT_BORDER: dict[Refusal, Kind] = {
    "not-http": Kind(
        400, "not-http", "That is no HTTP request", "Send HTTP/1.1, or ask with a client that does, such as `curl`."
    ),
    "unclear-host": Kind(
        400, "unclear-host", "The request does not say whom it is for", "Send the header `Host`, and send it once."
    ),
    "long-address": Kind(
        414, "long-address", "The address is too long", "Post what stands in its query: `POST /v1/jobs` takes more."
    ),
    "large-headers": Kind(
        431, "large-headers", "The headers are too large", "Send fewer, or shorter ones: 100, and 64 KiB in all."
    ),
    "crowded": Kind(
        503,
        "crowded",
        "There are too many connections",
        "Try again in a moment; `THREADLAB_MAX_CONNECTIONS` says how many there may be.",
    ),
    "unknown-host": Kind(
        421,
        "unknown-host",
        "The service is not known by that name",
        "Use its address in figures, or `localhost`; or start it with the name in `THREADLAB_ALLOWED_HOSTS`.",
    ),
    "cross-site": Kind(
        403,
        "cross-site",
        "Another site's page may not do that",
        "Copy the address and paste it into the address bar; for a page of yours that is to use the service, start it "
        "with that page's origin in `THREADLAB_CORS_ORIGINS`.",
    ),
}


class ProblemResponse(Response):
    """An answer of the media type that RFC 9457 registers."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """Return the problem as JSON, without what it does not say."""
        return to_json({name: value for name, value in content.items() if value is not None})


def install(app: FastAPI, requests: RequestUnion) -> None:
    """Make the app answer every error as a problem."""

    async def on_known(request: Request, exc: Exception) -> Response:
        kind = next(KINDS[cls] for cls in type(exc).__mro__ if cls in KINDS)
        headers = {"Retry-After": str(exc.retry_after_s)} if isinstance(exc, errors.QueueFull) else None
        parts = _parts(exc.parts) if isinstance(exc, errors.NotReady) else None
        return _problem(request, kind, str(exc), _name_problem(exc, request.method), headers, parts=parts)

    async def on_invalid(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)
        if _not_sent_as_json(request, exc):
            return _problem(request, BY_STATUS[415], BY_STATUS[415].remedy)
        errors_there = exc.errors()
        told = errors_there[:MOST_TOLD]
        found = _once_each_place(_field_problem(error, error.get("body", exc.body), requests) for error in told)
        detail = " ".join(f"{_place(problem):.80}: {problem['detail']}" for problem in found)
        if len(errors_there) > len(told):
            detail += f" And {len(errors_there) - len(told):,} more."
        return _problem(request, KINDS[RequestValidationError], detail, found)

    async def on_http(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        if isinstance(exc.__cause__, RequestValidationError):  # what `bodies` says, which FastAPI wraps
            return await on_invalid(request, exc.__cause__)
        if exc.status_code == 400:  # FastAPI's word for a body that cannot be read at all
            found = [{"pointer": "#", "detail": f"The body cannot be read: {exc.__cause__ or exc.detail}."[:300]}]
            return _problem(request, KINDS[RequestValidationError], found[0]["detail"], found)
        kind = BY_STATUS.get(exc.status_code) or Kind(exc.status_code, "", str(exc.detail), "")
        headers = exc.headers
        if exc.status_code == 405:
            headers = {"Allow": ", ".join(sorted(_methods(app, request.url.path)))}
        return _problem(request, kind, f"{exc.detail}. {kind.remedy}".strip(), headers=headers)

    async def on_fault(request: Request, exc: Exception) -> Response:
        _log.error("request failed", exc_info=exc)
        return _problem(request, BY_STATUS[500], BY_STATUS[500].remedy)

    app.add_exception_handler(errors.ThreadlabError, on_known)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_fault)


def too_large(request: Request) -> Response:
    """Return the answer to a request whose body is beyond the limit."""
    return _problem(request, BY_STATUS[413], BY_STATUS[413].remedy)


def refused(request: Request, refusal: Refusal) -> Response:
    """Return the answer to a request that may not enter."""
    kind = AT_BORDER[refusal]
    return _problem(request, kind, kind.remedy)


def _methods(app: FastAPI, path: str) -> set[str]:
    """All methods of an address; a route by itself knows its own only."""
    found: set[str] = set()
    for template, operations in app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path):
            found.update(method.upper() for method in operations)
    found = found or {"GET"}  # a page
    return found | {"HEAD"} if "GET" in found and not path.startswith(STARTS_JOBS) else found


def _problem(
    request: Request,
    kind: Kind,
    detail: str,
    found: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    parts: list[dict[str, Any]] | None = None,
) -> Response:
    content = {
        "type": _page_of(request, kind),
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "request_id": logs.request_id.get(),
        "errors": found,
        "parts": parts,
    }
    return ProblemResponse(content, kind.status, headers)


def _page_of(request: Request, kind: Kind) -> str:
    if not kind.slug:
        return "about:blank"
    path = f"/problems/{kind.slug}"
    return path if kind.status == 421 else str(request.base_url.replace(path=path))  # that host is not ours to name


def _not_sent_as_json(request: Request, exc: RequestValidationError) -> bool:
    sent = request.headers.get("content-type", "").partition(";")[0].strip()
    return isinstance(exc.body, (bytes, str)) and bool(exc.body) and not re.fullmatch(r"application/(.*\+)?json", sent)


def _parts(found: Mapping[str, str | None]) -> list[dict[str, Any]]:
    return [{"name": name, "ready": ailment is None, "reason": ailment} for name, ailment in found.items()]


def _name_problem(exc: Exception, method: str) -> list[dict[str, Any]] | None:
    if isinstance(exc, errors.BadExperiment):
        pointer = "#" + "".join(f"/{_escaped(step)}" for step in exc.path)
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
        pointer = "#" + "".join(f"/{_escaped(step)}" for step in path)
        where = {"pointer": pointer} if source == "body" else {"parameter": str(path[0] if path else source)}
        return {**where, "detail": f"{error['msg']}."}
    if source == "body":
        problem = _body_problem(error, path, body, requests)
        return _without_nulls(**{**problem, "pointer": _in_matrix(problem["pointer"], error.get("places", {}))})
    if path and path[0] in requests.models:  # the query string of a small job
        problem = _body_problem(error, path, body, requests)
        place = str(problem.pop("pointer")).split("/")
        return _without_nulls(parameter=place[1] if len(place) > 1 else None, **problem)
    where = {"header": str(path[0])} if source == "header" else {"parameter": str(path[0] if path else source)}
    allowed = suggest.by_context(error)
    return _without_nulls(
        detail=error["msg"], **where, allowed=allowed, nearest=suggest.nearest(error.get("input"), allowed)
    )


def _in_matrix(pointer: str, places: Mapping[str, tuple[Any, ...]]) -> str:
    """The pointer into a job's request as one into an experiment's, where a varied field stands in a list of values."""
    _, _, rest = pointer.partition("#/")
    step, _, deeper = rest.partition("/")
    field = unquote(step).replace("~1", "/").replace("~0", "~")
    if field not in places:
        return pointer
    return "#" + "".join(f"/{_escaped(step)}" for step in places[field]) + (f"/{deeper}" if deeper else "")


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
    pointer = "#" + "".join(f"/{_escaped(step)}" for step in path)
    if model is None:
        allowed = suggest.by_context(error)
        return {
            "pointer": pointer,
            "detail": error["msg"],
            "allowed": allowed,
            "nearest": suggest.nearest(given, allowed),
        }
    schema = requests.schema(model)
    if kind == "unexpected_keyword_argument":
        known = sorted(suggest.resolve(schema, path[:-1]).get("properties", {}))
        nearest = suggest.closest(str(path[-1]), known)
        detail = f"{model if len(path) == 1 else 'This part'} has no field {_told(path[-1])}." + (
            f" Did you mean {nearest!r}?" if nearest else ""
        )
        return {"pointer": pointer, "detail": detail, "allowed": known, "nearest": nearest}
    allowed = suggest.keywords(suggest.resolve(schema, path)) if path else None
    detail = _IN_JSON_TERMS.get(kind) or error["msg"].removeprefix("Value error, ")
    return {
        "pointer": pointer,
        "detail": f"{detail}.".replace("..", "."),
        "allowed": allowed,
        "nearest": suggest.nearest(given, allowed),
    }


def _scenario_problem(tag: Any, names: list[str]) -> dict[str, Any]:
    if tag is None:
        return {"pointer": "#/scenario", "detail": "Say which scenario to run.", "allowed": names}
    nearest = suggest.closest(str(tag), names)
    return {
        "pointer": "#/scenario",
        "detail": f"There is no scenario {_told(tag)}." + (f" Did you mean {nearest!r}?" if nearest else ""),
        "allowed": names,
        "nearest": nearest,
    }


def _told(value: Any) -> str:
    """What a client wrote, as far as anybody wants to read it again."""
    text = repr(value)
    return text if len(text) <= _MOST_REPEATED else f"{text[:_MOST_REPEATED]}..."


def _escaped(step: Any) -> str:
    """A step of a pointer. Source: RFC 6901, sections 3 and 6."""
    return quote(str(step).replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@")


def _place(problem: Mapping[str, Any]) -> str:
    return str(problem.get("pointer") or problem.get("parameter") or problem.get("header") or "request")


def _without_nulls(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
