"""Forgets finished jobs and experiments once they are old, and gives their room back.

    thread `retention`, every hour:  mark the clock ─▶ what is old by the marks? ─▶ prune, step by step
                                                                                 ─▶ shrink, step by step

Who uses it: `app` starts and closes it. Each step is a transaction of its own of the store's writer, and after each it
rests as long as that took: whoever else writes waits for one step at most.

A clock can be wrong, and a wrong one must not cost years of results. So age is not what the clock says now: it is the
time that the service has watched pass. The store keeps marks of what the clock showed, and of the time between two of
them no more than a tenth of the time for which things are kept is counted. When the clock leaps ahead by years, or the
service was off for months, nothing ages by more than that; and a database without marks loses nothing at first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from service.errors import StoreUnavailable
from service.stores.base import RetainingStore

__all__ = ["Retention", "old_before"]

_log = logging.getLogger(__name__)

_EVERY_S = 3_600.0  # nobody minds an hour more; so seldom that it disturbs no measurement
_STEP = 100  # jobs of a transaction: some 10 ms here
_APART = 20  # the part of the time for which things are kept that is between two marks, if the service runs
_COUNTED = 10  # the part of it that is counted at most between two marks: a weekend, of a month
_MARKS = 2 * _APART  # as many as add up to that time, even if many are closer together


class Retention:
    """A thread that forgets what is old.

    Args:
        store: what it is remembered in; open before `start`, and closed after `close`.
        kept_s: seconds for which finished jobs are kept; None for ever.
        clock: the time of day, in UTC.
    """

    def __init__(
        self, store: RetainingStore, kept_s: float | None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._kept = None if kept_s is None else timedelta(seconds=kept_s)
        self._clock = clock
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retention")

    def start(self) -> None:
        """Begin, unless everything is kept for ever."""
        if self._kept is not None:
            self._thread.start()

    def close(self) -> None:
        """End after the step that is under way. Idempotent; the store must still be open."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        assert self._kept is not None
        pause_s = min(_EVERY_S, self._kept.total_seconds() / _MARKS)
        while not self._closing.is_set():
            try:
                self._pass(self._kept)
            except StoreUnavailable as exc:
                _log.warning("nothing old could be forgotten", extra={"reason": str(exc)})
            except Exception:  # noqa: BLE001  a fault here must not end all forgetting
                _log.exception("nothing old could be forgotten")
            self._closing.wait(pause_s)

    def _pass(self, kept: timedelta) -> None:
        now = self._clock()
        before = old_before(self._mark(now, kept), now, kept)
        if before is not None:
            self._prune(before)
        self._rest_while(self._store.shrink)

    def _mark(self, now: datetime, kept: timedelta) -> list[datetime]:
        """Return the marks, after the clock was looked at and that was remembered."""
        marks = [seen for seen in self._store.marks() if seen < now]  # others are of a clock that was wrong
        if marks and now - marks[-1] > kept / _COUNTED:
            facts = {"from": marks[-1].isoformat(), "to": now.isoformat()}
            _log.warning("the clock leapt, or the service was off: that time makes nothing old", extra=facts)
        elif len(marks) > 1 and marks[-1] - marks[-2] < kept / _APART and now - marks[-2] <= kept / _COUNTED:
            marks.pop()  # the latest mark moves on with the clock, until it is far enough from the one before
        marks = [*marks, now][-_MARKS:]
        self._store.set_marks(marks).result()
        return marks

    def _prune(self, before: datetime) -> None:
        jobs, experiments = 0, 0

        def step() -> bool:
            nonlocal jobs, experiments
            gone = self._store.prune(before, _STEP).result()
            jobs += gone.jobs
            experiments += gone.experiments
            return _STEP in (gone.jobs, gone.experiments)

        try:
            self._rest_while(step)
        finally:
            if jobs or experiments:
                facts = {"before": before.isoformat(timespec="seconds"), "jobs": jobs, "experiments": experiments}
                _log.info("old jobs were forgotten", extra=facts)

    def _rest_while(self, step: Callable[[], bool]) -> None:
        """Take steps as long as there is more to do, with rests between them."""
        more = True
        while more and not self._closing.is_set():
            begun = time.monotonic()
            more = step()
            self._closing.wait(time.monotonic() - begun)


def old_before(marks: Sequence[datetime], now: datetime, kept: timedelta) -> datetime | None:
    """Return the moment before which all that ended is old, or None if nothing is old yet.

    Args:
        marks: what the clock was seen to show, in order, none later than `now`.
        kept: the time that must have been watched since then.
    """
    missing, later = kept, now
    for seen in reversed(marks):
        passed = min(later - seen, kept / _COUNTED)
        if passed >= missing:
            return later - missing if passed == later - seen else seen
        missing -= passed
        later = seen
    return None
