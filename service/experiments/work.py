"""How much work the cells of an experiment did, as far as the measure says with what its work grows.

Who uses it: `rows`, `knees`, `verdict` and `cautions`: what did less work is not called faster. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from service.experiments.plan import Cell, Measure, Values, varying
from service.experiments.words import joined, rounded

__all__ = ["Uneven", "alike", "remedy", "times", "uneven"]

_ALIKE = 1.01  # chosen: 100,000 additions cannot be cut into three equal parts, and 1 % is less than runs spread by
_LISTED = 3  # measures that are named instead


class Uneven(NamedTuple):
    """That cells did different amounts of work.

    Attributes:
        fields: those that made the difference.
        most: the most work, in terms of the least; None where one of the fields is 0 in some cells.
    """

    fields: list[str]
    most: float | None

    def sentence(self) -> str:
        """Return that it is so, without a stop at the end."""
        most = "" if self.most is None else f", up to {rounded(self.most)} times the least"
        return f"The work grows with {joined(self.fields)}, and the cells did different amounts of it{most}"


def times(one: Values, other: Values, measure: Measure) -> float | None:
    """Return how many times the work of another cell one does; None where one of its factors is 0 in one of the two."""
    factors = [(one[field], other[field]) for field in measure.grows_with if field in one]
    if any((more == 0) != (less == 0) for more, less in factors):
        return None
    ratio = 1.0
    for more, less in factors:
        ratio *= more / less if less else 1.0
    return ratio


def alike(ratio: float | None) -> bool:
    """Whether two amounts of work are the same, going by how many times the one the other is."""
    return ratio is not None and 1 / _ALIKE <= ratio <= _ALIKE


def uneven(cells: Sequence[Cell], measure: Measure) -> Uneven | None:
    """Return that these cells did different amounts of work, or None if they did not."""
    fields = [field for field in varying(cells) if field in measure.grows_with]
    if not fields:
        return None
    ratios = [times(cell.values, cells[0].values, measure) for cell in cells]
    known = [ratio for ratio in ratios if ratio is not None]
    most = max(known) / min(known) if len(known) == len(ratios) else None
    return None if alike(most) else Uneven(fields, most)


def remedy(measure: Measure, found: Uneven) -> str:
    """Return how to compare equal work, as what follows `to`."""
    others = found.fields[1:] or [field for field in measure.grows_with if field not in found.fields]
    keys = [_key(measure, found.fields[0], other) for other in others]
    ways = [f"vary {joined(keys, 'or')} together so that the product stays the same"] if keys else []
    if measure.instead:
        ways.append(f"compare {joined(measure.instead[:_LISTED], 'or')}")
    return ", or ".join(ways) or f"compare cells of the same {joined(found.fields)} only"


def _key(measure: Measure, *fields: str) -> str:
    """Return fields as the key of `vary` under which they vary together."""
    return f'"{",".join(sorted(fields, key=measure.grows_with.index))}"'
