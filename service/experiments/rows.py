"""What was measured in each cell, and how any two cells compare.

Who uses it: `analysis` for the table; `verdict` and `cautions` ask the `Study` further. Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from service.experiments.medians import Comparison, Sample, compare, coverage
from service.experiments.plan import WORKERS, Cell, Measure, Run, Values, baseline_cells, varying
from service.experiments.words import named
from service.experiments.work import Uneven, alike, times, uneven
from service.jobs import JobState

__all__ = ["OutcomeCount", "RawRun", "Row", "Study", "has_value", "unavailable"]


class OutcomeCount(TypedDict):
    """In how many runs an outcome was seen, and how it is judged."""

    count: int
    grade: str | None


class RawRun(TypedDict):
    """One run's value of the measure; null where it has none."""

    repeat: int
    value: float | None
    job_id: str


class Row(TypedDict):
    """One cell's statistics; null is what cannot be said."""

    cell: int
    values: Values  # the varied fields
    n: int  # runs with a value
    runs: int  # finished runs
    median: float | None
    mad: float | None  # median absolute deviation from the median, unscaled
    min: float | None
    max: float | None
    interval: list[float] | None  # [low, high]: 95 % interval of the median by ranks; under 6 runs least and greatest
    interval_coverage: float | None  # how often such an interval holds the true median: 0.95 or more from 6 runs on
    baseline: int | None  # the cell that this one is compared with
    speedup: float | None  # against the baseline; above 1 is better, whichever way the measure goes
    speedup_interval: list[float] | None  # [low, high]: 95 % bootstrap interval
    p: float | None  # two-sided Mann-Whitney test of the cell against its baseline
    significant: bool | None  # if its interval excludes 1 and p is under 0.05; null if so few runs never could
    relative_work: float | None  # of the baseline's, as far as the measure says with what it grows
    efficiency: float | None  # speedup for each worker that the baseline has one of; null for unequal work
    outcomes: dict[str, OutcomeCount]
    statuses: dict[str, int]  # final states of runs that did not succeed
    raw: list[RawRun]
    python: str | None  # what ran it; several versions stand side by side


class Study:
    """An experiment's cells with their runs, their values and their baselines, each by the cell's index."""

    def __init__(
        self, cells: Sequence[Cell], runs: Iterable[Run], measure: Measure, baseline: Mapping[str, Any] | None
    ) -> None:
        self.measure = measure
        self.cells = {cell.index: cell for cell in cells}
        self.baselines = baseline_cells(cells, baseline) if cells else {}
        self.runs: dict[int, list[Run]] = {index: [] for index in self.cells}
        for run in sorted(runs, key=lambda run: (run.repeat, run.job_id)):
            if run.cell in self.runs:
                self.runs[run.cell].append(run)
        self.samples = {index: Sample(_numbers(of_cell)) for index, of_cell in self.runs.items()}
        self._varying = varying(cells)
        self._compared: dict[tuple[int, int], Comparison] = {}

    def compare(self, cell: int, other: int) -> Comparison | None:
        """Return how much better a cell is than another; None where one of them has no values."""
        if not (self.samples[cell].size and self.samples[other].size):
            return None
        if (cell, other) not in self._compared:
            self._compared[cell, other] = compare(self.samples[cell], self.samples[other], self.measure.better)
        return self._compared[cell, other]

    def name(self, cell: int) -> str:
        """Return a cell's values in words, without the fields that are the same in all cells."""
        values = self.cells[cell].values
        return named({field: values[field] for field in self._varying} or values)

    def row(self, cell: int) -> Row:
        """Return a cell's statistics."""
        runs, sample = self.runs[cell], self.samples[cell]
        row = Row(
            cell=cell,
            values=self.cells[cell].values,
            n=sample.size,
            runs=len(runs),
            median=sample.median if sample.size else None,
            mad=sample.mad if sample.size else None,
            min=sample.values[0] if sample.size else None,
            max=sample.values[-1] if sample.size else None,
            interval=None if sample.interval is None else list(sample.interval),
            interval_coverage=coverage(sample.size),
            baseline=self.baselines[cell],
            speedup=None,
            speedup_interval=None,
            p=None,
            significant=None,
            relative_work=None,
            efficiency=None,
            outcomes=_outcomes(runs),
            statuses=dict(sorted(Counter(str(run.status) for run in runs if not _succeeded(run)).items())),
            raw=[
                RawRun(repeat=run.repeat, value=run.value if has_value(run) else None, job_id=run.job_id)
                for run in runs
            ],
            python=", ".join(sorted({run.python for run in runs if run.python is not None})) or None,
        )
        self._against_baseline(row)
        return row

    def _against_baseline(self, row: Row) -> None:
        cell, base = row["cell"], row["baseline"]
        if base is None:
            return
        row["relative_work"] = times(self.cells[cell].values, self.cells[base].values, self.measure)
        if not row["n"]:
            return
        if cell == base:  # itself: nothing to test
            row["speedup"] = 1.0
        elif (comparison := self.compare(cell, base)) is not None:
            row["speedup"] = comparison.speedup
            row["speedup_interval"] = None if comparison.interval is None else list(comparison.interval)
            row["p"], row["significant"] = comparison.p, comparison.significant
        if alike(row["relative_work"]):
            row["efficiency"] = _efficiency(row["speedup"], self.workers(cell), self.workers(base))

    def uneven(self, cells: Iterable[int]) -> Uneven | None:
        """Return that these cells did different amounts of work, or None if they did not."""
        return uneven([self.cells[cell] for cell in cells], self.measure)

    def axis(self) -> str | None:
        """Return the varied field that counts workers, if there is exactly one."""
        fields = next(iter(self.cells.values())).values if self.cells else {}
        counting = [field for field in WORKERS if field in fields]
        return counting[0] if len(counting) == 1 else None

    def workers(self, cell: int) -> int | float | None:
        """Return how many workers a cell has, where a varied field says so."""
        field = self.axis()
        count = None if field is None else self.cells[cell].values[field]
        return count if isinstance(count, int | float) and not isinstance(count, bool) and count > 0 else None


def has_value(run: Run) -> bool:
    """Whether a run counts in the statistics."""
    return run.value is not None and math.isfinite(run.value) and _succeeded(run) and not unavailable(run)


def unavailable(run: Run) -> bool:
    """Whether its interpreter or system could not do what the scenario is about."""
    return run.outcome == "unavailable"


def _numbers(runs: Iterable[Run]) -> list[float]:
    return [run.value for run in runs if run.value is not None and has_value(run)]


def _succeeded(run: Run) -> bool:
    return run.status == JobState.SUCCEEDED


def _outcomes(runs: Iterable[Run]) -> dict[str, OutcomeCount]:
    found: dict[str, OutcomeCount] = {}
    for run in runs:
        if run.outcome is not None:
            found.setdefault(run.outcome, OutcomeCount(count=0, grade=run.grade))["count"] += 1
    return dict(sorted(found.items(), key=lambda item: (-item[1]["count"], item[0])))


def _efficiency(speedup: float | None, workers: float | None, base: float | None) -> float | None:
    return None if speedup is None or workers is None or base is None else speedup / (workers / base)
