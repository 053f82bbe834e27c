"""An experiment as it is remembered, and the states that it passes through.

    queued ──▶ running ──▶ succeeded | failed | cancelled
    queued ──▶ failed | cancelled

Who uses it: the stores, the experimenter and the HTTP face. Pure: who moves it says when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from service import errors
from service.experiments.plan import Cell, Measure, NotCovered, Run, Values, expand, schedule
from service.jobs import Failure, Job

__all__ = ["FINAL_EXPERIMENT_STATES", "Experiment", "ExperimentState", "run_of"]


_LARGEST = 1e150  # its square is still a float


class ExperimentState(StrEnum):
    """Where an experiment stands. `succeeded`: every run ended, whatever it showed; `failed`: it could not go on."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_LEGAL_MOVES: Mapping[ExperimentState, frozenset[ExperimentState]] = {
    ExperimentState.QUEUED: frozenset({ExperimentState.RUNNING, ExperimentState.FAILED, ExperimentState.CANCELLED}),
    ExperimentState.RUNNING: frozenset({ExperimentState.SUCCEEDED, ExperimentState.FAILED, ExperimentState.CANCELLED}),
    ExperimentState.SUCCEEDED: frozenset(),
    ExperimentState.FAILED: frozenset(),
    ExperimentState.CANCELLED: frozenset(),
}

FINAL_EXPERIMENT_STATES = frozenset(state for state, moves in _LEGAL_MOVES.items() if not moves)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A matrix of jobs, and how far it has come.

    Attributes:
        vary: lists of values by field, or by several fields with commas between them.
        fixed: the job's fields that are the same in all cells, every default filled in.
        seed: of the order of the runs.
        baseline: values of varied fields; None is the first cell.
        machine: the one that it runs on.
        not_covered: what was asked for and cannot be run here.
    """

    id: str
    scenario: str
    vary: dict[str, list[Any]]
    fixed: Values
    repeats: int
    seed: int
    measure: Measure
    created_at: datetime
    machine: dict[str, Any]
    baseline: Values | None = None
    label: str | None = None
    not_covered: tuple[NotCovered, ...] = ()
    status: ExperimentState = ExperimentState.QUEUED
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: Failure | None = None

    @property
    def finished(self) -> bool:
        """Whether its state will never change again."""
        return self.status in FINAL_EXPERIMENT_STATES

    def cells(self) -> tuple[Cell, ...]:
        """Return all cells, those that are not covered among them."""
        return expand(self.vary)

    def plan(self) -> list[tuple[Cell, int]]:
        """Return what is run, in order: a cell, and which repeat of it."""
        covered = [cell for cell in self.cells() if not any(each.holds(cell) for each in self.not_covered)]
        return [(covered[index], repeat) for index, repeat in schedule(len(covered), self.repeats, self.seed)]

    def request(self, cell: Cell) -> Values:
        """Return the request of a cell's jobs, every default filled in."""
        return {**self.fixed, **cell.values, "label": self.id}

    def start(self, now: datetime) -> Experiment:
        """Return it as it is when its first run begins."""
        self._check(ExperimentState.RUNNING)
        return replace(self, status=ExperimentState.RUNNING, started_at=now)

    def end(self, status: ExperimentState, now: datetime, error: Failure | None = None) -> Experiment:
        """Return it as it is when no more runs will come."""
        self._check(status)
        return replace(self, status=status, finished_at=now, error=error)

    def _check(self, to: ExperimentState) -> None:
        if to not in _LEGAL_MOVES[self.status]:
            raise errors.IllegalExperimentMove(f"An experiment that is {self.status} cannot become {to}: {self.id}.")


def run_of(cell: Cell, repeat: int, job: Job, measure: Measure, load: float | None) -> Run:
    """Return what a finished job showed, in the terms of its experiment.

    Its value is the scenario's own number of the measure's name, else the timing of that name.
    """
    result = job.result
    value = None if result is None else _number(result["values"].get(measure.name, result["timings"].get(measure.name)))
    reason = None if value is not None else _why_none(job)
    return Run(
        cell=cell.index,
        repeat=repeat,
        job_id=job.id,
        status=job.status.value,
        outcome=job.outcome,
        grade=job.grade,
        value=value,
        load=load,
        reason=reason,
        python=None if job.python is None else _version(job.python),
    )


def _why_none(job: Job) -> str:
    """Why a run has no value: its error, what the scenario says itself, or what its outcome means."""
    if job.error is not None:
        return job.error["message"]
    if job.result is None:
        return f"The job was {job.status}."
    said = job.result["values"].get("reason")
    meant = job.result["meaning"] or f"The job {job.status}, and its outcome has no such number."
    return said if isinstance(said, str) else meant


def _version(python: Mapping[str, Any]) -> str:
    return f"{python['version']}{'t' if python.get('free_threaded') else ''}"


def _number(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return value if abs(value) <= _LARGEST else None  # nothing that a ratio of two could be told as a number
