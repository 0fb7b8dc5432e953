"""Statistics agree with scipy, and with loops that anybody can read."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from synergy.report import statistics
from synergy.report.statistics import Interval

scores = st.lists(st.integers(0, 100).map(float), min_size=2, max_size=8)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@given(scores)
def test_the_interval_of_a_mean_is_students(values: list[float]) -> None:
    got = statistics.mean_interval(values)
    if len(set(values)) == 1:
        assert got == Interval(values[0], values[0], values[0])
        return
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (got.value, got.low, got.high) == pytest.approx((np.mean(values), low, high))


def test_one_seed_has_no_interval() -> None:
    assert statistics.mean_interval([3.0]) == Interval(3.0)
    assert statistics.mean_interval([3.0]).half is None
    with pytest.raises(ValueError, match="no values"):
        statistics.mean_interval([])


@given(scores, scores)
def test_a_difference_over_shared_seeds_is_paired(one: list[float], other: list[float]) -> None:
    first, second = dict(enumerate(one)), dict(enumerate(other))
    n = min(len(one), len(other))
    got = statistics.difference(first, second)
    assert got == statistics.mean_interval([one[i] - other[i] for i in range(n)])
    if len({one[i] - other[i] for i in range(n)}) > 1:
        expected = stats.ttest_rel(one[:n], other[:n]).confidence_interval()
        assert (got.low, got.high) == pytest.approx((expected.low, expected.high))


@given(scores, scores)
def test_a_difference_without_shared_seeds_is_welchs(one: list[float], other: list[float]) -> None:
    got = statistics.difference(dict(enumerate(one)), dict(enumerate(other, 100)))
    assert got.value == pytest.approx(np.mean(one) - np.mean(other))
    if min(np.var(one), np.var(other)) > 0:  # scipy warns of equal numbers
        expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
        assert (got.low, got.high) == pytest.approx((expected.low, expected.high))
    elif np.var(one) == np.var(other):
        assert got.half == 0


def test_a_difference_of_single_seeds_is_not_judged() -> None:
    got = statistics.difference({0: 5.0}, {1: 3.0})
    assert got == Interval(2.0) and got.holds(0)


def test_the_bootstrap_agrees_with_scipy_and_repeats() -> None:
    values = [3.0, 7.0, 8.5, 1.0, 4.0, 9.0]
    got = statistics.bootstrap(values, rng())
    assert got == statistics.bootstrap(values, rng())
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=rng())
    low, high = theirs.confidence_interval
    assert (got.low, got.high) == pytest.approx((low, high), abs=0.15)
    assert statistics.bootstrap([2.0], rng()) == Interval(2.0)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_the_interquartile_mean_is_the_trimmed_mean(values: list[float]) -> None:
    assert statistics.middle_half(np.array([values]))[0] == pytest.approx(stats.trim_mean(values, 0.25))
    got = statistics.interquartile_mean([values], rng())
    assert got.low is None or got.low <= got.value + 1e-9


def test_the_interval_of_the_interquartile_mean_keeps_streams_apart() -> None:
    """Two streams of constant scores: whatever is resampled, half of the scores is of each."""
    got = statistics.interquartile_mean([[10.0] * 4, [90.0] * 4], rng())
    assert (got.low, got.value, got.high) == (50.0, 50.0, 50.0)


@given(st.lists(scores, min_size=1, max_size=3), st.lists(scores, min_size=1, max_size=3))
def test_the_probability_of_improvement_counts_pairs(one: list[list[float]], other: list[list[float]]) -> None:
    n = min(len(one), len(other))
    shares = []
    for a, b in zip(one[:n], other[:n], strict=True):
        wins = [1.0 if x > y else 0.5 if x == y else 0.0 for x, y in itertools.product(a, b)]
        shares.append(sum(wins) / len(wins))
    got = statistics.probability_of_improvement(one[:n], other[:n], rng())
    assert got.value == pytest.approx(sum(shares) / n)
    assert got.low is not None and got.high is not None and 0 <= got.low <= got.high <= 1


def test_a_performance_profile_is_a_share() -> None:
    assert statistics.performance_profile([10.0, 50.0, 90.0, 90.0], [0, 50, 90, 91]) == [1.0, 0.75, 0.5, 0.0]


@given(st.lists(st.lists(st.integers(0, 9).map(float), min_size=3, max_size=3), min_size=3, max_size=8))
def test_friedmans_test_agrees_with_scipy(table: list[list[float]]) -> None:
    if all(len(set(row)) == 1 for row in table):
        assert statistics.ranking(table).p_value == 1.0
        return
    got = statistics.ranking(table)
    assert got.p_value == pytest.approx(stats.friedmanchisquare(*zip(*table, strict=True)).pvalue)
    places = [[1 + sum(y > x for y in row) + (row.count(x) - 1) / 2 for x in row] for row in table]
    assert got.ranks == pytest.approx(np.mean(places, axis=0).tolist())


def test_the_critical_difference_is_that_of_the_paper() -> None:
    """Demsar 2006, section 3.2.2: four classifiers on 14 data sets, q = 2.569, CD = 1.25."""
    got = statistics.ranking([[4.0, 3.0, 2.0, 1.0]] * 14)
    assert got.difference == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=2e-3)
    assert got.cliques == ((0, 1), (1, 2), (2, 3))


def test_methods_that_are_alike_form_one_clique() -> None:
    table = [[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [3.0, 2.0, 1.0], [2.0, 3.0, 1.0]]
    assert statistics.ranking(table).cliques == ((0, 2),)


def test_a_signed_rank_test_is_exact_and_silent_below_six_seeds() -> None:
    gaps = dict(enumerate([1.0, -2.0, 3.5, 4.0, 5.0, 6.0, 7.0]))
    zero = dict.fromkeys(gaps, 0.0)
    got = statistics.signed_rank(gaps, zero)
    ranks = stats.rankdata(np.abs(list(gaps.values())))
    seen = sum(rank for rank, gap in zip(ranks, gaps.values(), strict=True) if gap > 0)
    middle = sum(ranks) / 2
    signs = itertools.product((0, 1), repeat=len(gaps))
    all_sums = [sum(rank for rank, sign in zip(ranks, each, strict=True) if sign) for each in signs]
    assert got == pytest.approx(np.mean([abs(s - middle) >= abs(seen - middle) - 1e-9 for s in all_sums]))
    assert statistics.signed_rank({k: gaps[k] for k in range(5)}, zero) is None
    assert statistics.signed_rank(zero, zero) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_nobody_beats_a_point_of_the_front(given: list[tuple[int, int]]) -> None:
    points = [(float(cost), float(score)) for cost, score in given]
    kept = statistics.front(points)
    for i, (cost, score) in enumerate(points):
        beaten = any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
        if i in kept:
            assert not beaten
        elif not beaten:
            assert (cost, score) in [points[k] for k in kept], "a point of the front was left out"
