"""Within `evaluating` a network is in evaluation mode; afterwards every module has its former mode."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from synergy.ops.modes import evaluating


class Watched(nn.Linear):
    """A layer that counts assignments to it."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.assigned: list[str] = []

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "training":
            self.assigned.append(name)


def network() -> nn.Sequential:
    """A nested network with a part in two places, a part in evaluation mode, and an empty place."""
    shared = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    net = nn.Sequential(shared, nn.BatchNorm1d(2).eval(), nn.ModuleList([shared, Watched()]))
    net.register_module("nothing", None)
    return net


def modes(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


def test_everything_evaluates_within_and_is_as_it_was_afterwards() -> None:
    net = network()
    before = modes(net)
    assert True in before and False in before
    with evaluating(net):
        assert not any(modes(net))
    assert modes(net) == before


def test_an_error_within_and_a_second_time_within() -> None:
    net = network()
    before = modes(net)
    with pytest.raises(KeyError), evaluating(net):
        with evaluating(net):
            assert not any(modes(net))
        assert not any(modes(net))
        raise KeyError
    assert modes(net) == before


def test_a_module_with_an_assignment_of_its_own_is_asked() -> None:
    layer = Watched()
    layer.assigned.clear()
    with evaluating(layer):
        assert layer.assigned == ["training"]
    assert layer.assigned == ["training"] * 2
