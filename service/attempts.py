"""An attempt to run a job, and what came of it: whatever goes wrong, there is a report or there may be another attempt.

Who uses it: `runner`, on the thread of a lane that the job has.
"""

from __future__ import annotations

import logging
from datetime import datetime

from service import errors
from service.catalog import Catalog
from service.executors.base import Cancel, JobExecutor, Kept, Order, Sink
from service.jobs import MAX_ATTEMPTS, Failure, Job, JobState, Report

__all__ = ["Attempts"]

_log = logging.getLogger(__name__)


class Attempts:
    """Runs jobs by an executor that may fail, and even break its contract.

    Args:
        executor: how they are run.
        catalog: where their scenarios come from.
        kept: how much is kept of what one job tells.
        pauses_s: before the second and the third attempt at a job that could not be run.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(self, executor: JobExecutor, catalog: Catalog, kept: Kept, pauses_s: tuple[float, float]) -> None:
        self._executor = executor
        self._catalog = catalog
        self._kept = kept
        self._pauses_s = pauses_s

    def run(self, job: Job, sink: Sink, cancel: Cancel) -> Report | None:
        """Run a job once; blocks until it has ended.

        Args:
            job: running.
            sink: hears what it tells.
            cancel: ends it.

        Returns:
            What the run showed, or that it was the last attempt; None if it could not be run this time.
        """
        try:
            scenario = self._catalog.get(job.scenario)
            order = Order.of(job.id, scenario, job.request, self._kept)
            report = self._executor.run(order, sink, cancel)
            assert isinstance(report, Report), f"a run must return a report, not {report!r:.100}"
        except errors.InterpreterNotFound as exc:  # it was here when the job was accepted
            return _not_run("InterpreterNotFound", str(exc))
        except errors.ExecutorError as exc:  # its text says all, and there may be hundreds at once
            facts = {"job": job.id, "attempt": job.attempt, "reason": str(exc)}
            _log.error("job could not be run", extra=facts)
            if job.attempt < MAX_ATTEMPTS:
                cancel.wait(self._pauses_s[job.attempt - 1])
            return None if job.attempt < MAX_ATTEMPTS or cancel.wished else _used_up(job, exc)
        except errors.CatalogError as exc:
            return _not_run("ScenarioNotFound", str(exc))
        except Exception:  # noqa: BLE001  a job must not stay running for ever because of a fault of ours
            _log.exception("an executor broke its contract", extra={"job": job.id})
            return _internal_error()
        return report

    @staticmethod
    def finished(job: Job, report: Report, now: datetime, queued_s: float | None) -> Job:
        """Return a job as its last attempt leaves it.

        Args:
            report: what that returned, whatever it holds.
            now: when it ended.
            queued_s: see `Job.finish`.
        """
        try:
            done = job.finish(report, now, queued_s)
            assert done.finished, f"a report must be final, not {report.status}"
        except Exception:  # noqa: BLE001  as in `run`: an executor's fault must not leave a job running for ever
            _log.exception("an executor broke its contract", extra={"job": job.id})
            return job.finish(_internal_error(), now)
        return done


def _not_run(kind: str, message: str) -> Report:
    return Report(JobState.LOST, None, Failure(type=kind, message=message, traceback=None), None, None)


def _internal_error() -> Report:
    return _not_run("InternalError", "The service failed to run it; its log says why.")


def _used_up(job: Job, why: errors.ExecutorError) -> Report:
    return _not_run("AttemptsUsedUp", f"It could not be run in {job.attempt} attempts. In the last one: {why}")
