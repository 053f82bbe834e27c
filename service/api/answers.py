"""Pieces that several groups of endpoints share: JSON answers, `Prefer: wait`, waiting for threads without blocking.

Who uses it: the endpoints. The event loop never blocks here: what happens on threads is awaited.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from service import story
from service.api.schemas import job_view
from service.errors import ShuttingDown, StoreUnavailable
from service.events import JobEvent
from service.hub import Feed
from service.jobs import Job
from service.runner import Runner
from service.stores.base import Store

__all__ = ["Desk", "JsonAnswer", "Wait", "documented", "etag", "tags"]

T = TypeVar("T")

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


class Desk:
    """Where endpoints get jobs from and wait for them.

    Args:
        max_wait_s: the longest that an answer is held back.
        retry_after_s: what `Retry-After` says of an unfinished job.
    """

    def __init__(self, runner: Runner, store: Store, max_wait_s: int, retry_after_s: int) -> None:
        self.runner = runner
        self.store = store
        self.max_wait_s = max_wait_s
        self._retry_after = str(retry_after_s)

    def wait(self, prefer: str | None) -> Wait:
        """Read the header `Prefer`."""
        return Wait.parse(prefer, self.max_wait_s)

    async def job(self, job_id: str) -> Job:
        """Return a job as it is now.

        Raises:
            JobNotFound: there is none.
        """
        known = self.runner.peek(job_id)
        return await self.blocking(self.store.get, job_id) if known is None else known

    async def story(self, job_id: str) -> tuple[list[JobEvent], Job]:
        """Return what a job has told so far, and the job.

        Raises:
            JobNotFound: there is none.
        """
        before, feed, job = await self.following(job_id)
        return before + list(feed.events if feed is not None else ()), job

    async def following(self, job_id: str) -> tuple[list[JobEvent], Feed | None, Job]:
        """Return what a job told before, the feed of what it goes on to tell if it is on its way here, and the job.

        Raises:
            JobNotFound: there is none.
        """
        feed = self.runner.feed(job_id)  # first: a job that leaves while the store is read is found there
        job = await self.job(job_id)
        logs = await self.blocking(self.store.logs, job_id)
        if feed is None or job.finished:  # its end is on disk; the feed may hear of that a moment later
            return story.whole(job, logs), None, job
        earlier = [event for log in logs if log.epoch != feed.epoch for event in log.events]
        return [story.queued(job), *earlier], feed, job

    async def blocking(self, call: Callable[..., T], *args: Any) -> T:
        """Return what a blocking call returns, made on a thread."""
        return await run_in_threadpool(call, *args)

    async def future(self, future: Future[T]) -> T:
        """Return what a future of another thread resolves to."""
        return await asyncio.wrap_future(future)

    async def settled(self, future: Future[T] | None, seconds: int | None) -> T | None:
        """Return the finished job or experiment if it is finished in time, and on disk, else None."""
        if future is None or not seconds:
            return None
        waited = asyncio.wrap_future(future)
        await asyncio.wait((waited,), timeout=seconds)  # unlike wait_for, it leaves the future alone
        if not waited.done() or isinstance(waited.exception(), (ShuttingDown, StoreUnavailable)):
            return None  # it waits for the service's next start, or for the disk: accepted it was all the same
        return waited.result()

    def headers(self, finished: bool) -> dict[str, str]:
        """Return `Retry-After` while something is unfinished."""
        return {} if finished else {"Retry-After": self._retry_after}

    def answer(self, job: Job, status: int = 200, headers: dict[str, str] | None = None) -> JsonAnswer:
        """Return a job as an answer, with `ETag`, and `Retry-After` while it is unfinished."""
        known = {"ETag": etag(job), **(headers or {}), **self.headers(job.finished)}
        return JsonAnswer(job_view(job), status, known)


def tags(if_none_match: str) -> set[str]:
    """Read the header `If-None-Match`."""
    return {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}


def etag(job: Job) -> str:
    """Return what changes whenever a job does."""
    return f'"{job.id}-{job.attempt}-{job.status}"'
