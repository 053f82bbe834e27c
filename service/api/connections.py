"""A protocol of uvicorn's with limits on what a connection may cost before anybody knows what it wants.

    connection ──▶ head (time, size) ──▶ body (time) ──▶ answer ──▶ taken (time) ──▶ closed, by force if need be
        └─ too many: 503           └─ 400, 414, 431

Who uses it: `cli`, as uvicorn's `http`. uvicorn closes a connection that is idle between two requests, but would wait
for ever for the first, for the rest of its headers, or for a client that does not read; and it keeps whatever is sent
as headers. What is refused here never becomes a request: the answer is written by hand, in the shape of all others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools
from starlette.datastructures import MutableHeaders
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.guard import Refusal
from service.api.middleware import secure
from service.api.problem_types import BY_REFUSAL
from service.api.problems import ProblemResponse

__all__ = ["ConnectionLimits", "protocol"]

_log = logging.getLogger("service.access")

MOST_URL_BYTES = 16 * 1024  # 16 KiB: twice what browsers and proxies agree on; a program of `custom` fits
MOST_HEADERS = 100  # as in Apache; a browser behind two proxies sends some 30
MOST_HEAD_BYTES = 64 * 1024  # 64 KiB, URL included: as h11 has it, eight times what nginx takes
_LAST_BODY_S = 1.0  # for a body that is on its way when the service ends
_LINGER_S = 5.0  # for a client to take what was written before its connection ends

if TYPE_CHECKING:
    from asyncio import TimerHandle


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What connections may cost.

    Attributes:
        connections: how many there may be; one more is answered 503 and closed.
        headers_timeout_s: from a connection, or the first byte of a further request, to its last header.
        body_timeout_s: from the last header to the end of the body, whether somebody reads it or not.
        taken_timeout_s: for a client that does not read to take what is written.
    """

    connections: int
    headers_timeout_s: float
    body_timeout_s: float
    taken_timeout_s: float


class _Refused(Exception):
    """Ends the parsing of a request."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class _LimitedProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        limits: set by `protocol`, for all connections.
    """

    limits: ConnectionLimits
    cycle: Any  # None before the first request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._timers: dict[str, TimerHandle] = {}
        self._in_head = True
        self._head_bytes = 0  # of the URL and the headers that are complete
        self._untold_bytes = 0  # received since the parser last told of anything: what it holds back itself
        super().connection_made(transport)
        self._start("headers", self.limits.headers_timeout_s, self._end)
        if len(self.connections) > self.limits.connections:
            self._refuse("crowded")

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in self._timers.values():
            timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        rest: bytes | None = data
        while rest:  # once more for each wish to upgrade
            rest = self._fed(rest)

    def _fed(self, data: bytes) -> bytes | None:
        """Parse what was received; return what is to be parsed in place of a wish to upgrade and what follows it."""
        self._untold_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            return self._without_upgrade(data[exc.args[0] :])
        except httptools.HttpParserError as exc:
            cause = exc.__context__
            self._refuse(cause.refusal if isinstance(cause, _Refused) else "not-http")
        else:
            if self._untold_bytes > MOST_HEAD_BYTES:
                self._refuse("large-headers")
        return None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._untold_bytes = 0
        if "headers" not in self._timers:  # else the time runs since the connection
            self._start("headers", self.limits.headers_timeout_s, self._end)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MOST_URL_BYTES:
            raise _Refused("long-address")
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._untold_bytes = 0
        self._head_bytes += len(name) + len(value)
        if len(self.headers) >= MOST_HEADERS or self._head_bytes > MOST_HEAD_BYTES:
            raise _Refused("large-headers")
        if self._in_head:  # what comes after the body is nothing that anybody here reads
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop("headers")
        self._in_head = False
        self._untold_bytes = 0
        if self.parser.should_upgrade():  # the parser thinks that the rest is no HTTP: see `_fed`
            return
        self._take_host_from_target()
        super().on_headers_complete()
        self._start("body", self.limits.body_timeout_s, self._give_up_body)

    def _take_host_from_target(self) -> None:
        """Let a whole address count instead of the header `Host`. Source: RFC 9112, section 3.2.2."""
        if self.url.startswith((b"/", b"*")):
            return
        target: Any = httptools.parse_url(self.url)
        if target.host is None or target.userinfo:
            raise _Refused("not-http")
        host = b"[%b]" % target.host if b":" in target.host else target.host
        named = host if target.port is None else b"%b:%d" % (host, target.port)
        self.headers[:] = [(name, value) for name, value in self.headers if name != b"host"] + [(b"host", named)]

    def on_body(self, body: bytes) -> None:
        self._untold_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._untold_bytes = 0
        if not self.parser.should_upgrade():
            self._stop("body")
            super().on_message_complete()

    def _without_upgrade(self, rest: bytes) -> bytes | None:
        """Return a request as the HTTP/1.1 that it is: nobody has to switch to WebSocket or HTTP/2.

        Source:
            RFC 9110, section 7.8.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse("not-http")
            return None
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % each for each in self.headers if each[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"", b""]) + rest

    def _give_up_body(self) -> None:
        """Hang up on who still sends what was answered already; who is not answered yet is told by the app."""
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self._end()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._end()

    def timeout_keep_alive_handler(self) -> None:
        self._end()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._end()
        elif self.cycle.more_body:  # and if it comes in time, it is refused in words
            self._start("body", _LAST_BODY_S, self._end)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start("taken", self.limits.taken_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop("taken")
        super().resume_writing()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is no request, and hang up; in the middle of another answer only hang up.

        A request that is there as a whole is answered first: what follows it costs the connection, and not the answer.
        """
        waited_for = self.cycle is not None and not self.cycle.response_complete
        if waited_for and not self.pipeline and not self.cycle.more_body:
            self.cycle.keep_alive = False
            self._stop("headers")  # of what follows: that is read no more
            return
        silent = not waited_for or (not self.pipeline and not self.cycle.response_started)
        if silent and not self.transport.is_closing():
            request_id = uuid.uuid4().hex
            self.transport.write(_answer(refusal, request_id, self.server_state.default_headers))
            status = BY_REFUSAL[refusal].status
            _log.info("%s", refusal, extra={"status": status, "request_id": request_id})
        self._end()

    def _end(self) -> None:
        """Close the connection, and do not wait long for the client to take what was written."""
        self.transport.close()
        self._start("end", _LINGER_S, self.transport.abort)

    def _start(self, name: str, seconds: float, call: Callable[[], object]) -> None:
        self._stop(name)
        self._timers[name] = self.loop.call_later(seconds, call)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()


def protocol(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with these limits."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"limits": limits})


def _answer(refusal: Refusal, request_id: str, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return a whole answer, as it goes over the wire."""
    kind = BY_REFUSAL[refusal]
    content = {"type": f"/problems/{kind.slug}", "title": kind.title, "status": kind.status, "detail": kind.remedy}
    body = json.dumps({**content, "request_id": request_id}).encode()
    headers = MutableHeaders(raw=list(default_headers))
    headers["Content-Type"] = ProblemResponse.media_type
    headers["Content-Length"] = str(len(body))
    headers["Connection"] = "close"
    headers["X-Request-ID"] = request_id
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"
    secure(headers, kind.status)
    lines = [b"HTTP/1.1 %d %b" % (kind.status, HTTPStatus(kind.status).phrase.encode())]
    return b"\r\n".join([*lines, *(b"%b: %b" % each for each in headers.raw), b"", body])
