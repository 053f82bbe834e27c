from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest

from service.errors import IllegalMove
from service.jobs import FINAL, LEGAL_MOVES, Failure, Job, JobHead, JobState
from tests.stores.helpers import T0, ended_job, make_job, make_report, running_job

_LATER = T0 + timedelta(seconds=60)
_ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.TIMED_OUT, JobState.CANCELLED, JobState.LOST})

# Written out a second time on purpose: a move that is added to the table by mistake must not pass.
_LEGAL = {
    *((JobState.QUEUED, to) for to in (JobState.RUNNING, JobState.CANCELLED, JobState.LOST)),
    *((JobState.RUNNING, to) for to in (JobState.QUEUED, *_ENDED)),
}


def _job_that_is(status: JobState) -> Job:
    if status is JobState.QUEUED:
        return make_job()
    if status is JobState.RUNNING:
        return running_job()
    return ended_job(status)


def _move(job: Job, to: JobState) -> Job:
    """Move a job by the method that the service would use."""
    if to is JobState.RUNNING:
        return job.start(_LATER)
    if to is JobState.QUEUED:
        return job.put_back()
    return job.end_without_run(to, _LATER)


@pytest.mark.parametrize(("before", "to"), list(itertools.product(JobState, JobState)))
def test_every_pair_of_states_is_either_in_the_table_or_refused(before: JobState, to: JobState) -> None:
    """A job makes exactly the moves that the header draws."""
    job = _job_that_is(before)
    if (before, to) in _LEGAL:
        assert to == _move(job, to).status
    else:
        with pytest.raises(IllegalMove):
            _move(job, to)


@pytest.mark.parametrize("before", list(JobState))
def test_the_table_holds_every_state(before: JobState) -> None:
    """Each state has its row in the table, with the moves that the header draws."""
    assert {to for start, to in _LEGAL if start is before} == LEGAL_MOVES[before]


def test_the_final_states_are_those_without_a_move() -> None:
    """Five states are final, and no job leaves one of them."""
    assert _ENDED == FINAL


@pytest.mark.parametrize("status", list(JobState))
def test_a_job_is_finished_in_a_final_state_only(status: JobState) -> None:
    """`finished` says whether the state can still change."""
    assert (status in _ENDED) == _job_that_is(status).finished


@pytest.mark.parametrize("status", sorted(_ENDED))
@pytest.mark.parametrize(
    "move",
    [
        lambda job: job.start(_LATER),
        lambda job: job.put_back(),
        lambda job: job.finish(make_report(), _LATER),
        lambda job: job.finish(make_report(job.status), _LATER),
        lambda job: job.end_without_run(JobState.CANCELLED, _LATER),
        lambda job: job.end_without_run(JobState.LOST, _LATER),
    ],
    ids=["start", "put_back", "finish", "finish the same way", "cancel", "lose"],
)
def test_a_finished_job_never_changes(status: JobState, move: Callable[[Job], Job]) -> None:
    """No method takes a job out of a final state, not even into the same one."""
    with pytest.raises(IllegalMove):
        move(ended_job(status))


def test_an_illegal_move_tells_the_story() -> None:
    """The text of a refused move says what was asked for and all that happened to the job so far."""
    job = ended_job(JobState.TIMED_OUT)
    with pytest.raises(IllegalMove) as refused:
        job.put_back()
    expected = (
        f"A job that is timed_out cannot become queued. {job.id}: queued 2024-05-17T08:30:00.123456+00:00"
        " -> running 2024-05-17T08:30:01.123456+00:00 (attempt 1) -> timed_out 2024-05-17T08:30:09.123456+00:00"
    )
    assert expected == str(refused.value)


@pytest.mark.parametrize(
    ("job", "steps"),
    [
        (make_job(), ["queued"]),
        (running_job(attempt=3), ["queued", "running"]),
        (make_job().end_without_run(JobState.CANCELLED, _LATER), ["queued", "cancelled"]),
        (running_job().end_without_run(JobState.LOST, _LATER), ["queued", "running", "lost"]),
    ],
    ids=["queued", "running", "cancelled while queued", "lost"],
)
def test_a_story_has_the_steps_that_were_made(job: Job, steps: list[str]) -> None:
    """A step that was not made is not told."""
    told = job.story().removeprefix(f"{job.id}: ").split(" -> ")
    assert steps == [step.split()[0] for step in told]


def test_a_job_that_starts_counts_the_attempt() -> None:
    """To start sets the state, the time and one more attempt, and leaves the original as it was."""
    job = make_job()
    started = job.start(_LATER)
    expected = (JobState.RUNNING, 1, _LATER, None)
    assert expected == (started.status, started.attempt, started.started_at, started.finished_at)
    assert (JobState.QUEUED, 0, None) == (job.status, job.attempt, job.started_at)


def test_a_job_that_is_put_back_keeps_its_attempts() -> None:
    """A job that waits again has no start any more, and the attempt that it made still counts."""
    back = running_job(attempt=2).put_back()
    assert (JobState.QUEUED, 2, None) == (back.status, back.attempt, back.started_at)
    assert 3 == back.start(_LATER).attempt


@pytest.mark.parametrize("status", sorted(_ENDED))
def test_a_job_that_ends_takes_over_the_report(status: JobState) -> None:
    """What the run showed is in the job, whatever way it ended."""
    report = make_report(status)
    ended = running_job().finish(report, _LATER)
    expected = (status, _LATER, report.python, report.machine, report.error)
    assert expected == (ended.status, ended.finished_at, ended.python, ended.machine, ended.error)
    assert ("lost", "interesting") == (ended.outcome, ended.grade)


def test_queued_s_is_filled_in() -> None:
    """The time in the queue, which the executor does not know, is filled in; nothing else of the report changes."""
    report = make_report()
    ended = running_job().finish(report, _LATER, 2.5)
    assert ended.result is not None
    assert {"queued_s": 2.5, "startup_s": 0.001, "wall_s": 0.4, "cpu_s": None} == ended.result["timings"]
    assert report.result is not None
    assert report.result["timings"]["queued_s"] is None
    assert report.result == {**ended.result, "timings": report.result["timings"]}


def test_queued_s_that_nobody_measured_is_null() -> None:
    """Times of day are not subtracted: a clock that is set would make a measurement of it."""
    ended = running_job().finish(make_report(), _LATER)
    assert ended.result is not None
    assert ended.result["timings"]["queued_s"] is None


def test_a_job_without_a_result_can_end() -> None:
    """A run that never got to the scenario has nothing to show, and the job ends all the same."""
    ended = running_job().finish(make_report(JobState.LOST, result=None), _LATER)
    assert (JobState.LOST, None, None, None) == (ended.status, ended.result, ended.outcome, ended.grade)


def test_a_job_that_ends_without_a_run_has_only_its_end() -> None:
    """Cancelled while it waited: a state, a time, perhaps an error, and nothing that was measured."""
    why = Failure(type="AttemptsUsedUp", message="three times", traceback=None)
    ended = make_job().end_without_run(JobState.LOST, _LATER, why)
    expected = (JobState.LOST, _LATER, why, None, None, 0)
    assert expected == (ended.status, ended.finished_at, ended.error, ended.result, ended.started_at, ended.attempt)


def test_the_head_of_a_job_is_what_lists_show() -> None:
    """All that says which job it is and where it stands, and of what its run told the outcome and the grade."""
    job = ended_job(label="naïve ☃", rerun_of="job_earlier")
    expected = JobHead(
        id=job.id,
        status=JobState.SUCCEEDED,
        scenario="probe",
        label="naïve ☃",
        attempt=1,
        lane="wait",
        rerun_of="job_earlier",
        request=job.request,
        created_at=T0,
        started_at=job.started_at,
        finished_at=job.finished_at,
        outcome="lost",
        grade="interesting",
    )
    assert expected == job.head()


def test_a_job_cannot_be_changed_in_place() -> None:
    """A job is a value: what was read from it stays true."""
    with pytest.raises(AttributeError):
        make_job().status = JobState.RUNNING  # type: ignore[misc]
