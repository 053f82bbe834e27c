"""Medians, their intervals and whether two differ."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.experiments.medians import Sample, compare, coverage

_POSITIVE = st.lists(st.floats(0.001, 1000), min_size=3, max_size=9)
_NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=6)


def resamples(values: list[float]) -> Counter[float]:
    """The medians of all resamples there are, counted."""
    return Counter(statistics.median(each) for each in itertools.product(values, repeat=len(values)))


def all_deals(one: list[float], other: list[float]) -> float:
    """The Mann-Whitney test's p from its definition: by dealing the values in every possible way."""
    both = one + other

    def wins(places: tuple[int, ...]) -> float:
        rest = [both[place] for place in range(len(both)) if place not in places]
        return sum((both[place] > value) + (both[place] == value) / 2 for place in places for value in rest)

    deals = [wins(places) for places in itertools.combinations(range(len(both)), len(one))]
    mean = len(one) * len(other) / 2
    return sum(abs(deal - mean) >= abs(deals[0] - mean) for deal in deals) / len(deals)


def test_median_and_spread() -> None:
    """The MAD is the median of the distances from the median, unscaled."""
    sample = Sample([9.0, 1.0, 2.0, 4.0, 6.0])
    assert (4.0, 2.0) == (sample.median, sample.mad)
    assert (3.0, 1.5) == (Sample([1.0, 2.0, 4.0, 6.0]).median, Sample([1.0, 2.0, 4.0, 6.0]).mad)


@pytest.mark.parametrize(
    ("size", "low", "high", "covers"),
    [
        (3, 1, 3, 0.75),
        (4, 1, 4, 0.875),
        (5, 1, 5, 0.9375),
        (6, 1, 6, 0.96875),
        (7, 1, 7, 0.984375),
        (9, 2, 8, 0.9609375),
        (10, 2, 9, 0.978515625),
        (15, 4, 12, 0.96484375),
        (20, 6, 15, 0.95861),
        (50, 18, 33, 0.96716),
        (100, 40, 61, 0.96480),
    ],
)
def test_the_interval_is_that_of_the_tables(size: int, low: int, high: int, covers: float) -> None:
    """The ranks are those that textbooks print for the median at 95 %, and below 6 values least and greatest."""
    assert (low, high) == Sample([float(rank) for rank in range(size, 0, -1)]).interval
    assert covers == pytest.approx(coverage(size), abs=1e-5)


@pytest.mark.parametrize("size", [1, 2])
def test_two_values_have_no_interval(size: int) -> None:
    """Under three values nothing is said."""
    assert Sample([1.0] * size).interval is None
    assert coverage(size) is None


@pytest.mark.parametrize(
    "values", [[3.0, 1.0, 7.0], [3.0, 1.0, 7.0, 4.5], [3.0, 1.0, 7.0, 4.5, 9.0], [1.0, 1.0, 2.0, 2.0]]
)
def test_resampled_medians_are_exact(values: list[float]) -> None:
    """Their probabilities are the shares among all resamples, of odd and even numbers, with ties and without."""
    counted, sample = resamples(values), Sample(values).resampled
    found: Counter[float] = Counter()
    for value, weight in zip(sample.values, sample.weights, strict=True):
        found[value] += weight
    for value in counted | found:
        assert counted[value] / len(values) ** len(values) == pytest.approx(found[value], abs=1e-8)


@pytest.mark.parametrize("size", [7, 20, 21, 22, 99, 100, 101, 500])
def test_resampled_medians_have_a_probability_of_one(size: int) -> None:
    """However they are computed, nothing is lost but what is negligible."""
    assert 1 == pytest.approx(sum(Sample([float(rank) for rank in range(size)]).resampled.weights), abs=1e-6)


def test_the_ratios_interval_is_that_of_all_resamples() -> None:
    """Its ends are the ratios beyond which 2.5 % of all pairs of resamples lie."""
    one, other = [2.0, 3.0, 2.5, 2.2], [1.0, 1.3, 0.8]
    ratios = sorted(
        (top / bottom, ways * times)
        for top, ways in resamples(one).items()
        for bottom, times in resamples(other).items()
    )
    tail = 0.025 * 4**4 * 3**3
    low = next(
        ratio
        for (ratio, _), sum_ in zip(ratios, itertools.accumulate(w for _, w in ratios), strict=True)
        if sum_ >= tail
    )
    ratios.reverse()
    high = next(
        ratio
        for (ratio, _), sum_ in zip(ratios, itertools.accumulate(w for _, w in ratios), strict=True)
        if sum_ >= tail
    )
    assert (low, high) == pytest.approx(compare(Sample(one), Sample(other), "higher").interval)


def test_the_test_agrees_with_a_published_example() -> None:
    """Ages at diagnosis of nine people: p = 0.1111, as in the documentation of `scipy.stats.mannwhitneyu`."""
    males, females = [19.0, 22.0, 16.0, 29.0, 24.0], [20.0, 11.0, 17.0, 12.0]
    assert 1 / 9 == pytest.approx(compare(Sample(males), Sample(females), "lower").p)


@pytest.mark.parametrize("size", [3, 4, 5, 7, 10])
def test_the_least_p_is_that_of_two_deals(size: int) -> None:
    """Of all deals, two have one sample wholly beyond the other."""
    one, other = [float(rank) for rank in range(size)], [float(rank) for rank in range(size, 2 * size)]
    assert 2 / math.comb(2 * size, size) == pytest.approx(compare(Sample(one), Sample(other), "lower").p)


@given(_NUMBERS, _NUMBERS)
def test_the_test_is_exact_with_ties(one: list[float], other: list[float]) -> None:
    """Its p is the share of all deals that are as uneven."""
    assert all_deals(one, other) == pytest.approx(compare(Sample(one), Sample(other), "lower").p)


def test_many_values_give_about_the_same_p() -> None:
    """Where the exact test ends, the normal approximation goes on without a jump."""
    rng = random.Random(4)
    for shift in (0.0, 0.3, 0.6, 1.0):
        one, other = [rng.gauss(0, 1) for _ in range(21)], [rng.gauss(shift, 1) for _ in range(20)]
        exact = compare(Sample(one[:20]), Sample(other), "lower").p
        assert exact == pytest.approx(compare(Sample([*one[:20], one[0]]), Sample(other), "lower").p, abs=0.05)
    assert 1.0 == compare(Sample([1.0] * 30), Sample([1.0] * 30), "lower").p


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1.0, 2.0, 3.0], [11.0, 12.0, 13.0], None),
        ([1.0, 2.0], [float(value) for value in range(11, 31)], None),
        ([1.0, 2.0, 3.0, 4.0], [11.0, 12.0, 13.0, 14.0], True),
        ([1.0, 2.0, 3.0], [11.0, 12.0, 13.0, 14.0, 15.0], True),
        ([1.0, 2.0, 3.0, 12.5], [11.0, 12.0, 13.0, 14.0], False),
        ([1.0] * 7, [1.0] * 7, False),
        ([0.0] * 7, [5.0, 6.0, 7.0, 8.0, 9.0, 5.5, 6.5], True),
        ([-1.0, -2.0, -3.0, -4.0], [1.0, 2.0, 3.0, 4.0], True),
    ],
)
def test_what_is_significant(one: list[float], other: list[float], expected: bool | None) -> None:
    """Both the interval and the test must say so; None is said where so few values never could."""
    assert expected is compare(Sample(one), Sample(other), "lower").significant
    assert expected is compare(Sample(other), Sample(one), "higher").significant


@pytest.mark.parametrize(("better", "expected"), [("lower", 2.5), ("higher", 0.4)])
def test_a_speedup_above_one_is_better(better: str, expected: float) -> None:
    """Whichever way the measure goes."""
    one, other = Sample([1.0, 2.0, 3.0]), Sample([4.0, 5.0, 6.0])
    assert expected == pytest.approx(compare(one, other, better).speedup)  # type: ignore[arg-type]


def test_there_is_no_ratio_to_zero() -> None:
    """A median that is not positive has no ratio, and an interval would need all values positive."""
    zeros, mixed, ones = Sample([0.0] * 4), Sample([0.0, 1.0, 2.0, 3.0]), Sample([1.0] * 4)
    assert (None, None) == (compare(zeros, ones, "lower").speedup, compare(ones, zeros, "lower").interval)
    assert (1.5, None) == (compare(ones, mixed, "lower").speedup, compare(ones, mixed, "lower").interval)


@given(_POSITIVE, _POSITIVE)
@settings(deadline=None)
def test_the_other_way_round_it_is_the_inverse(one: list[float], other: list[float]) -> None:
    """Who is compared with whom changes nothing but the direction."""
    there, back = compare(Sample(one), Sample(other), "lower"), compare(Sample(other), Sample(one), "lower")
    assert there.interval is not None
    assert back.interval is not None
    low, high = there.interval
    assert (1 / high, 1 / low) == pytest.approx(back.interval)
    assert (there.p, there.significant) == (pytest.approx(back.p), back.significant)


@given(_POSITIVE, _POSITIVE)
@settings(deadline=None)
def test_intervals_hold_what_they_are_of(one: list[float], other: list[float]) -> None:
    """A median lies in its interval, a ratio in its own, and one that excludes 1 says that the medians are apart."""
    for values in (one, other):
        sample = Sample(values)
        assert sample.interval is not None
        assert min(values) <= sample.interval[0] <= sample.median <= sample.interval[1] <= max(values)
    found = compare(Sample(one), Sample(other), "lower")
    assert found.interval is not None
    assert found.speedup is not None
    low, high = found.interval
    assert low * (1 - 1e-8) <= found.speedup <= high * (1 + 1e-8)
    assume(abs(low - 1) > 1e-8 < abs(high - 1))
    assert found.apart is not (low <= 1 <= high)


def _lognormal(rng: random.Random) -> float:
    return rng.lognormvariate(0, 0.3)


def _exponential(rng: random.Random) -> float:
    return 1 + rng.expovariate(math.log(2))  # median 2


@pytest.mark.parametrize(("draw", "truth"), [(_lognormal, 1.0), (_exponential, 2.0)])
@pytest.mark.parametrize(
    ("size", "least", "most"), [(3, 0.70, 0.80), (5, 0.91, 0.97), (7, 0.96, 1.0), (15, 0.94, 0.99)]
)
def test_the_interval_covers_the_median_as_often_as_it_says(
    draw: Callable[[random.Random], float], truth: float, size: int, least: float, most: float
) -> None:
    """Of 1,000 experiments with known noise, about the stated share holds the true median, few runs or many."""
    rng = random.Random(size)
    hits = 0
    for _ in range(1000):
        interval = Sample([draw(rng) for _ in range(size)]).interval
        assert interval is not None
        hits += interval[0] <= truth <= interval[1]
    assert least < hits / 1000 < most
    assert hits / 1000 == pytest.approx(coverage(size), abs=0.03)


@pytest.mark.parametrize("draw", [_lognormal, _exponential])
@pytest.mark.parametrize("size", [7, 8, 15])
def test_the_ratios_interval_covers_the_truth_as_often_as_it_says(
    draw: Callable[[random.Random], float], size: int
) -> None:
    """Of 600 pairs of equal cells some 95 % have intervals that hold 1, and no more than 5 % differ significantly."""
    rng = random.Random(size)
    found = [
        compare(Sample([draw(rng) for _ in range(size)]), Sample([draw(rng) for _ in range(size)]), "lower")
        for _ in range(600)
    ]
    assert 0.925 < sum(not each.apart for each in found) / 600
    assert sum(each.significant is True for each in found) / 600 < 0.06
