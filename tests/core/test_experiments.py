"""The analysis of an experiment: its rows, its warnings, its table."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.experiments import (
    Analysis,
    Caution,
    Measure,
    NotCovered,
    Row,
    Run,
    analyse,
    csv_text,
    expand,
    schedule,
    table,
)
from tests.core.experiment_runs import NOISY, RATE, STEADY, WALL, experiment, of_value, run

_CELLS = expand({"threads": [1, 2], "lock": [True, False]})

_RUNS = st.builds(
    run,
    st.integers(0, 4),  # 4 is no cell
    st.integers(0, 9),
    st.one_of(st.none(), st.sampled_from([0.0, -1.0, math.nan, math.inf]), st.floats(1e-7, 1e7)),
    job_id=st.uuids().map(str),
    status=st.sampled_from(["succeeded"] * 5 + ["failed", "timed_out"]),
    outcome=st.sampled_from(["exact", "lost", "unavailable", None]),
    grade=st.sampled_from(["acceptable", "interesting", "forbidden"]),
    load=st.one_of(st.none(), st.floats(0, 50)),
    reason=st.one_of(st.none(), st.text(max_size=20)),
    python=st.sampled_from(["3.13.0", "3.13.15t", None]),
)


def analysed(runs: list[Run], **changes: Any) -> Analysis:
    """Four cells, threads by lock, with these runs."""
    usual: dict[str, Any] = {
        "repeats": 10,
        "measure": WALL,
        "baseline": None,
        "not_covered": [],
        "usable_cpus": 2,
        "finished": True,
    }
    return analyse(_CELLS, runs, **{**usual, **changes})


def of_cell(values: list[float], cell: int = 0) -> list[Run]:
    """The runs of one cell with these values, in order of repeat."""
    return [run(cell, repeat, value) for repeat, value in enumerate(values)]


def texts(analysis: Analysis) -> list[str]:
    """The texts of the warnings."""
    return [caution["text"] for caution in analysis["warnings"]]


class TestRows:
    def test_a_row_is_computed_by_hand(self) -> None:
        """Every figure of a cell of seven runs, against a baseline of seven."""
        runs = [*of_cell([8.0, 8.1, 7.9, 8.2, 7.8, 8.3, 7.7]), *of_cell([4.0, 1.0, 2.0, 6.0, 3.0, 7.0, 5.0], cell=2)]
        row = analysed(runs)["rows"][2]
        speedup_interval = row.pop("speedup_interval")  # type: ignore[misc]
        expected: dict[str, Any] = {
            "cell": 2,
            "values": {"threads": 2, "lock": True},
            "n": 7,
            "runs": 7,
            "median": 4.0,
            "mad": 2.0,
            "min": 1.0,
            "max": 7.0,
            "interval": [1.0, 7.0],
            "interval_coverage": 0.984375,
            "baseline": 0,
            "speedup": 2.0,
            "p": pytest.approx(2 / 3432),
            "significant": True,
            "relative_work": 1.0,
            "efficiency": 1.0,
            "outcomes": {"exact": {"count": 7, "grade": "acceptable"}},
            "statuses": {},
            "raw": [
                {"repeat": repeat, "value": value, "job_id": f"job_{repeat}_2"}
                for repeat, value in enumerate([4.0, 1.0, 2.0, 6.0, 3.0, 7.0, 5.0])
            ],
            "python": "3.13.0",
        }
        assert expected == row
        assert isinstance(speedup_interval, list)
        assert 1 < speedup_interval[0] < 2 < speedup_interval[1] < 8

    def test_the_baseline_is_as_fast_as_itself(self) -> None:
        """Its speedup is 1, and there is nothing to test."""
        row = analysed(of_cell([1.0, 2.0, 3.0, 4.0]))["rows"][0]
        found = row["speedup"], row["speedup_interval"], row["p"], row["significant"], row["efficiency"]
        assert (1.0, None, None, None, 1.0) == found

    def test_a_cell_without_runs_has_nothing_but_its_values(self) -> None:
        """What was not measured is null, never 0."""
        row = analysed([])["rows"][3]
        assert (0, 0, {"threads": 2, "lock": False}) == (row["n"], row["runs"], row["values"])
        empty = {name for name, value in row.items() if value is None}
        assert {"median", "mad", "min", "max", "interval", "interval_coverage", "speedup", "speedup_interval"} <= empty
        assert {"p", "significant", "efficiency", "python"} <= empty

    def test_runs_that_did_not_succeed_are_counted_and_have_no_value(self) -> None:
        """They are in the raw runs and in the statuses, and in no figure."""
        runs = [
            *of_cell([1.0, 2.0, 3.0]),
            run(0, 3, 9.0, status="timed_out", outcome="stuck", grade="forbidden"),
            run(0, 4, None, status="failed", outcome=None, grade=None),
            run(0, 5, None, status="failed", outcome=None, grade=None, python=None),
            run(0, 6, math.nan),
            run(0, 7, 0.001, outcome="unavailable"),
        ]
        row = analysed(runs)["rows"][0]
        assert (3, 8, 2.0, 3.0) == (row["n"], row["runs"], row["median"], row["max"])
        assert {"failed": 2, "timed_out": 1} == row["statuses"]
        assert [1.0, 2.0, 3.0, None, None, None, None, None] == [each["value"] for each in row["raw"]]
        assert {"exact": 4, "stuck": 1, "unavailable": 1} == {
            name: seen["count"] for name, seen in row["outcomes"].items()
        }

    def test_versions_of_python_stand_side_by_side(self) -> None:
        """A cell that two versions ran names both."""
        runs = [run(0, 0, 1.0), run(0, 1, 1.0, python="3.12.1"), run(1, 0, 1.0)]
        assert ["3.12.1, 3.13.0", "3.13.0", None, None] == [row["python"] for row in analysed(runs)["rows"]]

    def test_more_is_better_where_the_measure_says_so(self) -> None:
        """A rate twice as high is a speedup of 2."""
        found = experiment(
            {"threads": [1, 2]}, lambda values, repeat: of_value(100.0 * values["threads"])(repeat), measure=RATE
        )
        assert [1.0, 2.0] == pytest.approx([row["speedup"] for row in found["rows"]])

    def test_each_group_has_its_own_baseline(self) -> None:
        """Each Python is compared with its own cell of one thread."""
        times = {("3.9", 1): 4.0, ("3.9", 2): 2.0, ("3.13", 1): 1.0, ("3.13", 2): 0.8}
        found = experiment(
            {"python": ["3.9", "3.13"], "threads": [1, 2]},
            lambda values, repeat: of_value(times[values["python"], values["threads"]])(repeat),
            baseline={"threads": 1},
        )
        assert [0, 0, 2, 2] == [row["baseline"] for row in found["rows"]]
        assert [1.0, 2.0, 1.0, 1.25] == pytest.approx([row["speedup"] for row in found["rows"]])
        assert [1.0, 1.0, 1.0, 0.625] == pytest.approx([row["efficiency"] for row in found["rows"]])

    @pytest.mark.parametrize(
        ("vary", "expected"),
        [
            ({"threads": [2, 4]}, [1.0, 0.5]),
            ({"max_workers": [1, 4]}, [1.0, 0.25]),
            ({"processes": [4, 1]}, [1.0, 4.0]),
            ({"max_workers": [None, 4]}, [None, None]),
            ({"threads": [True, 4]}, [None, None]),
            ({"threads": [0, 4]}, [None, None]),
            ({"iterations": [1, 2]}, [None, None]),
            ({"threads,processes": [[1, 1], [2, 2]]}, [None, None]),
        ],
    )
    def test_efficiency_is_the_speedup_of_each_worker(self, vary: dict[str, Any], expected: list[float | None]) -> None:
        """It is there where one varied field counts workers, and nowhere else."""
        found = experiment(vary, lambda _, repeat: of_value(1.0)(repeat))
        assert expected == [row["efficiency"] for row in found["rows"]]

    def test_a_speedup_against_zero_is_null(self) -> None:
        """There is no ratio; that the cells differ is said all the same."""
        row = analysed([*of_cell([0.0] * 7), *of_cell([5.0, 6.0, 7.0, 8.0, 9.0, 5.5, 6.5], cell=1)])["rows"][1]
        assert (None, None, True) == (row["speedup"], row["speedup_interval"], row["significant"])

    @given(st.lists(_RUNS, max_size=40), st.booleans(), st.sampled_from([None, {"threads": 1}, {"lock": False}]))
    @settings(deadline=None, max_examples=50)
    def test_whatever_ran_there_is_an_analysis(self, runs: list[Run], finished: bool, baseline: Any) -> None:
        """It is JSON, its figures are in order, and a speedup lies in its interval."""
        found = analysed(runs, finished=finished, baseline=baseline)
        json.dumps(found, allow_nan=False)
        assert [0, 1, 2, 3] == [row["cell"] for row in found["rows"]]
        for row in found["rows"]:
            _check_figures(row)
        for caution in found["warnings"]:
            assert caution["text"].endswith((".", "!", "?", "…"))
            assert caution["remedy"].endswith(".")

    @given(st.lists(_RUNS, max_size=40), st.randoms())
    @settings(deadline=None, max_examples=50)
    def test_the_order_of_the_runs_changes_nothing(self, runs: list[Run], rng: random.Random) -> None:
        """Runs may come in as they finish."""
        shuffled = list(runs)
        rng.shuffle(shuffled)
        assert analysed(runs) == analysed(shuffled)


def _check_figures(row: Row) -> None:
    assert row["n"] <= row["runs"] == len(row["raw"])
    if row["median"] is not None:
        assert row["min"] is not None is not row["max"]
        assert row["min"] <= row["median"] <= row["max"]
        if row["interval"] is not None:
            assert row["min"] <= row["interval"][0] <= row["median"] <= row["interval"][1] <= row["max"]
        if row["cell"] == row["baseline"]:
            assert 1.0 == row["speedup"]
    if row["speedup_interval"] is not None:
        assert row["speedup"] is not None
        assert row["speedup_interval"][0] * (1 - 1e-8) <= row["speedup"] <= row["speedup_interval"][1] * (1 + 1e-8)


class TestWhole:
    def test_it_says_what_it_is_of(self) -> None:
        """The measure, the baseline, the repeats and how far it got."""
        found = analysed(of_cell([1.0, 2.0]), finished=False, not_covered=[NotCovered({"lock": False}, "too slow")])
        assert {"name": "wall_s", "better": "lower"} == found["measure"]
        assert (10, {"threads": 1, "lock": True}) == (found["repeats"], found["baseline"])
        assert {"done": 2, "of": 20} == found["progress"]
        assert [{"values": {"lock": False}, "reason": "too slow"}] == found["not_covered"]

    def test_a_cell_that_is_unavailable_is_not_covered(self) -> None:
        """The outcome's sentence is the reason."""
        runs = [*of_cell([1.0, 2.0]), run(1, 0, 0.1, outcome="unavailable", reason="It needs Python 3.12.")]
        expected = [{"values": {"threads": 1, "lock": False}, "reason": "It needs Python 3.12."}]
        assert expected == analysed(runs)["not_covered"]

    def test_no_cells_are_no_mistake(self) -> None:
        """An experiment of which nothing can be run has an empty analysis."""
        missing = [NotCovered({"python": "3.14t"}, "not installed")]
        found = analyse(
            (), [], repeats=7, measure=WALL, baseline=None, not_covered=missing, usable_cpus=2, finished=True
        )
        assert ([], [], {}, {"done": 0, "of": 0}) == (
            found["rows"],
            found["warnings"],
            found["baseline"],
            found["progress"],
        )
        expected = "Nothing was run, so there is nothing to compare. Not covered: python 3.14t, which is not installed."
        assert expected == found["verdict"]["text"]

    @pytest.mark.parametrize("repeats", [7, 8])
    @pytest.mark.parametrize("vary", [{"threads": 8, "size": 8, "kind": 8}, {"threads": 512}])
    def test_512_cells_are_analysed_at_once(self, vary: dict[str, int], repeats: int) -> None:
        """0.1 to 0.4 s were measured for 7 and 8 repeats; the bound leaves room for a busy machine and for coverage."""
        rng = random.Random(3)
        cells = expand({field: list(range(1, count + 1)) for field, count in vary.items()})
        runs = [
            run(cell, repeat, rng.gauss(1, 0.1) / cells[cell].values["threads"])
            for cell, repeat in schedule(512, repeats, seed=1)
        ]
        begun = time.process_time()
        found = analyse(
            cells,
            runs,
            repeats=repeats,
            measure=WALL,
            baseline=None,
            not_covered=[],
            usable_cpus=2,
            finished=True,
        )
        assert time.process_time() - begun < 10
        assert 512 == len(found["rows"])


class TestWarnings:
    def test_a_quiet_experiment_has_none(self) -> None:
        """Seven steady runs each on a quiet machine leave nothing to warn of."""
        found = experiment({"threads": [1, 2]}, lambda values, repeat: of_value(0.4 / values["threads"])(repeat))
        assert [] == found["warnings"]

    def test_a_wide_spread_is_unstable(self) -> None:
        """The text names the cell, the spread and the load; the remedy names a number of repeats."""

        def each(values: dict[str, Any], repeat: int) -> dict[str, Any]:
            wide = values == {"threads": 8, "model": "threads"}
            return {**of_value(0.4, NOISY if wide else STEADY)(repeat), "load": 3.2 if wide else 1.0}

        found = experiment({"threads": [1, 8], "model": ["processes", "threads"]}, each)
        expected = [
            Caution(
                cell=3,
                text="Unstable: the spread (MAD) of cell 3 (threads 8, model threads) is 14 % of its median,"
                " and the load average was 3.2 on 2 cores.",
                remedy="Close other programs, or raise `repeats` to 15.",
            ),
            Caution(
                cell=None,
                text="Before 7 of 28 runs the load average was above the 2 usable cores, 3.2 at most.",
                remedy="Close other programs. If there are none, it was the runs before, which count in it for"
                " minutes.",
            ),
        ]
        assert expected == found["warnings"]

    def test_the_load_is_not_told_where_the_cores_are_unknown(self) -> None:
        """Without a number of cores there is nothing to hold it against."""
        found = experiment(
            {"threads": [1]}, lambda _, repeat: {**of_value(1.0)(repeat), "load": 99.0}, usable_cpus=None
        )
        assert [] == found["warnings"]

    def test_many_unstable_cells_are_counted(self) -> None:
        """Five are named, the worst first, and the others are a number."""
        found = experiment(
            {"size": list(range(8))},
            lambda values, repeat: {"value": 1 + (10 + values["size"]) * (STEADY[repeat] - 1)},
        )
        assert [7, 6, 5, 4, 3, None] == [caution["cell"] for caution in found["warnings"]]
        assert "Unstable: 3 cells more spread over 5.0 % of the median." == texts(found)[-1]

    @pytest.mark.parametrize(
        ("repeats", "expected"),
        [
            (1, ["1 run of each cell give no interval, and no difference can be significant."]),
            (2, ["2 runs of each cell give no interval, and no difference can be significant."]),
            (
                3,
                [
                    "3 runs of each cell are too few for a 95 % interval: least and greatest of 3 hold the true median"
                    " 75 % of the time, and no difference can be significant."
                ],
            ),
            (
                5,
                [
                    "5 runs of each cell are too few for a 95 % interval: least and greatest of 5 hold the true median"
                    " 94 % of the time."
                ],
            ),
            (6, []),
        ],
    )
    def test_too_few_repeats(self, repeats: int, expected: list[str]) -> None:
        """What so few runs can and cannot show is said once, not for each cell."""
        found = experiment({"threads": [1, 2, 4]}, lambda _, repeat: of_value(1.0)(repeat), repeats=repeats)
        assert expected == texts(found)
        assert all("Raise `repeats` to 7." == caution["remedy"] for caution in found["warnings"])

    def test_cells_that_lost_too_many_runs(self) -> None:
        """Where runs failed, the few that are left are spoken of; while runs are still to come they are not."""
        runs = [*of_cell([1.0, 1.01, 1.02]), *(run(0, 3 + more, None, status="failed") for more in range(7))]
        expected = (
            "Only 3 values of cell 0 (threads 1, lock true) are too few for a 95 % interval: least and greatest of 3"
            " hold the true median 75 % of the time, and no difference can be significant."
        )
        assert expected in texts(analysed(runs))
        assert expected not in texts(analysed(runs, finished=False))

    def test_runs_that_failed_are_told_by_what_went_wrong(self) -> None:
        """One warning for each way to fail, with the reason and a job to read."""

        def each(values: dict[str, Any], repeat: int) -> dict[str, Any]:
            if values["threads"] == 64 and repeat < 2:
                return {"value": None, "status": "timed_out", "reason": "It ran longer than\n2 s."}
            if repeat == 6:
                return {"value": None, "status": "failed", "reason": "MemoryError"}
            return {"value": None} if values["threads"] == 1 and repeat == 5 else of_value(1.0)(repeat)

        found = experiment({"threads": [1, 64]}, each)
        broken = sorted(found["warnings"], key=lambda caution: caution["text"])
        assert ["1 of 7 runs", "2 of 14 runs", "2 of 7 runs"] == [text["text"][:12].strip() for text in broken][:3]
        assert [
            Caution(
                cell=0,
                text="1 of 7 runs of cell 0 (threads 1) had no wall_s.",
                remedy="Choose another `measure`, or vary other values.",
            ),
            Caution(
                cell=None,
                text="2 of 14 runs of cell 0 (threads 1) and 1 cell more ended as failed: MemoryError.",
                remedy="Read the job job_6_0: its `error` and `output` tell more.",
            ),
            Caution(
                cell=1,
                text="2 of 7 runs of cell 1 (threads 64) ended as timed_out: It ran longer than 2 s.",
                remedy="Raise `timeout_s`, or read the job job_0_1.",
            ),
        ] == broken[:3]

    def test_equal_values_of_a_time(self) -> None:
        """A clock that is too coarse is suspected."""
        found = experiment({"threads": [1, 2]}, lambda values, _: {"value": 0.015 * values["threads"]})
        expected = (
            "All values of cell 0 (threads 1) and 1 cell more are equal, in cell 0 (threads 1) 15.0 ms. The clock may"
            " be too coarse for so short a time."
        )
        assert [expected] == texts(found)

    def test_equal_values_of_a_count(self) -> None:
        """Nothing is suspected where a count is the same each time; it is told."""
        found = experiment(
            {"lock": [True, False]},
            lambda values, repeat: {"value": 0.0 if values["lock"] else 400.0 * STEADY[repeat]},
            measure=Measure("lost", "lower"),
        )
        assert ["All values of cell 0 (lock true) are equal: 0. lost does not vary there."] == texts(found)

    def test_two_groups_of_values(self) -> None:
        """A cell whose runs are of two kinds is told, with where each begins; steady and noisy ones are not."""
        found = experiment(
            {"threads": [1, 2]},
            lambda values, repeat: of_value(0.6 if values["threads"] == 2 and repeat < 3 else 0.4)(repeat),
        )
        expected = (
            "The values of cell 1 (threads 2) fall into two groups, up to 405 ms and from 598 ms; the median lies in"
            " one of them or between."
        )
        assert [expected] == texts(found)
        noisy = experiment({"threads": [1]}, lambda _, repeat: of_value(0.4, NOISY)(repeat))
        assert not any("two groups" in text for text in texts(noisy))

    def test_a_baseline_that_was_not_covered(self) -> None:
        """Cells that have nothing to be compared with say so, with the reason."""
        cells = expand({"python": ["3.9", "3.13"], "threads": [1, 2]})[2:]
        runs = [run(cell.index, repeat, value) for cell in cells for repeat, value in enumerate(STEADY)]
        found = analyse(
            cells,
            runs,
            repeats=7,
            measure=WALL,
            baseline={"python": "3.9"},
            not_covered=[NotCovered({"python": "3.9"}, "not installed")],
            usable_cpus=2,
            finished=False,
        )
        assert [None, None] == [row["speedup"] for row in found["rows"]]
        expected = Caution(
            cell=None,
            text="2 cells cannot be compared: the baseline (python 3.9) was not covered: not installed.",
            remedy="Name another `baseline`, one that can be measured.",
        )
        assert [expected] == found["warnings"]

    @pytest.mark.parametrize(("done", "expected"), [(None, 1), (7, 0)])
    def test_a_baseline_without_values(self, done: int | None, expected: int) -> None:
        """It is told once all runs are over; before, the baseline may still get values."""
        found = experiment(
            {"threads": [1, 2]},
            lambda values, repeat: None if values["threads"] == 1 else of_value(1.0)(repeat),
            done=done,
        )
        told = "1 cell cannot be compared: the baseline (threads 1) has no values."
        assert expected == texts(found).count(told)

    def test_a_cell_of_several_versions(self) -> None:
        """Runs by different versions of Python are no repetitions of each other."""
        found = experiment(
            {"threads": [1]},
            lambda _, repeat: {**of_value(1.0)(repeat), "python": "3.13.0" if repeat else "3.13.1"},
        )
        expected = "The runs of cell 0 (threads 1) were made by different versions of Python: 3.13.0, 3.13.1."
        assert [expected] == texts(found)

    def test_many_comparisons_differ_by_chance(self) -> None:
        """From twenty-one on it is told how many to expect."""
        expected = (
            "40 cells were compared, each at the 5 % level: if none differed in truth, up to about 2 of them would"
            " still be called significant."
        )
        found = experiment({"size": list(range(41))}, lambda _, repeat: of_value(1.0)(repeat))
        assert [expected] == texts(found)
        assert [] == texts(experiment({"size": list(range(21))}, lambda _, repeat: of_value(1.0)(repeat)))


class TestTable:
    def test_columns(self) -> None:
        """The varied fields come first, then the statistics, in this order."""
        found = experiment(
            {"threads": [1, 2]},
            lambda values, repeat: {
                **of_value(0.4 / values["threads"])(repeat),
                "outcome": "lost" if values["threads"] == 2 and repeat < 5 else "not_seen",
            },
        )
        rows = table(found)
        expected = [
            "threads",
            "n",
            "median",
            "mad",
            "min",
            "max",
            "interval_low",
            "interval_high",
            "speedup",
            "speedup_low",
            "speedup_high",
            "significant",
            "relative_work",
            "efficiency",
            "outcomes",
        ]
        assert expected == list(rows[1])
        row = found["rows"][1]
        assert row["interval"] is not None is not row["speedup_interval"]
        figures = [2, 7, row["median"], row["mad"], row["min"], row["max"], *row["interval"]]
        figures += [row["speedup"], *row["speedup_interval"], True, 1.0, row["efficiency"], "lost:5 not_seen:2"]
        assert figures == list(rows[1].values())
        assert (None, "not_seen:7") == (rows[0]["significant"], rows[0]["outcomes"])

    def test_a_field_that_is_called_like_a_column(self) -> None:
        """Neither hides the other."""
        (row,) = table(experiment({"n": [30]}, lambda _, repeat: of_value(1.0)(repeat)))
        assert (30, 7) == (row["values.n"], row["n"])

    def test_csv_is_read_back(self) -> None:
        """Lines end with CR LF; values with commas, quotes and line ends come back as they were."""
        tricky = ['a,"b"', "line\nline", "ä", "", None, 1.5, True, [1, 2]]
        found = experiment({"value": tricky}, lambda _, repeat: of_value(1.0)(repeat))
        text = csv_text(found)
        assert text.endswith("\r\n")
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        assert list(table(found)[0]) == header
        assert ['a,"b"', "line\nline", "ä", "", "", "1.5", "true", "[1, 2]"] == [row[0] for row in rows]
        assert all(len(header) == len(row) for row in rows)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("=1+1", "'=1+1"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("-nan", "'-nan"),
            ("-2", "-2"),
            ("+1.5e-3", "+1.5e-3"),
            (-2, "-2"),
            (-0.5, "-0.5"),
            ("3.13", "3.13"),
        ],
    )
    def test_no_text_becomes_a_formula(self, value: str | float, expected: str) -> None:
        """A text that a spreadsheet would compute is marked as text; numbers stay numbers."""
        found = experiment({"value": [value]}, lambda _, repeat: of_value(1.0)(repeat))
        _, row = csv.reader(io.StringIO(csv_text(found), newline=""))
        assert expected == row[0]

    def test_a_fields_name_is_no_formula_either(self) -> None:
        """The header is text that came from outside, too."""
        found = experiment({"=field": [1]}, lambda _, repeat: of_value(1.0)(repeat))
        assert csv_text(found).startswith("'=field,n,median")

    def test_without_cells_there_is_a_header(self) -> None:
        """An empty table is a table."""
        empty = analyse((), [], repeats=7, measure=WALL, baseline=None, not_covered=[], usable_cpus=2, finished=True)
        assert 1 == csv_text(empty).count("\r\n")
