"""Metrics against matrices worked out by hand, against loops that follow the formulas, and what must hold for all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from synergy.errors import UsageError
from synergy.runs import metrics

Rows: TypeAlias = list[list[float]]
NAN = math.nan

THREE_TASKS = [
    [90.0, 20.0, 12.0],
    [70.0, 80.0, 18.0],
    [60.0, 50.0, 85.0],
]
UNTRAINED = [10.0, 12.0, 8.0]

PER_TASK: tuple[Callable[[metrics.Matrix], float | None], ...] = (
    metrics.forgetting,
    metrics.backward_transfer,
    metrics.plasticity,
    metrics.stability,
    metrics.trade_off,
    lambda matrix: metrics.forward_transfer(matrix, [10.0] * len(matrix[0])),
)

percents = st.floats(0, 100)


@st.composite
def squares(draw: st.DrawFn, least: int = 2) -> Rows:
    size = draw(st.integers(least, 6))
    return draw(st.lists(st.lists(percents, min_size=size, max_size=size), min_size=size, max_size=size))


@st.composite
def matrices(draw: st.DrawFn) -> Rows:
    width = draw(st.integers(1, 6))
    return draw(st.lists(st.lists(percents, min_size=width, max_size=width), min_size=1, max_size=6))


def close(expected: float) -> object:
    return pytest.approx(expected, abs=1e-9)


def test_three_tasks_by_hand() -> None:
    assert metrics.summary(THREE_TASKS, UNTRAINED) == {
        "final_average": close((60 + 50 + 85) / 3),
        "average_over_time": close((90 + 75 + 65) / 3),
        "forgetting": close((30 + 30) / 2),
        "backward_transfer": close((-30 - 30) / 2),
        "forward_transfer": close(((20 - 12) + (18 - 8)) / 2),
        "plasticity": close((90 + 80 + 85) / 3),
        "stability": close((60 + 50) / 2),
        "trade_off": close(2 * 85 * 55 / (85 + 55)),
    }
    assert [metrics.average_after(THREE_TASKS, t) for t in range(3)] == [90, 75, 65]


def test_forgetting_starts_from_the_best_that_was_known_not_from_the_first() -> None:
    matrix = [[50.0, 99.0, 0.0], [70.0, 40.0, 0.0], [60.0, 45.0, 80.0]]
    # Split 0 was best after task 1. Split 1 stood at 99 before its task: that was not knowledge, and it got better.
    assert metrics.forgetting(matrix) == close(((70 - 60) + (40 - 45)) / 2)
    assert metrics.backward_transfer(matrix) == close(((60 - 50) + (45 - 40)) / 2)


@given(squares(), st.lists(percents, min_size=6, max_size=6))
def test_formulas_word_by_word(rows: Rows, untrained: list[float]) -> None:
    size, last = len(rows), len(rows) - 1
    lost, back, forward, learned, kept = [], [], [], [], []
    for k in range(size):
        learned.append(rows[k][k])
        if k < last:
            best = rows[k][k]
            for t in range(k, last):
                best = max(best, rows[t][k])
            lost.append(best - rows[last][k])
            back.append(rows[last][k] - rows[k][k])
            kept.append(rows[last][k])
        if k >= 1:
            forward.append(rows[k - 1][k] - untrained[k])
    mean_learned, mean_kept = sum(learned) / size, sum(kept) / last
    both = mean_learned + mean_kept
    assert metrics.forgetting(rows) == close(sum(lost) / last)
    assert metrics.backward_transfer(rows) == close(sum(back) / last)
    assert metrics.forward_transfer(rows, untrained[:size]) == close(sum(forward) / last)
    assert metrics.plasticity(rows) == close(mean_learned)
    assert metrics.stability(rows) == close(mean_kept)
    assert metrics.trade_off(rows) == close(2 * mean_learned * mean_kept / both if both else 0)


@given(matrices())
def test_averages_word_by_word(rows: Rows) -> None:
    averages = []
    for t, row in enumerate(rows):
        seen = min(t + 1, len(row))
        averages.append(sum(row[:seen]) / seen)
    assert [metrics.average_after(rows, t) for t in range(len(rows))] == [close(value) for value in averages]
    assert metrics.final_average(rows) == close(averages[-1])
    assert metrics.average_over_time(rows) == close(sum(averages) / len(averages))


def test_forgetting_differs_from_that_of_other_libraries_as_the_page_says() -> None:
    """Of mammoth (`utils/metrics.py`) and avalanche (`forgetting_bwt.py`), written from docs/terms.md."""
    rows = [[50.0, 99.0, 0.0], [70.0, 40.0, 0.0], [75.0, 45.0, 80.0]]
    matrix = np.array(rows)
    mammoth = (matrix.max(0) - matrix[-1])[:-1].mean()
    avalanche = (matrix.diagonal() - matrix[-1])[:-1].mean()
    assert metrics.forgetting(rows) == close(((70 - 75) + (40 - 45)) / 2)
    assert mammoth == close(((75 - 75) + (99 - 45)) / 2)
    assert avalanche == close(((50 - 75) + (40 - 45)) / 2) == close(-(metrics.backward_transfer(rows) or 0))


def test_forward_transfer_is_for_classes_that_can_be_known_before_their_task() -> None:
    apart, shared = [(0, 1), (2, 3)], [(0, 1), (1, 2)]
    assert not metrics.transfers_forward("class-IL", apart)
    assert metrics.transfers_forward("class-IL", shared)
    assert metrics.transfers_forward("task-IL", apart)
    assert metrics.transfers_forward("domain-IL", [(0, 1), (0, 1)])


@given(st.integers(2, 6), percents)
def test_a_constant_matrix_shows_no_change(size: int, level: float) -> None:
    values = metrics.summary(np.full((size, size), level), [level] * size)
    unchanged = ("forgetting", "backward_transfer", "forward_transfer")
    assert {name: values.pop(name) for name in unchanged} == dict.fromkeys(unchanged, close(0))
    assert values == dict.fromkeys(values, close(level))
    assert len(values) == 5


@given(squares(), st.lists(percents, min_size=6, max_size=6))
def test_ranges_and_relations(rows: Rows, untrained: list[float]) -> None:
    values = metrics.summary(rows, untrained[: len(rows)])
    slack = 1e-9
    for name in ("final_average", "average_over_time", "plasticity", "stability", "trade_off"):
        assert -slack <= values[name] <= 100 + slack
    for name in ("forgetting", "backward_transfer", "forward_transfer"):
        assert -100 - slack <= values[name] <= 100 + slack
    assert values["forgetting"] >= -values["backward_transfer"] - slack  # the best is no worse than the first
    assert values["trade_off"] <= (values["plasticity"] + values["stability"]) / 2 + slack


@given(squares(), st.permutations(range(6)), st.data())
def test_the_end_does_not_care_how_splits_are_ordered(rows: Rows, order: list[int], data: st.DataObject) -> None:
    size = len(rows)
    matrix: NDArray[np.float64] = np.array(rows)
    # All splits are seen at the end, so any order of columns gives the same final average ...
    columns = [k for k in order if k < size]
    assert metrics.final_average(matrix[:, columns]) == close(metrics.final_average(matrix) or 0)
    # ... and the earlier ones, which forgetting and stability compare, may trade their last rows' values and bests.
    inner = data.draw(st.permutations(range(size - 1)))
    swapped = matrix.copy()
    for new, old in enumerate(inner):
        swapped[new:-1, new] = matrix[old:-1, old].max()
        swapped[-1, new] = matrix[-1, old]
    assert metrics.stability(swapped) == close(metrics.stability(matrix) or 0)
    assert metrics.forgetting(swapped) == close(metrics.forgetting(matrix) or 0)


@given(squares(), st.floats(0, 100))
def test_what_came_before_a_task_counts_for_forward_transfer_only(rows: Rows, level: float) -> None:
    matrix: NDArray[np.float64] = np.array(rows)
    changed = matrix.copy()
    changed[np.triu_indices(len(rows), k=1)] = level
    before, after = metrics.summary(matrix, []), metrics.summary(changed, [])
    assert before == after
    assert "forward_transfer" not in before


@pytest.mark.parametrize(
    "matrix",
    [
        [[80.0]],  # MNIST-360: one task, one split
        [[80.0]] * 20,  # GCIL: 20 tasks, one split
        [[80.0] * 3] * 2,  # stopped after two of three tasks
    ],
)
def test_without_a_split_for_each_of_several_tasks_only_averages_are_defined(matrix: Rows) -> None:
    assert metrics.summary(matrix, [10.0] * len(matrix[0])) == {
        "final_average": close(80),
        "average_over_time": close(80),
    }
    assert [metric(matrix) for metric in PER_TASK] == [None] * len(PER_TASK)


def test_one_split_is_averaged_over_time() -> None:
    assert metrics.average_over_time([[10.0], [20.0], [60.0]]) == close(30)
    assert metrics.final_average([[10.0], [20.0], [60.0]]) == close(60)


@pytest.mark.parametrize("matrix", [[], np.empty((0, 3))])
def test_nothing_is_defined_before_the_first_evaluation(matrix: metrics.Matrix) -> None:
    assert metrics.summary(matrix, []) == {}
    assert metrics.summary(matrix, UNTRAINED) == {}


def test_a_metric_that_misses_an_entry_is_undefined_and_the_others_are_not() -> None:
    only_seen = [[90.0, NAN, NAN], [70.0, 80.0, NAN], [60.0, 50.0, 85.0]]
    complete = metrics.summary(THREE_TASKS, UNTRAINED)
    del complete["forward_transfer"]
    assert metrics.summary(only_seen, UNTRAINED) == complete

    only_the_end: list[list[float | None]] = [[None] * 3, [None] * 3, [60.0, 50.0, 85.0]]
    assert metrics.summary(only_the_end, UNTRAINED) == {"final_average": close(65), "stability": close(55)}
    assert metrics.average_after(only_the_end, 0) is None

    gap = [[90.0, 20.0, 12.0], [NAN, 80.0, 18.0], [60.0, 50.0, 85.0]]
    assert metrics.forgetting(gap) is None


def test_nothing_learned_and_nothing_kept_is_a_trade_off_of_zero() -> None:
    assert metrics.trade_off([[0.0, 0.0], [0.0, 0.0]]) == 0


@pytest.mark.parametrize("t", [-1, 3])
def test_there_is_no_average_after_a_task_that_was_not_learned(t: int) -> None:
    with pytest.raises(UsageError, match=f"task {t}: the matrix has rows for 3 tasks"):
        metrics.average_after(THREE_TASKS, t)


def test_a_baseline_of_another_length_is_refused() -> None:
    with pytest.raises(UsageError, match="given 2 accuracies for 3 test splits"):
        metrics.forward_transfer(THREE_TASKS, [10.0, 10.0])


def test_a_matrix_has_two_dimensions() -> None:
    with pytest.raises(UsageError, match="given 1 dimensions"):
        metrics.final_average(np.array([1.0, 2.0]))


def test_calibration_by_hand() -> None:
    # Bin 0: 4 predictions, mean confidence 0.3, half of them right. Bin 2: 6, mean confidence 0.9, two thirds right.
    error = metrics.expected_calibration_error([1.2, 0.0, 5.4], [2, 0, 4], [4, 0, 6])
    assert error == close(100 * (0.4 * 0.2 + 0.6 * (0.9 - 4 / 6)))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 15))
def test_calibration_word_by_word(predictions: list[tuple[float, bool]], bins: int) -> None:
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for confidence, right in predictions:
        members[min(int(confidence * bins), bins - 1)].append((confidence, right))
    expected = 0.0
    for inside in filter(None, members):
        confidence = sum(c for c, _ in inside) / len(inside)
        accuracy = sum(right for _, right in inside) / len(inside)
        expected += 100 * len(inside) / len(predictions) * abs(confidence - accuracy)
    actual = metrics.expected_calibration_error(
        [sum(c for c, _ in inside) for inside in members],
        [sum(right for _, right in inside) for inside in members],
        np.array([len(inside) for inside in members]),
    )
    assert actual == close(expected)
    assert 0 <= expected <= 100 + 1e-9


def test_calibration_of_nothing_is_undefined() -> None:
    assert metrics.expected_calibration_error([0.0, 0.0], [0, 0], [0, 0]) is None


def test_calibration_needs_the_same_bins_three_times() -> None:
    with pytest.raises(UsageError, match="given 2, 2 and 1 bins"):
        metrics.expected_calibration_error([0.0, 0.0], [0, 0], [0])


def test_every_metric_has_a_title_of_its_own() -> None:
    names = [metric.name for metric in metrics.METRICS]
    assert list(metrics.titles(reversed(names))) == names
    assert len(set(metrics.titles(names).values())) == len(names) == 8


def test_a_unit_other_than_percent_is_in_the_title(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = metrics.Metric("wall", "wall time", lambda matrix, _: 1.0, unit="s")
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, seconds))
    assert metrics.titles(["of_mine", "wall"]) == {"wall": "wall time, s", "of_mine": "of mine"}
    assert metrics.summary([[50.0]], [])["wall"] == 1.0
