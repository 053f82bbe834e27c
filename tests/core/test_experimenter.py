from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from service import experimenter as experimenters
from service.catalog import Catalog, Scenario
from service.errors import IdempotencyConflict, QueueFull, ShuttingDown, StoreUnavailable
from service.events import EventLog
from service.executors.base import Cancel, Kept, Order, Sink
from service.executors.scripted import ScriptedExecutor, success
from service.experimenter import Experimenter
from service.experiments import NotCovered, Run
from service.experiments.experiment import Experiment, ExperimentState
from service.jobs import Job, JobState, Report
from service.runner import Runner, RunnerLimits
from service.stores import make_store
from service.stores.base import Added, AddedExperiment, Idempotency, JobQuery, Store
from service.stores.memory import MemoryStore
from tests.stores.helpers import RESULT_S, T0, make_experiment, make_job, make_report, make_run
from tests.support import wait_until

_LIMITS = RunnerLimits(cpu_slots=1, wait_slots=20, max_queued=100, kept=Kept(10_000, 1_000), retry_after_s=7)

_SAME = Idempotency("key", "fingerprint")


@dataclass(frozen=True)
class Params:
    """The parameters of the only scenario here."""

    threads: int = field(default=2, metadata={"description": "How many."})


def _catalog(**members: Any) -> Catalog:
    module = ModuleType("probe")
    vars(module).update({"Params": Params, "LANE": "wait", **members})
    return Catalog([Scenario("probe", "Probe", "it is.", "Probe: it is.", "source", "digest", "tests", module, ())])


class FlakyStore(MemoryStore):
    """Refuses the calls that are named in `broken`, as a full disk does, and counts how often it did."""

    def __init__(self, *broken: str) -> None:
        super().__init__()
        self.broken = set(broken)
        self.refused: Counter[str] = Counter()

    def _refuses(self, name: str) -> bool:
        self.refused[name] += name in self.broken
        return name in self.broken

    def _refusal(self) -> Future[Any]:
        refused: Future[Any] = Future()
        refused.set_exception(StoreUnavailable("The disk is full."))
        return refused

    def add(self, job: Job, idempotency: Idempotency | None = None, *, lazily: bool = False) -> Future[Added]:
        """Remember the job, or refuse to."""
        return self._refusal() if self._refuses("add") else super().add(job, idempotency)

    def move(self, before: JobState, job: Job, log: EventLog | None = None, *, lazily: bool = False) -> Future[None]:
        """Replace the job, or refuse to; `end` is a move to a final state."""
        refuses = self._refuses("move") or (job.finished and self._refuses("end"))
        return self._refusal() if refuses else super().move(before, job, log)

    def add_experiment(self, experiment: Experiment, idempotency: Idempotency | None = None) -> Future[AddedExperiment]:
        """Remember the experiment, or refuse to."""
        return self._refusal() if self._refuses("add_experiment") else super().add_experiment(experiment, idempotency)

    def move_experiment(self, before: ExperimentState, experiment: Experiment) -> Future[None]:
        """Replace the experiment, or refuse to; `end_experiment` is a move to a final state."""
        refuses = self._refuses("move_experiment") or (experiment.finished and self._refuses("end_experiment"))
        return self._refusal() if refuses else super().move_experiment(before, experiment)

    def add_run(self, experiment_id: str, run: Run) -> Future[None]:
        """Remember the run, or refuse to."""
        return self._refusal() if self._refuses("add_run") else super().add_run(experiment_id, run)

    def runs(self, experiment_id: str) -> list[Run]:
        """Return the runs, or refuse to."""
        if self._refuses("runs"):
            raise StoreUnavailable("The disk is gone.")
        return super().runs(experiment_id)

    def repair(self, after: str) -> None:
        """Refuse nothing any more, once a call of that name was refused."""
        wait_until(lambda: self.refused[after] > 0)
        self.broken = set()


class SlowStore(MemoryStore):
    """Holds back what it says of experiments until it is let go, as a slow disk does."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.asked = 0
        self._threads: list[threading.Thread] = []

    def add_experiment(self, experiment: Experiment, idempotency: Idempotency | None = None) -> Future[AddedExperiment]:
        """Remember the experiment, and say so later."""
        return self._later(super().add_experiment(experiment, idempotency))

    def move_experiment(self, before: ExperimentState, experiment: Experiment) -> Future[None]:
        """Replace the experiment, and say so later."""
        return self._later(super().move_experiment(before, experiment))

    def _later(self, done: Future[Any]) -> Future[Any]:
        later: Future[Any] = Future()

        def tell() -> None:
            self.go_on.wait(RESULT_S)
            refusal = done.exception()
            later.set_result(done.result()) if refusal is None else later.set_exception(refusal)

        self._threads.append(threading.Thread(target=tell))
        self._threads[-1].start()
        self.asked += 1
        return later

    def close(self) -> None:
        """Hold nothing back any more."""
        self.go_on.set()
        for thread in self._threads:
            thread.join()
        super().close()


class CallExecutor(ScriptedExecutor):
    """Answers with whatever a function returns or raises."""

    def __init__(self, answer: Callable[[Order, Cancel], Report]) -> None:
        super().__init__()
        self._answer = answer

    def run(self, order: Order, sink: Sink, cancel: Cancel) -> Report:
        """Answer."""
        self.orders.append(order)
        return self._answer(order, cancel)


class House:
    """A runner and an experimenter over a store, put together and ended as `app` does."""

    def __init__(
        self,
        store: Store,
        executor: ScriptedExecutor,
        catalog: Catalog,
        number: int = 0,
        max_queued: int = 10,
        **limits: int,
    ) -> None:
        self.store, self.executor = store, executor
        self._made = 0
        self._number = number
        self._lock = threading.Lock()
        self.runner = Runner(store, executor, catalog, replace(_LIMITS, **limits))
        self.experimenter = Experimenter(self.runner, store, catalog, self._new_id, max_queued=max_queued)
        self._ended = False

    def _new_id(self) -> str:
        with self._lock:
            self._made += 1
            return f"job_{self._number}_{self._made:06d}"

    def start(self) -> House:
        """Start both."""
        self.runner.start()
        self.experimenter.start()
        return self

    def stop(self, grace_s: float = 0.0) -> None:
        """End both; the store stays as it is."""
        if not self._ended:
            self._ended = True
            self.experimenter.close()
            self.runner.close(grace_s)
            self.experimenter.join()

    def submit(self, experiment: Experiment, idempotency: Idempotency | None = None) -> Experiment:
        """Return the accepted experiment."""
        return self.experimenter.submit(experiment, idempotency).result(RESULT_S).experiment

    def run(self, experiment: Experiment) -> Experiment:
        """Return the finished experiment."""
        return self.finish(self.submit(experiment))

    def finish(self, experiment: Experiment) -> Experiment:
        """Return an experiment that was accepted when it is finished."""
        settled = self.experimenter.watch(experiment.id)
        return self.store.experiment(experiment.id) if settled is None else settled.result(RESULT_S)

    def jobs(self, experiment: Experiment) -> list[Job]:
        """Return the jobs of an experiment, oldest first."""
        page = self.store.page(JobQuery(limit=1000, label=experiment.id))
        return [self.store.get(job.id) for job in reversed(page)]


Build = Callable[..., House]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again what was refused a moment later, not a second."""
    monkeypatch.setattr(experimenters, "_TRY_AGAIN_S", 0.01)


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Keeps the jobs of a `ScriptedExecutor` running until it is set."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each store there is, open."""
    opened = make_store("memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'jobs.db'}")
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def build() -> Iterator[Build]:
    """Start a house; it is ended, and its store closed, when the test ends."""
    houses: list[House] = []

    def build_house(
        store: Store | None = None,
        executor: ScriptedExecutor | None = None,
        catalog: Catalog | None = None,
        **limits: int,
    ) -> House:
        made = House(
            store or MemoryStore(), executor or ScriptedExecutor(), catalog or _catalog(), len(houses), **limits
        )
        houses.append(made)
        return made.start()

    yield build_house
    for house in houses:
        if isinstance(house.store, SlowStore):
            house.store.go_on.set()
        house.stop()
    for house in houses:
        house.store.close()


def _places(experiment: Experiment) -> list[tuple[int, int]]:
    """Where the runs of the plan stand, in its order."""
    return [(cell.index, repeat) for cell, repeat in experiment.plan()]


def _key(experiment: Experiment, number: int) -> Idempotency:
    """The key of the job that makes a run of the plan."""
    cell, repeat = _places(experiment)[number]
    return Idempotency(f"{experiment.id} {cell} {repeat}", "")


def _check_whole(house: House, experiment: Experiment) -> None:
    """Check that every run of the plan is there once, made by one job each, and that nothing else ran."""
    ended = house.store.experiment(experiment.id)
    assert (ExperimentState.SUCCEEDED, None) == (ended.status, ended.error)
    runs = house.store.runs(experiment.id)
    assert sorted(_places(experiment)) == [(run.cell, run.repeat) for run in runs]
    assert Counter(run.job_id for run in runs) == Counter(job.id for job in house.jobs(experiment))
    assert {ExperimentState.QUEUED, ExperimentState.RUNNING}.isdisjoint({ended.status})


# From accepted to settled.


def test_an_experiment_is_accepted_run_and_settled(build: Build, store: Store) -> None:
    """What is told at the end is the finished experiment, and that is what the store holds, with all of its runs."""
    house = build(store, ScriptedExecutor(lambda order: success(calls=order.params["threads"])))
    experiment = make_experiment()
    added = house.experimenter.submit(experiment).result(RESULT_S)
    assert AddedExperiment(experiment, replayed=False) == added
    settled = house.finish(experiment)
    assert store.experiment(experiment.id) == settled
    assert ExperimentState.SUCCEEDED is settled.status
    assert settled.started_at is not None
    assert settled.finished_at is not None
    assert settled.created_at <= settled.started_at <= settled.finished_at
    _check_whole(house, experiment)
    assert {"succeeded"} == {run.status for run in store.runs(experiment.id)}
    assert house.experimenter.watch(experiment.id) is None


def test_runs_are_made_one_at_a_time_in_the_order_of_the_plan(build: Build) -> None:
    """No two runs are ever inside the executor together, whatever their lane, and their order is the plan's."""
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

    house = build(executor=CallExecutor(answer))
    experiments = [make_experiment(vary={"threads": [1, 2, 3, 4, 5]}, seed=seed) for seed in (1, 2)]
    for experiment in experiments:
        house.submit(experiment)
    for experiment in experiments:
        house.finish(experiment)
        _check_whole(house, experiment)
    assert 1 == most
    expected = [cell.values["threads"] for experiment in experiments for cell, _ in experiment.plan()]
    assert expected == [order.params["threads"] for order in house.executor.orders]


def test_each_run_is_a_job_with_the_experiment_s_label(build: Build, store: Store) -> None:
    """A job holds the request of its cell, its scenario's lane and the label; a run holds what its job showed."""
    script = ScriptedExecutor(lambda order: success("kept", wall_s=order.params["threads"] / 8))
    house = build(store, script, _catalog(LANE="cpu"))
    experiment = house.run(make_experiment())
    jobs = {job.id: job for job in house.jobs(experiment)}
    for run in store.runs(experiment.id):
        cell, job = experiment.cells()[run.cell], jobs[run.job_id]
        assert experiment.request(cell) == job.request
        assert (experiment.id, "probe", "cpu", 1) == (job.label, job.scenario, job.lane, job.attempt)
        assert ("kept", "acceptable", "3.11.0") == (run.outcome, run.grade, run.python)
        assert cell.values["threads"] / 8 == run.value
        assert run.load is None or run.load >= 0
    assert 6 == len(jobs)


def test_the_lane_is_that_of_the_parameters_as_the_child_makes_them(build: Build) -> None:
    """A scenario whose `Params` turns JSON into objects of its own finds these when it chooses the lane."""

    @dataclass(frozen=True)
    class Call:
        target: str

    @dataclass(frozen=True)
    class Program:
        calls: tuple[Call, ...] = ()

        def __post_init__(self) -> None:
            made = tuple(Call(**call) if isinstance(call, dict) else call for call in self.calls)
            object.__setattr__(self, "calls", made)

    module = ModuleType("probe")

    def lane(params: Program) -> str:
        return "cpu" if any(call.target == "compute" for call in params.calls) else "wait"

    vars(module).update(Params=Program, lane=lane)
    scenario = Scenario("probe", "Probe", "it is.", "Probe: it is.", "source", "digest", "tests", module, ())
    house = build(catalog=Catalog([scenario]))
    experiment = house.run(make_experiment(vary={"calls": [[{"target": "compute"}], []]}, repeats=1))
    assert (ExperimentState.SUCCEEDED, None) == (experiment.status, experiment.error)
    lanes = {len(job.request["calls"]): job.lane for job in house.jobs(experiment)}
    assert {1: "cpu", 0: "wait"} == lanes


def test_cells_that_are_not_covered_are_not_run(build: Build) -> None:
    """What cannot be run here is left out, and the experiment succeeds without it; without any cell, at once."""
    house = build()
    missing = make_experiment(not_covered=(NotCovered({"threads": 2}, "not here"),))
    _check_whole(house, house.run(missing))
    assert {1} == {order.params["threads"] for order in house.executor.orders}
    nothing = make_experiment(
        not_covered=(NotCovered({"threads": 1}, "not here"), NotCovered({"threads": 2}, "not here"))
    )
    assert ExperimentState.SUCCEEDED is house.run(nothing).status
    assert [] == house.store.runs(nothing.id)


def test_one_experiment_runs_at_a_time(build: Build, held: threading.Event) -> None:
    """The next experiment waits until the one before has ended; others are taken in the order of their coming."""
    house = build(executor=ScriptedExecutor(held=held))
    first, second, third = [house.submit(make_experiment()) for _ in range(3)]
    wait_until(lambda: len(house.executor.orders) == 1)
    states = [house.store.experiment(each.id).status for each in (first, second, third)]
    assert [ExperimentState.RUNNING, ExperimentState.QUEUED, ExperimentState.QUEUED] == states
    assert ([], []) == (house.jobs(second), house.jobs(third))
    held.set()
    ended = [house.finish(each) for each in (first, second, third)]
    for before, after in itertools.pairwise(ended):
        assert before.finished_at is not None
        assert after.started_at is not None
        assert before.finished_at <= after.started_at


@pytest.mark.parametrize("status", [JobState.FAILED, JobState.LOST, JobState.TIMED_OUT])
def test_jobs_that_come_to_nothing_are_runs_all_the_same(build: Build, status: JobState) -> None:
    """What fails, is lost or ended at its deadline is recorded as that, and the experiment goes on to its end."""

    def answer(order: Order, _: Cancel) -> Report:
        return make_report(status, result=None) if order.params["threads"] == 2 else make_report()

    house = build(executor=CallExecutor(answer))
    experiment = house.run(make_experiment())
    _check_whole(house, experiment)
    runs = house.store.runs(experiment.id)
    assert [status.value] * 3 == [run.status for run in runs if run.cell == 1]
    assert [(None, True)] * 3 == [(run.value, bool(run.reason)) for run in runs if run.cell == 1]
    assert [0.4] * 3 == [run.value for run in runs if run.cell == 0]


def test_a_job_that_somebody_cancels_is_a_run(build: Build, held: threading.Event) -> None:
    """Who cancels one job of an experiment does not cancel the experiment."""
    house = build(executor=ScriptedExecutor(held=held))
    experiment = house.submit(make_experiment())
    wait_until(lambda: [job.status for job in house.jobs(experiment)] == [JobState.RUNNING])
    (job,) = house.jobs(experiment)
    cancelled = house.runner.cancel(job.id)
    assert cancelled is not None
    cancelled.result(RESULT_S)
    held.set()
    house.finish(experiment)
    _check_whole(house, experiment)
    assert ["cancelled"] == [run.status for run in house.store.runs(experiment.id) if run.job_id == job.id]


def test_nobody_is_told_before_it_is_on_disk(build: Build) -> None:
    """An experiment is not said to be accepted before it is written."""
    store = SlowStore()
    house = build(store)
    accepted = house.experimenter.submit(make_experiment())
    wait_until(lambda: store.asked == 1)
    assert not accepted.done()
    store.go_on.set()
    experiment = accepted.result(RESULT_S).experiment
    house.finish(experiment)
    _check_whole(house, experiment)


def test_who_hears_of_an_experiment_can_watch_it(build: Build, held: threading.Event) -> None:
    """An experiment that is said to be accepted can be watched and cancelled at once."""
    store = SlowStore()
    house = build(store, ScriptedExecutor(held=held))
    accepted = house.experimenter.submit(make_experiment())
    with house.experimenter._news:  # whatever else the store's thread has to wait for
        store.go_on.set()
        assert not accepted.done()
    experiment = accepted.result(RESULT_S).experiment
    settled = house.experimenter.watch(experiment.id)
    assert settled is not None
    assert house.experimenter.cancel(experiment.id) is settled


def test_a_watcher_that_gives_up_leaves_the_others_waiting(build: Build, held: threading.Event) -> None:
    """A waiter cannot cancel what others wait for, nor the write of an experiment."""
    house = build(executor=ScriptedExecutor(held=held))
    experiment = make_experiment()
    accepted = house.experimenter.submit(experiment)
    accepted.cancel()
    assert experiment == accepted.result(RESULT_S).experiment
    settled = house.experimenter.watch(experiment.id)
    assert settled is not None
    assert not settled.cancel()
    held.set()
    assert ExperimentState.SUCCEEDED is settled.result(RESULT_S).status


# Idempotency and the queue.


def test_a_replay_is_the_same_experiment(build: Build, store: Store, held: threading.Event) -> None:
    """A request that comes again gets the first one's experiment, running or finished, and it runs once."""
    house = build(store, ScriptedExecutor(held=held))
    first = house.submit(make_experiment(), _SAME)
    wait_until(lambda: len(house.executor.orders) == 1)
    again = house.experimenter.submit(make_experiment(), _SAME).result(RESULT_S)
    assert (first.id, True) == (again.experiment.id, again.replayed)
    held.set()
    ended = house.finish(first)
    again = house.experimenter.submit(make_experiment(), _SAME).result(RESULT_S)
    assert AddedExperiment(ended, replayed=True) == again
    _check_whole(house, first)
    assert 6 == len(house.executor.orders)


def test_a_conflict_of_keys_makes_nothing(build: Build) -> None:
    """The same key with another request is refused, and nothing of it waits anywhere."""
    house = build()
    house.run(make_experiment())
    house.submit(make_experiment(), _SAME)
    other = make_experiment()
    refused = house.experimenter.submit(other, Idempotency("key", "another"))
    assert isinstance(refused.exception(RESULT_S), IdempotencyConflict)
    assert house.experimenter.watch(other.id) is None


def test_a_full_queue_takes_no_more_until_there_is_room(build: Build, held: threading.Event) -> None:
    """As many experiments wait as may; the next is told when to try again, and taken when there is room."""
    house = build(executor=ScriptedExecutor(held=held), max_queued=2)
    running = house.submit(make_experiment())
    wait_until(lambda: house.executor.orders)
    waiting = [house.submit(make_experiment()) for _ in range(2)]
    refused = make_experiment()
    with pytest.raises(QueueFull, match="2 experiments are waiting"):
        house.experimenter.submit(refused)
    assert refused.id not in [each.id for each in house.store.experiments(10)]
    cancelled = house.experimenter.cancel(waiting[0].id)
    assert cancelled is not None
    cancelled.result(RESULT_S)
    last = house.submit(make_experiment())
    held.set()
    for experiment in (running, waiting[1], last):
        assert ExperimentState.SUCCEEDED is house.finish(experiment).status


def test_experiments_that_are_being_written_count_as_waiting(build: Build) -> None:
    """Many who come while the disk is slow do not get past the limit; a refused write gives its place back."""
    store = SlowStore()
    house = build(store, max_queued=2)
    accepted = [house.experimenter.submit(make_experiment()) for _ in range(2)]
    with pytest.raises(QueueFull):
        house.experimenter.submit(make_experiment())
    store.go_on.set()
    for each in accepted:
        house.finish(each.result(RESULT_S).experiment)
    flaky = FlakyStore("add_experiment")
    house = build(flaky, max_queued=1)
    for _ in range(3):
        assert isinstance(house.experimenter.submit(make_experiment()).exception(RESULT_S), StoreUnavailable)
    flaky.broken = set()
    _check_whole(house, house.run(make_experiment()))


# Cancel.


def _settled(future: Future[Experiment] | None) -> Experiment:
    assert future is not None
    return future.result(RESULT_S)


def test_an_experiment_that_waits_is_cancelled_at_once(build: Build, store: Store, held: threading.Event) -> None:
    """A queued experiment ends without a run, and those around it go on."""
    house = build(store, ScriptedExecutor(held=held))
    first, doomed, last = [house.submit(make_experiment()) for _ in range(3)]
    wait_until(lambda: house.executor.orders)
    cancelled = _settled(house.experimenter.cancel(doomed.id))
    assert store.experiment(doomed.id) == cancelled
    assert (ExperimentState.CANCELLED, None) == (cancelled.status, cancelled.started_at)
    assert cancelled.finished_at is not None
    held.set()
    assert [ExperimentState.SUCCEEDED] * 2 == [house.finish(each).status for each in (first, last)]
    assert ([], []) == (house.jobs(doomed), store.runs(doomed.id))


def test_a_running_experiment_is_cancelled_with_its_run(build: Build, store: Store, held: threading.Event) -> None:
    """The run's job is ended before this is told; what was seen before stays, and the next experiment goes on."""
    executor = ScriptedExecutor(held=held)

    def script(order: Order) -> Any:
        if len(executor.orders) == 4:
            held.clear()
        return success()

    executor._script = script
    held.set()
    house = build(store, executor)
    experiment = house.submit(make_experiment())
    wait_until(lambda: len(executor.orders) == 5)
    following = house.submit(make_experiment())
    future = house.experimenter.cancel(experiment.id)
    cancelled = _settled(future)
    assert store.experiment(experiment.id) == cancelled
    assert ExperimentState.CANCELLED is cancelled.status
    jobs = house.jobs(experiment)
    assert [JobState.SUCCEEDED] * 4 + [JobState.CANCELLED] == [job.status for job in jobs]
    assert sorted(_places(experiment)[:4]) == [(run.cell, run.repeat) for run in store.runs(experiment.id)]
    held.set()
    executor._script = lambda _: success()
    house.finish(following)
    _check_whole(house, following)


def test_a_run_that_ended_before_the_wish_stays(build: Build) -> None:
    """A run whose executor was done before it heard of the wish has shown something, and that is kept."""
    running, go_on = threading.Event(), threading.Event()

    def deaf(*_: object) -> Report:
        running.set()
        go_on.wait(RESULT_S)
        return make_report()

    house = build(executor=CallExecutor(deaf))
    experiment = house.submit(make_experiment())
    assert running.wait(RESULT_S)
    future = house.experimenter.cancel(experiment.id)
    go_on.set()
    assert ExperimentState.CANCELLED is _settled(future).status
    (run,) = house.store.runs(experiment.id)
    assert (_places(experiment)[0], "succeeded", 0.4) == ((run.cell, run.repeat), run.status, run.value)
    assert 1 == len(house.jobs(experiment))


def test_an_experiment_whose_last_run_ended_before_the_wish_has_succeeded(build: Build) -> None:
    """When every run of the plan was made there is nothing left to cancel; cancel tells the truth."""
    running, go_on = threading.Event(), threading.Event()

    def deaf(*_: object) -> Report:
        running.set()
        go_on.wait(RESULT_S)
        return make_report()

    house = build(executor=CallExecutor(deaf))
    experiment = house.submit(make_experiment(vary={"threads": [1]}, repeats=1))
    assert running.wait(RESULT_S)
    future = house.experimenter.cancel(experiment.id)
    go_on.set()
    assert ExperimentState.SUCCEEDED is _settled(future).status
    _check_whole(house, experiment)


def test_an_experiment_may_be_cancelled_again(build: Build, held: threading.Event) -> None:
    """Two who cancel the same experiment, running or queued, get the same answer."""
    house = build(executor=ScriptedExecutor(held=held))
    running, queued = house.submit(make_experiment()), house.submit(make_experiment())
    wait_until(lambda: house.executor.orders)
    for experiment in (queued, running):
        futures = [house.experimenter.cancel(experiment.id) for _ in range(2)]
        assert ExperimentState.CANCELLED is _settled(futures[0]).status
        assert all(each is None or each is futures[0] for each in futures)


def test_a_finished_or_unknown_experiment_cannot_be_cancelled(build: Build) -> None:
    """Of what is not on its way there is nothing to end, and nothing to watch."""
    house = build()
    experiment = house.run(make_experiment())
    for name in (experiment.id, "exp_unknown"):
        assert house.experimenter.cancel(name) is None
        assert house.experimenter.watch(name) is None
    assert ExperimentState.SUCCEEDED is house.store.experiment(experiment.id).status


def test_a_queued_experiment_whose_cancel_was_not_written_waits_on(build: Build, held: threading.Event) -> None:
    """When the end cannot be written, who asked for it is told so, may ask again, and nothing was changed."""
    store = FlakyStore()
    house = build(store, ScriptedExecutor(held=held))
    first, second, third = [house.submit(make_experiment()) for _ in range(3)]
    wait_until(lambda: house.executor.orders)
    store.broken = {"move_experiment"}
    for each in (second, third):
        refused = house.experimenter.cancel(each.id)
        assert refused is not None
        assert isinstance(refused.exception(RESULT_S), StoreUnavailable)
    store.broken = set()
    assert ExperimentState.CANCELLED is _settled(house.experimenter.cancel(third.id)).status
    held.set()
    for each in (first, second):
        house.finish(each)
        _check_whole(house, each)


def test_an_experiment_is_cancelled_while_its_run_has_to_wait(build: Build, held: threading.Event) -> None:
    """Who cancels does not wait for room in a queue that is full of other jobs."""
    house = build(executor=ScriptedExecutor(held=held), max_queued=10, wait_slots=1)
    house.runner.submit(make_job())
    wait_until(lambda: house.runner.lanes()["wait"].running == 1)
    for _ in range(100):
        house.runner.submit(make_job())
    experiment = house.submit(make_experiment())
    wait_until(lambda: house.store.experiment(experiment.id).status is ExperimentState.RUNNING)
    assert ExperimentState.CANCELLED is _settled(house.experimenter.cancel(experiment.id)).status
    assert [] == house.jobs(experiment)


# When something does not work.


def test_a_scenario_that_vanished_fails_the_experiment(build: Build, store: Store) -> None:
    """An experiment whose scenario is not there any more has failed, and says so; the next one goes on."""
    house = build(store)
    experiment = house.run(make_experiment(scenario="gone"))
    assert ExperimentState.FAILED is experiment.status
    expected = {"type": "ScenarioNotFound", "message": "There is no scenario 'gone'.", "traceback": None}
    assert expected == experiment.error
    assert store.experiment(experiment.id) == experiment
    assert ([], []) == (store.runs(experiment.id), house.jobs(experiment))
    _check_whole(house, house.run(make_experiment()))


def test_a_fault_of_ours_fails_the_experiment_without_telling_more(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault inside ends the experiment it is met in, says nothing of itself, and does not end the others."""

    def broken(*_: object) -> None:
        raise RuntimeError("the secret")

    house = build()
    with monkeypatch.context() as broken_for_now:
        broken_for_now.setattr(experimenters, "run_of", broken)
        experiment = house.run(make_experiment())
    assert ExperimentState.FAILED is experiment.status
    assert experiment.error is not None
    assert "InternalError" == experiment.error["type"]
    assert "secret" not in str(experiment.error)
    _check_whole(house, house.run(make_experiment()))


def test_a_full_queue_of_jobs_is_waited_out(build: Build, held: threading.Event) -> None:
    """When other jobs fill the queue a run waits for room, and none is left out."""
    executor = ScriptedExecutor(held=held)
    house = build(executor=executor, catalog=_catalog(LANE="cpu"), cpu_slots=1, wait_slots=1)
    house.runner.submit(make_job(lane="cpu"))
    wait_until(lambda: house.runner.lanes()["cpu"].running == 1)
    others = [house.runner.submit(make_job(lane="cpu")) for _ in range(100)]
    experiment = house.submit(make_experiment())
    wait_until(lambda: house.store.experiment(experiment.id).status is ExperimentState.RUNNING)
    assert [] == house.jobs(experiment)
    held.set()
    house.finish(experiment)
    _check_whole(house, experiment)
    for other in others:
        assert JobState.SUCCEEDED is other.settled.result(RESULT_S).status


@pytest.mark.parametrize("call", ["add", "move_experiment", "runs", "add_run", "end_experiment"])
def test_a_store_that_fails_for_a_while_is_waited_out(build: Build, call: str) -> None:
    """Whatever cannot be written or read for a while, in the end every run is there once, and the end is told."""
    store = FlakyStore(call)
    house = build(store)
    experiment = house.submit(make_experiment())
    store.repair(call)
    assert ExperimentState.SUCCEEDED is house.finish(experiment).status
    _check_whole(house, experiment)


@pytest.mark.parametrize("call", ["end", "move"])
def test_a_run_whose_end_could_not_be_written_is_made_again(build: Build, call: str) -> None:
    """A job that nobody can finish before the next start is no run; another job makes it, and the experiment ends."""
    store = FlakyStore(call)
    house = build(store)
    experiment = house.submit(make_experiment())
    store.repair(call)
    assert ExperimentState.SUCCEEDED is house.finish(experiment).status
    runs = store.runs(experiment.id)
    assert sorted(_places(experiment)) == [(run.cell, run.repeat) for run in runs]
    jobs = {job.id: job for job in house.jobs(experiment)}
    assert {JobState.SUCCEEDED} == {jobs[run.job_id].status for run in runs}
    assert 6 == len({run.job_id for run in runs})


# The end, and the next start.


def test_no_run_begins_after_the_end_was_called(build: Build) -> None:
    """When it closes, the run that is going on may end by itself and is remembered; no other begins."""
    running, go_on = threading.Event(), threading.Event()

    def answer(*_: object) -> Report:
        running.set()
        go_on.wait(RESULT_S)
        return make_report()

    house = build(executor=CallExecutor(answer))
    experiment = house.submit(make_experiment())
    assert running.wait(RESULT_S)
    house.experimenter.close()
    go_on.set()
    house.experimenter.join()
    assert 1 == len(house.executor.orders) == len(house.store.runs(experiment.id))
    assert ExperimentState.RUNNING is house.store.experiment(experiment.id).status


def test_waiters_are_told_of_the_shutdown(build: Build, held: threading.Event) -> None:
    """Who waits for an experiment when the service ends is told that it will not end now; it stays as it is."""
    house = build(executor=ScriptedExecutor(held=held))
    running, queued = house.submit(make_experiment()), house.submit(make_experiment())
    wait_until(lambda: house.executor.orders)
    waiting = [house.experimenter.watch(each.id) for each in (running, queued)]
    house.stop()
    for settled in waiting:
        assert settled is not None
        assert isinstance(settled.exception(RESULT_S), ShuttingDown)
    states = [house.store.experiment(each.id).status for each in (running, queued)]
    assert [ExperimentState.RUNNING, ExperimentState.QUEUED] == states
    with pytest.raises(ShuttingDown):
        house.experimenter.submit(make_experiment())


def test_an_experiment_that_was_written_during_the_end_waits_for_the_next_start(build: Build) -> None:
    """An experiment that comes to disk when the service ends already is accepted, and run after the next start."""
    store = SlowStore()
    house = build(store)
    accepted = house.experimenter.submit(make_experiment())
    house.stop()
    store.go_on.set()
    experiment = accepted.result(RESULT_S).experiment
    assert house.experimenter.watch(experiment.id) is None
    following = build(store)
    following.finish(experiment)
    _check_whole(following, experiment)


def test_what_never_started_can_be_closed() -> None:
    """Who cleans up after a failed start need not know how far it came."""
    house = House(MemoryStore(), ScriptedExecutor(), _catalog())
    house.stop()
    assert not house.experimenter._thread.is_alive()


@pytest.mark.parametrize("stopped_at", [0, 4])
def test_the_next_start_goes_on_where_it_stopped(
    build: Build, store: Store, held: threading.Event, stopped_at: int
) -> None:
    """After an end in the middle no run is made twice and none is missing; the run under way is run again."""
    executor = ScriptedExecutor(held=held)

    def script(_: Order) -> Any:
        if len(executor.orders) == stopped_at:
            held.clear()
        return success()

    executor._script = script
    if stopped_at:
        held.set()
    house = build(store, executor)
    first, second = house.submit(make_experiment()), house.submit(make_experiment())
    wait_until(lambda: len(executor.orders) == stopped_at + 1)
    wait_until(lambda: house.jobs(first)[-1].status is JobState.RUNNING)
    house.stop()
    assert stopped_at == len(store.runs(first.id))
    wait_until(lambda: not any(job.status is JobState.RUNNING for job in store.unfinished()))  # it is written
    following = build(store)
    for experiment in (first, second):
        following.finish(experiment)
        _check_whole(following, experiment)
    assert 12 - stopped_at == len(following.executor.orders)
    assert {1: 12} == Counter(job.attempt for each in (first, second) for job in following.jobs(each))


def _interrupted(store: Store, seen: int) -> Experiment:
    """Put an experiment into a store as a kill leaves it: running, with some of its runs made."""
    experiment = make_experiment().start(T0)
    store.add_experiment(experiment).result(RESULT_S)
    for number, (cell, repeat) in enumerate(_places(experiment)[:seen]):
        job = _job_of(experiment, number, JobState.SUCCEEDED)
        store.add(job, _key(experiment, number)).result(RESULT_S)
        store.add_run(experiment.id, make_run(cell=cell, repeat=repeat, job_id=job.id)).result(RESULT_S)
    return experiment


def _job_of(experiment: Experiment, number: int, status: JobState) -> Job:
    """The job of a run of the plan, as it stood when the service was killed."""
    cell, _ = experiment.plan()[number]
    job = make_job(label=experiment.id, request=experiment.request(cell))
    if status is JobState.QUEUED:
        return job
    return job.start(T0) if status is JobState.RUNNING else job.start(T0).finish(make_report(status), T0)


@pytest.mark.parametrize("status", [None, JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED, JobState.LOST])
def test_after_a_kill_the_job_of_the_run_under_way_is_found_again(
    build: Build, store: Store, status: JobState | None
) -> None:
    """Whether the job under way had ended, ran, waited or was not yet there: it is one job, and one run."""
    experiment = _interrupted(store, 2)
    under_way = None if status is None else _job_of(experiment, 2, status)
    if under_way is not None:
        store.add(under_way, _key(experiment, 2)).result(RESULT_S)
    house = build(store)
    house.finish(experiment)
    _check_whole(house, experiment)
    ended = under_way is not None and under_way.finished
    assert (3 if ended else 4) == len(house.executor.orders)
    if under_way is not None:
        places = {run.job_id: (run.cell, run.repeat) for run in store.runs(experiment.id)}
        assert _places(experiment)[2] == places[under_way.id]
        assert (under_way.status if ended else JobState.SUCCEEDED) is store.get(under_way.id).status


def test_after_a_kill_behind_the_last_run_only_the_end_is_missing(build: Build, store: Store) -> None:
    """An experiment that had all of its runs is ended without another."""
    experiment = _interrupted(store, 6)
    house = build(store)
    house.finish(experiment)
    _check_whole(house, experiment)
    assert [] == house.executor.orders


def test_what_had_begun_goes_on_first(build: Build, store: Store) -> None:
    """The experiment that ran when the service ended goes on before those that waited, older ones too."""
    older = make_experiment()
    store.add_experiment(older).result(RESULT_S)
    begun = _interrupted(store, 3)
    house = build(store)
    for experiment in (older, begun):
        house.finish(experiment)
        _check_whole(house, experiment)
    labels = [store.get(order.job_id).label for order in house.executor.orders]
    assert [begun.id] * 3 + [older.id] * 6 == labels


def test_a_store_that_cannot_be_read_stops_the_start() -> None:
    """What was accepted must be known before anything new is."""

    class Unreadable(MemoryStore):
        def unfinished_experiments(self) -> list[Experiment]:
            raise StoreUnavailable("The disk is gone.")

    house = House(Unreadable(), ScriptedExecutor(), _catalog())
    house.runner.start()
    with pytest.raises(StoreUnavailable):
        house.experimenter.start()
    house.stop()
