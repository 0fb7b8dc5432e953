"""Ablations find the whole method, and say what each change costs."""

from __future__ import annotations

import pytest

from synergy.report.ablation import Ablation, ablations
from synergy.report.groups import Choice, groups
from synergy.report.tables import table
from tests.report.runs import made

VARIANTS = {
    "whole": ({"a": 1.0, "b": 1.0, "c": 2}, 80.0),
    "without a": ({"a": 0.0, "b": 1.0, "c": 2}, 70.0),
    "without b": ({"a": 1.0, "b": 0.0, "c": 2}, 84.0),
    "other c": ({"a": 1.0, "b": 1.0, "c": 3}, 78.0),
}


def found(order: list[str], noise: tuple[float, ...] = (0.0, 1.0, 3.0), choice: Choice | None = None) -> list[Ablation]:
    records = [
        made("er", seed, VARIANTS[name][1] + more * (1 + place), options=VARIANTS[name][0])
        for place, name in enumerate(order)
        for seed, more in enumerate(noise)
    ]
    return ablations(table(groups([*records, made("sgd", 0, buffer_size=None)]), choice or Choice()))


@pytest.mark.parametrize("order", [list(VARIANTS), list(VARIANTS)[::-1]])
def test_the_whole_method_is_the_reference_in_any_order(order: list[str]) -> None:
    (of,) = found(order)
    assert (of.method, of.reference, of.comparison) == ("er", "er a=1 b=1 c=2", "seq-digits, class-IL, buffer 200")
    assert len(of.changes) == 3 and {change.seeds for change in of.changes} == {3}


def test_differences_are_paired_over_seeds_and_the_most_costly_comes_first() -> None:
    (of,) = found(list(VARIANTS))
    without_a = of.changes[0]
    gaps = [-10.0, -10.0 + 1.0, -10.0 + 3.0]
    mean = sum(gaps) / 3
    half = 4.302652729911275 * (sum((gap - mean) ** 2 for gap in gaps) / 2 / 3) ** 0.5
    assert without_a.variant == "er a=0 b=1 c=2"
    assert without_a.difference.value == pytest.approx(mean)
    assert (without_a.difference.low, without_a.difference.high) == pytest.approx((mean - half, mean + half))
    assert [change.variant for change in of.changes][-1] == "er a=1 b=0 c=2"


def test_one_seed_has_no_interval() -> None:
    (of,) = found(list(VARIANTS), noise=(0.0,))
    assert of.changes[0].difference.low is None
