from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from service import unwritten
from service.catalog import Catalog, Scenario
from service.child.wire import Frame
from service.errors import (
    BadScenario,
    ForkFailed,
    ForkServerDied,
    IdempotencyConflict,
    IllegalMove,
    JobNotFound,
    QueueFull,
    ShuttingDown,
    StoreUnavailable,
)
from service.events import EventLog
from service.executors.base import Cancel, Kept, Order, Sink
from service.executors.scripted import ScriptedExecutor, success
from service.jobs import FINAL, Job, JobState, Report
from service.runner import LaneCount, Runner, RunnerLimits
from service.stores.base import Added, Idempotency, JobQuery, JobStore
from service.stores.memory import MemoryStore
from service.stores.sql import SqlStore
from tests.stores.helpers import RESULT_S, T0, ended_job, make_job, make_report, open_store, running_job, writer_busy
from tests.support import wait_until

_LIMITS = RunnerLimits(
    cpu_slots=1, wait_slots=20, max_queued=100, kept=Kept(10_000, 1_000), retry_after_s=7, pauses_s=(0.0, 0.0)
)

_SAME = Idempotency("key", "fingerprint")


@dataclass(frozen=True)
class Params:
    """The parameters of the only scenario here."""

    threads: int = field(default=2, metadata={"description": "How many."})


def _catalog() -> Catalog:
    module = ModuleType("probe")
    vars(module).update(Params=Params, LANE="wait")
    return Catalog([Scenario("probe", "Probe", "it is.", "Probe: it is.", "source", "digest", "tests", module, ())])


class HeldStore(MemoryStore):
    """Holds back the futures of its writes, as a slow disk does, until they are let go in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.held: deque[tuple[Future[Any], Future[Any]]] = deque()
        self._holds = True

    def add(self, job: Job, idempotency: Idempotency | None = None, *, lazily: bool = False) -> Future[Added]:
        """Remember the job and hold the answer back."""
        return self._hold(super().add(job, idempotency))

    def move(self, before: JobState, job: Job, log: EventLog | None = None, *, lazily: bool = False) -> Future[None]:
        """Replace the job and hold the answer back."""
        return self._hold(super().move(before, job, log))

    def _hold(self, done: Future[Any]) -> Future[Any]:
        if not self._holds:
            return done
        held: Future[Any] = Future()
        held.set_running_or_notify_cancel()
        self.held.append((done, held))
        return held

    def let_go(self, count: int) -> None:
        """Let go of that many writes, once they have been called for."""
        wait_until(lambda: len(self.held) >= count)
        for _ in range(count):
            done, held = self.held.popleft()
            refusal = done.exception()
            held.set_result(done.result()) if refusal is None else held.set_exception(refusal)

    def let_go_of_all(self) -> None:
        """Hold nothing back any more."""
        self._holds = False
        self.let_go(len(self.held))

    def close(self) -> None:
        """Hold nothing back any more."""
        self.let_go_of_all()
        super().close()


class RefusingStore(MemoryStore):
    """Refuses the writes that `refuses` says, as a full disk does."""

    def __init__(self, refuses: Callable[[Job], bool]) -> None:
        super().__init__()
        self._refuses = refuses

    def add(self, job: Job, idempotency: Idempotency | None = None, *, lazily: bool = False) -> Future[Added]:
        """Remember the job, or refuse to."""
        return self._refusal() if self._refuses(job) else super().add(job, idempotency)

    def move(self, before: JobState, job: Job, log: EventLog | None = None, *, lazily: bool = False) -> Future[None]:
        """Replace the job, or refuse to."""
        return self._refusal() if self._refuses(job) else super().move(before, job, log)

    def forget(self, job_id: str) -> None:
        """Lose a job."""
        del self._jobs[job_id]

    def _refusal(self) -> Future[Any]:
        refused: Future[Any] = Future()
        refused.set_exception(StoreUnavailable("The disk is full."))
        return refused


class CallExecutor(ScriptedExecutor):
    """Answers with whatever a function returns or raises."""

    def __init__(self, answer: Callable[[Order, Cancel], Report]) -> None:
        super().__init__()
        self._answer = answer

    def run(self, order: Order, sink: Sink, cancel: Cancel) -> Report:
        """Answer."""
        self.orders.append(order)
        return self._answer(order, cancel)


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Keeps the jobs of a `ScriptedExecutor` running until it is set."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    """Each store there is, open."""
    opened = open_store("memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'jobs.db'}")
    yield opened
    opened.close()


Start = Callable[..., Runner]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a runner; it is closed, and its store let go, when the test ends."""
    runners: list[tuple[Runner, JobStore]] = []

    def start_runner(store: JobStore | None = None, executor: ScriptedExecutor | None = None, **limits: Any) -> Runner:
        store = MemoryStore() if store is None else store
        runner = Runner(store, executor or ScriptedExecutor(), _catalog(), replace(_LIMITS, **limits))
        runners.append((runner, store))
        runner.start()
        return runner

    yield start_runner
    for runner, store in runners:
        runner.close(0.0)
        store.close()


def _settled(future: Future[Job] | None) -> Job:
    assert future is not None
    return future.result(RESULT_S)


def _refusal(future: Future[Any] | None) -> BaseException | None:
    assert future is not None
    return future.exception(RESULT_S)


def _counts(runner: Runner) -> dict[str, tuple[int, int]]:
    return {lane: (count.queued, count.running) for lane, count in runner.lanes().items()}


def _wait_for_counts(runner: Runner, **expected: tuple[int, int]) -> None:
    wait_until(lambda: _counts(runner) == {"cpu": (0, 0), "wait": (0, 0), **expected})


def _close_in_thread(runner: Runner, grace_s: float) -> threading.Thread:
    """Begin to close a runner, and come back as soon as it takes no more jobs."""
    closing = threading.Thread(target=runner.close, args=(grace_s,))
    closing.start()

    def refuses() -> bool:
        with runner._lock:
            return runner._closing

    wait_until(refuses)
    return closing


# From accepted to settled.


def test_a_job_is_accepted_run_and_settled(start: Start, store: JobStore) -> None:
    """What is told at the end is the finished job, and that is what the store holds."""
    runner = start(store, ScriptedExecutor(lambda _: success("kept", expected=4)))
    job = make_job(created_at=datetime.now(UTC))
    ticket = runner.submit(job)
    assert Added(job) == ticket.accepted.result(RESULT_S)
    settled = _settled(ticket.settled)
    assert store.get(job.id) == settled
    assert (JobState.SUCCEEDED, 1, None) == (settled.status, settled.attempt, settled.error)
    assert settled.result is not None
    assert ("kept", {"expected": 4}) == (settled.result["outcome"], settled.result["values"])
    assert settled.python is not None
    assert settled.machine is not None


def test_the_times_of_a_job_are_in_order(start: Start) -> None:
    """A job is created, started and finished in this order."""
    settled = _settled(start().submit(make_job(created_at=datetime.now(UTC))).settled)
    assert settled.started_at is not None
    assert settled.finished_at is not None
    assert settled.created_at <= settled.started_at <= settled.finished_at


def test_clocks_can_be_given() -> None:
    """All times come from the clock that the runner was given, and what passed between two from the other one."""
    ticks = itertools.count(100.0, 5.0)
    runner = Runner(MemoryStore(), ScriptedExecutor(), _catalog(), _LIMITS, clock=lambda: T0, ticks=lambda: next(ticks))
    runner.start()
    settled = _settled(runner.submit(make_job(created_at=T0 + timedelta(days=1))).settled)
    runner.close(0.0)
    assert (T0, T0) == (settled.started_at, settled.finished_at)
    assert settled.result is not None
    assert 5.0 == settled.result["timings"]["queued_s"]


def test_an_order_carries_what_a_child_needs(start: Start) -> None:
    """The executor gets the scenario's source and digest, its parameters without the job's options, and the limits."""
    executor = ScriptedExecutor()
    job = make_job(request={"scenario": "probe", "threads": 5, "timeout_s": 3.5, "label": "x", "python": None})
    _settled(start(executor=executor).submit(job).settled)
    expected = Order(job.id, "probe", "digest", "source", {"threads": 5}, 3.5, Kept(10_000, 1_000))
    assert [expected] == executor.orders


def test_a_job_of_before_its_scenario_had_a_parameter(start: Start) -> None:
    """A job that was accepted before its scenario got another parameter runs, with the default of that."""
    executor = ScriptedExecutor()
    job = make_job(request={"scenario": "probe", "timeout_s": 3.5})
    assert JobState.SUCCEEDED is _settled(start(executor=executor).submit(job).settled).status
    assert [{}] == [order.params for order in executor.orders]


def test_a_scenario_that_fails_is_not_tried_again(start: Start) -> None:
    """What a scenario does to itself is its result: one attempt, and its error in the job."""
    failed = make_report(JobState.FAILED)
    executor = CallExecutor(lambda *_: failed)
    settled = _settled(start(executor=executor).submit(make_job()).settled)
    assert (JobState.FAILED, 1, failed.error) == (settled.status, settled.attempt, settled.error)
    assert 1 == len(executor.orders)


def test_nobody_is_told_before_it_is_on_disk(start: Start) -> None:
    """A job is not said to be accepted before it is written, nor to have ended before that is."""
    store = HeldStore()
    runner = start(store, ScriptedExecutor())
    ticket = runner.submit(make_job())
    wait_until(lambda: len(store.held) == 3)  # it was accepted, has started and has ended
    assert (False, False) == (ticket.accepted.done(), ticket.settled.done())
    store.let_go(1)
    assert (True, False) == (ticket.accepted.done(), ticket.settled.done())
    store.let_go(1)
    assert not ticket.settled.done()
    store.let_go(1)
    assert JobState.SUCCEEDED is _settled(ticket.settled).status


def test_a_job_with_a_key_does_not_run_before_it_is_known_for_new(start: Start) -> None:
    """A repeated request must not run its job again, so one with a key waits until it is written."""
    store, executor = HeldStore(), ScriptedExecutor()
    runner = start(store, executor)
    ticket = runner.submit(make_job(), _SAME)
    wait_until(lambda: len(store.held) == 1)
    assert (False, []) == (ticket.accepted.done(), executor.orders)
    store.let_go_of_all()
    assert JobState.SUCCEEDED is _settled(ticket.settled).status


def test_nobody_is_told_of_a_cancelled_job_before_it_is_on_disk(start: Start, held: threading.Event) -> None:
    """Who cancels a job that waits hears of it when that is written."""
    store = HeldStore()
    runner = start(store, ScriptedExecutor(held=held))
    running, waiting = make_job(lane="cpu"), make_job(lane="cpu")
    runner.submit(running)
    store.let_go(1)
    _wait_for_counts(runner, cpu=(0, 1))
    runner.submit(waiting)
    store.let_go(2)  # the first has started, the second is accepted
    cancelled = runner.cancel(waiting.id)
    assert cancelled is not None
    assert not cancelled.done()
    store.let_go(1)
    assert JobState.CANCELLED is _settled(cancelled).status


# Lanes.


def test_jobs_that_compute_run_one_at_a_time(start: Start) -> None:
    """No two jobs of the lane `cpu` are ever inside the executor together, and they run in their order."""
    inside, most = 0, 0
    lock = threading.Lock()

    def answer(*_: object) -> Report:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        report = make_report()
        with lock:
            inside -= 1
        return report

    executor = CallExecutor(answer)
    runner = start(executor=executor)
    jobs = [make_job(lane="cpu") for _ in range(30)]
    tickets = [runner.submit(job) for job in jobs]
    assert [JobState.SUCCEEDED] * 30 == [_settled(ticket.settled).status for ticket in tickets]
    assert 1 == most
    assert [job.id for job in jobs] == [order.job_id for order in executor.orders]


def test_a_job_that_computes_waits_for_the_one_before(start: Start, held: threading.Event) -> None:
    """While one job of the lane `cpu` runs, the others wait."""
    executor = ScriptedExecutor(held=held)
    runner = start(executor=executor)
    tickets = [runner.submit(make_job(lane="cpu")) for _ in range(3)]
    _wait_for_counts(runner, cpu=(2, 1))
    assert 1 == len(executor.orders)
    held.set()
    assert [JobState.SUCCEEDED] * 3 == [_settled(ticket.settled).status for ticket in tickets]


def test_jobs_that_wait_run_many_at_once(start: Start, held: threading.Event) -> None:
    """The lane `wait` runs as many jobs at once as it has slots; one more waits."""
    runner = start(executor=ScriptedExecutor(held=held))
    tickets = [runner.submit(make_job()) for _ in range(21)]
    _wait_for_counts(runner, wait=(1, 20))
    held.set()
    assert [JobState.SUCCEEDED] * 21 == [_settled(ticket.settled).status for ticket in tickets]


def test_a_full_lane_does_not_hold_up_the_other(start: Start, held: threading.Event) -> None:
    """A job that waits runs while jobs that compute stand in line."""
    first = make_job(lane="cpu")

    def answer(order: Order, _: Cancel) -> Report:
        if order.job_id == first.id:
            held.wait(RESULT_S)
        return make_report()

    runner = start(executor=CallExecutor(answer))
    computing = [runner.submit(first), runner.submit(make_job(lane="cpu"))]
    assert JobState.SUCCEEDED is _settled(runner.submit(make_job()).settled).status
    assert [False, False] == [ticket.settled.done() for ticket in computing]
    held.set()
    assert [JobState.SUCCEEDED] * 2 == [_settled(ticket.settled).status for ticket in computing]


def test_the_lanes_are_counted_right_at_every_step(start: Start, held: threading.Event) -> None:
    """A job is counted where it stands: queued, running, and nowhere once it is settled or cancelled."""
    runner = start(executor=ScriptedExecutor(held=held))
    assert {"cpu": LaneCount(0, 0, 1), "wait": LaneCount(0, 0, 20)} == runner.lanes()
    jobs = [make_job(lane="cpu") for _ in range(3)]
    tickets = [runner.submit(job) for job in jobs]
    _wait_for_counts(runner, cpu=(2, 1))
    waiting = runner.submit(make_job())
    _wait_for_counts(runner, cpu=(2, 1), wait=(0, 1))
    _settled(runner.cancel(jobs[2].id))
    assert {"cpu": LaneCount(1, 1, 1), "wait": LaneCount(0, 1, 20)} == runner.lanes()
    _settled(runner.cancel(jobs[0].id))
    _wait_for_counts(runner, cpu=(0, 1), wait=(0, 1))
    held.set()
    for ticket in (*tickets, waiting):
        _settled(ticket.settled)
    assert {"cpu": LaneCount(0, 0, 1), "wait": LaneCount(0, 0, 20)} == runner.lanes()


def test_a_full_queue_takes_no_more_until_a_job_leaves_it(start: Start, held: threading.Event) -> None:
    """As many jobs wait as may, over both lanes; the next is told when to try again, and taken when there is room."""
    store = MemoryStore()
    runner = start(store, ScriptedExecutor(held=held), wait_slots=1, max_queued=2)
    first = runner.submit(make_job(lane="cpu"))
    runner.submit(make_job())
    _wait_for_counts(runner, cpu=(0, 1), wait=(0, 1))
    runner.submit(make_job(lane="cpu"))
    runner.submit(make_job())
    refused = make_job()
    with pytest.raises(QueueFull, match=r"2 jobs are waiting, which is the limit\. Try again in 7 s") as full:
        runner.submit(refused)
    assert 7 == full.value.retry_after_s
    with pytest.raises(JobNotFound):
        store.get(refused.id)
    assert runner.watch(refused.id) is None
    held.set()
    _settled(first.settled)
    _wait_for_counts(runner)
    assert JobState.SUCCEEDED is _settled(runner.submit(refused).settled).status


def test_a_full_queue_gives_again_what_it_has_accepted(start: Start, store: JobStore, held: threading.Event) -> None:
    """A request that is repeated because its answer was lost finds its job, though there is no room for another."""
    runner = start(store, ScriptedExecutor(held=held), max_queued=1)
    job, seen = make_job(lane="cpu"), len(store.unfinished())
    first = runner.submit(job, _SAME)
    _wait_for_counts(runner, cpu=(0, 1))
    runner.submit(make_job(lane="cpu"))
    again = runner.submit(make_job(lane="cpu"), _SAME)
    assert (job.id, True) == (again.accepted.result(RESULT_S).job.id, again.accepted.result(RESULT_S).replayed)
    new = runner.submit(make_job(lane="cpu"), Idempotency("new", ""))
    other = runner.submit(make_job(lane="cpu"), Idempotency("key", "another"))
    assert [QueueFull] * 2 == [type(_refusal(new.accepted)), type(_refusal(new.settled))]
    assert [IdempotencyConflict] * 2 == [type(_refusal(other.accepted)), type(_refusal(other.settled))]
    assert 2 == len(store.unfinished()) - seen
    held.set()
    assert job.id == _settled(first.settled).id == _settled(again.settled).id


def test_a_cancelled_job_makes_room_in_the_queue(start: Start, held: threading.Event) -> None:
    """Who waits no longer is not counted as waiting."""
    runner = start(executor=ScriptedExecutor(held=held), max_queued=1)
    runner.submit(make_job(lane="cpu"))
    _wait_for_counts(runner, cpu=(0, 1))
    waiting = make_job(lane="cpu")
    runner.submit(waiting)
    with pytest.raises(QueueFull):
        runner.submit(make_job())
    _settled(runner.cancel(waiting.id))
    held.set()
    assert JobState.SUCCEEDED is _settled(runner.submit(make_job()).settled).status


# Looking at jobs on their way.


def test_a_job_on_its_way_can_be_looked_at(start: Start, held: threading.Event) -> None:
    """`peek` shows a job as it is now while it waits and runs, and nothing once it has ended."""
    runner = start(executor=ScriptedExecutor(held=held))
    running, waiting = make_job(lane="cpu"), make_job(lane="cpu")
    tickets = [runner.submit(running), runner.submit(waiting)]
    _wait_for_counts(runner, cpu=(1, 1))
    seen = runner.peek(running.id)
    assert seen is not None
    assert (JobState.RUNNING, 1) == (seen.status, seen.attempt)
    assert waiting == runner.peek(waiting.id)
    held.set()
    for ticket in tickets:
        _settled(ticket.settled)
    assert (None, None) == (runner.peek(running.id), runner.peek(waiting.id))


def test_a_job_on_its_way_can_be_watched(start: Start, held: threading.Event) -> None:
    """`watch` gives everybody the future that the submitter has, until the job is settled."""
    runner = start(executor=ScriptedExecutor(held=held))
    job = make_job()
    ticket = runner.submit(job)
    assert ticket.settled is runner.watch(job.id)
    held.set()
    _settled(ticket.settled)
    assert runner.watch(job.id) is None


def test_unknown_jobs_are_not_on_their_way(start: Start) -> None:
    """Of a job that nobody submitted there is nothing to see, to watch or to cancel."""
    runner = start()
    assert (None, None, None) == (runner.peek("job_x"), runner.watch("job_x"), runner.cancel("job_x"))


def test_a_watcher_that_gives_up_leaves_the_others_waiting(start: Start, held: threading.Event) -> None:
    """Who awaits a job on an event loop and runs out of time takes the end away from nobody."""
    runner = start(executor=ScriptedExecutor(held=held))
    job = make_job()
    ticket = runner.submit(job)
    _wait_for_counts(runner, wait=(0, 1))

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(ticket.settled), 0.01)

    asyncio.run(give_up())
    other = runner.watch(job.id)
    held.set()
    runner.close(RESULT_S)
    assert JobState.SUCCEEDED is _settled(other).status


def test_a_submitter_that_gives_up_does_not_take_its_job_along(start: Start, tmp_path: Path) -> None:
    """A client that goes away before its job is on disk leaves a job that is run like any other."""
    store = SqlStore(f"sqlite:///{tmp_path / 'jobs.db'}")
    store.open()
    runner = start(store)
    with writer_busy(store):
        ticket = runner.submit(make_job())
        ticket.accepted.cancel()
    assert JobState.SUCCEEDED is ticket.settled.result(RESULT_S / 4).status
    _wait_for_counts(runner)


# Cancel.


def test_a_job_that_waits_is_cancelled_at_once(start: Start, store: JobStore, held: threading.Event) -> None:
    """A queued job ends without a run, and those around it go on."""
    executor = ScriptedExecutor(held=held)
    runner = start(store, executor)
    first, doomed, last = jobs = [make_job(lane="cpu") for _ in range(3)]
    tickets = [runner.submit(job) for job in jobs]
    _wait_for_counts(runner, cpu=(2, 1))
    future = runner.cancel(doomed.id)
    assert future is tickets[1].settled
    cancelled = _settled(future)
    assert store.get(doomed.id) == cancelled
    expected = (JobState.CANCELLED, 0, None, None)
    assert expected == (cancelled.status, cancelled.attempt, cancelled.started_at, cancelled.result)
    assert cancelled.finished_at is not None
    held.set()
    assert [JobState.SUCCEEDED] * 2 == [_settled(tickets[number].settled).status for number in (0, 2)]
    assert [first.id, last.id] == [order.job_id for order in executor.orders]


def test_a_running_job_is_cancelled_by_its_executor(start: Start, store: JobStore, held: threading.Event) -> None:
    """A running job is asked to end; the future tells of it with what it showed until then."""
    runner = start(store, ScriptedExecutor(held=held))
    job = make_job()
    ticket = runner.submit(job)
    _wait_for_counts(runner, wait=(0, 1))
    future = runner.cancel(job.id)
    assert future is ticket.settled
    cancelled = _settled(future)
    assert store.get(job.id) == cancelled
    assert (JobState.CANCELLED, 1) == (cancelled.status, cancelled.attempt)
    assert cancelled.result is not None
    _wait_for_counts(runner)


def test_a_job_may_be_cancelled_again(start: Start, held: threading.Event) -> None:
    """Two who cancel the same running job get the same answer."""
    runner = start(executor=ScriptedExecutor(held=held))
    job = make_job()
    ticket = runner.submit(job)
    _wait_for_counts(runner, wait=(0, 1))
    futures = [runner.cancel(job.id)]
    with contextlib.suppress(IllegalMove):  # its end may be on its way to the disk already
        futures.append(runner.cancel(job.id))
    assert JobState.CANCELLED is _settled(ticket.settled).status
    assert all(future is None or future is ticket.settled for future in futures)


def test_a_job_that_ended_before_the_wish_keeps_its_end(start: Start, held: threading.Event) -> None:
    """A job whose executor was done before it heard of the wish has succeeded; cancel tells the truth."""

    def deaf(*_: object) -> Report:
        held.wait(RESULT_S)
        return make_report()

    runner = start(executor=CallExecutor(deaf))
    job = make_job()
    runner.submit(job)
    _wait_for_counts(runner, wait=(0, 1))
    future = runner.cancel(job.id)
    held.set()
    assert JobState.SUCCEEDED is _settled(future).status


def test_a_job_whose_end_is_being_written_cannot_be_cancelled(start: Start) -> None:
    """Nobody is told of an end that is not on disk, and nobody that the job can be cancelled."""
    store = HeldStore()
    runner = start(store)
    job = make_job()
    ticket = runner.submit(job)
    wait_until(lambda: store.get(job.id).finished)
    with pytest.raises(IllegalMove, match="has come to its end, which is being written"):
        runner.cancel(job.id)
    assert not ticket.settled.done()
    store.let_go_of_all()
    assert JobState.SUCCEEDED is _settled(ticket.settled).status


def test_a_finished_job_cannot_be_cancelled(start: Start) -> None:
    """Of a finished job there is nothing to end."""
    store = MemoryStore()
    runner = start(store)
    job = make_job()
    settled = _settled(runner.submit(job).settled)
    assert runner.cancel(job.id) is None
    assert settled == store.get(job.id)


def test_a_job_can_be_cancelled_before_it_is_on_disk(start: Start, held: threading.Event) -> None:
    """A job that is cancelled while it is being written and waits is written as cancelled and never run."""
    store, executor = HeldStore(), ScriptedExecutor(held=held)
    runner = start(store, executor)
    runner.submit(make_job(lane="cpu"))
    _wait_for_counts(runner, cpu=(0, 1))
    job = make_job(lane="cpu")
    ticket = runner.submit(job)
    runner.cancel(job.id)
    store.let_go_of_all()
    assert JobState.CANCELLED is _settled(ticket.settled).status
    assert JobState.CANCELLED is store.get(job.id).status
    held.set()
    _wait_for_counts(runner)
    assert job.id not in [order.job_id for order in executor.orders]


def test_a_job_that_is_cancelled_while_its_attempt_breaks_is_not_tried_again(
    start: Start, held: threading.Event
) -> None:
    """Nothing of it runs any more, so it is cancelled."""

    def script(_: Order) -> Sequence[Frame]:
        raise ForkServerDied("It ended.")

    runner = start(executor=ScriptedExecutor(script, held))
    job = make_job()
    runner.submit(job)
    _wait_for_counts(runner, wait=(0, 1))
    cancelled = _settled(runner.cancel(job.id))
    assert (JobState.CANCELLED, 1, None) == (cancelled.status, cancelled.attempt, cancelled.error)


# Idempotency.


def test_a_replay_of_a_running_job_settles_with_it(start: Start, store: JobStore, held: threading.Event) -> None:
    """A request that comes again while its job runs gets that job, and hears of its end."""
    executor = ScriptedExecutor(held=held)
    runner = start(store, executor)
    job = make_job()
    first = runner.submit(job, _SAME)
    _wait_for_counts(runner, wait=(0, 1))
    again = make_job()
    second = runner.submit(again, _SAME)
    added = second.accepted.result(RESULT_S)
    assert (job.id, True) == (added.job.id, added.replayed)
    _wait_for_counts(runner, wait=(0, 1))
    assert runner.watch(again.id) is None
    assert not second.settled.done()
    held.set()
    assert _settled(first.settled) == _settled(second.settled)
    assert [job.id] == [order.job_id for order in executor.orders]


def test_a_replay_of_a_finished_job_is_settled_at_once(start: Start, store: JobStore) -> None:
    """A request that comes again after its job has ended gets the finished job."""
    runner = start(store)
    first = _settled(runner.submit(make_job(), _SAME).settled)
    second = runner.submit(make_job(), _SAME)
    assert Added(first, replayed=True) == second.accepted.result(RESULT_S)
    assert first == _settled(second.settled)
    _wait_for_counts(runner)


def test_a_replay_of_a_job_that_ends_as_cancelled_hears_of_it(start: Start, held: threading.Event) -> None:
    """Who asked for the same job is told how it ended, whoever ended it."""
    runner = start(executor=ScriptedExecutor(held=held))
    job = make_job()
    first = runner.submit(job, _SAME)
    second = runner.submit(make_job(), _SAME)
    _wait_for_counts(runner, wait=(0, 1))
    runner.cancel(job.id)
    assert JobState.CANCELLED is _settled(first.settled).status
    assert _settled(first.settled) == _settled(second.settled)


def test_many_equal_requests_make_one_job(start: Start, store: JobStore) -> None:
    """Of equal requests that come together one is run, and all get the same settled job."""
    executor = ScriptedExecutor()
    runner = start(store, executor)
    with ThreadPoolExecutor(8) as pool:
        tickets = list(pool.map(lambda job: runner.submit(job, _SAME), [make_job() for _ in range(40)]))
        settled = [_settled(ticket.settled) for ticket in tickets]
    assert [settled[0]] * 40 == settled
    assert JobState.SUCCEEDED is settled[0].status
    assert [settled[0].id] == [order.job_id for order in executor.orders]
    assert {"cpu": (0, 0), "wait": (0, 0)} == _counts(runner)


def test_a_conflict_of_keys_is_told_to_both_futures(start: Start, store: JobStore, held: threading.Event) -> None:
    """A key that belongs to another request refuses the job, which is counted nowhere."""
    runner = start(store, ScriptedExecutor(held=held))
    runner.submit(make_job(), _SAME)
    refused = make_job()
    ticket = runner.submit(refused, Idempotency("key", "another"))
    assert [IdempotencyConflict] * 2 == [type(_refusal(ticket.accepted)), type(_refusal(ticket.settled))]
    _wait_for_counts(runner, wait=(0, 1))
    assert runner.watch(refused.id) is None


# What goes wrong.


def test_a_run_that_could_not_be_made_is_made_again(start: Start, store: JobStore) -> None:
    """An executor that fails twice, through no fault of the job, is asked a third time."""
    errors = iter([ForkServerDied("It ended."), ForkFailed("No more processes.")])

    def answer(*_: object) -> Report:
        for error in errors:
            raise error
        return make_report()

    executor = CallExecutor(answer)
    runner = start(store, executor)
    settled = _settled(runner.submit(make_job()).settled)
    assert (JobState.SUCCEEDED, 3) == (settled.status, settled.attempt)
    assert store.get(settled.id) == settled
    assert [settled.id] * 3 == [order.job_id for order in executor.orders]
    _wait_for_counts(runner)


def test_a_job_that_cannot_be_run_in_three_attempts_is_lost(start: Start, store: JobStore) -> None:
    """After three attempts the job is lost, and says how many there were and what was in its way."""

    def answer(*_: object) -> Report:
        raise ForkFailed("No more processes.")

    executor = CallExecutor(answer)
    settled = _settled(start(store, executor).submit(make_job()).settled)
    assert (JobState.LOST, 3, 3) == (settled.status, settled.attempt, len(executor.orders))
    assert store.get(settled.id) == settled
    message = "It could not be run in 3 attempts. In the last one: No more processes."
    assert {"type": "AttemptsUsedUp", "message": message, "traceback": None} == settled.error


def test_an_attempt_waits_for_what_was_short_unless_the_job_is_cancelled(start: Start) -> None:
    """The second attempt comes after a pause, the third after another; a cancel ends the pause, and the job."""

    def answer(*_: object) -> Report:
        raise ForkFailed("No more processes.")

    executor = CallExecutor(answer)
    runner = start(None, executor, pauses_s=(0.01, 3_600.0))
    ticket = runner.submit(make_job())
    wait_until(lambda: len(executor.orders) == 2)
    _settled(runner.cancel(ticket.accepted.result(RESULT_S).job.id))
    assert (JobState.CANCELLED, 2) == (_settled(ticket.settled).status, len(executor.orders))


def test_a_job_whose_scenario_is_gone_is_lost(start: Start) -> None:
    """A job that waited while its scenario was removed is lost with the reason, and not tried again."""
    executor = ScriptedExecutor()
    settled = _settled(start(executor=executor).submit(make_job(scenario="removed")).settled)
    assert (JobState.LOST, 1, []) == (settled.status, settled.attempt, executor.orders)
    message = "There is no scenario 'removed'."
    assert {"type": "ScenarioNotFound", "message": message, "traceback": None} == settled.error


@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), BadScenario("It breaks a rule.")])
def test_an_executor_that_breaks_its_contract_does_not_hold_up_the_lane(start: Start, error: Exception) -> None:
    """Whatever an executor raises, the job ends as lost and the lane goes on."""
    doomed = make_job(lane="cpu")

    def answer(order: Order, _: Cancel) -> Report:
        if order.job_id == doomed.id:
            raise error
        return make_report()

    runner = start(executor=CallExecutor(answer))
    tickets = [runner.submit(doomed), runner.submit(make_job(lane="cpu"))]
    lost = _settled(tickets[0].settled)
    assert (JobState.LOST, 1) == (lost.status, lost.attempt)
    assert lost.error is not None
    assert "secret" not in lost.error["message"]
    assert JobState.SUCCEEDED is _settled(tickets[1].settled).status
    _wait_for_counts(runner)


def test_a_job_whose_request_is_broken_is_lost(start: Start) -> None:
    """A stored request that lacks what every job has ends the job and nothing else."""
    executor = ScriptedExecutor()
    settled = _settled(start(executor=executor).submit(make_job(request={"threads": 1})).settled)
    assert (JobState.LOST, []) == (settled.status, executor.orders)
    assert settled.error is not None
    assert "InternalError" == settled.error["type"]


@pytest.mark.parametrize(
    "report",
    [
        make_report(JobState.RUNNING),
        make_report(JobState.QUEUED),
        make_report(result={"outcome": "no timings"}),
        None,
    ],
    ids=["running", "queued", "no timings", "none"],
)
def test_a_report_that_is_none_ends_the_job(start: Start, report: Report) -> None:
    """An executor that reports what is no end does not leave a job that never ends."""
    runner = start(executor=CallExecutor(lambda *_: report))
    settled = runner.submit(make_job()).settled.result(RESULT_S / 4)
    assert settled.status in FINAL
    _wait_for_counts(runner)


def test_a_store_that_refuses_a_job_tells_both_futures(start: Start) -> None:
    """A job that could not be written was never accepted: nobody waits for it, and nothing counts it."""
    refused = make_job()
    runner = start(RefusingStore(lambda job: job.id == refused.id), max_queued=1)
    for _ in range(3):  # each would fill the queue if it were still counted
        ticket = runner.submit(refused)
        assert [StoreUnavailable] * 2 == [type(_refusal(ticket.accepted)), type(_refusal(ticket.settled))]
        _wait_for_counts(runner)
    assert (None, None) == (runner.watch(refused.id), runner.peek(refused.id))
    assert JobState.SUCCEEDED is _settled(runner.submit(make_job()).settled).status


def test_a_job_that_the_store_refuses_is_ended_again(start: Start, held: threading.Event) -> None:
    """A run that began beside a write that then failed does not go on."""
    refused = make_job()
    runner = start(RefusingStore(lambda job: job.id == refused.id), ScriptedExecutor(held=held))
    assert StoreUnavailable is type(_refusal(runner.submit(refused).settled))
    _wait_for_counts(runner)  # nobody let it go: it was cancelled, or had not begun


def test_an_end_that_cannot_be_written_is_not_told(start: Start) -> None:
    """A job whose end the store refused is not said to have ended; whoever waits is told why, and the lane goes on."""
    doomed = make_job(lane="cpu")
    store = RefusingStore(lambda job: job.id == doomed.id and job.finished)
    runner = start(store)
    refusal = _refusal(runner.submit(doomed).settled)
    assert (StoreUnavailable, "The disk is full.") == (type(refusal), str(refusal))
    assert JobState.RUNNING is store.get(doomed.id).status
    assert runner.peek(doomed.id) is None
    assert JobState.SUCCEEDED is _settled(runner.submit(make_job(lane="cpu")).settled).status
    _wait_for_counts(runner)


@pytest.mark.parametrize("from_state", [JobState.RUNNING, JobState.SUCCEEDED], ids=["start and end", "end"])
def test_an_end_is_written_when_the_store_can_again(
    start: Start, from_state: JobState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that is held is written as soon as it can be, with its start if that is missing; then it is told."""
    monkeypatch.setattr(unwritten, "_AGAIN_S", 0.01)
    full = threading.Event()
    full.set()
    states = [from_state, JobState.SUCCEEDED]
    store = RefusingStore(lambda job: full.is_set() and job.status in states)
    runner = start(store)
    job = make_job()
    assert isinstance(_refusal(runner.submit(job).settled), StoreUnavailable)
    waiting = runner.watch(job.id)
    assert waiting is not None
    feed = runner.feed(job.id)
    assert feed is not None
    full.clear()
    settled = _settled(waiting)
    assert (settled, JobState.SUCCEEDED, 1) == (store.get(job.id), settled.status, settled.attempt)
    wait_until(lambda: feed.closed)
    assert ["running", "succeeded"] == [event["status"] for event in feed.events if event["type"] == "state"]
    assert (None, None) == (runner.watch(job.id), runner.feed(job.id))
    wait_until(lambda: not [each for each in threading.enumerate() if each.name == "unwritten"])


def test_an_end_that_cannot_be_written_until_the_service_ends(start: Start) -> None:
    """A service that ends with a full disk says so to who waits; the job is where the next start finds it."""
    store = RefusingStore(lambda job: job.finished)
    runner = start(store)
    job = make_job()
    assert isinstance(_refusal(runner.submit(job).settled), StoreUnavailable)
    waiting = runner.watch(job.id)
    assert waiting is not None
    runner.close(0.0)
    assert isinstance(_refusal(waiting), ShuttingDown)
    assert JobState.RUNNING is store.get(job.id).status


def test_a_held_end_whose_job_is_gone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that belongs to no job any more is given up, and who waits is told."""
    monkeypatch.setattr(unwritten, "_AGAIN_S", 0.01)
    store = RefusingStore(lambda job: job.finished)
    runner = start(store)
    job = make_job()
    assert isinstance(_refusal(runner.submit(job).settled), StoreUnavailable)
    waiting = runner.watch(job.id)
    assert waiting is not None
    store.forget(job.id)
    assert isinstance(_refusal(waiting), JobNotFound)
    assert runner.watch(job.id) is None


def test_a_cancel_that_cannot_be_written_is_not_told(
    start: Start, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who cancels a waiting job while the store refuses to write is told so; it is cancelled when the store can."""
    monkeypatch.setattr(unwritten, "_AGAIN_S", 0.01)
    full = threading.Event()
    full.set()
    doomed = make_job(lane="cpu")
    store = RefusingStore(lambda job: full.is_set() and job.id == doomed.id and job.finished)
    runner = start(store, ScriptedExecutor(held=held))
    runner.submit(make_job(lane="cpu"))
    runner.submit(doomed)
    _wait_for_counts(runner, cpu=(1, 1))
    assert StoreUnavailable is type(_refusal(runner.cancel(doomed.id)))
    assert {"cpu": (0, 1), "wait": (0, 0)} == _counts(runner)
    full.clear()
    wait_until(lambda: store.get(doomed.id).status is JobState.CANCELLED)


# Start again.


def test_what_an_earlier_service_left_is_taken_up(start: Start, store: JobStore) -> None:
    """After a kill, jobs that waited are run, jobs that ran are run again, and what was finished stays as it was."""
    waiting, running, twice = make_job(), running_job(lane="cpu"), running_job(attempt=2)
    ended = ended_job()
    for job in (waiting, running, twice, ended):
        store.add(job).result(RESULT_S)
    executor = ScriptedExecutor()
    runner = start(store, executor)
    wait_until(lambda: not store.unfinished())
    found = [store.get(job.id) for job in (waiting, running, twice)]
    assert [(JobState.SUCCEEDED, 1), (JobState.SUCCEEDED, 2), (JobState.SUCCEEDED, 3)] == [
        (job.status, job.attempt) for job in found
    ]
    assert ended == store.get(ended.id)
    assert {waiting.id, running.id, twice.id} == {order.job_id for order in executor.orders}
    _wait_for_counts(runner)


def test_a_job_that_ended_the_service_three_times_is_lost(start: Start, store: JobStore) -> None:
    """A job that was running at each of three ends of the service is not run a fourth time."""
    deadly, harmless = running_job(attempt=3), make_job()
    for job in (deadly, harmless):
        store.add(job).result(RESULT_S)
    executor = ScriptedExecutor()
    runner = start(store, executor)
    wait_until(lambda: not store.unfinished())
    lost = store.get(deadly.id)
    assert (JobState.LOST, 3) == (lost.status, lost.attempt)
    assert lost.finished_at is not None
    assert lost.error is not None
    assert "The service ended during each of 3 attempts to run it." == lost.error["message"]
    assert [harmless.id] == [order.job_id for order in executor.orders]
    assert runner.watch(deadly.id) is None


def test_a_job_that_was_taken_up_can_be_watched_and_cancelled(start: Start, held: threading.Event) -> None:
    """Jobs of an earlier service are on their way like any others, in their order and counted."""
    store, executor = MemoryStore(), ScriptedExecutor(held=held)
    first, second, third = running_job(lane="cpu"), make_job(lane="cpu"), make_job(lane="cpu")
    for job in (third, first, second):
        store.add(job)
    runner = start(store, executor, max_queued=1)  # what was accepted once is taken up, however many it is
    _wait_for_counts(runner, cpu=(2, 1))
    seen = runner.peek(first.id)
    assert seen is not None
    assert (JobState.RUNNING, 2) == (seen.status, seen.attempt)
    assert JobState.CANCELLED is _settled(runner.cancel(second.id)).status
    watched = [runner.watch(first.id), runner.watch(third.id)]
    held.set()
    assert [JobState.SUCCEEDED] * 2 == [_settled(future).status for future in watched]
    assert [first.id, third.id] == [order.job_id for order in executor.orders]


def test_a_job_that_was_taken_up_is_still_found_by_its_key(start: Start, tmp_path: Path, held: threading.Event) -> None:
    """A request that comes again after a restart gets the job that was accepted before."""
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    earlier, job = open_store(url), make_job()
    earlier.add(job, _SAME)
    earlier.close()
    runner = start(open_store(url), ScriptedExecutor(held=held))
    ticket = runner.submit(make_job(), _SAME)
    assert job.id == ticket.accepted.result(RESULT_S).job.id
    held.set()
    assert (job.id, JobState.SUCCEEDED) == (_settled(ticket.settled).id, _settled(ticket.settled).status)


def test_a_restart_runs_what_a_shutdown_put_back(start: Start, tmp_path: Path, held: threading.Event) -> None:
    """What did not end before a shutdown is in the database, and ends after the next start."""
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    jobs = [make_job(lane="cpu") for _ in range(3)]
    store = open_store(url)
    earlier = start(store, ScriptedExecutor(held=held))
    for job in jobs:
        earlier.submit(job).accepted.result(RESULT_S)
    _wait_for_counts(earlier, cpu=(2, 1))
    earlier.close(0.0)
    store.close()
    store = open_store(url)
    start(store)
    wait_until(lambda: not store.unfinished())
    found = [store.get(job.id) for job in jobs]
    assert [(JobState.SUCCEEDED, 1)] * 3 == [(job.status, job.attempt) for job in found]


def test_a_runner_without_an_executor_does_not_start() -> None:
    """When nothing can be run, the start says so, and the runner can be closed."""

    class NoExecutor(ScriptedExecutor):
        def start(self) -> None:
            raise ForkServerDied("There is no interpreter.")

    runner = Runner(MemoryStore(), NoExecutor(), _catalog(), _LIMITS)
    with pytest.raises(ForkServerDied):
        runner.start()
    assert runner.close(0.0) is None


# Close.


def test_running_jobs_may_end_within_the_grace(start: Start, held: threading.Event) -> None:
    """A job that ends by itself while the service closes is settled like any other."""
    store = MemoryStore()
    runner = start(store, ScriptedExecutor(held=held))
    ticket = runner.submit(make_job())
    _wait_for_counts(runner, wait=(0, 1))
    closing = _close_in_thread(runner, RESULT_S)
    assert not ticket.settled.done()
    held.set()
    closing.join(RESULT_S)
    assert not closing.is_alive()
    settled = _settled(ticket.settled)
    assert (JobState.SUCCEEDED, settled) == (settled.status, store.get(settled.id))


def test_jobs_that_do_not_end_are_put_back(start: Start, store: JobStore, held: threading.Event) -> None:
    """After the grace a running job is ended and waits in the store, with no attempt lost; whoever waits is told."""
    runner = start(store, ScriptedExecutor(held=held))
    running, waiting = make_job(lane="cpu"), make_job(lane="cpu")
    tickets = [runner.submit(running), runner.submit(waiting)]
    for ticket in tickets:
        ticket.accepted.result(RESULT_S)
    _wait_for_counts(runner, cpu=(1, 1))
    runner.close(0.0)
    assert [ShuttingDown] * 2 == [type(_refusal(ticket.settled)) for ticket in tickets]
    expected = [(running.id, JobState.QUEUED, 0, None), (waiting.id, JobState.QUEUED, 0, None)]
    wait_until(lambda: expected == [(job.id, job.status, job.attempt, job.started_at) for job in store.unfinished()])


def test_a_closed_runner_takes_no_more_jobs(start: Start) -> None:
    """Who comes after the end is told to come again when the service is back."""
    store = MemoryStore()
    runner = start(store)
    runner.close(0.0)
    with pytest.raises(ShuttingDown, match="shutting down"):
        runner.submit(make_job())
    assert [] == store.page(JobQuery(limit=1))


def test_a_closing_runner_takes_no_more_jobs(start: Start, held: threading.Event) -> None:
    """From the moment of the signal on no job is taken, though others still run."""
    runner = start(executor=ScriptedExecutor(held=held))
    runner.submit(make_job())
    _wait_for_counts(runner, wait=(0, 1))
    closing = _close_in_thread(runner, RESULT_S)
    with pytest.raises(ShuttingDown):
        runner.submit(make_job())
    held.set()
    closing.join(RESULT_S)
    assert not closing.is_alive()


def test_no_waiting_job_is_begun_while_the_runner_closes(start: Start, held: threading.Event) -> None:
    """When a slot becomes free during the grace, the next job stays in the queue for the next start."""
    store, executor = MemoryStore(), ScriptedExecutor(held=held)
    runner = start(store, executor)
    running, waiting = make_job(lane="cpu"), make_job(lane="cpu")
    tickets = [runner.submit(running), runner.submit(waiting)]
    _wait_for_counts(runner, cpu=(1, 1))
    closing = _close_in_thread(runner, RESULT_S)
    assert ShuttingDown is type(_refusal(tickets[1].settled))
    held.set()
    closing.join(RESULT_S)
    assert JobState.SUCCEEDED is _settled(tickets[0].settled).status
    assert [waiting] == store.unfinished()
    assert [running.id] == [order.job_id for order in executor.orders]


def test_a_runner_may_be_closed_again(start: Start, held: threading.Event) -> None:
    """To close twice is to close once."""
    runner = start(executor=ScriptedExecutor(held=held))
    ticket = runner.submit(make_job())
    _wait_for_counts(runner, wait=(0, 1))
    runner.close(0.0)
    runner.close(0.0)
    assert ShuttingDown is type(_refusal(ticket.settled))


def test_a_runner_may_be_closed_by_two_at_once(start: Start, held: threading.Event) -> None:
    """The wish of one close is no client's cancel to the other: what runs is put back all the same."""
    store, wished, go_on = MemoryStore(), threading.Event(), threading.Event()

    def slow(order: Order, cancel: Cancel) -> Report:
        with cancel.waking(wished.set):
            go_on.wait(RESULT_S)
        return make_report(JobState.CANCELLED)

    runner = start(store, CallExecutor(slow))
    job = make_job()
    runner.submit(job)
    _wait_for_counts(runner, wait=(0, 1))
    closing = [_close_in_thread(runner, 0.0)]
    assert wished.wait(RESULT_S)
    closing.append(_close_in_thread(runner, 0.05))
    closing[1].join(0.5)  # it has seen the first one's wish by now, and waits for the job to end
    go_on.set()
    for thread in closing:
        thread.join(RESULT_S)
    assert [(job.id, JobState.QUEUED)] == [(each.id, each.status) for each in store.unfinished()]


def test_a_job_that_ends_by_itself_after_the_grace_keeps_its_end(start: Start, held: threading.Event) -> None:
    """A result that was there before the wish was heard is not thrown away by a shutdown."""

    def deaf(_: Order, cancel: Cancel) -> Report:
        with cancel.waking(held.set):
            held.wait(RESULT_S)
        return make_report()

    runner = start(executor=CallExecutor(deaf))
    ticket = runner.submit(make_job())
    _wait_for_counts(runner, wait=(0, 1))
    runner.close(0.0)
    assert JobState.SUCCEEDED is _settled(ticket.settled).status


def test_a_job_that_was_cancelled_is_not_put_back(start: Start, held: threading.Event) -> None:
    """A wish to cancel that came before the shutdown is kept: the job does not run again after the next start."""
    store = MemoryStore()

    def slow_to_cancel(*_: object) -> Report:
        held.wait(RESULT_S)
        return make_report(JobState.CANCELLED)

    runner = start(store, CallExecutor(slow_to_cancel))
    job = make_job()
    runner.submit(job)
    _wait_for_counts(runner, wait=(0, 1))
    cancelled = runner.cancel(job.id)
    closing = _close_in_thread(runner, 0.0)
    wait_until(lambda: runner._pools["wait"]._shutdown)  # the grace is over
    held.set()
    closing.join(RESULT_S)
    assert JobState.CANCELLED is _settled(cancelled).status
    assert JobState.CANCELLED is store.get(job.id).status


def test_a_job_that_cannot_be_run_while_the_runner_closes_is_put_back(start: Start, held: threading.Event) -> None:
    """An attempt that fails during the grace is not repeated now, but after the next start."""
    store = MemoryStore()

    def fails(*_: object) -> Report:
        held.wait(RESULT_S)
        raise ForkServerDied("It ended.")

    runner = start(store, CallExecutor(fails))
    job = make_job()
    ticket = runner.submit(job)
    _wait_for_counts(runner, wait=(0, 1))
    closing = _close_in_thread(runner, RESULT_S)
    held.set()
    closing.join(RESULT_S)
    assert ShuttingDown is type(_refusal(ticket.settled))
    assert [(JobState.QUEUED, 0)] == [(each.status, each.attempt) for each in store.unfinished()]


def test_a_job_that_is_being_written_while_the_runner_closes_is_kept(start: Start, held: threading.Event) -> None:
    """A job that was on its way to the disk at the end is accepted, and waits there for the next start."""
    store, executor = HeldStore(), ScriptedExecutor(held=held)
    runner = start(store, executor)
    runner.submit(make_job(lane="cpu"))
    _wait_for_counts(runner, cpu=(0, 1))
    job = make_job(lane="cpu")
    ticket = runner.submit(job)
    runner.close(0.0)
    assert ShuttingDown is type(_refusal(ticket.settled))
    store.let_go_of_all()
    assert Added(job) == ticket.accepted.result(RESULT_S)
    assert job in store.unfinished()
    assert job.id not in [order.job_id for order in executor.orders]


def _expect_no_log_of_a_broken_callback(caplog: pytest.LogCaptureFixture) -> None:
    broken = [record.getMessage() for record in caplog.records if record.name == "concurrent.futures"]
    assert [] == broken


@pytest.mark.parametrize("ended", [False, True], ids=["unfinished", "finished"])
def test_a_replay_that_is_on_its_way_while_the_runner_closes_is_told(
    start: Start, held: threading.Event, caplog: pytest.LogCaptureFixture, ended: bool
) -> None:
    """A repeated request that is answered after the shutdown began breaks nothing."""
    store = HeldStore()
    first = ended_job() if ended else make_job()
    store.add(first, _SAME)
    store.let_go(1)
    runner = start(store, ScriptedExecutor(held=held))
    ticket = runner.submit(make_job(), _SAME)
    runner.close(0.0)
    assert ShuttingDown is type(_refusal(ticket.settled))
    with caplog.at_level(logging.ERROR):
        store.let_go_of_all()
    assert first.id == ticket.accepted.result(RESULT_S).job.id
    _expect_no_log_of_a_broken_callback(caplog)


def test_a_waiting_job_that_is_cancelled_after_the_close_breaks_nothing(
    start: Start, held: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """A wish that comes too late is either refused or kept, and whoever was told of the shutdown stays told."""
    store = MemoryStore()
    runner = start(store, ScriptedExecutor(held=held))
    job = make_job(lane="cpu")
    runner.submit(make_job(lane="cpu"))
    ticket = runner.submit(job)
    _wait_for_counts(runner, cpu=(1, 1))
    runner.close(0.0)
    with caplog.at_level(logging.ERROR):
        runner.cancel(job.id)
    assert ShuttingDown is type(_refusal(ticket.settled))
    _expect_no_log_of_a_broken_callback(caplog)


# Everything at once.


def test_many_jobs_from_many_threads_all_settle(start: Start, store: JobStore) -> None:
    """Jobs that are submitted, cancelled and looked at by many threads each end once, as the store has them."""
    runs = itertools.count()

    def answer(*_: object) -> Report:
        if next(runs) % 7 == 0:
            raise ForkFailed("No more processes.")
        return make_report()

    runner = start(store, CallExecutor(answer), max_queued=1000)

    def client(number: int) -> list[Job]:
        jobs = [make_job(lane="cpu" if each % 3 else "wait") for each in range(25)]
        tickets = []
        for each, job in enumerate(jobs):
            tickets.append(runner.submit(job))
            runner.peek(job.id)
            if each % 5 == number % 5:
                with contextlib.suppress(IllegalMove):  # its end is being written
                    runner.cancel(job.id)
        return [_settled(ticket.settled) for ticket in tickets]

    with ThreadPoolExecutor(8) as pool:
        settled = [job for jobs in pool.map(client, range(8)) for job in jobs]
    assert 200 == len({job.id for job in settled})
    assert {job.id: job for job in settled} == {job.id: store.get(job.id) for job in store.page(JobQuery(limit=1000))}
    assert {job.status for job in settled} <= {JobState.SUCCEEDED, JobState.CANCELLED, JobState.LOST}
    assert {"cpu": (0, 0), "wait": (0, 0)} == _counts(runner)
