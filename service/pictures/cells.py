"""A line for each cell: its values, the median of the measure with its interval, and how often each outcome was seen.

Who uses it: `chart`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.experiments import Analysis
from service.experiments.rows import Row
from service.experiments.words import line, named
from service.pictures.axes import Axis, linear, magnitude
from service.pictures.svg import Drawn, Element, element, text

__all__ = ["draw"]

_MOST = 24  # cells; how many more there are is said
_PITCH = 24.0
_NAME = 250.0  # pixels for the values of a cell, some 38 characters
_BAR = 110.0  # pixels for the share of each outcome
_OUTCOMES = 300.0  # with the words beside the bar
_GRADES = {"acceptable": "#009e73", "interesting": "#e69f00", "forbidden": "#d55e00"}
_NO_GRADE = "#8c959f"


def draw(analysis: Analysis, width: float, top: float) -> Drawn:
    """Return a line for each cell, below `top`."""
    rows = analysis["rows"][:_MOST]
    ends = [value for row in rows for value in (row["median"], *(row["interval"] or ())) if value is not None]
    bottom = top + 30 + _PITCH * len(rows)
    axis = linear(ends, _NAME + 20, width - _OUTCOMES - 24) if ends else None
    said = _said(analysis)
    content = [
        *(_scale(axis, ends, analysis["measure"]["name"], top, bottom) if axis else ()),
        element("text", [text("outcomes")], class_="quiet", x=width - _OUTCOMES, y=top + 16),
        *(each for n, row in enumerate(rows) for each in _cell(row, axis, width, top + 42 + _PITCH * n)),
        *(element("text", [text(each)], class_="quiet", x=12, y=bottom + 44 + 18 * n) for n, each in enumerate(said)),
    ]
    return Drawn(content, bottom + 44 + 18 * len(said))


def _said(analysis: Analysis) -> list[str]:
    grades = {seen["grade"] for row in analysis["rows"] for seen in row["outcomes"].values()}
    names = {"acceptable": "green: acceptable", "interesting": "amber: interesting", "forbidden": "red: forbidden"}
    said = [", ".join(words for grade, words in names.items() if grade in grades)]
    if len(analysis["rows"]) > _MOST:
        said.append(f"{len(analysis['rows']) - _MOST} more cells are not drawn; the table has them")
    return [words for words in said if words]


def _scale(axis: Axis, ends: Sequence[float], measure: str, top: float, bottom: float) -> Iterator[Element]:
    size, unit = magnitude(ends, measure)
    name = f"median {measure}" + (f" in {unit}" if unit else "")
    yield element("text", [text(line(name, 50))], class_="quiet", x=axis.from_px, y=top + 16)
    for tick in axis.ticks():
        x = axis.place(tick)
        yield element("line", class_="grid", x1=x, x2=x, y1=top + 24, y2=bottom + 4)
        yield element("text", [text(f"{tick / size:.6g}")], class_="quiet", x=x, y=bottom + 18, text_anchor="middle")


def _cell(row: Row, axis: Axis | None, width: float, y: float) -> Iterator[Element]:
    yield element("text", [text(line(named(row["values"]), 38))], x=12, y=y + 4)
    if axis is not None and row["median"] is not None:
        x = axis.place(row["median"])
        if row["interval"] is not None:
            low, high = (axis.place(end) for end in row["interval"])
            path = f"M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 5:.1f}v10M{high:.1f} {y - 5:.1f}v10"
            yield element("path", class_="bar dot", d=path)
        yield element("circle", class_="dot", cx=x, cy=y, r=4.5)
    yield from _outcomes(row, width - _OUTCOMES, y)


def _outcomes(row: Row, x: float, y: float) -> Iterator[Element]:
    yield element("rect", class_="rest", x=x, y=y - 6, width=_BAR, height=12)
    at = x
    for seen in row["outcomes"].values():
        length = _BAR * seen["count"] / max(row["runs"], 1)
        hue = _GRADES.get(seen["grade"] or "", _NO_GRADE)
        yield element("rect", x=at, y=y - 6, width=length, height=12, fill=hue)
        at += length
    parts = [f"{outcome} {seen['count']}" for outcome, seen in row["outcomes"].items()]
    parts += [f"{status} {count}" for status, count in row["statuses"].items() if status != "succeeded"]
    words = ", ".join(parts) or ("none yet" if not row["runs"] else "none")
    yield element("text", [text(line(words, 30))], x=x + _BAR + 8, y=y + 4)
