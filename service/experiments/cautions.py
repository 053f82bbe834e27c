"""What to bear in mind about an experiment's numbers, each with what to do about it: its `warnings`.

Who uses it: `analysis`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from service.experiments.medians import ENOUGH, LEAST, coverage
from service.experiments.plan import NotCovered, Run, identity, varying
from service.experiments.rows import Row, Study, has_value, unavailable
from service.experiments.words import counted, is_time, joined, line, named, percent, quantity
from service.experiments.work import alike, remedy
from service.jobs import JobState

__all__ = ["Caution", "cautions"]

# A spread of 5 % hides differences of 5 %, the least that count for a knee. In terms of others: of normal noise the MAD
# is 0.67 standard deviations, so this is one of 7 %; pyperf (`pyperf check`) calls 10 % of the mean unstable.
_SPREAD = 0.05

_NAMED = 5  # cells that get a warning of their own of one kind; the others are counted
_USUAL = 7  # repeats that are advised: one run may fail, and ranks still reach 95 %
_COMPARISONS = 20  # from so many on, one in twenty is to be expected to differ by chance

# Noise of one mode has such a gap in 7 runs in about 1 of 100 cells (measured: normal, uniform, exponential, Pareto).
_HUMP = 3  # runs on each side of the gap
_GAP = 3.0  # times the width of the wider side


class Caution(TypedDict):
    """Something to bear in mind; `cell` is null where it is about several or all."""

    cell: int | None
    text: str
    remedy: str


def cautions(
    study: Study,
    rows: Sequence[Row],
    *,
    repeats: int,
    baseline: Mapping[str, Any] | None,
    missing: Sequence[NotCovered],
    usable_cpus: int | None,
    finished: bool,
) -> list[Caution]:
    """Return the warnings, those that explain missing numbers first."""
    return [
        *_broken(study, rows),
        *_baselines(study, rows, baseline, missing, finished),
        *_uneven(study, rows),
        *_few(study, rows, repeats, finished),
        *_unstable(study, rows, repeats, usable_cpus),
        *_loaded(study, usable_cpus),
        *_two_humps(study, rows),
        *_constant(study, rows),
        *_versions(study, rows),
        *_by_chance(rows),
    ]


def _broken(study: Study, rows: Sequence[Row]) -> Iterator[Caution]:
    """Runs without a value, put together by what went wrong."""
    by_cause: dict[tuple[str, str], list[Run]] = {}
    for row in rows:
        for run in study.runs[row["cell"]]:
            if not has_value(run) and not unavailable(run):
                by_cause.setdefault((str(run.status), line(run.reason or "")), []).append(run)
    for (status, reason), runs in by_cause.items():
        cells = list(dict.fromkeys(run.cell for run in runs))
        did = f"had no {study.measure.name}" if status == JobState.SUCCEEDED else f"ended as {status}"
        of = sum(len(study.runs[cell]) for cell in cells)
        text = f"{len(runs)} of {counted(of, 'run')} of {_cells(study, cells)} {did}{': ' + reason if reason else ''}"
        yield Caution(cell=_only(cells), text=_ended(text), remedy=_mend(status, runs[0]))


def _mend(status: str, run: Run) -> str:
    if status == JobState.SUCCEEDED:
        return "Choose another `measure`, or vary other values."
    if status == JobState.TIMED_OUT:
        return f"Raise `timeout_s`, or read the job {run.job_id}."
    return f"Read the job {run.job_id}: its `error` and `output` tell more."


def _baselines(
    study: Study, rows: Sequence[Row], baseline: Mapping[str, Any] | None, missing: Sequence[NotCovered], finished: bool
) -> Iterator[Caution]:
    """Cells that have values and nothing to compare them with."""
    lonely: dict[int | None, int] = {}
    for row in rows:
        base = row["baseline"]
        if row["n"] and (base is None or not study.samples[base].size):
            lonely[base] = lonely.get(base, 0) + 1
    for base, count in lonely.items():
        values = dict(baseline or {}) if base is None else study.cells[base].values
        why = next((f"was not covered: {line(each.reason)}" for each in missing if _overlap(each.values, values)), None)
        if why is None and not finished and base is not None:
            continue  # it is still to come
        name = named(values) if base is None else study.name(base)
        text = f"{counted(count, 'cell')} cannot be compared: the baseline ({name}) {why or 'has no values'}"
        yield Caution(cell=base, text=_ended(text), remedy="Name another `baseline`, one that can be measured.")


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether all that two say of the same fields is the same."""
    both = one.keys() & other.keys()
    return bool(both) and all(identity(one[field]) == identity(other[field]) for field in both)


def _uneven(study: Study, rows: Sequence[Row]) -> Iterator[Caution]:
    """Cells that did different amounts of work."""
    found = study.uneven(study.cells)
    if found is None:
        return
    ways = remedy(study.measure, found)
    if all(alike(row["relative_work"]) for row in rows if row["baseline"] is not None):
        text = f"{found.sentence()}. `speedup` is against a baseline of the same work; the verdict compares all."
    else:
        text = (
            f"{found.sentence()}. `speedup` does not take that into account: see `relative_work`. There is no"
            " efficiency for it, and no knee."
        )
        others = [field for field in varying(study.cells.values()) if field not in found.fields]
        ways += f", or name a `baseline` by {joined(others)} alone" if others else ""
    yield Caution(cell=None, text=text, remedy=f"To compare equal work, {ways}.")


def _few(study: Study, rows: Sequence[Row], repeats: int, finished: bool) -> Iterator[Caution]:
    remedy = f"Raise `repeats` to {_USUAL}."
    if repeats < ENOUGH:
        yield Caution(
            cell=None, text=f"{counted(repeats, 'run')} of each cell {_what_few_give(repeats)}", remedy=remedy
        )
        return
    cells = [row["cell"] for row in rows if finished and 0 < row["n"] < ENOUGH]
    if cells:
        fewest = min(study.samples[cell].size for cell in cells)
        text = f"Only {counted(fewest, 'value')} of {_cells(study, cells)} {_what_few_give(fewest)}"
        yield Caution(cell=_only(cells), text=text, remedy="See to it that the runs succeed, or raise `repeats`.")


def _what_few_give(size: int) -> str:
    if size < LEAST:
        return "give no interval, and no difference can be significant."
    sure = percent(coverage(size) or 0.0)
    text = f"are too few for a 95 % interval: least and greatest of {size} hold the true median {sure} of the time"
    return f"{text}, and no difference can be significant." if size == LEAST else f"{text}."


def _unstable(study: Study, rows: Sequence[Row], repeats: int, usable_cpus: int | None) -> Iterator[Caution]:
    spreads = {row["cell"]: _spread(row) for row in rows}
    cells = sorted((cell for cell, spread in spreads.items() if spread > _SPREAD), key=lambda cell: -spreads[cell])
    remedy = f"Close other programs, or raise `repeats` to {max(2 * repeats + 1, _USUAL)}."
    for cell in cells[:_NAMED]:
        load = max((run.load for run in study.runs[cell] if run.load is not None), default=0.0)
        busy = usable_cpus is not None and load > usable_cpus
        loaded = f", and the load average was {load:.1f} on {counted(usable_cpus or 0, 'core')}" if busy else ""
        text = f"Unstable: the spread (MAD) of {_cell(study, cell)} is {percent(spreads[cell])} of its median{loaded}."
        yield Caution(cell=cell, text=text, remedy=remedy)
    if len(cells) > _NAMED:
        text = f"Unstable: {counted(len(cells) - _NAMED, 'cell')} more spread over {percent(_SPREAD)} of the median."
        yield Caution(cell=None, text=text, remedy=remedy)


def _spread(row: Row) -> float:
    if row["n"] < LEAST or row["mad"] is None or not row["median"]:
        return 0.0
    return row["mad"] / abs(row["median"])


def _loaded(study: Study, usable_cpus: int | None) -> Iterator[Caution]:
    loads = [run.load for runs in study.runs.values() for run in runs if run.load is not None]
    over = [load for load in loads if usable_cpus is not None and load > usable_cpus]
    if over:
        text = (
            f"Before {len(over)} of {counted(len(loads), 'run')} the load average was above the"
            f" {counted(usable_cpus or 0, 'usable core')}, {max(over):.1f} at most."
        )
        remedy = "Close other programs. If there are none, it was the runs before, which count in it for minutes."
        yield Caution(cell=None, text=text, remedy=remedy)


def _two_humps(study: Study, rows: Sequence[Row]) -> Iterator[Caution]:
    name = study.measure.name
    gaps = {row["cell"]: gap for row in rows if (gap := _gap(study.samples[row["cell"]].values)) is not None}
    for cell, (low, high) in list(gaps.items())[:_NAMED]:
        text = (
            f"The values of {_cell(study, cell)} fall into two groups, up to {quantity(low, name)} and from"
            f" {quantity(high, name)}; the median lies in one of them or between."
        )
        yield Caution(cell=cell, text=text, remedy="Look at `raw`: something else decides in which group a run falls.")


def _gap(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the ends of a gap that parts the values in two groups, if there is one."""
    for place in range(_HUMP, len(values) - _HUMP + 1):
        low, high = values[place - 1], values[place]
        width = max(low - values[0], values[-1] - high)
        if len(values) > 2 * _HUMP and high - low > max(_GAP * width, _SPREAD * abs(low)):
            return low, high
    return None


def _constant(study: Study, rows: Sequence[Row]) -> Iterator[Caution]:
    cells = [row["cell"] for row in rows if row["n"] >= LEAST and row["min"] == row["max"]]
    if not cells:
        return
    first = quantity(study.samples[cells[0]].median, study.measure.name)
    same = f", in {_cell(study, cells[0])} {first}" if len(cells) > 1 else f": {first}"
    text = f"All values of {_cells(study, cells)} are equal{same}."
    if is_time(study.measure):
        yield Caution(
            cell=_only(cells),
            text=f"{text} The clock may be too coarse for so short a time.",
            remedy="Make each run longer, for example by more iterations.",
        )
    else:
        yield Caution(
            cell=_only(cells),
            text=f"{text} {study.measure.name} does not vary there.",
            remedy="If that is not what you expect, choose another `measure`.",
        )


def _versions(study: Study, rows: Sequence[Row]) -> Iterator[Caution]:
    cells = [row["cell"] for row in rows if row["python"] and ", " in row["python"]]
    if cells:
        first = next(row["python"] for row in rows if row["cell"] == cells[0])
        text = f"The runs of {_cells(study, cells)} were made by different versions of Python: {first}."
        yield Caution(cell=_only(cells), text=text, remedy="Run the experiment again, with the version in `python`.")


def _by_chance(rows: Sequence[Row]) -> Iterator[Caution]:
    tested = sum(row["significant"] is not None for row in rows)
    if tested > _COMPARISONS:
        text = (
            f"{tested} cells were compared, each at the 5 % level: if none differed in truth, up to about"
            f" {round(tested / 20)} of them would still be called significant."
        )
        yield Caution(cell=None, text=text, remedy="Run the few that matter again, in an experiment of their own.")


def _only(cells: Sequence[int]) -> int | None:
    return cells[0] if len(cells) == 1 else None


def _cell(study: Study, cell: int) -> str:
    return f"cell {cell} ({study.name(cell)})"


def _cells(study: Study, cells: Sequence[int]) -> str:
    more = f" and {counted(len(cells) - 1, 'cell')} more" if len(cells) > 1 else ""
    return f"{_cell(study, cells[0])}{more}"


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
