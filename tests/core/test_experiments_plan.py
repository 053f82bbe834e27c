"""The plan of an experiment: cells, the order of runs, baselines."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadExperiment
from service.experiments import Cell, NotCovered, check_baseline, expand, progress, schedule
from service.experiments.plan import baseline_cells, identity
from tests.core.experiment_runs import run

_MATRICES = st.dictionaries(
    st.sampled_from(["threads", "lock", "python", "shape"]),
    st.lists(st.integers(0, 50), min_size=1, max_size=5, unique=True),
    min_size=1,
)


def test_the_last_axis_varies_fastest() -> None:
    """Cells come in the order of nested loops, numbered from 0, with the varied fields in the order of the request."""
    expected = [
        Cell(0, {"threads": 1, "lock": True}),
        Cell(1, {"threads": 1, "lock": False}),
        Cell(2, {"threads": 4, "lock": True}),
        Cell(3, {"threads": 4, "lock": False}),
    ]
    assert expected == list(expand({"threads": [1, 4], "lock": [True, False]}))


def test_fields_of_one_key_vary_together() -> None:
    """A key of several names is one axis."""
    cells = expand({"threads , iterations": [[1, 400], [4, 100]], "lock": [True]})
    expected = [
        {"threads": 1, "iterations": 400, "lock": True},
        {"threads": 4, "iterations": 100, "lock": True},
    ]
    assert expected == [cell.values for cell in cells]


@given(_MATRICES)
def test_there_is_a_cell_for_each_combination(vary: dict[str, list[int]]) -> None:
    """As many cells as the product of the lengths, no two alike, each numbered by its place."""
    cells = expand(vary)
    assert math.prod(map(len, vary.values())) == len(cells)
    assert len(cells) == len({identity(cell.values) for cell in cells})
    assert list(range(len(cells))) == [cell.index for cell in cells]
    places = [[vary[field].index(cell.values[field]) for field in vary] for cell in cells]
    assert sorted(places) == places


@pytest.mark.parametrize(
    ("vary", "path", "text"),
    [
        ({}, ("vary",), "at least one field"),
        ({"threads": []}, ("vary", "threads"), "is empty"),
        ({"threads": 4}, ("vary", "threads"), "must be a list"),
        ({"shape": "split"}, ("vary", "shape"), "must be a list"),
        ({"threads": [1, 2, 1]}, ("vary", "threads", 2), "first at 0"),
        ({"threads": [1, 2, 2.0]}, ("vary", "threads", 2), "first at 1"),
        ({"a,b": [[1, 2], [1, 3], [1, 2]]}, ("vary", "a,b", 2), "first at 0"),
        ({"a,b": [[1, 2], [1]]}, ("vary", "a,b", 1), "a list of 2 values, one each for a, b"),
        ({"a,b": [[1, 2, 3]]}, ("vary", "a,b", 0), "a list of 2 values"),
        ({"a,b": [7]}, ("vary", "a,b", 0), "a list of 2 values"),
        ({"a": [1], "b, a": [[1, 2]]}, ("vary", "b, a"), "a is varied twice"),
        ({"a,a": [[1, 2]]}, ("vary", "a,a"), "a is varied twice"),
        ({"a,": [[1, 2]]}, ("vary", "a,"), "name is missing"),
        ({"a": list(range(101)), "b": list(range(100))}, ("vary",), "10,100 cells. At most 10,000"),
        ({name: list(range(100)) for name in "abcdefgh"}, ("vary",), "At most 10,000"),
    ],
)
def test_a_matrix_that_cannot_be_is_refused(vary: dict[str, Any], path: tuple[str | int, ...], text: str) -> None:
    """The error says where in the request the mistake stands, and what it is."""
    with pytest.raises(BadExperiment) as refused:
        expand(vary)
    assert path == refused.value.path
    assert text in refused.value.text == str(refused.value)


def test_values_that_are_alike_in_python_only_are_two() -> None:
    """JSON's true is not its 1, and a text is no number."""
    assert 4 == len(expand({"value": [1, True, "1", None]}))


def test_the_order_of_runs_never_changes() -> None:
    """A seed gives this order on every version and platform; it is written down so that an upgrade cannot change it."""
    expected = ((1, 0), (3, 0), (0, 0), (2, 0), (3, 1), (1, 1), (2, 1), (0, 1), (1, 2), (2, 2), (0, 2), (3, 2))
    assert expected == schedule(4, 3, seed=42)


@given(st.integers(0, 30), st.integers(0, 8), st.integers())
def test_each_repeat_is_a_block_of_all_cells(cells: int, repeats: int, seed: int) -> None:
    """Every block holds every cell once."""
    order = schedule(cells, repeats, seed)
    assert [repeat for repeat in range(repeats) for _ in range(cells)] == [repeat for _, repeat in order]
    for repeat in range(repeats):
        assert list(range(cells)) == sorted(cell for cell, block in order if block == repeat)


@given(st.integers(1, 30), st.integers(0, 8), st.integers())
def test_more_repeats_leave_the_first_as_they_were(cells: int, repeats: int, seed: int) -> None:
    """An experiment that is made longer goes on where it stood."""
    assert schedule(cells, repeats, seed) == schedule(cells, repeats + 3, seed)[: cells * repeats]


def test_blocks_have_orders_of_their_own() -> None:
    """Not every block, and not every seed, has the same order."""
    orders = {
        tuple(cell for cell, block in schedule(8, 5, seed) if block == repeat) for seed in (1, 2) for repeat in range(5)
    }
    assert 10 == len(orders)


def test_every_order_is_as_likely() -> None:
    """The shuffle favours no order: of three cells each of the six comes about as often."""
    order = [cell for cell, _ in schedule(3, 6000, seed=1)]
    counts = [0] * 27
    for first, second, third in zip(order[::3], order[1::3], order[2::3], strict=True):
        counts[first * 9 + second * 3 + third] += 1
    seen = [count for count in counts if count]
    assert 6 == len(seen)
    assert 850 < min(seen)
    assert max(seen) < 1150


_CELLS = expand({"threads": [1, 4], "python": ["3.9", "3.13"]})
_ZIPPED = expand({"threads,iterations": [[1, 400], [4, 100]], "lock": [True, False]})


@pytest.mark.parametrize(
    ("cells", "baseline", "path", "allowed"),
    [
        (_CELLS, {}, ("baseline",), ["threads", "python"]),
        (_CELLS, {"lock": True}, ("baseline", "lock"), ["threads", "python"]),
        (_CELLS, {"threads": 2}, ("baseline", "threads"), [1, 4]),
        (_CELLS, {"threads": True}, ("baseline", "threads"), [1, 4]),
        (_CELLS, {"threads": 1, "python": "3.14"}, ("baseline", "python"), ["3.9", "3.13"]),
        (_ZIPPED, {"threads": 1, "iterations": 100}, ("baseline",), None),
        ((), {"threads": 1}, ("baseline", "threads"), []),
    ],
)
def test_a_baseline_that_is_no_cell_is_refused(
    cells: tuple[Cell, ...], baseline: dict[str, Any], path: tuple[str, ...], allowed: list[Any] | None
) -> None:
    """The error says which field is wrong, and what it can be."""
    with pytest.raises(BadExperiment) as refused:
        check_baseline(cells, baseline)
    assert path == refused.value.path
    assert allowed == refused.value.allowed


@pytest.mark.parametrize("baseline", [None, {"threads": 4}, {"python": "3.9", "threads": 1.0}])
def test_a_baseline_that_is_a_cell_passes(baseline: dict[str, Any] | None) -> None:
    """No baseline, one field and all fields can be named."""
    check_baseline(_CELLS, baseline)


@pytest.mark.parametrize(
    ("cells", "baseline", "expected"),
    [
        (_CELLS, None, [0, 0, 0, 0]),
        (_CELLS, {"threads": 1}, [0, 1, 0, 1]),
        (_CELLS, {"python": "3.13"}, [1, 1, 3, 3]),
        (_CELLS, {"threads": 4, "python": "3.9"}, [2, 2, 2, 2]),
        (_ZIPPED, {"threads": 1}, [0, 1, 0, 1]),
        (_ZIPPED, {"iterations": 100, "lock": False}, [3, 3, 3, 3]),
        (_CELLS[2:], None, [2, 2]),
        (_CELLS[1:], {"threads": 1}, [1, None, 1]),
        (_CELLS[2:], {"threads": 1}, [None, None]),
    ],
)
def test_a_cell_is_compared_with_the_baseline_of_its_kind(
    cells: tuple[Cell, ...], baseline: dict[str, Any] | None, expected: list[int | None]
) -> None:
    """It has the baseline's values and else the cell's own; fields that vary with the baseline's do not count."""
    assert expected == list(baseline_cells(cells, baseline).values())


def test_progress_counts_the_runs_of_the_cells() -> None:
    """Runs of cells that are not there do not count."""
    runs = [run(2, 0, 0.1), run(3, 0, None, status="failed"), run(0, 0, 0.1)]
    assert {"done": 2, "of": 14} == progress(_CELLS[2:], runs, 7)


def test_what_is_not_covered_holds_cells() -> None:
    """One value stands for all cells that have it, a combination for one."""
    value, combination = NotCovered({"python": "3.9"}, "not installed"), NotCovered(_CELLS[3].values, "too large")
    assert [True, False, True, False] == [value.holds(cell) for cell in _CELLS]
    assert [False, False, False, True] == [combination.holds(cell) for cell in _CELLS]
