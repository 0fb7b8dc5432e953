"""The memory with scores follows its algorithm and gives filled slots only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.memory.gradient_selected import GradientSelected
from synergy.randomness import generator
from synergy.state import same
from tests.memory.numbered import numbered, numbers_of

BATCHES = st.lists(
    st.tuples(st.lists(st.floats(0, 2), min_size=1, max_size=9), st.floats(0, 2)), min_size=1, max_size=6
)
"""Scores of the samples of each batch, and of the batch."""


def memory(capacity: int, seed: int = 0) -> GradientSelected:
    return GradientSelected(capacity, generator(seed, "stay"), generator(seed, "draw"))


def one_by_one(
    capacity: int, batches: list[tuple[list[float], float]], rng: np.random.Generator
) -> tuple[list[int], list[float]]:
    """The sample and the score of each slot by the greedy algorithm, one sample at a time."""
    slots: list[int] = []
    stored: list[float] = []
    number = 0
    for scores, batch_score in batches:
        full = scores[max(0, capacity - len(slots)) :]
        draws = iter(rng.random((len(full), 2))) if batch_score < 1 else iter(())
        for n, score in enumerate(scores):
            if len(slots) < capacity:
                slots.append(number + n)
                stored.append(score)
            elif batch_score < 1:
                which, whether = next(draws)
                mass = np.cumsum(stored)
                slot = int(np.argmax(mass > which * mass[-1]))
                if whether < stored[slot] / (stored[slot] + score):
                    slots[slot], stored[slot] = number + n, score
        number += len(scores)
    return slots, stored


@given(capacity=st.integers(1, 8), batches=BATCHES, seed=st.integers(0, 10**6))
def test_a_batch_at_a_time_equals_one_by_one(
    capacity: int, batches: list[tuple[list[float], float]], seed: int
) -> None:
    batches = [([max(score, 1e-6) for score in scores], of_batch) for scores, of_batch in batches]
    selected, start = memory(capacity, seed), 0
    for scores, of_batch in batches:
        selected.offer(numbered(start, len(scores)), np.array(scores), of_batch)
        start += len(scores)
        assert len(selected) == min(start, capacity)
        drawn = numbers_of(selected.draw(capacity + 1))
        assert len(set(drawn)) == len(drawn) == len(selected) and max(drawn) < start
        assert (selected.scores[: len(selected)] > 0).all() and not selected.scores[len(selected) :].any()
    slots, stored = one_by_one(capacity, batches, generator(seed, "stay"))
    assert numbers_of(selected.store.all()) == slots
    assert selected.scores[: len(stored)].tolist() == stored


def test_a_full_memory_keeps_out_a_batch_that_resembles_it() -> None:
    selected = memory(4)
    selected.offer(numbered(0, 4), np.full(4, 0.5), 1.5)
    selected.offer(numbered(4, 50), np.full(50, 0.1), 1.0)
    assert numbers_of(selected.store.all()) == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(("stored", "candidate"), [((0.2, 1.8), 0.3), ((1.0, 1.0), 1.0), ((0.5, 1.5), 2.0)])
def test_a_slot_is_replaced_with_the_probability_of_the_rule(stored: tuple[float, float], candidate: float) -> None:
    runs, replaced = 4000, np.zeros(2)
    for seed in range(runs):
        selected = memory(2, seed)
        selected.offer(numbered(0, 2), np.array(stored), 0.5)
        selected.offer(numbered(2, 1), np.array([candidate]), 0.5)
        replaced += np.array(numbers_of(selected.store.all())) == 2
    for slot, score in enumerate(stored):
        assert replaced[slot] / runs == pytest.approx(score / sum(stored) * score / (score + candidate), abs=0.03)


def test_a_score_of_zero_is_no_division_by_zero() -> None:
    selected = memory(2)
    for start in range(0, 8, 2):
        selected.offer(numbered(start, 2), np.array([-1e-9, 0.0]), 0.0)
    assert len(selected) == 2 and np.isfinite(selected.scores.numpy()).all()


def test_goes_on_where_it_was_saved() -> None:
    one, other = memory(5), memory(5, seed=9)
    one.offer(numbered(0, 7), np.linspace(0.1, 1, 7), 0.1)
    other.load_state_dict(one.state_dict())
    for selected in (one, other):
        selected.offer(numbered(7, 9), np.linspace(0.2, 1, 9), 0.9)
    assert same(one.state_dict(), other.state_dict())
    assert numbers_of(one.draw(3)) == numbers_of(other.draw(3))
