"""Samples taken out of memory are gone, all others stay, and the memory goes on by its own rule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from synergy.memory.base import Forgetful
from synergy.memory.class_balanced import ClassBalanced
from synergy.memory.gradient_selected import GradientSelected
from synergy.memory.reservoir import Reservoir, closed_up
from synergy.memory.store import Samples, Store

Offer = Callable[[Samples], object]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def numbered(start: int, n: int) -> Samples:
    """Samples whose image and extra field carry their own number; the label is the number modulo 3."""
    numbers = torch.arange(start, start + n)
    return Samples(numbers.view(n, 1).int(), numbers % 3, {"logits": numbers.double().view(n, 1)})


def made(kind: str, capacity: int, seed: int) -> tuple[Forgetful, Offer]:
    if kind == "reservoir":
        reservoir = Reservoir(capacity, rng(seed), rng(seed + 1))
        return reservoir, reservoir.offer
    if kind == "class_balanced":
        balanced = ClassBalanced(capacity, rng(seed))
        return balanced, balanced.offer
    selected = GradientSelected(capacity, rng(seed), rng(seed + 1))
    scores = rng(seed + 2)
    return selected, lambda samples: selected.offer(samples, scores.uniform(0, 2, len(samples)), 0.5)


def numbers(memory: Forgetful) -> list[int]:
    samples = memory.all()
    found: list[int] = samples.raw.flatten().tolist()
    assert samples.extras["logits"].flatten().tolist() == found, "a sample lost its own extra field"
    assert samples.labels.tolist() == [number % 3 for number in found], "a sample lost its own label"
    return found


@pytest.mark.parametrize("kind", ["reservoir", "class_balanced", "gradient_selected"])
@given(data=st.data(), capacity=st.integers(1, 12), seed=st.integers(0, 2**16))
def test_only_what_is_kept_stays_and_the_memory_goes_on(
    kind: str, data: st.DataObject, capacity: int, seed: int
) -> None:
    memory, offer = made(kind, capacity, seed)
    start = 0
    forgotten: set[int] = set()
    for size in data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=6)):
        offer(numbered(start, size))
        start += size
        before = numbers(memory)
        assert len(set(before)) == len(before) <= capacity
        assert not forgotten & set(before), "a sample came back after it was taken out"
        keep = [position for position in range(len(before)) if data.draw(st.booleans())]
        memory.keep(np.asarray(keep, dtype=np.int64))
        assert numbers(memory) == [before[position] for position in keep]
        forgotten |= set(before) - set(numbers(memory))
        assert not set(memory.store.state_dict()["fields"]["raw"].flatten().tolist()) & forgotten
    assert len(memory) <= capacity


def test_nothing_of_a_forgotten_sample_stays_in_the_slots() -> None:
    store = Store(4)
    store.write(np.array([0, 1, 2, 3, 4]), Samples(torch.full((5, 2), 7), torch.full((5,), 7)))
    store.keep(np.array([1]))
    whole = store._fields  # every slot, and the one that takes what is dropped
    assert whole["raw"].tolist() == [[7, 7], [0, 0], [0, 0], [0, 0], [0, 0]]
    assert whole["labels"].tolist() == [7, 0, 0, 0, 0]


@pytest.mark.parametrize("kind", ["class_balanced", "gradient_selected"])
def test_freed_slots_are_filled_at_once(kind: str) -> None:
    memory, offer = made(kind, 6, 0)
    offer(numbered(0, 6))
    memory.keep(np.array([0, 4]))
    if isinstance(memory, GradientSelected):
        assert memory.scores[:2].all() and not memory.scores[2:].any()
    offer(numbered(6, 3))
    assert set(numbers(memory)) == {0, 4, 6, 7, 8}


def test_a_reservoir_stays_uniform_after_forgetting() -> None:
    """Every sample, early or late, that was not taken out is in memory with probability capacity / offered."""
    capacity, n, runs = 5, 20, 4000
    forgotten = {1, 2, 3}
    counts = np.zeros(n)
    for seed in range(runs):
        memory = Reservoir(capacity, rng(seed), rng(0))
        memory.offer(numbered(0, 10))
        memory.keep(np.asarray([i for i, number in enumerate(numbers(memory)) if number not in forgotten]))
        memory.offer(numbered(10, n - 10))
        counts[numbers(memory)] += 1
    kept = np.asarray([number for number in range(n) if number not in forgotten])
    assert counts[list(forgotten)].sum() == 0
    expected = np.full(len(kept), runs * capacity / n)
    assert abs(counts[kept].sum() / expected.sum() - 1) < 0.01
    assert chisquare(counts[kept] * expected.sum() / counts[kept].sum(), expected).pvalue > 1e-3


def test_slots_close_up_in_order() -> None:
    slots = np.array([7, 2, 9, 7, 10, 5, 3])
    assert closed_up(slots, 5, 10).tolist() == [5, 2, 6, 7, 10, 5, 3]
    assert closed_up(slots, 10, 10).tolist() == slots.tolist()


def test_labels_need_not_follow_one_another() -> None:
    memory = ClassBalanced(4, rng(0))
    memory.offer(Samples(torch.zeros(6, 1), torch.tensor([0, 0, 0, 0, 5, 5])))
    assert memory.counts().tolist() == [2, 0, 0, 0, 0, 2]


def test_widened_fields_keep_what_they_had() -> None:
    store = Store(3)
    store.write(np.arange(2), numbered(4, 2))
    store.widen("logits", 2)
    store.widen("no such field", 2)
    assert store.all().extras["logits"].tolist() == [[4, 0, 0], [5, 0, 0]]
    store.write(
        np.array([2]), Samples(torch.tensor([[9]]).int(), torch.tensor([0]), {"logits": torch.ones(1, 3).double()})
    )
    assert store.all().extras["logits"][2].tolist() == [1, 1, 1]
