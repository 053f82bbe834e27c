"""Where endpoints get jobs from and wait for them.

Who uses it: every group of endpoints. The event loop never blocks here: what happens on threads is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from service import story
from service.api.answers import JsonAnswer, Wait, etag
from service.api.schemas import job_view
from service.errors import JobNotFound, ShuttingDown, StoreUnavailable
from service.events import JobEvent
from service.hub import Feed
from service.jobs import Job
from service.runner import Runner
from service.stores.base import Store

__all__ = ["JobAccess"]

T = TypeVar("T")


class JobAccess:
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
        """Return the finished job or experiment if it is finished in time, and on disk, else None.

        None also if the store has it no more, or never took it: who asks the store for it is told which.
        """
        if future is None or not seconds:
            return None
        waited = asyncio.wrap_future(future)
        await asyncio.wait((waited,), timeout=seconds)  # unlike wait_for, it leaves the future alone
        if not waited.done() or isinstance(waited.exception(), (ShuttingDown, StoreUnavailable, JobNotFound)):
            return None  # it waits for the service's next start, or for the disk: accepted it was all the same
        return waited.result()

    def headers(self, finished: bool) -> dict[str, str]:
        """Return `Retry-After` while something is unfinished."""
        return {} if finished else {"Retry-After": self._retry_after}

    def answer(self, job: Job, status: int = 200, headers: dict[str, str] | None = None) -> JsonAnswer:
        """Return a job as an answer, with `ETag`, and `Retry-After` while it is unfinished."""
        known = {"ETag": etag(job), **(headers or {}), **self.headers(job.finished)}
        return JsonAnswer(job_view(job), status, known)
