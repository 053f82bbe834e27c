"""What happens around every request: an id, a log line, and headers that every answer has; an endpoint may set its own.

Who uses it: `app`, as the outermost layer. Pure ASGI, because it is on the path of every request.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs

__all__ = ["RequestContext"]

_log = logging.getLogger("service.access")

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # anything else from a client would be theirs to write into our log


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


class RequestContext:
    """Gives each request an id (the client's own `X-Request-ID` if it is sane) and logs how it was answered.

    Args:
        too_large: makes the answer to a body beyond the limit; Starlette's own, made far outside, is plain text.
    """

    def __init__(self, app: ASGIApp, too_large: Callable[[Request], Response]) -> None:
        self._app = app
        self._too_large = too_large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        token = logs.request_id.set(request_id)
        begun = time.perf_counter()
        status = 0
        replaced = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, replaced
            if replaced:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                if status == 413 and headers.get("content-type", "").startswith("text/plain"):
                    await self._too_large(Request(scope))(scope, receive, send_with_headers)
                    replaced = True
                    return
                headers["X-Request-ID"] = request_id
                _secure(headers)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            took_s = round(time.perf_counter() - begun, 6)
            _log.info("%s %s", scope["method"], scope["path"], extra={"status": status, "took_s": took_s})
            logs.request_id.reset(token)


def _secure(headers: MutableHeaders) -> None:
    """Say what browsers may do with an answer. Pictures can be shown by other sites: they are made to be embedded."""
    media_type = headers.get("content-type", "").partition(";")[0]
    headers["X-Content-Type-Options"] = "nosniff"
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault(
        "Cross-Origin-Resource-Policy", "cross-origin" if media_type == "image/svg+xml" else "same-origin"
    )
    headers.setdefault("Content-Security-Policy", _POLICIES.get(media_type, _POLICY))
