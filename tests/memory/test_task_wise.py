"""The memory with a block for each task."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synergy.errors import UsageError
from synergy.memory.store import Samples
from synergy.memory.task_wise import TaskWise, equal_share, pick
from synergy.randomness import generator
from synergy.state import same
from tests.methods import small


def numbered(start: int, n: int) -> Samples:
    """Samples that carry their own number in every field."""
    numbers = torch.arange(start, start + n)
    return Samples(numbers[:, None], numbers, {"logits": numbers[:, None].double()})


def memory(capacity: int = 20) -> TaskWise:
    return TaskWise(capacity, generator(0, "draw"))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 6))
def test_cut_keeps_the_first_of_each_task(sizes: list[int], share: int) -> None:
    kept, starts = memory(30), [100 * task for task in range(len(sizes))]
    for start, size in zip(starts, sizes, strict=True):
        kept.add(numbered(start, size))
    kept.cut(share)
    assert len(kept) == sum(min(size, share) for size in sizes)
    for task, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        samples = kept.of(task)
        expected = list(range(start, start + min(size, share)))
        assert samples.labels.tolist() == expected
        assert samples.raw[:, 0].tolist() == expected and samples.extras["logits"][:, 0].tolist() == expected


def test_room_that_was_cut_free_can_be_used_again() -> None:
    kept = memory(4)
    kept.cut(2)
    kept.add(numbered(0, 4))
    kept.cut(2)
    kept.add(numbered(10, 2))
    assert [kept.of(task).labels.tolist() for task in (0, 1)] == [[0, 1], [10, 11]]
    with pytest.raises(AssertionError, match="do not fit"):
        kept.add(numbered(20, 1))


def test_draws_are_different_samples_of_all_tasks() -> None:
    kept = memory()
    kept.add(numbered(0, 5))
    kept.add(numbered(10, 5))
    drawn = [kept.draw(3).labels.tolist() for _ in range(50)]
    assert all(len(set(labels)) == 3 for labels in drawn)
    assert set(itertools.chain.from_iterable(drawn)) == {*range(5), *range(10, 15)}
    assert sorted(kept.draw(100).labels.tolist()) == [*range(5), *range(10, 15)]


def test_goes_on_where_it_was_saved() -> None:
    one, other = memory(), memory()
    one.add(numbered(0, 3))
    one.add(numbered(10, 4))
    one.draw(2)
    other.load_state_dict(one.state_dict())
    assert same(one.state_dict(), other.state_dict())
    assert one.draw(4).labels.tolist() == other.draw(4).labels.tolist()
    other.cut(1)
    assert other.of(1).labels.tolist() == [10] and len(one) == 7, "the two share storage"


@pytest.mark.parametrize(("size", "tasks", "share"), [(20, 20, 1), (200, 20, 10), (209, 20, 10)])
def test_equal_share(size: int, tasks: int, share: int) -> None:
    assert equal_share(size, tasks) == share


def test_a_memory_too_small_for_all_tasks_is_refused() -> None:
    with pytest.raises(UsageError, match=r"given 4; allowed: at least 5.*--buffer_size 5"):
        equal_share(4, 5)


def test_pick_is_random_without_repetition() -> None:
    task = small.task(0, n=12)
    found = [pick(task, 5, rng) for rng in [generator(0, "pick")] * 2]
    everything = {raw.numpy().tobytes(): int(label) for raw, label in zip(*task.take(torch.arange(12)), strict=True)}
    for samples in found:
        keys = [raw.numpy().tobytes() for raw in samples.raw]
        assert len(set(keys)) == 5
        assert [everything[key] for key in keys] == samples.labels.tolist()
    assert not torch.equal(found[0].raw, found[1].raw)
    assert len(pick(task, 50, np.random.default_rng(0))) == 12
