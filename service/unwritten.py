"""Ends of jobs that the store could not take (a full disk, a locked database), kept until it can.

Who uses it: `runner`. A thread of its own tries again, once a second, while there is anything to write; when there is
nothing, there is no thread. What the store has of a job is looked up first: its start may be missing, too, or it was
written after all.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace

from service import errors
from service.events import EventLog
from service.jobs import LEGAL_MOVES, Job, JobState
from service.promises import pass_on, promise, refuse, tell
from service.stores.base import JobStore

__all__ = ["Unwritten"]

_log = logging.getLogger(__name__)

_AGAIN_S = 1.0  # between two tries: a full disk does not empty itself faster


@dataclass(frozen=True, slots=True)
class _End:
    """A finished job, what it told, and who waits for both to be on disk."""

    job: Job
    log: EventLog
    written: Future[Job]


class Unwritten:
    """Writes ends as soon as the store can.

    Args:
        store: open until after `close`.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._ends: list[_End] = []  # guarded by _lock
        self._thread: threading.Thread | None = None  # while there are any; guarded by _lock
        self._closing = threading.Event()

    def write(self, job: Job, log: EventLog) -> Future[Job]:
        """Return a future of a finished job as it is on disk in the end.

        The future raises:
            JobNotFound, IllegalMove: the store has no such job any more, or its end cannot follow on what it has.
            ShuttingDown: the service ended first; its next start runs the job again.
        """
        end = _End(job, log, promise())
        with self._lock:
            self._ends.append(end)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="unwritten", daemon=True)
                self._thread.start()
        return end.written

    def close(self) -> None:
        """Try a last time, and give up what still cannot be written."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _write_all(self) -> None:
        while True:
            last = self._closing.wait(_AGAIN_S)
            with self._lock:
                ends, self._ends = self._ends, []
            begun = [(end, self._brought_to(end.job, end.log)) for end in ends]  # all, before any is waited for:
            left = [end for end, brought in begun if not _settled(end, brought)]  # they share what commits there are
            if last:
                _give_up(left)
                left = []
            with self._lock:
                self._ends += left
                if not self._ends:
                    self._thread = None
                    return

    def _brought_to(self, job: Job, log: EventLog) -> Future[Job]:
        """Bring a job from wherever the store has it to its end."""
        brought: Future[Job] = promise()
        try:
            known = self._store.get(job.id)
            if known.finished:
                tell(brought, known)
                return brought
            before = known.status
            if job.status not in LEGAL_MOVES[before]:
                before = JobState.RUNNING
                running = replace(job, status=before, finished_at=None, result=None, error=None)
                self._store.move(known.status, running, lazily=True)
            moved = self._store.move(before, job, log)
        except Exception as exc:  # noqa: BLE001  a fault of ours must not keep the other ends from being written
            refuse(brought, exc)
            return brought
        moved.add_done_callback(lambda done: pass_on(done, brought, job))
        return brought


def _settled(end: _End, brought: Future[Job]) -> bool:
    """Tell whoever waits for an end what became of it; return whether that is for good."""
    try:
        end.written.set_result(brought.result())
    except errors.StoreUnavailable:
        return False
    except errors.JobError as exc:
        _log.error("the end of a job has no job any more", extra={"job": end.job.id, "reason": str(exc)})
        end.written.set_exception(exc)
    except Exception:  # noqa: BLE001  as above
        _log.exception("the end of a job could not be written", extra={"job": end.job.id})
        return False
    return True


def _give_up(ends: list[_End]) -> None:
    for end in ends:
        _log.error("the end of a job was not written: it will be run again", extra={"job": end.job.id})
        end.written.set_exception(errors.ShuttingDown())
