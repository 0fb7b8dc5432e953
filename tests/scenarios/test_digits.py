"""The permuted, rotated and split streams, over the bundled digits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from synergy import testing
from synergy.errors import UsageError
from synergy.ops.rotation import gather_pixels, rotation_index
from synergy.scenarios.permuted import Permuted
from synergy.scenarios.rotated import Rotated
from synergy.scenarios.split import SplitScenario


def test_permuted_tasks_are_one_permutation_each() -> None:
    stream = testing.scenario("perm-digits", options={"n_tasks": 3})
    assert isinstance(stream, Permuted)
    seen = []
    for index in range(3):
        permutation = stream.permutations[index]
        assert sorted(permutation.tolist()) == list(range(64))
        expected = stream.train.raw.flatten(1)[:, permutation].view_as(stream.train.raw)
        assert torch.equal(stream.task(index).train().raw, expected)
        tested = stream.tests(0)[index].raw
        assert torch.equal(tested, stream.test.raw.flatten(1)[:, permutation].view_as(tested))
        seen.append(tuple(permutation.tolist()))
    assert len(set(seen)) == 3


def test_rotated_tasks_are_one_angle_each() -> None:
    stream = testing.scenario("rot-digits", seed=5)
    assert isinstance(stream, Rotated)
    assert len(stream.angles) == 20 and all(0 <= angle < 180 for angle in stream.angles)
    index = rotation_index(torch.tensor(stream.angles[7], dtype=torch.float64), 8, 8)
    assert torch.equal(stream.task(7).train().raw, gather_pixels(stream.train.raw, index))
    assert torch.equal(stream.tests(0)[7].raw, gather_pixels(stream.test.raw, index))


def test_rotation_angles_may_be_given() -> None:
    stream = testing.scenario("rot-digits", options={"n_tasks": 2, "rotation_angles": (0.0, 90.0)})
    assert torch.equal(stream.task(0).train().raw, stream.train.raw)
    assert torch.equal(stream.task(1).train().raw, torch.rot90(stream.train.raw, 1, (2, 3)))
    with pytest.raises(UsageError, match="given 2 angles; allowed: one for each of the 20 tasks"):
        testing.scenario("rot-digits", options={"rotation_angles": (0.0, 90.0)})


def test_split_tasks_share_no_class_and_hold_all_samples() -> None:
    stream = testing.scenario("seq-digits")
    tasks = [stream.task(index) for index in range(5)]
    assert [task.classes for task in tasks] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert sum(len(task) for task in tasks) == len(stream.train)
    for task, test in zip(tasks, stream.tests(0), strict=True):
        assert set(task.labels.tolist()) == set(task.classes) == set(test.classes) == set(test.labels.tolist())


def test_class_order_can_be_shuffled() -> None:
    one = testing.scenario("seq-digits", options={"class_order_seed": 3})
    assert isinstance(one, SplitScenario)
    assert sorted(one.class_order) == list(range(10)) and one.class_order != tuple(range(10))
    same_order = testing.scenario("seq-digits", seed=9, options={"class_order_seed": 3})
    assert isinstance(same_order, SplitScenario)
    assert same_order.class_order == one.class_order
    assert one.task(0).classes == tuple(sorted(one.class_order[:2]))


def test_tasks_must_divide_the_classes() -> None:
    with pytest.raises(UsageError, match="given 3; allowed: a divisor of the 10 classes of seq-digits: 1, 2, 5, 10"):
        testing.scenario("seq-digits", options={"n_tasks": 3})


@pytest.mark.parametrize(("name", "kept"), [("seq-digits", False), ("perm-digits", True), ("rot-digits", True)])
def test_the_last_incomplete_batch(name: str, kept: bool) -> None:
    stream = testing.scenario(name, batch_size=100)
    task = stream.task(0)
    sizes = [len(labels) for _, labels in task.batches(0)]
    assert len(task) % 100, "the test needs a rest"
    assert sizes == [100] * (len(task) // 100) + [len(task) % 100] * kept


def test_every_epoch_has_an_order_of_its_own() -> None:
    task = testing.scenario("seq-digits").task(0)
    one, other = torch.cat(list(task.order(0))), torch.cat(list(task.order(1)))
    assert not torch.equal(one, other)
    assert torch.equal(one, torch.cat(list(task.order(0))))


def test_training_does_not_move_the_stream() -> None:
    """What the methods draw, and how much, is nothing to the stream."""
    one, other = testing.scenario("rot-digits"), testing.scenario("rot-digits")
    first = [labels for _, labels in one.task(0).batches(0)]
    torch.rand(1000, generator=torch.Generator().manual_seed(0))
    np.random.default_rng(0).random(1000)
    list(itertools.islice(other.task(3).batches(0), 5))
    assert all(map(torch.equal, first, [labels for _, labels in other.task(0).batches(0)]))
