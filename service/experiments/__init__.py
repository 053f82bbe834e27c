"""Experiments: a matrix of jobs, repeated, with statistics and a verdict.

    vary ──expand──▶ cells ──schedule──▶ (cell, repeat), … ──a job each──▶ runs ──analyse──▶ rows, verdict, warnings

Who uses it: whoever runs an experiment plans with `plan` and reads with `analysis`; the HTTP face shows what `analyse`
returns as it is. Pure: no clock, no I/O, and nothing is drawn at random but the order of the runs, from a seed: the
same runs always give the same analysis, in whatever order they came.
"""

from __future__ import annotations

from service.experiments.analysis import Analysis, analyse
from service.experiments.cautions import Caution
from service.experiments.knees import Knee
from service.experiments.plan import (
    MAX_CELLS,
    Better,
    Cell,
    Measure,
    NotCovered,
    Progress,
    Run,
    Values,
    check_baseline,
    expand,
    progress,
    schedule,
)
from service.experiments.rows import OutcomeCount, RawRun, Row
from service.experiments.table import csv_text, table
from service.experiments.verdict import RunnerUp, Verdict

__all__ = [
    "MAX_CELLS",
    "Analysis",
    "Better",
    "Caution",
    "Cell",
    "Knee",
    "Measure",
    "NotCovered",
    "OutcomeCount",
    "Progress",
    "RawRun",
    "Row",
    "Run",
    "RunnerUp",
    "Values",
    "Verdict",
    "analyse",
    "check_baseline",
    "csv_text",
    "expand",
    "progress",
    "schedule",
    "table",
]
