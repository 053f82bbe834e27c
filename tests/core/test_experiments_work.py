"""Cells that did different amounts of work: what did less is not called faster."""

from __future__ import annotations

from typing import Any

import pytest

from service.experiments import Analysis, Caution, Measure, Values, expand, work
from tests.core.experiment_runs import experiment, of_value

_TIME = Measure("wall_s", "lower", grows_with=("threads", "iterations"), instead=("per_addition_s",))
_PER_UNIT = Measure("per_addition_s", "lower")
_REMEDY = 'To compare equal work, vary "threads,iterations" together so that the product stays the same, or compare'


def measured(vary: dict[str, list[Any]], seconds: list[float], measure: Measure = _TIME, **options: Any) -> Analysis:
    """An experiment of cells that take so long, in their order."""
    by_cell = {repr(cell.values): value for cell, value in zip(expand(vary), seconds, strict=True)}

    def each(values: Values, repeat: int) -> dict[str, Any]:
        return of_value(by_cell[repr(values)])(repeat)

    return experiment(vary, each, measure=measure, **options)


class TestUnequal:
    def test_nothing_is_called_fastest(self) -> None:
        """Threads that each do as much as one alone are no slower for taking longer: the verdict says what grew."""
        expected = (
            "The work grows with threads, and the cells did different amounts of it, up to 4.00 times the least, so"
            " that none is called best. The lowest median is that of threads 1, the baseline itself: 100 ms (median of"
            " wall_s); the next, threads 2, is 2.00 times as high (95 % interval 1.98 to 2.02 times; 7 runs each), a"
            f" significant difference. {_REMEDY} per_addition_s."
        )
        verdict = measured({"threads": [1, 2, 4]}, [0.1, 0.2, 0.4])["verdict"]
        assert (expected, 0, False) == (verdict["text"], verdict["best"], verdict["same_work"])

    def test_four_times_the_work_in_the_same_time(self) -> None:
        """Where more threads take no longer for more work, nothing is said of a gain that is missing."""
        found = measured({"threads": [1, 2, 4]}, [0.2, 0.2, 0.2])
        assert ([], None) == (found["verdict"]["knees"], found["verdict"]["knee"])
        assert found["verdict"]["text"].startswith("The work grows with threads")
        assert [1.0, 2.0, 4.0] == [row["relative_work"] for row in found["rows"]]
        assert [1.0, None, None] == [row["efficiency"] for row in found["rows"]]

    def test_less_time_than_a_baseline_of_more_work_is_no_speed(self) -> None:
        """Against a baseline of four threads, one thread is not as many times as fast."""
        text = measured({"threads": [1, 4]}, [0.1, 0.4], baseline={"threads": 4})["verdict"]["text"]
        assert "100 ms (median of wall_s), lower by a factor of 4.00 than the baseline (threads 4;" in text
        assert "fast" not in text

    def test_is_warned_of(self) -> None:
        """The warning tells what is not taken into account, and what to do instead."""
        expected = Caution(
            cell=None,
            text="The work grows with threads, and the cells did different amounts of it, up to 2.00 times the least."
            " `speedup` does not take that into account: see `relative_work`. There is no efficiency for it, and no"
            " knee.",
            remedy=f"{_REMEDY} per_addition_s.",
        )
        assert [expected] == measured({"threads": [1, 2]}, [0.1, 0.2])["warnings"]

    def test_is_warned_of_before_the_first_run(self) -> None:
        """Whoever watches an experiment that compares unequal work need not wait for its end."""
        found = experiment({"threads": [1, 2]}, lambda *_: None, measure=_TIME, done=0)
        assert [1.0, 2.0] == [row["relative_work"] for row in found["rows"]]
        assert found["warnings"][0]["text"].startswith("The work grows with threads")

    def test_a_baseline_of_the_same_work_makes_the_rows_fair(self) -> None:
        """With a baseline for each amount of work there are efficiencies and knees; only the verdict compares all."""
        size = Measure("wall_s", "lower", grows_with=("tasks", "size"))
        vary = {"threads": [1, 2, 4], "size": [10, 100]}
        seconds = [0.1, 1.0, 0.05, 0.5, 0.05, 0.5]
        fair = measured(vary, seconds, size, baseline={"threads": 1})
        assert [1.0, 1.0, 1.0, 1.0, 0.5, 0.5] == [row["efficiency"] for row in fair["rows"]]
        assert [2, 2] == [knee["value"] for knee in fair["verdict"]["knees"]]
        assert fair["warnings"][0]["text"].endswith("against a baseline of the same work; the verdict compares all.")
        unfair = measured(vary, seconds, size)
        assert [1.0, None, 1.0, None, 0.5, None] == [row["efficiency"] for row in unfair["rows"]]
        assert unfair["warnings"][0]["remedy"].endswith(", or name a `baseline` by threads alone.")

    def test_a_rate_has_its_own_word(self) -> None:
        """Of what should be high the highest is told."""
        rate = Measure("items_per_s", "higher", grows_with=("work_s",))
        text = measured({"work_s": [0.1, 0.2]}, [20, 10], rate)["verdict"]["text"]
        assert "so that none is called best. The highest median is that of work_s 0.1" in text
        assert text.endswith("To compare equal work, compare cells of the same work_s only.")

    def test_some_without_a_factor(self) -> None:
        """Nobody can say how much more work a pause is than none, but that it is not the same."""
        pause = Measure("wall_s", "lower", grows_with=("steps", "delay_s"))
        found = measured({"delay_s": [0, 1.0]}, [0.1, 1.1], pause)
        assert ([1.0, None], False) == ([row["relative_work"] for row in found["rows"]], found["verdict"]["same_work"])
        assert "the cells did different amounts of it, so that none is called best." in found["verdict"]["text"]


class TestEqual:
    @pytest.mark.parametrize("shares", [[[1, 300], [2, 150], [4, 75]], [[1, 100_000], [2, 50_000], [3, 33_333]]])
    def test_work_that_is_shared_is_compared(self, shares: list[list[int]]) -> None:
        """Fields that vary together so that their product stays the same, or nearly, are the same work."""
        found = measured({"threads,iterations": shares}, [0.4, 0.2, 0.2])
        assert found["verdict"]["text"].startswith("Fastest is threads 2, iterations ")
        assert (True, []) == (found["verdict"]["same_work"], found["warnings"])
        assert [1.0, 1.0] == [row["efficiency"] for row in found["rows"][:2]]
        assert [2] == [knee["value"] for knee in found["verdict"]["knees"]]

    def test_a_measure_per_unit_is_compared(self) -> None:
        """What one addition takes may be compared, however many there were."""
        found = measured({"threads": [1, 2]}, [1e-6, 5e-7], _PER_UNIT)
        assert found["verdict"]["text"].startswith("Fastest is threads 2: 500 ns")
        assert ([1.0, 1.0], []) == ([row["relative_work"] for row in found["rows"]], found["warnings"])

    def test_a_field_that_makes_no_work(self) -> None:
        """The lock is no work of its own."""
        assert measured({"lock": [True, False]}, [0.3, 0.04])["verdict"]["same_work"]

    def test_cells_without_a_value_do_not_count(self) -> None:
        """Of cells that can be called best only those with values are held against each other."""

        def each(values: Values, repeat: int) -> dict[str, Any] | None:
            return None if values["threads"] == 4 else of_value(0.1)(repeat)

        assert experiment({"threads": [1, 4], "lock": [True, False]}, each, measure=_TIME)["verdict"]["same_work"]


def test_several_fields_are_named_with_each_other() -> None:
    """What can be varied together is told by the fields that were varied, else by each that could go with them."""
    measure = Measure("wall_s", "lower", grows_with=("threads", "steps", "delay_s"))
    one = measured({"steps": [1, 2]}, [1, 2], measure)["warnings"][0]["remedy"]
    assert 'vary "threads,steps" or "steps,delay_s" together' in one
    two = measured({"delay_s": [1, 2], "threads": [1, 2]}, [1, 2, 2, 4], measure)["warnings"][0]["remedy"]
    assert 'vary "threads,delay_s" together' in two


def test_amounts_are_alike_to_a_hundredth() -> None:
    """What no whole number of additions could make equal is equal enough."""
    assert work.alike(0.995)
    assert work.alike(1.005)
    assert not any(map(work.alike, (None, 0.98, 1.02)))
