"""Statistics of a handful of seeds: intervals, paired differences, ranks. Pure functions of numbers.

Sources:
    Student 1908, *The Probable Error of a Mean* (interval of a mean).
    Welch 1947, *The Generalization of Student's Problem* (difference of two means).
    Efron and Tibshirani 1993, *An Introduction to the Bootstrap* (percentile interval).
    Agarwal et al. 2021, *Deep Reinforcement Learning at the Edge of the Statistical Precipice* (interquartile mean,
    probability of improvement, performance profiles).
    Demsar 2006, *Statistical Comparisons of Classifiers over Multiple Data Sets* (critical difference).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats: TypeAlias = NDArray[np.float64]

LEVEL = 0.95
"""Of every interval."""
RESAMPLES = 10_000
FEWEST_FOR_TESTS = 6
"""Seeds below which a signed-rank test cannot reach 0.05: with five its smallest value is 0.0625."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval.

    Attributes:
        value: the estimate.
        low, high: None if there are too few numbers for an interval.

    Examples:
        >>> Interval(2.0, 1.0, 3.5).holds(0), Interval(2.0).holds(0)
        (False, True)
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Half of its width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def holds(self, value: float) -> bool:
        """Whether `value` is in it. An interval that is not known may hold anything."""
        return self.low is None or self.high is None or self.low <= value <= self.high


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean and its 95 % interval by Student's t: `mean ± t(0.975, n - 1) * s / sqrt(n)`.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values, so no mean")
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean)
    half = quantile(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def quantile(freedom: float) -> float:
    """Student's t at 0.975 for so many degrees of freedom."""
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def paired_difference(one: Mapping[int, float], other: Mapping[int, float]) -> Interval | None:
    """Mean of `one - other` over the seeds that both have, with its interval by Student's t; None if there are none."""
    shared = sorted(one.keys() & other.keys())
    return mean_interval([one[seed] - other[seed] for seed in shared]) if shared else None


def difference(one: Mapping[int, float], other: Mapping[int, float]) -> Interval:
    """`one - other` with its 95 % interval: paired over two or more shared seeds, else by Welch's t.

    The interval is not known if there are fewer than two seeds on a side.
    """
    paired = paired_difference(one, other)
    if paired is not None and paired.low is not None:
        return paired
    first, second = list(one.values()), list(other.values())
    gap = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2:
        return Interval(gap)
    parts = [float(np.var(each, ddof=1)) / len(each) for each in (first, second)]
    if sum(parts) == 0:
        return Interval(gap, gap, gap)
    freedom = sum(parts) ** 2 / sum(p**2 / (len(each) - 1) for p, each in zip(parts, (first, second), strict=True))
    half = quantile(freedom) * math.sqrt(sum(parts))
    return Interval(gap, gap - half, gap + half)


def bootstrap(
    values: Sequence[float], rng: np.random.Generator, statistic: Callable[[Floats], Floats] | None = None
) -> Interval:
    """A statistic of values with its percentile bootstrap interval.

    Args:
        values: `[n]`.
        rng: draws the resamples.
        statistic: from samples `[R, n]` to `[R]`; the mean by default.
    """
    data = np.asarray(values, dtype=np.float64)
    compute = statistic or (lambda samples: samples.mean(1))
    value = float(compute(data[None])[0])
    if len(data) < 2:
        return Interval(value)
    drawn = compute(data[rng.integers(0, len(data), (RESAMPLES, len(data)))])
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def interquartile_mean(scores: Sequence[Sequence[float]], rng: np.random.Generator) -> Interval:
    """Mean of the middle half of all scores, with a bootstrap interval that resamples seeds within each stream.

    Args:
        scores: of each stream, the scores of its seeds.
        rng: draws the resamples.
    """
    pooled = np.concatenate([np.asarray(each, dtype=np.float64) for each in scores])
    value = float(middle_half(pooled[None])[0])
    if all(len(each) < 2 for each in scores):
        return Interval(value)
    low, high = np.quantile(middle_half(_stratified(scores, rng)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def middle_half(samples: Floats) -> Floats:
    """Mean of each row of `[R, n]` without its lowest and its highest quarter, `[R]`: the 25 % trimmed mean."""
    ordered = np.sort(samples, axis=1)
    cut = ordered.shape[1] // 4
    return np.asarray(ordered[:, cut : ordered.shape[1] - cut].mean(1))


def _stratified(scores: Sequence[Sequence[float]], rng: np.random.Generator, resamples: int = 2000) -> Floats:
    """Resamples `[R, n]` that keep the number of scores of each stream."""
    parts = []
    for each in scores:
        data = np.asarray(each, dtype=np.float64)
        parts.append(data[rng.integers(0, len(data), (resamples, len(data)))])
    return np.concatenate(parts, axis=1)


def probability_of_improvement(
    one: Sequence[Sequence[float]], other: Sequence[Sequence[float]], rng: np.random.Generator
) -> Interval:
    """Probability that a run of `one` scores above a run of `other` on a stream drawn at random; a tie counts half.

    Args:
        one, other: of each stream, in one order, the scores of the seeds.
        rng: draws the resamples; seeds are resampled within each stream.
    """
    value = float(np.mean([_above(np.asarray([a]), np.asarray([b]))[0] for a, b in zip(one, other, strict=True)]))
    if all(len(each) < 2 for each in (*one, *other)):
        return Interval(value)
    drawn = np.zeros(2000)
    for a, b in zip(one, other, strict=True):
        drawn += _above(_stratified([a], rng), _stratified([b], rng))
    low, high = np.quantile(drawn / len(one), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def _above(one: Floats, other: Floats) -> Floats:
    """Share of pairs of each row in which `one [R, n]` is above `other [R, m]`, `[R]`."""
    gap = one[:, :, None] - other[:, None, :]
    return np.asarray(((gap > 0) + 0.5 * (gap == 0)).mean((1, 2)))


def performance_profile(scores: Sequence[float], thresholds: Sequence[float]) -> list[float]:
    """Share of scores at or above each threshold."""
    data = np.asarray(scores, dtype=np.float64)
    return [float((data >= threshold).mean()) for threshold in thresholds]


@dataclass(frozen=True)
class Ranking:
    """Ranks of methods over data sets.

    Attributes:
        ranks: mean rank of each method, 1 is best; ties share their mean.
        difference: mean ranks that differ by less are not told apart at 5 % (Nemenyi).
        p_value: of the Friedman test that all methods are alike.
        cliques: positions in the order of the ranks, first and last, of methods that are not told apart.

    Examples:
        >>> ranking([[3.0, 2.0, 1.0]] * 5).ranks
        (1.0, 2.0, 3.0)
    """

    ranks: tuple[float, ...]
    difference: float
    p_value: float
    cliques: tuple[tuple[int, int], ...]


def ranking(scores: Sequence[Sequence[float]]) -> Ranking:
    """Friedman's test and Nemenyi's critical difference: `q(0.05, k, inf) / sqrt(2) * sqrt(k (k + 1) / (6 n))`.

    Args:
        scores: of each of `n` data sets the scores of `k` methods, higher is better; `n` and `k` at least 2.
    """
    table = np.asarray(scores, dtype=np.float64)
    n, k = table.shape
    ranks = stats.rankdata(-table, axis=1)
    means = ranks.mean(0)
    critical = float(stats.studentized_range.ppf(LEVEL, k, np.inf)) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))
    ties = sum(float((count**3 - count).sum()) for row in ranks for _, count in [np.unique(row, return_counts=True)])
    spread = 12 * n / (k * (k + 1)) * float((means**2).sum()) - 3 * n * (k + 1)
    correction = 1 - ties / (n * k * (k**2 - 1))
    p_value = float(stats.chi2.sf(spread / correction, k - 1)) if correction > 0 else 1.0
    return Ranking(tuple(means.tolist()), critical, p_value, _cliques(sorted(means.tolist()), critical))


def _cliques(ordered: Sequence[float], critical: float) -> tuple[tuple[int, int], ...]:
    """The longest stretches of ordered ranks within the critical difference, of two or more methods."""
    found: list[tuple[int, int]] = []
    for first in range(len(ordered)):
        last = max(i for i in range(first, len(ordered)) if ordered[i] - ordered[first] <= critical)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)


def signed_rank(one: Mapping[int, float], other: Mapping[int, float]) -> float | None:
    """Exact p-value of Wilcoxon's signed-rank test over shared seeds; None below six seeds, where it says nothing."""
    gaps = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
    if len(gaps) < FEWEST_FOR_TESTS or not any(gaps):
        return None
    return float(stats.wilcoxon(gaps, method="exact" if all(gaps) else "auto").pvalue)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The Pareto front of (cost, score) pairs: positions of those that no other beats at no more cost, by cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    best, kept = -math.inf, []
    for i in order:
        if points[i][1] > best:
            best = points[i][1]
            kept.append(i)
    return kept
