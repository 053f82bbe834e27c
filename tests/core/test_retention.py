"""When old jobs are forgotten: after their time, if the clock was watched on its way there; and never otherwise."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from service.errors import StoreUnavailable
from service.retention import Retention, old_before
from service.stores.base import JobQuery, Pruned
from service.stores.memory import MemoryStore
from tests.stores.helpers import T0, ended_job, make_job
from tests.support import wait_until

_DAY = timedelta(days=1)
_KEPT = 30 * _DAY


class _Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


class _Service:
    """A store, and passes over it with a clock that a test moves."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.clock = _Clock()
        self.store = store or MemoryStore()
        self.retention = Retention(self.store, _KEPT.total_seconds(), self.clock)

    def live(self, days: float, step: timedelta = _DAY) -> None:
        """Let time pass, with a look at the clock now and then, as a service that runs does."""
        end = self.clock.now + days * _DAY
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + step)
            self.look()

    def leap(self, days: float) -> None:
        """Move the clock; nobody watches."""
        self.clock.now += days * _DAY

    def look(self) -> None:
        self.retention._pass(_KEPT)

    def end_job(self) -> str:
        """Remember a job that ends now."""
        job = replace(ended_job(), finished_at=self.clock.now)
        self.store.add(job).result()
        return job.id

    @property
    def jobs(self) -> list[str]:
        """The jobs there are, the oldest first."""
        return [job.id for job in self.store.page(JobQuery(limit=1_000))][::-1]


@pytest.fixture
def service() -> _Service:
    """A service that runs for the first time."""
    begun = _Service()
    begun.look()
    return begun


# What is old.


def test_a_job_is_kept_for_its_time(service: _Service) -> None:
    """A finished job is there until its time is over, and not an hour longer than it takes to look."""
    old = service.end_job()
    service.live(29.5)
    new = service.end_job()
    service.live(0.4)
    assert [old, new] == service.jobs
    service.live(1)
    assert [new] == service.jobs


def test_unfinished_jobs_stay(service: _Service) -> None:
    """A job that waits is not old, whenever it was made."""
    job = make_job()
    service.store.add(job).result()
    service.live(100)
    assert [job.id] == service.jobs


def test_many_are_forgotten_in_one_pass(service: _Service) -> None:
    """A pass goes on until nothing old is left."""
    for _ in range(250):
        service.end_job()
    service.live(31)
    assert [] == service.jobs


def test_a_database_of_before_is_not_emptied_at_once() -> None:
    """A service that begins to forget with years of jobs keeps all of them for the time that it keeps anything."""
    store = MemoryStore()
    store.add(replace(ended_job(), finished_at=T0 - 700 * _DAY)).result()
    service = _Service(store)
    service.look()
    service.live(29)
    assert 1 == len(service.jobs)
    service.live(2)
    assert [] == service.jobs


# Clocks that cannot be trusted.


@pytest.mark.parametrize("days", [4, 29, 31, 5 * 365])
def test_a_leap_of_the_clock_makes_nothing_old(
    service: _Service, days: float, caplog: pytest.LogCaptureFixture
) -> None:
    """When the clock leaps ahead, by however much, things age by a tenth of their time, and a warning says so."""
    service.live(60)
    before = service.end_job()
    service.live(2)
    service.leap(days)
    after = service.end_job()
    service.look()
    service.live(24)  # and three for the leap
    assert [before, after] == service.jobs
    service.live(3)
    assert [after] == service.jobs
    service.live(4)
    assert [] == service.jobs
    (warned,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "the clock leapt, or the service was off: that time makes nothing old" == warned.message


def test_leaps_do_not_add_up(service: _Service) -> None:
    """A clock that leaps again and again ages things by a tenth of their time at each."""
    job = service.end_job()
    for _ in range(8):
        service.leap(1_000)
        service.look()
    assert [job] == service.jobs


def test_a_leap_that_is_taken_back_costs_nothing(service: _Service) -> None:
    """When a clock that leapt ahead is put right, things go on as if nothing had been."""
    service.live(60)
    old = service.end_job()
    service.leap(1_000)
    service.live(3)
    service.leap(-1_003)
    service.live(29)
    assert [old] == service.jobs
    service.live(2)
    assert [] == service.jobs


def test_a_clock_that_is_set_back_forgets_nothing(service: _Service) -> None:
    """A clock that falls back by years makes nothing older."""
    service.live(60)
    old = service.end_job()
    service.leap(-2_000)
    service.live(100)
    assert [old] == service.jobs


def test_a_pause_of_the_service_is_not_age(service: _Service) -> None:
    """Whoever comes back to a service after months finds everything that was not old before."""
    service.live(60)
    old = service.end_job()
    service.live(1)
    after = _Service(service.store)
    after.clock.now = service.clock.now + 90 * _DAY
    after.look()
    after.live(25)
    assert [old] == after.jobs
    after.live(3)
    assert [] == after.jobs


def test_a_service_that_is_off_at_times_forgets(service: _Service) -> None:
    """Gaps that are short beside the time for which things are kept do not matter: nights, a weekend."""
    service.end_job()
    for _ in range(6):
        service.live(3, timedelta(hours=1))
        service.leap(2.5)
        service.look()
    assert [] == service.jobs


def test_marks_stay_few(service: _Service) -> None:
    """What is remembered of the clock does not grow with time."""
    service.live(400, timedelta(hours=6))
    assert 40 == len(service.store.marks())
    assert service.clock.now == service.store.marks()[-1]


@pytest.mark.parametrize(
    ("days", "before"),
    [
        ([], None),  # nothing was seen
        ([100], None),
        ([82, 85, 88, 91, 94, 97], None),  # not for long enough
        ([*range(70, 100, 2)], 70),
        ([*range(61, 101, 3)], 70),
        ([0, *range(71, 101, 3)], 0),  # the time in a gap is uncertain
        ([0, 10, 20, 30, 40, 50, 60, 70, 80, 90], 0),  # three days each
        ([10, 20, 30, 40, 50, 60, 70, 80, 90], None),
    ],
)
def test_old_before(days: list[int], before: int | None) -> None:
    """On day 100, with 30 days kept, at most three days are counted between two marks."""
    start = T0 - 100 * _DAY
    found = old_before([start + day * _DAY for day in days], T0, _KEPT)
    assert (None if before is None else start + before * _DAY) == found


# The thread.


class _Troubled(MemoryStore):
    """A store that refuses the first times it is asked to forget."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals

    def prune(self, before: datetime, limit: int) -> Future[Pruned]:
        self.refusals -= 1
        if self.refusals >= 0:
            refused: Future[Pruned] = Future()
            refused.set_exception(StoreUnavailable("The disk is full."))
            return refused
        return super().prune(before, limit)


@contextmanager
def _running(store: MemoryStore, kept_s: float | None) -> Iterator[Retention]:
    with closing(Retention(store, kept_s)) as retention:
        retention.start()
        yield retention


def test_the_thread_forgets_and_is_not_stopped_by_trouble(caplog: pytest.LogCaptureFixture) -> None:
    """What could not be forgotten is told and tried again at the next pass."""
    store = _Troubled(refusals=2)
    store.add(ended_job()).result()
    with _running(store, 0.4):
        wait_until(lambda: not store.page(JobQuery(limit=1)))
    told = [vars(each)["reason"] for each in caplog.records if each.message == "nothing old could be forgotten"]
    assert ["The disk is full."] * 2 == told


def test_who_keeps_for_ever_has_no_thread() -> None:
    """Without a time nothing is forgotten, and nothing runs."""
    before = threading.active_count()
    with _running(MemoryStore(), None):
        assert before == threading.active_count()


def test_close_may_be_called_without_a_start_and_again() -> None:
    """Who cleans up after a failed start need not know how far it came."""
    retention = Retention(MemoryStore(), 60.0)
    retention.close()
    retention.close()


def test_a_clock_that_stands_still_is_marked_once(service: _Service) -> None:
    """Two looks at the same moment are one mark, as the clock of a coarse system may need."""
    service.look()
    service.look()
    assert [service.clock.now] == service.store.marks()
