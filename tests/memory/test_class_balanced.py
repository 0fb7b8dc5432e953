"""The greedy memory follows its algorithm, is balanced, and gives filled slots only."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.errors import UsageError
from synergy.memory.class_balanced import ClassBalanced
from synergy.memory.store import check_room
from synergy.randomness import generator
from synergy.state import same
from tests.memory.numbered import labelled, numbers_of

CLASSES = 4
STREAMS = st.lists(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=12), min_size=1, max_size=6)


def memory(capacity: int, seed: int = 0) -> ClassBalanced:
    return ClassBalanced(capacity, generator(seed, "leave"))


def one_by_one(capacity: int, labels: list[int], rng: np.random.Generator) -> list[int]:
    """The sample in each slot by algorithm 1 of the paper, one sample at a time."""
    slots: list[int] = []
    seen: set[int] = set()
    for number, label in enumerate(labels):
        count = collections.Counter(labels[n] for n in slots)
        seen.add(label)
        if count[label] >= capacity / len(seen):
            continue
        if len(slots) < capacity:
            slots.append(number)
            continue
        largest = rng.choice([c for c in range(CLASSES) if count[c] == max(count.values())])
        slots[rng.choice([i for i, n in enumerate(slots) if labels[n] == largest])] = number
    return slots


@given(capacity=st.integers(1, 11), batches=STREAMS)
def test_a_batch_at_a_time_equals_one_by_one(capacity: int, batches: list[list[int]]) -> None:
    greedy, offered = memory(capacity), list[int]()
    for batch in batches:
        before = numbers_of(greedy.all()) if offered else []
        changed = greedy.offer(labelled(len(offered), batch))
        offered += batch
        assert changed == (numbers_of(greedy.all()) != before)
        assert greedy.all().labels.tolist() == [offered[n] for n in numbers_of(greedy.all())]
        assert len(greedy) == greedy.counts().sum() <= capacity
    assert numbers_of(greedy.all()) == one_by_one(capacity, offered, generator(0, "leave"))


@given(capacity=st.integers(1, 11), batches=STREAMS)
def test_every_class_has_its_share_or_all_there_is(capacity: int, batches: list[list[int]]) -> None:
    greedy, offered = memory(capacity), collections.Counter[int]()
    for batch in batches:
        greedy.offer(labelled(0, batch))
        offered.update(batch)
        for label, count in enumerate(greedy.counts()):
            assert count >= min(offered[label], capacity // len(offered))


def test_a_long_stream_of_new_classes_ends_in_balance() -> None:
    greedy = memory(20)
    for label in range(CLASSES):
        greedy.offer(labelled(100 * label, [label] * 50))
        assert len(greedy) == 20
    assert greedy.counts().tolist() == [5] * CLASSES


def test_who_leaves_is_random() -> None:
    left = set()
    for seed in range(30):
        greedy = memory(6, seed)
        greedy.offer(labelled(0, [0] * 6 + [1]))
        left |= set(range(6)) - set(numbers_of(greedy.all()))
    assert left == set(range(6))


def test_goes_on_where_it_was_saved() -> None:
    one, other = memory(6), memory(6, seed=5)
    one.offer(labelled(0, [0, 0, 1, 0, 2, 0, 0, 0]))
    other.load_state_dict(one.state_dict())
    for greedy in (one, other):
        greedy.offer(labelled(8, [3, 3, 3, 1]))
    assert same(one.state_dict(), other.state_dict())


def test_a_memory_too_small_is_refused() -> None:
    check_room(4, 4, "class")
    with pytest.raises(UsageError, match=r"given 3; allowed: at least 4, one sample for each class.*--buffer_size 4"):
        check_room(3, 4, "class")
