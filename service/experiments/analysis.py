"""The analysis of an experiment's runs: rows, verdict and warnings, as JSON.

Who uses it: whoever shows an experiment, finished or not. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from service.experiments.cautions import Caution, cautions
from service.experiments.plan import Better, Cell, Measure, NotCovered, Progress, Run, Values, progress
from service.experiments.rows import Row, Study, unavailable
from service.experiments.verdict import Verdict, judge

__all__ = ["Analysis", "Compared", "Missing", "analyse"]


class Compared(TypedDict):
    """What was compared, and which way is better."""

    name: str
    better: Better


class Missing(TypedDict):
    """What was not covered, and why."""

    values: Values
    reason: str


class Analysis(TypedDict):
    """All that can be said of an experiment's runs, ready to be JSON."""

    measure: Compared
    baseline: Values  # the values of the cell or cells that the others are compared with
    repeats: int
    progress: Progress
    verdict: Verdict
    rows: list[Row]  # one for each cell, in their order
    not_covered: list[Missing]
    warnings: list[Caution]


def analyse(
    cells: Sequence[Cell],
    runs: Sequence[Run],
    *,
    repeats: int,
    measure: Measure,
    baseline: Mapping[str, Any] | None,
    not_covered: Sequence[NotCovered],
    usable_cpus: int | None,
    finished: bool,
) -> Analysis:
    """Return what the runs showed so far.

    Args:
        cells: those that are run, or all: what `not_covered` says of them is respected either way.
        runs: the finished ones, in any order; a run of no cell here is ignored.
        repeats: how many runs each cell will have, 1 or more.
        baseline: values of some varied fields: each cell is compared with the one that has these and is the same
            otherwise. None is the first cell, for all. `check_baseline` tells beforehand whether it can be.
        not_covered: what was asked for and cannot be run. Cells of which every run ended as `unavailable` join it.
        usable_cpus: what the load averages are held against; None where unknown.
        finished: whether no more runs will come.
    """
    study = Study(cells, runs, measure, baseline)
    rows = [study.row(cell.index) for cell in cells]
    missing = [*not_covered, *_unavailable(study)]
    awaited = [cell for cell in cells if study.runs[cell.index] or not _left_out(cell, not_covered)]
    done = progress(awaited, runs, repeats)
    return Analysis(
        measure=Compared(name=measure.name, better=measure.better),
        baseline=dict(baseline if baseline is not None else cells[0].values if cells else {}),
        repeats=repeats,
        progress=done,
        verdict=judge(study, rows, missing, done, finished),
        rows=rows,
        not_covered=[Missing(values=each.values, reason=each.reason) for each in missing],
        warnings=cautions(
            study,
            rows,
            repeats=repeats,
            baseline=baseline,
            missing=missing,
            usable_cpus=usable_cpus,
            finished=finished,
        ),
    )


def _unavailable(study: Study) -> list[NotCovered]:
    return [
        NotCovered(study.cells[cell].values, runs[0].reason or "not available there")
        for cell, runs in study.runs.items()
        if runs and all(map(unavailable, runs))
    ]


def _left_out(cell: Cell, not_covered: Sequence[NotCovered]) -> bool:
    return any(each.holds(cell) for each in not_covered)
