"""The way back leads to the same bits, whatever happened since."""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synergy.engine.savepoint import Savepoint
from synergy.memory.store import Samples, Store
from synergy.methods import METHODS, method_class
from synergy.methods.base import Setting
from synergy.ops.objectives import CROSS_ENTROPY
from synergy.state import same
from synergy.stream.view import StreamView
from synergy.types import Batch

FREE = [name for name in METHODS if not method_class(name).needs_boundaries]
SMALL = {"buffer_size": 12, "minibatch_size": 4, "fitting_epochs": 2, "fisher_update_freq": 1.0, "ema_update_freq": 1.0}


def made(name: str) -> Any:
    """A method on a network with BatchNorm, with Adam."""
    kind = method_class(name)
    net = nn.Sequential(nn.Linear(6, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Linear(8, 3))
    if kind.only_batch_size is None:
        net[1] = nn.BatchNorm1d(8)
    config = kind.Config(**{key: value for key, value in SMALL.items() if key in kind.Config.names()})
    setting = Setting(
        lambda _: deepcopy(net),
        StreamView(None, None, torch.float32),
        3,
        make_optimizer=lambda parameters, lr: torch.optim.Adam(parameters, lr),
    )
    return kind(config, setting)


def learn(method: Any, steps: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    n = method.only_batch_size or 5
    for _ in range(steps):
        x, y = torch.rand(n, 6, generator=rng), torch.randint(0, 3, (n,), generator=rng)
        method.observe(Batch(x, x, y))


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("before", [0, 8], ids=["fresh", "trained"])
def test_a_method_goes_back_to_the_same_bits(name: str, before: int) -> None:
    """After steps, growth, and what only an accident does; then it learns as if nothing had happened."""
    method, undisturbed = made(name), made(name)
    undisturbed.load_state_dict(method.state_dict())
    for each in (method, undisturbed):
        learn(each, before, seed=0)
    savepoint = Savepoint(method)
    learn(method, 4, seed=1)
    if name != "gdumb":
        method.grow(2, "3")
        method.setting = Setting(method.setting.build_net, method.setting.view, 5, objective=CROSS_ENTROPY)
        learn(method, 2, seed=2)
        method.net.eval()
        vars(method.net[0])["forward"] = lambda inputs: inputs
    savepoint.go_back()
    assert same(method.state_dict(), undisturbed.state_dict())
    for each in (method, undisturbed):
        learn(each, 5, seed=3)
    assert same(method.state_dict(), undisturbed.state_dict())


class Parts:
    """One of each kind of thing that may be held."""

    def __init__(self) -> None:
        self.number, self.text, self.pair = 1, "a", (1, 2)
        self.entries: dict[str, Any] = {"a": [1, torch.zeros(2)], "b": {"c": 3}}
        self.queue = deque([1, 2])
        self.array = np.zeros(3)
        self.rng = np.random.Generator(np.random.PCG64(0))
        self.chance = torch.Generator().manual_seed(0)
        self.shared = torch.arange(6.0)
        self.view = self.shared[2:4]
        self.net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.nothing: Tensor | None = None


def test_every_kind_of_part_goes_back() -> None:
    parts = Parts()
    weight = parts.net[0].get_parameter("weight")
    first = weight.detach().clone()
    savepoint = Savepoint(parts)
    parts.number, parts.text, parts.nothing = 2, "b", torch.ones(1)
    vars(parts)["more"] = 1
    parts.entries["a"][1].fill_(7)
    parts.entries["a"].append(5)
    parts.entries["b"].clear()
    parts.entries["d"] = 1
    parts.queue.popleft()
    parts.array[:] = 9
    parts.rng.random(), torch.rand(3, generator=parts.chance)
    parts.view.fill_(-1)
    weight.data = torch.ones(3, 3)
    parts.net[0].register_parameter("weight", nn.Parameter(torch.ones(5, 5)))
    parts.net.eval()
    parts.net.append(nn.ReLU())
    savepoint.go_back()
    fresh = Parts()
    assert (parts.number, parts.text, list(parts.queue)) == (1, "a", [1, 2]) and vars(parts)["nothing"] is None
    assert vars(parts).keys() == vars(fresh).keys() and parts.entries.keys() == {"a", "b"}
    assert parts.entries["a"][1].tolist() == [0, 0] and len(parts.entries["a"]) == 2 and parts.entries["b"] == {"c": 3}
    assert parts.array.tolist() == [0, 0, 0]
    assert parts.rng.random() == fresh.rng.random()
    assert torch.equal(torch.rand(3, generator=parts.chance), torch.rand(3, generator=fresh.chance))
    assert parts.shared.tolist() == list(range(6)) and parts.view.data_ptr() == parts.shared[2:].data_ptr()
    assert parts.net[0].get_parameter("weight") is weight and torch.equal(weight.detach(), first)
    assert len(parts.net) == 2 and all(module.training for module in parts.net.modules())


def samples(first: int, n: int) -> Samples:
    return Samples(torch.arange(first, first + n).float()[:, None], torch.arange(first, first + n))


def test_a_store_notes_rows_instead_of_copying_them() -> None:
    store = Store(5)
    store.write(np.arange(5), samples(0, 5))
    slots = store.all().raw.data_ptr()
    store.note()
    store.write(np.array([1, 3, 1]), samples(10, 3))
    store.keep(np.array([0, 1]))
    store.shrink(2)
    store.write(np.array([0]), samples(20, 1))
    store.go_back()
    assert store.all().labels.tolist() == store.all().raw[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert store.capacity == 5 and store.all().raw.data_ptr() == slots
    store.note()
    store.close()
    with pytest.raises(AssertionError, match="nothing was noted"):
        store.go_back()
