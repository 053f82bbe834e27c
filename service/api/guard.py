"""Who may ask: the host that a request names, the site that a browser comes from, and how long a body may take.

Who uses it: `app`, around all endpoints and inside `middleware.RequestContext`, so that a refusal has an id and the
common headers. Pure ASGI. It decides by headers alone and knows no endpoint but those that start jobs by a bare GET.

A service on loopback has no password: whoever reaches it may use it. Browsers reach it, too, on behalf of any page that
their user opens. They send `Origin` or `Sec-Fetch-Site` with such requests, which no page can forge; what says that it
comes from elsewhere is refused. A name that an attacker lets point to 127.0.0.1 (DNS rebinding) would make their page
the same origin as the service, but is seen in `Host`. Programs send none of these headers and are not in the way.

Source: Fetch Metadata (W3C) and the "resource isolation policy" of web.dev; OWASP, Cross-Site Request Forgery.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Literal

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "Refusal", "host_name", "may_be_named"]

Refusal = Literal["unknown-host", "unclear-host", "cross-site", "not-http", "long-address", "large-headers", "crowded"]
"""Why something does not become a request for the app; all but the first three are said by `connections`."""

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")
_OURS = ("same-origin", "none")  # `none`: typed into the address bar, or a bookmark
_SAFE = ("GET", "HEAD")

STARTS_JOBS = ("/v1/try/", "/v1/atomicity")  # how the addresses begin at which a GET starts jobs


class Guard:
    """Lets in whom it may, and cuts off who sends too slowly.

    Args:
        hosts: names that `Host` may have beside addresses in figures, `localhost` and what is under it; `*`: any.
        origins: `scheme://host:port` of other sites whose pages may ask.
        body_timeout_s: seconds that a body may take to arrive, from its first read.
        refuse: makes the answer to a request that may not pass.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str],
        origins: Iterable[str],
        body_timeout_s: float,
        refuse: Callable[[Request, Refusal], Response],
    ) -> None:
        self._app = app
        self._hosts = frozenset(host if host == "*" else host_name(host) for host in hosts)
        self._origins = frozenset(origins)
        self._body_timeout_s = body_timeout_s
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await self._refuse(Request(scope), refusal)(scope, receive, send)
            return
        await self._app(scope, _in_time(receive, self._body_timeout_s), send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if not all(may_be_named(host, self._hosts) for host in hosts):
            return "unknown-host"
        if len(hosts) > 1 or (not hosts and scope["http_version"] != "1.0"):  # RFC 9112, section 3.2
            return "unclear-host"
        return "cross-site" if self._is_cross_site(scope, headers) else None

    def _is_cross_site(self, scope: Scope, headers: Headers) -> bool:
        """Whether a page of another origin has sent it, be it a preflight only."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._origins:
            return False
        if site is not None:
            return site not in _OURS and not _is_harmless(scope, headers)
        if origin is not None:
            return origin.partition("://")[2].lower() != headers.get("host", "").lower()
        return False


def _is_harmless(scope: Scope, headers: Headers) -> bool:
    """Whether it follows a link to what starts nothing, or shows a picture in another page (a README, a lecture)."""
    if scope["method"] not in _SAFE or scope["path"].startswith(STARTS_JOBS):
        return False
    followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    shown = headers.get("sec-fetch-dest") == "image" and scope["path"].endswith(".svg")
    return followed or shown


def host_name(host: str) -> str | None:
    """Return the name in a `Host` header without port and trailing dot, in lower case; None if it is malformed."""
    found = _HOST.fullmatch(host)
    return found and found["name"].lower().removesuffix(".")


def may_be_named(host: str, allowed: frozenset[str | None]) -> bool:
    """Return whether a `Host` header names the service.

    An address in figures does: an attacker's name can point to us, but then the header has that name.
    """
    name = host_name(host)
    if name is None:
        return False
    return "*" in allowed or name in allowed or name.split(".")[-1] == "localhost" or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _in_time(receive: Receive, timeout_s: float) -> Receive:
    """What reads a request's body and gives up when it takes too long."""
    deadline: float | None = None
    complete = False

    async def receive_in_time() -> Message:
        nonlocal deadline, complete
        if complete:  # now it waits for the client to hang up
            return await receive()
        deadline = deadline or asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            text = f"The body did not arrive within {timeout_s:g} seconds"
            raise HTTPException(408, text, {"Connection": "close"}) from None
        complete = not message.get("more_body", False)
        return message

    return receive_in_time
