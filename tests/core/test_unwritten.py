"""Ends that are held while the store cannot take them, at the end of the service."""

from __future__ import annotations

import threading

import pytest

from service.errors import ShuttingDown, StoreUnavailable
from service.events import EventLog
from service.jobs import Job
from service.stores.memory import MemoryStore
from service.unwritten import Unwritten
from tests.stores.helpers import RESULT_S, ended_job, make_report, running_job
from tests.support import wait_until


class HeldStore(MemoryStore):
    """Cannot be read, and says so only when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.let_go = threading.Event()

    def get(self, job_id: str) -> Job:
        """Refuse."""
        self.asked.set()
        self.let_go.wait(RESULT_S)
        raise StoreUnavailable("The disk is full.")


class FaultyStore(MemoryStore):
    """Fails once in a way that no store should."""

    def __init__(self) -> None:
        super().__init__()
        self._failed = False

    def get(self, job_id: str) -> Job:
        """Fail, or return the job."""
        if not self._failed:
            self._failed = True
            raise ZeroDivisionError
        return super().get(job_id)


def test_a_fault_of_ours_keeps_no_end_from_being_written() -> None:
    """Whatever goes wrong at one end, it is tried again, as are those that come after it."""
    store = FaultyStore()
    unwritten = Unwritten(store)
    begun = [running_job() for _ in range(2)]
    for job in begun:
        store.add(job).result(RESULT_S)
    ends = [unwritten.write(job.finish(make_report(), job.created_at), EventLog(1, [])) for job in begun]
    assert [job.id for job in begun] == [end.result(RESULT_S).id for end in ends]
    unwritten.close()


def test_everybody_is_told_at_the_last_try() -> None:
    """Of two ends of which one comes while the other is tried for the last time, both are given up and told so."""
    store = HeldStore()
    unwritten = Unwritten(store)
    first = unwritten.write(ended_job(), EventLog(1, []))
    closing = threading.Thread(target=unwritten.close)
    closing.start()
    assert store.asked.wait(RESULT_S)
    second = unwritten.write(ended_job(), EventLog(1, []))
    store.let_go.set()
    closing.join(RESULT_S)
    for end in (first, second):
        with pytest.raises(ShuttingDown):
            end.result(RESULT_S)
    wait_until(lambda: not [each for each in threading.enumerate() if each.name == "unwritten"])
