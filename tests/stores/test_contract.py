"""What every store promises, over all of them; and the embedded database held against the twin."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from service.errors import IdempotencyConflict, IllegalMove, JobNotFound, StoreUnavailable, ThreadlabError
from service.jobs import FINAL, LEGAL_MOVES, Failure, Job, JobHead, JobState
from service.stores.base import Added, Idempotency, JobQuery, JobStore
from service.stores.memory import MemoryStore
from tests.stores.helpers import (
    RESULT_S,
    T0,
    ended_job,
    heads,
    make_job,
    make_report,
    make_result,
    open_store,
    running_job,
)

_LATER = T0 + timedelta(hours=1)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    """Each store there is, open."""
    url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'jobs.db'}"
    opened = open_store(url)
    yield opened
    opened.close()


def _done(future: Future[Any]) -> Any:
    return future.result(RESULT_S)


def _remember(store: JobStore, *jobs: Job) -> tuple[Job, ...]:
    """Put jobs into a store as they are."""
    for future in [store.add(job) for job in jobs]:
        _done(future)
    return jobs


# Add, get, move, delete.


def test_a_job_that_was_added_can_be_read(store: JobStore) -> None:
    """A store gives back the job that it was given, and says that it is new."""
    job = make_job()
    assert Added(job, replayed=False) == _done(store.add(job))
    assert job == store.get(job.id)


def test_a_job_that_nobody_added_is_not_found(store: JobStore) -> None:
    """To read an unknown job is an error that names it."""
    with pytest.raises(JobNotFound, match="There is no job 'job_unknown'") as refused:
        store.get("job_unknown")
    assert "job_unknown" == refused.value.job_id


def test_a_move_replaces_the_job(store: JobStore) -> None:
    """A job that is in the state it is said to be in becomes what it is moved to."""
    (job,) = _remember(store, make_job())
    started = job.start(_LATER)
    assert _done(store.move(JobState.QUEUED, started)) is None
    assert started == store.get(job.id)


def test_a_whole_life_can_be_read_at_every_step(store: JobStore) -> None:
    """A job is put back and taken up again, ends, and each step is what is read afterwards."""
    job = make_job()
    _done(store.add(job))
    for step in (
        lambda now: now.start(_LATER),
        lambda now: now.put_back(),
        lambda now: now.start(_LATER),
        lambda now: now.finish(make_report(), _LATER),
    ):
        before, job = job.status, step(job)
        _done(store.move(before, job))
        assert job == store.get(job.id)


@pytest.mark.parametrize("before", [JobState.RUNNING, JobState.SUCCEEDED])
def test_a_move_from_another_state_is_refused_with_the_story(store: JobStore, before: JobState) -> None:
    """A job in another state than it is said to be in stays as it is; the text tells its story."""
    (job,) = _remember(store, make_job())
    with pytest.raises(IllegalMove) as refused:
        _done(store.move(before, ended_job(id=job.id)))
    assert f"The job is queued, not {before}. {job.story()}" == str(refused.value)
    assert job == store.get(job.id)


def test_a_finished_job_is_never_moved(store: JobStore) -> None:
    """Who comes too late to end a job is told how it ended."""
    (job,) = _remember(store, ended_job(JobState.CANCELLED))
    with pytest.raises(IllegalMove, match="The job is cancelled, not running") as refused:
        _done(store.move(JobState.RUNNING, ended_job(id=job.id)))
    assert job.story() in str(refused.value)
    assert job == store.get(job.id)


def test_a_job_that_nobody_added_cannot_be_moved(store: JobStore) -> None:
    """A move does not make a job."""
    job = running_job()
    with pytest.raises(JobNotFound):
        _done(store.move(JobState.QUEUED, job))
    with pytest.raises(JobNotFound):
        store.get(job.id)


@pytest.mark.parametrize("status", sorted(FINAL))
def test_a_finished_job_can_be_forgotten(store: JobStore, status: JobState) -> None:
    """What was deleted is gone for every reader."""
    job, other = _remember(store, ended_job(status), ended_job(status))
    assert _done(store.delete(job.id)) is None
    with pytest.raises(JobNotFound):
        store.get(job.id)
    assert heads(other) == store.page(JobQuery(limit=10))


@pytest.mark.parametrize("job", [make_job(), running_job()], ids=["queued", "running"])
def test_an_unfinished_job_cannot_be_forgotten(store: JobStore, job: Job) -> None:
    """To delete a job that can still run is refused, with what to do and the job's story."""
    _remember(store, job)
    with pytest.raises(IllegalMove) as refused:
        _done(store.delete(job.id))
    assert f"Only a finished job can be deleted; cancel it first. {job.story()}" == str(refused.value)
    assert job == store.get(job.id)


def test_a_job_that_nobody_added_cannot_be_forgotten(store: JobStore) -> None:
    """To delete an unknown job is an error, as is to delete one twice."""
    with pytest.raises(JobNotFound):
        _done(store.delete("job_unknown"))
    (job,) = _remember(store, ended_job())
    _done(store.delete(job.id))
    with pytest.raises(JobNotFound):
        _done(store.delete(job.id))


# Idempotency.


def test_the_same_key_and_request_give_the_same_job(store: JobStore) -> None:
    """A repeated request finds the job that the first one made, and makes none."""
    same = Idempotency("key", "fingerprint")
    first, second = make_job(), make_job()
    assert Added(first) == _done(store.add(first, same))
    assert Added(first, replayed=True) == _done(store.add(second, same))
    assert heads(first) == store.page(JobQuery(limit=10))


def test_a_replay_gives_the_job_as_it_is_now(store: JobStore) -> None:
    """A request that comes again after the job ended finds it ended."""
    same = Idempotency("key", "fingerprint")
    job = make_job()
    _done(store.add(job, same))
    ended = running_job(id=job.id).finish(make_report(), _LATER)
    _done(store.move(JobState.QUEUED, job.start(_LATER)))
    _done(store.move(JobState.RUNNING, ended))
    assert Added(store.get(job.id), replayed=True) == _done(store.add(make_job(), same))
    assert JobState.SUCCEEDED is store.get(job.id).status


def test_the_same_key_with_another_request_is_a_conflict(store: JobStore) -> None:
    """A key belongs to one request; the text names the key and the job that has it."""
    first, second = make_job(), make_job()
    _done(store.add(first, Idempotency("key", "one")))
    with pytest.raises(IdempotencyConflict, match="'key' belongs to job_") as refused:
        _done(store.add(second, Idempotency("key", "another")))
    assert first.id == refused.value.job_id
    with pytest.raises(JobNotFound):
        store.get(second.id)


def test_a_key_can_be_asked_for(store: JobStore) -> None:
    """Whoever asks for a key gets its job, as it is now, or nothing; another request is told of the conflict."""
    same = Idempotency("key", "fingerprint")
    assert _done(store.known(same)) is None
    job = make_job()
    store.add(job, same)
    assert job == _done(store.known(same))  # it sees what was called for before
    with pytest.raises(IdempotencyConflict) as refused:
        _done(store.known(Idempotency("key", "another")))
    assert job.id == refused.value.job_id
    assert _done(store.known(Idempotency("another", "fingerprint"))) is None


def test_other_keys_and_no_key_make_other_jobs(store: JobStore) -> None:
    """The same request with another key, or without one, is a new job each time."""
    jobs = [make_job() for _ in range(4)]
    keys = [Idempotency("one", "same"), Idempotency("two", "same"), None, None]
    added = [_done(store.add(job, key)) for job, key in zip(jobs, keys, strict=True)]
    assert [Added(job) for job in jobs] == added


def test_a_key_is_free_again_when_its_job_is_forgotten(store: JobStore) -> None:
    """After its job was deleted, a key may come with any request."""
    (first,) = [ended_job()]
    _done(store.add(first, Idempotency("key", "one")))
    _done(store.delete(first.id))
    second = make_job()
    assert Added(second) == _done(store.add(second, Idempotency("key", "another")))


def test_one_of_many_equal_requests_makes_the_job(store: JobStore) -> None:
    """Of requests with one key that come at the same moment, one makes the job and all get it."""
    same = Idempotency("key", "fingerprint")
    with ThreadPoolExecutor(16) as pool:
        added = list(pool.map(lambda job: _done(store.add(job, same)), [make_job() for _ in range(32)]))
    assert 1 == len({each.job.id for each in added})
    assert 31 == sum(each.replayed for each in added)
    assert heads(added[0].job) == store.page(JobQuery(limit=10))


# Pages.


def test_a_page_is_newest_first(store: JobStore) -> None:
    """Jobs come in the order of their ids, the newest first, however they were added."""
    oldest, middle, newest = make_job(), make_job(), make_job()
    _remember(store, middle, newest, oldest)
    assert heads(newest, middle, oldest) == store.page(JobQuery(limit=10))


def test_a_page_of_an_empty_store_is_empty(store: JobStore) -> None:
    """No job, no error."""
    assert [] == store.page(JobQuery(limit=10))
    assert [] == store.unfinished()


def test_pages_can_be_turned(store: JobStore) -> None:
    """`limit` cuts a page and `before` begins the next, until nothing is left."""
    jobs = _remember(store, *(make_job() for _ in range(7)))
    seen: list[JobHead] = []
    sizes = []
    page = store.page(JobQuery(limit=3))
    while page:
        seen += page
        sizes.append(len(page))
        page = store.page(JobQuery(limit=3, before=page[-1].id))
    assert heads(*reversed(jobs)) == seen
    assert [3, 3, 1] == sizes


def test_a_page_can_begin_before_a_job_that_is_gone(store: JobStore) -> None:
    """A page goes on where the last ended although its last job was deleted meanwhile."""
    older, last, _ = _remember(store, make_job(), ended_job(), make_job())
    _done(store.delete(last.id))
    assert heads(older) == store.page(JobQuery(limit=10, before=last.id))


def test_each_filter_picks_its_jobs(store: JobStore) -> None:
    """Status, scenario and label pick jobs, alone and together; of several statuses any will do."""
    queued = make_job(label="a")
    running = running_job(scenario="daemon", label="a")
    done = ended_job(label="b")
    stuck = ended_job(JobState.TIMED_OUT, scenario="daemon")
    _remember(store, queued, running, done, stuck)

    def page(**filters: Any) -> list[JobHead]:
        return store.page(JobQuery(limit=10, **filters))

    assert heads(queued) == page(status=[JobState.QUEUED])
    assert heads(stuck, running) == page(status={JobState.RUNNING, JobState.TIMED_OUT})
    assert heads(stuck, done, running, queued) == page(status=tuple(JobState))
    assert [] == page(status=[JobState.LOST])
    assert heads(stuck, running) == page(scenario="daemon")
    assert [] == page(scenario="daemo")
    assert heads(running, queued) == page(label="a")
    assert heads(done) == page(label="b")
    assert [] == page(label="")
    assert heads(running) == page(label="a", scenario="daemon", status=[JobState.RUNNING], before=done.id)
    assert [] == page(label="b", scenario="daemon")


def test_a_page_shows_what_was_observed_once_a_job_has_ended(store: JobStore) -> None:
    """Outcome and grade are those of the result, written with the end; a job without a result has none."""
    seen, lost = _remember(store, running_job(), running_job())
    assert [(None, None)] * 2 == [(job.outcome, job.grade) for job in store.page(JobQuery(limit=10))]
    result = make_result(outcome="naïve ☃ \x00", grade="forbidden")
    _done(store.move(JobState.RUNNING, seen.finish(make_report(result=result), _LATER)))
    _done(store.move(JobState.RUNNING, lost.finish(make_report(JobState.LOST, result=None), _LATER)))
    expected = [(None, None), ("naïve ☃ \x00", "forbidden")]
    assert expected == [(job.outcome, job.grade) for job in store.page(JobQuery(limit=10))]


def test_a_limit_counts_what_the_filters_leave(store: JobStore) -> None:
    """A page is full although the newest jobs are filtered out of it."""
    wanted = _remember(store, make_job(label="x"), make_job(label="x"), make_job(label="x"))
    _remember(store, *(make_job() for _ in range(5)))
    assert heads(wanted[2], wanted[1]) == store.page(JobQuery(limit=2, label="x"))


def test_unfinished_jobs_come_oldest_first(store: JobStore) -> None:
    """What must still be run is queued or running, in the order in which it was accepted."""
    first, _, third, _, fifth = jobs = make_job(), ended_job(), running_job(), ended_job(JobState.LOST), make_job()
    _remember(store, *reversed(jobs))
    assert [first, third, fifth] == store.unfinished()


# What a job holds.


@pytest.mark.parametrize("status", list(JobState))
def test_every_field_survives(store: JobStore, status: JobState) -> None:
    """Whatever is in a job is read as it was written: times to the microsecond, nested values, text with NUL."""
    text = "naïve ☃ 𝄞 \x00 \\u0000 'quoted' \"twice\" \n end"
    nested = {"text": text, text: [None, True, 1, -0.5, 2**53, {"empty": {}, "none": None}], "list": []}
    job = make_job(
        id="job_full",
        scenario="interleaving",
        lane="cpu",
        request=nested,
        created_at=datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
        label="naïve ☃ 𝄞 '%_\"",
        rerun_of="job_earlier",
        status=status,
        attempt=3,
        started_at=datetime(2024, 3, 1, tzinfo=UTC),
        finished_at=datetime(2024, 3, 1, 0, 0, 0, 1, tzinfo=UTC),
        python={"version": "3.13.0", "nested": nested},
        machine={"cpus": 2, "nested": nested},
        result=make_result(values=nested),
        error=Failure(type="ValueError", message=text, traceback=text),
    )
    _done(store.add(job))
    read = store.get("job_full")
    assert job == read
    assert [UTC, UTC, UTC] == [each.tzinfo for each in (read.created_at, read.started_at, read.finished_at) if each]
    assert status is read.status
    assert heads(job) == store.page(JobQuery(limit=1))


def test_every_field_that_a_move_changes_survives(store: JobStore) -> None:
    """What a run adds to a job is read as it was written."""
    job = make_job()
    _done(store.add(job))
    _done(store.move(JobState.QUEUED, job.start(_LATER)))
    report = make_report(JobState.FAILED, python={"text": "☃\x00"}, machine={"text": "☃\x00"})
    ended = job.start(_LATER).finish(report, _LATER + timedelta(microseconds=1))
    _done(store.move(JobState.RUNNING, ended))
    assert ended == store.get(job.id)


def test_what_is_absent_stays_absent(store: JobStore) -> None:
    """A field without a value is None when it is read, not an empty one; an empty one is not None."""
    bare, empty = _remember(
        store, make_job(request={}), make_job(label="", rerun_of="", python={}, machine={}, request={"x": None})
    )
    assert bare == store.get(bare.id)
    absent = (bare.label, bare.rerun_of, bare.started_at, bare.finished_at, bare.python, bare.result, bare.error)
    assert (None,) * 7 == absent
    assert empty == store.get(empty.id)


# Many at once.


def test_writes_are_carried_out_in_the_order_of_the_calls(store: JobStore) -> None:
    """A job can be added, started, ended and deleted without waiting in between."""
    kept, gone = make_job(), make_job()
    started = kept.start(_LATER)
    ended = started.finish(make_report(), _LATER)
    futures = [
        store.add(kept),
        store.add(gone),
        store.move(JobState.QUEUED, started),
        store.move(JobState.QUEUED, gone.end_without_run(JobState.CANCELLED, _LATER)),
        store.move(JobState.RUNNING, ended),
        store.delete(gone.id),
    ]
    for future in futures:
        _done(future)
    assert heads(ended) == store.page(JobQuery(limit=10))


def test_a_refused_write_does_not_stop_the_next(store: JobStore) -> None:
    """Among writes that were called for at once, each gets its own answer."""
    before, behind = make_job(), make_job()
    futures = [
        store.add(before, Idempotency("key", "one")),
        store.add(make_job(), Idempotency("key", "another")),
        store.move(JobState.QUEUED, running_job()),
        store.move(JobState.RUNNING, ended_job(id=before.id)),
        store.delete(before.id),
        store.add(behind),
    ]
    refusals = [type(future.exception(RESULT_S)) for future in futures]
    nothing = type(None)
    assert [nothing, IdempotencyConflict, JobNotFound, IllegalMove, IllegalMove, nothing] == refusals
    assert heads(behind, before) == store.page(JobQuery(limit=10))


def test_many_threads_may_add_at_once(store: JobStore) -> None:
    """Jobs that come from many threads are all remembered."""
    shares = [[make_job(label=f"thread {number}") for _ in range(25)] for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda share: _remember(store, *share), shares))
    jobs = [job for share in shares for job in share]
    assert heads(*reversed(jobs)) == store.page(JobQuery(limit=1000))


def test_of_many_moves_from_one_state_exactly_one_wins(store: JobStore) -> None:
    """Fifty threads want to take up the same job: one does, the others are told, and the winner's is what is read."""
    (job,) = _remember(store, make_job())
    wishes = [replace(job.start(_LATER), attempt=number) for number in range(1, 51)]
    together = threading.Barrier(len(wishes))

    def wish(started: Job) -> Future[None]:
        together.wait(RESULT_S)
        return store.move(JobState.QUEUED, started)

    with ThreadPoolExecutor(len(wishes)) as pool:
        refusals = [future.exception(RESULT_S) for future in pool.map(wish, wishes)]
    winners = [started for started, refusal in zip(wishes, refusals, strict=True) if refusal is None]
    assert [store.get(job.id)] == winners
    assert 49 == sum(isinstance(refusal, IllegalMove) for refusal in refusals)


def test_jobs_can_be_read_while_others_are_written(store: JobStore) -> None:
    """A reader sees whole jobs only, and never fewer than a moment ago."""
    counts: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        written = pool.submit(lambda: [_done(store.add(make_job())) for _ in range(40)])
        while not written.done():
            counts.append(len(store.page(JobQuery(limit=100))))
        written.result()
    assert sorted(counts) == counts
    assert 40 == len(store.page(JobQuery(limit=100)))


def test_a_caller_that_gives_up_does_not_stop_the_writes(store: JobStore) -> None:
    """A future may be cancelled, as `asyncio.wrap_future` does when a client goes away; what comes next is written."""
    given_up = [store.add(make_job()) for _ in range(50)]
    for future in given_up:
        future.cancel()
    job = make_job()
    assert Added(job) == _done(store.add(job))


def test_callbacks_run_after_the_write(store: JobStore) -> None:
    """Who is called back can read what was written."""
    read: list[Job] = []
    job = make_job()
    told = threading.Event()

    def tell(_: Future[Added]) -> None:
        read.append(store.get(job.id))
        told.set()

    store.add(job).add_done_callback(tell)
    assert told.wait(RESULT_S)
    assert [job] == read


# The end.


def test_close_finishes_the_writes(store: JobStore) -> None:
    """All that was called for is done when `close` returns, and each future has come back."""
    futures = [store.add(make_job()) for _ in range(200)]
    store.close()
    assert [True] * 200 == [future.done() and future.exception() is None for future in futures]


def test_close_may_be_called_again(store: JobStore) -> None:
    """To close twice, or from many threads, is to close once."""
    with ThreadPoolExecutor(4) as pool:
        for closed in as_completed([pool.submit(store.close) for _ in range(4)]):
            assert closed.result() is None
    store.close()


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.add(make_job()),
        lambda store: store.move(JobState.QUEUED, running_job()),
        lambda store: store.delete("job_unknown"),
    ],
    ids=["add", "move", "delete"],
)
def test_a_closed_store_takes_no_more(store: JobStore, write: Callable[[JobStore], Future[Any]]) -> None:
    """A write after the end is refused; it is neither lost in silence nor waited for in vain."""
    store.close()
    with pytest.raises(StoreUnavailable, match="The store is closed"):
        _done(write(store))


# SQLite against the twin.


class _Comparison(RuleBasedStateMachine):
    """Does the same to both stores and expects the same of both; the database is closed and opened in between."""

    jobs = Bundle("jobs")

    @initialize()
    def open_both(self) -> None:
        """Begin with empty stores."""
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{self.folder.name}/jobs.db"
        self.model: JobStore = MemoryStore()
        self.store = open_store(self.url)

    def both(self, call: Callable[[JobStore], Any]) -> None:
        """Expect the same value, or the same error with the same text."""
        assert _answer(call, self.model) == _answer(call, self.store)

    @rule(
        target=jobs,
        key=st.sampled_from([None, None, "one", "two"]),
        fingerprint=st.sampled_from("ab"),
        scenario=st.sampled_from(["counter", "daemon"]),
        label=st.none() | st.text(max_size=3),
        request=st.dictionaries(st.text(max_size=3), st.none() | st.text(max_size=3) | st.integers(), max_size=2),
    )
    def add(self, key: str | None, fingerprint: str, scenario: str, label: str | None, request: dict[str, Any]) -> str:
        """Add a job, perhaps with a key that was used before."""
        job = make_job(scenario=scenario, label=label, request=request)
        self.both(lambda store: store.add(job, Idempotency(key, fingerprint) if key else None))
        return job.id

    @rule(job_id=jobs, choice=st.integers(0, 6))
    def move(self, job_id: str, choice: int) -> None:
        """Make one of the moves that are legal now, if there is one."""
        job = self.known(job_id)
        moves = sorted(LEGAL_MOVES[job.status]) if job else []
        if job and moves:
            to = moves[choice % len(moves)]
            self.both(lambda store: store.move(job.status, _moved(job, to)))

    @rule(job_id=jobs, before=st.sampled_from(JobState))
    def move_blindly(self, job_id: str, before: JobState) -> None:
        """Try a move without a look at the job: the state may be wrong and the job gone."""
        self.both(lambda store: store.move(before, ended_job(id=job_id, **_constants(self.known(job_id)))))

    @rule(job_id=jobs)
    def delete(self, job_id: str) -> None:
        """Try to forget a job."""
        self.both(lambda store: store.delete(job_id))

    @rule(job_id=jobs)
    def get(self, job_id: str) -> None:
        """Read a job that may be gone."""
        self.both(lambda store: store.get(job_id))

    @rule(
        limit=st.integers(1, 4),
        before=st.none() | jobs,
        status=st.sets(st.sampled_from(JobState), max_size=3),
        scenario=st.none() | st.sampled_from(["counter", "daemon"]),
        label=st.none() | st.text(max_size=1),
    )
    def page(
        self, limit: int, before: str | None, status: set[JobState], scenario: str | None, label: str | None
    ) -> None:
        """Read a page with some filters."""
        self.both(lambda store: store.page(JobQuery(limit, before, status, scenario, label)))

    @rule()
    def reopen(self) -> None:
        """Close the database and open it again."""
        self.store.close()
        self.store = open_store(self.url)

    @invariant()
    def both_hold_the_same(self) -> None:
        """Both stores hold the same jobs, and the same of them are unfinished."""
        self.both(lambda store: store.page(JobQuery(limit=1000)))
        for job in self.model.page(JobQuery(limit=1000)):
            self.get(job.id)
        self.both(lambda store: store.unfinished())

    def known(self, job_id: str) -> Job | None:
        """Return a job as the twin has it."""
        with suppress(JobNotFound):
            return self.model.get(job_id)
        return None

    def teardown(self) -> None:
        """Let go of both."""
        self.store.close()
        self.model.close()
        self.folder.cleanup()


def _answer(call: Callable[[JobStore], Any], store: JobStore) -> Any:
    try:
        answer = call(store)
        return _done(answer) if isinstance(answer, Future) else answer
    except ThreadlabError as exc:
        return type(exc), str(exc)


def _moved(job: Job, to: JobState) -> Job:
    if to is JobState.RUNNING:
        return job.start(_LATER)
    if to is JobState.QUEUED:
        return job.put_back()
    return job.finish(make_report(to), _LATER)


def _constants(job: Job | None) -> dict[str, Any]:
    """The fields of a job that no move changes."""
    names = ("scenario", "lane", "request", "created_at", "label", "rerun_of")
    return {name: getattr(job, name) for name in names} if job else {}


def test_the_database_does_what_the_twin_does() -> None:
    """Whatever is done to both stores, in whatever order, both answer the same, across restarts of the database."""
    run_state_machine_as_test(
        _Comparison,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,  # a busy disk is no fault of the store
            database=None,  # leaves no files behind
            suppress_health_check=list(HealthCheck),
        ),
    )
