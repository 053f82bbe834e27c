"""The verdict: in a few sentences, what an experiment showed, and how sure that is.

It speaks of what was measured and of nothing else; where the runs are too few, the intervals overlap, or the cells did
different amounts of work it says so.

Who uses it: `analysis`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from service.experiments.knees import Knee, find_knees
from service.experiments.medians import ENOUGH, Comparison
from service.experiments.outcomes import acceptable, blemish, forbidden, forbidden_sentence, outcome_sentence
from service.experiments.plan import Cell, NotCovered, Progress, identity
from service.experiments.rows import Row, Study
from service.experiments.words import counted, is_time, joined, line, named, percent, quantity, rounded
from service.experiments.work import Uneven, remedy

__all__ = ["RunnerUp", "Verdict", "judge"]

_LISTED = 4  # things not covered that are named one by one


class RunnerUp(TypedDict):
    """The cell with the second best median, and how much better than it the best one is."""

    cell: int
    speedup: float | None
    speedup_interval: list[float] | None
    significant: bool | None


class Verdict(TypedDict):
    """What the experiment showed.

    `best` is the cell with the best median of those without a forbidden outcome, if there are two to compare. Without
    `same_work` that need not be the fastest: those cells did different amounts of work, which nothing here takes into
    account. It may have got there by what is not acceptable: `best_acceptable` is the one with the best median of those
    whose runs were all acceptable, null if there is none.
    `significant` says whether it differs from its baseline, or from the second best where it is its own baseline or has
    none; `reason` says why so. `knee` is that of the best cell's group, `knees` those of all groups.
    """

    text: str
    best: int | None
    best_acceptable: int | None
    same_work: bool
    reason: str
    significant: bool | None
    second: RunnerUp | None
    knee: Knee | None
    knees: list[Knee]


def judge(
    study: Study, rows: Sequence[Row], missing: Sequence[NotCovered], progress: Progress, finished: bool
) -> Verdict:
    """Return the verdict on rows that may still grow."""
    ranked = _ranked(study, rows)
    knees = find_knees(study, ranked)
    uneven = study.uneven(row["cell"] for row in ranked)
    pair = None
    if len(ranked) > 1:
        pair = _Pair(study, ranked, not any(map(forbidden, rows)), uneven)
    significant, reason = (None, "Fewer than two cells have values to compare.") if pair is None else pair.decision()
    knee = None if pair is None else next((knee for knee in knees if _is_of(knee, pair.best)), None)
    sentences = [
        forbidden_sentence(study, rows) or outcome_sentence(study, rows, significant),
        _without_pair(study, rows, ranked, finished) if pair is None else pair.sentence(),
        "" if pair is None or knee is None else _knee_sentence(knee, pair),
        "" if uneven is None else f"To compare equal work, {remedy(study.measure, uneven)}.",
        _missing_sentence(missing, study.cells.values()),
    ]
    text = " ".join(sentence for sentence in sentences if sentence)
    return Verdict(
        text=text if finished else f"So far ({progress['done']} of {counted(progress['of'], 'run')}): {text}",
        best=None if pair is None else pair.best["cell"],
        best_acceptable=None if pair is None or pair.acceptable is None else pair.acceptable["cell"],
        same_work=uneven is None,
        reason=reason,
        significant=significant,
        second=None if pair is None else pair.runner_up(),
        knee=knee,
        knees=knees,
    )


class _Pair:
    """The best cell and the second best, of rows in the order of their medians."""

    def __init__(self, study: Study, ranked: Sequence[Row], of_all: bool, uneven: Uneven | None) -> None:
        self.study = study
        self.of_all = of_all  # no cell was left out for a forbidden outcome
        self.uneven = uneven
        self.is_speed = is_time(study.measure) and uneven is None  # less time for less work is no speed
        self.best, self.second = best, second = ranked[:2]
        self.acceptable = next(filter(acceptable, ranked), None)
        base = best["baseline"]
        self.base = base if base != best["cell"] and base is not None and study.samples[base].size else None
        self.own_baseline = base == best["cell"]
        self.to_second = study.compare(best["cell"], second["cell"])
        self.to_base = None if self.base is None else study.compare(best["cell"], self.base)

    def decision(self) -> tuple[bool | None, str]:
        """Return whether the difference that matters is significant, and why so."""
        other = self.second["cell"] if self.base is None else self.base
        comparison = self.to_second if self.base is None else self.to_base
        assert comparison is not None
        sizes = _sizes(self.best["n"], self.study.samples[other].size)
        if comparison.significant is None:
            return None, f"With {sizes} no difference can be significant at the 5 % level."
        excludes = "excludes" if comparison.apart else "includes"
        interval = f"ratio {excludes} 1" if comparison.interval else f"difference {excludes} 0"
        test = f"the Mann-Whitney test gives p = {rounded(comparison.p)}"
        return comparison.significant, f"The interval of the {interval}, and {test}, with {sizes}."

    def runner_up(self) -> RunnerUp:
        """Return how the second best compares."""
        found = self.to_second
        assert found is not None
        interval = None if found.interval is None else list(found.interval)
        return RunnerUp(
            cell=self.second["cell"], speedup=found.speedup, speedup_interval=interval, significant=found.significant
        )

    def sentence(self) -> str:
        """Return which cell is best, by how much, and how sure that is."""
        significant, _ = self.decision()
        against = "" if self.base is None else f", {self._against(self.base)}"
        itself = ", the baseline itself" if self.own_baseline else ""
        median = _median(self.study, self.best)
        name = self.study.name(self.best["cell"])
        though = f", though {blemish(self.best)}" if self.acceptable is not self.best else ""
        behind = "" if self.second["cell"] == self.base else f"; {self._behind(significant)}"
        return f"{self._opening(significant)}{name}{itself}{though}: {median}{against}{behind}{self._instead()}."

    def _opening(self, significant: bool | None) -> str:
        others = "" if self.of_all else " of the others"
        if self.uneven is not None:
            end = "lowest" if self.study.measure.better == "lower" else "highest"
            return f"{self.uneven.sentence()}, so that none is called best. The {end} median{others} is that of "
        if significant:
            measure = self.study.measure
            best = "Fastest" if self.is_speed else f"Best ({measure.better} is better)"
            return f"{best}{others} is "
        if significant is None:
            return "Too few runs to say which is best; the best median is that of "
        other = "between the best two" if self.base is None else "from the baseline"
        return f"No significant difference {other}; the best median is that of "

    def _instead(self) -> str:
        """Which cell is the best of those whose runs were all acceptable, if it is another one."""
        if self.acceptable is self.best:
            return ""
        if self.acceptable is None:
            return "; there is no cell whose runs were all acceptable"
        name, median = self.study.name(self.acceptable["cell"]), self.study.samples[self.acceptable["cell"]].median
        value = quantity(median, self.study.measure.name)
        return f"; of the cells whose runs were all acceptable {name} has the best median, {value}"

    def _against(self, base: int) -> str:
        """How the best compares with the baseline."""
        found, sample = self.to_base, self.study.samples[base]
        assert found is not None
        known = f"{self.study.name(base)}; {_sureness(found, self.best['n'], sample.size)}"
        if found.speedup is None:
            return f"where the baseline ({known}) has {quantity(sample.median, self.study.measure.name)}"
        return f"{self._times(found.speedup)} the baseline ({known})"

    def _times(self, speedup: float) -> str:
        if self.is_speed:
            return f"{rounded(speedup)} times as fast as"
        if self.study.measure.better == "higher":
            return f"{rounded(speedup)} times as high as"
        return f"lower by a factor of {rounded(speedup)} than"

    def _behind(self, significant: bool | None) -> str:
        """How the second best compares with the best."""
        found = self.to_second
        assert found is not None
        place = "second best" if self.uneven is None else "next"
        text = f"the {place}, {self.study.name(self.second['cell'])}, {self._distance(found)}"
        if self.base is None:
            text = f"{text} ({_sureness(found, self.best['n'], self.second['n'])})"
        if found.significant is None:
            return text if significant is None else f"{text}, and its runs are too few to tell the two apart"
        return f"{text}, {'a' if found.significant else 'not a'} significant difference"

    def _distance(self, found: Comparison) -> str:
        if found.speedup is None:
            return f"has {quantity(self.study.samples[self.second['cell']].median, self.study.measure.name)}"
        if found.speedup < 1.0005:  # what would be printed as 0.0 %
            return "has the same"
        if self.study.measure.better == "higher":
            return f"is {percent(1 - 1 / found.speedup)} lower"
        takes, more, much = ("takes", "longer", "long") if self.is_speed else ("is", "higher", "high")
        if found.speedup < 2:
            return f"{takes} {percent(found.speedup - 1)} {more}"
        return f"{takes} {rounded(found.speedup)} times as {much}"


def _ranked(study: Study, rows: Sequence[Row]) -> list[Row]:
    """Return the rows that may be called best, the best median first; of equals the first cell."""
    sign = 1 if study.measure.better == "lower" else -1
    candidates = [row for row in rows if row["n"] and not forbidden(row)]
    return sorted(candidates, key=lambda row: (sign * study.samples[row["cell"]].median, row["cell"]))


def _without_pair(study: Study, rows: Sequence[Row], ranked: Sequence[Row], finished: bool) -> str:
    measured = sum(1 for row in rows if row["n"])
    if measured == 0:
        return _nothing(study, rows, finished)
    if not ranked:
        return "Every cell with values had one, so that none is called best."
    (row,) = ranked
    why = "Only one cell has values" if measured == 1 else "Only one cell has values and nothing forbidden"
    why = "There is one cell" if len(rows) == 1 else why
    median, interval = _median(study, row), row["interval"]
    spread = ""
    if interval is not None:
        low, high = (quantity(end, study.measure.name) for end in interval)
        spread = f", 95 % interval {low} to {high}" if row["n"] >= ENOUGH else f", from {low} to {high}"
    name = study.name(row["cell"])
    return f"{why}, so there is nothing to compare it with: {name}: {median}{spread}, {counted(row['n'], 'run')}."


def _nothing(study: Study, rows: Sequence[Row], finished: bool) -> str:
    if not finished:
        return "there is nothing to compare yet."
    runs = sum(row["runs"] for row in rows)
    if not runs:
        return "Nothing was run, so there is nothing to compare."
    broken = sum(sum(row["statuses"].values()) for row in rows)
    told = f", and {broken} of {counted(runs, 'run')} did not succeed" if broken else ""
    return f"There is nothing to compare: no run has a value of {study.measure.name}{told}."


def _median(study: Study, row: Row) -> str:
    return f"{quantity(study.samples[row['cell']].median, study.measure.name)} (median of {study.measure.name})"


def _sureness(found: Comparison, one: int, other: int) -> str:
    """Return the interval of a ratio, and of how many runs it is."""
    sizes = _sizes(one, other)
    if found.interval is None:
        return sizes
    low, high = map(rounded, found.interval)
    if min(one, other) < ENOUGH:
        return f"interval {low} to {high} times, of too few runs for 95 %; {sizes}"
    return f"95 % interval {low} to {high} times; {sizes}"


def _sizes(one: int, other: int) -> str:
    return f"{counted(one, 'run')} each" if one == other else f"{one} and {counted(other, 'run')}"


def _is_of(knee: Knee, row: Row) -> bool:
    return all(identity(row["values"][field]) == identity(value) for field, value in knee["others"].items())


def _knee_sentence(knee: Knee, pair: _Pair) -> str:
    significant, _ = pair.decision()
    if significant is not True and not pair.own_baseline:
        return ""  # said already: nothing can be told apart
    if knee["at_start"] and knee["cell"] == pair.best["cell"]:
        return ""  # said already: the smallest number is the best
    place = named({knee["field"]: knee["value"]})
    if knee["at_end"]:
        others = f" with {named(knee['others'])}" if knee["others"] else ""
        return f"No knee was seen{others} up to {place}, the most that was measured."
    others = f", {named(knee['others'])}" if knee["others"] else ""
    return f"The knee lies at {place}{others}: no larger number was significantly better by 5 % or more."


def _missing_sentence(missing: Sequence[NotCovered], cells: Iterable[Cell]) -> str:
    """Return what was not covered, by reason, in as few words as tell it apart from what was."""
    covered = [cell for cell in cells if not any(each.holds(cell) for each in missing)]
    by_reason: dict[str, dict[str, None]] = {}  # a dict keeps the order
    for each in missing:
        own = {field: value for field, value in each.values.items() if not _has(covered, field, value)}
        by_reason.setdefault(line(each.reason).rstrip("."), {})[named(own or each.values) or "everything"] = None
    if not by_reason:
        return ""
    return f"Not covered: {'; '.join(_because(list(what), reason) for reason, what in by_reason.items())}."


def _has(cells: Sequence[Cell], field: str, value: object) -> bool:
    return any(field in cell.values and identity(cell.values[field]) == identity(value) for cell in cells)


def _because(what: list[str], reason: str) -> str:
    told = joined(what if len(what) <= _LISTED else [*what[: _LISTED - 1], f"{len(what) - _LISTED + 1} more"])
    if reason.startswith("not "):
        return f"{told}, which {'is' if len(what) == 1 else 'are'} {reason}"
    return f"{told}, {reason}" if reason.startswith("which ") else f"{told} ({reason})"
