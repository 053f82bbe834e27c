"""The plan of an experiment: its cells, the order of its runs, and which cell each is compared with.

Who uses it: whoever accepts and runs an experiment, and the other files of this folder. Pure.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from service.errors import BadExperiment

__all__ = [
    "MAX_CELLS",
    "WORKERS",
    "Better",
    "Cell",
    "Measure",
    "NotCovered",
    "Progress",
    "Run",
    "Values",
    "baseline_cells",
    "check_baseline",
    "expand",
    "free_fields",
    "identity",
    "progress",
    "schedule",
    "varying",
]

Values = dict[str, Any]  # JSON values by field name
Better = Literal["lower", "higher"]

MAX_CELLS = 10_000  # so that no request's product fills the memory; the service's own limit is lower
WORKERS = ("threads", "max_workers", "processes")  # the fields that count workers


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the varied fields.

    Attributes:
        index: from 0, in the order of the product: the last axis varies fastest.
        values: the varied fields only.
    """

    index: int
    values: Values


@dataclass(frozen=True, slots=True)
class Measure:
    """What is compared. The end of the name is its unit: `_s` seconds, `_bytes`, `_per_s` per second, else a number.

    Attributes:
        grows_with: the parameters of which the work that it is taken of is the product. It is another measure where
            these differ: the time of twice as many additions.
        instead: other measures of the same scenario, whose work stays the same where that of this one is varied.
    """

    name: str
    better: Better
    grows_with: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("grows_with", "instead"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run of a cell.

    Attributes:
        status: the job's final state.
        value: of the measure; null where the run has none.
        load: the machine's load average of one minute, just before the run.
        reason: why it has no value: the error's message, or the outcome's sentence.
        python: the version that ran it, such as "3.13.0" or "3.13.15t".
    """

    cell: int
    repeat: int
    job_id: str
    status: str
    outcome: str | None
    grade: str | None
    value: float | None
    load: float | None
    reason: str | None = None
    python: str | None = None


@dataclass(frozen=True, slots=True)
class NotCovered:
    """What was asked for and not run: one value, or a combination, and why (`not installed`)."""

    values: Values
    reason: str

    def holds(self, cell: Cell) -> bool:
        """Whether a cell is part of it."""
        return all(_agrees(cell, field, value) for field, value in self.values.items())


class Progress(TypedDict):
    """How many runs are finished, of how many."""

    done: int
    of: int


def expand(vary: Mapping[str, Sequence[Any]]) -> tuple[Cell, ...]:
    """Return the product of the lists.

    Args:
        vary: a list of values by field. The key `threads,iterations` is several fields that vary together: its values
            are lists of that many, as in pytest's `parametrize`.

    Raises:
        BadExperiment: an empty list, a field named twice, a value of the wrong length or given twice, too many cells.
    """
    if not vary:
        raise BadExperiment(("vary",), 'Vary at least one field, as in {"threads": [1, 2, 4]}.')
    _check_names(vary)
    axes = [_axis(key, values) for key, values in vary.items()]
    size = math.prod(map(len, axes))
    if size > MAX_CELLS:
        raise BadExperiment(("vary",), f"That makes {size:,} cells. At most {MAX_CELLS:,} can be: vary fewer values.")
    return tuple(
        Cell(index, {field: value for part in parts for field, value in part.items()})
        for index, parts in enumerate(itertools.product(*axes))
    )


def schedule(cells: int, repeats: int, seed: int) -> tuple[tuple[int, int], ...]:
    """Return (cell index, repeat) for every run: each repeat is one block of every cell, in an order of its own.

    A slow drift of the machine then meets all cells alike. More repeats leave the order of the first ones as it was.

    Source:
        Randomized complete blocks: R. A. Fisher, The Design of Experiments, 1935. The shuffle is Fisher and Yates's,
        over `random()` alone: it is what the library reference, "Notes on Reproducibility" of `random`, keeps the same
        on every version for a seed.
    """
    rng = random.Random(seed)  # noqa: S311  an order to measure in, no secret
    return tuple((cell, repeat) for repeat in range(repeats) for cell in _shuffled(cells, rng))


def progress(cells: Sequence[Cell], runs: Sequence[Run], repeats: int) -> Progress:
    """Return how many runs of the cells are finished, of how many."""
    known = {cell.index for cell in cells}
    return Progress(done=sum(run.cell in known for run in runs), of=len(cells) * repeats)


def check_baseline(cells: Sequence[Cell], baseline: Mapping[str, Any] | None) -> None:
    """See to it that a baseline names cells that there are.

    Raises:
        BadExperiment: it names nothing, a field that is not varied, a value that the field does not have, or a
            combination that no cell has.
    """
    if baseline is None:
        return
    fields = list(cells[0].values) if cells else []
    if not baseline:
        raise BadExperiment(("baseline",), "Name the value of at least one varied field, or leave it out.", fields)
    for field, value in baseline.items():
        if field not in fields:
            raise BadExperiment(("baseline", field), f"{field} is not varied here.", fields)
        values = _values_of(field, cells)
        if identity(value) not in values:
            raise BadExperiment(
                ("baseline", field), f"No cell has this {field}: take one of its values.", list(values.values())
            )
    if not _having(baseline, cells):
        raise BadExperiment(("baseline",), "No cell has these values together: take the values of one cell.")


def baseline_cells(cells: Sequence[Cell], baseline: Mapping[str, Any] | None) -> dict[int, int | None]:
    """Return for each cell, by index, the cell that it is compared with.

    That cell has the baseline's values, and for all other fields the cell's own. Fields that vary together with the
    baseline's do not count: they cannot be the cell's own. Without a baseline it is the first cell, for all.
    """
    if baseline is None:
        return {cell.index: cells[0].index for cell in cells}
    free = free_fields(cells, list(baseline))
    by_rest = {_part(candidate, free): candidate.index for candidate in _having(baseline, cells)}
    return {cell.index: by_rest.get(_part(cell, free)) for cell in cells}


def varying(cells: Iterable[Cell]) -> list[str]:
    """Return the fields that have more than one value in these cells, in order."""
    seen: dict[str, set[Hashable]] = {}
    for cell in cells:
        for field, value in cell.values.items():
            seen.setdefault(field, set()).add(identity(value))
    return [field for field, values in seen.items() if len(values) > 1]


def free_fields(cells: Iterable[Cell], fixed: Sequence[str]) -> list[str]:
    """Return the fields that still vary where these are the same: all others but those that vary together with them."""
    groups: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(_part(cell, fixed), []).append(cell)
    return list(dict.fromkeys(field for group in groups.values() for field in varying(group)))


def identity(value: Any) -> Hashable:
    """Return what two JSON values share exactly if they are the same: 1 is 1.0, and neither is true."""
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, list | tuple):
        return tuple(map(identity, value))
    if isinstance(value, dict):
        return frozenset((key, identity(each)) for key, each in value.items())
    found: Hashable = value
    return found


def _check_names(vary: Mapping[str, Sequence[Any]]) -> None:
    seen: set[str] = set()
    for key in vary:
        for name in _names(key):
            if not name:
                raise BadExperiment(("vary", key), "A field's name is missing beside a comma.")
            if name in seen:
                raise BadExperiment(("vary", key), f"{name} is varied twice. Name each field once.")
            seen.add(name)


def _names(key: str) -> list[str]:
    return [name.strip() for name in key.split(",")]


def _axis(key: str, values: Sequence[Any]) -> list[Values]:
    """Return what an axis gives to a cell, at each of its places."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise BadExperiment(("vary", key), "This must be a list of values.")
    if not values:
        raise BadExperiment(("vary", key), "This list is empty. Give it at least one value.")
    _check_doubles(key, values)
    names = _names(key)
    if len(names) == 1:
        return [{names[0]: value} for value in values]
    return [_zipped(key, names, index, value) for index, value in enumerate(values)]


def _check_doubles(key: str, values: Sequence[Any]) -> None:
    first: dict[Hashable, int] = {}
    for index, value in enumerate(values):
        at = first.setdefault(identity(value), index)
        if at != index:
            raise BadExperiment(
                ("vary", key, index),
                f"The value stands there twice, first at {at}. To run it more often, raise repeats.",
            )


def _zipped(key: str, names: list[str], index: int, value: Any) -> Values:
    if not isinstance(value, list | tuple) or len(value) != len(names):
        raise BadExperiment(
            ("vary", key, index), f"This must be a list of {len(names)} values, one each for {', '.join(names)}."
        )
    return dict(zip(names, value, strict=True))


def _shuffled(count: int, rng: random.Random) -> list[int]:
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order


def _values_of(field: str, cells: Sequence[Cell]) -> dict[Hashable, Any]:
    return {identity(cell.values[field]): cell.values[field] for cell in cells}


def _having(values: Mapping[str, Any], cells: Iterable[Cell]) -> list[Cell]:
    return [cell for cell in cells if all(_agrees(cell, field, value) for field, value in values.items())]


def _agrees(cell: Cell, field: str, value: Any) -> bool:
    return field in cell.values and identity(cell.values[field]) == identity(value)


def _part(cell: Cell, fields: Sequence[str]) -> tuple[Hashable, ...]:
    return tuple(identity(cell.values[field]) for field in fields)
