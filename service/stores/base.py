"""The seam between jobs and what remembers them.

Who uses it: `runner` writes, `api` reads. Implementations stand beside this file; `tests/stores/test_contract.py` runs
over all of them. Writes return futures, so that many can share one commit; a write that came back is on disk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass

from service.jobs import Job, JobState

__all__ = ["Added", "Idempotency", "JobQuery", "JobStore"]


@dataclass(frozen=True, slots=True)
class Idempotency:
    """What makes a repeated request the same request.

    Attributes:
        key: the client's `Idempotency-Key`.
        fingerprint: a hash of the request with every default filled in.
    """

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Added:
    """A job as it is remembered, and whether it was there before."""

    job: Job
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs a page shows, newest first.

    Attributes:
        limit: how many at most.
        before: the id of a job; only older ones are shown.
        status: any of these; empty means all.
    """

    limit: int
    before: str | None = None
    status: Collection[JobState] = ()
    scenario: str | None = None
    label: str | None = None


class JobStore(ABC):
    """Remembers jobs.

    Thread safety: all methods may be called from any thread. Writes are carried out in the order in which they were
    called. A future's callbacks run on the store's own thread and must be short.
    """

    @abstractmethod
    def open(self) -> None:
        """Get ready.

        Raises:
            StoreUnavailable: the database cannot be used; the text says why.
        """

    @abstractmethod
    def add(self, job: Job, idempotency: Idempotency | None = None, *, lazily: bool = False) -> Future[Added]:
        """Remember a new job, or find the one that has its key already.

        Args:
            lazily: see `move`.

        The future raises:
            IdempotencyConflict: the key belongs to a job with another fingerprint.
            StoreUnavailable: nothing was remembered.
        """

    @abstractmethod
    def move(self, before: JobState, job: Job, *, lazily: bool = False) -> Future[None]:
        """Replace a job by what became of it, if it is still in the state `before`: compare and set.

        Args:
            lazily: nobody waits for this one: it may share the commit of the next write, or come 50 ms late.

        The future raises:
            IllegalMove: it is in another state; the text tells the job's story.
            JobNotFound: there is no such job.
            StoreUnavailable: nothing was changed.
        """

    @abstractmethod
    def delete(self, job_id: str) -> Future[None]:
        """Forget a finished job.

        The future raises:
            IllegalMove: it is not finished.
            JobNotFound: there is no such job.
            StoreUnavailable: nothing was changed.
        """

    @abstractmethod
    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            JobNotFound: there is no such job.
            StoreUnavailable: it could not be read.
        """

    @abstractmethod
    def page(self, query: JobQuery) -> list[Job]:
        """Return the jobs of a page, newest first.

        Raises:
            StoreUnavailable: they could not be read.
        """

    @abstractmethod
    def unfinished(self) -> list[Job]:
        """Return all jobs that are queued or running, oldest first.

        Raises:
            StoreUnavailable: they could not be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish every write that was called for, and let go. Idempotent."""
