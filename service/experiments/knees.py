"""Knees: where more workers stop to help.

Who uses it: `verdict`. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple, TypedDict

from service.experiments.plan import Values, free_fields, identity
from service.experiments.rows import Row, Study

__all__ = ["GAIN", "Knee", "find_knees"]

GAIN = 1.05  # the least speedup that counts: cells that spread by 5 % are called unstable, and less hides in them


class Knee(TypedDict):
    """The smallest number of workers after which no larger one is significantly better and by 5 % or more.

    `others` are the values of the other fields: there is a knee for each combination of them. `at_start` says that
    it is the smallest number that was measured: more never helped. `at_end`, that it is the largest: no knee was seen.
    """

    field: str
    value: float
    cell: int
    others: Values
    at_start: bool
    at_end: bool


def find_knees(study: Study, ranked: Sequence[Row]) -> list[Knee]:
    """Return the knee of each group of cells that differ in their workers only, in the order of the cells.

    A group whose cells did different amounts of work has none.

    Args:
        ranked: the rows to look at, the best first.
    """
    field = study.axis()
    if field is None:
        return []
    free = free_fields(study.cells.values(), [field])
    groups: dict[Hashable, list[_Place]] = {}
    for row in ranked:
        workers = study.workers(row["cell"])
        if workers is not None:
            groups.setdefault(identity([row["values"][other] for other in free]), []).append(_Place(workers, row))
    found = (_knee(study, field, free, group) for group in groups.values())
    return sorted((knee for knee in found if knee is not None), key=lambda knee: knee["cell"])


class _Place(NamedTuple):
    """A row at its place on the axis."""

    workers: float
    row: Row


def _knee(study: Study, field: str, free: Sequence[str], ranked: Sequence[_Place]) -> Knee | None:
    if not _decidable(study, ranked) or study.uneven(place.row["cell"] for place in ranked):
        return None
    along = sorted(ranked, key=lambda place: place.workers)
    # The best of the larger ones is asked first: where there is a gain, it is found at once.
    at = next(
        place
        for place in along
        if not any(_gains(study, more.row, place.row) for more in ranked if more.workers > place.workers)
    )
    return Knee(
        field=field,
        value=at.workers,
        cell=at.row["cell"],
        others={other: at.row["values"][other] for other in free},
        at_start=at is along[0],
        at_end=at is along[-1],
    )


def _decidable(study: Study, places: Sequence[_Place]) -> bool:
    """Whether there are two cells, and even the two with the fewest values could differ significantly."""
    fewest = sorted((place.row for place in places), key=lambda row: row["n"])[:2]
    comparison = study.compare(fewest[0]["cell"], fewest[-1]["cell"])
    return len(fewest) == 2 and comparison is not None and comparison.significant is not None


def _gains(study: Study, more: Row, row: Row) -> bool:
    comparison = study.compare(more["cell"], row["cell"])
    if comparison is None or comparison.significant is not True:
        return False
    if comparison.speedup is None:  # to or from zero: any significant step in the right direction is a gain
        step = study.samples[more["cell"]].median - study.samples[row["cell"]].median
        return step < 0 if study.measure.better == "lower" else step > 0
    return comparison.speedup >= GAIN
