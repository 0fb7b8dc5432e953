"""Which classes come in which task, and which samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.errors import UsageError
from synergy.ops.arrival import blurred, drifting, grouped, parsed_order

SIZES = st.lists(st.integers(1, 30), min_size=2, max_size=8)
"""Samples of each kind."""


@given(st.integers(2, 60), st.data())
def test_sizes_of_tasks(classes: int, data: st.DataObject) -> None:
    n_tasks = data.draw(st.integers(1, classes))
    first = data.draw(st.none() | st.integers(1, classes - n_tasks + 1)) if n_tasks > 1 else None
    groups = grouped(range(classes), n_tasks, first)
    sizes = [len(group) for group in groups]
    assert sum(sizes) == classes and len(sizes) == n_tasks and min(sizes) > 0
    assert first in (None, sizes[0])
    rest = sizes if first is None else sizes[1:]
    assert max(rest) - min(rest) <= 1 and rest == sorted(rest, reverse=True)
    assert [label for group in groups for label in group] == list(range(classes))


def test_the_usual_fifty_and_five_times_ten() -> None:
    assert [len(group) for group in grouped(range(100), 6, 50)] == [50, 10, 10, 10, 10, 10]


@given(st.permutations(range(6)))
def test_class_order_is_a_permutation(order: list[int]) -> None:
    names = ["ant", "bee", "cow", "dog", "eel", "fox"]
    assert parsed_order([str(label) for label in order], names) == tuple(order)
    assert parsed_order([names[label] for label in order], names) == tuple(order)
    assert parsed_order([str(label) for label in order], [str(9 - label) for label in range(6)]) in (tuple(order),)


def test_class_order_of_names_that_are_numbers() -> None:
    assert parsed_order(["7", "5", "6"], ["5", "6", "7"]) == (2, 0, 1)


@given(SIZES, st.floats(0, 0.5), st.integers(0, 5), st.data())
def test_a_blur_moves_a_share_of_each_kind_to_the_neighbours(
    sizes: list[int], share: float, seed: int, data: st.DataObject
) -> None:
    n_tasks = data.draw(st.integers(2, 8))
    task_of = np.array([data.draw(st.integers(0, n_tasks - 1)) for _ in sizes])
    kinds = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    homes = task_of[kinds]
    moved = blurred(homes, kinds, share, n_tasks, np.random.default_rng(seed))
    assert moved.shape == homes.shape and moved.min() >= 0 and moved.max() < n_tasks
    assert (np.abs(moved - homes) <= 1).all()
    for kind, size in enumerate(sizes):
        away = (moved - homes)[kinds == kind]
        before, after = int((away < 0).sum()), int((away > 0).sum())
        assert before + after == round(share * size) < max(size, 1)
        if 0 < task_of[kind] < n_tasks - 1:
            assert before - after in (0, 1)
    assert np.array_equal(moved, blurred(homes, kinds, share, n_tasks, np.random.default_rng(seed)))


def test_a_blur_needs_two_tasks() -> None:
    with pytest.raises(UsageError, match="blur: given for one task"):
        blurred(np.zeros(3, np.int64), np.zeros(3, np.int64), 0.1, 1, np.random.default_rng(0))


@given(SIZES, st.floats(0, 20), st.integers(0, 5))
def test_a_drift_shows_every_sample_once_in_equal_parts(sizes: list[int], strength: float, seed: int) -> None:
    homes = np.repeat(np.arange(len(sizes)), sizes)
    parts = drifting(homes, strength, len(sizes), np.random.default_rng(seed))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(homes)))
    lengths = [len(part) for part in parts]
    assert len(parts) == len(sizes) and max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0, 5.0])
def test_the_expected_task_never_falls_along_a_drift(strength: float) -> None:
    homes = np.repeat(np.arange(6), 100)
    streams = [np.concatenate(drifting(homes, strength, 6, np.random.default_rng(seed))) for seed in range(200)]
    along = homes[np.stack(streams)].mean(0).reshape(10, 60).mean(1)
    assert (np.diff(along) > -0.06).all() and along[-1] - along[0] > 1
    if strength == 0:
        assert np.array_equal(homes[streams[0]], homes)


def test_a_stronger_drift_mixes_more() -> None:
    homes = np.repeat(np.arange(6), 500)
    spread = []
    for strength in (0.0, 0.5, 2.0, 5.0):
        parts = drifting(homes, strength, 6, np.random.default_rng(0))
        spread.append(np.mean([homes[part].std() for part in parts]))
    assert spread == sorted(spread) and spread[0] == 0
