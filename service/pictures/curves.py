"""Curves over a number that was varied: speedup over workers with its ideal line and knees, else the measure's medians.

Speedup is that of equal work. Where the cells did more or less than their baselines, the medians are shown.

Who uses it: `chart`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from service.experiments import Analysis
from service.experiments.outcomes import forbidden
from service.experiments.plan import WORKERS, identity
from service.experiments.rows import Row
from service.experiments.words import joined, line, named
from service.experiments.work import alike
from service.pictures.axes import Axis, doubling, linear, magnitude
from service.pictures.svg import Drawn, Element, element, text

__all__ = ["draw", "field"]

_FEWEST = 3  # values of a field that make a curve
_WIDE = 8.0  # from the least to the greatest: from here on, equal ratios get equal room
_LEFT, _RIGHT = 64.0, 24.0
_HEIGHT = 280.0
_HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MOST_FIGURES = 16  # along the axis
_LABEL, _LINE = 120.0, 13.0  # pixels that a knee's label takes


class _Point(NamedTuple):
    """A cell on its curve."""

    x: float
    y: float
    interval: Sequence[float] | None
    row: Row


@dataclass(frozen=True, slots=True)
class _Curve:
    """Cells that differ in the field of the axis only, by that field."""

    name: str
    hue: str
    mark: int
    points: list[_Point]


def field(analysis: Analysis) -> str | None:
    """Return the varied field over which curves can be drawn; None where there is none."""
    counts: dict[str, int] = {}
    for name in analysis["rows"][0]["values"] if analysis["rows"] else ():
        values = {row["values"][name] for row in analysis["rows"] if _is_number(row["values"][name])}
        if len(values) >= _FEWEST and all(_is_number(row["values"][name]) for row in analysis["rows"]):
            counts[name] = len(values)
    return max(counts, key=lambda name: (name in WORKERS, counts[name]), default=None)


def draw(analysis: Analysis, over: str, width: float, top: float) -> Drawn:
    """Return the curves over a field, below `top`."""
    compared = [row for row in analysis["rows"] if row["speedup"] is not None] if over in WORKERS else []
    is_speedup = bool(compared) and all(alike(row["relative_work"]) for row in compared)
    all_curves = _curves(analysis, over, is_speedup)
    shown = all_curves[: len(_HUES)]
    points = [point for curve in shown for point in curve.points]
    if not points:
        return Drawn([element("text", [text("No run has given a value yet.")], x=12, y=top + 24)], top + 48)
    base = _base(analysis, over) if is_speedup else None
    bottom = top + 30 + _HEIGHT
    across = _across(points, width)
    up = _up(points, across, base, bottom, top + 30)
    size, unit = (1.0, "") if is_speedup else magnitude([point.y for point in points], analysis["measure"]["name"])
    name = "speedup" if is_speedup else " ".join(filter(None, ["median", analysis["measure"]["name"], f"in {unit}"]))
    content = [
        *_grid(across, up, {point.x for point in points}, size),
        element("text", [text(name.removesuffix(" in "))], class_="quiet", x=12, y=top + 14),
        element("text", [text(over)], class_="quiet", x=across.to_px, y=bottom + 34, text_anchor="end"),
        *_ideal(across, up, base),
        *(each for curve in shown for each in _curve(curve, across, up)),
        *_knees(analysis, over, shown, across, up),
    ]
    notes = _notes(analysis, len(all_curves) - len(shown), base)
    if compared and not is_speedup:
        notes.insert(0, "the cells did different amounts of work: no speedup, and no ideal line")
    return Drawn([*content, *_legend(shown, notes, bottom + 54)], bottom + 62 + 18 * (len(shown) + len(notes)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _curves(analysis: Analysis, over: str, is_speedup: bool) -> list[_Curve]:
    groups: dict[object, list[Row]] = {}
    for row in analysis["rows"]:
        others = [value for name, value in row["values"].items() if name != over]
        groups.setdefault(identity(others), []).append(row)
    found = []
    for number, rows in enumerate(groups.values()):
        points = [_point(row, over, is_speedup) for row in rows]
        name = named({name: value for name, value in rows[0]["values"].items() if name != over}) or "measured"
        ordered = sorted((point for point in points if point is not None), key=lambda point: point.x)
        found.append(_Curve(name, _HUES[number % len(_HUES)], number, ordered))
    return found


def _point(row: Row, over: str, is_speedup: bool) -> _Point | None:
    value, interval = (row["speedup"], row["speedup_interval"]) if is_speedup else (row["median"], row["interval"])
    return None if value is None else _Point(row["values"][over], value, interval, row)


def _base(analysis: Analysis, over: str) -> float | None:
    """How many workers have speedup 1, if that is the same for all cells."""
    found = {row["values"][over] for row in analysis["rows"] if row["baseline"] == row["cell"]}
    return found.pop() if len(found) == 1 else None


def _across(points: Sequence[_Point], width: float) -> Axis:
    values = [point.x for point in points]
    if min(values) > 0 and max(values) / min(values) >= _WIDE:
        return doubling(values, _LEFT + 12, width - _RIGHT)
    low, high = min(values), max(values)
    return Axis(low, high if high > low else low + 1, _LEFT + 12, width - _RIGHT, doubling=False)


def _up(points: Sequence[_Point], across: Axis, base: float | None, bottom: float, top: float) -> Axis:
    values = [value for point in points for value in (point.y, *(point.interval or ()))]
    if base:
        values += [across.high / base]
    if across.doubling and min(values) > 0 and max(values) / min(values) >= _WIDE / 2:
        return doubling([*values, *([0.5] if base and min(values) < 1 else [])], bottom, top)
    return linear(values, bottom, top)


def _grid(across: Axis, up: Axis, places: set[float], size: float) -> Iterator[Element]:
    for tick in up.ticks():
        y = up.place(tick)
        yield element("line", class_="grid", x1=_LEFT, x2=across.to_px + 8, y1=y, y2=y)
        yield element("text", [text(f"{tick / size:.6g}")], class_="quiet", x=_LEFT - 8, y=y + 4, text_anchor="end")
    ordered = sorted(places)
    every = -(-len(ordered) // _MOST_FIGURES)
    for place in ordered[::every]:
        x = across.place(place)
        yield element("line", class_="grid", x1=x, x2=x, y1=up.to_px, y2=up.from_px + 4)
        yield element("text", [text(f"{place:.6g}")], class_="quiet", x=x, y=up.from_px + 18, text_anchor="middle")


def _ideal(across: Axis, up: Axis, base: float | None) -> Iterator[Element]:
    if base:
        places = [across.place(x) for x in (across.low, across.high)]
        heights = [up.place(x / base) for x in (across.low, across.high)]
        if across.doubling == up.doubling:  # else the ideal is no straight line here: draw it point by point
            yield element("line", class_="ideal", x1=places[0], y1=heights[0], x2=places[1], y2=heights[1])
        else:
            steps = [across.low + (across.high - across.low) * n / 64 for n in range(65)]
            path = " ".join(f"{across.place(x):.1f},{up.place(x / base):.1f}" for x in steps)
            yield element("polyline", class_="ideal", points=path, fill="none")
        yield element("text", [text("ideal")], class_="quiet", x=places[1], y=heights[1] - 6, text_anchor="end")


def _curve(curve: _Curve, across: Axis, up: Axis) -> Iterator[Element]:
    path = " ".join(f"{across.place(point.x):.1f},{up.place(point.y):.1f}" for point in curve.points)
    yield element("polyline", class_="curve", points=path, stroke=curve.hue)
    for point in curve.points:
        x, y = across.place(point.x), up.place(point.y)
        if point.interval is not None:
            low, high = (up.place(end) for end in point.interval)
            path = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"
            yield element("path", class_="bar", d=path, stroke=curve.hue)
        yield _mark(curve, x, y)
        if forbidden(point.row):
            yield element("text", [text("✕")], x=x, y=y - 10, text_anchor="middle")


def _mark(curve: _Curve, x: float, y: float) -> Element:
    shapes = (
        "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0",
        "M-4 -4h8v8h-8z",
        "M0 -5.5l5 9h-10z",
        "M0 -6l5 6l-5 6l-5 -6z",
        "M0 5.5l5 -9h-10z",
        "M-5 -1.5h3.5v-3.5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5z",
    )
    return element("path", d=shapes[curve.mark % len(shapes)], fill=curve.hue, transform=f"translate({x:.1f} {y:.1f})")


def _knees(analysis: Analysis, over: str, shown: Sequence[_Curve], across: Axis, up: Axis) -> Iterator[Element]:
    cells = {point.row["cell"]: point for curve in shown for point in curve.points}
    labels: dict[tuple[float, float], str] = {}
    for knee in analysis["verdict"]["knees"]:
        point = cells.get(knee["cell"])
        if knee["field"] == over and point is not None and not knee["at_end"]:
            x, y = across.place(point.x), up.place(point.y)
            words = f"more than {point.x:g}: no gain" if knee["at_start"] else f"knee: {point.x:g}"
            yield element("circle", class_="knee", cx=x, cy=y, r=10)
            near = {at[1]: other for at, other in labels.items() if abs(at[0] - x) < _LABEL}
            height, step = (y + 24, _LINE) if knee["at_start"] else (y - 12, -_LINE)  # away from the ideal line
            while any(abs(height - other) < _LINE for other in near):
                height += step
            if words not in near.values():
                labels[x, height] = words
                yield element("text", [text(words)], class_="quiet", x=x + 12, y=height)


def _notes(analysis: Analysis, more: int, base: float | None) -> list[str]:
    without = [row for row in analysis["rows"] if row["median"] is None and row["runs"]]
    said = []
    if any(map(forbidden, analysis["rows"])):
        said.append("✕: an outcome that is forbidden was seen there; its speed says nothing")
    if base:
        said.append("dashed: the ideal, as many times as fast as there are workers")
    if without:
        said.append(line(f"no value: {joined([_why(row) for row in without[:3]])}", 120))
    if len(without) > 3:
        said.append(f"no value in {len(without) - 3} more cells")
    if more > 0:
        said.append(f"{more} more combinations are not drawn; the table has them")
    return said


def _why(row: Row) -> str:
    statuses = ", ".join(f"{count} {status}" for status, count in row["statuses"].items())
    outcomes = ", ".join(f"{seen['count']} {outcome}" for outcome, seen in row["outcomes"].items())
    return f"{named(row['values'])} ({statuses or outcomes or 'none'})"


def _legend(curves: Sequence[_Curve], notes: Sequence[str], top: float) -> Iterator[Element]:
    for number, curve in enumerate(curves):
        y = top + 18 * number
        yield element("line", class_="curve", x1=_LEFT, x2=_LEFT + 28, y1=y - 4, y2=y - 4, stroke=curve.hue)
        yield _mark(curve, _LEFT + 14, y - 4)
        yield element("text", [text(line(curve.name, 110))], x=_LEFT + 36, y=y)
    for number, note in enumerate(notes, start=len(curves)):
        yield element("text", [text(note)], class_="quiet", x=_LEFT, y=top + 18 * number)
