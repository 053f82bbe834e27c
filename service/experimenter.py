"""Runs experiments: one at a time, one run after the other, so that no two runs of theirs disturb each other.

    submit ──▶ store ──on disk──▶ queue ──▶ thread `experimenter`
                                            for each (cell, repeat) of the plan that has no run yet:
                                              runner.submit(job) ──settled──▶ store.add_run
                                            succeeded ──on disk──▶ waiters told
    start: what the store holds unfinished goes the same way again
    close: the run that is going on is left to the runner; the rest waits for the next start

Who uses it: `api`, through futures; `app` starts and closes it. A run's job has an idempotency key made of its place in
the plan: after a kill, a run that was under way is found again and not made twice.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from service import errors
from service.catalog import Catalog
from service.experiments import Cell, Run
from service.experiments.experiment import Experiment, ExperimentState, run_of
from service.jobs import Failure, Job, JobState
from service.promises import promise, refuse, tell
from service.runner import Runner
from service.stores.base import AddedExperiment, ExperimentStore, Idempotency

__all__ = ["Experimenter"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_TRY_AGAIN_S = 1.0  # after a full queue or a database that cannot be written


@dataclass(slots=True, eq=False)
class _Entry:
    """An experiment that is not finished, and who waits for it."""

    experiment: Experiment  # guarded by Experimenter._news
    settled: Future[Experiment] = field(default_factory=promise)
    cancelled: bool = False  # guarded by Experimenter._news
    job_id: str | None = None  # the run that is going on; guarded by Experimenter._news


class Experimenter:
    """Carries experiments through their lives.

    Args:
        runner: carries their jobs.
        store: where experiments are remembered; open.
        catalog: tells the lane of a job.
        new_job_id: gives ids that sort by time.
        max_queued: how many experiments may wait.
        clock: the time of day, in UTC.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(
        self,
        runner: Runner,
        store: ExperimentStore,
        catalog: Catalog,
        new_job_id: Callable[[], str],
        *,
        max_queued: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._runner = runner
        self._store = store
        self._catalog = catalog
        self._new_job_id = new_job_id
        self._max_queued = max_queued
        self._clock = clock
        self._news = threading.Condition()
        self._entries: dict[str, _Entry] = {}  # guarded by _news
        self._queue: deque[_Entry] = deque()  # guarded by _news
        self._arriving = 0  # experiments that are being written and will wait; guarded by _news
        self._closing = False  # guarded by _news
        self._thread = threading.Thread(target=self._work, name="experimenter")

    def start(self) -> None:
        """Take up what the store holds unfinished.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        found = self._store.unfinished_experiments()
        for experiment in sorted(found, key=lambda each: each.status is ExperimentState.QUEUED):  # first the begun one
            self._enqueue(_Entry(experiment))
            _log.info("experiment taken up again", extra={"experiment": experiment.id})
        self._thread.start()

    def submit(self, experiment: Experiment, idempotency: Idempotency | None = None) -> Future[AddedExperiment]:
        """Accept a new experiment; the future resolves once it is on disk.

        Raises:
            QueueFull: as many experiments wait as may.
            ShuttingDown: the service is ending.
        """
        with self._news:
            if self._closing:
                raise errors.ShuttingDown
            if len(self._queue) + self._arriving >= self._max_queued:
                raise errors.QueueFull(self._max_queued, int(_TRY_AGAIN_S), "experiments")
            self._arriving += 1
        accepted: Future[AddedExperiment] = promise()
        written = self._store.add_experiment(experiment, idempotency)
        written.add_done_callback(lambda added: self._accepted(added, accepted))
        return accepted

    def _accepted(self, added: Future[AddedExperiment], accepted: Future[AddedExperiment]) -> None:
        """Tell that an experiment is on disk, once it can be watched and cancelled. Runs on the store's thread."""
        refusal = added.exception()
        with self._news:
            self._arriving -= 1
        if refusal is not None:
            refuse(accepted, refusal)
            return
        if not added.result().replayed:
            self._enqueue(_Entry(added.result().experiment))
        tell(accepted, added.result())

    def _enqueue(self, entry: _Entry) -> None:
        with self._news:
            if self._closing:  # it waits in the store for the next start
                return
            self._entries[entry.experiment.id] = entry
            self._queue.append(entry)
            self._news.notify_all()

    def watch(self, experiment_id: str) -> Future[Experiment] | None:
        """Return a future of the finished experiment, or None if it is not on its way here."""
        with self._news:
            entry = self._entries.get(experiment_id)
        return None if entry is None else entry.settled

    def cancel(self, experiment_id: str) -> Future[Experiment] | None:
        """End an experiment, queued or running; the future resolves when its run is gone and that is on disk.

        Returns:
            None if the experiment is not on its way here: it is finished, or unknown.
        """
        with self._news:
            entry = self._entries.get(experiment_id)
            if entry is None:
                return None
            waiting = entry in self._queue
            if waiting:
                self._queue.remove(entry)
            entry.cancelled = True
            job_id = entry.job_id
            self._news.notify_all()
        if waiting:
            before, entry.experiment = entry.experiment, entry.experiment.end(ExperimentState.CANCELLED, self._clock())
            moved = self._store.move_experiment(before.status, entry.experiment)
            moved.add_done_callback(lambda done: self._cancelled(entry, before, done.exception()))
        elif job_id is not None:
            self._runner.cancel(job_id)
        return entry.settled

    def _cancelled(self, entry: _Entry, before: Experiment, refusal: BaseException | None) -> None:
        """Settle an experiment that was cancelled while it waited, or let it wait on. Runs on the store's thread."""
        if refusal is not None:
            self._enqueue(_Entry(before))
        self._settled(entry, refusal)

    def close(self) -> None:
        """Begin no more runs; the rest waits for the next start. Idempotent; call it before the runner's."""
        with self._news:
            self._closing = True
            self._news.notify_all()

    def join(self) -> None:
        """Wait until nothing runs here any more; call it after the runner is closed."""
        if self._thread.ident is not None:
            self._thread.join()
        with self._news:
            left = list(self._entries.values())
        for entry in left:
            refuse(entry.settled, errors.ShuttingDown())

    def _work(self) -> None:
        """Carry experiments until the end. Runs on the thread `experimenter`."""
        while True:
            with self._news:
                self._news.wait_for(lambda: self._queue or self._closing)
                if self._closing:
                    return
                entry = self._queue.popleft()
            try:
                self._carry(entry)
            except errors.ShuttingDown:
                return
            except Exception as exc:  # noqa: BLE001  an experiment must not end all others with a fault of its own or of ours
                _log.exception("experiment could not go on", extra={"experiment": entry.experiment.id})
                self._end(entry, ExperimentState.FAILED, _failure(exc))

    def _carry(self, entry: _Entry) -> None:
        experiment = entry.experiment
        if experiment.status is ExperimentState.QUEUED:
            self._move(entry, experiment.start(self._clock()))
        seen = self._persistently(lambda: self._store.runs(experiment.id))
        done = {(run.cell, run.repeat) for run in seen}
        written: list[tuple[Run, Future[None]]] = []
        status = ExperimentState.SUCCEEDED
        for cell, repeat in experiment.plan():
            if (cell.index, repeat) in done:
                continue
            run = self._run(entry, cell, repeat)
            if run is None:
                status = ExperimentState.CANCELLED
                break
            written.append((run, self._store.add_run(experiment.id, run)))
        for run, future in written:
            if future.exception() is not None:
                self._write_again(experiment, run)
        self._end(entry, status)

    def _write_again(self, experiment: Experiment, run: Run) -> None:
        self._persistently(lambda: self._store.add_run(experiment.id, run).result())

    def _run(self, entry: _Entry, cell: Cell, repeat: int) -> Run | None:
        """Make one run, and try again as long as it is refused for reasons that pass.

        Returns:
            None if the experiment is cancelled and the run has shown nothing.

        Raises:
            ShuttingDown: the service is ending.
        """
        attempt = 1
        while not self._ending(entry):
            load = _load()
            try:
                job = self._finished(entry, cell, repeat, attempt)
            except (errors.QueueFull, errors.StoreError, errors.IllegalMove) as exc:
                _log.warning("a run has to wait", extra={"experiment": entry.experiment.id, "reason": str(exc)})
                self._pause(entry)
                continue
            if job.finished:
                lost = job.status is JobState.CANCELLED and self._ending(entry)
                return None if lost else run_of(cell, repeat, job, entry.experiment.measure, load)
            attempt += 1  # its end could not be written: nobody will carry it before the next start
        return None

    def _ending(self, entry: _Entry) -> bool:
        """Whether the experiment is cancelled.

        Raises:
            ShuttingDown: the service is ending.
        """
        with self._news:
            if entry.cancelled:
                return True
            if self._closing:
                raise errors.ShuttingDown
            return False

    def _pause(self, entry: _Entry | None = None) -> None:
        """Wait a moment, or until there is no more reason to."""
        with self._news:
            self._news.wait_for(lambda: self._closing or (entry is not None and entry.cancelled), _TRY_AGAIN_S)

    def _persistently(self, call: Callable[[], T]) -> T:
        """Return what a call to the store returns, once the store can be used.

        Raises:
            ShuttingDown: the service is ending.
        """
        while True:
            try:
                return call()
            except errors.StoreUnavailable as exc:
                _log.warning("an experiment has to wait", extra={"reason": str(exc)})
            self._pause()
            with self._news:
                if self._closing:
                    raise errors.ShuttingDown

    def _finished(self, entry: _Entry, cell: Cell, repeat: int, attempt: int) -> Job:
        """Return the job of a run when it has settled."""
        experiment = entry.experiment
        request = experiment.request(cell)
        scenario = self._catalog.get(experiment.scenario)
        params = {name: request[name] for name in scenario.fields() if name in request}
        job = Job(
            id=self._new_job_id(),
            scenario=experiment.scenario,
            lane=scenario.lane(scenario.params_type(**params)),  # as the child makes them
            request=request,
            created_at=self._clock(),
            label=experiment.id,
        )
        place = f"{experiment.id} {cell.index} {repeat}"  # a client's key has no spaces
        place += f" {attempt}" if attempt > 1 else ""
        ticket = self._runner.submit(job, Idempotency(place, fingerprint=""))
        job_id = ticket.accepted.result().job.id
        with self._news:
            entry.job_id = job_id
            cancelled = entry.cancelled
        if cancelled:  # it was said before there was a job to cancel
            self._runner.cancel(job_id)
        try:
            return ticket.settled.result()
        finally:
            with self._news:
                entry.job_id = None

    def _move(self, entry: _Entry, experiment: Experiment) -> None:
        before = entry.experiment.status
        self._persistently(lambda: self._store.move_experiment(before, experiment).result())
        with self._news:
            entry.experiment = experiment

    def _end(self, entry: _Entry, status: ExperimentState, error: Failure | None = None) -> None:
        """Write an experiment's end and, once that is on disk, tell whoever waits."""
        try:
            self._move(entry, entry.experiment.end(status, self._clock(), error))
        except errors.ThreadlabError as exc:
            self._settled(entry, exc)
        else:
            self._settled(entry, None)

    def _settled(self, entry: _Entry, refusal: BaseException | None) -> None:
        facts = {"experiment": entry.experiment.id, "status": entry.experiment.status.value}
        with self._news:
            if self._entries.get(entry.experiment.id) is entry:
                del self._entries[entry.experiment.id]
        if refusal is not None:
            _log.error("the end of an experiment could not be written", extra={**facts, "reason": str(refusal)})
            refuse(entry.settled, refusal)
        else:
            _log.info("experiment ended", extra=facts)
            tell(entry.settled, entry.experiment)


def _failure(exc: Exception) -> Failure:
    known = isinstance(exc, errors.ThreadlabError)
    return Failure(
        type=type(exc).__name__ if known else "InternalError",
        message=str(exc) if known else "The service failed to run it; its log says why.",
        traceback=None,
    )


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:  # the system does not tell
        return None
