"""The reservoir decides as one by one, is uniform, and gives filled slots only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from synergy.memory.reservoir import Reservoir, reservoir_slots
from synergy.memory.store import Samples, last_writers
from synergy.state import same


def reservoir(capacity: int, seed: int = 0) -> Reservoir:
    return Reservoir(capacity, np.random.default_rng(seed), np.random.default_rng(seed + 1))


def numbered(start: int, n: int) -> Samples:
    """Samples that carry their own number, in the image, the label and an extra field."""
    numbers = torch.arange(start, start + n)
    raw = numbers.to(torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 2)
    return Samples(raw, numbers, {"logits": numbers.double().view(n, 1)})


def one_by_one(capacity: int, sizes: list[int], rng: np.random.Generator) -> list[int]:
    """The sample in each slot by Vitter's algorithm R, one sample at a time, with the same random numbers."""
    slots: list[int] = []
    seen = 0
    for size in sizes:
        for uniform in rng.random(size):
            seen += 1
            if len(slots) < capacity:
                slots.append(seen - 1)
            else:
                j = min(int(uniform * seen), seen - 1)
                if j < capacity:
                    slots[j] = seen - 1
    return slots


@given(
    capacity=st.integers(1, 12),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    seed=st.integers(0, 2**32),
)
def test_a_batch_at_a_time_equals_one_by_one(capacity: int, sizes: list[int], seed: int) -> None:
    memory = Reservoir(capacity, np.random.default_rng(seed), np.random.default_rng(0))
    start = 0
    for size in sizes:
        memory.offer(numbered(start, size))
        start += size
        assert len(memory) == min(start, capacity)
        drawn = memory.draw(capacity + 3)
        assert len(drawn) == len(memory)
        assert len(set(drawn.labels.tolist())) == len(drawn), "a sample was drawn twice"
        assert set(drawn.labels.tolist()) <= set(range(start)), "something was drawn that was never offered"
    expected = one_by_one(capacity, sizes, np.random.default_rng(seed))
    content = memory.all()
    assert content.labels.tolist() == expected
    assert content.extras["logits"][:, 0].tolist() == expected
    assert content.raw[:, 0, 0, 0].tolist() == [number % 256 for number in expected]


@pytest.mark.parametrize("forgotten", [0, 5, 10])
def test_fewer_slots_after_some_were_given_up(forgotten: int) -> None:
    """Every one of 40 offered samples that was not taken out stays with probability 5 / 40."""
    runs, counts = 2000, np.zeros(40)
    for seed in range(runs):
        memory = reservoir(10, 2 * seed)
        memory.offer(numbered(0, 20))
        memory.keep(np.flatnonzero(memory.all().labels.numpy() >= forgotten))
        memory.shrink(5, np.random.default_rng(seed + 10**6))
        assert memory.capacity == 5
        memory.offer(numbered(20, 20))
        counts[memory.all().labels.numpy()] += 1
    assert not counts[:forgotten].any()
    assert counts[forgotten:].mean() == pytest.approx(runs * 5 / 40, rel=0.05)
    assert chisquare(counts[forgotten:]).pvalue > 0.001


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_every_sample_stays_with_the_same_probability(batch: int) -> None:
    runs, n, capacity = 1500, 50, 10
    counts = np.zeros(n)
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        slots = np.full(capacity, -1)
        for start in range(0, n, batch):
            numbers = np.arange(start, min(start + batch, n)) + 1
            chosen = reservoir_slots(numbers, rng.random(len(numbers)), capacity)
            kept = last_writers(chosen, capacity)
            slots[chosen[kept]] = numbers[kept] - 1
        counts[slots] += 1
    assert chisquare(counts).pvalue > 0.001


def test_every_filled_slot_is_drawn_with_the_same_probability() -> None:
    memory = reservoir(40)
    memory.offer(numbered(0, 25))
    counts = np.zeros(25)
    for _ in range(4000):
        counts[memory.draw(5).labels.numpy()] += 1
    assert chisquare(counts).pvalue > 0.001


def test_the_last_of_several_on_one_slot_stays() -> None:
    slots = np.array([3, 1, 3, 9, 1, 0])
    assert last_writers(slots, 4).tolist() == [2, 4, 5]


def test_a_number_just_below_one_is_no_slot_of_its_own() -> None:
    below_one = np.array([np.nextafter(1.0, 0.0)])
    assert reservoir_slots(np.array([2**60]), below_one, 5)[0] >= 5
    assert reservoir_slots(np.array([3]), below_one, 5).tolist() == [2]


def test_saved_and_restored_it_goes_on_the_same() -> None:
    one = reservoir(6)
    one.offer(numbered(0, 9))
    other = reservoir(6, seed=77)
    other.load_state_dict(one.state_dict())
    for memory in (one, other):
        memory.offer(numbered(9, 30))
    assert same(one.state_dict(), other.state_dict())
    assert torch.equal(one.draw(3).labels, other.draw(3).labels)


def test_the_state_of_another_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="the saved memory has 6 slots, this one 7"):
        reservoir(7).load_state_dict(reservoir(6).state_dict())


def test_what_was_drawn_is_a_copy() -> None:
    memory = reservoir(4)
    memory.offer(numbered(0, 4))
    memory.draw(4).labels.zero_()
    assert memory.all().labels.tolist() == [0, 1, 2, 3]


def test_nothing_can_be_drawn_from_an_empty_memory() -> None:
    with pytest.raises(AssertionError, match="memory is empty"):
        reservoir(4).draw(1)
