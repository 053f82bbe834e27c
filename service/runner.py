"""A job's whole life, from accepted to settled.

    submit ──▶ lane's ThreadPoolExecutor ──▶ attempts.run ──▶ store.move ──on disk──▶ settled: waiters told
       │         cpu: one at a time            on a lane's thread
       │         wait: many at once
       ├─▶ store.add ──on disk──▶ accepted
       └─ QueueFull, ShuttingDown
    start: what the store holds unfinished goes the same way again, at most three attempts (a first start less than
           50 ms before a kill may not be among them)
    close: running jobs end within the grace, the rest goes back to the queue
    an end that cannot be written is held, and written when the store can again
    meanwhile: what a run tells goes into the job's feed, for whoever watches, and to disk with the move that ends it

Who uses it: `api`, through futures that may be awaited from an event loop; `app` starts and closes it. Nothing here
knows of HTTP. Nobody is told that a job ended before that is on disk, so what was told never changes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from service import errors, story
from service.attempts import Attempts
from service.catalog import Catalog
from service.events import EventLog
from service.executors.base import Cancel, JobExecutor, Kept
from service.hub import Feed
from service.jobs import MAX_ATTEMPTS, Failure, Job, JobState, Lane, Report
from service.observer import JobAccepted, JobEnded, JobPutBack, JobRefused, JobTakenUp, Observer, nobody
from service.promises import pass_on, promise, refuse, tell
from service.stores.base import Added, Idempotency, JobStore
from service.unwritten import Unwritten

__all__ = ["LaneCount", "Runner", "RunnerLimits", "Ticket"]

_log = logging.getLogger(__name__)

_STOPPED = "The service is being stopped."
_NOT_RUN = "It could not be run this time; the service's log says why."

_COUNTED_S = 2.0  # how long a job taken up again waits for its attempt to be on disk: a commit takes milliseconds


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """How much runs and waits at once.

    Attributes:
        cpu_slots: jobs that compute; more than one disturb each other's timings.
        wait_slots: jobs that sleep or do I/O.
        max_queued: jobs that wait, over both lanes.
        kept: how much is kept of what one job tells.
        retry_after_s: what a refused client is told.
        pauses_s: before the second and the third attempt at a job that could not be run: what was short, processes or
            descriptors, may be there again.
    """

    cpu_slots: int
    wait_slots: int
    max_queued: int
    kept: Kept
    retry_after_s: int
    pauses_s: tuple[float, float] = (0.2, 2.0)


@dataclass(frozen=True, slots=True)
class LaneCount:
    """How many jobs of a lane wait and run."""

    queued: int
    running: int
    slots: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a submitter holds.

    Attributes:
        accepted: resolves once the job is on disk.
        settled: resolves with the finished job, once that is on disk.
    """

    accepted: Future[Added]
    settled: Future[Job]


@dataclass(slots=True, eq=False)
class _Entry:
    """A job that is not settled, and who waits for it."""

    job: Job  # guarded by Runner._lock
    settled: Future[Job]  # guarded by Runner._lock
    feed: Feed
    since_s: float  # when it was accepted, by a clock that nobody sets
    cancel: Cancel = field(default_factory=Cancel)
    put_back: bool = False  # guarded by Runner._lock
    taken_up: bool = False  # whether an earlier service accepted it
    queued_s: float | None = None  # null for one that an earlier service accepted: it had another clock


class Runner:
    """Carries jobs through their lives.

    Args:
        store: where they are remembered; open.
        executor: how they are run.
        catalog: where their scenarios come from.
        clock: the time of day, in UTC.
        ticks: seconds on a clock that nobody sets.
        observe: hears of every job that comes and goes.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(
        self,
        store: JobStore,
        executor: JobExecutor,
        catalog: Catalog,
        limits: RunnerLimits,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ticks: Callable[[], float] = time.monotonic,
        observe: Observer = nobody,
    ) -> None:
        self._store = store
        self._executor = executor
        self._attempts = Attempts(executor, catalog, limits.kept, limits.pauses_s)
        self._limits = limits
        self._clock = clock
        self._ticks = ticks
        self._observe = observe
        self._slots: dict[Lane, int] = {"cpu": limits.cpu_slots, "wait": limits.wait_slots}
        self._pools = {
            lane: ThreadPoolExecutor(slots, thread_name_prefix=f"lane-{lane}") for lane, slots in self._slots.items()
        }
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}  # guarded by _lock
        self._queued = dict.fromkeys(self._slots, 0)  # guarded by _lock
        self._running = dict.fromkeys(self._slots, 0)  # guarded by _lock
        self._closing = False  # guarded by _lock
        self._unwritten = Unwritten(store)

    def start(self) -> None:
        """Start the executor and take up what the store holds unfinished.

        Raises:
            ExecutorError: nothing can be run.
            StoreUnavailable: the store cannot be read.
        """
        self._executor.start()
        for job in self._store.unfinished():
            self._take_up(job)

    def _take_up(self, job: Job) -> None:
        """Queue again a job that an earlier service accepted and did not finish."""
        feed = Feed(self._store.life)
        if job.status is JobState.RUNNING:
            if job.attempt >= MAX_ATTEMPTS:
                text = f"The service ended during each of {job.attempt} attempts to run it."
                lost = job.end_without_run(
                    JobState.LOST, self._clock(), Failure(type="AttemptsUsedUp", message=text, traceback=None)
                )
                self._store.move(JobState.RUNNING, lost, EventLog(self._store.life, []))
                self._observe(JobTakenUp(job))
                self._observe(JobEnded(lost))
                _log.error("job lost", extra={"job": job.id, "reason": text})
                return
            job = job.put_back()
            feed.tell([story.returned(job, self._clock(), f"The service ended during attempt {job.attempt}.")])
            self._store.move(JobState.RUNNING, job, feed.log())
        else:
            feed.tell([story.returned(job, self._clock(), "The service was started again.")])
        age_s = max(0.0, (self._clock() - job.created_at).total_seconds())
        entry = _Entry(job, promise(), feed, self._ticks() - age_s, taken_up=True)
        with self._lock:
            self._entries[job.id] = entry
            self._queued[job.lane] += 1
        self._observe(JobTakenUp(job))
        self._schedule(entry)
        _log.info("job taken up again", extra={"job": job.id, "attempt": job.attempt})

    def submit(self, job: Job, idempotency: Idempotency | None = None, *, waits: bool = False) -> Ticket:
        """Accept a new job.

        Its run begins at once, beside the commit that accepts it: a job that cannot be written is ended again, and
        nobody was told of it. One with a key first has to be known for new.

        Args:
            waits: the client hears of the job only when it has settled, or after a while: both writes share a commit.

        Raises:
            QueueFull: as many jobs wait as may. With a key the ticket's futures raise it: what was accepted before is
                given again.
            ShuttingDown: the service is ending.
        """
        settled: Future[Job] = promise()  # by its own name: an end that cannot be written leaves the entry with another
        entry = _Entry(job, settled, Feed(self._store.life), self._ticks())
        with self._lock:
            if self._closing:
                self._observe(JobRefused(job, "shutting_down"))
                raise errors.ShuttingDown
            full = sum(self._queued.values()) >= self._limits.max_queued
            if not full:
                self._entries[job.id] = entry
                self._queued[job.lane] += 1
        if full:
            return self._repeat(job, idempotency)
        accepted = self._store.add(job, idempotency, lazily=waits and idempotency is None)
        begun = idempotency is None
        if begun:
            self._schedule(entry)
        accepted.add_done_callback(lambda added: self._accepted(entry, added, begun))
        return Ticket(accepted, settled)

    def _repeat(self, job: Job, idempotency: Idempotency | None) -> Ticket:
        """Give the job again that was accepted under this key: there is no room for a new one."""
        refusal = errors.QueueFull(self._limits.max_queued, self._limits.retry_after_s)
        if idempotency is None:
            self._observe(JobRefused(job, "queue_full"))
            raise refusal
        ticket = Ticket(promise(), promise())

        def found(known: Future[Job | None]) -> None:
            first = None if known.exception() else known.result()
            if first is not None:
                tell(ticket.accepted, Added(first, replayed=True))
                self._follow(ticket.settled, first)
                return
            if not known.exception():
                self._observe(JobRefused(job, "queue_full"))
            refuse(ticket.accepted, known.exception() or refusal)
            refuse(ticket.settled, known.exception() or refusal)

        self._store.known(idempotency).add_done_callback(found)
        return ticket

    def _accepted(self, entry: _Entry, accepted: Future[Added], begun: bool) -> None:
        """Go on with a job once it is on disk, or let go of one that is not to be. Runs on the store's thread."""
        refusal = accepted.exception()
        if refusal is not None:
            self._forget(entry)
            entry.cancel.wish()
            refuse(entry.settled, refusal)
        elif accepted.result().replayed:
            self._forget(entry)
            self._follow(entry.settled, accepted.result().job)
        else:
            self._observe(JobAccepted(accepted.result().job))
            if not begun:
                self._schedule(entry)

    def _forget(self, entry: _Entry) -> None:
        with self._lock:
            self._entries.pop(entry.job.id, None)
            if entry.job.status is JobState.QUEUED:  # nobody has cancelled it or taken it up in the meantime
                self._queued[entry.job.lane] -= 1
                entry.job = entry.job.end_without_run(JobState.LOST, self._clock())
        entry.feed.close()

    def _follow(self, settled: Future[Job], first: Job) -> None:
        """Tell the waiters of a repeated request what becomes of the first."""
        other = self.watch(first.id)
        if other is None:
            tell(settled, first if first.finished else self._store.get(first.id))
        else:
            other.add_done_callback(lambda done: pass_on(done, settled))

    def _schedule(self, entry: _Entry) -> None:
        with contextlib.suppress(RuntimeError):  # the pools are shut down: it waits in the store for the next start
            self._pools[entry.job.lane].submit(self._carry, entry)

    def _carry(self, entry: _Entry) -> None:
        """Run a job and settle it. Runs on a thread of its lane."""
        with self._lock:
            job = entry.job
            if job.status is not JobState.QUEUED or self._closing:  # cancelled while it waited, or for the next start
                return
            job = entry.job = job.start(self._clock())
            entry.queued_s = None if entry.taken_up else self._ticks() - entry.since_s
            self._queued[job.lane] -= 1
            self._running[job.lane] += 1
        self._write_start(job, entry.taken_up)
        entry.feed.tell([story.running(job)])
        report = self._attempts.run(job, entry.feed.tell, entry.cancel)
        with self._lock:
            self._running[job.lane] -= 1
            stopped = entry.put_back and (report is None or report.status is JobState.CANCELLED)
        if report is None and entry.cancel.wished:  # nothing of it runs: what was wished for is so
            report = Report(JobState.CANCELLED, None, None, None, None)
        if stopped or report is None:
            self._put_back(entry)
        else:
            self._settle(entry, self._attempts.finished(job, report, self._clock(), entry.queued_s))

    def _write_start(self, job: Job, taken_up: bool) -> None:
        """Write down that a job is running.

        Of a new job that comes with the next commit, which saves one. A job that is here after a restart may be what
        ended the service before: its attempt is counted on disk before it gets another chance to.
        """
        written = self._store.move(JobState.QUEUED, job, lazily=not taken_up)
        if taken_up:
            wait_for([written], _COUNTED_S)

    def _put_back(self, entry: _Entry) -> None:
        with self._lock:
            closing = self._closing
            back = entry.job = entry.job.put_back(counted=not closing)
            self._queued[back.lane] += 1
            entry.feed.tell([story.returned(back, self._clock(), _STOPPED if closing else _NOT_RUN)])
            self._store.move(JobState.RUNNING, back, entry.feed.log())  # here: before any move that a cancel makes
        self._observe(JobPutBack(back, "stopped" if closing else "not_run"))
        if closing:
            entry.feed.close()
            refuse(entry.settled, errors.ShuttingDown())
        else:
            self._schedule(entry)

    def _settle(self, entry: _Entry, job: Job) -> None:
        """Write a job's end and, once that is on disk, tell whoever waits."""
        with self._lock:
            before = entry.job.status
            entry.job = job
        moved = self._store.move(before, job, entry.feed.log())
        moved.add_done_callback(lambda done: self._settled(entry, done))

    def _settled(self, entry: _Entry, moved: Future[None]) -> None:
        """Tell of an end that is on disk, or hold it. Runs on the store's thread."""
        refusal = moved.exception()
        if refusal is None:
            self._tell_end(entry, entry.job)
            return
        _log.error("the end of a job could not be written yet", extra={"job": entry.job.id, "reason": str(refusal)})
        with self._lock:
            told, entry.settled = entry.settled, promise()
        refuse(told, refusal)
        self._unwritten.write(entry.job, entry.feed.log()).add_done_callback(lambda done: self._written(entry, done))

    def _written(self, entry: _Entry, done: Future[Job]) -> None:
        """Tell of an end that was held, or that it was in vain."""
        refusal = done.exception()
        if refusal is None:
            self._tell_end(entry, done.result())
            return
        with self._lock:
            self._entries.pop(entry.job.id, None)
        entry.feed.close()
        refuse(entry.settled, refusal)

    def _tell_end(self, entry: _Entry, job: Job) -> None:
        """Let go of a job. The feed ends last: who no longer finds it finds the job in the store."""
        with self._lock:
            self._entries.pop(job.id, None)
        self._observe(JobEnded(job))
        _log.info("job ended", extra=_summary(job))
        entry.feed.close(story.ended(job))
        tell(entry.settled, job)

    def watch(self, job_id: str) -> Future[Job] | None:
        """Return a future of the finished job, or None if it is not on its way here."""
        with self._lock:
            entry = self._entries.get(job_id)
        return None if entry is None else entry.settled

    def feed(self, job_id: str) -> Feed | None:
        """Return what a job has told so far, or None if it is not on its way here."""
        with self._lock:
            entry = self._entries.get(job_id)
        return None if entry is None else entry.feed

    def peek(self, job_id: str) -> Job | None:
        """Return a job that is on its way, as it is now, without asking the store."""
        with self._lock:
            entry = self._entries.get(job_id)
            return None if entry is None or entry.job.finished else entry.job

    def cancel(self, job_id: str) -> Future[Job] | None:
        """End a job, queued or running; the future resolves when its threads are gone and that is on disk.

        Returns:
            None if the job is not on its way here: it is finished, or unknown.

        Raises:
            IllegalMove: it has come to its end, which is not on disk yet.
        """
        with self._lock:
            entry = self._entries.get(job_id)
            if entry is None:
                return None
            if entry.job.finished:
                raise errors.IllegalMove(f"The job has come to its end, which is being written down. {job_id}")
            settled, waiting = entry.settled, entry.job.status is JobState.QUEUED
            if waiting:
                cancelled = entry.job.end_without_run(JobState.CANCELLED, self._clock())
                self._queued[cancelled.lane] -= 1
                moved = self._store.move(JobState.QUEUED, cancelled, entry.feed.log())
                entry.job = cancelled
        if waiting:
            moved.add_done_callback(lambda done: self._settled(entry, done))
        else:
            entry.cancel.wish()
        return settled

    def lanes(self) -> dict[Lane, LaneCount]:
        """Return how full the lanes are."""
        with self._lock:
            return {
                lane: LaneCount(self._queued[lane], self._running[lane], slots) for lane, slots in self._slots.items()
            }

    def oldest_s(self) -> dict[Lane, float]:
        """Return for how many seconds the oldest job of each lane that waits has been accepted; 0 where none waits."""
        now, ages = self._ticks(), dict.fromkeys(self._slots, 0.0)
        with self._lock:
            for entry in self._entries.values():
                if entry.job.status is JobState.QUEUED:
                    ages[entry.job.lane] = max(ages[entry.job.lane], now - entry.since_s)
        return ages

    def close(self, grace_s: float) -> None:
        """Take no more jobs, let the running ones end, put the rest back, and close the executor. Idempotent.

        Args:
            grace_s: seconds for running jobs to end by themselves.
        """
        with self._lock:
            self._closing = True
            running = [entry for entry in self._entries.values() if entry.job.status is JobState.RUNNING]
            waiting = [entry for entry in self._entries.values() if entry.job.status is JobState.QUEUED]
        for entry in waiting:
            entry.feed.close()
            refuse(entry.settled, errors.ShuttingDown())
        wait_for([entry.settled for entry in running], grace_s)
        with self._lock:
            for entry in running:
                # A client's cancel is carried out, shutdown or not; another call of this method made the other wishes.
                entry.put_back = entry.put_back or not entry.cancel.wished
        for entry in running:
            entry.cancel.wish()
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
        self._unwritten.close()
        self._executor.close()


def _summary(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "scenario": job.scenario,
        "status": job.status.value,
        "outcome": job.outcome,
        "wall_s": job.result["timings"]["wall_s"] if job.result else None,
    }
