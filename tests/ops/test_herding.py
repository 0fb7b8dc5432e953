"""Herding against brute force."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from synergy.ops.herding import herd


def distances(features: Tensor, chosen: list[int]) -> dict[int, float]:
    """The distance between the two means, for every sample that could be chosen next."""
    left = (n for n in range(len(features)) if n not in chosen)
    return {n: float((features.mean(0) - features[[*chosen, n]].mean(0)).norm()) for n in left}


def features(n: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator, dtype=torch.float64)


@given(n=st.integers(1, 12), width=st.integers(2, 6), count=st.integers(1, 15), seed=st.integers(0, 10**6))
def test_every_choice_is_the_best_of_all_that_could_be_made(n: int, width: int, count: int, seed: int) -> None:
    of_class = features(n, width, seed)
    chosen = herd(of_class, count).tolist()
    assert len(chosen) == min(n, count)
    for k, choice in enumerate(chosen):
        tried = distances(of_class, chosen[:k])
        assert tried[choice] == pytest.approx(min(tried.values()), abs=1e-7), f"choice {k} was not the nearest"


def test_no_sample_twice_and_the_first_few_are_those_of_a_longer_choice() -> None:
    of_class = features(50, 8, seed=0).float()
    every = herd(of_class, 50).tolist()
    assert sorted(every) == list(range(50))
    assert herd(of_class, 7).tolist() == every[:7]


@pytest.mark.parametrize("count", [1, 4])
def test_equal_samples_are_taken_in_their_order(count: int) -> None:
    assert herd(torch.ones(4, 3), count).tolist() == list(range(count))


def test_a_few_stand_for_all_better_than_the_first_few() -> None:
    of_class = features(200, 5, seed=1)

    def distance(indices: Tensor) -> float:
        return float((of_class[indices].mean(0) - of_class.mean(0)).norm())

    assert distance(herd(of_class, 10)) < 0.3 * distance(torch.arange(10))
