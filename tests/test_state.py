"""A state is restored into an object with the same parts, kinds and shapes; any other state is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from synergy.errors import UsageError
from synergy.randomness import generator
from synergy.state import State, collect, restore, restore_fresh, same


class Part:
    """An object with a part of every kind that has state."""

    def __init__(self, seed: int = 0) -> None:
        self.net = nn.Linear(2, 2, bias=False, device="meta").to_empty(device="cpu")
        nn.init.constant_(self.net.weight, seed)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
        self.rng = generator(seed, "a part")
        self.vector = torch.full((3,), float(seed))
        self.grows = torch.empty(0)
        self.later: torch.Tensor | None = None
        self.count, self.share, self.on, self.name = seed, 0.5, True, "a"
        self.sizes: list[int] = []
        self.table = {"a": torch.zeros(1)}
        self.sums = {"a": 2**63 - 1}

    def state_dict(self) -> State:
        return collect(vars(self))

    def load_state_dict(self, state: State) -> None:
        restore(vars(self), state)

    def live(self) -> Part:
        """An object whose state differs from a fresh one's in every part."""
        self.net(torch.ones(1, 2)).sum().backward()
        self.optimizer.step()
        self.rng.random(5)
        self.grows, self.later = torch.ones(4, 2), torch.ones(2)
        self.count, self.share, self.on, self.name, self.sizes = 7, math.inf, False, "b", [1, 2]
        self.vector += 1
        self.table["a"] += 1
        return self


def test_what_was_collected_is_restored() -> None:
    lived, fresh = Part(3).live(), Part()
    restore_fresh(fresh, lived.state_dict(), "it")
    assert same(fresh.state_dict(), lived.state_dict())
    assert not same(fresh.state_dict(), Part(3).state_dict())
    assert fresh.rng.random() == lived.rng.random()


def test_a_part_goes_back_to_where_it_was() -> None:
    part = Part()
    before = part.state_dict()
    part.live().load_state_dict(before)
    assert same({**part.state_dict(), "optimizer": 0}, {**before, "optimizer": 0})


def put(name: str, value: object) -> Callable[[State], object]:
    """Replace the part of a state that a path such as "a.b" names."""

    def change(state: State) -> None:
        *path, last = name.split(".")
        for step in path:
            state = state[int(step) if isinstance(state, list) else step]
        state[last] = value

    return change


MISFITS: dict[str, Callable[[State], object]] = {
    "missing": lambda state: state.pop("count"),
    "extra": put("more", 1),
    "text for a number": put("count", "7"),
    "a whole number of 60 digits": put("count", 10**59),
    "a negative one": put("count", -(10**59)),
    "one in a list": put("sizes", [1, 2**63]),
    "one in a mapping": put("sums.a", 10**59),
    "one in an optimiser": put("optimizer.param_groups.0.momentum", 10**59),
    "one in a group": put("optimizer.param_groups.0.weight_decay", 10**59),
    "float for an int": put("count", 7.0),
    "bool for an int": put("count", True),
    "int for a bool": put("on", 1),
    "number for a text": put("name", 1),
    "none for a number": put("count", None),
    "none for a tensor": put("vector", None),
    "list for a tensor": put("vector", [1.0, 2.0, 3.0]),
    "tensor for a number": put("count", torch.tensor(7)),
    "another shape": put("vector", torch.zeros(4)),
    "another dtype": put("vector", torch.zeros(3, dtype=torch.float64)),
    "nothing for a tensor": put("vector", torch.zeros(0)),
    "another dtype of one that grows": put("grows", torch.zeros(2, dtype=torch.int64)),
    "text for one that comes later": put("later", "b"),
    "text in a list": put("sizes", ["1"]),
    "mapping in a list": put("sizes", [{}]),
    "mapping for a list": put("sizes", {}),
    "another key in a mapping": put("table", {"b": torch.zeros(1)}),
    "another shape in a mapping": put("table.a", torch.zeros(2)),
    "list for a network": put("net", []),
    "a network with other names": put("net", {"bias": torch.zeros(2, 2)}),
    "a network of another shape": put("net.weight", torch.zeros(3, 2)),
    "a network of another dtype": put("net.weight", torch.zeros(2, 2).double()),
    "an optimiser without groups": put("optimizer", {"state": {}}),
    "an optimiser of more groups": lambda state: state["optimizer"]["param_groups"].append({}),
    "an optimiser's text": put("optimizer.param_groups.0.lr", "fast"),
    "number for a generator": put("rng", 3),
    "a generator of another kind": put("rng.bit_generator", "MT19937"),
    "a generator's text": put("rng.state.state", "1"),
    "a generator's number too large": put("rng.has_uint32", 2**80),
    "a generator's state too large": put("rng.state.state", 2**200),
    "a negative generator": put("rng.state.state", -1),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_fit_is_one_line(kind: str) -> None:
    state: Any = Part(3).live().state_dict()
    MISFITS[kind](state)
    with pytest.raises(UsageError, match=r"^the file: it does not fit this run: .*; use one of the same") as complaint:
        restore_fresh(Part(), state, "the file")
    assert "\n" not in str(complaint.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.0, -0.0),
        (1, 1.0),
        (1, True),
        (torch.zeros(1), -torch.zeros(1)),
        (torch.zeros(1), torch.zeros(1, 1)),
        (torch.zeros(1), torch.zeros(1, dtype=torch.float64)),
        ([1], [1, 2]),
        ({"a": 1}, {"b": 1}),
    ],
)
def test_what_is_not_the_same(one: object, other: object) -> None:
    assert not same(one, other)
    assert same(one, one)
    assert same(other, other)


def test_nan_is_the_same_as_itself() -> None:
    assert same(math.nan, math.nan)
    assert same(torch.tensor([math.nan, 1]), torch.tensor([math.nan, 1]))
