"""What happens around every request: an id, a log line, and headers that every answer has; an endpoint may set its own.

Every address that can be asked by GET can be asked by HEAD, which is answered alike but for the body, as RFC 9110 wants
it; only those that start jobs cannot, because nobody means that by HEAD.

Who uses it: `app`, as the outermost layer. Pure ASGI, because it is on the path of every request.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs
from service.api.guard import STARTS_JOBS

__all__ = ["Exchange", "RequestContext", "Traffic", "secure"]

_log = logging.getLogger("service.access")

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # anything else from a client would be theirs to write into our log


_LISTS = (b"accept", b"if-none-match", b"prefer")

_HEADERS = {
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}

# What an answer may load when it is opened as a page: nothing, but a picture may style itself.
_POLICY = "default-src 'none'; frame-ancestors 'none'"
_POLICIES = {
    "text/html": "base-uri 'none'; object-src 'none'; frame-ancestors 'none'",  # until a page says more about itself
    "image/svg+xml": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """How a request was answered.

    Attributes:
        method: as the client wrote it.
        route: the template of its address, such as `/v1/jobs/{job_id}`; None where it has none.
        status: None if there was nobody left to answer.
        waited_s: seconds from its headers to those of the answer.
        streams: whether its length is not known when it begins.
    """

    method: str
    route: str | None
    status: int | None
    waited_s: float
    streams: bool


class Traffic(Protocol):
    """Hears of answers, on the event loop: it must be quick and must not raise."""

    def begins(self, exchange: Exchange) -> None:
        """An answer is sent."""

    def ends(self, exchange: Exchange) -> None:
        """It was sent to its end, or its client has left."""


class RequestContext:
    """Gives each request an id (the client's own `X-Request-ID` if it is sane) and logs how it was answered.

    Args:
        too_large: makes the answer to a body beyond the limit; Starlette's own, made far outside, is plain text.
        traffic: hears of each answer.
    """

    def __init__(self, app: ASGIApp, too_large: Callable[[Request], Response], traffic: Traffic) -> None:
        self._app = app
        self._too_large = too_large
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        token = logs.request_id.set(request_id)
        begun = time.perf_counter()
        scope = {**scope, "headers": _joined(scope["headers"])}
        method = scope["method"]
        if method == "HEAD" and not scope["path"].startswith(STARTS_JOBS):
            scope = {**scope, "method": "GET"}  # the server knows it as HEAD, and leaves bodies out
        exchange: Exchange | None = None
        done = False

        async def send_with_headers(message: Message) -> None:
            nonlocal exchange, done
            if done:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                if status == 413 and headers.get("content-type", "").startswith("text/plain"):
                    await self._too_large(Request(scope))(scope, receive, send_with_headers)
                    done = True
                    return
                headers["X-Request-ID"] = request_id
                secure(headers, status)
                exchange = _exchange(method, scope, status, begun, "content-length" not in headers)
                self._traffic.begins(exchange)
            elif method == "HEAD":
                done = True  # however much would follow: a stream ends here
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            took_s = round(time.perf_counter() - begun, 6)
            if exchange is None:
                exchange = _exchange(method, scope, None, begun, streams=False)
                self._traffic.begins(exchange)
            self._traffic.ends(exchange)
            _log.info("%s %s", method, scope["path"], extra={"status": exchange.status or 0, "took_s": took_s})
            logs.request_id.reset(token)


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers with each list of `_LISTS` in one line: clients and proxies may cut them anywhere (RFC 9110, 5.3)."""
    lists = {name: b", ".join(value for other, value in headers if other == name) for name in _LISTS}
    return [
        *((name, value) for name, value in headers if name not in lists),
        *((name, value) for name, value in lists.items() if value),
    ]


def _exchange(method: str, scope: Scope, status: int | None, begun: float, streams: bool) -> Exchange:
    route = getattr(scope.get("route"), "path_format", None)  # the router has put it there
    return Exchange(method, route, status, time.perf_counter() - begun, streams)


def secure(headers: MutableHeaders, status: int) -> None:
    """Say what browsers may do with an answer. Pictures can be shown by other sites: they are made to be embedded.

    A 304 does not tell of what kind the thing is, and a browser takes its headers for those that the thing came with:
    what depends on the kind is left as it was.
    """
    headers["X-Content-Type-Options"] = "nosniff"
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    if status == 304:
        return
    media_type = headers.get("content-type", "").partition(";")[0]
    headers.setdefault(
        "Cross-Origin-Resource-Policy", "cross-origin" if media_type == "image/svg+xml" else "same-origin"
    )
    headers.setdefault("Content-Security-Policy", _POLICIES.get(media_type, _POLICY))
