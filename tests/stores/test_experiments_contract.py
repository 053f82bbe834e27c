"""What every store promises about experiments and their runs, over all of them."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import ExperimentNotFound, IdempotencyConflict, IllegalExperimentMove, StoreUnavailable
from service.experiments import Measure, NotCovered, Run
from service.experiments.experiment import Experiment, ExperimentState
from service.jobs import Failure
from service.stores import make_store
from service.stores.base import AddedExperiment, Idempotency, JobQuery, Store
from tests.stores.helpers import (
    RESULT_S,
    T0,
    ended_job,
    heads,
    make_experiment,
    make_job,
    make_run,
)
from tests.support import wait_until

_LATER = T0 + timedelta(hours=1)
_FINISHED = (ExperimentState.SUCCEEDED, ExperimentState.FAILED, ExperimentState.CANCELLED)


def _open(url: str) -> Store:
    store = make_store(url)
    store.open()
    return store


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each store there is, open."""
    opened = _open("memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'jobs.db'}")
    yield opened
    opened.close()


def _done(future: Future[Any]) -> Any:
    return future.result(RESULT_S)


def _remember(store: Store, *experiments: Experiment) -> tuple[Experiment, ...]:
    """Put experiments into a store as they are."""
    for future in [store.add_experiment(each) for each in experiments]:
        _done(future)
    return experiments


def _ended(status: ExperimentState = ExperimentState.SUCCEEDED, **changes: Any) -> Experiment:
    return make_experiment(**changes).start(_LATER).end(status, _LATER)


# Add, read, move.


def test_an_experiment_that_was_added_can_be_read(store: Store) -> None:
    """A store gives back the experiment that it was given, and says that it is new."""
    experiment = make_experiment()
    assert AddedExperiment(experiment, replayed=False) == _done(store.add_experiment(experiment))
    assert experiment == store.experiment(experiment.id)
    assert [] == store.runs(experiment.id)


def test_a_measure_is_remembered_with_its_work(store: Store) -> None:
    """With what the work of a measure grows is as it was when the experiment was accepted."""
    measure = Measure("wall_s", "lower", grows_with=("threads", "steps"), instead=("per_step_s",))
    (experiment,) = _remember(store, make_experiment(measure=measure))
    assert measure == store.experiment(experiment.id).measure


def test_an_experiment_that_nobody_added_is_not_found(store: Store) -> None:
    """To read an unknown experiment is an error that names it; it has no runs."""
    with pytest.raises(ExperimentNotFound, match="There is no experiment 'exp_unknown'") as refused:
        store.experiment("exp_unknown")
    assert "exp_unknown" == refused.value.experiment_id
    assert [] == store.runs("exp_unknown")


def test_jobs_and_experiments_do_not_meet(store: Store) -> None:
    """An experiment is on no page of jobs, and a job on none of experiments."""
    (experiment,) = _remember(store, make_experiment())
    job = make_job()
    _done(store.add(job))
    assert (heads(job), [job]) == (store.page(JobQuery(limit=10)), store.unfinished())
    assert [experiment] == store.experiments(10) == store.unfinished_experiments()


@pytest.mark.parametrize("status", _FINISHED)
def test_a_whole_life_can_be_read_at_every_step(store: Store, status: ExperimentState) -> None:
    """An experiment that is where it is said to be becomes what it is moved to."""
    (queued,) = _remember(store, make_experiment())
    running = queued.start(_LATER)
    assert _done(store.move_experiment(ExperimentState.QUEUED, running)) is None
    assert running == store.experiment(queued.id)
    failure = Failure(type="ScenarioNotFound", message="naïve ☃ \x00", traceback=None)
    ended = running.end(status, _LATER + timedelta(microseconds=1), failure)
    assert _done(store.move_experiment(ExperimentState.RUNNING, ended)) is None
    assert ended == store.experiment(queued.id)


@pytest.mark.parametrize("before", [ExperimentState.RUNNING, ExperimentState.SUCCEEDED])
def test_a_move_from_another_state_is_refused(store: Store, before: ExperimentState) -> None:
    """An experiment in another state than it is said to be in stays as it is; the text says in which."""
    (experiment,) = _remember(store, make_experiment())
    with pytest.raises(IllegalExperimentMove) as refused:
        _done(store.move_experiment(before, experiment.start(_LATER)))
    assert f"The experiment {experiment.id} is queued, not {before}." == str(refused.value)
    assert experiment == store.experiment(experiment.id)


@pytest.mark.parametrize("status", _FINISHED)
def test_a_finished_experiment_is_never_moved(store: Store, status: ExperimentState) -> None:
    """Who comes too late to end an experiment is told how it ended."""
    (experiment,) = _remember(store, _ended(status))
    with pytest.raises(IllegalExperimentMove, match=f"is {status}, not running"):
        _done(store.move_experiment(ExperimentState.RUNNING, _ended(id=experiment.id)))
    assert experiment == store.experiment(experiment.id)


def test_an_experiment_that_nobody_added_cannot_be_moved(store: Store) -> None:
    """A move does not make an experiment."""
    experiment = make_experiment()
    with pytest.raises(ExperimentNotFound):
        _done(store.move_experiment(ExperimentState.QUEUED, experiment.start(_LATER)))
    assert [] == store.experiments(10)


def test_of_many_moves_from_one_state_exactly_one_wins(store: Store) -> None:
    """Of many who want to end the same experiment one does, and what is read is the winner's."""
    (experiment,) = _remember(store, make_experiment())
    wishes = [experiment.end(ExperimentState.CANCELLED, _LATER + timedelta(seconds=number)) for number in range(30)]
    with ThreadPoolExecutor(10) as pool:
        moves = list(pool.map(lambda wish: store.move_experiment(ExperimentState.QUEUED, wish), wishes))
    refusals = [future.exception(RESULT_S) for future in moves]
    winners = [wish for wish, refusal in zip(wishes, refusals, strict=True) if refusal is None]
    assert [store.experiment(experiment.id)] == winners
    assert 29 == sum(isinstance(refusal, IllegalExperimentMove) for refusal in refusals)


# Idempotency.


def test_the_same_key_and_request_give_the_same_experiment(store: Store) -> None:
    """A repeated request finds the experiment that the first one made, as it is now, and makes none."""
    same = Idempotency("key", "fingerprint")
    first = make_experiment()
    assert AddedExperiment(first) == _done(store.add_experiment(first, same))
    assert AddedExperiment(first, replayed=True) == _done(store.add_experiment(make_experiment(), same))
    started = first.start(_LATER)
    _done(store.move_experiment(ExperimentState.QUEUED, started))
    assert AddedExperiment(started, replayed=True) == _done(store.add_experiment(make_experiment(), same))
    assert [started] == store.experiments(10)


def test_the_same_key_with_another_request_is_a_conflict(store: Store) -> None:
    """A key belongs to one request; the text names the key and the experiment that has it."""
    first, second = make_experiment(), make_experiment()
    _done(store.add_experiment(first, Idempotency("key", "one")))
    with pytest.raises(IdempotencyConflict, match="'key' belongs to exp_") as refused:
        _done(store.add_experiment(second, Idempotency("key", "another")))
    assert first.id == refused.value.job_id
    assert [first] == store.experiments(10)


def test_other_keys_and_no_key_make_other_experiments(store: Store) -> None:
    """The same request with another key, or without one, is a new experiment each time."""
    experiments = [make_experiment() for _ in range(4)]
    keys = [Idempotency("one", "same"), Idempotency("two", "same"), None, None]
    added = [_done(store.add_experiment(each, key)) for each, key in zip(experiments, keys, strict=True)]
    assert [AddedExperiment(each) for each in experiments] == added


def test_a_job_may_have_the_key_of_an_experiment(store: Store) -> None:
    """Jobs and experiments have keys of their own."""
    same = Idempotency("key", "fingerprint")
    experiment, job = make_experiment(), make_job()
    assert not _done(store.add_experiment(experiment, same)).replayed
    assert not _done(store.add(job, same)).replayed


def test_one_of_many_equal_requests_makes_the_experiment(store: Store) -> None:
    """Of requests with one key that come at the same moment, one makes the experiment and all get it."""
    same = Idempotency("key", "fingerprint")
    experiments = [make_experiment() for _ in range(32)]
    with ThreadPoolExecutor(16) as pool:
        added = list(pool.map(lambda each: _done(store.add_experiment(each, same)), experiments))
    assert 1 == len({each.experiment.id for each in added})
    assert 31 == sum(each.replayed for each in added)


# Runs.


def test_runs_come_by_cell_and_repeat(store: Store) -> None:
    """However they were added, the runs of a cell are read in the order of their repeats."""
    (experiment,) = _remember(store, make_experiment())
    places = [(1, 2), (0, 10), (0, 2), (1, 0), (0, 0)]
    runs = {(cell, repeat): make_run(cell=cell, repeat=repeat) for cell, repeat in places}
    for run in runs.values():
        _done(store.add_run(experiment.id, run))
    assert [runs[place] for place in sorted(places)] == store.runs(experiment.id)


def test_a_run_is_replaced_in_place(store: Store) -> None:
    """What is remembered of the same cell and repeat again stands where it stood, and all else stays."""
    experiment, other = _remember(store, make_experiment(), make_experiment())
    before, behind, elsewhere = make_run(cell=0, repeat=0), make_run(cell=0, repeat=2), make_run(cell=0, repeat=1)
    first, second = make_run(cell=0, repeat=1, job_id="job_1"), make_run(cell=0, repeat=1, job_id="job_2", value=None)
    _done(store.add_run(other.id, elsewhere))
    for run in (first, behind, before, second):
        _done(store.add_run(experiment.id, run))
    assert [before, second, behind] == store.runs(experiment.id)
    assert [elsewhere] == store.runs(other.id)


def test_a_run_can_be_read_without_another_write(store: Store) -> None:
    """A run that nobody waits for is there a moment later, even if nothing else is written."""
    (experiment,) = _remember(store, make_experiment())
    run = make_run()
    store.add_run(experiment.id, run)
    wait_until(lambda: store.runs(experiment.id) == [run])


def test_runs_are_there_when_the_end_is(store: Store) -> None:
    """Who hears that an experiment was moved reads all runs that were added before."""
    (experiment,) = _remember(store, make_experiment())
    runs = [make_run(cell=0, repeat=repeat) for repeat in range(20)]
    added = [store.add_run(experiment.id, run) for run in runs]
    _done(store.move_experiment(ExperimentState.QUEUED, experiment.start(_LATER)))
    assert (True, runs) == (all(future.done() for future in added), store.runs(experiment.id))


# Delete.


@pytest.mark.parametrize("status", _FINISHED)
def test_a_finished_experiment_can_be_forgotten(store: Store, status: ExperimentState) -> None:
    """What was deleted is gone for every reader, its runs too; others stay, and so do jobs."""
    experiment, other = _remember(store, _ended(status), _ended(status))
    run, job = make_run(), ended_job(label=experiment.id)
    for future in (store.add_run(experiment.id, run), store.add_run(other.id, run), store.add(job)):
        _done(future)
    assert _done(store.delete_experiment(experiment.id)) is None
    with pytest.raises(ExperimentNotFound):
        store.experiment(experiment.id)
    assert ([], [run]) == (store.runs(experiment.id), store.runs(other.id))
    assert ([other], heads(job)) == (store.experiments(10), store.page(JobQuery(limit=10)))


@pytest.mark.parametrize("running", [False, True])
def test_an_unfinished_experiment_cannot_be_forgotten(store: Store, running: bool) -> None:
    """To delete an experiment that still runs is refused, with what to do; its runs stay."""
    queued = make_experiment()
    (experiment,) = _remember(store, queued.start(_LATER) if running else queued)
    _done(store.add_run(experiment.id, make_run()))
    with pytest.raises(IllegalExperimentMove) as refused:
        _done(store.delete_experiment(experiment.id))
    expected = f"Only a finished experiment can be deleted; {experiment.id} is not: cancel it."
    assert expected == str(refused.value)
    assert (experiment, 1) == (store.experiment(experiment.id), len(store.runs(experiment.id)))


def test_an_experiment_that_nobody_added_cannot_be_forgotten(store: Store) -> None:
    """To delete an unknown experiment is an error, as is to delete one twice."""
    with pytest.raises(ExperimentNotFound):
        _done(store.delete_experiment("exp_unknown"))
    (experiment,) = _remember(store, _ended())
    _done(store.delete_experiment(experiment.id))
    with pytest.raises(ExperimentNotFound):
        _done(store.delete_experiment(experiment.id))


def test_a_key_is_free_again_when_its_experiment_is_forgotten(store: Store) -> None:
    """After its experiment was deleted, a key may come with any request."""
    first, second = _ended(), make_experiment()
    _done(store.add_experiment(first, Idempotency("key", "one")))
    _done(store.delete_experiment(first.id))
    assert AddedExperiment(second) == _done(store.add_experiment(second, Idempotency("key", "another")))


# Pages.


def test_a_page_is_newest_first(store: Store) -> None:
    """Experiments come in the order of their ids, the newest first, however they were added."""
    oldest, middle, newest = make_experiment(), _ended(), make_experiment()
    _remember(store, middle, newest, oldest)
    assert [newest, middle, oldest] == store.experiments(10)


def test_pages_can_be_turned(store: Store) -> None:
    """`limit` cuts a page and `before` begins the next, until nothing is left."""
    experiments = _remember(store, *(make_experiment() for _ in range(7)))
    seen: list[Experiment] = []
    sizes = []
    page = store.experiments(3)
    while page:
        seen += page
        sizes.append(len(page))
        page = store.experiments(3, page[-1].id)
    assert list(reversed(experiments)) == seen
    assert [3, 3, 1] == sizes


def test_a_page_can_begin_before_an_experiment_that_is_gone(store: Store) -> None:
    """A page goes on where the last ended although its last experiment was deleted meanwhile."""
    older, last, _ = _remember(store, make_experiment(), _ended(), make_experiment())
    _done(store.delete_experiment(last.id))
    assert [older] == store.experiments(10, last.id)


def test_a_label_picks_experiments(store: Store) -> None:
    """Those with a label are found by it, page by page; to another, none belongs."""
    first, _, second, third = _remember(
        store, make_experiment(label="a"), make_experiment(), _ended(label="a"), make_experiment(label="a")
    )
    other, empty = _remember(store, make_experiment(label="A' OR 1 --"), make_experiment(label=""))
    assert [third, second, first] == store.experiments(10, label="a")
    assert [third, second] == store.experiments(2, label="a")
    assert [first] == store.experiments(10, second.id, "a")
    assert ([other], [empty], []) == tuple(store.experiments(10, label=each) for each in ("A' OR 1 --", "", "b"))


def test_an_empty_store_has_empty_pages(store: Store) -> None:
    """No experiment, no error."""
    assert ([], [], []) == (store.experiments(10), store.experiments(10, "exp_x"), store.unfinished_experiments())


def test_unfinished_experiments_come_oldest_first(store: Store) -> None:
    """What must still be run is queued or running, in the order of the ids."""
    first, _, third, _, fifth = experiments = (
        make_experiment(),
        _ended(),
        make_experiment().start(_LATER),
        _ended(ExperimentState.FAILED),
        make_experiment(),
    )
    _remember(store, *reversed(experiments))
    assert [first, third, fifth] == store.unfinished_experiments()


# What an experiment and a run hold.

_TEXTS = st.text(max_size=8)
_NUMBERS = st.integers() | st.floats(allow_nan=False)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)
_VALUES = st.dictionaries(_TEXTS, _JSON, max_size=3)
_TIMES = st.datetimes(timezones=st.just(UTC))
_EXPERIMENTS = st.builds(
    Experiment,
    id=st.just("exp_full"),
    scenario=_TEXTS,
    vary=st.dictionaries(_TEXTS, st.lists(_JSON, max_size=3), max_size=3),
    fixed=_VALUES,
    repeats=st.integers(1, 100),
    seed=st.integers(0, 2**32 - 1),
    measure=st.builds(Measure, _TEXTS, st.sampled_from(["lower", "higher"])),
    created_at=_TIMES,
    machine=_VALUES,
    baseline=st.none() | _VALUES,
    label=st.none() | _TEXTS,
    not_covered=st.lists(st.builds(NotCovered, _VALUES, _TEXTS), max_size=2).map(tuple),
    status=st.sampled_from(ExperimentState),
    started_at=st.none() | _TIMES,
    finished_at=st.none() | _TIMES,
    error=st.none() | st.fixed_dictionaries({"type": _TEXTS, "message": _TEXTS, "traceback": st.none() | _TEXTS}),
)
_RUNS = st.builds(
    Run,
    cell=st.integers(0, 2**31),
    repeat=st.integers(0, 2**31),
    job_id=_TEXTS,
    status=_TEXTS,
    outcome=st.none() | _TEXTS,
    grade=st.none() | _TEXTS,
    value=st.none() | _NUMBERS,
    load=st.none() | _NUMBERS,
    reason=st.none() | _TEXTS,
    python=st.none() | _TEXTS,
)
_SURVIVAL = settings(
    max_examples=60,
    deadline=None,  # a busy disk is no fault of the store
    database=None,  # leaves no files behind
    suppress_health_check=list(HealthCheck),
)


@_SURVIVAL
@given(experiment=_EXPERIMENTS)
def test_every_field_of_an_experiment_survives(store: Store, experiment: Experiment) -> None:
    """Whatever is in an experiment is read as it was written, its lists in their order, whichever way it is read."""
    _done(store.add_experiment(experiment))
    read = store.experiment(experiment.id)
    assert experiment == read
    assert [(key, list(map(repr, values))) for key, values in experiment.vary.items()] == [
        (key, list(map(repr, values))) for key, values in read.vary.items()
    ]
    assert (ExperimentState, tuple) == (type(read.status), type(read.not_covered))
    assert {UTC} >= {each.tzinfo for each in (read.created_at, read.started_at, read.finished_at) if each is not None}
    assert [experiment] == store.experiments(1)
    assert ([] if experiment.finished else [experiment]) == store.unfinished_experiments()
    if not experiment.finished:
        ended = replace(experiment, status=ExperimentState.CANCELLED)
        _done(store.move_experiment(experiment.status, ended))
        assert ended == store.experiment(experiment.id)
    _done(store.delete_experiment(experiment.id))


@_SURVIVAL
@given(run=_RUNS)
def test_every_field_of_a_run_survives(store: Store, run: Run) -> None:
    """Whatever is in a run is read as it was written: 1 is not 1.0, and an infinite value stays one."""
    experiment = _ended()
    store.add_run(experiment.id, run)  # with the commit of the next, which somebody waits for
    _remember(store, experiment)
    assert [repr(run)] == list(map(repr, store.runs(experiment.id)))
    _done(store.delete_experiment(experiment.id))


def test_a_value_that_is_no_number_survives(store: Store) -> None:
    """A run may have measured NaN: what to make of it is for the statistics to say."""
    (experiment,) = _remember(store, make_experiment())
    _done(store.add_run(experiment.id, make_run(value=math.nan)))
    (run,) = store.runs(experiment.id)
    assert run.value is not None
    assert math.isnan(run.value)


# The end.


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.add_experiment(make_experiment()),
        lambda store: store.move_experiment(ExperimentState.QUEUED, make_experiment().start(_LATER)),
        lambda store: store.add_run("exp_unknown", make_run()),
        lambda store: store.delete_experiment("exp_unknown"),
    ],
    ids=["add_experiment", "move_experiment", "add_run", "delete_experiment"],
)
def test_a_closed_store_takes_no_more(store: Store, write: Callable[[Store], Future[Any]]) -> None:
    """A write after the end is refused; it is neither lost in silence nor waited for in vain."""
    store.close()
    with pytest.raises(StoreUnavailable, match="The store is closed"):
        _done(write(store))


def test_close_finishes_the_writes(store: Store) -> None:
    """All that was called for is done when `close` returns, runs that nobody waited for included."""
    experiment = make_experiment()
    futures: list[Future[Any]] = [store.add_experiment(experiment)]
    futures += [store.add_run(experiment.id, make_run(cell=0, repeat=repeat)) for repeat in range(100)]
    store.close()
    assert [True] * 101 == [future.done() and future.exception() is None for future in futures]


# The embedded database alone.


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where a database is, or will be."""
    return f"sqlite:///{tmp_path / 'jobs.db'}"


def test_a_closed_database_can_be_opened_again(url: str) -> None:
    """Experiments, their runs and their keys are there after a restart."""
    same = Idempotency("key", "fingerprint")
    first, second = make_experiment(), _ended()
    runs = [make_run(cell=cell, repeat=repeat) for cell in (0, 1) for repeat in (0, 1)]
    store = _open(url)
    store.add_experiment(first, same)
    store.add_experiment(second)
    for run in runs:
        store.add_run(first.id, run)
    store.close()
    with closing(_open(url)) as store:
        assert ([second, first], [first]) == (store.experiments(10), store.unfinished_experiments())
        assert runs == store.runs(first.id)
        assert AddedExperiment(first, replayed=True) == _done(store.add_experiment(make_experiment(), same))


def test_reads_of_a_broken_database_are_errors_of_ours(url: str, tmp_path: Path) -> None:
    """When the tables are gone, every read and write says so in our words, and the store lives on."""
    with closing(_open(url)) as store, closing(sqlite3.connect(tmp_path / "jobs.db")) as other:
        experiment, run = make_experiment(), make_run()
        for table in ("experiments", "experiment_runs"):
            other.execute(f"ALTER TABLE {table} RENAME TO hidden_{table}")
        reads: list[Callable[[], object]] = [
            lambda: store.experiment("exp_1"),
            lambda: store.experiments(1),
            lambda: store.runs("exp_1"),
            store.unfinished_experiments,
        ]
        for read in reads:
            with pytest.raises(StoreUnavailable, match="The database could not read: no such table: experiment"):
                read()
        for write in (store.add_experiment(experiment), store.add_run(experiment.id, run)):
            with pytest.raises(StoreUnavailable, match="The database could not write: no such table: experiment"):
                _done(write)
        for table in ("experiments", "experiment_runs"):
            other.execute(f"ALTER TABLE hidden_{table} RENAME TO {table}")
        assert AddedExperiment(experiment) == _done(store.add_experiment(experiment))


def test_a_write_that_cannot_be_done_harms_no_other(url: str) -> None:
    """An experiment whose id is taken is refused by itself."""
    with closing(_open(url)) as store:
        (first,) = _remember(store, make_experiment())
        futures = [store.add_experiment(make_experiment(id=first.id)), store.add_experiment(make_experiment())]
        assert isinstance(futures[0].exception(RESULT_S), StoreUnavailable)
        assert not _done(futures[1]).replayed


def test_times_are_kept_as_text_that_sorts(url: str, tmp_path: Path) -> None:
    """People who look into the database with a tool of theirs find RFC 3339 in UTC."""
    with closing(_open(url)) as store, closing(sqlite3.connect(tmp_path / "jobs.db")) as other:
        _remember(store, make_experiment(created_at=datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)))
        rows = other.execute("SELECT created_at, started_at FROM experiments").fetchall()
        assert [("2024-02-29T23:59:59.999999+00:00", None)] == rows
