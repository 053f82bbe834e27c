"""An experiment as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from service.errors import BadExperiment
from service.experiments import Analysis, Measure
from service.experiments.experiment import Experiment
from service.pictures import axes, chart, curves
from tests.core.experiment_runs import RATE, WALL, experiment, of_value

SVG = "{http://www.w3.org/2000/svg}"
ASKED = Experiment(
    id="exp_01",
    scenario="cpu_bound",
    vary={"threads": [1]},
    fixed={},
    repeats=7,
    seed=1,
    measure=WALL,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    machine={"usable_cpus": 2},
)


def drawn(analysis: Analysis, asked: Experiment = ASKED) -> ET.Element:
    """The picture, parsed."""
    return ET.fromstring(chart.draw(asked, analysis))


def words(picture: ET.Element) -> list[str]:
    """All that is written in a picture."""
    return [each.text or "" for each in picture.iter(f"{SVG}text")]


def scaling(values: dict[str, Any], repeat: int) -> dict[str, Any]:
    """Twice as fast with two workers, and no faster with more."""
    return of_value(1 / min(values["threads"], 2))(repeat)


def test_speedup_over_threads() -> None:
    """The curve, the ideal line and the knee are those of the analysis, with the verdict as the description."""
    analysis = experiment({"threads": [1, 2, 4, 8]}, scaling)
    picture = drawn(analysis)
    said = words(picture)
    assert {"speedup", "threads", "ideal", "knee: 2", "measured"} <= set(said)
    assert ("img", analysis["verdict"]["text"]) == (picture.get("role"), picture.findtext(f"{SVG}desc"))
    (curve,) = [each for each in picture.iter(f"{SVG}polyline") if each.get("class") == "curve"]
    heights = [float(point.split(",")[1]) for point in (curve.get("points") or "").split()]
    assert heights[0] > heights[1] == pytest.approx(heights[2], abs=2) == pytest.approx(heights[3], abs=2)
    assert 3 == len([each for each in picture.iter(f"{SVG}path") if each.get("class") == "bar"])  # not the baseline's


def test_unequal_work_has_no_ideal() -> None:
    """Where each thread does as much as one alone, times are shown, and nothing is missing that could be gained."""
    measure = Measure("wall_s", "lower", grows_with=("threads",))
    said = words(drawn(experiment({"threads": [1, 2, 4]}, lambda _, repeat: of_value(1.0)(repeat), measure=measure)))
    assert {"median wall_s in s", "the cells did different amounts of work: no speedup, and no ideal line"} <= set(said)
    assert not [each for each in said if each in {"speedup", "ideal"} or each.startswith(("knee", "more than"))]


def test_knees_in_one_place_can_be_read() -> None:
    """Each knee has its circle, but the same words stand once, and others above them."""

    def two(values: dict[str, Any], repeat: int) -> dict[str, Any]:
        slower = {"a": 1.0, "b": 1.01, "c": 1.02}[values["model"]]
        most = 1 if values["model"] == "c" else 2
        return of_value(slower / min(values["threads"], most))(repeat)

    picture = drawn(experiment({"model": ["a", "b", "c"], "threads": [1, 2, 4, 8]}, two))
    labels = [each for each in picture.iter(f"{SVG}text") if (each.text or "").startswith(("knee", "more than"))]
    assert 3 == len([each for each in picture.iter(f"{SVG}circle") if each.get("class") == "knee"])
    assert ["knee: 2", "more than 1: no gain"] == sorted(each.text or "" for each in labels)


def test_each_combination_of_other_fields_has_a_curve() -> None:
    """Six are drawn, and it is said how many are not."""
    names = [f"model {n}" for n in range(8)]
    picture = drawn(experiment({"model": names, "threads": [1, 2, 4]}, scaling))
    assert names[:6] == [name.removeprefix("model ") for name in words(picture) if name.startswith("model model")]
    assert any(each.startswith("2 more combinations are not drawn") for each in words(picture))


def test_a_field_that_counts_no_workers_shows_the_measure() -> None:
    """Without workers there is no ideal to be held against: medians with their unit."""
    analysis = experiment(
        {"delay_s": [0.1, 0.2, 0.4]}, lambda values, repeat: of_value(values["delay_s"] / 1e3)(repeat)
    )
    said = words(drawn(analysis))
    assert "median wall_s in µs" in said
    assert "ideal" not in said


def test_cells_side_by_side() -> None:
    """Where no curve can be drawn each cell has a line, with its outcomes counted."""

    def runs(values: dict[str, Any], repeat: int) -> dict[str, Any]:
        outcome = {} if values["lock"] else {"outcome": "lost", "grade": "interesting"}
        return {**of_value(2.0)(repeat), **outcome}

    said = words(drawn(experiment({"lock": [True, False]}, runs)))
    assert {"lock true", "lock false", "exact 7", "lost 7", "green: acceptable, amber: interesting"} <= set(said)


def test_cells_without_a_value_are_named() -> None:
    """A curve does not hide the cell that timed out."""

    def runs(values: dict[str, Any], repeat: int) -> dict[str, Any]:
        if values["threads"] == 4:
            return {"value": None, "status": "timed_out", "outcome": "stuck", "grade": None}
        return scaling(values, repeat)

    said = words(drawn(experiment({"threads": [1, 2, 4]}, runs)))
    assert "no value: threads 4 (7 timed_out)" in said


def test_forbidden_outcomes_are_crossed_out() -> None:
    """A speed that was reached by losing data says nothing, and the picture says so."""

    def runs(values: dict[str, Any], repeat: int) -> dict[str, Any]:
        outcome = {"outcome": "lost", "grade": "forbidden"} if values["threads"] == 4 else {}
        return {**scaling(values, repeat), **outcome}

    said = words(drawn(experiment({"threads": [1, 2, 4]}, runs)))
    assert 1 == said.count("✕")


@pytest.mark.parametrize("vary", [{"threads": [1, 2, 4]}, {"lock": [True, False]}])
def test_before_the_first_run(vary: dict[str, Sequence[Any]]) -> None:
    """There is a picture before there is anything to see, and it says so."""
    analysis = experiment(vary, lambda *_: None, done=0)
    said = words(drawn(analysis))
    assert {"No run has given a value yet.", "none yet"} & set(said)


def test_very_many_cells() -> None:
    """What is not drawn is counted."""
    said = words(drawn(experiment({"name": [f"n{n}" for n in range(30)]}, lambda _, repeat: of_value(1.0)(repeat))))
    assert "6 more cells are not drawn; the table has them" in said


VALUES = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63), st.floats(-1e300, 1e300), st.text(max_size=60), st.none()
)
NAMES = st.text("ab<&\"'\x00é", min_size=1, max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(NAMES, st.lists(VALUES, min_size=1, max_size=4), min_size=1, max_size=2),
    st.text(max_size=80),
    FINITE,
    st.sampled_from([WALL, RATE]),
)
def test_any_experiment(vary: dict[str, list[Any]], label: str, value: float, measure: Any) -> None:
    """Whatever was varied, measured and written on it, the picture is well-formed."""
    try:
        analysis = experiment(vary, lambda _, repeat: {"value": value / (1 + repeat)}, measure=measure)
    except BadExperiment:  # the same value twice
        reject()
    drawn(analysis, replace(ASKED, label=label, measure=measure))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.floats(1e-9, 1e9)), min_size=3, max_size=6, unique_by=lambda x: x[0])
)
def test_any_curve(found: list[tuple[int, float]]) -> None:
    """Whatever the numbers, every point lies within the picture and figures stand in order."""
    analysis = experiment(
        {"threads": [x for x, _ in found]}, lambda values, _: {"value": dict(found)[values["threads"]]}
    )
    assert "threads" == curves.field(analysis)
    for mark in drawn(analysis).iter(f"{SVG}circle"):
        assert 0 <= float(mark.get("cx") or -1) <= 900


@given(st.lists(FINITE.map(lambda value: value * 1e-150), min_size=1))
def test_figures_along_an_axis(values: list[float]) -> None:
    """There are between two and a dozen, in order, within the axis."""
    axis = axes.linear(values, 0.0, 100.0)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 12
    assert sorted(ticks) == ticks
    assert all(0 <= axis.place(value) <= 100 for value in (*ticks, *values))
