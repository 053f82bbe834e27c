"""The twin of a store: remembers jobs as long as the process lives.

Who uses it: tests, and `threadlab run`, which has nothing to remember.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import datetime
from itertools import islice
from typing import TypeVar

from service.errors import (
    ExperimentNotFound,
    IdempotencyConflict,
    IllegalExperimentMove,
    IllegalMove,
    JobNotFound,
    StoreUnavailable,
    ThreadlabError,
)
from service.events import EventLog
from service.experiments import Run
from service.experiments.experiment import Experiment, ExperimentState
from service.jobs import FINAL, Job, JobHead, JobState
from service.stores.base import Added, AddedExperiment, Idempotency, JobQuery, Pruned, Store

__all__ = ["MemoryStore"]

T = TypeVar("T")


class MemoryStore(Store):
    """Jobs and experiments in dicts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False  # guarded by _lock
        self._jobs: dict[str, Job] = {}  # guarded by _lock
        self._logs: dict[str, EventLog] = {}  # by job id; guarded by _lock
        self._keys: dict[str, tuple[str, str]] = {}  # key -> (fingerprint, job id); guarded by _lock
        self._experiments: dict[str, Experiment] = {}  # guarded by _lock
        self._experiment_keys: dict[str, tuple[str, str]] = {}  # key -> (fingerprint, id); guarded by _lock
        self._runs: dict[str, dict[tuple[int, int], Run]] = {}  # guarded by _lock
        self._marks: list[datetime] = []  # guarded by _lock

    def open(self) -> None:
        """Nothing has to be opened."""

    @property
    def life(self) -> int:
        """Always the first."""
        return 1

    def add(self, job: Job, idempotency: Idempotency | None = None, *, lazily: bool = False) -> Future[Added]:  # noqa: ARG002  never late
        """Remember a new job; see the base class."""
        return self._write(lambda: self._add(job, idempotency))

    def _add(self, job: Job, idempotency: Idempotency | None) -> Added:
        if idempotency is not None:
            first = self._known(idempotency)
            if first is not None:
                return Added(first, replayed=True)
            self._keys[idempotency.key] = idempotency.fingerprint, job.id
        self._jobs[job.id] = job
        return Added(job)

    def known(self, idempotency: Idempotency) -> Future[Job | None]:
        """Find the job that has a key; see the base class."""
        return self._write(lambda: self._known(idempotency))

    def _known(self, idempotency: Idempotency) -> Job | None:
        fingerprint, job_id = self._keys.get(idempotency.key, (idempotency.fingerprint, None))
        if fingerprint != idempotency.fingerprint:
            raise IdempotencyConflict(idempotency.key, str(job_id))
        return None if job_id is None else self._jobs[job_id]

    def move(
        self,
        before: JobState,
        job: Job,
        log: EventLog | None = None,
        *,
        lazily: bool = False,  # noqa: ARG002  never late
    ) -> Future[None]:
        """Replace a job; see the base class."""
        return self._write(lambda: self._move(before, job, log))

    def _move(self, before: JobState, job: Job, log: EventLog | None) -> None:
        now = self._find(job.id)
        if now.status is not before:
            raise IllegalMove(f"The job is {now.status}, not {before}. {now.story()}")
        self._jobs[job.id] = job
        if log is not None:
            self._logs[job.id] = log

    def delete(self, job_id: str) -> Future[None]:
        """Forget a finished job; see the base class."""
        return self._write(lambda: self._delete(job_id))

    def _delete(self, job_id: str) -> None:
        job = self._find(job_id)
        if not job.finished:
            raise IllegalMove(f"Only a finished job can be deleted; cancel it first. {job.story()}")
        del self._jobs[job_id]
        self._logs.pop(job_id, None)
        self._keys = {key: entry for key, entry in self._keys.items() if entry[1] != job_id}

    def get(self, job_id: str) -> Job:
        """Return a job; see the base class."""
        with self._lock:
            return self._find(job_id)

    def logs(self, job_id: str) -> list[EventLog]:
        """Return what was told of a job; see the base class."""
        with self._lock:
            return [self._logs[job_id]] if job_id in self._logs else []

    def page(self, query: JobQuery) -> list[JobHead]:
        """Return the jobs of a page as lists show them; see the base class."""
        with self._lock:
            jobs = sorted(self._jobs.values(), key=lambda job: job.id, reverse=True)
        shown = islice((job for job in jobs if _shows(query, job)), query.limit)
        return [job.head() for job in shown]

    def unfinished(self) -> list[Job]:
        """Return all jobs that are queued or running; see the base class."""
        with self._lock:
            return sorted((job for job in self._jobs.values() if job.status not in FINAL), key=lambda job: job.id)

    def add_experiment(self, experiment: Experiment, idempotency: Idempotency | None = None) -> Future[AddedExperiment]:
        """Remember a new experiment; see the base class."""
        return self._write(lambda: self._add_experiment(experiment, idempotency))

    def _add_experiment(self, experiment: Experiment, idempotency: Idempotency | None) -> AddedExperiment:
        if idempotency is not None:
            entry = (idempotency.fingerprint, experiment.id)
            fingerprint, first = self._experiment_keys.setdefault(idempotency.key, entry)
            if fingerprint != idempotency.fingerprint:
                raise IdempotencyConflict(idempotency.key, first)
            if first != experiment.id:
                return AddedExperiment(self._experiments[first], replayed=True)
        self._experiments[experiment.id] = experiment
        return AddedExperiment(experiment)

    def move_experiment(self, before: ExperimentState, experiment: Experiment) -> Future[None]:
        """Replace an experiment; see the base class."""
        return self._write(lambda: self._move_experiment(before, experiment))

    def _move_experiment(self, before: ExperimentState, experiment: Experiment) -> None:
        now = self._find_experiment(experiment.id)
        if now.status is not before:
            raise IllegalExperimentMove(f"The experiment {now.id} is {now.status}, not {before}.")
        self._experiments[experiment.id] = experiment

    def add_run(self, experiment_id: str, run: Run) -> Future[None]:
        """Remember what a run showed; see the base class."""
        return self._write(lambda: self._runs.setdefault(experiment_id, {}).update({(run.cell, run.repeat): run}))

    def delete_experiment(self, experiment_id: str) -> Future[None]:
        """Forget a finished experiment; see the base class."""
        return self._write(lambda: self._delete_experiment(experiment_id))

    def _delete_experiment(self, experiment_id: str) -> None:
        experiment = self._find_experiment(experiment_id)
        if not experiment.finished:
            raise IllegalExperimentMove(
                f"Only a finished experiment can be deleted; {experiment_id} is not: cancel it."
            )
        del self._experiments[experiment_id]
        self._runs.pop(experiment_id, None)
        kept = {key: entry for key, entry in self._experiment_keys.items() if entry[1] != experiment_id}
        self._experiment_keys = kept

    def experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment; see the base class."""
        with self._lock:
            return self._find_experiment(experiment_id)

    def runs(self, experiment_id: str) -> list[Run]:
        """Return the runs of an experiment; see the base class."""
        with self._lock:
            runs = self._runs.get(experiment_id, {})
            return [runs[place] for place in sorted(runs)]

    def experiments(self, limit: int, before: str | None = None, label: str | None = None) -> list[Experiment]:
        """Return experiments, newest first; see the base class."""
        with self._lock:
            found = sorted(self._experiments.values(), key=lambda each: each.id, reverse=True)
        labelled = [each for each in found if label is None or each.label == label]
        return [each for each in labelled if before is None or each.id < before][:limit]

    def unfinished_experiments(self) -> list[Experiment]:
        """Return all experiments that are queued or running; see the base class."""
        with self._lock:
            found = sorted(self._experiments.values(), key=lambda each: each.id)
        return [each for each in found if not each.finished]

    def prune(self, before: datetime, limit: int) -> Future[Pruned]:
        """Forget what finished before a moment; see the base class."""
        return self._write(lambda: self._prune(before, limit))

    def _prune(self, before: datetime, limit: int) -> Pruned:
        old_jobs = _oldest(self._jobs.values(), before, limit)
        for job_id in old_jobs:
            self._delete(job_id)
        old_experiments = _oldest(self._experiments.values(), before, limit)
        for experiment_id in old_experiments:
            self._delete_experiment(experiment_id)
        return Pruned(len(old_jobs), len(old_experiments))

    def shrink(self) -> bool:
        """There is no room to give back."""
        return False

    def set_marks(self, marks: Sequence[datetime]) -> Future[None]:
        """Remember what the clock was seen to show; see the base class."""
        return self._write(lambda: self._set_marks(marks))

    def _set_marks(self, marks: Sequence[datetime]) -> None:
        self._marks = sorted(marks)

    def marks(self) -> list[datetime]:
        """Return what the clock was seen to show; see the base class."""
        with self._lock:
            return list(self._marks)

    def probe(self) -> None:
        """It is always well."""

    def close(self) -> None:
        """Take no more writes."""
        with self._lock:
            self._closed = True

    def _find(self, job_id: str) -> Job:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise JobNotFound(job_id) from None

    def _find_experiment(self, experiment_id: str) -> Experiment:
        try:
            return self._experiments[experiment_id]
        except KeyError:
            raise ExperimentNotFound(experiment_id) from None

    def _write(self, change: Callable[[], T]) -> Future[T]:
        done: Future[T] = Future()
        try:
            with self._lock:
                if self._closed:
                    raise StoreUnavailable("The store is closed.")
                value = change()
        except ThreadlabError as exc:
            done.set_exception(exc)
        else:
            done.set_result(value)
        return done


def _oldest(of: Iterable[Job | Experiment], before: datetime, limit: int) -> list[str]:
    ends = [(each.finished_at, each.id) for each in of if each.finished_at is not None]
    return [each_id for finished_at, each_id in sorted(ends) if finished_at < before][:limit]


def _shows(query: JobQuery, job: Job) -> bool:
    return (
        (query.before is None or job.id < query.before)
        and (not query.status or job.status in query.status)
        and (query.scenario is None or job.scenario == query.scenario)
        and (query.label is None or job.label == query.label)
    )
