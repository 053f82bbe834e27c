"""Knees: where more workers stop to help.

Who uses it: `verdict`. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypedDict

from service.experiments.plan import Cell, Values, identity, varying
from service.experiments.rows import Row, Study

__all__ = ["GAIN", "Knee", "find_knees"]

GAIN = 1.05  # the least speedup that counts: cells that spread by 5 % are called unstable, and less hides in them


class Knee(TypedDict):
    """The smallest number of workers after which no larger one is significantly better and by 5 % or more.

    `others` are the values of the other fields: there is a knee for each combination of them. `at_end` says that it is
    the largest number that was measured: no knee was seen.
    """

    field: str
    value: float
    cell: int
    others: Values
    at_end: bool


def find_knees(study: Study, ranked: Sequence[Row]) -> list[Knee]:
    """Return the knee of each group of cells that differ in their workers only, in the order of the cells.

    Args:
        ranked: the rows to look at, the best first.
    """
    field = study.axis()
    if field is None:
        return []
    free = _free_fields(study.cells.values(), field)
    groups: dict[Hashable, list[Row]] = {}
    for row in ranked:
        if study.workers(row["cell"]) is not None:
            groups.setdefault(identity([row["values"][other] for other in free]), []).append(row)
    found = (_knee(study, field, free, group) for group in groups.values())
    return sorted((knee for knee in found if knee is not None), key=lambda knee: knee["cell"])


def _free_fields(cells: Iterable[Cell], field: str) -> list[str]:
    """Return the fields that do not vary together with this one: they have several values beside one of its."""
    by_value: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        by_value.setdefault(identity(cell.values[field]), []).append(cell)
    free = {other for group in by_value.values() for other in varying(group)}
    return [other for group in by_value.values() for other in group[0].values if other in free][: len(free)]


def _knee(study: Study, field: str, free: Sequence[str], ranked: Sequence[Row]) -> Knee | None:
    if len(ranked) < 2 or not _decidable(study, ranked):
        return None
    by_workers = sorted(ranked, key=lambda row: study.workers(row["cell"]) or 0)
    for row in by_workers:
        count = study.workers(row["cell"]) or 0
        # The best is asked first: where there is a gain, it is found at once.
        if not any(_gains(study, more, row) for more in ranked if (study.workers(more["cell"]) or 0) > count):
            others = {other: row["values"][other] for other in free}
            at_end = row is by_workers[-1]
            return Knee(field=field, value=count, cell=row["cell"], others=others, at_end=at_end)
    return None


def _decidable(study: Study, rows: Sequence[Row]) -> bool:
    """Whether even the two cells with the fewest values could differ significantly."""
    one, other = sorted(rows, key=lambda row: row["n"])[:2]
    comparison = study.compare(one["cell"], other["cell"])
    return comparison is not None and comparison.significant is not None


def _gains(study: Study, more: Row, row: Row) -> bool:
    comparison = study.compare(more["cell"], row["cell"])
    if comparison is None or comparison.speedup is None:
        return False
    return comparison.speedup >= GAIN and comparison.significant is True
