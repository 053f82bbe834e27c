"""The seam between jobs and what remembers them.

Who uses it: `runner`, `experimenter` and `retention` write, `api` reads. Implementations stand beside this file;
`tests/stores/test_contract.py` runs over all of them. Writes return futures, so that many can share one commit; a write
that came back is on disk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from service.events import EventLog
from service.experiments import Run
from service.experiments.experiment import Experiment, ExperimentState
from service.jobs import Job, JobHead, JobState

__all__ = [
    "Added",
    "AddedExperiment",
    "ExperimentStore",
    "Idempotency",
    "JobQuery",
    "JobStore",
    "Pruned",
    "RetainingStore",
    "Store",
]


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
class AddedExperiment:
    """An experiment as it is remembered, and whether it was there before."""

    experiment: Experiment
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


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much was forgotten in one go."""

    jobs: int
    experiments: int


class JobStore(ABC):
    """Remembers jobs.

    Thread safety: all methods may be called from any thread. Writes are carried out in the order in which they were
    called. A future's callbacks run on the store's own thread and must be short.
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
    def known(self, idempotency: Idempotency) -> Future[Job | None]:
        """Find the job that has a key, if there is one; sees every write that was called for before.

        The future raises:
            IdempotencyConflict: the key belongs to a job with another fingerprint.
            StoreUnavailable: it could not be read.
        """

    @property
    @abstractmethod
    def life(self) -> int:
        """How often it was opened, this time included: the epoch of the events that are told in this life."""

    @abstractmethod
    def move(self, before: JobState, job: Job, log: EventLog | None = None, *, lazily: bool = False) -> Future[None]:
        """Replace a job by what became of it, if it is still in the state `before`: compare and set.

        Args:
            log: what was told of it in this life, remembered with it in place of what was remembered of this life.
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
    def logs(self, job_id: str) -> list[EventLog]:
        """Return what was told of a job in each life, in order; nothing for a job that is unknown.

        Raises:
            StoreUnavailable: it could not be read.
        """

    @abstractmethod
    def page(self, query: JobQuery) -> list[JobHead]:
        """Return the jobs of a page as lists show them, newest first.

        Raises:
            StoreUnavailable: they could not be read.
        """

    @abstractmethod
    def unfinished(self) -> list[Job]:
        """Return all jobs that are queued or running, oldest first.

        Raises:
            StoreUnavailable: they could not be read.
        """


class ExperimentStore(ABC):
    """Remembers experiments and the runs that they have had.

    Thread safety: as for jobs, with which they share one order of writes.
    """

    @abstractmethod
    def add_experiment(self, experiment: Experiment, idempotency: Idempotency | None = None) -> Future[AddedExperiment]:
        """Remember a new experiment, or find the one that has its key already.

        The future raises:
            IdempotencyConflict: the key belongs to an experiment with another fingerprint.
            StoreUnavailable: nothing was remembered.
        """

    @abstractmethod
    def move_experiment(self, before: ExperimentState, experiment: Experiment) -> Future[None]:
        """Replace an experiment by what became of it, if it is still in the state `before`: compare and set.

        The future raises:
            IllegalExperimentMove: it is in another state.
            ExperimentNotFound: there is no such experiment.
            StoreUnavailable: nothing was changed.
        """

    @abstractmethod
    def add_run(self, experiment_id: str, run: Run) -> Future[None]:
        """Remember what a run showed, in place of what was remembered of the same run; with the next commit.

        The future raises:
            StoreUnavailable: nothing was remembered.
        """

    @abstractmethod
    def delete_experiment(self, experiment_id: str) -> Future[None]:
        """Forget a finished experiment and its runs; its jobs stay.

        The future raises:
            IllegalExperimentMove: it is not finished.
            ExperimentNotFound: there is no such experiment.
            StoreUnavailable: nothing was changed.
        """

    @abstractmethod
    def experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment.

        Raises:
            ExperimentNotFound: there is no such experiment.
            StoreUnavailable: it could not be read.
        """

    @abstractmethod
    def runs(self, experiment_id: str) -> list[Run]:
        """Return the runs of an experiment, those of a cell in order of repeat.

        Raises:
            StoreUnavailable: they could not be read.
        """

    @abstractmethod
    def experiments(self, limit: int, before: str | None = None, label: str | None = None) -> list[Experiment]:
        """Return experiments, newest first.

        Args:
            limit: how many at most.
            before: the id of one; only older ones are returned.
            label: only those with this one; None means all.

        Raises:
            StoreUnavailable: they could not be read.
        """

    @abstractmethod
    def unfinished_experiments(self) -> list[Experiment]:
        """Return all experiments that are queued or running, oldest first.

        Raises:
            StoreUnavailable: they could not be read.
        """


class RetainingStore(ABC):
    """Forgets what is old, bit by bit, so that nobody waits long for it.

    Thread safety: as for jobs, with which it shares one order of writes.
    """

    @abstractmethod
    def prune(self, before: datetime, limit: int) -> Future[Pruned]:
        """Forget jobs and experiments that finished before a moment, with all that they told; never unfinished ones.

        Args:
            limit: how many of each at most; the oldest go first.

        The future raises:
            StoreUnavailable: nothing was forgotten.
        """

    @abstractmethod
    def shrink(self) -> bool:
        """Give back some of the room of what was forgotten. Blocks for a moment.

        Returns:
            Whether there is more to give back.

        Raises:
            StoreUnavailable: nothing was given back.
        """

    @abstractmethod
    def set_marks(self, marks: Sequence[datetime]) -> Future[None]:
        """Remember what the clock was seen to show, in place of what was remembered of it.

        The future raises:
            StoreUnavailable: nothing was remembered.
        """

    @abstractmethod
    def marks(self) -> list[datetime]:
        """Return what the clock was seen to show, in order; see `retention`.

        Raises:
            StoreUnavailable: they could not be read.
        """


class Store(JobStore, ExperimentStore, RetainingStore):
    """What remembers everything, in one place."""

    @abstractmethod
    def open(self) -> None:
        """Get ready.

        Raises:
            DatabaseInUse: another service has it.
            StoreUnavailable: the database cannot be used; the text says why, and what to do.
        """

    @abstractmethod
    def probe(self) -> None:
        """See whether it can be read and written, at the cost of one small write: it is asked every few seconds.

        Raises:
            StoreUnavailable: it cannot be; the text says why, and what to do.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish every write that was called for, and let go. Idempotent."""
