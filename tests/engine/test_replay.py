"""Decisions made ahead are those made one by one, and replayed steps give the bits of steps computed anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from synergy.decisions import branch, is_open, leaves, on_device, rows, tensors
from synergy.engine.recorders import Recorder, StaticBuffers
from synergy.engine.replay import AHEAD as AT_ONCE
from synergy.engine.replay import Replays
from synergy.engine.waits import WaitWatch
from synergy.memory.base import Draw
from synergy.memory.reservoir import Reservoir
from synergy.methods import METHODS, method_class
from synergy.methods.base import Method, make_method
from synergy.methods.er import ER
from synergy.state import same
from synergy.types import Batch, Step
from tests.engine.recording import Operations
from tests.methods import normalised, small
from tests.operations import Counted

AHEAD = [name for name in METHODS if method_class(name).waits is None]
OPTIONS = {
    "buffer_size": 10,
    "minibatch_size": 4,
    "ema_update_freq": 0.5,
    "fisher_update_freq": 0.5,
    "plastic_model_update_freq": 0.5,
    "stable_model_update_freq": 0.5,
    "steps_on_anchors": 2,
    "batch_num": 2,
}
NOT_NORMALISED = ("mer", "pnn", "hal", "icarl", "lwf")
RANDOM = replace(small.VIEW, padding=1, flip=True)


def made(name: str, **setting: Any) -> Method[Any]:
    """A method in its second task, so that memories which are filled at task ends hold samples."""
    kind = method_class(name)
    config = kind.Config(**{key: value for key, value in OPTIONS.items() if key in kind.Config.names()})
    method = make_method(kind, config, small.setting(view=RANDOM, **setting), small.budget())
    method.begin_task(small.task(0, n=40))
    for batch in stream(name, 0, 3):
        method.observe(batch)
    method.end_task(small.task(0, n=40))
    method.begin_task(small.task(1, n=40))
    return method


def stream(name: str, seed: int, n: int) -> list[Batch]:
    """Full batches and, at the end, a smaller one."""
    batches = [small.batch(10 * seed + number) for number in range(n)]
    whole = [*batches, Batch(*(part[:4] for part in (batches[0].raw, batches[0].inputs, batches[0].labels)))]
    size = method_class(name).only_batch_size
    if size is None:
        return whole
    parts = (zip(b.raw.split(size), b.inputs.split(size), b.labels.split(size), strict=True) for b in whole)
    return [Batch(*part) for of_batch in parts for part in of_batch]


@pytest.mark.parametrize("recorder", [StaticBuffers, Operations])
@pytest.mark.parametrize("net", ["perceptron", "normalised"])
@pytest.mark.parametrize("name", AHEAD)
def test_replayed_steps_decided_ahead_give_the_same_bits(name: str, net: str, recorder: type[Recorder]) -> None:
    if net == "normalised" and name in NOT_NORMALISED:
        pytest.skip("needs batches of several samples, or another kind of network")
    setting = {} if net == "perceptron" else {"build_net": normalised.build}
    one, other = made(name, **setting), made(name, **setting)
    batches = stream(name, 1, 16)
    expected = [one.observe(batch) for batch in batches]
    replays = Replays(other, recorder(), warm_ups=1)
    found = list(replays.ahead(batches))
    assert same(one.state_dict(), other.state_dict())
    assert replays.recordings, "nothing was replayed"
    for step, again in zip(expected, found, strict=True):
        assert same(step.losses, again.losses) and same(step.outputs, again.outputs)


@pytest.mark.parametrize("name", AHEAD)
def test_the_decisions_of_many_steps_travel_in_one_transfer(name: str) -> None:
    method = made(name)
    replays = Replays(method, StaticBuffers(), device=torch.device("meta"))
    with Counted() as watch:
        decided = replays.decide([method.only_batch_size or 6] * AT_ONCE, [None] * AT_ONCE)
    assert len(decided) == AT_ONCE == 32 and watch.found["_to_copy"] == 1
    assert all(row.numbers.device.type == "meta" for row in decided)


@pytest.mark.parametrize("net", ["perceptron", "normalised"])
@pytest.mark.parametrize("name", AHEAD)
def test_no_step_waits_for_the_device(name: str, net: str) -> None:
    if net == "normalised" and name in NOT_NORMALISED:
        pytest.skip("needs batches of several samples, or another kind of network")
    method = made(name, **({} if net == "perceptron" else {"build_net": normalised.build}))
    for batch in stream(name, 1, 6):
        decided = method.decide(len(batch))
        with WaitWatch() as watch:
            method.compute(batch, decided)
        assert watch.found == []


@pytest.mark.parametrize(
    ("waits", "operation"),
    [
        (lambda x: float(x.sum()), "aten._local_scalar_dense"),
        (lambda x: bool(x.sum() > 0), "aten._local_scalar_dense"),
        (lambda x: x[x > 0], "aten.index"),
        (lambda x: (x > 0).nonzero(), "aten.nonzero"),
        (lambda x: torch.equal(x, x), "aten.equal"),
        (lambda x: torch.tensor([1.0]) + x, "aten.lift_fresh"),
        (lambda x: x.to("meta"), "aten._to_copy"),
    ],
)
def test_waits_are_noticed(waits: Callable[[Tensor], object], operation: str) -> None:
    with WaitWatch() as watch:
        waits(torch.ones(3))
    assert watch.found == [operation]


def test_an_index_of_numbers_does_not_wait() -> None:
    values = torch.zeros(3)
    with WaitWatch() as watch:
        values[torch.tensor([0, 1])[:1]] = values[torch.zeros(1).long()]
    assert watch.found == ["aten.lift_fresh"]  # the list of numbers alone


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12), before=st.integers(0, 30), capacity=st.integers(1, 12)
)
def test_a_reservoir_that_prepares_places_as_one_by_one(sizes: list[int], before: int, capacity: int) -> None:
    def reservoir() -> Reservoir:
        memory = Reservoir(capacity, np.random.default_rng(1), np.random.default_rng(2))
        if before:
            memory.place(before)
        return memory

    one, other = reservoir(), reservoir()
    other.prepare(sizes)
    for size in sizes:
        assert torch.equal(one.place(size), other.place(size))
        assert len(one) == len(other) and one.seen == other.seen
    assert same(one.state_dict(), other.state_dict())


def test_a_step_that_looks_at_a_counter_of_the_host_is_found_out() -> None:
    class Hasty(ER):
        """Its step looks at how many samples memory holds now, not when the step was decided."""

        def compute(self, batch: Batch, now: Any) -> Step:
            self.weights.values.mul_(1 - 0.001 * len(self.memory))
            return super().compute(batch, now)

    config = Hasty.Config(buffer_size=50, minibatch_size=4)
    one, other = (Hasty(config, small.setting()) for _ in range(2))
    batches = stream("er", 1, 5)
    for batch in batches:
        one.observe(batch)
    list(Replays(other, StaticBuffers(), warm_ups=0).ahead(batches))
    assert not same(one.state_dict(), other.state_dict())


def test_a_tree_of_decisions() -> None:
    slots, draws = torch.tensor([2, 0]), torch.zeros(2, 3, dtype=torch.int64)
    decided = (Draw(slots, draws), True, None)
    assert tensors(decided) == [slots, draws] and list(leaves(decided))[2:] == [True, None]
    assert branch(decided) == branch((Draw(slots + 1, draws + 1), True, None))
    assert branch(decided) != branch((Draw(slots, draws), False, None))
    assert branch(decided) != branch((Draw(slots[:1], draws), True, None))
    assert not is_open(decided) and is_open((Draw(slots, np.random.default_rng(0)), True))
    assert on_device(decided, torch.device("cpu")) is decided
    first, row = rows([(torch.tensor([True]),), decided], torch.device("cpu"))
    assert first.on_device()[0].tolist() == [True]
    copy = row.on_device()
    assert torch.equal(copy[0].slots, slots) and torch.equal(copy[0].view, draws) and copy[1:] == (True, None)
    row.numbers.zero_()
    assert not copy[0].slots.any(), "the tensors share the storage of the row"
