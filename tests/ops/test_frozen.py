"""States that leave frozen parameters out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from synergy.ops.frozen import KEY, Frozen, Thawed, fingerprint


def network(seed: int = 0) -> nn.Sequential:
    """A frozen layer, a layer with buffers, and one that learns."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 2).requires_grad_(False), nn.BatchNorm1d(2), nn.Linear(2, 2))


def test_a_state_holds_what_is_trained_and_buffers() -> None:
    net = network()
    state = Thawed(net, Frozen.of(net)).state_dict()
    assert state.keys() == net.state_dict().keys() - {"0.weight", "0.bias"} | {KEY}


def test_it_comes_back() -> None:
    net, other = network(), network()
    with torch.no_grad():
        net[2].get_parameter("weight").fill_(7)
        net[1].get_buffer("running_mean").fill_(3)
    Thawed(other, Frozen.of(other)).load_state_dict(Thawed(net, Frozen.of(net)).state_dict())
    assert all(map(torch.equal, net.state_dict().values(), other.state_dict().values()))


def test_beside_other_frozen_weights_it_is_refused() -> None:
    net, other = network(), network(seed=1)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match="frozen weights are others"):
        Thawed(other, Frozen.of(other)).load_state_dict(Thawed(net, Frozen.of(net)).state_dict())
    assert all(map(torch.equal, before.values(), other.state_dict().values()))


@pytest.mark.parametrize("change", ["missing", "strange", "shape", "type"])
def test_a_state_of_another_network_is_refused(change: str) -> None:
    net = network()
    state = Thawed(net, Frozen.of(net)).state_dict()
    if change == "missing":
        del state["2.bias"]
    elif change == "strange":
        state["3.bias"] = torch.zeros(2)
    else:
        state["2.bias"] = torch.zeros(3) if change == "shape" else torch.zeros(2).double()
    with pytest.raises(ValueError, match=r"2\.bias"):
        Thawed(net, Frozen.of(net)).load_state_dict(state)


def test_a_whole_state_of_an_earlier_release_is_taken() -> None:
    net, other = network(), network(seed=1)
    Thawed(other, Frozen.of(other)).load_state_dict(dict(net.state_dict()))
    assert all(map(torch.equal, net.state_dict().values(), other.state_dict().values()))


def test_a_fingerprint_sees_bits_shapes_and_types() -> None:
    values = [torch.zeros(2, 2), -torch.zeros(2, 2), torch.zeros(4), torch.zeros(2).double(), torch.ones(2, 2)]
    assert len({fingerprint([value]) for value in values}) == len(values)
    assert fingerprint([torch.arange(6.0).view(2, 3).T]) == fingerprint([torch.arange(6.0).view(2, 3).T.contiguous()])
