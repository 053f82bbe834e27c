"""Pieces of answers that several groups of endpoints share: JSON, `Prefer: wait`, `ETag`, what can go wrong.

Who uses it: the endpoints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from starlette.responses import JSONResponse

from service.jobs import Job

__all__ = ["JsonAnswer", "Wait", "documented", "etag", "tags"]

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\"?(?=$|[,;\s])", re.IGNORECASE)


_TEXTS = {
    304: "Not changed since the version named by `If-None-Match`.",
    403: "A browser sent it for another site's page.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "Its state does not allow that.",
    413: "The body is too large.",
    414: "The address is too long.",
    415: "The body is not sent as JSON.",
    421: "The service is not known by the name in `Host`.",
    422: "The request is not valid; `errors` says where and what would be.",
    431: "The headers are too large.",
    500: "A fault of the service; its log tells more, under the same `X-Request-ID`.",
    503: "Not now; nothing was accepted.",
}
_EVERYWHERE = (403, 414, 421, 431, 500)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI of what an operation can answer besides its good answers: these, and what any can.

    What is no request for an operation (no HTTP, no such address) stands in the document's own text.
    """
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    slow = (408,) if 413 in statuses else ()  # both are of bodies
    return {
        status: {"description": _TEXTS[status]} | ({"content": problem} if status >= 400 else {})
        for status in sorted({*statuses, *slow, *_EVERYWHERE})
    }


class JsonAnswer(JSONResponse):
    """A JSON answer that is written as it is: its shape is pinned by tests, not checked again for each request."""

    def render(self, content: Any) -> bytes:
        """Return the content as JSON."""
        return to_json(content)


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a client is willing to wait.

    Attributes:
        seconds: None if it did not say.
    """

    seconds: int | None

    @classmethod
    def parse(cls, prefer: str | None, most: int) -> Wait:
        """Read the header `Prefer`; what it says beyond `wait` is ignored. Source: RFC 7240, section 4.3."""
        found = _WAIT.search(prefer or "")
        return cls(min(int(found[1]), most) if found else None)

    def headers(self) -> dict[str, str]:
        """Return what tells the client that its preference was heard."""
        return {} if self.seconds is None else {"Preference-Applied": f"wait={self.seconds}"}


def tags(if_none_match: str) -> set[str]:
    """Read the header `If-None-Match`."""
    return {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}


def etag(job: Job) -> str:
    """Return what changes whenever a job does."""
    return f'"{job.id}-{job.attempt}-{job.status}"'
