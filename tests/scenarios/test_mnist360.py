"""MNIST-360: every image once, pairs in turn, a full turn for every digit. Over a small source of the same kind."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synergy import testing
from synergy.data import sources
from synergy.data.sources import Source, SourceInfo
from synergy.ops.rotation import gather_pixels, rotation_index
from synergy.scenarios.base import ScenarioConfig, StreamSetting
from synergy.scenarios.mnist360 import Mnist360, mixed

PAIRS = [(j, (j + 1) % 9) for j in range(9)] * 3


def small_source() -> Source:
    """The bundled digits as a stand-in for MNIST."""
    digits = sources.load("digits")
    info = SourceInfo("mnist", "made for a test", len(digits.train), len(digits.test), complete=False)
    return Source(info, digits.train, digits.test)


def stream(seed: int = 0, batch_size: int = 16) -> Mnist360:
    return Mnist360(ScenarioConfig(), StreamSetting(small_source(), seed, batch_size, torch.device("cpu")))


def test_the_contract() -> None:
    testing.check_scenario(lambda seed: stream(seed))


@pytest.mark.parametrize("batch_size", [1, 16])
def test_every_image_once_and_no_nine(batch_size: int) -> None:
    whole = stream(batch_size=batch_size)
    used = torch.cat(list(whole.task(0).order(0)))
    assert sorted(used.tolist()) == list(range(len(whole.train)))
    assert whole.n_classes == 9 and int(whole.train.labels.max()) == 8
    assert len(whole.train) == int((small_source().train.labels < 9).sum())


def test_pairs_come_in_turn_and_are_mixed_in_proportion() -> None:
    whole = stream(batch_size=8)
    batches = [whole.train.labels[indices].tolist() for indices in whole.task(0).order(0)]
    # What is left for the last batch of a visit may be of one digit alone.
    both = [frozenset(batch) for batch in batches if len(set(batch)) == 2]
    visited = [pair for pair, _ in itertools.groupby(both)]
    assert visited == [frozenset(pair) for pair in PAIRS]
    # Neither digit of a pair runs out before the other: but for the last batch of a visit, both are in every one.
    assert all(abs(batch.count(batch[0]) - 4) <= 1 for batch in batches if len(batch) == 8)


@given(one=st.integers(0, 40), other=st.integers(0, 40), size=st.integers(1, 17))
def test_mixing_keeps_the_proportion(one: int, other: int, size: int) -> None:
    batches = list(mixed(np.arange(one), 100 + np.arange(other), size))
    together = np.concatenate(batches) if batches else np.zeros(0)
    assert sorted(together.tolist()) == [*range(one), *range(100, 100 + other)]
    left, left_other = one, other
    for batch in batches:
        share = int((batch < 100).sum())
        assert abs(share - len(batch) * left / (left + left_other)) <= 0.5
        left, left_other = left - share, left_other - (len(batch) - share)


def test_every_digit_turns_once_around() -> None:
    whole = stream()
    for digit, sequence in enumerate(whole.sequences):
        angles = whole.angles[torch.from_numpy(sequence)]
        assert float(angles[0]) == (digit - 1) * 60
        steps = angles.diff()
        torch.testing.assert_close(steps, torch.full_like(steps, 360 / len(sequence)))
        # And the stream shows them in this order.
    used = torch.cat(list(whole.task(0).order(0)))
    for digit, sequence in enumerate(whole.sequences):
        assert used[whole.train.labels[used] == digit].tolist() == sequence.tolist()


def test_images_are_turned_by_their_angle() -> None:
    whole = stream()
    indices = whole.task(0).order(0)[5]
    raw, labels = whole.task(0).take(indices)
    expected = gather_pixels(whole.train.raw[indices], rotation_index(whole.angles[indices], 8, 8))
    assert torch.equal(raw, expected)
    assert torch.equal(labels, whole.train.labels[indices])


def test_test_images_of_a_digit_turn_once_around() -> None:
    whole = stream()
    (test,) = whole.tests(0)
    for digit in range(9):
        of_digit = (whole.test.labels == digit).nonzero()[:, 0]
        angles = torch.arange(len(of_digit), dtype=torch.float64) * 360 / len(of_digit)
        expected = gather_pixels(whole.test.raw[of_digit], rotation_index(angles, 8, 8))
        assert torch.equal(test.raw[of_digit], expected)


@pytest.mark.real_data
def test_on_mnist() -> None:
    whole = testing.scenario("mnist-360", batch_size=16)
    assert len(whole.train) == 54051 and len(whole.tests(0)[0]) == 8991
    used = torch.cat(list(whole.task(0).order(0)))
    assert len(used.unique()) == len(used) == 54051
