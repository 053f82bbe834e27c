"""Experiments made up for tests: their runs come from a function of the cell and the repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.experiments import Analysis, Measure, NotCovered, Run, analyse, expand, schedule

WALL = Measure("wall_s", "lower")
RATE = Measure("echoes_per_s", "higher")

# Seven runs of normal noise, 1 % wide, put down as numbers so that every text below can be pinned.
STEADY = (1.0, 1.004, 0.996, 1.012, 0.99, 1.007, 0.993)
# The same shape, twenty times as wide.
NOISY = tuple(1 + 20 * (value - 1) for value in STEADY)


def run(cell: int, repeat: int, value: float | None, **facts: Any) -> Run:
    """One run that succeeded with an acceptable outcome, unless told otherwise."""
    usual: dict[str, Any] = {
        "job_id": f"job_{repeat}_{cell}",
        "status": "succeeded",
        "outcome": "exact",
        "grade": "acceptable",
        "load": 0.5,
        "python": "3.13.0",
    }
    return Run(cell=cell, repeat=repeat, value=value, **{**usual, **facts})


def of_value(value: float, noise: Sequence[float] = STEADY) -> Callable[[int], dict[str, Any]]:
    """The runs of a cell that takes about so long."""
    return lambda repeat: {"value": value * noise[repeat % len(noise)]}


def experiment(
    vary: Mapping[str, Sequence[Any]],
    each: Callable[[dict[str, Any], int], dict[str, Any] | None],
    *,
    repeats: int = 7,
    measure: Measure = WALL,
    baseline: Mapping[str, Any] | None = None,
    not_covered: Sequence[NotCovered] = (),
    usable_cpus: int | None = 2,
    done: int | None = None,
) -> Analysis:
    """Analyse an experiment of which `each(values, repeat)` gives the runs; None is a run that was not made.

    With `done`, only so many runs of the schedule are finished.
    """
    cells = expand(vary)
    order = schedule(len(cells), repeats, seed=1)
    runs = []
    for cell, repeat in order[:done]:
        facts = each(cells[cell].values, repeat)
        if facts is not None:
            runs.append(run(cell, repeat, **facts))
    return analyse(
        cells,
        runs,
        repeats=repeats,
        measure=measure,
        baseline=baseline,
        not_covered=not_covered,
        usable_cpus=usable_cpus,
        finished=done is None,
    )
