"""Experiments, their rows and their verdicts."""

from datetime import datetime
from typing import Any

from service.api.schemas.base import Answer
from service.api.schemas.results import FailureView, MachineView
from service.api.schemas.scenarios import MeasureView, measure_view
from service.experiments import Analysis
from service.experiments.experiment import Experiment, ExperimentState
from service.jobs import Grade

__all__ = ["ExperimentItem", "ExperimentList", "ExperimentView", "ProgressView", "experiment_head", "experiment_view"]


class ProgressView(Answer):
    """How many runs are finished, of how many."""

    done: int
    of: int


class OutcomeCountView(Answer):
    """In how many runs an outcome was seen."""

    count: int
    grade: Grade | None


class RawRunView(Answer):
    """One run."""

    repeat: int
    value: float | None
    """Of the measure; null where the run has none."""
    job_id: str


class RowView(Answer):
    """One cell's statistics; null is what cannot be said."""

    cell: int
    values: dict[str, Any]
    """The varied fields."""
    n: int
    """Runs with a value of the measure."""
    runs: int
    """Finished runs."""
    median: float | None
    mad: float | None
    """Median absolute deviation from the median, unscaled."""
    min: float | None
    max: float | None
    interval: list[float] | None
    """Lowest and highest value of a 95 % interval of the median, by ranks; under 6 runs the least and the greatest."""
    interval_coverage: float | None
    """How often such an interval holds the true median: 0.95 or more from 6 runs on."""
    baseline: int | None
    """The cell that this one is compared with."""
    speedup: float | None
    """Against the baseline; above 1 is better, whichever way the measure goes."""
    speedup_interval: list[float] | None
    """A 95 % bootstrap interval."""
    p: float | None
    """Two-sided Mann-Whitney test against the baseline."""
    significant: bool | None
    """Whether the interval excludes 1 and p is under 0.05; null if so few runs could never tell."""
    relative_work: float | None
    """How many times the work of its baseline it did, as far as the measure's `grows_with` tells. Where that is not 1,
    `speedup` compares unequal work."""
    efficiency: float | None
    """Speedup for each worker that the baseline has one of; null where the work is not the baseline's."""
    outcomes: dict[str, OutcomeCountView]
    statuses: dict[str, int]
    """Final states of the jobs that did not succeed."""
    raw: list[RawRunView]
    """In the order of the repeats."""
    python: str | None
    """The version that ran it."""


class RunnerUpView(Answer):
    """The cell with the second best median, and how much better than it the best one is."""

    cell: int
    speedup: float | None
    speedup_interval: list[float] | None
    significant: bool | None


class KneeView(Answer):
    """The smallest number of workers after which no larger one is significantly better and by 5 % or more."""

    field: str
    value: float
    cell: int
    others: dict[str, Any]
    """The values of the other fields: each combination has its knee."""
    at_start: bool
    """Whether it is the smallest number that was measured: more workers never helped."""
    at_end: bool
    """Whether it is the largest number that was measured: then no knee was seen."""


class VerdictView(Answer):
    """What the experiment showed, and how sure that is."""

    text: str
    best: int | None
    """The cell with the best median of those without a forbidden outcome."""
    best_acceptable: int | None
    """The cell with the best median of those whose runs all ended with an outcome graded `acceptable`; null if there is
    none. Where it is not `best`, that one may be fast because it is broken."""
    same_work: bool
    """Whether those cells did the same amount of work. If not, the best median is no speed: see the warnings."""
    reason: str
    significant: bool | None
    """Whether the best differs from its baseline, or from the second best where it is its own."""
    second: RunnerUpView | None
    knee: KneeView | None
    knees: list[KneeView]


class NotCoveredView(Answer):
    """What was asked for and could not be run."""

    values: dict[str, Any]
    reason: str


class CautionView(Answer):
    """Something to bear in mind, and what to do about it."""

    cell: int | None
    text: str
    remedy: str


class ExperimentLinks(Answer):
    """Where more of it is."""

    self: str
    chart: str
    """A picture."""
    table: str
    """Its rows as CSV."""
    jobs: str
    """Its runs."""


class ExperimentItem(Answer):
    """An experiment in a list: without its rows."""

    id: str
    links: ExperimentLinks
    status: ExperimentState
    scenario: str
    label: str | None
    request: dict[str, Any]
    """What was asked for, every default filled in: `vary`, `repeats`, `seed`, and the fields that are the same in all
    cells."""
    measure: MeasureView
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class ExperimentView(ExperimentItem):
    """An experiment, and what it has shown so far. Its jobs are those with the label `id`."""

    machine: MachineView
    error: FailureView | None
    """Why it could not go on."""
    baseline: dict[str, Any]
    """The values of the cell or cells that the others are compared with."""
    progress: ProgressView
    verdict: VerdictView
    rows: list[RowView]
    """One for each cell, in their order; while it runs, of what is there."""
    not_covered: list[NotCoveredView]
    warnings: list[CautionView]


class ExperimentList(Answer):
    """Experiments, newest first."""

    experiments: list[ExperimentItem]
    next_cursor: str | None
    """Give this as `cursor` for the page of older ones; null on the last one."""


def experiment_head(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment in the shape of `ExperimentItem`, ready for JSON."""
    return {
        "id": experiment.id,
        "links": {
            "self": f"/v1/experiments/{experiment.id}",
            "chart": f"/v1/experiments/{experiment.id}/chart.svg",
            "table": f"/v1/experiments/{experiment.id}/table.csv",
            "jobs": f"/v1/jobs?label={experiment.id}",
        },
        "status": experiment.status.value,
        "scenario": experiment.scenario,
        "label": experiment.label,
        "request": {
            "scenario": experiment.scenario,
            "vary": experiment.vary,
            "repeats": experiment.repeats,
            "seed": experiment.seed,
            "measure": experiment.measure.name,
            "baseline": experiment.baseline,
            "label": experiment.label,
            **{name: value for name, value in experiment.fixed.items() if name not in ("scenario", "label")},
        },
        "measure": measure_view(experiment.measure),
        "created_at": experiment.created_at,
        "started_at": experiment.started_at,
        "finished_at": experiment.finished_at,
    }


def experiment_view(experiment: Experiment, analysis: Analysis) -> dict[str, Any]:
    """Return an experiment in the shape of `ExperimentView`, ready for JSON."""
    return {
        **experiment_head(experiment),
        "machine": experiment.machine,
        "error": experiment.error,
        **{name: analysis[name] for name in ("baseline", "progress", "verdict", "rows", "not_covered", "warnings")},
    }
