"""What happens inside the service, for whoever counts it: a fact is a frozen value, and an observer is called with it.

    runner, executors, stores ── fact ──▶ observer (by default nobody)

Who uses it: those three tell, `api.metrics` counts, `app` brings them together. An observer is called on the thread
where the fact happened, often with a lock held and a job waiting: it must be quick, must not raise, and must not call
back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from service.jobs import Job

__all__ = [
    "ChildCause",
    "ChildEnded",
    "ChildStarted",
    "Committed",
    "Fact",
    "ForkServerEnded",
    "ForkServerStarted",
    "JobAccepted",
    "JobEnded",
    "JobFact",
    "JobPutBack",
    "JobRefused",
    "JobTakenUp",
    "Observer",
    "ProcessFact",
    "PutBackReason",
    "ReadDone",
    "RefusalReason",
    "ServerCause",
    "StoreFact",
    "nobody",
]

RefusalReason = Literal["queue_full", "shutting_down"]

PutBackReason = Literal["not_run", "stopped"]
"""`not_run`: it could not be run this time. `stopped`: the service is ending."""

ChildCause = Literal[
    "exited", "cancelled", "timed_out", "signal", "broken_protocol", "late", "fork_failed", "fork_server_died"
]
"""`exited`: by itself, with any exit code. `cancelled`, `timed_out`: it was asked to, or killed. `signal`: by one that
nobody here sent. `broken_protocol`: it said what it should not have. `late`: it had not begun when it should have."""

ServerCause = Literal["died", "unwell", "closed"]
"""`died`: by itself, or somebody killed it. `unwell`: it no longer did its work and was ended. `closed`: with us."""


@dataclass(frozen=True, slots=True)
class JobFact:
    """Something happened to a job."""

    job: Job


@dataclass(frozen=True, slots=True)
class JobAccepted(JobFact):
    """It is new, and on disk."""


@dataclass(frozen=True, slots=True)
class JobRefused(JobFact):
    """It was not taken."""

    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class JobTakenUp(JobFact):
    """An earlier service accepted it; now it is queued here."""


@dataclass(frozen=True, slots=True)
class JobPutBack(JobFact):
    """It was running, and waits again."""

    reason: PutBackReason


@dataclass(frozen=True, slots=True)
class JobEnded(JobFact):
    """Its end is on disk."""


@dataclass(frozen=True, slots=True)
class ProcessFact:
    """Something happened to a child or a fork server."""


@dataclass(frozen=True, slots=True)
class ChildStarted(ProcessFact):
    """A fork server is asked for a child; one `ChildEnded` will follow."""


@dataclass(frozen=True, slots=True)
class ChildEnded(ProcessFact):
    """A child is gone, or never came to be.

    Attributes:
        signal: the name of the one that ended it, whoever sent it.
        startup_s: seconds from asking for it to its `started`; None if it did not get so far.
    """

    cause: ChildCause
    signal: str | None = None
    startup_s: float | None = None


@dataclass(frozen=True, slots=True)
class ForkServerStarted(ProcessFact):
    """A fork server has come up."""


@dataclass(frozen=True, slots=True)
class ForkServerEnded(ProcessFact):
    """A fork server is gone."""

    cause: ServerCause


@dataclass(frozen=True, slots=True)
class StoreFact:
    """The database was used.

    Attributes:
        took_s: seconds from a transaction's beginning to the end of its commit, the sync of the disk included, or for
            which a read held a connection.
    """

    took_s: float


@dataclass(frozen=True, slots=True)
class Committed(StoreFact):
    """A transaction has ended.

    Attributes:
        writes: how many shared it.
        failed: whether nothing was written.
    """

    writes: int
    failed: bool


@dataclass(frozen=True, slots=True)
class ReadDone(StoreFact):
    """Something was read."""


Fact = JobFact | ProcessFact | StoreFact


class Observer(Protocol):
    """Hears of facts.

    Thread safety: it is called from many threads at once.
    """

    def __call__(self, fact: Fact, /) -> None:
        """Take notice."""


def nobody(_: Fact, /) -> None:
    """Take no notice."""
