"""What was observed, beside what was measured: the outcomes of an experiment in a sentence.

Who uses it: `verdict`. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from service.experiments.plan import identity, varying
from service.experiments.rows import Row, Study
from service.experiments.words import counted, joined, named

__all__ = ["acceptable", "blemish", "forbidden", "forbidden_sentence", "outcome_sentence"]

_NAMED = 3  # cells that are named one by one
_LISTED = 4  # values of a field that are told one by one


def forbidden(row: Row) -> list[str]:
    """Return the forbidden outcomes that a cell's runs ended with."""
    return [name for name, seen in row["outcomes"].items() if seen["grade"] == "forbidden"]


def acceptable(row: Row) -> bool:
    """Whether a cell has runs, and each ended with an outcome that is acceptable."""
    return 0 < row["runs"] == _acceptable_runs(row)


def blemish(row: Row) -> str:
    """Return how many of a cell's runs were not acceptable, and what they ended with; nothing if all were."""
    bad = row["runs"] - _acceptable_runs(row)
    if not bad:
        return ""
    names = [name for name, seen in row["outcomes"].items() if seen["grade"] != "acceptable"]
    if row["runs"] > sum(seen["count"] for seen in row["outcomes"].values()):
        names.append("no outcome")
    return f"{bad} of its {_runs(row['runs'])} {'was' if bad == 1 else 'were'} not acceptable ({joined(names)})"


def _acceptable_runs(row: Row) -> int:
    return sum(seen["count"] for seen in row["outcomes"].values() if seen["grade"] == "acceptable")


def forbidden_sentence(study: Study, rows: Sequence[Row]) -> str:
    """Return the sentence that comes first if anything forbidden was seen, else nothing."""
    seen = [(name, row) for row in rows for name in forbidden(row)]
    if not seen:
        return ""
    told = [
        f"{name} in {row['outcomes'][name]['count']} of {_runs(row['runs'])} with {study.name(row['cell'])}"
        for name, row in seen[:_NAMED]
    ]
    if len(seen) > _NAMED:
        told = [*told[: _NAMED - 1], f"the like in {counted(len(seen) - _NAMED + 1, 'cell')} more"]
    cells = "that cell is" if len({row["cell"] for _, row in seen}) == 1 else "those cells are"
    return f"Forbidden outcome seen: {joined(told)}; {cells} not called best."


def outcome_sentence(study: Study, rows: Sequence[Row], significant: bool | None) -> str:
    """Return where the interesting outcomes were seen; where there are none and no cell is better, any that differ."""
    interesting = {name for row in rows for name, seen in row["outcomes"].items() if seen["grade"] == "interesting"}
    if interesting:
        spreads = sorted((_spread(study, rows, name) for name in interesting), key=_by_contrast)
        return f"Outcomes: {'; '.join(_told(spread) for spread in spreads[:2])}."
    if significant:
        return ""
    names = {name for row in rows for name in row["outcomes"]}
    spreads = [spread for spread in (_spread(study, rows, name) for name in names) if spread.contrast]
    return f"Outcomes: {_told(min(spreads, key=_by_contrast))}." if spreads else ""


class _Place(NamedTuple):
    """In how many of the runs with one value of a field an outcome was seen."""

    what: str
    hits: int
    runs: int

    @property
    def rate(self) -> float:
        return self.hits / self.runs


class _Spread(NamedTuple):
    """Where an outcome was seen, by the values of the field that tells most; without such a field it is one place."""

    name: str
    contrast: float
    places: list[_Place]


def _spread(study: Study, rows: Sequence[Row], name: str) -> _Spread:
    ran = [row for row in rows if row["runs"]]
    everywhere = _Spread(name, 0.0, _places(ran, name, None))
    fields = varying(study.cells[row["cell"]] for row in ran)
    spreads = [_Spread(name, _contrast(places), places) for places in (_places(ran, name, field) for field in fields)]
    return max([everywhere, *spreads], key=lambda spread: spread.contrast)  # the first of equals


def _places(rows: Sequence[Row], name: str, field: str | None) -> list[_Place]:
    groups: dict[object, list[Row]] = {}
    for row in rows:
        groups.setdefault(None if field is None else identity(row["values"][field]), []).append(row)
    return [
        _Place(
            "" if field is None else named({field: group[0]["values"][field]}),
            sum(row["outcomes"][name]["count"] for row in group if name in row["outcomes"]),
            sum(row["runs"] for row in group),
        )
        for group in groups.values()
    ]


def _contrast(places: Sequence[_Place]) -> float:
    return max(place.rate for place in places) - min(place.rate for place in places)


def _by_contrast(spread: _Spread) -> tuple[float, str]:
    return -spread.contrast, spread.name


def _told(spread: _Spread) -> str:
    places = spread.places
    if len(places) > _LISTED:
        places = [max(places, key=lambda place: place.rate), min(places, key=lambda place: place.rate)]
        most, least = (f"{place.hits or 'none'} of {_runs(place.runs)} with {place.what}" for place in places)
        return f"{spread.name} from {most} to {least}"
    by_rate = sorted(places, key=lambda place: -place.rate)
    return f"{spread.name} in {joined([_at(place) for place in by_rate])}"


def _at(place: _Place) -> str:
    return f"{place.hits or 'none'} of {_runs(place.runs)}" + (f" with {place.what}" if place.what else "")


def _runs(number: int) -> str:
    return counted(number, "run")
