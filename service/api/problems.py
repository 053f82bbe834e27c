"""Our errors as problem+json, after RFC 9457; nothing else chooses status codes of errors.

Who uses it: `app` installs the handlers. The table `problem_types.BY_ERROR` is the whole truth: what is not in
it is a fault of ours and answers 500, without a word of what happened inside.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Mount

from service import errors, logs
from service.api import validation_errors
from service.api.guard import STARTS_JOBS, Refusal
from service.api.problem_types import BY_ERROR, BY_REFUSAL, BY_STATUS, ProblemType
from service.api.requests import RequestUnion

__all__ = ["ProblemResponse", "install", "refused", "too_large"]

_log = logging.getLogger(__name__)

_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")  # that an endpoint can have; HEAD goes with GET, see `middleware`


class ProblemResponse(Response):
    """An answer of the media type that RFC 9457 registers."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """Return the problem as JSON, without what it does not say."""
        return to_json({name: value for name, value in content.items() if value is not None})


def install(app: FastAPI, requests: RequestUnion) -> None:
    """Make the app answer every error as a problem."""

    async def on_known(request: Request, exc: Exception) -> Response:
        kind = next(BY_ERROR[cls] for cls in type(exc).__mro__ if cls in BY_ERROR)
        headers = {"Retry-After": str(exc.retry_after_s)} if isinstance(exc, errors.QueueFull) else None
        parts = _parts(exc.parts) if isinstance(exc, errors.NotReady) else None
        found = validation_errors.of_name(exc, request.method)
        detail = validation_errors.in_a_sentence(found) if found and kind.status == 422 else str(exc)
        return _problem(request, kind, detail, found, headers, parts=parts)

    async def on_invalid(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)
        if _not_sent_as_json(request, exc):
            return _problem(request, BY_STATUS[415], BY_STATUS[415].remedy)
        detail, found = validation_errors.of_request(exc, requests)
        return _problem(request, BY_ERROR[RequestValidationError], detail, found)

    async def on_http(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        if isinstance(exc.__cause__, RequestValidationError):  # what `bodies` says, which FastAPI wraps
            return await on_invalid(request, exc.__cause__)
        if exc.status_code == 400:  # FastAPI's word for a body that cannot be read at all
            found = [{"pointer": "#", "detail": f"The body cannot be read: {exc.__cause__ or exc.detail}."[:300]}]
            return _problem(request, BY_ERROR[RequestValidationError], found[0]["detail"], found)
        kind = BY_STATUS.get(exc.status_code) or ProblemType(exc.status_code, "", str(exc.detail), "")
        headers = exc.headers
        if exc.status_code == 405:
            headers = {"Allow": ", ".join(sorted(_methods(app, request.scope["path"])))}
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
    kind = BY_REFUSAL[refusal]
    return _problem(request, kind, kind.remedy)


def _methods(app: FastAPI, path: str) -> set[str]:
    """All methods of an address; a route by itself knows its own only, and one of an included router not even these."""
    found = {method for method in _METHODS if _is_routed(app, path, method)} or {"GET"}  # a file of the pages
    return found | {"HEAD"} if "GET" in found and not path.startswith(STARTS_JOBS) else found


def _is_routed(app: FastAPI, path: str, method: str) -> bool:
    scope = {"type": "http", "path": path, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in app.routes if not isinstance(route, Mount))


def _problem(
    request: Request,
    kind: ProblemType,
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


def _page_of(request: Request, kind: ProblemType) -> str:
    if not kind.slug:
        return "about:blank"
    path = f"/problems/{kind.slug}"
    return path if kind.status == 421 else str(request.base_url.replace(path=path))  # that host is not ours to name


def _not_sent_as_json(request: Request, exc: RequestValidationError) -> bool:
    sent = request.headers.get("content-type", "").partition(";")[0].strip()
    return isinstance(exc.body, (bytes, str)) and bool(exc.body) and not re.fullmatch(r"application/(.*\+)?json", sent)


def _parts(found: Mapping[str, str | None]) -> list[dict[str, Any]]:
    return [{"name": name, "ready": ailment is None, "reason": ailment} for name, ailment in found.items()]
