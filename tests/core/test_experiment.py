"""An experiment: its states and legal moves, its plan and requests, and what a finished job is in its terms."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from service.errors import IllegalExperimentMove
from service.experiments import Measure, NotCovered
from service.experiments.experiment import FINAL_EXPERIMENT_STATES, Experiment, ExperimentState, run_of
from service.jobs import Failure, Job, JobState
from tests.stores.helpers import T0, ended_job, make_experiment, make_report, make_result, running_job

_LATER = T0 + timedelta(hours=1)
_FINAL = {ExperimentState.SUCCEEDED, ExperimentState.FAILED, ExperimentState.CANCELLED}
_LEGAL = {
    (ExperimentState.QUEUED, ExperimentState.RUNNING),
    (ExperimentState.QUEUED, ExperimentState.FAILED),
    (ExperimentState.QUEUED, ExperimentState.CANCELLED),
    (ExperimentState.RUNNING, ExperimentState.SUCCEEDED),
    (ExperimentState.RUNNING, ExperimentState.FAILED),
    (ExperimentState.RUNNING, ExperimentState.CANCELLED),
}
_WALL = Measure("wall_s", "lower")


# States.


@pytest.mark.parametrize("status", list(ExperimentState))
def test_only_some_states_are_final(status: ExperimentState) -> None:
    """An experiment that succeeded, failed or was cancelled is finished, and no other."""
    assert (status in _FINAL) == make_experiment(status=status).finished == (status in FINAL_EXPERIMENT_STATES)


@pytest.mark.parametrize(("before", "to"), list(product(ExperimentState, ExperimentState)))
def test_moves_that_are_not_in_the_table_are_refused(before: ExperimentState, to: ExperimentState) -> None:
    """Each move is legal or raises, and the text names both states and the experiment."""
    experiment = make_experiment(status=before)

    def move() -> Experiment:
        return experiment.start(_LATER) if to is ExperimentState.RUNNING else experiment.end(to, _LATER)

    if (before, to) in _LEGAL:
        assert to is move().status
        return
    with pytest.raises(IllegalExperimentMove) as refused:
        move()
    assert f"An experiment that is {before} cannot become {to}: {experiment.id}." == str(refused.value)


def test_start_and_end_are_stamped() -> None:
    """The moves write down when, and why; nothing else changes."""
    queued = make_experiment()
    started = queued.start(_LATER)
    assert replace(queued, status=ExperimentState.RUNNING, started_at=_LATER) == started
    failure = Failure(type="ScenarioNotFound", message="gone", traceback=None)
    failed = started.end(ExperimentState.FAILED, _LATER + timedelta(seconds=1), failure)
    ended = {"status": ExperimentState.FAILED, "finished_at": _LATER + timedelta(seconds=1), "error": failure}
    assert replace(started, **ended) == failed
    assert started.end(ExperimentState.SUCCEEDED, _LATER).error is None


# Plan.


def _matrix(**changes: Any) -> Experiment:
    return make_experiment(**{"vary": {"python": ["3.9", "3.13"], "threads": [1, 2, 4]}, "repeats": 5, **changes})


def test_plan_holds_every_run_once() -> None:
    """Each repeat of each cell is in the plan, and nothing else."""
    experiment = _matrix()
    places = [(cell.index, repeat) for cell, repeat in experiment.plan()]
    assert Counter(product(range(6), range(5))) == Counter(places)
    assert all(experiment.cells()[cell.index] == cell for cell, _ in experiment.plan())


def test_plan_is_a_permutation_of_the_cells_in_each_repeat() -> None:
    """One repeat is over before the next begins, and the order of the cells is not the same in all of them."""
    places = [(cell.index, repeat) for cell, repeat in _matrix().plan()]
    blocks = [places[start : start + 6] for start in range(0, 30, 6)]
    assert [{number} for number in range(5)] == [{repeat for _, repeat in block} for block in blocks]
    orders = {tuple(cell for cell, _ in block) for block in blocks}
    assert [list(range(6))] * len(orders) == [sorted(order) for order in orders]
    assert len(orders) > 1


def test_plan_is_the_same_for_the_same_seed() -> None:
    """A plan can be made again, after a restart too, and more repeats leave its beginning as it was."""
    plan = _matrix(seed=1).plan()
    assert plan == _matrix(seed=1).plan()
    assert plan == _matrix(seed=1, repeats=9).plan()[: len(plan)]
    assert plan != _matrix(seed=2).plan()


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ({"python": "3.9"}, [3, 4, 5]),
        ({"threads": 2}, [0, 2, 3, 5]),
        ({"python": "3.13", "threads": 4}, [0, 1, 2, 3, 4]),
        ({"threads": True}, [0, 1, 2, 3, 4, 5]),
        ({"lock": True}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_plan_leaves_out_what_is_not_covered(values: dict[str, Any], left: list[int]) -> None:
    """Cells that cannot be run are in no run; the others keep their numbers, and `cells` still names all."""
    experiment = _matrix(not_covered=(NotCovered(values, "not installed"),))
    assert 6 == len(experiment.cells())
    plan = experiment.plan()
    assert left == sorted({cell.index for cell, _ in plan})
    assert 5 * len(left) == len(plan)


def test_plan_of_nothing_is_empty() -> None:
    """Where no cell can be run there is nothing to do."""
    missing = tuple(NotCovered({"python": python}, "not installed") for python in ("3.9", "3.13"))
    assert [] == _matrix(not_covered=missing).plan()


# Requests.


def test_request_is_what_is_fixed_and_the_cell() -> None:
    """A job's request has the fixed fields, those of its cell, and the experiment's id for a label."""
    fixed = {"scenario": "probe", "timeout_s": 10.0, "label": None}
    experiment = make_experiment(vary={"threads,lock": [[1, True], [2, False]], "gil": ["off"]}, fixed=fixed)
    _, second = experiment.cells()
    expected = {
        "scenario": "probe",
        "timeout_s": 10.0,
        "label": experiment.id,
        "threads": 2,
        "lock": False,
        "gil": "off",
    }
    assert expected == experiment.request(second)
    assert {"scenario": "probe", "timeout_s": 10.0, "label": None} == fixed


# Runs.


def _job(status: JobState = JobState.SUCCEEDED, *, wall_s: Any = 0.4, **values: Any) -> Job:
    timings = {"queued_s": None, "startup_s": 0.001, "wall_s": wall_s, "cpu_s": None}
    report = make_report(status, result=make_result(values=values, timings=timings))
    return running_job().finish(report, _LATER)


def test_run_names_its_place_and_its_job() -> None:
    """A run says of which cell and repeat it is, which job made it, what that showed, and how busy the machine was."""
    cell = make_experiment().cells()[1]
    job = _job()
    run = run_of(cell, 2, job, _WALL, 0.75)
    assert (1, 2, job.id, "succeeded") == (run.cell, run.repeat, run.job_id, run.status)
    assert ("lost", "interesting", 0.4, 0.75, None) == (run.outcome, run.grade, run.value, run.load, run.reason)
    assert str is type(run.status)


@pytest.mark.parametrize(
    ("values", "measure", "expected"),
    [
        ({"wall_s": 0.1}, "wall_s", 0.1),
        ({}, "wall_s", 0.4),
        ({"calls": 7}, "calls", 7),
        ({"calls": 0}, "calls", 0),
        ({"wall_s": None}, "wall_s", None),
        ({"calls": True}, "calls", None),
        ({"calls": "7"}, "calls", None),
        ({"calls": [7]}, "calls", None),
        ({"calls": 10**400}, "calls", None),
        ({"calls": -(10**400)}, "calls", None),
        ({"calls": math.nan}, "calls", None),
        ({"calls": -math.inf}, "calls", None),
        ({"calls": 10**149}, "calls", 10**149),
        ({"calls": 1e151}, "calls", None),
        ({}, "cpu_s", None),
        ({}, "calls", None),
    ],
)
def test_value_is_the_scenario_s_own_number_first(values: dict[str, Any], measure: str, expected: float | None) -> None:
    """A number that the scenario returned goes before the timing of that name; what is no number is no value."""
    run = run_of(make_experiment().cells()[0], 0, _job(**values), Measure(measure, "lower"), None)
    assert (expected, type(expected)) == (run.value, type(run.value))


def test_run_without_a_value_says_why() -> None:
    """The reason is the error's message, else the outcome's sentence, else the state of the job."""
    cell = make_experiment().cells()[0]

    def reason(job: Job) -> str | None:
        return run_of(cell, 0, job, Measure("calls", "higher"), None).reason

    assert "no" == reason(_job(JobState.FAILED))
    assert "At least one addition was overwritten." == reason(_job())
    assert "At least one addition was overwritten." == reason(_job(JobState.TIMED_OUT))
    bare = running_job().finish(make_report(JobState.CANCELLED, result=None), _LATER)
    assert "The job was cancelled." == reason(bare)
    unsaid = running_job().finish(make_report(result=make_result(meaning=None)), _LATER)
    assert "The job succeeded, and its outcome has no such number." == reason(unsaid)
    assert "no fork here" == reason(_job(reason="no fork here"))
    assert reason(_job(calls=1)) is None


@pytest.mark.parametrize("status", sorted(set(JobState) - {JobState.QUEUED, JobState.RUNNING}))
def test_job_without_a_result_is_a_run_without_a_value(status: JobState) -> None:
    """A job that came to nothing has no outcome and no value, and its state is told."""
    job = running_job().finish(make_report(status, result=None, python=None), _LATER)
    run = run_of(make_experiment().cells()[0], 0, job, _WALL, None)
    assert (status.value, None, None, None, None) == (run.status, run.outcome, run.grade, run.value, run.python)
    assert run.reason


@pytest.mark.parametrize(
    ("python", "expected"),
    [
        ({"version": "3.13.0", "free_threaded": False}, "3.13.0"),
        ({"version": "3.13.15", "free_threaded": True}, "3.13.15t"),
        ({"version": "3.9.18"}, "3.9.18"),
        (None, None),
    ],
)
def test_run_names_the_version(python: dict[str, Any] | None, expected: str | None) -> None:
    """A free-threaded build has a `t` behind its version; a job of before there was a choice says nothing of it."""
    job = replace(ended_job(), python=python)
    assert expected == run_of(make_experiment().cells()[0], 0, job, _WALL, None).python
