"""The verdict of an experiment, word for word where that is what people read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.experiments import Measure, NotCovered, Verdict, expand
from service.experiments.words import quantity, rounded, shown
from tests.core.experiment_runs import NOISY, RATE, STEADY, experiment, of_value


def _acceptable(_cell: dict[str, Any], _repeat: int) -> tuple[str, str]:
    return "exact", "acceptable"


def _lost_without_lock(cell: dict[str, Any], _repeat: int) -> tuple[str, str]:
    return _acceptable(cell, 0) if cell["lock"] else ("lost", "interesting")


def told(
    vary: dict[str, list[Any]],
    values: Sequence[float],
    outcome: Callable[[dict[str, Any], int], tuple[str, str]] = _acceptable,
    noise: Sequence[float] = STEADY,
    **options: Any,
) -> Verdict:
    """The verdict on an experiment with such values in its cells, in their order."""
    by_cell = {repr(cell.values): value for cell, value in zip(expand(vary), values, strict=True)}

    def each(cell: dict[str, Any], repeat: int) -> dict[str, Any]:
        name, grade = outcome(cell, repeat)
        return {**of_value(by_cell[repr(cell)], noise)(repeat), "outcome": name, "grade": grade}

    return experiment(vary, each, **options)["verdict"]


_MATRIX = {"threads": [1, 2, 4, 8], "model": ["threads", "processes"]}
_TIMES = [0.4, 0.42, 0.41, 0.21, 0.43, 0.105, 0.46, 0.104]


class TestTexts:
    def test_threads_by_model(self) -> None:
        """Which is best, by how much, how sure, the second best, the knee, and what was not covered."""
        missing = [NotCovered({"model": "interpreters"}, "not installed")]
        expected = (
            "Fastest is threads 8, model processes: 104 ms (median of wall_s), 3.85 times as fast as the baseline"
            " (threads 1, model threads; 95 % interval 3.80 to 3.89 times; 7 runs each); the second best, threads 4,"
            " model processes, takes 1.0 % longer, not a significant difference. The knee lies at threads 4, model"
            " processes: no larger number was significantly better by 5 % or more. Not covered: model interpreters,"
            " which is not installed."
        )
        assert expected == told(_MATRIX, _TIMES, not_covered=missing)["text"]

    def test_each_group_with_its_own_baseline(self) -> None:
        """The baseline that is named is that of the best cell's group."""
        text = told(_MATRIX, _TIMES, baseline={"threads": 1})["text"]
        assert "4.04 times as fast as the baseline (threads 1, model processes; 95 % interval" in text

    def test_more_threads_do_not_help(self) -> None:
        """Where the baseline is the best, it is held against the second best."""
        expected = (
            "Fastest is threads 1, the baseline itself: 400 ms (median of wall_s); the second best, threads 2, takes"
            " 2.5 % longer (95 % interval 1.01 to 1.04 times; 7 runs each), a significant difference."
        )
        assert expected == told({"threads": [1, 2, 4]}, [0.4, 0.41, 0.43])["text"]

    def test_the_lock_costs(self) -> None:
        """What came out is told before which is faster, and that the faster one is broken with how fast it is."""
        expected = (
            "Outcomes: lost in 7 of 7 runs with lock false and none of 7 runs with lock true. Fastest is lock false,"
            " though 7 of its 7 runs were not acceptable (lost): 40.0 ms (median of wall_s), 7.50 times as fast as the"
            " baseline (lock true; 95 % interval 7.42 to 7.58 times; 7 runs each); of the cells whose runs were all"
            " acceptable lock true has the best median, 300 ms."
        )
        found = told({"lock": [True, False]}, [0.3, 0.04], _lost_without_lock)
        assert (expected, 1, 0) == (found["text"], found["best"], found["best_acceptable"])

    def test_the_lock_costs_nothing(self) -> None:
        """Cells of the same measure differ in their outcomes."""
        expected = (
            "Outcomes: lost in 7 of 7 runs with lock false and none of 7 runs with lock true. No significant difference"
            " between the best two; the best median is that of lock true, the baseline itself: 300 ms (median of"
            " wall_s); the second best, lock false, has the same (95 % interval 0.989 to 1.01 times; 7 runs each), not"
            " a significant difference."
        )
        assert expected == told({"lock": [True, False]}, [0.3, 0.3], _lost_without_lock)["text"]

    def test_one_cell(self) -> None:
        """Its median is told, and that there is nothing to compare."""
        expected = (
            "There is one cell, so there is nothing to compare it with: threads 4: 200 ms (median of wall_s), 95 %"
            " interval 198 ms to 202 ms, 7 runs."
        )
        assert expected == told({"threads": [4]}, [0.2])["text"]
        expected = (
            "There is one cell, so there is nothing to compare it with: threads 4: 200 ms (median of wall_s), from 198"
            " ms to 202 ms, 5 runs."
        )
        assert expected == told({"threads": [4]}, [0.2], repeats=5)["text"]

    def test_nothing_finished(self) -> None:
        """Before the first run is over nothing is said of any cell."""
        expected = "So far (0 of 14 runs): there is nothing to compare yet."
        assert expected == told({"threads": [1, 2]}, [0.4, 0.2], done=0)["text"]

    def test_some_finished(self) -> None:
        """The text of an experiment that still runs says how far it is."""
        expected = (
            "So far (20 of 28 runs): Fastest is threads 8: 50.0 ms (median of wall_s), 8.00 times as fast as the"
            " baseline (threads 1; interval 7.89 to 8.11 times, of too few runs for 95 %; 5 runs each); the second"
            " best, threads 4, takes 2.00 times as long, a significant difference. No knee was seen up to threads 8,"
            " the most that was measured."
        )
        assert expected == told({"threads": [1, 2, 4, 8]}, [0.4, 0.2, 0.1, 0.05], done=20)["text"]

    def test_forbidden(self) -> None:
        """It comes first, and such a cell is not called best, though it may be the fastest."""

        def outcome(cell: dict[str, Any], repeat: int) -> tuple[str, str]:
            return (
                ("lost", "forbidden")
                if cell == {"threads": 2, "lock": True} and repeat < 2
                else ("exact", "acceptable")
            )

        found = told({"threads": [1, 2], "lock": [False, True]}, [0.4, 0.3, 0.2, 0.1], outcome)
        expected = (
            "Forbidden outcome seen: lost in 2 of 7 runs with threads 2, lock true; that cell is not called best."
            " Fastest of the others is threads 2, lock false: 200 ms (median of wall_s), 2.00 times as fast as the"
            " baseline (threads 1, lock false; 95 % interval 1.98 to 2.02 times; 7 runs each); the second best, threads"
            " 1, lock true, takes 50 % longer, a significant difference. No knee was seen with lock false up to threads"
            " 2, the most that was measured."
        )
        assert (expected, 2) == (found["text"], found["best"])

    def test_forbidden_everywhere(self) -> None:
        """Then nothing is called best; of many cells two are named."""
        found = told({"threads": [1, 2, 4, 8]}, [1, 2, 3, 4], lambda _cell, _repeat: ("lost", "forbidden"))
        expected = (
            "Forbidden outcome seen: lost in 7 of 7 runs with threads 1, lost in 7 of 7 runs with threads 2 and the"
            " like in 2 cells more; those cells are not called best. Every cell with values had one, so that none is"
            " called best."
        )
        assert (expected, None, None) == (found["text"], found["best"], found["second"])

    def test_noise(self) -> None:
        """Where the intervals overlap, no cell is said to be faster, and no knee is told."""
        found = told({"threads": [1, 2, 4]}, [0.41, 0.4, 0.405], noise=NOISY)
        expected = (
            "No significant difference from the baseline; the best median is that of threads 2: 400 ms (median of"
            " wall_s), 1.02 times as fast as the baseline (threads 1; 95 % interval 0.816 to 1.29 times; 7 runs each);"
            " the second best, threads 4, takes 1.2 % longer, not a significant difference."
        )
        assert (expected, False, 1) == (found["text"], found["significant"], found["best"])

    def test_too_few_repeats(self) -> None:
        """Three runs show no difference, however large it looks."""
        found = told({"threads": [1, 2]}, [0.4, 0.2], repeats=3)
        expected = (
            "Too few runs to say which is best; the best median is that of threads 2: 200 ms (median of wall_s), 2.00"
            " times as fast as the baseline (threads 1; interval 1.98 to 2.02 times, of too few runs for 95 %; 3 runs"
            " each)."
        )
        assert (expected, None, []) == (found["text"], found["significant"], found["knees"])
        assert "With 3 runs each no difference can be significant at the 5 % level." == found["reason"]

    def test_more_is_better(self) -> None:
        """The words fit a rate."""
        expected = (
            "Best (higher is better) is threads 2: 19,600 per second (median of echoes_per_s), 2.00 times as high as"
            " the baseline (threads 1; 95 % interval 1.98 to 2.02 times; 7 runs each); the second best, threads 4, is"
            " 4.1 % lower, a significant difference. The knee lies at threads 2: no larger number was significantly"
            " better by 5 % or more."
        )
        assert expected == told({"threads": [1, 2, 4]}, [9800, 19600, 18800], measure=RATE)["text"]

    def test_less_of_something_that_is_no_time(self) -> None:
        """The words fit bytes."""
        text = told({"model": ["processes", "threads"]}, [9e7, 1.2e7], measure=Measure("rss_bytes", "lower"))["text"]
        expected = (
            "Best (lower is better) is model threads: 12.0 MB (median of rss_bytes), lower by a factor of 7.50 than the"
            " baseline (model processes; 95 % interval 7.42 to 7.58 times; 7 runs each)."
        )
        assert expected == text

    def test_zero(self) -> None:
        """What has no ratio is told by its medians."""
        text = told({"lock": [False, True]}, [39_100, 0], _lost_without_lock, measure=Measure("lost", "lower"))["text"]
        expected = (
            "Outcomes: lost in 7 of 7 runs with lock false and none of 7 runs with lock true. Best (lower is better) is"
            " lock true: 0 (median of lost), where the baseline (lock false; 7 runs each) has 39,100."
        )
        assert expected == text

    def test_all_failed(self) -> None:
        """Without a value there is nothing to compare; how many runs failed is told."""
        failed = {"value": None, "status": "failed", "outcome": None, "grade": None}
        text = experiment({"threads": [1, 2]}, lambda _cell, _repeat: failed)["verdict"]["text"]
        expected = "There is nothing to compare: no run has a value of wall_s, and 14 of 14 runs did not succeed."
        assert expected == text

    def test_only_one_cell_has_values(self) -> None:
        """What there is is told, without a comparison."""
        found = experiment(
            {"threads": [1, 2]}, lambda cell, repeat: of_value(0.2)(repeat) if cell["threads"] == 1 else None
        )["verdict"]
        expected = (
            "Only one cell has values, so there is nothing to compare it with: threads 1: 200 ms (median of wall_s), 95"
            " % interval 198 ms to 202 ms, 7 runs."
        )
        assert (expected, None) == (found["text"], found["best"])


class TestOutcomes:
    def test_rates_over_many_values(self) -> None:
        """Of more than four values, those with the highest and the lowest rate are told."""
        found = told(
            {"threads": [1, 2, 4, 8, 16]},
            [1] * 5,
            lambda cell, repeat: (
                ("lost", "interesting") if repeat < cell["threads"] - 1 else ("not_seen", "acceptable")
            ),
        )
        assert found["text"].startswith(
            "Outcomes: lost from 7 of 7 runs with threads 8 to none of 7 runs with threads 1. "
        )

    def test_the_field_that_tells_most(self) -> None:
        """Of two fields, the one along which an outcome differs most is named."""
        vary: dict[str, list[Any]] = {"threads": [2, 4], "lock": [True, False]}
        expected = "Outcomes: lost in 14 of 14 runs with lock false and none of 14 runs with lock true. "
        assert told(vary, [1] * 4, _lost_without_lock)["text"].startswith(expected)

    def test_an_outcome_everywhere(self) -> None:
        """An interesting outcome of every run is told without a field."""
        found = told({"threads": [2, 4]}, [1, 2], lambda _cell, _repeat: ("lost", "interesting"))
        assert found["text"].startswith("Outcomes: lost in 14 of 14 runs. ")

    def test_acceptable_outcomes_are_told_where_nothing_else_differs(self) -> None:
        """Cells alike in the measure are told apart by what came out; where one is faster, that is enough."""

        def outcome(cell: dict[str, Any], _repeat: int) -> tuple[str, str]:
            return ("cut_off" if cell["daemon"] else "finished"), "acceptable"

        expected = "Outcomes: cut_off in 7 of 7 runs with daemon true and none of 7 runs with daemon false. "
        assert told({"daemon": [True, False]}, [1, 1], outcome)["text"].startswith(expected)
        assert told({"daemon": [True, False]}, [1, 2], outcome)["text"].startswith("Fastest is daemon true")


class TestAcceptable:
    def test_one_bad_run_is_told(self) -> None:
        """A cell that lost once is not acceptable; the next that never did is named."""

        def outcome(cell: dict[str, Any], repeat: int) -> tuple[str, str]:
            return ("lost", "interesting") if cell["threads"] < 4 and repeat == 3 else ("not_seen", "acceptable")

        found = told({"threads": [1, 2, 4, 8]}, [1, 2, 3, 4], outcome)
        assert (
            "threads 1, the baseline itself, though 1 of its 7 runs was not acceptable (lost): 1.00 s" in found["text"]
        )
        assert "of the cells whose runs were all acceptable threads 4 has the best median, 3.00 s." in found["text"]
        assert (0, 2) == (found["best"], found["best_acceptable"])

    def test_a_run_without_an_outcome_is_not_acceptable(self) -> None:
        """Runs that failed or had to be killed showed nothing that could be accepted."""

        def each(cell: dict[str, Any], repeat: int) -> dict[str, Any]:
            if cell["threads"] == 1 and repeat < 2:
                ends = {"status": "failed", "outcome": None}, {"status": "timed_out", "outcome": "stuck"}
                return {"value": None, "grade": None, **ends[repeat]}
            return of_value(cell["threads"])(repeat)

        found = experiment({"threads": [1, 2]}, each)["verdict"]
        assert "though 2 of its 7 runs were not acceptable (stuck and no outcome): " in found["text"]
        assert (0, 1) == (found["best"], found["best_acceptable"])

    def test_no_cell_is(self) -> None:
        """Where each cell lost something, none is named instead."""
        found = told({"threads": [2, 4]}, [1, 2], lambda _cell, _repeat: ("lost", "interesting"))
        assert found["text"].endswith("; there is no cell whose runs were all acceptable.")
        assert (0, None) == (found["best"], found["best_acceptable"])

    def test_the_best_is(self) -> None:
        """Where nothing is to be said against the best cell, nothing is said."""
        found = told({"lock": [True, False]}, [0.04, 0.3], _lost_without_lock)
        assert "acceptable" not in found["text"]
        assert (0, 0) == (found["best"], found["best_acceptable"])

    def test_a_forbidden_outcome_is_neither(self) -> None:
        """A cell that saw what is forbidden is not the best of any."""

        def outcome(cell: dict[str, Any], _repeat: int) -> tuple[str, str]:
            return {1: ("lost", "forbidden"), 2: ("lost", "interesting")}.get(cell["threads"], ("exact", "acceptable"))

        found = told({"threads": [1, 2, 4]}, [1, 2, 3], outcome)
        assert (1, 2) == (found["best"], found["best_acceptable"])

    def test_one_cell(self) -> None:
        """Without a second cell nothing is best."""
        found = told({"lock": [True]}, [1])
        assert (None, None) == (found["best"], found["best_acceptable"])


class TestKnees:
    @pytest.mark.parametrize(
        ("times", "value", "at_start", "at_end"),
        [
            ([0.4, 0.2, 0.1, 0.05], 8, False, True),
            ([0.4, 0.2, 0.1, 0.1], 4, False, False),
            ([0.4, 0.2, 0.1, 0.096], 4, False, False),
            ([0.4, 0.2, 0.1, 0.2], 4, False, False),
            ([0.4, 0.4, 0.4, 0.2], 8, False, True),
            ([0.4, 0.4, 0.4, 0.4], 1, True, False),
            ([0.4, 0.41, 0.42, 0.43], 1, True, False),
        ],
    )
    def test_where_it_lies(self, times: list[float], value: int, at_start: bool, at_end: bool) -> None:
        """At the smallest number after which none is significantly better by 5 % or more; 4 % are not enough."""
        knee = told({"threads": [1, 2, 4, 8]}, times)["knee"]
        assert knee is not None
        assert ("threads", value, {}) == (knee["field"], knee["value"], knee["others"])
        assert (at_start, at_end) == (knee["at_start"], knee["at_end"])

    def test_a_gain_in_noise_is_none(self) -> None:
        """A median that is 10 % better moves no knee where the runs spread by more."""
        knee = told({"threads": [1, 2]}, [0.4, 0.36], noise=NOISY)["knee"]
        assert knee is not None
        assert 1 == knee["value"]

    def test_each_group_has_its_own(self) -> None:
        """There is a knee for each combination of the other fields, and the best cell's is `knee`."""
        found = told(_MATRIX, _TIMES)
        places = [(knee["others"], knee["value"], knee["cell"]) for knee in found["knees"]]
        assert [({"model": "threads"}, 1, 0), ({"model": "processes"}, 4, 5)] == places
        assert found["knee"] == found["knees"][1]

    def test_the_order_of_the_values_does_not_matter(self) -> None:
        """An axis is followed from few workers to many, however it was written."""
        knee = told({"threads": [8, 1, 4, 2]}, [0.1, 0.4, 0.1, 0.2])["knee"]
        assert knee is not None
        assert (4, 2) == (knee["value"], knee["cell"])

    def test_fields_that_vary_with_the_workers_are_part_of_the_axis(self) -> None:
        """The same work for more threads, less for each, is one axis."""
        knee = told({"threads,iterations": [[1, 400], [2, 200], [4, 100]]}, [0.4, 0.2, 0.2])["knee"]
        assert knee is not None
        assert (2, {}) == (knee["value"], knee["others"])

    def test_one_cell_has_none(self) -> None:
        """An axis needs two numbers of workers; groups of one are left out."""
        assert [] == told({"threads": [4], "lock": [True, False]}, [0.4, 0.2])["knees"]
        assert [] == told({"max_workers": [None, 4]}, [0.4, 0.2])["knees"]

    @pytest.mark.parametrize(("better", "value"), [("lower", 2), ("higher", 1)])
    def test_a_step_to_zero_is_a_gain_or_a_loss(self, better: Literal["lower", "higher"], value: int) -> None:
        """It has no ratio, and all the same a direction."""
        knee = told({"threads": [1, 2]}, [100, 0], measure=Measure("lost", better))["knee"]
        assert knee is not None
        assert value == knee["value"]

    @pytest.mark.parametrize("vary", [{"lock": [True, False]}, {"threads,processes": [[1, 1], [2, 2]]}])
    def test_without_an_axis_of_workers_there_is_none(self, vary: dict[str, list[Any]]) -> None:
        """One varied field must count workers."""
        found = told(vary, [0.4, 0.2])
        assert (None, []) == (found["knee"], found["knees"])


class TestNotCovered:
    @pytest.mark.parametrize(
        ("missing", "expected"),
        [
            ([({"python": "3.14t"}, "not installed")], "python 3.14t, which is not installed"),
            (
                [({"python": "3.14t"}, "not installed"), ({"python": "3.15"}, "not installed")],
                "python 3.14t and python 3.15, which are not installed",
            ),
            (
                [({"python": "3.14t", "threads": count}, "not installed.") for count in (1, 2)],
                "python 3.14t, which is not installed",
            ),
            (
                [({"python": "3.13", "threads": 2}, "The limit is 1 thread.")],
                "python 3.13, threads 2 (The limit is 1 thread)",
            ),
            (
                [({"python": "3.15"}, "which nobody has"), ({"threads": 512}, "The limit is 256.")],
                "python 3.15, which nobody has; threads 512 (The limit is 256)",
            ),
            (
                [({"threads": count}, "too many") for count in range(300, 310)],
                "threads 300, threads 301, threads 302 and 7 more (too many)",
            ),
        ],
    )
    def test_it_is_told_in_few_words(self, missing: list[tuple[dict[str, Any], str]], expected: str) -> None:
        """By reason, and by the values that nothing covered has; a combination is told where each alone was covered."""
        found = told(
            {"threads": [1, 2], "python": ["3.13", "3.12"]},
            [1, 1, 1, 1],
            not_covered=[NotCovered(values, reason) for values, reason in missing],
        )
        assert found["text"].endswith(f" Not covered: {expected}.")


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.2001, 0.4]), min_size=4, max_size=4),
    st.sampled_from(["acceptable", "interesting", "forbidden"]),
    st.sampled_from([STEADY, NOISY]),
    st.integers(1, 8),
    st.integers(0, 32),
)
@settings(deadline=None, max_examples=60)
def test_no_verdict_says_more_than_was_measured(
    values: list[float], grade: str, noise: Sequence[float], repeats: int, done: int
) -> None:
    """One to four sentences, and never a word such as safe, which no number of runs can show."""
    text = told(
        {"threads": [1, 4], "lock": [True, False]},
        values,
        lambda cell, repeat: ("lost", grade) if repeat > cell["threads"] else ("exact", "acceptable"),
        noise,
        repeats=repeats,
        done=min(done, 4 * repeats),
        not_covered=[NotCovered({"python": "3.14t"}, "not installed")],
    )["text"]
    assert 1 <= len(re.findall(r"[a-z0-9)]\.(?= |$)", text)) <= 4
    assert not re.search(r"\b(safe|safely|prove[sn]?|guarantee[sd]?|always|never|nan|inf|None|True|False)\b", text)


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        (0.2134, "wall_s", "213 ms"),
        (0.0009996, "wall_s", "1.00 ms"),
        (0.9999, "wall_s", "1.00 s"),
        (12.3456, "wall_s", "12.3 s"),
        (4.567e-6, "wall_s", "4.57 us"),
        (3.2e-8, "per_addition_s", "32.0 ns"),
        (0.0, "wall_s", "0 s"),
        (-0.5, "drift_s", "-500 ms"),
        (9873.2, "echoes_per_s", "9,870 per second"),
        (15_300_000.0, "rss_bytes", "15.3 MB"),
        (512.0, "rss_bytes", "512 bytes"),
        (0.0, "rss_bytes", "0 bytes"),
        (87_655.0, "lost", "87,655"),
        (0.21914, "lost_share", "0.219"),
        (1.5e-9, "share", "1.5e-09"),
    ],
)
def test_a_quantity_has_its_unit(value: float, name: str, expected: str) -> None:
    """The end of a measure's name is its unit; three digits are enough."""
    assert expected == quantity(value, name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.0, "1.00"), (999.6, "1,000"), (0.04567, "0.0457"), (0, "0"), (12.34, "12.3"), (-1.5, "-1.50"), (2e20, "2e+20")],
)
def test_a_number_has_three_digits(value: float, expected: str) -> None:
    """Without an exponent where that can be read."""
    assert expected == rounded(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "true"),
        (None, "null"),
        (4, "4"),
        ("3.13t", "3.13t"),
        ("", '""'),
        ([1, "a"], '[1, "a"]'),
        ("a\n b", "a b"),
    ],
)
def test_a_value_is_shown_as_it_is_typed(value: Any, expected: str) -> None:
    """Texts without quotes, all else as JSON, on one line."""
    assert expected == shown(value)
    assert 40 == len(shown("x" * 100))
